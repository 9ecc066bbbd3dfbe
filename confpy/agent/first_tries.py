"""First tries that others wait for: of groups that share a check over files in their places. Pure.

On an empty machine none of them may pass without all. So whoever is ready waits for those whose first try will come as
soon as what they need is known, but not for long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from confpy.agent.resources import GroupKey
from confpy.clock import NEVER

LONGEST = 10.0
"""Seconds for which groups wait for the first try of another one."""


class FirstTries:
    """Those that are to come."""

    def __init__(self) -> None:
        self._to_come: dict[GroupKey, frozenset[str]] = {}
        """Group → the checks that it shares."""
        self._awaited: Counter[str] = Counter()
        """Check → how many groups that share it have their first try to come."""
        self._since = NEVER
        """When the first of them began to be awaited."""

    def __iter__(self) -> Iterator[GroupKey]:
        return iter(tuple(self._to_come))

    def clear(self) -> None:
        """Forget them: other groups are run now."""
        self._to_come.clear()
        self._awaited.clear()

    def note(self, group: GroupKey, checks: frozenset[str], *, is_to_come: bool) -> list[str]:
        """Take whether a group's first try is to come; returns the checks for which nobody waits any more."""
        if is_to_come == (group in self._to_come):
            return []
        if is_to_come:
            self._to_come[group] = checks
            self._awaited.update(checks)
            return []
        ended = []
        for check in self._to_come.pop(group):
            self._awaited[check] -= 1
            if not self._awaited[check]:
                del self._awaited[check]
                ended.append(check)
        return ended

    def begin(self, now: float) -> None:
        """Take the time from which those that were noted are awaited, unless some were before."""
        self._since = min(self._since, now) if self._to_come else NEVER

    def awaited(self, checks: Iterable[str], now: float) -> str | None:
        """Return one of the checks that groups wait for, None where there is none."""
        if now >= self._since + LONGEST:
            return None
        return next((check for check in checks if check in self._awaited), None)

    def late(self, now: float) -> list[str]:
        """Return the checks for which groups have waited long enough."""
        return list(self._awaited) if now >= self._since + LONGEST else []

    def next_at(self, now: float) -> float:
        """Return the monotonic time from which groups wait no more."""
        moment = self._since + LONGEST
        return moment if now < moment else NEVER
