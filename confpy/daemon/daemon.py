"""The daemon: an inbox, the loop over it, its start and its stop.

One thread, the main one, owns all that changes and reads one queue. Jobs, streams and signals post messages to it; the
agent decides what they lead to, and ``Jobs`` does it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from confpy import __version__
from confpy.agent.agent import Agent
from confpy.agent.config import AgentConfig, forwarded_signals, keeps_history
from confpy.clock import NEVER, Clock, SystemClock
from confpy.config.load import load_resources, reject_unaddressed
from confpy.config.resource import Loaded
from confpy.config.settings import SECRET_VARIABLES, Settings
from confpy.daemon.jobs import Jobs, Ports, ledger_unusable
from confpy.daemon.mirrors import make_mirror, own_mirror
from confpy.daemon.questions import Question
from confpy.daemon.report import write_report
from confpy.daemon.signals import signal_handlers
from confpy.daemon.threads import Streams, Workers
from confpy.delivery.context import Rules
from confpy.errors import ConfpyError, bug
from confpy.events import LogEvent
from confpy.frozen import replace
from confpy.ledger import expiry
from confpy.ledger.cached_keys import CachedKeys
from confpy.ledger.folder import StateFolder
from confpy.ledger.history import History
from confpy.ledger.holds import Holds
from confpy.ledger.ledger import Ledger
from confpy.log import Log
from confpy.messages import Action, Asked, Delivered, Message, Stop
from confpy.stores.tree import Stores, open_stores
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.templates.keymatch import match_keys
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import Resolver

if TYPE_CHECKING:
    from confpy.agent.review import Review
    from confpy.daemon.people import PeoplesRequests
    from confpy.daemon.systemd import ServiceManager
    from confpy.history.records import Answer
    from confpy.reload.runtime_ports import RuntimePorts
    from confpy.status.model import Status
    from confpy.status.server import StatusServer

T = TypeVar("T")
LONGEST_SLEEP = 3600.0
REST = 1.0
"""Seconds without a message after which the first pass is over."""
NO_REST = 10.0
"""Seconds after the first delivery at which it is over, however many messages come."""


def run(
    settings: Settings, warnings: Sequence[ConfpyError] = (), *, before_program: Callable[[], None] = lambda: None
) -> int:
    """Run confpy with these settings until it stops. Returns the exit code; raises ``UsageError``.

    ``before_program``: called before a program takes the place of confpy, after which nothing can be.
    """
    log = Log(settings.log_level, settings.log_format)
    for warning in warnings:
        log.write("warning", "settings.warning", warning.fields())
    if settings.ignored_variables:
        hint = "they count where the store is named as in confd's fork (confpy STORE); CONFPY_* variables always count"
        log.write("info", "settings.ignored", {"variables": ", ".join(settings.ignored_variables), "hint": hint})
    if settings.exec and settings.onetime:
        settings = replace(settings, no_reload=True)  # the program starts on the new files
    stores = open_stores(settings)
    at_rest = None
    if not settings.onetime:
        # Imported later, they could be of another version: the package may be upgraded while a daemon runs.
        from confpy.delivery import check, rollback  # noqa: F401
        from confpy.ledger import undo  # noqa: F401
        from confpy.reload import run as reload  # noqa: F401
        from confpy.system import memory
        from confpy.target import drift  # noqa: F401

        memory.prepare()
        at_rest = memory.settle
    daemon = Daemon(settings, stores, log, at_rest=at_rest)
    code = daemon.run()
    if not (settings.exec and daemon.may_be_replaced(code)):
        return code
    from confpy.daemon.program import execute

    before_program()
    return execute(settings, log)


class Daemon:
    """One run of confpy."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        log: Log,
        *,
        disk: Disk | None = None,
        shell: Shell | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        at_rest: Callable[[], None] | None = None,
        jobs: Callable[[Ports, Rules], Jobs] = Jobs,
    ) -> None:
        """``at_rest`` is called once after a delivery: when no message comes for a while, or some time later."""
        self._settings = settings
        self._stores = stores
        self._store = stores.main
        self._log = log
        self._disk = disk or Disk()
        self._clock = clock or SystemClock()
        self._at_rest = at_rest
        self._busy_until = NEVER
        """The monotonic time at which the first pass is over; NEVER before the first delivery."""
        self._inbox: queue.SimpleQueue[Message | Question[Any]] = queue.SimpleQueue()
        state = StateFolder.of(settings, self._log_event)
        self._state_path = state.path
        self._state_dir = os.path.dirname(state.path)
        self._in_use = None
        if not settings.noop:
            self._in_use = expiry.InUse.enter(state.path, os.path.realpath(settings.confdir), self._disk)
        self._ledger = self._open_ledger(state)
        self._runtime: RuntimePorts | None = None
        self._runtime_guard = threading.Lock()
        self._ledger.history = self._open_history()
        post = self._inbox.put
        self._people: PeoplesRequests | None = None
        self._workers = Workers(post)
        self._start = self._workers.start
        self._streams = Streams(stores.main, post, self._start, stores.mounted)
        self._edits = None
        self._manager: ServiceManager | None = None
        if not settings.onetime and "NOTIFY_SOCKET" in os.environ:
            from confpy.daemon.systemd import ServiceManager

            self._manager = ServiceManager.of(os.environ, self._clock.monotonic())
        if not settings.onetime:
            from confpy.daemon.edits import Edits

            self._edits = Edits(post, self._start, self._log_event)
        self._templates = os.path.join(settings.confdir, "templates")
        self._resolver = Resolver(folder=self._templates, cache_dir=settings.cache_dir, sandbox=settings.sandbox)
        child = None
        if settings.exec:
            from confpy.daemon.program import supervised

            child = supervised(settings)
        folder_guard = threading.Lock()
        kinds = {mount: one.backend for mount, one in settings.mounts.items()}
        ports = Ports(
            disk=self._disk,
            shell=shell or Shell(hidden=SECRET_VARIABLES),
            clock=self._clock,
            store=stores.main,
            mounted=stores.mounted,
            streams=self._streams,
            ledger=self._ledger,
            cached_keys=CachedKeys(state, self._clock, folder_guard, settings.backend, kinds),
            holds=Holds(state, folder_guard),
            resolver=self._resolver,
            load=self._load,
            follow=self._follow,
            post=post,
            start=self._start,
            log=self._log_event,
            guard=threading.Lock(),
            child=child,
            answer=self._answer,
            runtime=self._runtime_ports,
        )
        rules = Rules.of(settings)
        self._jobs = jobs(ports, replace(rules, tell=self._log_event) if log.tells_steps else rules)
        self._agent = self._make_agent(random or Random())

    def _open_ledger(self, state: StateFolder) -> Ledger:
        ledger = Ledger.open(
            None if self._settings.noop else state.path,
            self._disk,
            threading.Lock(),
            backend=self._settings.backend,
            root=os.path.abspath(self._settings.root) if self._settings.root else "",
        )
        if self._settings.noop:
            ledger.seen = state.path
        if ledger.warning is not None:
            self._log_event(ledger_unusable(ledger.warning))
        return ledger

    def _runtime_ports(self) -> RuntimePorts:
        """As ``Ports.runtime``; called by workers."""
        with self._runtime_guard:
            if self._runtime is None:
                from confpy.daemon.runtime import runtime_ports

                self._runtime = runtime_ports(self._disk, self._ledger)
            return self._runtime

    def _open_history(self) -> History | None:
        """Return where the history is kept; None if it is not."""
        settings = self._settings
        if not (self._ledger.folder and keeps_history(settings, self._stores.capabilities)):
            return None
        log = self._log_event
        return History(self._ledger.folder, self._disk, most=settings.history, guard=threading.Lock(), log=log)

    def _make_agent(self, random: Random) -> Agent:
        settings = self._settings
        config = AgentConfig.of(settings, self._stores.capabilities)
        numbers = count(1)
        mirror = make_mirror(settings, self._stores, random, config.period, numbers)
        own = partial(own_mirror, settings, self._stores, random, period=config.period, numbers=numbers)
        environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
        return Agent(config, mirror, Renderer(sandbox=settings.sandbox), random, environment, own=own)

    def run(self) -> int:
        """Run until the agent stops. Returns the exit code."""
        settings = self._settings
        forwarded = forwarded_signals(settings) if settings.exec and not settings.onetime else ()
        with signal_handlers(self._inbox.put, settings.stop_signals, forwarded):
            try:
                return self._run()
            finally:
                self._stores.close()
                self._ledger.close(compares=self._stores.can_change)
                if self._in_use is not None:
                    self._in_use.leave()

    def may_be_replaced(self, code: int) -> bool:
        """Say whether a one-shot that ended with this code leaves the files that its program starts on.

        As for a daemon, a resource that failed may have left the old file; and none may be missing.
        """
        if not self._settings.onetime or self._agent.is_stopping:
            return False
        undelivered = [one for one in self._agent.outcomes() if one["outcome"] not in {"changed", "unchanged"}]
        return code == 0 or all(os.path.exists(str(one["target"])) for one in undelivered)

    def outcomes(self) -> list[dict[str, object]]:
        """Return the outcome of each resource, as ``-report`` has them. Not while it runs."""
        return self._agent.outcomes()

    def held_by_people(self) -> dict[str, str]:
        """As ``Agent.held_by_people``. Not while it runs."""
        return self._agent.held_by_people()

    def _run(self) -> int:
        server = control = None
        try:
            server = self._serve()
            if self._edits is not None:
                mode = "watch" if self._settings.watch else "poll"
                fields = {"backend": self._settings.backend, "confdir": self._settings.confdir, "mode": mode}
                self._log.write("info", "confpy.started", fields)
                self._edits.follow_confdir(self._settings.confdir)
                from confpy.daemon.control import open_control
                from confpy.daemon.people import PeoplesRequests

                self._people = PeoplesRequests(self._inbox.put)
                confdir, more = self._settings.confdir, self._people.requests()
                control = open_control(self, confdir, self._state_path, self._log_event, more)
            if not self._settings.noop and expiry.is_due(self._state_dir, self._clock.time()):
                self._start("expire", self._remove_unused, lambda _: None)
            return self._loop()
        finally:
            if server is not None:
                server.close()
            if control is not None:
                control.close()
            if self._manager is not None:
                self._manager.close()
            self._jobs.save()
            self._resolver.close()
            if self._edits is not None:
                self._edits.close()
            self._workers.close()

    def _serve(self) -> StatusServer | None:
        """Serve the status where that is wanted; raises ``UsageError`` where one cannot listen there."""
        if not self._settings.status_addr or self._settings.onetime:
            return None
        from confpy.daemon.serving import serve

        return serve(self._settings, self._answer_status, self._log_event, self._ledger.history, self._disk)

    def _answer_status(self, take: Callable[[Status | None], None], *, asks_stores: bool) -> None:
        """Have the main thread make a status, as ``confpy.status.inquiries.Ask``."""

        def make() -> None:
            try:
                status = self.status()
            except Exception as error:  # noqa: BLE001 - a bug in the status is none in the delivery
                self._log.write("error", "status.failed", bug(error).fields())
                take(None)
            else:
                take(status)

        if asks_stores:
            self._inbox.put(Asked())
        self._inbox.put(Question(make))

    def _loop(self) -> int:
        wake_at = self._jobs.carry_out(self._agent.start())
        while True:
            messages, questions = self._receive(wake_at)
            actions = self._agent.step(messages, self._clock.monotonic(), self._clock.time())
            self._streams.note_taken(messages)
            if self._busy_until == NEVER and any(isinstance(message, Delivered) for message in messages):
                self._busy_until = self._clock.monotonic() + NO_REST
            if self._log.tells_steps:
                self._tell_steps(messages, actions)
            wake_at = self._jobs.carry_out(actions)
            if self._manager is not None:
                wake_at = min(wake_at, self._manager.step(self, messages, self._clock.monotonic()))
            for question in questions:
                question.answer()
            for action in actions:
                if isinstance(action, Stop):
                    if self._settings.report:
                        write_report(self._settings.report, self._agent.outcomes(), self._disk)
                    return action.code

    def _receive(self, wake_at: float) -> tuple[list[Message], list[Question[Any]]]:
        """Return all messages and questions in the inbox as soon as there is one; none at ``wake_at``."""
        messages: list[Message] = []
        questions: list[Question[Any]] = []
        wait = min(wake_at - self._clock.monotonic(), LONGEST_SLEEP)
        with contextlib.suppress(queue.Empty):
            found = self._next(max(wait, 0.0))
            while True:
                if isinstance(found, Question):
                    questions.append(found)
                else:
                    messages.append(found)
                found = self._inbox.get_nowait()
        return messages, questions

    def _next(self, wait: float) -> Message | Question[Any]:
        """Return the next message; raises ``queue.Empty`` if there is none for so many seconds."""
        if self._at_rest is not None and self._busy_until < NEVER:
            is_late = self._clock.monotonic() >= self._busy_until
            if not is_late and wait <= REST:
                return self._inbox.get(timeout=wait)
            if not is_late:
                with contextlib.suppress(queue.Empty):
                    return self._inbox.get(timeout=REST)
                wait -= REST
            at_rest, self._at_rest = self._at_rest, None
            at_rest()
        return self._inbox.get(timeout=wait)

    def ask(self, ask: Callable[[], T], seconds: float) -> T:
        """Have the main thread work something out, and return that; called by any other thread.

        Raises ``NoAnswer`` after so many seconds, and what ``ask`` raises.
        """
        question = Question(ask)
        self._inbox.put(question)
        return question.wait(seconds)

    def post(self, message: Message) -> None:
        """Send a message to the main thread."""
        self._inbox.put(message)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def review(self, asked_at: float) -> Review:
        """As ``Agent.review``; called by the main thread."""
        return self._agent.review(asked_at)

    @property
    def is_started(self) -> bool:
        """As ``Agent.is_started``."""
        return self._agent.is_started

    @property
    def is_stopping(self) -> bool:
        """As ``Agent.is_stopping``."""
        return self._agent.is_stopping

    def status(self) -> Status:
        """Return how all is now; called by the main thread."""
        status = self._agent.status()
        nodes = dict(self._stores.all)
        stores = tuple(replace(one, node=nodes[one.mount].node) for one in status.stores)
        return replace(status, version=__version__, pid=os.getpid(), stores=stores)

    def _tell_steps(self, messages: Sequence[Message], actions: Sequence[Action]) -> None:
        from confpy.daemon.steps import describe

        for event in describe(messages, actions, self._agent.is_literal):
            self._log_event(event)

    def _log_event(self, event: LogEvent) -> None:
        self._log.write(event.level, event.event, event.fields)

    def _load(self) -> Loaded:
        """As ``Ports.load``."""
        undoes = self._settings.noop or bool(self._ledger.folder)
        settings = self._settings
        loaded = load_resources(
            settings.confdir, settings, self._stores.prefixes, undoes=undoes, opens=self._stores.own
        )
        if not (settings.exec or settings.no_reload or settings.sync_only):
            loaded = reject_unaddressed(loaded)
        texts = self._store.capabilities.text_prefixes
        return match_keys(loaded, self._templates, in_text_store=texts, mounts=self._stores.mounts)

    def _answer(self, answer: Answer) -> None:
        """As ``Ports.answer``."""
        if self._people is not None:
            self._people.take(answer)

    def _follow(self, files: tuple[str, ...]) -> None:
        """As ``Ports.follow``; a one-shot has nothing to follow."""
        if self._edits is not None:
            self._edits.follow_files(files)

    def _remove_unused(self) -> None:
        """Remove the state and the compiled templates of confdirs that do not exist any more."""
        expiry.sweep(self._state_dir, self._settings.cache_dir or "", self._disk, self._clock.time())
