"""Calls that can be abandoned: ``getaddrinfo``, or a file on a mount that hangs, has no limit and cannot be stopped."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

from confpy.frozen import define

Result = TypeVar("Result")

MOMENT = 0.05
"""Seconds after which another thread takes over what waits behind a call, and after which results are handed on."""
LONGEST_HELD = 1.0
"""Seconds for which outcomes are held while others follow."""


class Abandoned(Exception):
    """Another thread abandoned the call whose result was awaited."""


class AbandonableCall(Generic[Result]):
    """A call on a thread of its own, which ends when it can. One thread awaits the result, any may abandon it."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._outcomes: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()
        threading.Thread(target=self._run, args=[call], name="confpy-abandonable", daemon=True).start()

    def _run(self, call: Callable[[], Result]) -> None:
        try:
            outcome: tuple[Result | None, BaseException | None] = call(), None
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            outcome = None, error
        self._outcomes.put(outcome)

    def result(self, seconds: float) -> Result:
        """Return the result, or raise what the call raised.

        Raises ``TimeoutError`` after ``seconds``, and ``Abandoned`` where ``abandon`` was called before.
        """
        try:
            result, error = self._outcomes.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        except Empty:
            raise TimeoutError from None
        if error is not None:
            raise error
        return cast("Result", result)

    def abandon(self) -> None:
        """Wake the thread that awaits the result. Any thread, any number of times."""
        self._outcomes.put((None, Abandoned()))


def call_within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return the result of the call, or raise what it raised; raises ``TimeoutError`` and abandons it after a time."""
    return AbandonableCall(call).result(seconds)


@define
class _Runner:
    """A thread that makes one call of a group after another."""

    number: int
    """The call that it makes now."""
    began: float
    """When it began that."""
    abandoned: bool = False


class CallGroup(Generic[Result]):
    """Many calls, most of them quick: such ones share a thread, and one that hangs delays no other."""

    def __init__(self, calls: Sequence[Callable[[], Result]]) -> None:
        self._calls = calls
        self._guard = threading.Lock()
        self._waiting = deque(range(len(calls)))
        self._running: list[_Runner] = []
        self._ended: list[tuple[int, Result | BaseException]] = []
        """The calls that have ended since they were last taken."""
        self._wake: SimpleQueue[None] = SimpleQueue()

    def outcomes(self, seconds: float, threads: int, most: int) -> Iterator[list[tuple[int, Result | BaseException]]]:
        """Yield the numbers of calls that have ended, and what they returned or raised; ready ones together.

        A call that takes longer than ``seconds`` is abandoned; its outcome is a ``TimeoutError``. Begins with
        ``threads``; whenever nothing has ended for a moment, another is added, up to ``most``.
        """
        for _ in range(threads):
            self._add()
        left = len(self._calls)
        held: list[tuple[int, Result | BaseException]] = []
        yielded_at = time.monotonic()
        while left:
            with suppress(Empty):
                self._wake.get(timeout=self._pause(seconds))
            ended = self._take(seconds)
            if not ended and len(self._running) < most:
                self._add()
            left -= len(ended)
            held += ended
            # While one call after another ends, they are held: in parts they would cost whoever uses them more.
            if held and not (self._waiting and ended and time.monotonic() - yielded_at < LONGEST_HELD):
                yield held
                held, yielded_at = [], time.monotonic()

    def _pause(self, seconds: float) -> float:
        with self._guard:
            if self._waiting or not self._running:
                return MOMENT
            return max(min(one.began for one in self._running) + seconds - time.monotonic(), 0.0)

    def _take(self, seconds: float) -> list[tuple[int, Result | BaseException]]:
        with self._guard:
            ended, self._ended = self._ended, []
            now = time.monotonic()
            for runner in [one for one in self._running if now - one.began >= seconds]:
                runner.abandoned = True
                self._running.remove(runner)
                ended.append((runner.number, TimeoutError()))
        return ended

    def _add(self) -> None:
        with self._guard:
            if not self._waiting:
                return
            runner = _Runner(self._waiting.popleft(), time.monotonic())
            self._running.append(runner)
        try:
            threading.Thread(target=self._run, args=[runner], name="confpy-abandonable", daemon=True).start()
        except RuntimeError as error:  # no thread can be started
            with self._guard:
                self._running.remove(runner)
                self._waiting.appendleft(runner.number)
                if not self._running:
                    self._ended += [(number, error) for number in self._waiting]
                    self._waiting.clear()

    def _run(self, runner: _Runner) -> None:
        goes_on = True
        while goes_on:
            try:
                outcome: Result | BaseException = self._calls[runner.number]()
            except BaseException as error:  # noqa: BLE001 - an outcome as well
                outcome = error
            goes_on = self._end(runner, outcome)

    def _end(self, runner: _Runner, outcome: Result | BaseException) -> bool:
        """Note that a call has ended; returns whether the runner has another to make."""
        with self._guard:
            if runner.abandoned:
                return False
            self._ended.append((runner.number, outcome))
            if self._waiting:
                runner.number, runner.began = self._waiting.popleft(), time.monotonic()
                return True
            self._running.remove(runner)
        self._wake.put(None)
        return False
