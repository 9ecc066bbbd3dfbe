"""The mirror of one store: it holds the keys, and decides when to read, poll, watch and wait. Pure.

The pattern is list-then-watch, as in Kubernetes' reflector: read all prefixes at one revision, watch from the next,
and list again whenever that may not be enough. Three things may be in flight, each with a number so that a late
answer to an old one is recognized: a read, a poll, and streams (two while one takes over from another).

What makes it right:

* The copy holds, per prefix, the revision up to which its keys are in the tree: repeats are dropped (``copy``).
* Changes that come while a read is in flight are applied at once and preserved, then replayed over its answer: an
  older answer never rolls the tree back (``reading``).
* A watch is never trusted alone: at regular intervals the store's prefixes are compared with the copy (``resync``).
* A prefix that the store denies is left out of all that the others share, and read alone, at growing intervals
  (``denied``). Its keys stay in the tree, where no resource sees them before it was read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from random import Random
from typing import Literal

from confpy.clock import NEVER
from confpy.errors import AccessDenied, StoreError
from confpy.keys.prefixes import Lists, ancestors, select
from confpy.keys.snapshot import Invalidated, Snapshot
from confpy.messages import Asked, Changed, Listed, Lost, Message, Opened, Polled, Read
from confpy.mirror.answers import Answers
from confpy.mirror.copy import LocalCopy
from confpy.mirror.denied import DeniedPrefixes
from confpy.mirror.health import StoreHealth
from confpy.mirror.reading import Reading
from confpy.mirror.result import MirrorResult
from confpy.mirror.resync import Resync
from confpy.mirror.streams import Streams
from confpy.mirror.wants import Wants


class Mirror(Answers):
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
        names_deletions: bool = True,
        remote: bool = True,
        on_missing: Literal["error", "empty"] | None = None,
        numbers: Iterator[int] | None = None,
        name: str = "",
        nodes: tuple[str, ...] = (),
        mount: str = "",
    ) -> None:
        """``follows``: keep a stream open; ``period``: seconds from one resync (or poll) to the next.

        ``once``: a single read is wanted: what fails is not tried again. ``patience``: seconds from one try to read to
        the next, at most. ``binary``: the store preserves any bytes; one that does not has U+FFFD where they were not
        UTF-8. ``lists`` says whether a read of a prefix brings a key that it covers (None: always); where it does
        not, the key's own prefix is read and watched as well. ``spells`` returns the store's spelling of a path.
        ``names_deletions``: its streams name what was deleted. ``remote``: it may be away when confpy starts.
        ``on_missing``: as the attribute, before any read.
        ``numbers``: of what is in flight, shared by the mirrors of one agent. ``name``, ``nodes``: the kind of store,
        and its addresses, for people. ``mount``: where it is mounted.
        """
        self.name = name
        self.nodes = nodes
        self.mount = mount
        self.remote = remote
        self.lists = lists
        """As ``View`` takes it."""
        self.spells = spells
        self.on_missing: Literal["error", "empty"] | None = on_missing
        """What a missing tree is to a resource that does not set it, once that is known."""
        self.store = 0
        """How often another store, or an older state of it, replaced the one before."""
        self._read_at = -NEVER
        """When the newest read of all that is wanted began."""
        self.identity = ""
        """Which store the keys are from."""
        self._copy = LocalCopy(lists, binary=binary)
        self.tree = self._copy.tree
        self._once = once
        self._now = -NEVER
        self._floor = 0
        """The revision of the store when confpy ended: a lower one is an older state."""
        self._numbers = numbers or count(1)
        self._names_deletions = names_deletions
        self._denied = DeniedPrefixes(random)
        self._wants = Wants(self._denied, self._copy.lists)
        self._health = StoreHealth(random, patience=patience, once=once)
        self._streams = Streams(self._copy, self._wants, random, self._numbers, used=follows, mount=mount)
        self._resync = Resync(
            self._copy, self._wants, random, self._numbers, period=period, follows=follows, mount=mount
        )
        self._reading: Reading | None = None
        self._next_read_at = NEVER
        self._complete_at = (0, 0)
        """The versions of what is wanted and of what was read, for which nothing was missing."""

    # --- what the agent has it do ------------------------------------------------------------------------------------

    def want(self, resources: Mapping[str, Sequence[str]]) -> MirrorResult:
        """Follow from now on what these resources read; one's prefixes are seen in one order where that is cheap."""
        self._wants.replace(resources)
        readers = self._wants.readers
        held = {*self._copy.positions, *self._denied}
        self._denied.keep(readers)
        self._choose()
        # What lies below a prefix that is still to be read stays until that read replaces it.
        gone = [one for one in held if not any(it in readers and self._copy.lists(it, one) for it in ancestors(one))]
        for prefix, besides in select(gone, readers).items():
            self._copy.empty(prefix, tuple(besides))
        result = MirrorResult(mount=self.mount)
        if self.mount and not readers:
            self._streams.close(result)  # the store of a resource that is gone, perhaps for good
        if self._reading is None:
            self._read_new(result)
        return result

    def expect(self, identity: str, revision: int, key: str = "") -> None:
        """Take it that the store was this one, at this revision, when confpy ended: another one will be noticed.

        ``key``: which store this says something of, as ``Answers.key``.
        """
        if key == self.key:
            self.identity = self.identity or identity
            self._floor = revision

    def reread(self, now: float, prefixes: Sequence[str] = ()) -> MirrorResult:  # noqa: ARG002 - the store's
        """Read everything again, even where a read is in flight already, but not where the store is lost."""
        result = MirrorResult(mount=self.mount)
        if self._health.error is None:
            self._read_again(result, now)
            self._do_what_is_due(result, now)  # a stream may have waited for the read that was to come
        return result

    def resync(self, now: float) -> None:
        """Compare with the store at once, as if the period were over."""
        self._resync.at = min(self._resync.at, now)

    def wake_at(self) -> float:
        """Return the monotonic time of the next thing to do unasked."""
        moments = [self._streams.open_at if self._next_read_at == NEVER else NEVER]
        if self._reading is None:
            moments += (self._next_read_at, self._denied.read_at())
            if self._wants.prefixes and not self._resync.is_polling:
                moments.append(self._resync.at)
        return min(moments)

    def step(self, message: Message, now: float) -> MirrorResult:
        """Take one message; those that are not about the store only let time pass."""
        self._now = now
        result = MirrorResult(mount=self.mount)
        match message:
            case Listed() if self._reading is not None and message.read == self._reading.number:
                reading, self._reading = self._reading, None
                self._take_read(result, reading, message, now)
            case Asked() if self._reading is None:
                self._resync.ask(result)
            case Polled() if (poll := self._resync.take(message.poll)) is not None:
                self._take_poll(result, poll.prefixes, message, now)
            case Opened() if self._streams.is_opening(message.stream):
                self._streams.hand_over(result, now)
                self._resync.forget_all()
                self._recover(result, now)
                self._streams.log_recovery(result, now)
            case Changed() if self._streams.has(message.stream):
                self._take_changes(result, message, now)
            case Lost() if self._streams.has(message.stream):
                self._take_loss(result, message, now)
        self._do_what_is_due(result, now)
        result.unnamed = result.learned or not self._names_deletions
        return result

    def _do_what_is_due(self, result: MirrorResult, now: float) -> None:
        if self._reading is None and now >= self._next_read_at:
            self._read_all(result)
        is_idle = self._reading is None and not self._resync.is_polling
        if is_idle and self._wants.prefixes and now >= self._resync.at:
            if self._resync.begin() and self._copy.positions:  # a poll of nothing would say that the store is there
                self._resync.poll(result)
            else:
                self._denied.begin_anew()
                self._read_all(result)
        if self._reading is None and now >= self._denied.read_at():
            self._read(result, self._denied.due(now), alone=True)
        if now >= self._streams.open_at and self._next_read_at == NEVER:
            self._streams.open(result, self.identity)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Determine what is read and followed, and keep the positions that count for it."""
        self._wants.choose()
        self._copy.keep(self._wants.prefixes)

    def _read(self, result: MirrorResult, prefixes: tuple[str, ...], *, alone: bool = False) -> None:
        number = next(self._numbers)
        positions = self._copy.positions
        since = {prefix: positions[prefix] for prefix in prefixes if prefix in positions}
        self._reading = Reading(number, prefixes, since, positions.newest, alone, self._now)
        result.actions.append(Read(number, prefixes, () if alone else self._streams.candidates(), self.mount))

    def _read_all(self, result: MirrorResult) -> None:
        self._next_read_at = NEVER
        if self._wants.prefixes:
            self._read(result, self._wants.prefixes)

    def _read_again(self, result: MirrorResult, now: float) -> None:
        """Read everything, as soon as no read is in flight."""
        if self._reading is None:
            self._read_all(result)
        else:
            self._next_read_at = min(self._next_read_at, now)

    def _read_new(self, result: MirrorResult) -> None:
        """Read what is wanted and was not read yet, if there is any."""
        versions = self._wants.version, self._copy.positions.version
        if versions != self._complete_at:
            new = tuple(prefix for prefix in self._wants.prefixes if not self._copy.holds(prefix))
            if new:
                self._read(result, new)
            else:
                self._complete_at = versions

    def _take_read(self, result: MirrorResult, reading: Reading, message: Listed, now: float) -> None:
        result.learned = True
        snapshot = message.snapshot
        if snapshot is None:
            error = message.error or StoreError("the read failed")
            again_at = self._health.fail(result, error, now, has_keys=bool(self._copy.positions))
            if not reading.alone or self._wants.version != self._complete_at[0]:  # something may be wanted anew
                self._next_read_at = again_at
            self._denied.put_off(reading.prefixes, again_at)
            return
        self._health.recover(result, now)
        result.actions += snapshot.notes
        self.on_missing = snapshot.on_missing or self.on_missing
        self._copy.binary = self._copy.binary if snapshot.binary is None else snapshot.binary
        is_whole = self._wants.within(reading.prefixes)
        if why := reading.contradicts(snapshot, self.identity, self._floor):
            self._start_over(result, why)
            reading.changes.clear()
            if not is_whole or len(reading.prefixes) > len(self._wants.prefixes):
                self.identity, self._floor = snapshot.identity, 0
                self._read_all(result)
                return
        self.identity, self._floor = snapshot.identity, 0
        self._streams.counts = snapshot.counts or self._streams.counts
        if is_whole:
            self._read_at = reading.began
        self._take_listings(result, snapshot, now)
        for changes in reading.kept():
            self._copy.apply(changes, result)
        self._resync.forget(reading.prefixes)
        if not reading.alone or self._resync.at == NEVER:
            self._resync.schedule(now)
        self._read_new(result)
        if self._reading is None:
            self._streams.follow(now, anew=not reading.alone)

    def _take_listings(self, result: MirrorResult, snapshot: Snapshot, now: float) -> None:
        read = {prefix: listing for prefix, listing in snapshot.listings.items() if listing.error is None}
        errors = {prefix: one.error for prefix, one in snapshot.listings.items() if one.error is not None}
        granted = self._grant(result, read, now)
        self._copy.replace(read, result)
        denied = self._deny(result, errors, now)
        if granted or denied or any(prefix not in self._wants for prefix in read):
            self._choose()

    def _start_over(self, result: MirrorResult, why: str) -> None:
        """Forget every position: none of them means anything in the store that answers now."""
        self.store += 1
        result.log("warning", "store.replaced", reason=why, did="read everything again")
        self._copy.start_over()
        self._streams.close(result)

    # --- what the store denies ---------------------------------------------------------------------------------------

    def _deny(self, result: MirrorResult, errors: Mapping[str, StoreError], now: float) -> bool:
        """Log that these prefixes are denied; say whether some were not so far, so that it has to be chosen anew."""
        are_new = any(prefix not in self._denied for prefix in errors)
        self._copy.positions.forget(errors)
        for prefixes in self._denied.add(errors, now):
            denied = self._denied[prefixes[0]]
            fields = {**denied.error.fields(), **self._wants.describe(prefixes), "did": "goes on without it"}
            if not self._once:
                fields |= {"attempt": denied.attempts, "retry_in": round(denied.read_at - now, 1)}
            result.log("error", "prefix.denied", **fields)
        return are_new

    def _grant(self, result: MirrorResult, read: Iterable[str], now: float) -> bool:
        """Take it that what was read, and what that brings, is denied no more; say whether any of it was."""
        found = {one: None for prefix in read for one in self._denied.covered(prefix) if self._copy.lists(prefix, one)}
        if found:
            since = self._denied.end(found)
            result.log("info", "prefix.recovered", **self._wants.describe(list(found)), after=round(now - since, 1))
        return bool(found)

    def _denies(self, result: MirrorResult, error: StoreError, asked: Collection[str], now: float) -> bool:
        """Say whether the error denies one prefix of those asked for, and leave that one out from now on."""
        prefix = error.prefix if isinstance(error, AccessDenied) else ""
        if not prefix or prefix not in asked:
            return False
        if prefix in self._wants:
            result.learned = True
            self._deny(result, {prefix: error}, now)
            self._choose()
            if self._reading is None:
                self._read_new(result)
        elif prefix not in self._denied:
            self._denied.parents.add(prefix)
        self._streams.follow(now)
        return True

    # --- watching and polling ----------------------------------------------------------------------------------------

    def _take_changes(self, result: MirrorResult, message: Changed, now: float) -> None:
        self._streams.note_change(now)
        changes = message.changes
        if isinstance(changes, Invalidated):
            # That may be what was wrong with them.
            self._denied.put_off(self._denied, now)
            self._read_again(result, now)
            return
        if self._reading is not None:
            self._reading.keep(changes)
        self._copy.apply(changes, result)

    def _take_loss(self, result: MirrorResult, lost: Lost, now: float) -> None:
        # The one that takes the place of a dropped one is on its way.
        if self._streams.drop(lost, now) or self._denies(result, lost.error, self._streams.watched, now):
            return
        again_at = self._streams.fail(result, lost, now)
        if lost.relist:
            self._next_read_at = min(self._next_read_at, again_at)

    def _recover(self, result: MirrorResult, now: float) -> None:
        """Take it that the store answers, though not to a read: one that was put off until then is put off no more."""
        self._health.recover(result, now)
        if self._next_read_at < NEVER:
            self._next_read_at = min(self._next_read_at, now)

    def _take_poll(self, result: MirrorResult, prefixes: Sequence[str], polled: Polled, now: float) -> None:
        if polled.error is not None:
            if self._denies(result, polled.error, prefixes, now):
                self._resync.at = now
            else:
                self._resync.at = self._health.fail(result, polled.error, now, has_keys=bool(self._copy.positions))
            return
        status = polled.status
        if status is None:
            self._read_again(result, now)
            return
        self._recover(result, now)
        went_back = status.revision < self._copy.positions.newest and self._reading is None
        if status.identity != self.identity or went_back:
            self._read_again(result, now)
            return
        is_whole = len(status.newest) == len(prefixes)
        unsaid = () if is_whole else tuple(one for one in prefixes if one in self._wants and one not in status.newest)
        if unsaid and self._reading is None:
            self._read(result, unsaid, alone=True)
        if missed := self._resync.find_missed(status, now):
            if self._streams.is_open:
                found = {"prefix": min(missed), "prefixes": len(missed)}
                result.log("warning", "watch.missed", **found, did="read everything again")
            self._streams.close(result)
            self._read_again(result, now)
