"""What the store refuses: which prefixes, since when, and when each is asked for again, alone. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

from confpy.clock import NEVER, Backoff, Damping
from confpy.errors import StoreError

LONGEST = 20.0
"""Seconds from one question for a refused prefix to the next, at most. With what a store's client remembers of the
permissions (etcd v3: five seconds) and the answer itself, a prefix that is granted again is back within 30."""


@dataclass(slots=True)
class DeniedPrefix:
    """What the store said to one prefix."""

    error: StoreError
    since: float
    ask_at: float
    attempts: int
    """How many times in a row it was refused."""
    damping: Damping


class DeniedPrefixes:
    """Those that hold now, by prefix."""

    def __init__(self, random: Random) -> None:
        self.barred: set[str] = set()
        """Covers that nobody reads, and that the store refused since the last full read."""
        self._random = random
        self._all: dict[str, DeniedPrefix] = {}
        self._backoffs: dict[str, Backoff] = {}
        """Of what was refused since the last full read: one that comes and goes is asked for no more often for it."""

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
        """All is about to be read: what was refused once and is no more begins with short waits again."""
        self._backoffs = {prefix: one for prefix, one in self._backoffs.items() if prefix in self._all}
        self.barred.clear()

    def ask_at(self) -> float:
        """Return the monotonic time at which the next is asked for."""
        return min((one.ask_at for one in self._all.values()), default=NEVER)

    def due(self, now: float) -> tuple[str, ...]:
        """Return those that are to be asked for again."""
        return tuple(prefix for prefix, one in self._all.items() if now >= one.ask_at)

    def put_off(self, prefixes: Iterable[str], until: float) -> None:
        """Ask for these at another time: nobody answered, or there is a reason to ask at once."""
        for prefix in prefixes:
            if prefix in self._all:
                self._all[prefix].ask_at = until

    def add(self, errors: Mapping[str, StoreError], now: float) -> list[list[str]]:
        """Take what was refused; returns the prefixes that a line has to tell of, together what was refused alike."""
        news: dict[str, list[str]] = {}
        waits: dict[int, float] = {}
        for prefix, error in errors.items():
            before = self._all.get(prefix)
            backoff = self._backoffs.setdefault(prefix, Backoff(self._random, cap=LONGEST))
            attempts = backoff.attempts
            # What was refused together is asked for together.
            wait = waits.setdefault(attempts, backoff.wait())
            since, damping = (now, Damping()) if before is None else (before.since, before.damping)
            self._all[prefix] = DeniedPrefix(error, since, now + wait, attempts + 1, damping)
            if damping.admits(error.message, attempts + 1, now):
                news.setdefault(error.message, []).append(prefix)
        return list(news.values())

    def end(self, prefixes: Collection[str]) -> float:
        """Forget these, which can be read again; returns since when they could not."""
        return min(self._all.pop(prefix).since for prefix in prefixes)
