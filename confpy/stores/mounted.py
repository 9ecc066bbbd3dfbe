"""A store that is mounted below the root of the one tree of keys: it speaks paths of that tree.

The mount stands before all that the store answers with, and is cut from what it is asked for. Keys at or below a mount
that lies deeper are hidden: another store has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from confpy.errors import ConfpyError, StoreError
from confpy.events import LogEvent, abbreviate
from confpy.frozen import replace
from confpy.keys.capabilities import Capabilities
from confpy.keys.mounts import Mounts
from confpy.keys.prefixes import ROOT, Lists, covers, normalise
from confpy.keys.snapshot import Changes, Invalidated, Listing, PrefixStatus, Snapshot
from confpy.stores import OpenStore, WatchStream

Value = TypeVar("Value")
Failure = TypeVar("Failure", bound=ConfpyError)

UNROOTED = "/./"
"""Stands between the mount and a raw key without a leading slash."""


class MountedStore:
    """A ``Store`` over a store."""

    def __init__(self, store: OpenStore, mount: str, hidden: Sequence[str] = ()) -> None:
        """``mount``: a path without a slash at its end; empty: the root. ``hidden``: the mounts below it."""
        self._store = store
        self._mount = mount
        self._hidden = Mounts(hidden)
        self._hides = bool(hidden)
        self._found_hidden = False
        """It has keys where another store is mounted: what it counts is not what is seen of it."""
        self.capabilities = self._mounted_capabilities(store.capabilities)

    def _mounted_capabilities(self, of: Capabilities) -> Capabilities:
        if not self._mount:
            return of
        lists, spells = of.lists, of.spells
        mounted: Lists | None = None
        if lists is not None:
            brings = lists

            def mounted(prefix: str, key: str) -> bool:
                if not covers(self._mount, prefix):
                    return covers(prefix, key)
                return covers(self._mount, key) and brings(self._inner(prefix), self._inner(key))

        def spell(path: str) -> str:
            return self._outer(spells(self._inner(path))) if covers(self._mount, path) else path

        return replace(of, lists=mounted, spells=str if spells is str else spell)

    @property
    def node(self) -> str:
        return self._store.node

    # --- paths -------------------------------------------------------------------------------------------------------

    def _outer(self, raw: str) -> str:
        """Return a raw key, a prefix or a path of the store in the one tree."""
        if not self._mount:
            return raw
        if raw == ROOT:
            return self._mount
        return self._mount + raw if raw.startswith(ROOT) else f"{self._mount}{UNROOTED}{raw}"

    def _inner(self, raw: str) -> str:
        """Return what the store calls a raw key of the tree that is at or below its mount."""
        if not self._mount:
            return raw
        below = raw[len(self._mount) :]
        return below.removeprefix(UNROOTED) if below.startswith(UNROOTED) else below or ROOT

    def _is_hidden(self, outer: str) -> bool:
        if self._hides and self._hidden.point_of(normalise(outer)):
            self._found_hidden = True
            return True
        return False

    def _keys(self, keys: Mapping[str, Value]) -> dict[str, Value]:
        """Return raw keys, or paths, of the store in the one tree, without those that are hidden."""
        if not self._hides:
            return {self._outer(raw): value for raw, value in keys.items()}
        return {outer: value for raw, value in keys.items() if not self._is_hidden(outer := self._outer(raw))}

    def _error(self, error: Failure) -> Failure:
        """Return an error with the places that it names in the one tree."""
        named = [name for name in ("prefix", "key") if name in error.where] if self._mount else []
        places = {name: self._outer(str(error.where[name])) for name in named}
        return error.copy(type(error), **places) if places else error

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return what to read for a path of the tree that is at or below the mount."""
        if not self._mount:
            return self._store.prefixes(path)
        return tuple(map(self._outer, self._store.prefixes(self._inner(path))))

    # --- the store ---------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        try:
            snapshot = self._store.read([self._inner(one) for one in prefixes], [self._inner(one) for one in counted])
        except StoreError as error:
            raise self._error(error)  # noqa: B904 - it is the same
        had_hidden = self._found_hidden
        listings = {self._outer(prefix): self._listing(listing) for prefix, listing in snapshot.listings.items()}
        counts = {self._outer(prefix): count for prefix, count in snapshot.counts.items()}
        notes = snapshot.notes
        if self._found_hidden and not had_hidden:
            hint = "rename the mount, or move the keys: templates see those of the mounted store"
            fields = {"mount": abbreviate(self._hidden.points), "hint": hint}
            notes = (*notes, LogEvent("warning", "keys.hidden", fields))
        return replace(snapshot, listings=listings, counts=counts, notes=notes)

    def _listing(self, listing: Listing) -> Listing:
        if listing.error is not None:
            return replace(listing, error=self._error(listing.error))
        folders = frozenset(self._keys(dict.fromkeys(listing.folders)))
        return replace(listing, keys=self._keys(listing.keys), folders=folders)

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        if self._found_hidden:
            return None
        try:
            status = self._store.poll([self._inner(one) for one in prefixes])
        except StoreError as error:
            raise self._error(error)  # noqa: B904 - it is the same
        if status is None or not self._mount:
            return status
        newest = {self._outer(prefix): revision for prefix, revision in status.newest.items()}
        counts = {self._outer(prefix): count for prefix, count in status.counts.items()}
        return replace(status, newest=newest, counts=counts)

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> MountedWatch:
        try:
            of = {self._inner(prefix): cursor for prefix, cursor in cursors.items()}
            return MountedWatch(self, self._store.watch(of, identity))
        except StoreError as error:
            raise self._error(error)  # noqa: B904 - it is the same

    def changes(self, changes: Changes | Invalidated) -> Changes | Invalidated:
        """Return changes of the store in the one tree; where all of it is hidden, only its revision."""
        if isinstance(changes, Invalidated):
            return changes
        return Changes(
            self._outer(changes.prefix),
            changes.revision,
            self._keys(changes.keys),
            {self._outer(path): revision for path, revision in changes.deleted.items()},
            self._keys(changes.folders),
            changes.notes,
        )

    def failure(self, error: StoreError) -> StoreError:
        """Return an error of a stream with its places in the one tree."""
        return self._error(error)

    def close(self) -> None:
        self._store.close()


class MountedWatch:
    """A stream of a ``MountedStore``."""

    def __init__(self, store: MountedStore, stream: WatchStream) -> None:
        self._store = store
        self._stream = stream

    def __iter__(self) -> Iterator[Changes | Invalidated]:
        try:
            for changes in self._stream:
                yield self._store.changes(changes)
        except StoreError as error:
            raise self._store.failure(error)  # noqa: B904 - it is the same

    def close(self) -> None:
        self._stream.close()
