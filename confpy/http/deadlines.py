"""Deadlines: one thread for all of a store's requests, and none while nothing is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Deadlines:
    """Calls whoever waits too long. Any thread may set a deadline, any number of them at once.

    The thread sleeps until the earliest deadline that it knew of, though it may be met long before: so the requests of
    a quick server start and wake nobody. It ends when it wakes up to none, or by ``close``.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._late: dict[object, tuple[float, Callable[[], None]]] = {}
        self._wakes: float | None = None
        """When the thread looks next; None while there is none."""
        self._closed = False

    @contextmanager
    def within(self, seconds: float, late: Callable[[], None]) -> Iterator[None]:
        """Call ``late`` if the block takes longer, and never after the block. It must not wait for anything."""
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
        """End the thread; from now on nobody is called. Any thread, any number of times."""
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
