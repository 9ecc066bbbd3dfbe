"""Calls that can be abandoned: ``getaddrinfo``, or a file on a mount that hangs, has no limit and cannot be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

Result = TypeVar("Result")


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
