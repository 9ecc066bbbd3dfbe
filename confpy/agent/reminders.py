"""What goes on and was logged when it began is logged again once an hour, with a count. Pure."""

from __future__ import annotations

from collections.abc import Hashable

from confpy.clock import Damping


class Reminders:
    """When what goes on was last logged, and how often."""

    def __init__(self) -> None:
        self._told: dict[Hashable, tuple[float, int]] = {}

    def begin(self, what: Hashable, now: float) -> None:
        """Take it that something has begun, and was logged at this monotonic time."""
        self._told[what] = now, 1

    def is_due(self, what: Hashable, now: float) -> int:
        """Return how often it is logged, with this time; 0: it is too early to log it again."""
        at, times = self._told.setdefault(what, (now, 1))
        if now - at < Damping.INTERVAL:
            return 0
        self._told[what] = now, times + 1
        return times + 1

    def next_at(self, what: Hashable) -> float:
        """Return the monotonic time at which it is logged again."""
        at, _ = self._told[what]
        return at + Damping.INTERVAL

    def end(self, what: Hashable) -> None:
        """Take it that it goes on no more."""
        self._told.pop(what, None)
