"""Whether keys that seem to have vanished are suspect, by how many there were at the last delivery. Pure.

An empty answer is what a store gives that lost its data, elects a leader, or was set up anew: it must not empty a good
file. A deletion that a stream names is different: the last of a service's containers may be deregistered at any time.

Counts compare only for the same prefixes in the same kind of store. Whoever edits ``keys`` or ``prefix``, or runs
confpy on another kind of store, may get fewer keys; but no key at all is more likely a mistake in the edit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from confpy.candidates import Candidate
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.frozen import NOTHING, define, field
from confpy.keys.mounts import shown
from confpy.keys.prefixes import ROOT
from confpy.messages import Count, Counted, Recovered

if TYPE_CHECKING:
    from confpy.mirror.parts import Parts

NAMED = 3
"""Prefixes that a reason names; it counts the others."""


class ShrinkSuspicion(NamedTuple):
    """Why a resource's keys are suspect."""

    reason: str
    confirm_at: float
    """Monotonic time: a read that begins later confirms them; infinite where only a person can."""
    since: float
    keys: int
    """How many keys were left."""
    edited: Literal["", "keys", "prefix", "backend"] = ""
    """What was edited since the target was made, where that is why."""
    reads: tuple[str, ...] = ()
    """What is to be read again, where that is not all that the resource reads."""


@define
class PartGuard:
    """How many keys one resource had in one of several stores when it was last delivered."""

    keys: int
    store: int
    named: bool = True
    named_in_flight: bool = True

    def is_emptied(self, keys: int) -> bool:
        """Say whether all of its keys are gone, and no stream named the deletion of the only one."""
        return self.keys > 0 and not keys and not (self.named and self.keys == 1)


@define
class Guard:
    """How many keys one resource had when it was last delivered, and whether those of now are suspect."""

    keys: int | None = None
    """How many it had; None: not known for these prefixes in this store."""
    store: int = 0
    """Which store they came from: the mirror counts how often it was replaced."""
    named: bool = True
    """All deletions since then were named by a stream, not inferred from an answer."""
    named_in_flight: bool = True
    """The same of the deletions since the candidate was rendered that is being delivered."""
    suspicion: ShrinkSuspicion | None = None
    made_from: Counted | None = None
    """What the target was made from: other prefixes, or another kind of store, which ``backend`` names."""
    of_stores: dict[str, PartGuard] = field(default_factory=dict)
    """The same of each store, by mount, where the resource reads several."""
    sizes: Mapping[str, int] = NOTHING
    """How many keys of each the candidate has that was rendered last."""

    def admits(
        self,
        resource: Resource,
        keys: int,
        store: int,
        now: float,
        read_at: float,
        *,
        others: bool = True,
        parts: Parts = NOTHING,
        sizes: Mapping[str, int] = NOTHING,
    ) -> bool:
        """Say whether so many keys may be rendered; ``read_at``: when the newest full read began.

        ``others``: the store has a key for some resource. ``parts``, ``sizes``: of each store, where they are several.
        """
        edited = self._what_was_edited(resource, keys, others=others)
        reason = self._edit_reason(resource, edited) if edited else self._shrink_reason(resource, keys)
        # A store that was set up anew is as empty tomorrow: another read would say nothing.
        replaced = bool(self.keys and not keys and store != self.store and not edited)
        again: tuple[str, ...] = ()
        if not reason and parts:
            # The others have keys: what counts is the one that has none, and when that was read.
            emptied = [mount for mount in parts if self._is_emptied(mount, sizes.get(mount, 0))]
            if emptied:
                reason = self._reason_of_emptied(emptied)
                replaced = any(parts[mount].store != self.of_stores[mount].store for mount in emptied)
                read_at = min(parts[mount].read_at for mount in emptied)
                again = tuple(one for mount in emptied for one in parts[mount].reads)
        if replaced and reason:
            reason += ", and the store is another one"
        if not reason or resource.on_shrink == "render":
            self.suspicion = None
            return True
        if self.suspicion is None or self.suspicion.reason != reason:
            # A tree that goes on shrinking is not suspect for longer, but one that is empty by now is.
            since = self.suspicion.since if self.suspicion and (keys or not self.suspicion.keys) else now
            waits = replaced or edited or resource.on_shrink == "keep"
            self.suspicion = ShrinkSuspicion(
                reason, NEVER if waits else since + resource.shrink_grace, since, keys, edited, again
            )
        return read_at >= self.suspicion.confirm_at

    def trust(
        self, keys: int, store: int, *, named: bool, parts: Parts = NOTHING, sizes: Mapping[str, int] = NOTHING
    ) -> None:
        """Measure the next keys by these, which were delivered or confirmed. ``parts``, ``sizes``: of each store."""
        self.keys, self.store, self.named, self.suspicion, self.made_from = keys, store, named, None, None
        if parts or self.of_stores:
            before = self.of_stores
            self.of_stores = {
                mount: PartGuard(sizes.get(mount, 0), one.store, mount not in before or before[mount].named_in_flight)
                for mount, one in parts.items()
            }

    def note_unnamed(self, mount: str) -> None:
        """Take it that keys of the store there changed, and no stream named what was deleted, if anything was."""
        self.named = self.named_in_flight = False
        if (one := self.of_stores.get(mount)) is not None:
            one.named = one.named_in_flight = False

    def note_cached(self) -> None:
        """Take it that they were cached keys: nothing has named what was deleted since."""
        self.named = False
        for one in self.of_stores.values():
            one.named = False

    def begin_delivery(self) -> None:
        """Take it that a delivery begins of what was rendered last."""
        self.named_in_flight = True
        for one in self.of_stores.values():
            one.named_in_flight = True

    def _is_emptied(self, mount: str, keys: int) -> bool:
        one = self.of_stores.get(mount)
        return one is not None and one.is_emptied(keys)

    def _reason_of_emptied(self, mounts: Sequence[str]) -> str:
        (first, *more) = mounts
        count = self.of_stores[first].keys
        all_of = f"all of its {count} keys" if count > 1 else "its only key"
        others = f", and those of {len(more)} more" if more else ""
        return f"{all_of} of the store at {shown(first) or '/'} {'are' if count > 1 else 'is'} gone{others}"

    def after_edit(self, old: Resource, new: Resource, old_parts: Parts = NOTHING, parts: Parts = NOTHING) -> Guard:
        """Return the guard of a resource whose prefixes were edited.

        ``old_parts``, ``parts``: of each store, where the old or the new prefixes are of several. Where something is
        read from a store that had keys, that it has none may be the store's mistake: another read has to confirm it.
        """
        made_from = self.made_from if self.keys is None else Counted(self.keys, "", old.reads, old.strip)
        if made_from is not None and not made_from.backend and reads_the_same(made_from, new):
            found = Guard(made_from.keys, self.store, named=False)
        else:
            found = Guard(None, self.store, named=False, made_from=made_from)
        for mount, part in parts.items():
            if (count := self._count_of(mount, frozenset(part.reads), old, old_parts)) is not None:
                found.of_stores[mount] = count
        return found

    def _count_of(self, mount: str, reads: frozenset[str], old: Resource, old_parts: Parts) -> PartGuard | None:
        """Return the count of the keys of a store before an edit; ``reads``: what is read from it since then."""
        if mount in old_parts:
            before = self.of_stores.get(mount)
            return None if before is None else PartGuard(before.keys, before.store, named=False)
        if not old_parts and self.keys is not None and reads == frozenset(old.reads):
            return PartGuard(self.keys, self.store, named=False)
        return None

    def _what_was_edited(
        self, resource: Resource, keys: int, *, others: bool
    ) -> Literal["", "keys", "prefix", "backend"]:
        """Return what was edited, where there is no key at all and that may be why."""
        made_from = self.made_from
        if keys or made_from is None or not made_from.keys:
            return ""
        if made_from.backend:
            return "" if others else "backend"
        return "keys" if made_from.strip == resource.strip else "prefix"

    def _edit_reason(self, resource: Resource, edited: str) -> str:
        assert self.made_from is not None
        count = "1 key" if self.made_from.keys == 1 else f"{self.made_from.keys} keys"
        if edited == "backend":
            former = self.made_from.backend
            return f"this store has no key for any resource, and the target was made from {count} of {former}"
        now = (
            f"there is no key at or below {_names(resource.reads)}" if resource.reads else "keys names nothing to read"
        )
        return f"{now}, and the target was made from {count} at or below {_names(self.made_from.prefixes or ())}"

    def _shrink_reason(self, resource: Resource, keys: int) -> str:
        before = self.keys or 0
        if before and not keys and not (self.named and before == 1):
            return f"all of its {before} keys are gone" if before > 1 else "its only key is gone"
        if keys < resource.min_keys:
            return f"it has {keys} keys, fewer than min_keys ({resource.min_keys})"
        if resource.max_shrink is not None and before - keys > before * resource.max_shrink:
            return f"{before - keys} of its {before} keys are gone, more than max_shrink ({resource.max_shrink:g})"
        return ""


class KeyCounts:
    """How many keys resources had when they were last delivered, and which of that the ledger does not have yet."""

    def __init__(self, backend: str = "", *, may_lose_keys: bool = True) -> None:
        """``backend``: the store's kind. ``may_lose_keys``: it may answer with less than there is."""
        self._backend = backend
        self._may_lose_keys = may_lose_keys
        self._known: dict[str, dict[str, Counted]] = {}
        """Resource → backend → its count, the last delivery's last."""
        self._in_ledger: set[str] = set()
        """Resources of which the ledger has counts."""
        self._unsaved: dict[str, Counted] = {}
        """Counts that are in no record of a delivery."""
        self._stores: dict[str, tuple[str, int]] = {}
        """What the ledger has of the stores that they came from: which one it is, and its newest revision then."""

    def take_over(self, recovered: Recovered) -> None:
        """Take what an earlier run has left in the ledger."""
        for name, counts in recovered.counts.items():
            # A count that an earlier version noted without its store is taken for one of this store.
            self._known[name] = {counted.backend or self._backend: counted for counted in counts}
        self._in_ledger = set(self._known)
        self._stores = {**recovered.stores, "": (recovered.identity, recovered.revision)}

    def guard(self, resource: Resource, store: int, parts: Parts = NOTHING) -> Guard:
        """Return the guard of a resource that this process has not delivered. ``store``, ``parts``: as in ``Guard``."""
        known = self._known.get(resource.name, {})
        counted = known.get(self._backend)
        last = next(reversed(known.values()), None)
        same = counted is not None and reads_the_same(counted, resource)
        keys = counted.keys if counted is not None and same and self._may_lose_keys else None
        if last is counted:
            # Of the same kind of store: the guard has to name what was edited.
            last = None if counted is None or same else Counted(counted.keys, "", counted.prefixes, counted.strip)
        # No stream named what was deleted while confpy did not run.
        guard = Guard(keys, store, named=False, made_from=last)
        for mount, part in parts.items():
            of_part = self._known.get(_part_name(resource, mount), {}).get(self._backend)
            if counted is not None and counted.prefixes is not None and set(counted.prefixes) == set(part.reads):
                of_part = counted  # that store was the only one so far
            if of_part is not None:  # also if its prefixes were edited: as in ``after_edit``
                guard.of_stores[mount] = PartGuard(of_part.keys, part.store, named=False)
        return guard

    def note(
        self,
        resource: Resource,
        keys: int,
        *,
        recorded: bool,
        parts: Parts = NOTHING,
        sizes: Mapping[str, int] = NOTHING,
    ) -> None:
        """Note a delivery from so many keys; ``recorded``: the count is in its record in the ledger.

        ``parts``, ``sizes``: of each store, where they are several; no record of a delivery has those.
        """
        if resource.item is not None:
            return  # its plan counts the items
        counted = Counted(keys, self._backend, resource.reads, resource.strip)
        self._note(resource.name, counted, recorded=recorded)
        for mount, part in parts.items():
            of_part = Counted(sizes.get(mount, 0), self._backend, part.reads, resource.strip)
            self._note(_part_name(resource, mount), of_part, recorded=False)

    def take_failure(self, candidate: Candidate) -> None:
        """Take it that the ledger may have first counts of a delivery that came to nothing: the next are saved anew."""
        names = [name for name, _, _ in candidate.first_parts]
        names += [candidate.resource.name] * candidate.first_keys
        for name in names:
            self._known.get(name, {}).pop(self._backend, None)

    def _note(self, name: str, counted: Counted, *, recorded: bool) -> None:
        known = self._known.setdefault(name, {})
        if next(reversed(known.values()), None) == counted:
            return
        known.pop(self._backend, None)
        known[self._backend] = counted
        # What is never compared is saved only to outdate what another store left.
        if not recorded and (self._may_lose_keys or name in self._in_ledger):
            self._unsaved[name] = counted

    def unsaved(
        self, identity: str, revision: Callable[[], int], store: str = "", *, at_end: bool = False
    ) -> Iterator[Count]:
        """Yield what the ledger does not have yet, and the store's identity; ``at_end``: also its newest revision.

        ``revision`` is called only where it is needed: it costs a look at all prefixes. ``store``: which one it is, as
        ``Answers.key``; counts are saved with the one at ``/``.
        """
        counts = {} if store else self._unsaved
        if not (self._may_lose_keys or counts):
            return
        saved, saved_revision = self._stores.get(store, ("", 0))
        if counts or identity != saved or at_end or not saved_revision:
            newest = revision()
            if counts or identity != saved or newest > (saved_revision if at_end else 0):
                yield Count(counts, identity, newest, store)
                self._stores[store] = (identity, newest)
                if not store:
                    self._unsaved = {}


def reads_the_same(counted: Counted, resource: Resource) -> bool:
    """Say whether a count is one of the prefixes that a resource reads now."""
    return counted.prefixes is None or set(counted.prefixes) == set(resource.reads)


def first_parts(resource: Resource, guard: Guard, parts: Parts) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Yield what has keys of several stores, and had none so far: as ``Candidate.first_parts``."""
    for mount, part in parts.items():
        before = guard.of_stores.get(mount)
        if (keys := guard.sizes.get(mount, 0)) and not (before is not None and before.keys):
            yield _part_name(resource, mount), keys, part.reads


def _part_name(resource: Resource, mount: str) -> str:
    """Return what the ledger counts the keys of one store as, of a resource that reads several."""
    return f"{resource.name} at {mount or ROOT}"


def _names(prefixes: Sequence[str]) -> str:
    more = len(prefixes) - NAMED
    return ", ".join(map(shown, prefixes[:NAMED])) + (f" and {more} more" if more > 0 else "")
