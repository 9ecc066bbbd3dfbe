"""A store with revisions, as far as the mirror can see it, and the streams that it has open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random

from confpy.errors import AccessDenied
from confpy.keys.prefixes import covers
from confpy.keys.snapshot import Listing, PrefixStatus, Snapshot


class Server:
    """An etcd as far as the mirror can see it."""

    def __init__(self) -> None:
        self.incarnation = 0
        """How often it came back from a backup."""
        self.identity = "a"
        self.revision = 1
        self.compacted = 1
        self.keys: dict[str, tuple[int, str]] = {}
        self.history: list[tuple[int, str, str | None]] = []
        self.drops: set[int] = set()
        """The revisions in which a folder went, with all that it held."""
        self.given: set[tuple[str, str]] = set()
        """All keys that it ever had, each with its values."""
        self.denied: set[str] = set()
        """What may not be read: no prefix that has a part in it is answered."""

    def put(self, key: str) -> None:
        self.revision += 1
        value = f"{self.incarnation}:{self.revision}"
        self.keys[key] = (self.revision, value)
        self.history.append((self.revision, key, value))
        self.given.add((key, value))

    def delete(self, key: str) -> None:
        if key in self.keys:
            self.revision += 1
            del self.keys[key]
            self.history.append((self.revision, key, None))

    def drop(self, folder: str) -> None:
        self.revision += 1
        self.drops.add(self.revision)
        self.keys = {key: found for key, found in self.keys.items() if not covers(folder, key)}
        self.history.append((self.revision, folder, None))

    def restore(self, random: Random, *, other_identity: bool) -> None:
        """Come back from an older backup: some of the newest history never was."""
        left = random.randint(0, len(self.history))
        self.incarnation += 1
        self.history = self.history[:left]
        self.revision = self.history[-1][0] if self.history else 1
        self.compacted = min(self.compacted, self.revision)
        self.keys = {}
        for revision, key, value in self.history:
            if value is not None:
                self.keys[key] = (revision, value)
            else:
                self.keys.pop(key, None)
                if revision in self.drops:
                    self.keys = {one: found for one, found in self.keys.items() if not covers(key, one)}
        self.drops = {revision for revision in self.drops if revision <= self.revision}
        if other_identity:
            self.identity += "'"

    def denial(self, prefix: str) -> AccessDenied | None:
        """Return what the server says to who reads the prefix, None where it gives it."""
        if any(covers(prefix, one) or covers(one, prefix) for one in self.denied):
            return AccessDenied("permission denied", prefix=prefix)
        return None

    def below(self, prefix: str) -> Iterator[tuple[str, tuple[int, str]]]:
        return ((key, found) for key, found in self.keys.items() if covers(prefix, key))

    def snapshot(self, prefixes: Iterable[str], counted: Iterable[str] = ()) -> Snapshot:
        listings = {
            prefix: Listing(self.revision, {key: value for key, (_, value) in self.below(prefix)})
            if self.denial(prefix) is None
            else Listing(0, error=self.denial(prefix))
            for prefix in prefixes
        }
        return Snapshot(listings, self.identity, {cover: len(list(self.below(cover))) for cover in counted})

    def status(self, prefixes: Iterable[str]) -> PrefixStatus:
        """Answer; raises ``AccessDenied`` for all where one is denied, as etcd does."""
        for prefix in prefixes:
            if (denial := self.denial(prefix)) is not None:
                raise denial
        newest = {prefix: max((revision for _, (revision, _) in self.below(prefix)), default=0) for prefix in prefixes}
        counts = {prefix: len(list(self.below(prefix))) for prefix in prefixes}
        return PrefixStatus(self.identity, self.revision, newest, counts)


class Stream:
    """One stream: each of its watches at its own place in the history."""

    def __init__(self, number: int, cursors: Mapping[str, int], incarnation: int) -> None:
        self.number = number
        self.places = dict(cursors)
        self.incarnation = incarnation
        self.stalled = False
        self.idle = False
        """It waits for the store to change."""
