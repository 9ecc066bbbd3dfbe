"""A stream of what changed: from the history of the store's keys, until the engine's events end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from confpy.keys.snapshot import Changes, Invalidated
from confpy.stores.docker.following import Following
from confpy.stores.memory import MemoryStore


class DockerStream:
    """Changes after some cursors. Several streams share one ``Following``."""

    def __init__(
        self,
        keys: MemoryStore,
        cursors: Mapping[str, int],
        following: Following,
        noted: Callable[[], int],
        ended: Callable[[DockerStream], None],
    ) -> None:
        """``noted``: how many lines about containers there were so far; raises ``WatchLost``."""
        self._keys = keys
        self._cursors = dict(cursors)
        self.following = following
        self._noted_by = noted
        self._noted = noted()
        self._ended = ended
        self._closed = False
        self._lock = threading.Lock()
        self._watch = keys.watch(cursors)

    def __iter__(self) -> Iterator[Changes | Invalidated]:
        """Yield until ``close``; raises the error that ended the engine's events."""
        while True:
            for changes in self._watch:
                self._cursors[changes.prefix] = max(changes.revision, self._cursors[changes.prefix])
                yield changes
            with self._lock:
                if self._closed:
                    return
                if (failure := self.following.failure) is None:
                    # Before it is asked what woke this: whatever comes later ends this watch, too.
                    self._watch = self._keys.watch(self._cursors)
            if failure is not None:
                raise failure
            if (noted := self._noted_by()) != self._noted:
                # A line goes out with a read.
                self._noted = noted
                yield Invalidated()

    def wake(self) -> None:
        """Let the iteration look at what else than keys has changed."""
        with self._lock:
            self._watch.close()

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._closed = True
        self.wake()
        self._ended(self)
