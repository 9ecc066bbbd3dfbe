"""What a process knows of a store's keys, with revisions and a history: watches of it bring what is new.

For stores that have no revisions of their own: whoever reads or follows them updates the replica, and the differences
get revisions here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from confpy.errors import StoreError, WatchLost
from confpy.keys.prefixes import covers, select
from confpy.keys.snapshot import Changes, Listing, PrefixStatus, Snapshot

HISTORY = 10_000
"""Revisions that a late watch can resume from."""


class Replica:
    """Keys with revisions and a history, as etcd has them. Every method may be called from any thread."""

    def __init__(self, *, identity: str = "", revision: int = 0, history: int = HISTORY) -> None:
        self.identity = identity
        """With another value, earlier watches and revisions are void."""
        self._changed = threading.Condition()
        self._revision = self._compacted = revision
        self._keys: dict[str, tuple[int, str]] = {}
        self._history: deque[tuple[int, Mapping[str, str | None]]] = deque()
        self._kept = history
        self._watches: dict[ReplicaWatch, _Position] = {}

    @property
    def revision(self) -> int:
        """The newest revision of any key."""
        return self._revision

    # --- updating ----------------------------------------------------------------------------------------------------

    def update(self, keys: Mapping[str, str | None], *, at_least: int = 0, again: bool = False) -> int:
        """Put keys, and remove those whose value is None, all in one revision; return the newest revision.

        ``at_least``: the revision is not below this. ``again``: a key that has its value already counts as changed.
        """
        with self._changed:
            new = {key: value for key, value in keys.items() if again or self._get(key) != value}
            new = {key: value for key, value in new.items() if value is not None or key in self._keys}
            if not new:
                return self._revision
            self._revision = max(self._revision + 1, at_least)
            for key, value in new.items():
                if value is None:
                    del self._keys[key]
                else:
                    self._keys[key] = (self._revision, value)
            self._history.append((self._revision, new))
            if len(self._history) > self._kept:
                self._compacted = self._history.popleft()[0]
            self._changed.notify_all()
            return self._revision

    def _get(self, key: str) -> str | None:
        found = self._keys.get(key)
        return None if found is None else found[1]

    def advance(self, revision: int) -> None:
        """Take it that nothing else has changed up to a revision."""
        with self._changed:
            self._revision = max(self._revision, revision)

    def compact(self) -> None:
        """Forget the history: a watch that has not seen all of it is lost."""
        with self._changed:
            self._history.clear()
            self._compacted = self._revision
            self._changed.notify_all()

    def start_over(self, *, identity: str = "", revision: int = 0) -> None:
        """Forget everything: another store answers. Its watches are lost."""
        with self._changed:
            self.identity = identity
            self._keys.clear()
            self._history.clear()
            self._revision = self._compacted = revision
            for position in self._watches.values():
                position.failure = WatchLost("the store is another one than before")
            self._changed.notify_all()

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        """Return the keys of all prefixes, at one revision."""
        with self._changed:
            chosen = select({*prefixes, *counted}, self._keys)
            return Snapshot(
                listings={
                    prefix: Listing(self._revision, {key: value for key, (_, value) in chosen[prefix].items()})
                    for prefix in prefixes
                },
                identity=self.identity,
                counts={prefix: len(chosen[prefix]) for prefix in counted},
            )

    def keys(self, prefixes: Sequence[str]) -> list[str]:
        """Return the raw keys of all prefixes."""
        with self._changed:
            return [key for found in select(prefixes, self._keys).values() for key in found]

    def status(self, prefixes: Sequence[str]) -> PrefixStatus:
        """Return the newest revision and the number of keys of each prefix."""
        with self._changed:
            chosen = select(prefixes, self._keys)
            return PrefixStatus(
                identity=self.identity,
                revision=self._revision,
                newest={prefix: max((rev for rev, _ in keys.values()), default=0) for prefix, keys in chosen.items()},
                counts={prefix: len(keys) for prefix, keys in chosen.items()},
            )

    # --- watching ----------------------------------------------------------------------------------------------------

    def watch(
        self, cursors: Mapping[str, int], identity: str = "", on_close: Callable[[], object] = lambda: None
    ) -> ReplicaWatch:
        """Follow each prefix from the revision after its cursor; raises ``WatchLost``."""
        position = _Position(dict(cursors), identity or self.identity)
        with self._changed:
            self._check(position)
            watch = ReplicaWatch(self._follow(position), partial(self._end, position, on_close), position)
            self._watches[watch] = position
        return watch

    def fail(self, watch: ReplicaWatch, error: StoreError) -> None:
        """Let the iteration of a watch raise ``error`` after the changes before it."""
        with self._changed:
            watch.position.failure = watch.position.failure or error
            self._changed.notify_all()

    def close(self) -> None:
        """End all watches. The keys stay, and can be read and watched again."""
        with self._changed:
            positions = list(self._watches.values())
            self._watches.clear()
            for position in positions:
                position.closed = True
            self._changed.notify_all()

    def _follow(self, position: _Position) -> Iterator[Changes]:
        while True:
            with self._changed:
                while not (position.closed or (pending := self._pending(position)) or position.failure):
                    self._changed.wait()
                if position.closed:
                    return
                failure = position.failure
            yield from pending
            if failure is not None and not pending:
                raise failure

    def _end(self, position: _Position, on_close: Callable[[], object]) -> None:
        with self._changed:
            position.closed = True
            self._watches = {watch: one for watch, one in self._watches.items() if one is not position}
            self._changed.notify_all()
        on_close()

    def _check(self, position: _Position) -> None:
        if position.identity != self.identity:
            raise WatchLost("the store is another one than before")
        for cursor in position.cursors.values():
            if not self._compacted <= cursor <= self._revision:
                raise WatchLost(f"the changes after revision {cursor} are not known any more")

    def _pending(self, position: _Position) -> list[Changes]:
        """Return the changes since, by prefix, and advance the cursors."""
        if isinstance(position.failure, WatchLost):
            return []
        self._check(position)
        oldest = min(position.cursors.values(), default=self._revision)
        unseen = []
        for revision, new in reversed(self._history):
            if revision <= oldest:
                break
            unseen.append((revision, new))
        pending = []
        for prefix, cursor in position.cursors.items() if unseen else ():
            keys: dict[str, tuple[int, str | None]] = {}
            for revision, new in reversed(unseen):
                if revision > cursor:
                    keys.update((key, (revision, value)) for key, value in new.items() if covers(prefix, key))
            position.cursors[prefix] = self._revision
            if keys:
                pending.append(Changes(prefix, max(revision for revision, _ in keys.values()), keys))
        return pending


@dataclass(eq=False, slots=True)
class _Position:
    """The position of a watch."""

    cursors: dict[str, int]
    identity: str
    closed: bool = False
    failure: StoreError | None = None


class ReplicaWatch:
    """A stream of a ``Replica``."""

    def __init__(self, changes: Iterator[Changes], end: Callable[[], None], position: _Position) -> None:
        self._changes = changes
        self.position = position
        self.close = end
        """End it. Any thread, any number of times."""

    def __iter__(self) -> Iterator[Changes]:
        return self._changes
