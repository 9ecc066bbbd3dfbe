"""A store in this process's memory: for tests, and for programs that embed confpy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from confpy.errors import WatchLost
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import covers, select
from confpy.keys.snapshot import Changes, Listing, PrefixStatus, Snapshot

if TYPE_CHECKING:
    from confpy.config.settings import Settings


class MemoryStore:
    """Keys with revisions and a history, as etcd has them. Every method may be called from any thread."""

    capabilities = Capabilities(binary_keys=True, watches=True)
    node = ""

    def __init__(
        self, keys: Mapping[str, str] | None = None, *, identity: str = "memory", history: int = 10_000
    ) -> None:
        """``keys`` have revision 1; ``history`` is the number of revisions that a late watch can resume from."""
        self.identity = identity
        """With another value, earlier watches and revisions are void."""
        self._changed = threading.Condition()
        self._revision = 1
        self._keys = {key: (1, value) for key, value in (keys or {}).items()}
        self._history: deque[tuple[int, dict[str, str | None]]] = deque()
        self._kept = history
        self._compacted = 1
        self._watches: set[_Position] = set()

    @classmethod
    def open(cls, settings: Settings) -> MemoryStore:  # noqa: ARG003 - there is nothing to set
        return cls()

    # --- writing -----------------------------------------------------------------------------------------------------

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

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
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

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus:
        with self._changed:
            chosen = select(prefixes, self._keys)
            return PrefixStatus(
                identity=self.identity,
                revision=self._revision,
                newest={prefix: max((rev for rev, _ in keys.values()), default=0) for prefix, keys in chosen.items()},
                counts={prefix: len(keys) for prefix, keys in chosen.items()},
            )

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> MemoryWatch:
        position = _Position(dict(cursors), identity or self.identity)
        with self._changed:
            self._check(position)
            self._watches.add(position)
        return MemoryWatch(self._follow(position), partial(self._end, position))

    def close(self) -> None:
        """End all watches. The keys stay, and the store can be read and watched again."""
        with self._changed:
            self._watches.clear()
            self._changed.notify_all()

    def _follow(self, position: _Position) -> Iterator[Changes]:
        while True:
            with self._changed:
                while position in self._watches and not (pending := self._pending(position)):
                    self._changed.wait()
                if position not in self._watches:
                    return
            yield from pending

    def _end(self, position: _Position) -> None:
        with self._changed:
            self._watches.discard(position)
            self._changed.notify_all()

    def _check(self, position: _Position) -> None:
        if position.identity != self.identity:
            raise WatchLost("the store is another one than before")
        for cursor in position.cursors.values():
            if not self._compacted <= cursor <= self._revision:
                raise WatchLost(f"the changes after revision {cursor} are not known any more")

    def _pending(self, position: _Position) -> list[Changes]:
        """Return the changes since, by prefix, and advance the cursors."""
        self._check(position)
        pending = []
        for prefix, cursor in position.cursors.items():
            # Revisions follow one another without a gap, so that the last ones can be counted off.
            unseen = islice(reversed(self._history), self._revision - cursor)
            keys: dict[str, tuple[int, str | None]] = {}
            for revision, done in reversed(list(unseen)):
                keys.update((key, (revision, value)) for key, value in done.items() if covers(prefix, key))
            position.cursors[prefix] = self._revision
            if keys:
                pending.append(Changes(prefix, max(revision for revision, _ in keys.values()), keys))
        return pending


@dataclass(eq=False, slots=True)
class _Position:
    """The position of a watch."""

    cursors: dict[str, int]
    identity: str


class MemoryWatch:
    """A stream of a ``MemoryStore``."""

    def __init__(self, changes: Iterator[Changes], end: Callable[[], None]) -> None:
        self._changes = changes
        self.close = end
        """End it. Any thread, any number of times."""

    def __iter__(self) -> Iterator[Changes]:
        return self._changes
