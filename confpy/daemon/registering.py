"""Keeps a key registered: carries out what ``registration.machine`` decides, beside the command and its check.

The main thread owns the state and reads one queue. The store is asked by one thread, the check is run by another, and a
third one waits for the command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from random import Random
from typing import TypeAlias, TypeVar

from confpy.agent.config import forwarded_signals
from confpy.clock import Backoff
from confpy.config.settings import SECRET_VARIABLES, Settings
from confpy.daemon.register_checks import RegistrationCheck
from confpy.daemon.signals import STOPS, signal_handlers
from confpy.errors import ConfpyError, StoreError, bug
from confpy.events import LogEvent
from confpy.log import Log
from confpy.messages import Signalled as GotSignal
from confpy.messages import Woken
from confpy.registration.machine import Plan, Registration
from confpy.registration.values import (
    Action,
    Answered,
    Ask,
    Check,
    Checked,
    Message,
    Notify,
    Registrar,
    Signalled,
    Stop,
)
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild
from confpy.status.notify import Notifier, watchdog_seconds
from confpy.stores.env import added_by_python
from confpy.system.child import Child

Result = TypeVar("Result")
Job: TypeAlias = Callable[[], Message]

LONGEST_SLEEP = 3600.0
CLOSING = 1.0
"""Seconds for which the end waits for a check that got TERM, before it is killed."""


def stop_signals(settings: Settings) -> frozenset[int]:
    """Return the signals at which the key is removed before they are passed on."""
    return frozenset({*map(int, STOPS), *(int(signal.Signals[f"SIG{name}"]) for name in settings.stop_signals)})


def once(call: Callable[[], Result], settings: Settings, log: Log) -> Result:
    """Return what ``call`` returns; while the store is away, it is tried again for ``-retry-for``."""
    deadline = time.monotonic() + settings.retry_for
    backoff = Backoff(Random(), cap=10.0)
    while True:
        try:
            return call()
        except StoreError as error:
            wait = backoff.wait()
            if time.monotonic() + wait > deadline:
                raise
            fields = {**error.fields(), "attempt": backoff.attempts, "retry_in": round(wait, 1)}
            log.write("warning", "registration.failed", fields)
        time.sleep(wait)


def keep(
    registrar: Registrar,
    plan: Plan,
    settings: Settings,
    log: Log,
    *,
    check: RegistrationCheck | None = None,
    check_timeout: float = 0.0,
    program: tuple[str, ...] | None = None,
) -> int:
    """Keep a key registered until the command ends, or a signal asks to stop; returns the exit code."""
    child = None
    if program is not None:
        child = Child(program, SECRET_VARIABLES | added_by_python(), dies_by="TERM")
    inbox: SimpleQueue[Message] = SimpleQueue()
    registration = Registration(plan, Random())
    keeper = _Keeper(inbox, registrar, registration, log, check=check, check_timeout=check_timeout, child=child)

    def put(message: GotSignal | Woken) -> None:
        if isinstance(message, GotSignal):
            inbox.put(Signalled(message.number))

    with signal_handlers(put, settings.stop_signals, forwarded_signals(settings)):
        try:
            return keeper.run()
        finally:
            keeper.close()


class _Keeper:
    """One registration with its threads."""

    def __init__(
        self,
        inbox: SimpleQueue[Message],
        registrar: Registrar,
        registration: Registration,
        log: Log,
        *,
        check: RegistrationCheck | None,
        check_timeout: float,
        child: Child | None,
    ) -> None:
        self._inbox = inbox
        self._registrar = registrar
        self._registration = registration
        self._log = log
        self._check = check
        self._check_timeout = check_timeout
        self._child = child
        self._store_thread = _Worker("store", inbox)
        self._check_thread = _Worker("check", inbox)
        self._manager = Notifier.of(os.environ)
        self._watchdog = watchdog_seconds(os.environ) / 2 if self._manager else 0.0

    def run(self) -> int:
        """Carry out what is to be done until it is over; returns the exit code."""
        actions = self._registration.start(time.monotonic())
        while True:
            for action in actions:
                if isinstance(action, Stop):
                    return action.code
                self._carry_out(action)
            messages = self._receive()
            actions = self._registration.step(messages, time.monotonic())

    def _receive(self) -> list[Message]:
        wait = self._registration.next_at() - time.monotonic()
        if self._watchdog:
            assert self._manager is not None
            self._manager.send("WATCHDOG=1")
            wait = min(wait, self._watchdog)
        messages: list[Message] = []
        with contextlib.suppress(Empty):
            messages.append(self._inbox.get(timeout=max(0.0, min(wait, LONGEST_SLEEP))))
            while True:
                messages.append(self._inbox.get_nowait())
        return messages

    def _carry_out(self, action: Action | LogEvent) -> None:
        match action:
            case LogEvent():
                self._log.write(action.level, action.event, action.fields)
            case Ask():
                self._store_thread.do(lambda: self._ask(action))
            case Check():
                self._check_thread.do(self._run_check)
            case StartChild():
                threading.Thread(target=self._run_child, name="confpy-command", daemon=True).start()
            case SignalChild(number):
                if self._child is not None:
                    self._child.signal(number)
            case Notify(state):
                if self._manager is not None:
                    self._manager.send(state)

    def _ask(self, ask: Ask) -> Message:
        registrar = self._registrar
        try:
            if ask.operation == "claim":
                standing = registrar.claim(takes_over=ask.takes_over)
            else:
                standing = registrar.refresh() if ask.operation == "refresh" else registrar.release()
        except StoreError as error:
            return Answered(ask.operation, error=error)
        except ConfpyError as error:
            return Answered(ask.operation, error=error.copy(StoreError))
        except Exception as error:  # noqa: BLE001 - a bug is tried again, as any failure is
            return Answered(ask.operation, error=bug(error).copy(StoreError))
        return Answered(ask.operation, standing, node=registrar.node)

    def _run_check(self) -> Message:
        assert self._check is not None
        try:
            self._check.run(self._check_timeout)
        except ConfpyError as error:
            return Checked(error)
        except Exception as error:  # noqa: BLE001 - what cannot be checked does not pass
            return Checked(bug(error))
        return Checked()

    def _run_child(self) -> None:
        assert self._child is not None
        ended = self._child.run()
        self._inbox.put(ChildEnded(ended.code, ended.reason))

    def close(self) -> None:
        """End all threads, and the check with its processes."""
        self._registrar.close()
        if self._check is not None:
            self._check.close()
            if not self._check_thread.is_idle(CLOSING):
                self._check.close(kills=True)
                self._check_thread.is_idle(CLOSING)
        if self._manager is not None:
            self._manager.close()


class _Worker:
    """A thread that does one job after the other, and posts what each returns. It ends with the process."""

    def __init__(self, name: str, inbox: SimpleQueue[Message]) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._inbox = inbox
        self._idle = threading.Event()
        self._idle.set()
        self._name = name
        self._thread: threading.Thread | None = None

    def do(self, job: Job) -> None:
        """Have a job done. Called by the main thread alone."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"confpy-{self._name}", daemon=True)
            self._thread.start()
        self._idle.clear()
        self._jobs.put(job)

    def is_idle(self, seconds: float) -> bool:
        """Wait until its job is done, for so many seconds at most; returns whether it is."""
        return self._idle.wait(seconds)

    def _work(self) -> None:
        while True:
            message = self._jobs.get()()
            self._idle.set()
            self._inbox.put(message)
