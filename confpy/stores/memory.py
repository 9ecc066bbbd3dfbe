"""A store in this process's memory: for tests, and for programs that embed confpy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from confpy.errors import StoreError
from confpy.keytree import covers as prefix_covers
from confpy.keytree import select
from confpy.model import Changes, Listing, Snapshot, Standing
from confpy.stores import Limits, WatchLost

if TYPE_CHECKING:
    from confpy.settings import Settings


class MemoryStore:
    """Keys with revisions and a history, as etcd has them. Every method may be called from any thread."""

    limits = Limits(watches=True)

    def __init__(
        self, keys: Mapping[str, str] | None = None, *, identity: str = "memory", history: int = 10_000
    ) -> None:
        """``keys`` are there at revision 1; ``history`` is how many revisions a late watch can still resume from."""
        self.identity = identity
        """Give it another value, and watches and revisions of before no longer hold."""
        self._changed = threading.Condition()
        self._revision = 1
        self._keys = {key: (1, value) for key, value in (keys or {}).items()}
        self._history: deque[tuple[int, dict[str, str | None]]] = deque()
        self._kept = history
        self._compacted = 1
        self._closed = False

    @classmethod
    def open(cls, settings: Settings) -> MemoryStore:  # noqa: ARG003 - there is nothing to set
        return cls()

    # --- for those who fill it ---------------------------------------------------------------------------------------

    def set(self, key: str, value: str) -> int:
        """Put one key; return the revision."""
        return self.update({key: value})

    def delete(self, key: str) -> int:
        """Remove one key; return the revision."""
        return self.update({key: None})

    def update(self, keys: Mapping[str, str | None]) -> int:
        """Put keys, and remove those whose value is None, all in one revision; return it."""
        with self._changed:
            done = {key: value for key, value in keys.items() if value is not None or key in self._keys}
            if not done:
                return self._revision
            self._revision += 1
            for key, value in done.items():
                if value is None:
                    del self._keys[key]
                else:
                    self._keys[key] = (self._revision, value)
            self._history.append((self._revision, done))
            if len(self._history) > self._kept:
                self._compacted = self._history.popleft()[0]
            self._changed.notify_all()
            return self._revision

    def compact(self) -> None:
        """Forget the history: a watch that has not seen all of it is lost."""
        with self._changed:
            self._history.clear()
            self._compacted = self._revision
            self._changed.notify_all()

    # --- the store ---------------------------------------------------------------------------------------------------

    def prefixes(self, path: str) -> tuple[str, ...]:
        return (path,) if path.startswith("/") else (f"/{path}", path)

    def read(self, prefixes: Sequence[str], covers: Sequence[str] = ()) -> Snapshot:
        with self._changed:
            self._check_open()
            chosen = select({*prefixes, *covers}, self._keys)
            return Snapshot(
                listings={
                    prefix: Listing(self._revision, {key: value for key, (_, value) in chosen[prefix].items()})
                    for prefix in prefixes
                },
                identity=self.identity,
                counts={cover: len(chosen[cover]) for cover in covers},
            )

    def ask(self, prefixes: Sequence[str]) -> Standing:
        with self._changed:
            self._check_open()
            chosen = select(prefixes, self._keys)
            return Standing(
                identity=self.identity,
                revision=self._revision,
                newest={prefix: max((rev for rev, _ in keys.values()), default=0) for prefix, keys in chosen.items()},
                counts={prefix: len(keys) for prefix, keys in chosen.items()},
            )

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> MemoryWatch:
        with self._changed:
            self._check_open()
            return MemoryWatch(self, cursors, identity or self.identity)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")


class MemoryWatch:
    """A stream of a ``MemoryStore``: a cursor for each prefix, and what lies behind it in the history."""

    def __init__(self, store: MemoryStore, cursors: Mapping[str, int], identity: str) -> None:
        self._store = store
        self._cursors = dict(cursors)
        self._identity = identity
        self._closed = False
        self._check()

    def __iter__(self) -> Iterator[Changes]:
        changed = self._store._changed  # noqa: SLF001 - the store's other half
        while True:
            with changed:
                while not (self._over() or (pending := self._pending())):
                    changed.wait()
                if self._over():
                    return
            yield from pending

    def close(self) -> None:
        with self._store._changed:  # noqa: SLF001
            self._closed = True
            self._store._changed.notify_all()  # noqa: SLF001

    def _over(self) -> bool:
        return self._closed or self._store._closed  # noqa: SLF001

    def _check(self) -> None:
        store = self._store
        if self._identity != store.identity:
            raise WatchLost("the store is another one than before")
        for cursor in self._cursors.values():
            if not store._compacted <= cursor <= store._revision:  # noqa: SLF001
                raise WatchLost(f"the changes after revision {cursor} are not known any more")

    def _pending(self) -> list[Changes]:
        self._check()
        pending = []
        for prefix, cursor in self._cursors.items():
            keys = {
                key: (revision, value)
                for revision, done in self._since(cursor)
                for key, value in done.items()
                if prefix_covers(prefix, key)
            }
            self._cursors[prefix] = self._store._revision  # noqa: SLF001
            if keys:
                pending.append(Changes(prefix, max(revision for revision, _ in keys.values()), keys))
        return pending

    def _since(self, cursor: int) -> list[tuple[int, dict[str, str | None]]]:
        """Return the history after the cursor: revisions follow one another without gaps."""
        history = self._store._history  # noqa: SLF001
        unseen = self._store._revision - cursor  # noqa: SLF001
        return [history[position] for position in range(len(history) - unseen, len(history))]
