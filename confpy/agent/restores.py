"""How often a target is restored that some other program rewrites each time. Pure."""

from __future__ import annotations

from confpy.clock import NEVER

AT_ONCE = 3
"""Restores of the same drift in a row that wait for nothing."""
SHORTEST, LONGEST = 60.0, 3600.0
"""Seconds. The first wait is twice the shorter, or twice the period of the looks if that is longer; none is longer."""


class _Restored:
    # No dataclass: to make one costs a start half a millisecond.
    __slots__ = ("drift", "not_before", "times")

    def __init__(self, drift: str) -> None:
        self.drift = drift
        self.times = 0
        self.not_before = -NEVER


class Restores:
    """The targets whose last look found drift, by resource."""

    def __init__(self, period: float) -> None:
        """``period``: seconds from one look to the next."""
        self._shortest = max(SHORTEST, period)
        self._all: dict[str, _Restored] = {}

    def may_restore(self, resource: str, drift: str, now: float) -> bool:
        """Say whether a drifted target is restored now, and count it if so."""
        found = self._all.get(resource)
        if found is None or found.drift != drift:
            found = self._all[resource] = _Restored(drift)
        if now < found.not_before:
            return False
        found.times += 1
        if found.times >= AT_ONCE:
            found.not_before = now + min(LONGEST, self._shortest * 2.0 ** min(found.times - AT_ONCE + 1, 16))
        return True

    def is_new_fight(self, resource: str) -> bool:
        """Say whether the restore that was counted last is the one from which on they wait."""
        return self._all[resource].times == AT_ONCE

    def wait(self, resource: str, now: float) -> float:
        """Return the seconds until it may be restored again."""
        return self._all[resource].not_before - now

    def end(self, right: frozenset[str]) -> None:
        """Forget those that a look found to be right."""
        for resource in right & self._all.keys():
            del self._all[resource]

    def forget(self, resource: str) -> None:
        """Forget one that is another now."""
        self._all.pop(resource, None)

    def allow_all(self) -> None:
        """Let the next look restore everything: a person asked for it."""
        for one in self._all.values():
            one.not_before = -NEVER

    def __bool__(self) -> bool:
        return bool(self._all)
