"""Changes of the catalogue, for one reader of some prefixes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from confpy.errors import StoreError
from confpy.events import LogEvent
from confpy.keys.prefixes import ancestors
from confpy.keys.snapshot import Changes


class CatalogStream:
    """What is new below some prefixes; merged until it is taken."""

    def __init__(self, prefixes: Iterable[str], ended: Callable[[CatalogStream], None]) -> None:
        self.prefixes = frozenset(prefixes)
        self._ended = ended
        self._changed = threading.Condition()
        self._pending: dict[str, Changes] = {}
        self._failure: StoreError | None = None
        self._closed = False

    def put(self, revision: int, news: Mapping[str, tuple[int, str | None]], notes: Sequence[LogEvent] = ()) -> None:
        """Add what changed as of a revision, and what is to be logged."""
        found: dict[str, dict[str, tuple[int, str | None]]] = {}
        for key, change in news.items():
            for prefix in ancestors(key):
                if prefix in self.prefixes:
                    found.setdefault(prefix, {})[key] = change
        if notes and not found:
            found[min(self.prefixes)] = {}  # any will do
        with self._changed:
            for prefix, changes in found.items():
                before = self._pending.get(prefix)
                keys = {**before.keys, **changes} if before is not None else changes
                said = (*before.notes, *notes) if before is not None else tuple(notes)
                self._pending[prefix] = Changes(prefix, revision, keys, notes=said)
                notes = ()
            self._changed.notify_all()

    def fail(self, error: StoreError) -> None:
        """Let the iteration raise ``error`` after the changes before it."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Changes]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after the changes before it."""
        while True:
            with self._changed:
                while not (self._pending or self._failure or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                pending, self._pending = self._pending, {}
                failure = self._failure
            yield from pending.values()
            if failure is not None and not pending:
                self.close()
                raise failure

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._ended(self)
