"""A read in flight: what it was sent for, and what streams brought meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from confpy.frozen import define, field
from confpy.keys.prefixes import covers
from confpy.keys.snapshot import Changes, Snapshot

Change = TypeVar("Change")


@define
class _Merged:
    """What one watch brought: the last word on each key."""

    revision: int = 0
    keys: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def add(self, changes: Changes) -> None:
        if changes.deleted:
            self.keys = _without(self.keys, changes.deleted)
            self.folders = _without(self.folders, changes.deleted)
        self.revision = changes.revision
        self.keys |= changes.keys
        self.deleted |= changes.deleted
        self.folders |= changes.folders


@define
class Reading:
    """A read that was sent, and is not answered yet."""

    number: int
    prefixes: tuple[str, ...]
    since: Mapping[str, int]
    """The positions of its prefixes when it was sent: a linearizable answer is not older."""
    newest: int
    """The newest position of all then."""
    alone: bool
    """It is about denied prefixes only, and about nothing that the others need."""
    began: float
    """Monotonic time."""
    changes: dict[str, _Merged] = field(default_factory=dict)
    """Per watch, what came meanwhile."""

    def keep(self, changes: Changes) -> None:
        """Preserve changes, to be replayed over the answer."""
        merged = self.changes.get(changes.prefix)
        if merged is None:
            merged = self.changes[changes.prefix] = _Merged()
        merged.add(changes)

    def kept(self) -> Iterator[Changes]:
        """Yield what was preserved, one value per watch."""
        for prefix, one in self.changes.items():
            yield Changes(prefix, one.revision, one.keys, one.deleted, one.folders)

    def contradicts(self, snapshot: Snapshot, identity: str, floor: int) -> str:
        """Return why the answer is not from the store, or the state, that was read so far; empty where it may be.

        ``identity``: the store's so far. ``floor``: its revision when confpy ended.
        """
        if identity and snapshot.identity and snapshot.identity != identity:
            return "it is another store now"
        return "its revision went back" if self._went_back(snapshot, floor) else ""

    def _went_back(self, snapshot: Snapshot, floor: int) -> bool:
        listings = {prefix: listing for prefix, listing in snapshot.listings.items() if listing.error is None}
        if snapshot.identity:
            # It counts all its changes together: what it said of one prefix binds it for all.
            newest = max(floor, self.newest)
            return any(listing.revision < newest for listing in listings.values())
        return any(
            # Consul's index of a prefix without keys is that of their deletion, or that of the newest change of all:
            # one below what it said before is another Consul's.
            listing.revision < max(self.since.get(prefix, 0), 0 if listing.keys else floor)
            for prefix, listing in listings.items()
        )


def _without(changes: Mapping[str, Change], deleted: Iterable[str]) -> dict[str, Change]:
    """Return what is not at or below a deleted path."""
    return {key: one for key, one in changes.items() if not any(covers(path, key) for path in deleted)}
