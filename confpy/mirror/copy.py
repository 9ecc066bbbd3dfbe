"""The local copy of a store's keys, and up to which revision each prefix is in it. Pure.

Order holds within one watch only, so each prefix has a revision of its own (its *position*), and a change at or below
it has been seen already: that is how repeats are dropped when two streams overlap or one is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from confpy.keys.prefixes import ROOT, Lists, ancestors, begins, covers, normalise, text_parent
from confpy.keys.snapshot import Changes, Listing
from confpy.keys.tree import KeyTree
from confpy.mirror.result import MirrorResult


class LocalCopy:
    """Keys, and the prefixes that they were read for."""

    def __init__(self, lists: Lists | None = None, *, binary: bool = True) -> None:
        """``lists``: as ``View`` takes it. ``binary``: the store preserves any bytes."""
        self.tree = KeyTree()
        self.positions: dict[str, int] = {}
        """Prefix → the revision up to which its keys are in the tree."""
        self.binary = binary
        self.lists = lists or covers
        self._folders = KeyTree()
        """Paths that exist, even if they have no key; where a store has no folders, none."""
        self._reach: dict[str, list[str]] = {}
        """Watched prefix → those in ``positions`` that it brings changes of, as far as it was needed."""
        self._damaged: set[str] = set()
        """Raw keys that lost bytes in the store, and were logged."""

    def position_of(self, key: str) -> str | None:
        """Return the nearest read prefix that brings a raw key or prefix: cut it segment by segment."""
        path = key
        while path:
            if path in self.positions and self.lists(path, key):
                return path
            path = path[: path.rfind("/")] if "/" in path else ""
        return ROOT if ROOT in self.positions and self.lists(ROOT, key) else None

    def holds(self, prefix: str) -> bool:
        """Say whether a prefix was read, and the store did not deny it."""
        return self.position_of(prefix) is not None

    def is_missing(self, path: str) -> bool:
        """Say whether there is neither a key nor a folder at or below a path."""
        return not self.tree.count(path) and not self._folders.count(path)

    def begins_none(self, text: str) -> bool:
        """Say whether no key begins with a text."""
        return not any(begins(text, path) for path, _ in self.tree.items(text_parent(text)))

    def revision(self, prefixes: Iterable[str]) -> int:
        """Return the newest revision that is in the tree for these prefixes, 0 where there is none."""
        found = (self.position_of(prefix) for prefix in prefixes)
        return max((self.positions[prefix] for prefix in found if prefix is not None), default=0)

    def newest(self) -> int:
        return max(self.positions.values(), default=0)

    def below(self, heads: AbstractSet[str]) -> dict[str, list[str]]:
        """Return which read prefixes each of the heads brings."""
        found: dict[str, list[str]] = {}
        for prefix in self.positions:
            for head in ancestors(prefix):
                if head in heads and self.lists(head, prefix):
                    found.setdefault(head, []).append(prefix)
        return found

    # --- what is wanted ----------------------------------------------------------------------------------------------

    def keep(self, wanted: Sequence[str]) -> None:
        """Keep the positions of the wanted prefixes and of what they bring; forget all others."""
        known = {prefix: self.position_of(prefix) for prefix in wanted}
        self.positions |= {prefix: self.positions[one] for prefix, one in known.items() if one is not None}
        for prefix in list(self.positions):
            if not any(one in known and self.lists(one, prefix) for one in ancestors(prefix)):
                del self.positions[prefix]
        self._reach.clear()

    def empty(self, prefix: str, besides: Sequence[str]) -> None:
        """Remove what the prefix covers, but for what lies at or below a prefix of ``besides``."""
        self.tree.replace(prefix, {}, besides)
        self._folders.replace(prefix, {}, besides)

    def start_over(self) -> None:
        """Forget all positions: they mean nothing in the store that answers now."""
        self.positions.clear()
        self._reach.clear()

    # --- what the store says -----------------------------------------------------------------------------------------

    def replace(self, listings: Mapping[str, Listing], result: MirrorResult) -> None:
        """Put in what was read, except where the copy is newer than the read."""
        self.positions |= {prefix: listing.revision for prefix, listing in listings.items()}
        own: dict[str, list[str]] = {}
        for prefix, position in self.positions.items():
            for above in ancestors(prefix):
                if above == prefix or above not in listings:
                    continue
                if position > listings[above].revision or not self.lists(above, prefix):
                    own.setdefault(above, []).append(prefix)
                else:
                    # It stays a position of its own: a stream that is about to be replaced may still move it on.
                    self.positions[prefix] = listings[above].revision
        for prefix, listing in listings.items():
            self._examine(listing.keys, result)
            besides = own.get(prefix, ())
            result.changed |= self.tree.replace(prefix, listing.keys, besides)
            self._folders.replace(prefix, dict.fromkeys(listing.folders, ""), besides)

    def apply(self, changes: Changes, result: MirrorResult) -> None:
        """Apply what one watch brought, except what the copy has already."""
        for path, revision in changes.deleted.items():
            self._delete(path, revision, result)
        for raw, (revision, value) in changes.keys.items():
            prefix = self.position_of(raw)
            # A key that is not wanted, below a prefix that is watched for several, or a repeat.
            if prefix is None or revision <= self.positions[prefix]:
                continue
            if value is not None:
                self._examine({raw: value}, result)
            seen = self.tree.delete(raw) if value is None else self.tree.set(raw, value)
            if seen:
                result.changed.add(normalise(raw))
        for path, revision in changes.folders.items():
            above = self.position_of(path)
            if above is not None and revision > self.positions[above] and self._folders.set(path, ""):
                result.changed.add(path)
        for prefix in self._reach_of(changes.prefix):
            self.positions[prefix] = max(self.positions[prefix], changes.revision)

    def _reach_of(self, watched: str) -> list[str]:
        """Return the read prefixes that a watched one brings changes of."""
        reach = self._reach.get(watched)
        if reach is None:
            reach = self._reach[watched] = [prefix for prefix in self.positions if self.lists(watched, prefix)]
        return reach

    def _delete(self, path: str, revision: int, result: MirrorResult) -> None:
        """Remove all at or below a path, except what is known from after that revision."""
        below = [prefix for prefix in self.positions if prefix != path and covers(path, prefix)]
        for one in (path, *below):
            above = self.position_of(one)
            if above is not None and revision > self.positions[above]:
                besides = [prefix for prefix in below if prefix != one and covers(one, prefix)]
                result.changed |= self.tree.replace(one, {}, besides)
                self._folders.replace(one, {}, besides)

    def _examine(self, keys: Mapping[str, str], result: MirrorResult) -> None:
        """Warn, once per key, of bytes that the store could not preserve."""
        for raw, value in () if self.binary else keys.items():
            if ("\ufffd" in value or "\ufffd" in raw) and raw not in self._damaged:
                self._damaged.add(raw)
                reason = "not UTF-8 when it was put: the store has U+FFFD"
                result.log("warning", "value.damaged", key=raw, reason=reason)
