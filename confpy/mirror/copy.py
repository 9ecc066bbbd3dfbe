"""The local copy of a store's keys, and up to which revision each prefix is in it. Pure.

Order holds within one watch only, so each prefix has a revision of its own (its *position*), and a change at or below
it has been seen already: that is how repeats are dropped when two streams overlap or one is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from confpy.keys.prefixes import Lists, ancestors, are_nested, begins, covers, text_parent
from confpy.keys.snapshot import Changes, Listing
from confpy.keys.tree import KeyTree
from confpy.mirror.positions import Positions
from confpy.mirror.result import MirrorResult


class LocalCopy:
    """Keys, and the prefixes that they were read for."""

    def __init__(self, lists: Lists | None = None, *, binary: bool = True) -> None:
        """``lists``: as ``View`` takes it. ``binary``: the store preserves any bytes."""
        self.tree = KeyTree()
        self.lists = lists or covers
        self.positions = Positions(self.lists)
        self.binary = binary
        self._folders = KeyTree()
        """Paths that exist, even if they have no key; where a store has no folders, none."""
        self._damaged: set[str] = set()
        """Raw keys that lost bytes in the store, and were logged."""

    def holds(self, prefix: str) -> bool:
        """Say whether a prefix was read, and the store did not deny it."""
        return self.positions.find(prefix) is not None

    def is_missing(self, path: str) -> bool:
        """Say whether there is neither a key nor a folder at or below a path."""
        return not self.tree.count(path) and not self._folders.count(path)

    def begins_none(self, text: str) -> bool:
        """Say whether no key begins with a text."""
        return not any(begins(text, path) for path, _ in self.tree.items(text_parent(text)))

    def revision(self, prefixes: Iterable[str]) -> int:
        """Return the newest revision that is in the tree for these prefixes, 0 where there is none."""
        found = map(self.positions.find, prefixes)
        return max((self.positions[prefix] for prefix in found if prefix is not None), default=0)

    def below(self, heads: AbstractSet[str]) -> dict[str, list[str]]:
        """Return which read prefixes each of the heads brings."""
        found = {
            head: [prefix for prefix in self.positions.covered(head) if self.lists(head, prefix)] for head in heads
        }
        return {head: prefixes for head, prefixes in found.items() if prefixes}

    # --- what is wanted ----------------------------------------------------------------------------------------------

    def keep(self, wanted: Sequence[str]) -> None:
        """Keep the positions of the wanted prefixes and of what they bring; forget all others."""
        found = {prefix: self.positions.find(prefix) for prefix in wanted}
        inherited = {prefix: self.positions[one] for prefix, one in found.items() if one is not None and one != prefix}
        self.positions.set(inherited)
        self.positions.forget(
            [
                prefix
                for prefix in self.positions
                if not any(one in found and self.lists(one, prefix) for one in ancestors(prefix))
            ]
        )

    def empty(self, prefix: str, besides: Sequence[str]) -> None:
        """Remove what the prefix covers, but for what lies at or below a prefix of ``besides``."""
        self.tree.replace(prefix, {}, besides)
        self._folders.replace(prefix, {}, besides)

    def start_over(self) -> None:
        """Forget all positions: they mean nothing in the store that answers now."""
        self.positions.clear()

    # --- what the store says -----------------------------------------------------------------------------------------

    def replace(self, listings: Mapping[str, Listing], result: MirrorResult) -> None:
        """Put in what was read, except where the copy is newer than the read."""
        self.positions.set({prefix: listing.revision for prefix, listing in listings.items()})
        besides = self._besides(listings) if len(self.positions) > len(listings) or are_nested(listings) else {}
        for listing in listings.values() if not self.binary else ():
            self._examine(listing.keys, result)
        result.changed |= self.tree.replace_all({prefix: one.keys for prefix, one in listings.items()}, besides)
        if self._folders or any(one.folders for one in listings.values()):
            folders = {prefix: dict.fromkeys(one.folders, "") for prefix, one in listings.items()}
            self._folders.replace_all(folders, besides)

    def _besides(self, listings: Mapping[str, Listing]) -> dict[str, list[str]]:
        """Return for each listing the prefixes below its own of which it says nothing, or nothing new.

        The positions of the other ones become those of the listing.
        """
        besides: dict[str, list[str]] = {}
        read: dict[str, int] = {}
        for above in sorted(listings, key=len):
            revision = listings[above].revision
            for prefix in self.positions.covered(above):
                if prefix == above:
                    continue
                if self.positions[prefix] > revision or not self.lists(above, prefix):
                    besides.setdefault(above, []).append(prefix)
                else:
                    # It stays a position of its own: a stream that is about to be replaced may still move it on.
                    read[prefix] = revision
        self.positions.set(read)
        return besides

    def apply(self, changes: Changes, result: MirrorResult) -> None:
        """Apply what one watch brought, except what the copy has already; its notes are logged."""
        result.actions += changes.notes
        for path, revision in changes.deleted.items():
            self._delete(path, revision, result)
        put, deleted = {}, []
        for raw, (revision, value) in changes.keys.items():
            prefix = self.positions.find(raw)
            # A key that is not wanted, below a prefix that is watched for several, or a repeat.
            if prefix is None or revision <= self.positions[prefix]:
                continue
            if value is None:
                deleted.append(raw)
            else:
                put[raw] = value
        if not self.binary:
            self._examine(put, result)
        result.changed |= self.tree.apply(put, deleted)
        for path, revision in changes.folders.items():
            above = self.positions.find(path)
            if above is not None and revision > self.positions[above] and self._folders.set(path, ""):
                result.changed.add(path)
        self.positions.advance(changes.prefix, changes.revision)

    def _delete(self, path: str, revision: int, result: MirrorResult) -> None:
        """Remove all at or below a path, except what is known from after that revision."""
        below = [prefix for prefix in self.positions.covered(path) if prefix != path]
        for one in (path, *below):
            above = self.positions.find(one)
            if above is not None and revision > self.positions[above]:
                besides = [prefix for prefix in below if prefix != one and covers(one, prefix)]
                result.changed |= self.tree.replace(one, {}, besides)
                self._folders.replace(one, {}, besides)

    def _examine(self, keys: Mapping[str, str], result: MirrorResult) -> None:
        """Warn, once per key, of bytes that the store could not preserve."""
        for raw, value in keys.items():
            if ("\ufffd" in value or "\ufffd" in raw) and raw not in self._damaged:
                self._damaged.add(raw)
                reason = "not UTF-8 when it was put: the store has U+FFFD"
                result.log("warning", "value.damaged", key=raw, reason=reason)
