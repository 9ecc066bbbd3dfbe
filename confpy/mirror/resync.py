"""The regular look at how the store's prefixes are, so that a lost watch means late, never wrong. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from random import Random

from confpy.clock import NEVER, jittered
from confpy.frozen import frozen
from confpy.keys.snapshot import PrefixStatus
from confpy.messages import Poll
from confpy.mirror.copy import LocalCopy
from confpy.mirror.result import MirrorResult
from confpy.mirror.wants import Wants

FULL_READ_EVERY = 10
"""Every tenth resync reads all keys instead of polling their status."""
LAG = 2.0
"""Seconds that a stream may lag behind a poll before its changes count as lost."""


@frozen
class _Lag:
    """What a poll knew of a prefix and the copy did not."""

    newest: int
    position: int
    counted: int


class Resync:
    """When the store is polled, and what the stream should have brought by then."""

    def __init__(
        self,
        copy: LocalCopy,
        wants: Wants,
        random: Random,
        numbers: Iterator[int],
        *,
        period: float,
        follows: bool,
        mount: str = "",
    ) -> None:
        """``period``: seconds from one resync to the next. ``follows``: a stream brings what changes.

        ``mount``: where the store is mounted.
        """
        self._mount = mount
        self.at = NEVER
        """Monotonic time of the next resync."""
        self._copy = copy
        self._wants = wants
        self._random = random
        self._numbers = numbers
        self._period = period
        self._follows = follows
        self._lags: Mapping[str, _Lag] = {}
        """What the stream is given a moment to bring."""
        self._agreed: tuple[PrefixStatus, int] | None = None
        """The status that the copy last agreed with, and the turn of its positions then."""
        self._count = 0
        self._poll: Poll | None = None
        """The one in flight."""

    @property
    def is_polling(self) -> bool:
        return self._poll is not None

    @property
    def is_behind(self) -> bool:
        """Whether the stream is given a moment to bring what a poll has found."""
        return bool(self._lags)

    def schedule(self, now: float) -> None:
        self.at = now + jittered(self._period, self._random)

    def begin(self) -> bool:
        """Begin a resync; says whether a poll will do, otherwise everything is read."""
        self.at = NEVER
        self._count += not self._lags
        return bool(self._lags or self._count % FULL_READ_EVERY)

    def poll(self, result: MirrorResult) -> None:
        prefixes = tuple(prefix for prefix in self._wants.prefixes if prefix in self._copy.positions)
        self._poll = Poll(next(self._numbers), prefixes, self._mount)
        result.actions.append(self._poll)

    def ask(self, result: MirrorResult) -> None:
        """Poll, unless that is under way: somebody wants to know whether the store is there."""
        if self._poll is None and self._copy.positions:
            self.poll(result)

    def take(self, poll: int) -> Poll | None:
        """Return the poll in flight if this is its number: it is answered."""
        found = self._poll if self._poll is not None and self._poll.poll == poll else None
        if found is not None:
            self._poll = None
        return found

    def forget(self, prefixes: Collection[str]) -> None:
        """Take it that these were read."""
        if self._lags:
            read = set(prefixes)
            self._lags = {prefix: lag for prefix, lag in self._lags.items() if prefix not in read}

    def forget_all(self) -> None:
        """Take it that another stream is open: what it has only begun to bring is not missing yet."""
        self._lags = {}

    def find_missed(self, status: PrefixStatus, now: float) -> Collection[str]:
        """Return the prefixes to be read again, since the stream does not bring what the store has.

        A stream may simply be slower than the poll: it is given a moment first.
        """
        lags = self._behind(status)
        if lags and (not self._follows or self._is_unresolved(lags)):
            return lags.keys()
        if lags and not self._lags:
            self._lags = lags
            self.at = now + LAG
        else:
            self._lags = {}
            self.schedule(now)
        return ()

    def _behind(self, status: PrefixStatus) -> dict[str, _Lag]:
        """Return the prefixes of which the store knows more than the copy."""
        agreed = status, self._copy.positions.turn
        if self._agreed is not None and self._agreed[0] is status and self._agreed[1] == agreed[1]:
            return {}  # a store at rest answers with the very same one
        found = {}
        for prefix, newest in status.newest.items():
            if prefix in self._copy.positions:
                position = self._copy.positions[prefix]
                counted = status.counts.get(prefix, 0)
                if newest > position or counted != self._copy.tree.raw_count(prefix):
                    found[prefix] = _Lag(newest, position, counted)
        self._agreed = None if found else agreed
        return found

    def _is_unresolved(self, lags: Collection[str]) -> bool:
        """Say whether something that was missing at the poll before is missing still.

        Under steady traffic the store is always a little ahead; a prefix whose position moved on is alive, and within
        one watch nothing is skipped.
        """
        return any(
            prefix in self._lags and self._copy.positions[prefix] == self._lags[prefix].position for prefix in lags
        )
