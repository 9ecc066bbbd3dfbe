"""Where stores are mounted in the one tree of keys: which of them a path belongs to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from confpy.keys.prefixes import ancestors, covers

Value = TypeVar("Value")

OWN = "/[backend:"
"""What the point of a store begins with that one resource has for itself."""


def shown(path: str) -> str:
    """Return a path as people know it: in a store that a resource has for itself, its keys begin with a slash."""
    return path.partition("]")[2] or "/" if path.startswith(OWN) else path


class Mounts:
    """The points at which stores are mounted. The longest that covers a path wins; the store at ``/`` has the rest."""

    def __init__(self, points: Iterable[str]) -> None:
        self.points = tuple(sorted(points))
        self._points = frozenset(self.points)
        self._known: dict[str, str] = {}

    def add_own(self, point: str) -> None:
        """Add where the store of one resource is: no path of the others reaches it."""
        self._points |= {point}
        self._known.clear()

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
