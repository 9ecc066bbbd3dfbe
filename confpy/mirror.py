"""The mind of one store: it holds the keys, and decides when to read, ask, watch and wait. Pure.

The pattern is list-then-watch, as in Kubernetes' reflector: read all prefixes at one revision, watch from the next,
and list again on any doubt. Three things may be in flight, each with a number so that a late answer to an old one is
known: a read, an ask, and streams (two while one takes over from another).

What makes it right:

* ``applied`` holds, per prefix, the revision up to which its keys are in the tree. Order holds within one watch only,
  so each prefix has its own, and a change at or below it has been seen already: that is how repeats are dropped when
  two streams overlap or one is resumed.
* Changes that come while a read is in flight are applied at once and kept, then replayed over its answer: an older
  answer never rolls the tree back.
* A watch is never trusted alone. Every ``period`` the store is asked how the prefixes stand; what the tree should
  have had by then is read again. So a lost watch means late, never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from confpy.clock import Backoff, jittered, rarely
from confpy.errors import StoreError
from confpy.keytree import ROOT, KeyTree, ancestors, covers, minimal, normalise
from confpy.model import (
    Action,
    Ask,
    Asked,
    Changed,
    Changes,
    Level,
    Listed,
    Lost,
    Message,
    Opened,
    Read,
    Say,
    Standing,
    Stirred,
    Unwatch,
    Watch,
)

News = TypeVar("News")

NEVER = float("inf")
FULL_READ_EVERY = 10
"""Every tenth resync reads all keys instead of asking how they stand."""
STEADY = 30.0
"""Seconds after which a stream that breaks off was a good one: something between us ends quiet connections."""
DOUBT = 2.0
"""Seconds that a stream may lag behind an ask before its changes count as lost."""


@dataclass(slots=True)
class Turn:
    """What one step led to."""

    actions: list[Action] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    """Paths whose value is another one now."""
    learned: bool = False
    """A read ended: prefixes may be ready, or known to be in error, that were not before."""

    def say(self, level: Level, event: str, **fields: object) -> None:
        self.actions.append(Say(level, event, fields))


@dataclass(slots=True)
class _Reading:
    number: int
    prefixes: tuple[str, ...]
    since: Mapping[str, int]
    """``applied`` when the read was sent: a linearizable answer is not older."""
    kept: dict[str, Changes] = field(default_factory=dict)
    """Per watch, what came meanwhile: the last word on each key."""

    def keep(self, changes: Changes) -> None:
        before = self.kept.get(changes.prefix)
        if before is not None:
            changes = Changes(
                changes.prefix,
                changes.revision,
                {**_without(before.keys, changes.gone), **changes.keys},
                {**before.gone, **changes.gone},
                {**_without(before.folders, changes.gone), **changes.folders},
            )
        self.kept[changes.prefix] = changes


@dataclass(frozen=True, slots=True)
class _Doubt:
    """What an ask knew of a prefix and the tree did not."""

    newest: int
    applied: int
    counted: int


class Mirror:
    """The local copy of a store's keys. ``step`` takes what the store answered and returns what to ask next."""

    def __init__(
        self, random: Random, *, follows: bool, period: float, once: bool = False, binary: bool = True
    ) -> None:
        """``follows``: keep a stream open; ``period``: seconds from one resync (or poll) to the next.

        ``once``: one read is all that is wanted, and whoever wants it tells of its failure. ``binary``: the store keeps
        any bytes; one that does not has U+FFFD where they were no UTF-8.
        """
        self.tree = KeyTree()
        self.errors: dict[str, StoreError] = {}
        """Prefix → why the store refuses just that one."""
        self.lost: StoreError | None = None
        """Why the store cannot be read now."""
        self._random = random
        self._follows = follows
        self._period = period
        self._once = once
        self._binary = binary
        self._damaged: set[str] = set()
        """Raw keys that lost bytes in the store, and were told of."""
        self._wanted: tuple[str, ...] = ()
        self._groups: tuple[tuple[str, ...], ...] = ()
        self._applied: dict[str, int] = {}
        self._folders = KeyTree()
        """Paths that are there, be it without a key; where a store has no folders, none."""
        self._counts: Mapping[str, int] = {}
        self._identity = ""
        self._number = 0
        self._reading: _Reading | None = None
        self._asking: int | None = None
        self._current: int | None = None
        self._opening: int | None = None
        self._watched: tuple[str, ...] = ()
        self._doubts: dict[str, _Doubt] = {}
        self._resyncs = 0
        self._read_at = NEVER
        self._resync_at = NEVER
        self._watch_at = NEVER
        self._read_backoff = Backoff(random)
        self._watch_backoff = Backoff(random)
        self._watch_lost_at: float | None = None
        self._opened_at = 0.0
        """When a loss of the stream was told of, until it is open again."""
        self._lost_since = 0.0

    # --- what the owner asks of it ---------------------------------------------------------------------------------

    def want(self, groups: Iterable[Sequence[str]]) -> Turn:
        """Follow these prefixes from now on; a group's (a resource's) are seen in one order where that is cheap."""
        self._groups = tuple({tuple(sorted(set(group))): None for group in groups})
        self._wanted = minimal(prefix for group in self._groups for prefix in group)
        for prefix in self._wanted:
            above = self._above(prefix)
            if above is not None:
                self._applied[prefix] = self._applied[above]
        # What lies below a wanted prefix that is still to be read stays until that read replaces it.
        wanted = set(self._wanted)
        for prefix in [one for one in self._applied if wanted.isdisjoint(ancestors(one))]:
            del self._applied[prefix]
            if not any(covers(prefix, one) for one in wanted):
                self.tree.replace(prefix, {})
                self._folders.replace(prefix, {})
        turn = Turn()
        if any(prefix not in self._applied for prefix in self._wanted) and self._reading is None:
            self._read(turn, tuple(prefix for prefix in self._wanted if prefix not in self._applied))
        return turn

    def ready(self, prefixes: Sequence[str]) -> bool:
        """Say whether the tree holds these prefixes: they were read, and the store did not refuse them."""
        return all(self._above(prefix) is not None for prefix in prefixes)

    def missing(self, prefixes: Sequence[str]) -> str | None:
        """Return the path of a prefix that is not in the store, or None; of those with one path, one suffices."""
        for path in map(normalise, prefixes):
            if not self.tree.count(path) and not self._folders.count(path):
                return path
        return None

    def error(self, prefixes: Sequence[str]) -> StoreError | None:
        """Return why the tree does not hold these prefixes, or None where it does or nothing is known yet."""
        for prefix in prefixes:
            for refused, error in self.errors.items():
                if covers(refused, prefix):
                    return error
            if self._above(prefix) is None and self.lost is not None:
                return self.lost
        return None

    def revision(self, prefixes: Sequence[str]) -> int:
        """Return the newest revision that is in the tree for these prefixes."""
        found = (self._above(prefix) for prefix in prefixes)
        return max((self._applied[above] for above in found if above is not None), default=0)

    def resync(self, now: float) -> None:
        """Ask the store at once how things stand, as if the period were over."""
        self._resync_at = min(self._resync_at, now)

    def wake_at(self) -> float:
        """Return the monotonic time of the next thing to do unasked."""
        return min(
            self._read_at if self._reading is None else NEVER,
            self._resync_at if self._reading is None and self._asking is None and self._wanted else NEVER,
            self._watch_at if self._applied and self._read_at == NEVER else NEVER,
        )

    def step(self, message: Message, now: float) -> Turn:
        """Take one message; those that are not about the store only let time pass."""
        turn = Turn()
        match message:
            case Listed() if self._reading is not None and message.read == self._reading.number:
                self._listed(turn, message, now)
            case Asked() if message.ask == self._asking:
                self._asked(turn, message, now)
            case Opened() if message.stream == self._opening:
                self._opened(turn, now)
            case Changed() if message.stream in (self._current, self._opening):
                self._changed(turn, message, now)
            case Lost() if message.stream in (self._current, self._opening):
                self._stream_lost(turn, message, now)
        self._tick(turn, now)
        return turn

    # --- reading ---------------------------------------------------------------------------------------------------

    def _read(self, turn: Turn, prefixes: tuple[str, ...]) -> None:
        self._number += 1
        self._read_at = NEVER
        self._reading = _Reading(self._number, prefixes, dict(self._applied))
        turn.actions.append(Read(self._number, prefixes, self._candidates() if self._follows else ()))

    def _listed(self, turn: Turn, message: Listed, now: float) -> None:
        reading, self._reading = self._reading, None
        assert reading is not None
        turn.learned = True
        if message.snapshot is None:
            self._store_lost(turn, message.error or StoreError("the read failed"), now)
            self._read_at = now + self._read_backoff.wait()
            return
        self._store_found(turn, now)
        snapshot = message.snapshot
        replaced = bool(self._identity and snapshot.identity and snapshot.identity != self._identity)
        back = not replaced and any(
            listing.revision < reading.since.get(prefix, 0)
            for prefix, listing in snapshot.listings.items()
            if listing.error is None
        )
        if replaced or back:
            self._start_over(turn, "it is another store now" if replaced else "its revision went back")
            reading.kept.clear()
            if set(reading.prefixes) != set(self._wanted):
                self._identity = snapshot.identity
                self._read(turn, self._wanted)
                return
        self._identity = snapshot.identity
        self._counts = snapshot.counts or self._counts
        read: dict[str, int] = {}
        for prefix, listing in snapshot.listings.items():
            if listing.error is not None:
                self.errors[prefix] = listing.error
                continue
            self.errors.pop(prefix, None)
            self._examine(turn, listing.keys)
            turn.changed |= self.tree.replace(prefix, listing.keys)
            self._folders.replace(prefix, dict.fromkeys(listing.folders, ""))
            read[prefix] = listing.revision
        # What was read makes the positions of what lies below it superfluous.
        self._applied = {one: at for one, at in self._applied.items() if read.keys().isdisjoint(ancestors(one))} | read
        for changes in reading.kept.values():
            self._apply(turn, changes)
        self._doubts.clear()
        self._resync_at = now + jittered(self._period, self._random)
        missing = tuple(prefix for prefix in self._wanted if not self.ready((prefix,)) and prefix not in self.errors)
        if missing:
            self._read(turn, missing)
        elif self._follows and self._covers() != self._watched:
            self._watch_at = min(self._watch_at, now)

    def _examine(self, turn: Turn, keys: Mapping[str, str]) -> None:
        """Warn, once a key, of bytes that the store could not keep."""
        for raw, value in () if self._binary else keys.items():
            if ("\ufffd" in value or "\ufffd" in raw) and raw not in self._damaged:
                self._damaged.add(raw)
                turn.say("warning", "value.damaged", key=raw, reason="not UTF-8 when it was put: the store has U+FFFD")

    def _start_over(self, turn: Turn, why: str) -> None:
        """Forget every position: none of them means anything in the store that answers now."""
        turn.say("warning", "store.replaced", reason=why, did="read everything again")
        self._applied.clear()
        self._close_streams(turn)

    # --- watching --------------------------------------------------------------------------------------------------

    def _candidates(self) -> tuple[str, ...]:
        """Return the prefixes that might cover a group's, to be counted."""
        parents = {_parent(group) for group in self._groups if len(group) > 1}
        return tuple(sorted(parents - {ROOT} - set(self._wanted)))

    def _covers(self) -> tuple[str, ...]:
        """Return what to watch: the wanted prefixes, a group's under one cover where that brings few strangers."""
        chosen = [prefix for prefix in self._wanted if prefix in self._applied]
        parents = self._counts.keys() & set(self._candidates())
        for parent, below in self._below(parents).items():
            if self._counts[parent] <= 2 * sum(map(self.tree.raw_count, below)):
                chosen.append(parent)
        return minimal(chosen)

    def _below(self, heads: AbstractSet[str]) -> dict[str, list[str]]:
        """Return which read prefixes lie at or below each of the heads."""
        found: dict[str, list[str]] = {}
        for prefix in self._applied:
            for head in ancestors(prefix):
                if head in heads:
                    found.setdefault(head, []).append(prefix)
        return found

    def _open(self, turn: Turn) -> None:
        self._watch_at = NEVER
        self._watched = self._covers()
        if self._opening is not None:
            turn.actions.append(Unwatch(self._opening))
        self._number += 1
        self._opening = self._number
        below = self._below(set(self._watched))
        cursors = {cover: min(self._applied[prefix] for prefix in prefixes) for cover, prefixes in below.items()}
        turn.actions.append(Watch(self._opening, cursors, self._identity))

    def _opened(self, turn: Turn, now: float) -> None:
        if self._current is not None:
            turn.actions.append(Unwatch(self._current))
        self._current, self._opening = self._opening, None
        self._opened_at = now
        self._store_found(turn, now)
        if self._watch_lost_at is not None:
            turn.say("info", "watch.recovered", after=round(now - self._watch_lost_at, 1))
            self._watch_lost_at = None

    def _changed(self, turn: Turn, message: Changed, now: float) -> None:
        self._watch_backoff.reset()
        if isinstance(message.changes, Stirred):
            if self._reading is None:
                self._read(turn, self._wanted)
            else:
                self._read_at = min(self._read_at, now)
            return
        if self._reading is not None:
            self._reading.keep(message.changes)
        self._apply(turn, message.changes)

    def _apply(self, turn: Turn, changes: Changes) -> None:
        for path, revision in changes.gone.items():
            for one, applied in self._applied.items():
                below = path if covers(one, path) else one
                if covers(path, below) and revision > applied:
                    turn.changed |= self.tree.replace(below, {})
                    self._folders.replace(below, {})
        for raw, (revision, value) in changes.keys.items():
            prefix = self._above(raw)
            # A key under a cover that nobody wants, or a repeat.
            if prefix is None or revision <= self._applied[prefix]:
                continue
            if value is not None:
                self._examine(turn, {raw: value})
            seen = self.tree.delete(raw) if value is None else self.tree.set(raw, value)
            if seen:
                turn.changed.add(normalise(raw))
        for path, revision in changes.folders.items():
            above = self._above(path)
            if above is not None and revision > self._applied[above] and self._folders.set(path, ""):
                turn.changed.add(path)
        for prefix in self._applied if changes.prefix not in self._applied else (changes.prefix,):
            if covers(changes.prefix, prefix):
                self._applied[prefix] = max(self._applied[prefix], changes.revision)

    def _stream_lost(self, turn: Turn, message: Lost, now: float) -> None:
        if message.stream == self._opening:
            self._opening = None
        else:
            self._current = None
            if now - self._opened_at > STEADY:
                self._watch_backoff.reset()
        wait = self._watch_backoff.wait()
        if rarely(self._watch_backoff.attempts):
            turn.say("warning", "watch.lost", **message.error.fields(), retry_in=round(wait, 1))
            if self._watch_lost_at is None:
                self._watch_lost_at = now
        if message.relist:
            self._close_streams(turn)
            self._read_at = min(self._read_at, now + wait)
        elif self._opening is None:
            self._watch_at = now + wait

    def _close_streams(self, turn: Turn) -> None:
        turn.actions += [Unwatch(stream) for stream in (self._current, self._opening) if stream is not None]
        self._current = self._opening = None
        self._watched = ()
        self._watch_at = NEVER

    # --- resync ----------------------------------------------------------------------------------------------------

    def _tick(self, turn: Turn, now: float) -> None:
        if self._reading is None and now >= self._read_at:
            self._read(turn, self._wanted)
        if now >= self._resync_at and self._wanted and self._reading is None and self._asking is None:
            self._resync_at = NEVER
            if self._doubts:
                self._ask(turn)
            else:
                self._resyncs += 1
                if self._resyncs % FULL_READ_EVERY == 0:
                    self._read(turn, self._wanted)
                else:
                    self._ask(turn)
        if now >= self._watch_at and self._applied and self._read_at == NEVER:
            self._open(turn)

    def _ask(self, turn: Turn) -> None:
        self._number += 1
        self._asking = self._number
        turn.actions.append(Ask(self._number, tuple(prefix for prefix in self._wanted if prefix in self._applied)))

    def _asked(self, turn: Turn, message: Asked, now: float) -> None:
        self._asking = None
        if message.error is not None:
            self._store_lost(turn, message.error, now)
            self._resync_at = now + self._read_backoff.wait()
            return
        if message.standing is None:
            self._read_if_idle(turn, now)
            return
        self._store_found(turn, now)
        standing = message.standing
        newest = max(self._applied.values(), default=0)
        if standing.identity != self._identity or (standing.revision < newest and self._reading is None):
            self._read_if_idle(turn, now)
            return
        doubts = self._behind(standing)
        if not doubts:
            self._doubts = {}
            self._resync_at = now + jittered(self._period, self._random)
        elif not self._follows:
            self._read_if_idle(turn, now)
        elif not self._doubts:
            # The stream may simply be slower than the ask: give it a moment, then look whether it brought them.
            self._doubts = doubts
            self._resync_at = now + DOUBT
        elif self._unresolved(doubts):
            turn.say("warning", "watch.missed", prefix=min(doubts), prefixes=len(doubts), did="read everything again")
            self._close_streams(turn)
            self._read_if_idle(turn, now)
        else:
            self._doubts = {}
            self._resync_at = now + jittered(self._period, self._random)

    def _behind(self, standing: Standing) -> dict[str, _Doubt]:
        """Return the prefixes of which the store knows more than the tree."""
        found = {}
        for prefix, newest in standing.newest.items():
            if prefix in self._applied:
                counted = standing.counts.get(prefix, 0)
                if newest > self._applied[prefix] or counted != self.tree.raw_count(prefix):
                    found[prefix] = _Doubt(newest, self._applied[prefix], counted)
        return found

    def _unresolved(self, doubts: Mapping[str, _Doubt]) -> bool:
        """Say whether something that was missing at the ask before is missing still.

        Under steady traffic the store is always a little ahead; a prefix whose stream moved on is alive, and within
        one watch nothing is skipped.
        """
        for prefix in doubts:
            before = self._doubts.get(prefix)
            if before is not None and self._applied[prefix] == before.applied:
                return True
        return False

    def _read_if_idle(self, turn: Turn, now: float) -> None:
        if self._reading is None:
            self._read(turn, self._wanted)
        else:
            self._read_at = now

    # --- the store's health ----------------------------------------------------------------------------------------

    def _store_lost(self, turn: Turn, error: StoreError, now: float) -> None:
        """Say that the store is away: when it goes, when the reason is another, and ever more rarely."""
        attempts = self._read_backoff.attempts
        if self.lost is None:
            self._lost_since = now
        news = self.lost is None or self.lost.message != error.message or rarely(attempts + 1)
        if news and not self._once:
            turn.say("error", "store.lost", **error.fields(), attempt=attempts + 1, did="kept what was; tries again")
        self.lost = error

    def _store_found(self, turn: Turn, now: float) -> None:
        self._read_backoff.reset()
        if self.lost is not None:
            turn.say("info", "store.recovered", after=round(now - self._lost_since, 1))
            self.lost = None

    def _above(self, key: str) -> str | None:
        """Return the read prefix at or above a raw key or prefix: cut it segment by segment."""
        path = key
        while path:
            if path in self._applied:
                return path
            path = path[: path.rfind("/")] if "/" in path else ""
        return ROOT if ROOT in self._applied else None


def _without(news: Mapping[str, News], gone: Iterable[str]) -> dict[str, News]:
    """Return what is not at or below a path that went."""
    return {key: one for key, one in news.items() if not any(covers(path, key) for path in gone)}


def _parent(prefixes: Sequence[str]) -> str:
    """Return the longest path that all prefixes lie below."""
    heads = [prefix.split("/") for prefix in prefixes]
    common = []
    for segments in zip(*heads, strict=False):
        if len(set(segments)) > 1:
            break
        common.append(segments[0])
    return "/".join(common) or ROOT
