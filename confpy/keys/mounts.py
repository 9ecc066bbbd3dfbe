"""Where stores are mounted in the one tree of keys: which of them a path belongs to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from confpy.keys.prefixes import ancestors, covers

Value = TypeVar("Value")


class Mounts:
    """The points at which stores are mounted. The longest that covers a path wins; the store at ``/`` has the rest."""

    def __init__(self, points: Iterable[str]) -> None:
        self.points = tuple(sorted(points))
        self._points = frozenset(self.points)
        self._known: dict[str, str] = {}

    def point_of(self, prefix: str) -> str:
        """Return the point that a raw prefix or a path lies at or below; empty for the store at ``/``."""
        found = ""
        for path in ancestors(prefix):
            if path in self._points:
                found = path
        return found

    def below(self, path: str) -> tuple[str, ...]:
        """Return the points below a path: their keys are no keys of the store that has the path."""
        return tuple(point for point in self.points if point != path and covers(path or "/", point))

    def split(self, prefixes: Sequence[str]) -> Mapping[str, list[str]]:
        """Return the prefixes by point, in their order."""
        found: dict[str, list[str]] = {}
        known = self._known
        for prefix in prefixes:
            point = known.get(prefix)
            if point is None:
                point = known[prefix] = self.point_of(prefix)
            found.setdefault(point, []).append(prefix)
        return found


NO_MOUNTS = Mounts(())
"""There is one store."""
