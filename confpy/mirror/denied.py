"""The prefixes that the store denies: since when, and when each is read again, alone. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from random import Random

from confpy.clock import NEVER, Backoff, Damping
from confpy.errors import StoreError
from confpy.frozen import define

LONGEST = 20.0
"""Seconds from one read of a denied prefix to the next, at most. With what a store's client remembers of the
permissions (etcd v3: five seconds) and the answer itself, a prefix that is granted again is back within 30."""


@define
class DeniedPrefix:
    """What the store said to one prefix."""

    error: StoreError
    since: float
    read_at: float
    attempts: int
    """How many times in a row it was denied."""
    damping: Damping


class DeniedPrefixes:
    """Those that are denied now."""

    def __init__(self, random: Random) -> None:
        self.parents: set[str] = set()
        """Prefixes that no resource reads, for watching several as one, and that the store denied since the last full
        read."""
        self._random = random
        self._all: dict[str, DeniedPrefix] = {}
        self._backoffs: dict[str, Backoff] = {}
        """Of what was denied since the last full read: one that comes and goes is read no more often for it."""

    def __contains__(self, prefix: str) -> bool:
        return prefix in self._all

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __getitem__(self, prefix: str) -> DeniedPrefix:
        return self._all[prefix]

    def keep(self, prefixes: Collection[str]) -> None:
        """Forget those of all other prefixes."""
        self._all = {prefix: one for prefix, one in self._all.items() if prefix in prefixes}

    def begin_anew(self) -> None:
        """Take it that all is about to be read: what is denied no more begins with short waits next time."""
        self._backoffs = {prefix: one for prefix, one in self._backoffs.items() if prefix in self._all}
        self.parents.clear()

    def read_at(self) -> float:
        """Return the monotonic time at which the next is read."""
        return min((one.read_at for one in self._all.values()), default=NEVER)

    def due(self, now: float) -> tuple[str, ...]:
        """Return those that are to be read again."""
        return tuple(prefix for prefix, one in self._all.items() if now >= one.read_at)

    def put_off(self, prefixes: Iterable[str], until: float) -> None:
        """Read these at another time: the store did not answer, or there is a reason to read at once."""
        for prefix in prefixes:
            if prefix in self._all:
                self._all[prefix].read_at = until

    def add(self, errors: Mapping[str, StoreError], now: float) -> list[list[str]]:
        """Take what was denied; returns the prefixes that are to be logged, those together that failed alike."""
        news: dict[object, list[str]] = {}
        waits: dict[int, float] = {}
        for prefix, error in errors.items():
            before = self._all.get(prefix)
            backoff = self._backoffs.setdefault(prefix, Backoff(self._random, cap=LONGEST))
            attempts = backoff.attempts
            # What was denied together is read together.
            wait = waits.setdefault(attempts, backoff.wait())
            since, damping = (now, Damping()) if before is None else (before.since, before.damping)
            self._all[prefix] = DeniedPrefix(error, since, now + wait, attempts + 1, damping)
            if damping.admits(error.kind, attempts + 1, now):
                news.setdefault(error.kind, []).append(prefix)
        return list(news.values())

    def end(self, prefixes: Collection[str]) -> float:
        """Forget these, which can be read again; returns since when they could not."""
        return min(self._all.pop(prefix).since for prefix in prefixes)
