"""The prefixes that the store denies: since when, and when each is read again, alone. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from random import Random

from confpy.clock import NEVER, Backoff, Damping
from confpy.errors import StoreError
from confpy.frozen import define
from confpy.keys.ordered import OrderedKeys

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
        self._all: OrderedKeys[DeniedPrefix] = OrderedKeys()
        self._read_at: float | None = NEVER
        """When the next is read; None if that has to be found out."""
        self._backoffs: dict[str, Backoff] = {}
        """Of what was denied since the last full read: one that comes and goes is read no more often for it."""

    def __contains__(self, prefix: str) -> bool:
        return prefix in self._all.values

    def __iter__(self) -> Iterator[str]:
        return iter(self._all.values)

    def __getitem__(self, prefix: str) -> DeniedPrefix:
        return self._all.values[prefix]

    def covered(self, prefix: str) -> list[str]:
        """Return those that are the prefix or lie below it."""
        return self._all.covered(prefix)

    def keep(self, prefixes: Collection[str]) -> None:
        """Forget those of all other prefixes."""
        self._change({}, [prefix for prefix in self if prefix not in prefixes])

    def _change(self, put: Mapping[str, DeniedPrefix], gone: Collection[str] = ()) -> None:
        self._all.apply(put, gone)
        self._read_at = None

    def begin_anew(self) -> None:
        """Take it that all is about to be read: what is denied no more begins with short waits next time."""
        self._backoffs = {prefix: one for prefix, one in self._backoffs.items() if prefix in self}
        self.parents.clear()

    def read_at(self) -> float:
        """Return the monotonic time at which the next is read."""
        if self._read_at is None:
            self._read_at = min((one.read_at for one in self._all.values.values()), default=NEVER)
        return self._read_at

    def due(self, now: float) -> tuple[str, ...]:
        """Return those that are to be read again."""
        return tuple(prefix for prefix, one in self._all.values.items() if now >= one.read_at)

    def put_off(self, prefixes: Iterable[str], until: float) -> None:
        """Read these at another time: the store did not answer, or there is a reason to read at once."""
        for prefix in prefixes if self._all else ():
            if prefix in self:
                self[prefix].read_at = until
        self._read_at = None

    def add(self, errors: Mapping[str, StoreError], now: float) -> list[list[str]]:
        """Take what was denied; returns the prefixes that are to be logged, those together that failed alike."""
        news: dict[object, list[str]] = {}
        waits: dict[int, float] = {}
        found: dict[str, DeniedPrefix] = {}
        for prefix, error in errors.items():
            before = self._all.values.get(prefix)
            backoff = self._backoffs.setdefault(prefix, Backoff(self._random, cap=LONGEST))
            attempts = backoff.attempts
            # What was denied together is read together.
            wait = waits.setdefault(attempts, backoff.wait())
            since, damping = (now, Damping()) if before is None else (before.since, before.damping)
            found[prefix] = DeniedPrefix(error, since, now + wait, attempts + 1, damping)
            if damping.admits(error.kind, attempts + 1, now):
                news.setdefault(error.kind, []).append(prefix)
        self._change(found)
        return list(news.values())

    def end(self, prefixes: Collection[str]) -> float:
        """Forget these, which can be read again; returns since when they could not."""
        since = min(self[prefix].since for prefix in prefixes)
        self._change({}, prefixes)
        return since
