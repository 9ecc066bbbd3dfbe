"""Up to which revision each prefix is in the copy. Pure.

A watch may bring the changes of thousands of prefixes at once, which all advance with each of its changes. So they are
not gone through: the watch advances (``_Advance``), and a prefix asks those above it how far they have come since it
was read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from confpy.keys.ordered import OrderedKeys
from confpy.keys.prefixes import ROOT, Lists, ancestors

_FEW = 8
"""So many prefixes below a watched one are advanced one by one."""


class _Position(NamedTuple):
    revision: int
    turn: int
    """When it was set: an advance from before does not concern it."""


class Positions:
    """Prefix → the revision up to which its keys are in the copy: a change at or below it has been seen already."""

    def __init__(self, lists: Lists) -> None:
        self.version = 0
        """Counts up whenever other prefixes are in it."""
        self._lists = lists
        self._set: OrderedKeys[_Position] = OrderedKeys()
        self._advances: dict[str, _Position] = {}
        """Watched prefix → how far it has brought what lies below it, and when it did last."""
        self._turn = 0
        self._newest: int | None = 0

    def __contains__(self, prefix: object) -> bool:
        return prefix in self._set.values

    def __iter__(self) -> Iterator[str]:
        return iter(self._set.values)

    def __len__(self) -> int:
        return len(self._set)

    def __getitem__(self, prefix: str) -> int:
        """Return the revision of a prefix; raises ``KeyError``."""
        revision, turn = self._set.values[prefix]
        for above in ancestors(prefix) if self._advances else ():
            advance = self._advances.get(above)
            if advance is not None and advance.turn > turn and self._lists(above, prefix):
                revision = max(revision, advance.revision)
        return revision

    @property
    def turn(self) -> int:
        """How often revisions were set or moved on."""
        return self._turn

    @property
    def newest(self) -> int:
        """The newest revision of all, 0 where there is none."""
        if self._newest is None:
            self._newest = max(self.all().values(), default=0)
        return self._newest

    def all(self) -> dict[str, int]:
        """Return the revision of each prefix."""
        if self._advances:
            return {prefix: self[prefix] for prefix in self._set.values}
        return {prefix: position.revision for prefix, position in self._set.values.items()}

    def find(self, key: str) -> str | None:
        """Return the nearest prefix that brings a raw key or prefix: cut it segment by segment."""
        if key in self._set.values:
            return key
        path = key
        while path:
            if path in self._set.values and self._lists(path, key):
                return path
            path = path[: path.rfind("/")] if "/" in path else ""
        return ROOT if ROOT in self._set.values and self._lists(ROOT, key) else None

    def covered(self, path: str) -> list[str]:
        """Return the prefixes that are the path or lie below it."""
        return self._set.covered(path)

    def set(self, revisions: Mapping[str, int]) -> None:
        """Set the revision of these prefixes, whatever it was."""
        if not revisions:
            return
        self._forget_newest(revisions)
        if self._newest is not None:
            self._newest = max(self._newest, *revisions.values())
        self._turn += 1
        known = len(self._set)
        self._set.apply({prefix: _Position(revision, self._turn) for prefix, revision in revisions.items()})
        self.version += len(self._set) != known

    def _forget_newest(self, prefixes: Iterable[str]) -> None:
        """Take it that these prefixes lose their revisions, one of which may be the newest."""
        if any(prefix in self and self[prefix] == self._newest for prefix in prefixes):
            self._newest = None

    def forget(self, prefixes: Collection[str]) -> None:
        """Remove these prefixes, as far as they are in it."""
        self._forget_newest(prefixes)
        known = len(self._set)
        self._set.apply({}, prefixes)
        if len(self._set) != known:
            self.version += 1
            self._advances = {one: advance for one, advance in self._advances.items() if self._set.count(one)}

    def clear(self) -> None:
        self._set.clear()
        self._advances.clear()
        self._newest = 0
        self.version += 1

    def advance(self, watched: str, revision: int) -> None:
        """Take it that a watch has brought all changes up to a revision: its prefixes are there, or further on."""
        self._turn += 1
        before = self._advances.get(watched)
        if self._set.count(watched) > _FEW and (before is None or before.revision <= revision):
            self._advances[watched] = _Position(revision, self._turn)
            self._newest = None if self._newest is None else max(self._newest, revision)
            return
        # Few, or it repeats what came before the last: that concerns only those that were read meanwhile.
        for prefix in self._set.covered(watched):
            if self._lists(watched, prefix):
                reached = max(self[prefix], revision)
                self._set.values[prefix] = _Position(reached, self._turn)
                self._newest = None if self._newest is None else max(self._newest, reached)
        self._advances.pop(watched, None)
