"""Simulated time, and the one source of all choices."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from random import Random
from typing import Protocol

from confpy.daemon.jobs import Failed, Job
from confpy.errors import ConfpyError
from confpy.messages import Message, Woken

NEVER = float("inf")


class Wrong(AssertionError):
    """A promise that was broken."""


class Chance(Random):
    """Draws every choice of a run from its seed: a seed that fails, fails again in the same way."""

    calm = False
    """The faults are over."""

    def fails(self, chance: float) -> bool:
        """Say whether a fault of this chance happens."""
        return not self.calm and self.random() < chance


class Owner(Protocol):
    """What is woken at the moment that it asked for."""

    def wakes_at(self) -> float: ...

    def tell(self, message: Woken) -> None: ...


class Timeline:
    """What is to happen when. Time passes while ``run`` is called, also by what happens: calls are stacked then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stacked = 0
        """How many calls are under way, each interrupted by the next."""
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Let something happen after so many seconds."""
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, call))

    def clear(self) -> None:
        """Forget all that was to happen, and all that is under way."""
        self._queue.clear()
        self.stacked = 0

    def run(self, owner: Owner, end: Callable[[], float]) -> None:
        """Let time pass until ``end()``, which may change meanwhile; raises ``Wrong`` where the owner would spin."""
        queue = self._queue
        while True:
            arrives = queue[0][0] if queue else NEVER
            wakes = owner.wakes_at()
            moment = min(arrives, wakes)
            if moment > end():
                self.now = max(self.now, end())
                return
            self.now = max(self.now, moment)
            if wakes <= arrives:
                owner.tell(Woken())
                if owner.wakes_at() <= self.now:
                    raise Wrong("it would spin")
            else:
                self.stacked += 1
                heapq.heappop(queue)[2]()
                self.stacked -= 1


class SimulatedThreads:
    """Starts jobs at simulated times instead of on threads; what a store answers takes its time as well."""

    LATE = frozenset({"read", "poll"})
    """Jobs whose answers arrive after they are done."""

    def __init__(
        self, timeline: Timeline, random: Chance, tell: Callable[[Message], None], late: AbstractSet[str] = LATE
    ) -> None:
        self._timeline = timeline
        self._random = random
        self._tell = tell
        self._late = late

    def start(self, name: str, job: Job, failed: Failed) -> None:
        """As ``Ports.start``."""
        late = name in self._late
        soon = self._random.random() * (0.3 if late else 0.1) + 0.001
        self._timeline.later(soon, lambda: self._run(job, failed, late=late))

    def _run(self, job: Job, failed: Failed, *, late: bool) -> None:
        try:
            message = job()
        except ConfpyError as error:
            message = failed(error)
        if message is None:
            return
        if late:
            self._timeline.later(self._random.random() * 0.5, lambda: self._tell(message))
        else:
            self._tell(message)
