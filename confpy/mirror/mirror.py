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
* A prefix that the store refuses is left out of all that the others share, and asked for alone, ever more rarely. Its
  keys stay in the tree, where nobody sees them before it was read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeVar

from confpy.clock import NEVER, Backoff, Damping, jittered
from confpy.errors import AccessDenied, StoreError
from confpy.events import Level, LogEvent
from confpy.frozen import frozen
from confpy.keys.prefixes import ROOT, Lists, ancestors, begins, covers, minimal, normalise, text_parent
from confpy.keys.snapshot import Changes, Invalidated, Listing, PrefixStatus, Snapshot
from confpy.keys.tree import KeyTree
from confpy.messages import (
    Action,
    Changed,
    Listed,
    Lost,
    Message,
    Opened,
    Poll,
    Polled,
    Read,
    Unwatch,
    Watch,
)
from confpy.mirror.denied import DeniedPrefixes

News = TypeVar("News")

FULL_READ_EVERY = 10
"""Every tenth resync reads all keys instead of polling how they stand."""
STEADY = 30.0
"""Seconds after which a stream that breaks off was a good one: something between us ends quiet connections."""
DOUBT = 2.0
"""Seconds that a stream may lag behind an ask before its changes count as lost."""
NAMED = 10
"""Prefixes and resources that one line names; it counts the others."""


@dataclass(slots=True)
class MirrorResult:
    """What one step led to."""

    actions: list[Action] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    """Paths whose value is another one now."""
    learned: bool = False
    """A read ended: prefixes may be ready, or known to be in error, that were not before."""

    def log(self, level: Level, event: str, **fields: object) -> None:
        self.actions.append(LogEvent(level, event, fields))


@dataclass(slots=True)
class _Reading:
    number: int
    prefixes: tuple[str, ...]
    since: Mapping[str, int]
    """``applied`` when the read was sent: a linearizable answer is not older."""
    alone: bool
    """It is about what was refused, and about nothing that the others need."""
    began: float
    kept: dict[str, Changes] = field(default_factory=dict)
    """Per watch, what came meanwhile: the last word on each key."""

    def keep(self, changes: Changes) -> None:
        before = self.kept.get(changes.prefix)
        if before is not None:
            changes = Changes(
                changes.prefix,
                changes.revision,
                {**_without(before.keys, changes.deleted), **changes.keys},
                {**before.deleted, **changes.deleted},
                {**_without(before.folders, changes.deleted), **changes.folders},
            )
        self.kept[changes.prefix] = changes


@frozen
class _Lag:
    """What an ask knew of a prefix and the tree did not."""

    newest: int
    applied: int
    counted: int


class Mirror:
    """The local copy of a store's keys. ``step`` takes what the store answered and returns what to ask next."""

    def __init__(
        self,
        random: Random,
        *,
        follows: bool,
        period: float,
        once: bool = False,
        patience: float = 60.0,
        binary: bool = True,
        lists: Lists | None = None,
        spells: Callable[[str], str] = str,
    ) -> None:
        """``follows``: keep a stream open; ``period``: seconds from one resync (or poll) to the next.

        ``once``: one read is all that is wanted: what fails is not tried again. ``patience``: seconds from one try to
        read to the next, at most. ``binary``: the store keeps any bytes; one that does not has U+FFFD where they were
        no UTF-8. ``lists`` says whether a read of a prefix brings a key that it covers (None: always); where it does
        not, the key's own prefix is read and watched as well. ``spells`` returns the store's spelling of a path.
        """
        self.tree = KeyTree()
        self.lost: StoreError | None = None
        """Why the store cannot be read now."""
        self.on_missing: Literal["error", "empty"] | None = None
        """What a missing tree is to a resource that does not say, once a read has told."""
        self.store = 0
        """How often another store, or an older state of it, took the place of the one before."""
        self.read_at = -NEVER
        """When the newest read of all that is wanted was begun."""
        self._now = -NEVER
        self._floor = 0
        """The revision of the store when confpy ended: a lower one is an older state."""
        self._random = random
        self._follows = follows
        self._period = period
        self._once = once
        self._binary = binary
        self.lists = lists
        """As ``View`` takes it."""
        self._lists = lists or covers
        self.spells = spells
        self._damaged: set[str] = set()
        """Raw keys that lost bytes in the store, and were told of."""
        self._readers: dict[str, list[str]] = {}
        """Prefix → the resources that read it."""
        self._groups: tuple[tuple[str, ...], ...] = ()
        self._wanted: tuple[str, ...] = ()
        """What is read and followed: all that resources read, but for what is refused and what another one shows."""
        self._refused = DeniedPrefixes(random)
        self._applied: dict[str, int] = {}
        self._reach: dict[str, list[str]] = {}
        """Watched prefix → those in ``applied`` that it brings changes of, as far as it was needed."""
        self._folders = KeyTree()
        """Paths that are there, be it without a key; where a store has no folders, none."""
        self._counts: Mapping[str, int] = {}
        self.identity = ""
        """Which store the keys are from."""
        self._number = 0
        self._reading: _Reading | None = None
        self._polling: Poll | None = None
        self._current: int | None = None
        self._opening: int | None = None
        self._watched: tuple[str, ...] = ()
        self._doubts: dict[str, _Lag] = {}
        self._resyncs = 0
        self._read_at = NEVER
        self._resync_at = NEVER
        self._watch_at = NEVER
        self._read_backoff = Backoff(random, cap=patience)
        self._lost_damping = Damping()
        self._watch_backoff = Backoff(random)
        self._watch_damping = Damping()
        self._watch_lost_at: float | None = None
        """When a loss of the stream was told of, until it is open again."""
        self._opened_at = 0.0
        self._lost_since = 0.0

    # --- what the owner asks of it ---------------------------------------------------------------------------------

    def want(self, resources: Mapping[str, Sequence[str]]) -> MirrorResult:
        """Follow from now on what these resources read; one's prefixes are seen in one order where that is cheap."""
        self._readers = {}
        for name, prefixes in resources.items():
            for prefix in prefixes:
                self._readers.setdefault(prefix, []).append(name)
        self._groups = tuple({tuple(sorted(set(prefixes))): None for prefixes in resources.values()})
        held = {*self._applied, *self._refused}
        self._refused.keep(self._readers)
        self._choose()
        for prefix in held:
            # What lies below a prefix that is still to be read stays until that read replaces it.
            if not any(one in self._readers and self._lists(one, prefix) for one in ancestors(prefix)):
                kept = [one for one in self._readers if covers(prefix, one)]
                self.tree.replace(prefix, {}, kept)
                self._folders.replace(prefix, {}, kept)
        result = MirrorResult()
        if self._reading is None:
            self._read_missing(result)
        return result

    def ready(self, prefixes: Sequence[str]) -> bool:
        """Say whether the tree holds these prefixes: they were read, and the store did not refuse them."""
        return all(self._above(prefix) is not None for prefix in prefixes)

    def missing(self, prefixes: Sequence[str], texts: Sequence[str] = ()) -> str | None:
        """Return the path of a prefix that is not in the store, or None; of those with one path, one suffices.

        ``texts`` take the place of the prefixes: what no key begins with is missing.
        """
        for text in texts:
            if not any(begins(text, path) for path, _ in self.tree.items(text_parent(text))):
                return text
        if texts:
            return None
        for path in map(normalise, prefixes):
            if not self.tree.count(path) and not self._folders.count(path):
                return path
        return None

    def error(self, prefixes: Sequence[str]) -> StoreError | None:
        """Return why the tree does not hold these prefixes, or None where it does or nothing is known yet."""
        for prefix in prefixes:
            if prefix in self._refused:
                return self._refused[prefix].error
            if self.lost is not None and self._above(prefix) is None:
                return self.lost
        return None

    def revision(self, prefixes: Sequence[str]) -> int:
        """Return the newest revision that is in the tree for these prefixes."""
        found = (self._above(prefix) for prefix in prefixes)
        return max((self._applied[above] for above in found if above is not None), default=0)

    def expect(self, identity: str, revision: int) -> None:
        """Take it that the store was this one, at this revision, when confpy ended: another one will be noticed."""
        self.identity = self.identity or identity
        self._floor = revision

    def reread(self, now: float) -> MirrorResult:
        """Read everything again, also where a read is on its way already, but not where the store is lost."""
        result = MirrorResult()
        if self.lost is None and self._reading is None:
            self._read_all(result)
        elif self.lost is None:
            self._read_at = min(self._read_at, now)
        return result

    def resync(self, now: float) -> None:
        """Ask the store at once how things stand, as if the period were over."""
        self._resync_at = min(self._resync_at, now)

    def wake_at(self) -> float:
        """Return the monotonic time of the next thing to do unasked."""
        return min(
            self._read_at if self._reading is None else NEVER,
            self._resync_at if self._reading is None and self._polling is None and self._wanted else NEVER,
            self._watch_at if self._read_at == NEVER else NEVER,
            self._refused.ask_at() if self._reading is None else NEVER,
        )

    def step(self, message: Message, now: float) -> MirrorResult:
        """Take one message; those that are not about the store only let time pass."""
        self._now = now
        result = MirrorResult()
        match message:
            case Listed() if self._reading is not None and message.read == self._reading.number:
                self._listed(result, message, now)
            case Polled() if self._polling is not None and message.poll == self._polling.poll:
                self._polled(result, message, now)
            case Opened() if message.stream == self._opening:
                self._opened(result, now)
            case Changed() if message.stream in (self._current, self._opening):
                self._changed(result, message, now)
            case Lost() if message.stream in (self._current, self._opening):
                self._stream_lost(result, message, now)
        self._tick(result, now)
        return result

    # --- reading ---------------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Settle what is to be read and followed, and keep the positions that count for it."""
        self._wanted = minimal((prefix for prefix in self._readers if prefix not in self._refused), self._lists)
        known = {prefix: self._above(prefix) for prefix in self._wanted}
        self._applied |= {prefix: self._applied[above] for prefix, above in known.items() if above is not None}
        for prefix in list(self._applied):
            if not any(one in known and self._lists(one, prefix) for one in ancestors(prefix)):
                del self._applied[prefix]
        self._reach.clear()

    def _read(self, result: MirrorResult, prefixes: tuple[str, ...], *, alone: bool = False) -> None:
        self._number += 1
        self._reading = _Reading(self._number, prefixes, dict(self._applied), alone, self._now)
        result.actions.append(Read(self._number, prefixes, self._candidates() if self._follows else ()))

    def _read_all(self, result: MirrorResult) -> None:
        self._read_at = NEVER
        if self._wanted:
            self._read(result, self._wanted)

    def _read_missing(self, result: MirrorResult) -> None:
        """Read what is wanted and was not read yet, if there is any."""
        missing = tuple(prefix for prefix in self._wanted if not self.ready((prefix,)))
        if missing:
            self._read(result, missing)

    def _listed(self, result: MirrorResult, message: Listed, now: float) -> None:
        reading, self._reading = self._reading, None
        assert reading is not None
        result.learned = True
        if message.snapshot is None:
            again_at = self._store_lost(result, message.error or StoreError("the read failed"), now)
            if not reading.alone:
                self._read_at = again_at
            self._refused.put_off(reading.prefixes, again_at)
            return
        self._store_found(result, now)
        snapshot = message.snapshot
        result.actions += snapshot.notes
        self.on_missing = snapshot.on_missing or self.on_missing
        self._binary = self._binary if snapshot.binary is None else snapshot.binary
        replaced = bool(self.identity and snapshot.identity and snapshot.identity != self.identity)
        back = not replaced and self._went_back(reading, snapshot)
        if replaced or back:
            self._start_over(result, "it is another store now" if replaced else "its revision went back")
            reading.kept.clear()
            if set(reading.prefixes) != set(self._wanted):
                self.identity, self._floor = snapshot.identity, 0
                self._read_all(result)
                return
        self.identity = snapshot.identity
        self._floor = 0
        self._counts = snapshot.counts or self._counts
        if set(reading.prefixes) >= set(self._wanted):
            self.read_at = reading.began
        self._take_listings(result, {one: kept for one, kept in snapshot.listings.items() if kept.error is None}, now)
        self._refuse(
            result, {one: kept.error for one, kept in snapshot.listings.items() if kept.error is not None}, now
        )
        for changes in reading.kept.values():
            self._apply(result, changes)
        self._doubts = {prefix: doubt for prefix, doubt in self._doubts.items() if prefix not in reading.prefixes}
        if not reading.alone or self._resync_at == NEVER:
            self._resync_at = now + jittered(self._period, self._random)
        self._read_missing(result)
        if self._reading is None:
            self._follow(now)

    def _went_back(self, reading: _Reading, snapshot: Snapshot) -> bool:
        """Say whether the store answers from before what it has said already."""
        listings = {prefix: listing for prefix, listing in snapshot.listings.items() if listing.error is None}
        if snapshot.identity:
            # It counts all its changes together: what it said of one prefix binds it for all.
            newest = max((self._floor, *reading.since.values()))
            return any(listing.revision < newest for listing in listings.values())
        return any(
            # Consul's index of a prefix without keys is that of their deletion, or that of the newest change of all:
            # one below what it said before is another Consul's.
            listing.revision < max(reading.since.get(prefix, 0), 0 if listing.keys else self._floor)
            for prefix, listing in listings.items()
        )

    def _take_listings(self, result: MirrorResult, listings: Mapping[str, Listing], now: float) -> None:
        """Put what was read into the tree, but where more is known already than the read says."""
        self._recover(result, listings, now)
        self._applied |= {prefix: listing.revision for prefix, listing in listings.items()}
        own: dict[str, list[str]] = {}
        for prefix, position in self._applied.items():
            for above in ancestors(prefix):
                if above == prefix or above not in listings:
                    continue
                if position > listings[above].revision or not self._lists(above, prefix):
                    own.setdefault(above, []).append(prefix)
                else:
                    # It stays a position of its own: a stream that is about to be replaced may still move it on.
                    self._applied[prefix] = listings[above].revision
        for prefix, listing in listings.items():
            self._examine(result, listing.keys)
            besides = own.get(prefix, ())
            result.changed |= self.tree.replace(prefix, listing.keys, besides)
            self._folders.replace(prefix, dict.fromkeys(listing.folders, ""), besides)

    def _examine(self, result: MirrorResult, keys: Mapping[str, str]) -> None:
        """Warn, once a key, of bytes that the store could not keep."""
        for raw, value in () if self._binary else keys.items():
            if ("\ufffd" in value or "\ufffd" in raw) and raw not in self._damaged:
                self._damaged.add(raw)
                result.log(
                    "warning", "value.damaged", key=raw, reason="not UTF-8 when it was put: the store has U+FFFD"
                )

    def _start_over(self, result: MirrorResult, why: str) -> None:
        """Forget every position: none of them means anything in the store that answers now."""
        self.store += 1
        result.log("warning", "store.replaced", reason=why, did="read everything again")
        self._applied.clear()
        self._reach.clear()
        self._close_streams(result)

    # --- what the store refuses ------------------------------------------------------------------------------------

    def _refuse(self, result: MirrorResult, errors: Mapping[str, StoreError], now: float) -> None:
        """Leave these prefixes out of all that is shared, and say so as ``_store_lost`` does."""
        for prefix in errors:
            self._applied.pop(prefix, None)
        for prefixes in self._refused.add(errors, now):
            refusal = self._refused[prefixes[0]]
            fields = {**refusal.error.fields(), **self._whom(prefixes), "did": "goes on without it"}
            if not self._once:
                fields |= {"attempt": refusal.attempts, "retry_in": round(refusal.ask_at - now, 1)}
            result.log("error", "prefix.denied", **fields)
        self._choose()

    def _recover(self, result: MirrorResult, read: Collection[str], now: float) -> None:
        """Take it that what was read, and what that shows, is refused no more."""
        found = [
            prefix
            for prefix in self._refused
            if any(one in read and self._lists(one, prefix) for one in ancestors(prefix))
        ]
        if found:
            since = self._refused.end(found)
            result.log("info", "prefix.recovered", **self._whom(found), after=round(now - since, 1))

    def _refused_by(self, result: MirrorResult, error: StoreError, asked: Collection[str], now: float) -> bool:
        """Say whether the error refuses one prefix of those asked for, and leave that one out from now on."""
        prefix = error.where.get("prefix") if isinstance(error, AccessDenied) else None
        if not isinstance(prefix, str) or prefix not in asked:
            return False
        if prefix in self._wanted:
            result.learned = True
            self._refuse(result, {prefix: error}, now)
            if self._reading is None:
                self._read_missing(result)
        elif prefix not in self._refused:
            self._refused.barred.add(prefix)
        self._follow(now)
        return True

    def _whom(self, prefixes: Sequence[str]) -> dict[str, object]:
        """Return for a line which prefixes it is about, and who reads them."""
        names = dict.fromkeys(name for prefix in prefixes for name in self._readers.get(prefix, ()))
        return {"prefix": abbreviate(prefixes), "resource": abbreviate(list(names))}

    # --- watching --------------------------------------------------------------------------------------------------

    def _candidates(self) -> tuple[str, ...]:
        """Return the prefixes that might cover a group's, to be counted."""
        parents = {_parent(group) for group in self._groups if len(group) > 1}
        refused = {above for prefix in self._refused for above in ancestors(prefix)}
        return tuple(sorted(parents - {ROOT} - set(self._wanted) - refused - self._refused.barred))

    def _covers(self) -> tuple[str, ...]:
        """Return what to watch: the wanted prefixes, a group's under one cover where that brings few strangers."""
        chosen = [prefix for prefix in self._wanted if prefix in self._applied]
        parents = self._counts.keys() & set(self._candidates())
        for parent, below in self._below(parents).items():
            if self._counts[parent] <= 2 * sum(map(self.tree.raw_count, below)):
                chosen.append(parent)
        return minimal(chosen, self._lists)

    def _follow(self, now: float) -> None:
        """See to it that a stream follows what was read, and no more."""
        if self._follows and self._covers() != self._watched:
            self._watch_at = min(self._watch_at, now)

    def _below(self, heads: AbstractSet[str]) -> dict[str, list[str]]:
        """Return which read prefixes each of the heads shows."""
        found: dict[str, list[str]] = {}
        for prefix in self._applied:
            for head in ancestors(prefix):
                if head in heads and self._lists(head, prefix):
                    found.setdefault(head, []).append(prefix)
        return found

    def _open(self, result: MirrorResult) -> None:
        self._watch_at = NEVER
        self._watched = self._covers()
        if not self._watched:
            self._close_streams(result)
            return
        if self._opening is not None:
            result.actions.append(Unwatch(self._opening))
        self._number += 1
        self._opening = self._number
        below = self._below(set(self._watched))
        cursors = {cover: min(self._applied[prefix] for prefix in prefixes) for cover, prefixes in below.items()}
        result.actions.append(Watch(self._opening, cursors, self.identity))

    def _opened(self, result: MirrorResult, now: float) -> None:
        if self._current is not None:
            result.actions.append(Unwatch(self._current))
        self._current, self._opening = self._opening, None
        self._opened_at = now
        self._doubts = {}  # what it has only begun to bring is not missing yet
        self._store_found(result, now)
        if self._watch_lost_at is not None:
            result.log("info", "watch.recovered", after=round(now - self._watch_lost_at, 1))
            self._watch_lost_at = None

    def _changed(self, result: MirrorResult, message: Changed, now: float) -> None:
        self._watch_backoff.reset()
        self._watch_damping.reset()
        if isinstance(message.changes, Invalidated):
            # That may be what was wrong with them.
            self._refused.put_off(self._refused, now)
            self._read_if_idle(result, now)
            return
        if self._reading is not None:
            self._reading.keep(message.changes)
        self._apply(result, message.changes)

    def _apply(self, result: MirrorResult, changes: Changes) -> None:
        for path, revision in changes.deleted.items():
            self._drop(result, path, revision)
        for raw, (revision, value) in changes.keys.items():
            prefix = self._above(raw)
            # A key under a cover that nobody wants, or a repeat.
            if prefix is None or revision <= self._applied[prefix]:
                continue
            if value is not None:
                self._examine(result, {raw: value})
            seen = self.tree.delete(raw) if value is None else self.tree.set(raw, value)
            if seen:
                result.changed.add(normalise(raw))
        for path, revision in changes.folders.items():
            above = self._above(path)
            if above is not None and revision > self._applied[above] and self._folders.set(path, ""):
                result.changed.add(path)
        reach = self._reach.get(changes.prefix)
        if reach is None:
            reach = [prefix for prefix in self._applied if self._lists(changes.prefix, prefix)]
            self._reach[changes.prefix] = reach
        for prefix in reach:
            self._applied[prefix] = max(self._applied[prefix], changes.revision)

    def _drop(self, result: MirrorResult, path: str, revision: int) -> None:
        """Take all below a path out of the tree, but for what is known from after that."""
        below = [prefix for prefix in self._applied if prefix != path and covers(path, prefix)]
        for one in (path, *below):
            above = self._above(one)
            if above is not None and revision > self._applied[above]:
                besides = [prefix for prefix in below if prefix != one and covers(one, prefix)]
                result.changed |= self.tree.replace(one, {}, besides)
                self._folders.replace(one, {}, besides)

    def _stream_lost(self, result: MirrorResult, message: Lost, now: float) -> None:
        if message.stream == self._opening:
            self._opening = None
        else:
            self._current = None
            if now - self._opened_at > STEADY:
                self._watch_backoff.reset()
                self._watch_damping.reset()
            if self._opening is not None and not message.relist:
                return  # the one that takes its place is on its way
        if self._refused_by(result, message.error, self._watched, now):
            return
        wait = self._watch_backoff.wait()
        attempt = self._watch_backoff.attempts
        if self._watch_damping.admits("", attempt, now):
            result.log("warning", "watch.lost", **message.error.fields(), attempt=attempt, retry_in=round(wait, 1))
            if self._watch_lost_at is None:
                self._watch_lost_at = now
        if message.relist:
            self._close_streams(result)
            self._read_at = min(self._read_at, now + wait)
        else:
            self._watch_at = now + wait

    def _close_streams(self, result: MirrorResult) -> None:
        result.actions += [Unwatch(stream) for stream in (self._current, self._opening) if stream is not None]
        self._current = self._opening = None
        self._watched = ()
        self._watch_at = NEVER

    # --- resync ----------------------------------------------------------------------------------------------------

    def _tick(self, result: MirrorResult, now: float) -> None:
        if self._reading is None and now >= self._read_at:
            self._read_all(result)
        if now >= self._resync_at and self._wanted and self._reading is None and self._polling is None:
            self._resync_at = NEVER
            self._resyncs += not self._doubts
            if self._doubts or self._resyncs % FULL_READ_EVERY:
                self._poll(result)
            else:
                self._refused.begin_anew()
                self._read_all(result)
        if self._reading is None and now >= self._refused.ask_at():
            self._read(result, self._refused.due(now), alone=True)
        if now >= self._watch_at and self._read_at == NEVER:
            self._open(result)

    def _poll(self, result: MirrorResult) -> None:
        self._number += 1
        self._polling = Poll(self._number, tuple(prefix for prefix in self._wanted if prefix in self._applied))
        result.actions.append(self._polling)

    def _polled(self, result: MirrorResult, message: Polled, now: float) -> None:
        polling, self._polling = self._polling, None
        assert polling is not None
        if message.error is not None:
            if self._refused_by(result, message.error, polling.prefixes, now):
                self._resync_at = now
                return
            self._resync_at = self._store_lost(result, message.error, now)
            return
        if message.status is None:
            self._read_if_idle(result, now)
            return
        self._store_found(result, now)
        status = message.status
        newest = max(self._applied.values(), default=0)
        if status.identity != self.identity or (status.revision < newest and self._reading is None):
            self._read_if_idle(result, now)
            return
        unsaid = tuple(one for one in polling.prefixes if one in self._wanted and one not in status.newest)
        if unsaid and self._reading is None:
            self._read(result, unsaid, alone=True)
        doubts = self._behind(status)
        if not doubts:
            self._doubts = {}
            self._resync_at = now + jittered(self._period, self._random)
        elif not self._follows:
            self._read_if_idle(result, now)
        elif not self._doubts:
            # The stream may simply be slower than the ask: give it a moment, then look whether it brought them.
            self._doubts = doubts
            self._resync_at = now + DOUBT
        elif self._unresolved(doubts):
            if self._current is not None:
                fields = {"prefix": min(doubts), "prefixes": len(doubts), "did": "read everything again"}
                result.log("warning", "watch.missed", **fields)
            self._close_streams(result)
            self._read_if_idle(result, now)
        else:
            self._doubts = {}
            self._resync_at = now + jittered(self._period, self._random)

    def _behind(self, status: PrefixStatus) -> dict[str, _Lag]:
        """Return the prefixes of which the store knows more than the tree."""
        found = {}
        for prefix, newest in status.newest.items():
            if prefix in self._applied:
                counted = status.counts.get(prefix, 0)
                if newest > self._applied[prefix] or counted != self.tree.raw_count(prefix):
                    found[prefix] = _Lag(newest, self._applied[prefix], counted)
        return found

    def _unresolved(self, doubts: Mapping[str, _Lag]) -> bool:
        """Say whether something that was missing at the ask before is missing still.

        Under steady traffic the store is always a little ahead; a prefix whose stream moved on is alive, and within
        one watch nothing is skipped.
        """
        for prefix in doubts:
            before = self._doubts.get(prefix)
            if before is not None and self._applied[prefix] == before.applied:
                return True
        return False

    def _read_if_idle(self, result: MirrorResult, now: float) -> None:
        if self._reading is None:
            self._read_all(result)
        else:
            self._read_at = min(self._read_at, now)

    # --- the store's health ----------------------------------------------------------------------------------------

    def _store_lost(self, result: MirrorResult, error: StoreError, now: float) -> float:
        """Log that the store is away, unless the same was logged lately (``Damping``).

        Returns when to try again.
        """
        attempts = self._read_backoff.attempts
        wait = self._read_backoff.wait()
        if self.lost is None:
            self._lost_since = now
        if self._lost_damping.admits(error.message, attempts + 1, now):
            again = {} if self._once else {"attempt": attempts + 1, "retry_in": round(wait, 1)}
            did = "goes on with the keys that it has" if self._applied else "has no keys yet"
            result.log("error", "store.lost", **error.fields(), did=did, **again)
        self.lost = error
        return now + wait

    def _store_found(self, result: MirrorResult, now: float) -> None:
        self._read_backoff.reset()
        self._lost_damping.reset()
        if self.lost is not None:
            result.log("info", "store.recovered", after=round(now - self._lost_since, 1))
            self.lost = None

    def _above(self, key: str) -> str | None:
        """Return the nearest read prefix that shows a raw key or prefix: cut it segment by segment."""
        path = key
        while path:
            if path in self._applied and self._lists(path, key):
                return path
            path = path[: path.rfind("/")] if "/" in path else ""
        return ROOT if ROOT in self._applied and self._lists(ROOT, key) else None


def _without(news: Mapping[str, News], deleted: Iterable[str]) -> dict[str, News]:
    """Return what is not at or below a deleted path."""
    return {key: one for key, one in news.items() if not any(covers(path, key) for path in deleted)}


def abbreviate(names: Sequence[str]) -> str:
    """Return the first names for a line, and how many others there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _parent(prefixes: Sequence[str]) -> str:
    """Return the longest path that all prefixes lie below."""
    heads = [prefix.split("/") for prefix in prefixes]
    common = []
    for segments in zip(*heads, strict=False):
        if len(set(segments)) > 1:
            break
        common.append(segments[0])
    return "/".join(common) or ROOT
