"""Deadlines: one thread for all requests of a store, and none while there is no request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Deadlines:
    """Calls a function when a block takes too long. Any thread may set a deadline, any number of them at once.

    The thread sleeps until the earliest deadline that it knew of, even if that block has ended long before: so
    the requests to a quick server do not wake it. It ends when it wakes up to no deadline, or by ``close``.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._late: dict[object, tuple[float, Callable[[], None]]] = {}
        self._wakes: float | None = None
        """When the thread wakes up next; None while there is no thread."""
        self._closed = False

    @contextmanager
    def within(self, seconds: float, late: Callable[[], None]) -> Iterator[None]:
        """Call ``late``, which must not block, if the block takes longer; never after the block."""
        mark = object()
        at = time.monotonic() + seconds
        with self._changed:
            if self._wakes is None and not self._closed:
                threading.Thread(target=self._watch, name="confpy-deadlines", daemon=True).start()
                self._wakes = at
            elif self._wakes is not None and at < self._wakes:
                self._changed.notify()
            self._late[mark] = at, late
        try:
            yield
        finally:
            with self._changed:
                self._late.pop(mark, None)

    def close(self) -> None:
        """End the thread; nothing is called any more. Any thread, any number of times."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while self._late and not self._closed:
                self._wakes = min(at for at, _ in self._late.values())
                self._changed.wait(self._wakes - time.monotonic())
                now = time.monotonic()
                for mark in [mark for mark, (at, _) in self._late.items() if at <= now]:
                    self._late.pop(mark)[1]()
            self._wakes = None
