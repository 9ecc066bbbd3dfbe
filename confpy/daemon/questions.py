"""Questions to the owner thread: another thread posts one to the inbox, and waits for the answer until a deadline.

The owner answers after its step, so that it is never looked at in the middle of one; an owner that is stuck is seen by
the answer that does not come.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Generic, TypeVar

from confpy.errors import ConfpyError

T = TypeVar("T")


class NoAnswer(ConfpyError):
    """The owner thread has not answered in time."""

    exit_code = 11


class Question(Generic[T]):
    """What is to be worked out by the owner thread. It may read all, and post messages; it must not block."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._answer: queue.SimpleQueue[tuple[T] | BaseException] = queue.SimpleQueue()

    def answer(self) -> None:
        """Work it out; called by the owner thread. What it raises is raised to who waits."""
        try:
            self._answer.put((self._ask(),))
        except Exception as error:  # noqa: BLE001 - it concerns who asked, and must not stop the owner
            self._answer.put(error)

    def wait(self, seconds: float) -> T:
        """Return the answer; raises ``NoAnswer`` after so many seconds, and what ``ask`` has raised."""
        try:
            found = self._answer.get(timeout=seconds)
        except queue.Empty:
            raise NoAnswer(f"confpy has not answered for {seconds:g} s: its main thread is stuck") from None
        if isinstance(found, BaseException):
            raise found
        return found[0]
