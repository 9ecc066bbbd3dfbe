"""Who is looked at next: what was woken. Everything else waits for one thing, which wakes it. Pure.

As in a kernel's scheduler: a run queue, timers, and a wait queue for each thing that can be waited for. So a step costs
what its messages concern, however many wait.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

from confpy.clock import NEVER

Key = TypeVar("Key", bound=Hashable)
SLACK = 64
"""Outdated timers that are not cleared away yet, at most, beside one for each that is in force."""


class Wait(NamedTuple):
    """What somebody waits for: a moment, a thing, or whichever comes first; neither: for the next ``wake``."""

    until: float = NEVER
    """Monotonic seconds."""
    on: Hashable = None


class RunQueue(Generic[Key]):
    """Which of many are to be looked at. Each of them is woken, waits, or is unknown here."""

    def __init__(self) -> None:
        self._numbers = count()
        self._woken: set[Key] = set()
        self._waits: dict[Key, Wait] = {}
        self._queues: dict[Hashable, dict[Key, None]] = {}
        """Thing → who waits for it."""
        self._timers: list[tuple[float, int, Key]] = []
        """A heap, with numbers that tell equal moments apart. Of one that waits no more, or until another moment, an
        outdated timer may be left."""

    def wake(self, key: Key) -> None:
        """Have one looked at next."""
        self._end_wait(key)
        self._woken.add(key)

    def wake_for(self, thing: Hashable) -> None:
        """Wake who waits for a thing: it has come."""
        for key in tuple(self._queues.get(thing, ())):
            self.wake(key)

    def wait(self, key: Key, wait: Wait) -> None:
        """Let one wait; it is looked at no sooner."""
        self._end_wait(key)
        self._woken.discard(key)
        self._waits[key] = wait
        if wait.on is not None:
            self._queues.setdefault(wait.on, {})[key] = None
        if wait.until < NEVER:
            self._set_timer(wait.until, key)

    def forget(self, key: Key) -> None:
        """Forget one: there is nothing to do for it."""
        self._end_wait(key)
        self._woken.discard(key)

    def clear(self) -> None:
        """Forget all."""
        self._woken, self._waits, self._queues, self._timers = set(), {}, {}, []

    def take(self, now: float) -> set[Key]:
        """Return who was woken, or waited until now. Each is to be put back by ``wait`` or ``wake``, or forgotten."""
        while self._timers and (self._timers[0][0] <= now or self._is_outdated(*self._timers[0])):
            moment, number, key = heappop(self._timers)
            if not self._is_outdated(moment, number, key):
                self.wake(key)
        woken, self._woken = self._woken, set()
        return woken

    def next_at(self) -> float:
        """Return the monotonic time at which the next wait is over."""
        while self._timers and self._is_outdated(*self._timers[0]):
            heappop(self._timers)
        return self._timers[0][0] if self._timers else NEVER

    def wait_of(self, key: Key) -> Wait | None:
        """Return what one waits for; None: it was woken, or is unknown."""
        return self._waits.get(key)

    def is_woken(self, key: Key) -> bool:
        return key in self._woken

    def _end_wait(self, key: Key) -> None:
        wait = self._waits.pop(key, None)
        if wait is not None and wait.on is not None:
            queue = self._queues[wait.on]
            del queue[key]
            if not queue:
                del self._queues[wait.on]

    def _set_timer(self, moment: float, key: Key) -> None:
        heappush(self._timers, (moment, next(self._numbers), key))
        if len(self._timers) > 2 * len(self._waits) + SLACK:
            waits = ((wait.until, key) for key, wait in self._waits.items() if wait.until < NEVER)
            self._timers = [(moment, next(self._numbers), key) for moment, key in waits]
            heapify(self._timers)

    def _is_outdated(self, moment: float, _: int, key: Key) -> bool:
        wait = self._waits.get(key)
        return wait is None or wait.until != moment
