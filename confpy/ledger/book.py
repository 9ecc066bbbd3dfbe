"""What all entries of a ledger together say. Pure.

``Book.apply`` takes one entry after another, when it is written and when it is read again: what is in memory is what a
later start will find.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from typing import TypeAlias

from confpy.candidates import OwnedFile
from confpy.frozen import define, field, replace
from confpy.ledger.formats import Entry
from confpy.ledger.records import (
    Change,
    GroupChange,
    Record,
    read_count,
    read_owned,
    read_record,
    read_rejection,
    write_counts,
    write_owned,
    write_record,
    write_rejections,
    write_run,
)
from confpy.messages import Counted
from confpy.reload.spec import LastRun, PendingReload, Rejection, ReloadSpec, UnknownReload

KEEP_REJECTIONS = 30 * 86400.0
"""Seconds after which a rejected content is forgotten: its resource is gone, or nobody asked for it again."""
Counting: TypeAlias = tuple[str, str, str]
"""What a count is of: root, resource and backend."""


class MissingRecordError(LookupError):
    """An entry speaks of a record that is not there: it was on a torn line, or is over."""


@define
class Book:
    """What all entries together say."""

    records: dict[int, Record] = field(default_factory=dict)
    counts: dict[Counting, Counted] = field(default_factory=dict)
    """The last delivery's last."""
    _counted_by: dict[Counting, int] = field(default_factory=dict)
    """The record that a count is from, or that was the newest by then."""
    _last: int = 0
    stores: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Backend → the identity of the store, and its revision."""
    runs: dict[str, LastRun] = field(default_factory=dict)
    """Key of a reload → its last run, as long as that puts off the next one."""
    rejections: dict[str, Rejection] = field(default_factory=dict)
    """Resource → the content that its reload rejected last."""
    owned: dict[tuple[str, str], OwnedFile] = field(default_factory=dict)
    """Root and path → the file there that was made of an item."""
    at: float = 0.0
    """Wall clock of the last entry."""
    ignored: set[str] = field(default_factory=set)
    """Fields of entries that are not known."""

    # --- entries ---------------------------------------------------------------------------------------------------

    def apply(self, entry: Entry) -> None:
        """Take one entry.

        Raises ``MissingRecordError``, and ``LookupError``, ``TypeError`` or ``ValueError`` for one that is not
        understood.
        """
        match entry["op"]:
            case "begin":
                record = read_record(entry, self.ignored)
                self.records[record.number] = record
                self._last = max(self._last, record.number)
                self.at = max(self.at, record.at)
            case "in place":
                path, found = entry["path"], {"in_place": True, "mark": entry["mark"]}
                self._change(entry["record"], lambda it: replace(it, **found) if it.path == path else it)
            case "checked":
                for number, group in entry["groups"]:
                    record = self._record(number)
                    self.records[number] = replace(record, check_passed=(*record.check_passed, group))
            case "taken":
                record = self._record(entry["record"])
                groups = tuple(group for group in record.groups if group.name not in entry["groups"])
                self.records[record.number] = replace(record, groups=groups)
                if not groups:
                    del self.records[record.number]
            case "done":
                self._end(entry["record"], entry["failed"])
            case "cleared":
                self._clear(entry["key"], entry["records"])
            case "rejected":
                for name, written in entry["rejections"].items():
                    if written is None:
                        self.rejections.pop(name, None)
                    else:
                        self.rejections[name] = read_rejection(written)
            case "owned":
                root = entry.get("root", "")
                for dest in entry["dests"]:
                    self.owned.pop((root, dest), None)
                for written in entry["files"]:
                    one = read_owned(written)
                    self.owned[root, one.dest] = one
            case "run":
                run = LastRun(float(entry["at"]), int(entry["failures"]), float(entry["interval"]))
                self.runs[str(entry["key"])] = run
                self.at = max(self.at, run.at)
            case "counted":
                self._take_counts(entry)
            case _:
                raise ValueError(f"the operation {entry['op']!r} is not known")

    def take(self, other: Book, number: Callable[[], int]) -> None:
        """Add another, newer book, with new numbers for its records."""
        numbers = {record.number: number() for record in other.in_order()}
        for record in other.records.values():
            replaces = tuple((numbers[old], group) for old, group in record.replaces if old in numbers)
            self.records[numbers[record.number]] = replace(record, number=numbers[record.number], replaces=replaces)
        olds = sorted(numbers)
        for counting, counted in other.counts.items():
            at = bisect_right(olds, other._counted_by[counting])
            self._count(counting, counted, numbers[olds[at - 1]] if at else self._last)
        self._last = max(self._last, *numbers.values(), 0)
        self.stores.update((backend, store) for backend, store in other.stores.items() if any(store))
        self.owned |= other.owned
        self.runs |= other.runs
        self.rejections |= other.rejections
        self.at = max(self.at, other.at)

    def entries(self) -> Iterator[Entry]:
        """Yield the smallest list of entries that says the same."""
        backends = dict.fromkeys(backend for _, _, backend in self.counts)
        for backend in (one for one in self.stores if one not in backends and any(self.stores[one])):
            yield write_counts({}, "", backend, self.stores[backend], self.at)
        # In their order, which shows what was delivered last.
        for (root, backend), group in groupby(self.counts.items(), lambda it: (it[0][0], it[0][2])):
            counts = {name: counted for (_, name, _), counted in group}
            yield write_counts(counts, root, backend, self.stores.get(backend, ("", 0)), self.at)
        by_root: dict[str, list[OwnedFile]] = {}
        for (root, _), one in self.owned.items():
            by_root.setdefault(root, []).append(one)
        for root, files in by_root.items():
            yield write_owned(files, (), root)
        for record in self.in_order():
            yield write_record(record)
        for key, run in self.runs.items():
            yield write_run(key, run)
        if self.rejections:
            yield write_rejections(self.rejections)

    def _record(self, number: int) -> Record:
        try:
            return self.records[number]
        except KeyError:
            raise MissingRecordError(number) from None

    def _change(self, number: int, changed: Callable[[Change], Change]) -> None:
        record = self._record(number)
        groups = tuple(replace(group, changes=tuple(map(changed, group.changes))) for group in record.groups)
        self.records[number] = replace(record, groups=groups)

    # --- records ---------------------------------------------------------------------------------------------------

    def in_order(self) -> list[Record]:
        # By number: the wall clock may go back.
        return sorted(self.records.values(), key=lambda record: record.number)

    def _end(self, number: int, failed: Iterable[str]) -> None:
        record = self._record(number)
        dropped = set(failed)
        groups = tuple(group for group in record.groups if group.name not in dropped)
        record = self.records[number] = replace(record, groups=groups, done=True)
        for change in record.changes:
            if change.of:
                self._own(record, change)
        if not record.is_rollback:
            self.count(record)
        elif record.replaces:
            self._reject(record)
        for other, name in record.replaces:
            if other in self.records:
                older = self.records[other]
                self.records[other] = replace(older, groups=tuple(it for it in older.groups if it.name != name))
        self.tidy()

    def _own(self, record: Record, change: Change) -> None:
        """Take what is ours by a change that is in place."""
        self.owned.pop((record.root, change.dest), None)
        if change.new is not None and (change.ours or not record.is_rollback):
            one = OwnedFile(change.resource, change.of, change.item, change.dest, change.path, change.new)
            self.owned[record.root, change.dest] = one

    def owned_in(self, root: str) -> tuple[OwnedFile, ...]:
        """Return the files in a tree that were made of items."""
        return tuple(one for (where, _), one in self.owned.items() if where == root)

    def _ended(self, key: str = "", cleared: Collection[int] = ()) -> Iterator[tuple[Record, GroupChange]]:
        """Yield the group changes that owe no reload, and need not be undone with an older one of their group.

        ``key``, ``cleared``: as if these records no longer owed this reload.
        """
        owing: set[str] = set()
        for record in self.in_order():
            for group in record.groups if record.done else ():
                if any(it.owes and not (it.key == key and record.number in cleared) for it in group.changes):
                    owing.add(group.name)
                elif not (group.rollback and group.name in owing):
                    yield record, group

    def tidy(self) -> None:
        """Forget what is over."""
        over: dict[int, set[str]] = {}
        for record, group in self._ended():
            over.setdefault(record.number, set()).add(group.name)
        for number, record in list(self.records.items()):
            groups = tuple(group for group in record.groups if group.name not in over.get(number, ()))
            if record.done and not groups:
                del self.records[number]
            elif len(groups) < len(record.groups):
                self.records[number] = replace(record, groups=groups)

    def is_owing(self, name: str) -> bool:
        """Return whether a group was delivered, and still owes a reload for that."""
        done = (record for record in self.records.values() if record.done)
        return any(it.owes for record in done for group in record.groups if group.name == name for it in group.changes)

    def over(self, number: int, failed: Collection[str], left: Collection[int]) -> list[tuple[int, list[GroupChange]]]:
        """Return which open records (``left``) a newer one has taken groups of, with these groups.

        Otherwise a later start would put them back, over what is right by now. ``failed``: groups of the newer record.
        """
        groups = self.records[number].groups if number in self.records else ()
        paths = {change.path for group in groups if group.name not in failed for change in group.changes}
        found = []
        for record in self.in_order():
            if record.number in left and record.number < number and not record.done:
                taken = [it for it in record.groups if not paths.isdisjoint(change.path for change in it.changes)]
                found += [(record.number, taken)] if taken else []
        return found

    def marks(self) -> set[str]:
        """Return the marks of the old files that may still be needed."""
        return {
            change.mark
            for record in self.records.values()
            for group in record.groups
            for change in group.changes
            if change.mark and (group.rollback or not record.done)
        }

    # --- reloads ---------------------------------------------------------------------------------------------------

    def _owing(self) -> Iterator[tuple[Record, ReloadSpec | UnknownReload, list[Change]]]:
        for record in self.in_order():
            for spec in record.reloads:
                if changes := [change for change in record.changes if change.owes == spec.key]:
                    yield record, spec, changes

    def owed(self) -> tuple[PendingReload, ...]:
        """Return what is owed, one for each reload that this confpy knows."""
        found: dict[str, PendingReload] = {}
        for record, spec, changes in self._owing():
            if isinstance(spec, UnknownReload):
                continue
            before = found.get(spec.key)
            dests = dict(zip(before.resources, before.dests, strict=True)) if before else {}
            dests.update((change.resource, change.dest) for change in changes)
            if before is not None:
                # If those who owe it disagree, it is tried again.
                on_failure = spec.on_failure if before.spec.on_failure == spec.on_failure else "retry"
                timeout = max(spec.timeout, before.spec.timeout)
                runtime = spec.runtime if before.spec.runtime == spec.runtime else None
                spec = replace(spec, timeout=timeout, on_failure=on_failure, runtime=runtime)  # noqa: PLW2901 - of both
            records = (*(before.records if before else ()), record.number)
            found[spec.key] = PendingReload(spec, tuple(dests), tuple(dests.values()), records)
        return tuple(found.values())

    def unknown(self) -> Iterator[tuple[UnknownReload, list[str]]]:
        """Yield the owed reloads that this confpy does not know, each with its resources."""
        for _, spec, changes in self._owing():
            if isinstance(spec, UnknownReload):
                yield spec, [change.resource for change in changes]

    def _clear(self, key: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number in self.records:
                self._accept(self.records[number], key)
                self._change(number, lambda it: replace(it, cleared=True) if it.key == key else it)
        if (run := self.runs.pop(key, None)) and run.interval:
            self.runs[key] = replace(run, failures=0)
        self.tidy()

    def freed(self, key: str, numbers: Iterable[int]) -> list[Change]:
        """Return the changes whose old files are no longer needed once these records no longer owe this reload."""
        over = self._ended(key, set(numbers))
        return [change for _, group in over if group.rollback for change in group.changes if change.mark]

    def to_undo(self, key: str) -> list[tuple[Record, GroupChange]]:
        """Return what was delivered since a reload last succeeded, and can be undone, in its order."""
        found: list[tuple[Record, GroupChange]] = []
        names: set[str] = set()
        for record in self.in_order():
            for group in record.groups if record.done else ():
                # A later change of its group was made on top of what is undone.
                if group.rollback and (group.name in names or any(change.owes == key for change in group.changes)):
                    names.add(group.name)
                    found.append((record, group))
        return found

    # --- rejections ------------------------------------------------------------------------------------------------

    def _reject(self, record: Record) -> None:
        """Record what a rollback has taken away: its process may end before it does."""
        for change in record.changes:
            if change.old != change.new:
                # That there was to be no file is the digest of none.
                digest, before = change.old or "", self.rejections.get(change.resource)
                times = before.times + 1 if before is not None and before.digest == digest else 1
                rejection = Rejection(digest, change.path, change.new, "", record.at, times)
                self.rejections[change.resource] = rejection

    def _accept(self, record: Record, key: str) -> None:
        """Forget that a content was rejected: its reload has succeeded, or is no longer wanted."""
        for change in () if record.is_rollback else record.changes:
            if change.owes == key and self._is_rejected(change):
                del self.rejections[change.resource]

    def _is_rejected(self, change: Change) -> bool:
        rejection = self.rejections.get(change.resource)
        return rejection is not None and rejection.digest == (change.new or "")

    def in_place(self) -> frozenset[str]:
        """Return the resources whose targets have a content that was rejected once, and still owe the reload for it."""
        records = (record for record in self.records.values() if not record.is_rollback)
        changes = (change for record in records for change in record.changes)
        return frozenset(change.resource for change in changes if change.owes and self._is_rejected(change))

    def forget_old(self, wall: float) -> None:
        """Forget last runs and rejections that delay nothing any more at this time of the wall clock."""
        self.rejections = {name: it for name, it in self.rejections.items() if wall < it.at + KEEP_REJECTIONS}
        owed = {change.owes for record in self.records.values() for change in record.changes}
        self.runs = {key: run for key, run in self.runs.items() if key in owed or wall < run.at + run.interval}

    # --- counts ----------------------------------------------------------------------------------------------------

    def count(self, record: Record) -> None:
        """Take the key counts of a record, which may be found to have ended long after newer ones."""
        reads = {name: read for name, *read in record.reads}
        for change in (one for one in record.changes if not one.of):  # items are counted by their plan
            counting = record.root, change.resource, record.backend
            if record.number > self._counted_by.get(counting, 0):
                counted = read_count(change.keys, record.backend, reads.get(change.resource))
                self._count(counting, counted, record.number)

    def _take_counts(self, entry: Entry) -> None:
        root, backend, reads = entry.get("root", ""), entry.get("backend", ""), entry.get("reads", {})
        counts = {name: read_count(keys, backend, reads.get(name)) for name, keys in entry["counts"].items()}
        store, at = (entry["identity"], entry["revision"]), max(self.at, entry["at"])
        for name, counted in counts.items():
            self._count((root, name, backend), counted, self._last)
        self.stores[backend], self.at = store, at

    def _count(self, counting: Counting, counted: Counted, by: int) -> None:
        root, name, _ = counting
        # What an earlier version recorded for no store in particular was for the one that is known by now, if any.
        for one in (counting, (root, name, "")):
            self.counts.pop(one, None)
            self._counted_by.pop(one, None)
        self.counts[counting], self._counted_by[counting] = counted, by

    def counts_of(self, root: str) -> dict[str, tuple[Counted, ...]]:
        """Return the counts of what was delivered into a tree, by resource."""
        found: dict[str, tuple[Counted, ...]] = {}
        for (where, name, _), counted in self.counts.items():
            if where == root:
                found[name] = (*found.get(name, ()), counted)
        return found

    def mounted_stores(self) -> dict[str, tuple[str, int]]:
        """Return the identity and the revision of each mounted store, by its kind and its mount."""
        return {name: store for name, store in self.stores.items() if " at /" in name}

    def store_of(self, backend: str) -> tuple[str, int]:
        """Return the identity of the store of this kind, and its revision."""
        return self.stores.get(backend) or self.stores.get("") or ("", 0)
