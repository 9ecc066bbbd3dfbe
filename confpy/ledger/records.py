"""What the ledger says, and what is to be done about a delivery that was cut off. Pure.

A ledger is a list of entries. ``Book.apply`` takes one after another: when it is written and when it is read again, so
that what is in memory is what a later start will find. Digests of contents, never whose turn it was, decide what
became of a delivery: a target that is neither old nor new belongs to somebody else, and is left alone.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, TypeAlias

from confpy.frozen import fields, frozen, is_frozen, replace
from confpy.messages import Counted, LastRun, Owed, Rejection
from confpy.reload.actions import ACTIONS, VERIFIERS, CommandReload, ReloadAction, Verifier, VerifyCommand
from confpy.reload.kinds import from_json

FORMAT = 1
"""Version of the entries: another one is not read."""
KEEP_REJECTIONS = 30 * 86400.0
"""Seconds after which a content that was refused is forgotten: its resource is gone, or nobody asked for it again."""
Entry: TypeAlias = dict[str, Any]


@frozen
class Change:
    """One target that is to become new."""

    resource: str
    dest: str
    path: str
    """The file itself, links followed."""
    old: str | None
    """SHA-256 of the content, in hexadecimal digits; None: no file."""
    new: str | None
    keys: int = 0
    """How many keys the resource had."""
    mark: str = ""
    """In the name of the file that keeps the old content; empty: none does."""
    key: str = ""
    """The reload that its program is told by; empty: none."""
    in_place: bool = False
    """It is written where it stands, and may be found torn."""
    paid: bool = False
    """That reload is owed no more."""

    @property
    def owes(self) -> str:
        """The reload that is owed; empty: none."""
        return "" if self.paid else self.key


@frozen
class Deed:
    """One group of a record: changed as a whole or not at all."""

    group: str
    changes: tuple[Change, ...]
    swap: bool = False
    """It is new on trial: right only once its check has passed."""
    rollback: bool = False
    """Its old files are kept until its reloads have succeeded."""


@frozen
class Debt:
    """A reload that changes owe."""

    key: str
    command: ReloadAction
    timeout: float
    verify: Verifier | None = None
    on_failure: Literal["retry", "rollback", "keep"] = "retry"


@frozen
class Record:
    """One batch: what it was about to do, and how far that is known to have come."""

    number: int
    at: float
    """Wall clock: what orders the records of different processes."""
    deeds: tuple[Deed, ...]
    debts: tuple[Debt, ...] = ()
    restores: bool = False
    """It puts back what a reload did not take; cut off, it is brought to its end."""
    instead: tuple[tuple[int, str], ...] = ()
    """The deeds (record and group) that it undoes."""
    passed: tuple[str, ...] = ()
    """Groups on trial whose check has passed."""
    done: bool = False
    backend: str = ""
    """The kind of store that the keys came from; empty: an earlier version did not note it."""
    root: str = ""
    """The tree that it was delivered into; empty: that of the system."""
    reads: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """Of each resource its ``strip`` and what it ``reads``."""

    @property
    def changes(self) -> Iterator[Change]:
        return (change for deed in self.deeds for change in deed.changes)


Counting: TypeAlias = tuple[str, str, str]
"""What a count is of: root, resource and backend."""


@dataclass(slots=True)
class Book:
    """What all entries together say."""

    records: dict[int, Record] = field(default_factory=dict)
    counts: dict[Counting, Counted] = field(default_factory=dict)
    """The last delivery's last."""
    _counted_by: dict[Counting, int] = field(default_factory=dict)
    """The record that a count is from, or that was the newest by then."""
    _last: int = 0
    stores: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Backend → which store it was, and its revision."""
    runs: dict[str, LastRun] = field(default_factory=dict)
    """Reload → its last run, as long as that puts off the next one."""
    rejections: dict[str, Rejection] = field(default_factory=dict)
    """Resource → the content that its reload refused last."""
    at: float = 0.0
    """Wall clock of the last that it speaks of."""

    def apply(self, entry: Entry) -> None:
        """Take one entry; raises ``LookupError``, ``TypeError`` or ``ValueError`` for one that is none."""
        match entry["op"]:
            case "begin":
                record = read_record(entry)
                self.records[record.number] = record
                self._last = max(self._last, record.number)
                self.at = max(self.at, record.at)
            case "in place":
                path, told = entry["path"], {"in_place": True, "mark": entry["mark"]}
                self._change(entry["record"], lambda it: replace(it, **told) if it.path == path else it)
            case "passed":
                for number, group in entry["groups"]:
                    record = self.records[number]
                    self.records[number] = replace(record, passed=(*record.passed, group))
            case "taken":
                record = self.records[entry["record"]]
                deeds = tuple(deed for deed in record.deeds if deed.group not in entry["groups"])
                self.records[record.number] = replace(record, deeds=deeds)
                if not deeds:
                    del self.records[record.number]
            case "done":
                self._end(entry["record"], entry["failed"])
            case "paid":
                for number in entry["records"]:
                    if number in self.records:
                        self._accept(self.records[number], entry["key"])
                        self._change(number, lambda it: replace(it, paid=True) if it.key == entry["key"] else it)
                if (run := self.runs.pop(entry["key"], None)) and run.interval:
                    self.runs[entry["key"]] = replace(run, failures=0)
                self.tidy()
            case "rejected":
                for name, told in entry["rejections"].items():
                    if told is None:
                        self.rejections.pop(name, None)
                    else:
                        numbers = {"at": float(told["at"]), "times": int(told["times"])}
                        self.rejections[name] = Rejection(**{**told, **numbers})
            case "run":
                run = LastRun(float(entry["at"]), int(entry["failures"]), float(entry["interval"]))
                self.runs[str(entry["key"])] = run
                self.at = max(self.at, run.at)
            case "counted":
                root, backend, reads = entry.get("root", ""), entry.get("backend", ""), entry.get("reads", {})
                counts = {name: _counted(keys, backend, reads.get(name)) for name, keys in entry["counts"].items()}
                store, at = (entry["identity"], entry["revision"]), max(self.at, entry["at"])
                for name, counted in counts.items():
                    self._count((root, name, backend), counted, self._last)
                self.stores[backend], self.at = store, at
            case _:
                raise ValueError("an operation that is not known")

    def take(self, other: Book, number: Callable[[], int]) -> None:
        """Take up another book, an older one first, with new numbers for its records."""
        numbers = {record.number: number() for record in other.in_order()}
        for record in other.records.values():
            instead = tuple((numbers[old], group) for old, group in record.instead if old in numbers)
            self.records[numbers[record.number]] = replace(record, number=numbers[record.number], instead=instead)
        olds = sorted(numbers)
        for counting, counted in other.counts.items():
            at = bisect_right(olds, other._counted_by[counting])
            self._count(counting, counted, numbers[olds[at - 1]] if at else self._last)
        self._last = max(self._last, *numbers.values(), 0)
        self.stores.update((backend, store) for backend, store in other.stores.items() if any(store))
        self.runs |= other.runs
        self.rejections |= other.rejections
        self.at = max(self.at, other.at)

    def _change(self, number: int, changed: Callable[[Change], Change]) -> None:
        record = self.records[number]
        deeds = tuple(replace(deed, changes=tuple(map(changed, deed.changes))) for deed in record.deeds)
        self.records[number] = replace(record, deeds=deeds)

    def _end(self, number: int, failed: Iterable[str]) -> None:
        record = self.records[number]
        gone = set(failed)
        deeds = tuple(deed for deed in record.deeds if deed.group not in gone)
        record = self.records[number] = replace(record, deeds=deeds, done=True)
        if not record.restores:
            self.count(record)
        elif record.instead:
            self._reject(record)
        for other, group in record.instead:
            if other in self.records:
                older = self.records[other]
                self.records[other] = replace(older, deeds=tuple(it for it in older.deeds if it.group != group))
        self.tidy()

    def count(self, record: Record) -> None:
        """Take how many keys there were from a record, which may be found to have ended long after newer ones."""
        reads = {name: read for name, *read in record.reads}
        for change in record.changes:
            counting = record.root, change.resource, record.backend
            if record.number > self._counted_by.get(counting, 0):
                counted = _counted(change.keys, record.backend, reads.get(change.resource))
                self._count(counting, counted, record.number)

    def _count(self, counting: Counting, counted: Counted, by: int) -> None:
        root, name, _ = counting
        # What an earlier version noted for no store in particular was for the one that is known by now, if any.
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

    def store_of(self, backend: str) -> tuple[str, int]:
        """Return which store of a kind it was, and its revision."""
        return self.stores.get(backend) or self.stores.get("") or ("", 0)

    def _ended(self, key: str = "", paid: Collection[int] = ()) -> Iterator[tuple[Record, Deed]]:
        """Yield the deeds that owe no reload, and would not have to be taken back with an older one of their group.

        ``key``, ``paid``: as if this reload were owed no more by these records.
        """
        owing: set[str] = set()
        for record in self.in_order():
            for deed in record.deeds if record.done else ():
                if any(it.owes and not (it.key == key and record.number in paid) for it in deed.changes):
                    owing.add(deed.group)
                elif not (deed.rollback and deed.group in owing):
                    yield record, deed

    def tidy(self) -> None:
        """Forget what is over."""
        over: dict[int, set[str]] = {}
        for record, deed in self._ended():
            over.setdefault(record.number, set()).add(deed.group)
        for number, record in list(self.records.items()):
            deeds = tuple(deed for deed in record.deeds if deed.group not in over.get(number, ()))
            if record.done and not deeds:
                del self.records[number]
            elif len(deeds) < len(record.deeds):
                self.records[number] = replace(record, deeds=deeds)

    def _reject(self, record: Record) -> None:
        """Take from a rollback what it took away: whoever wanted it may end before it says more of it."""
        for change in record.changes:
            if change.old is not None and change.old != change.new:
                before = self.rejections.get(change.resource)
                times = before.times + 1 if before is not None and before.digest == change.old else 1
                rejection = Rejection(change.old, change.path, change.new, "", record.at, times)
                self.rejections[change.resource] = rejection

    def _accept(self, record: Record, key: str) -> None:
        """Forget that a content was refused: its reload has succeeded, or is wanted no more."""
        for change in () if record.restores else record.changes:
            if change.owes == key and self._is_rejected(change):
                del self.rejections[change.resource]

    def _is_rejected(self, change: Change) -> bool:
        rejection = self.rejections.get(change.resource)
        return rejection is not None and rejection.digest == change.new

    def in_place(self) -> frozenset[str]:
        """Return the resources that have a content which was refused once, and still owe the reload for it."""
        records = (record for record in self.records.values() if not record.restores)
        changes = (change for record in records for change in record.changes)
        return frozenset(change.resource for change in changes if change.owes and self._is_rejected(change))

    def forget_old(self, wall: float) -> None:
        """Forget what puts off nothing any more at this time of the wall clock: last runs, and refused contents."""
        self.rejections = {name: it for name, it in self.rejections.items() if wall < it.at + KEEP_REJECTIONS}
        owed = {change.owes for record in self.records.values() for change in record.changes}
        self.runs = {key: run for key, run in self.runs.items() if key in owed or wall < run.at + run.interval}

    def is_unpaid(self, group: str) -> bool:
        """Say whether a group has been delivered, and still owes a reload for it."""
        done = (record for record in self.records.values() if record.done)
        return any(it.owes for record in done for deed in record.deeds if deed.group == group for it in deed.changes)

    def over(self, number: int, failed: Collection[str], left: Collection[int]) -> list[tuple[int, list[Deed]]]:
        """Return those of the records that could not be ended (``left``), and which of their deeds a newer one took up.

        They would be put back otherwise, by a later start, over what is right by now. ``failed``: groups of the newer.
        """
        deeds = self.records[number].deeds if number in self.records else ()
        paths = {change.path for deed in deeds if deed.group not in failed for change in deed.changes}
        found = []
        for record in self.in_order():
            if record.number in left and record.number < number and not record.done:
                taken = [it for it in record.deeds if not paths.isdisjoint(change.path for change in it.changes)]
                found += [(record.number, taken)] if taken else []
        return found

    def in_order(self) -> list[Record]:
        # By number: the wall clock may go back.
        return sorted(self.records.values(), key=lambda record: record.number)

    def rolls_back(self, key: str) -> list[tuple[Record, Deed]]:
        """Return what was delivered since a reload last succeeded, and can be taken back, in its order."""
        found: list[tuple[Record, Deed]] = []
        groups: set[str] = set()
        for record in self.in_order():
            for deed in record.deeds if record.done else ():
                # What came after it in its group came to those members that are taken back.
                if deed.rollback and (deed.group in groups or any(change.owes == key for change in deed.changes)):
                    groups.add(deed.group)
                    found.append((record, deed))
        return found

    def owed(self) -> tuple[Owed, ...]:
        """Return what is owed, one for each reload."""
        debts: dict[str, Owed] = {}
        for record in self.in_order():
            for debt in record.debts:
                changes = [change for change in record.changes if change.owes == debt.key]
                if not changes:
                    continue
                before = debts.get(debt.key)
                dests = dict(zip(before.resources, before.dests, strict=True)) if before else {}
                dests.update((change.resource, change.dest) for change in changes)
                debts[debt.key] = Owed(
                    debt.key,
                    debt.command,
                    max(debt.timeout, before.timeout if before else 0.0),
                    debt.verify,
                    tuple(dests),
                    tuple(dests.values()),
                    (*(before.records if before else ()), record.number),
                    # Where those who owe it do not agree, it is tried again.
                    debt.on_failure if before is None or before.on_failure == debt.on_failure else "retry",
                )
        return tuple(debts.values())

    def freed(self, key: str, numbers: Iterable[int]) -> list[Change]:
        """Return the changes whose old files nobody needs any more once these records owe this reload no more."""
        over = self._ended(key, set(numbers))
        return [change for _, deed in over if deed.rollback for change in deed.changes if change.mark]

    def marks(self) -> set[str]:
        """Return the marks of the old files that may still be needed."""
        return {
            change.mark
            for record in self.records.values()
            for deed in record.deeds
            for change in deed.changes
            if change.mark and (deed.rollback or not record.done)
        }

    def entries(self) -> Iterator[Entry]:
        """Yield the fewest entries that say the same."""
        backends = dict.fromkeys(backend for _, _, backend in self.counts)
        for backend in (one for one in self.stores if one not in backends and any(self.stores[one])):
            yield write_counts({}, "", backend, self.stores[backend], self.at)
        # In their order, which says what was delivered last: as few entries as keep it.
        for (root, backend), group in groupby(self.counts.items(), lambda it: (it[0][0], it[0][2])):
            counts = {name: counted for (_, name, _), counted in group}
            yield write_counts(counts, root, backend, self.stores.get(backend, ("", 0)), self.at)
        for record in self.in_order():
            yield write_record(record)
        for key, run in self.runs.items():
            yield write_run(key, run)
        if self.rejections:
            yield write_rejections(self.rejections)


# --- what was cut off ------------------------------------------------------------------------------------------------


@frozen
class PutBack:
    """A target that has to become what it was (of a record that restores: what it was to become)."""

    change: Change
    kept: str
    """The file to put there; empty: none was there."""


@frozen
class Verdict:
    """What to do about one record that its process did not end."""

    record: Record
    steps: tuple[PutBack, ...]
    lost: tuple[Change, ...]
    """Targets that should be put back, and whose old file is not to be found."""


def judge(book: Book, found: Mapping[str, str | None], kept: Mapping[str, str]) -> Iterator[Verdict]:
    """Yield what to do about the records that are open.

    ``found``: path → digest of what is there, None where nothing is, empty where it cannot be read. ``kept``: mark →
    where the old file lies, whole. A group whose targets a later record took up is over: that one began from what it
    found, and speaks of it.
    """
    taken: set[str] = set()
    verdicts = []
    for record in reversed(book.in_order()):
        paths = {change.path for change in record.changes}
        if not record.done:
            steps: list[PutBack] = []
            lost: list[Change] = []
            for deed in record.deeds:
                if any(change.path in taken for change in deed.changes):
                    continue
                back = _to_put_back(record, deed, found)
                there = [it for it in back if it.mark in kept or (it.new if record.restores else it.old) is None]
                gone = [it for it in back if it not in there]
                # Old files go when their delivery is over: then somebody has changed another member since.
                if record.restores or not any(found[it.path] == it.new for it in gone):
                    steps += (PutBack(change, kept.get(change.mark, "")) for change in there)
                    lost += gone
            verdicts.append(Verdict(record, tuple(steps), tuple(lost)))
        taken |= paths
    yield from reversed(verdicts)


def _to_put_back(record: Record, deed: Deed, found: Mapping[str, str | None]) -> list[Change]:
    passed = deed.swap and deed.group in record.passed
    # One that is missing was not torn by us: to write in place makes no file and removes none. Nor is one that was
    # checked where it stands: it was whole by then, and on the platter.
    torn = [it for it in deed.changes if it.in_place and not passed and found[it.path] not in (it.old, it.new, None)]
    if record.restores:
        return [it for it in deed.changes if it.old != it.new and found[it.path] == it.old] + torn
    new = [it for it in deed.changes if found[it.path] == it.new]
    cut_off = torn or any(found[it.path] == it.old != it.new for it in deed.changes)
    return new + torn if cut_off or (deed.swap and not passed) else []


def undoing(verdict: Verdict, number: int, at: float) -> Verdict:
    """Return what puts back, as a record of its own: brought to its end if it is cut off, too, and owing the reloads.

    A program may have read what was half new: it was started at that moment, or the machine was.
    """
    steps = tuple(
        PutBack(replace(it.change, old=it.change.new, new=it.change.old, paid=False), it.kept) for it in verdict.steps
    )
    deed = Deed("", tuple(step.change for step in steps))
    return Verdict(Record(number, at, (deed,), verdict.record.debts, restores=True), steps, ())


def end(book: Book, record: Record, found: Mapping[str, str | None]) -> None:
    """End a record that was open: by now each of its groups is new, or is not."""
    failed = [deed.group for deed in record.deeds if not any(found[it.path] == it.new for it in deed.changes)]
    if not record.restores:
        # What is neither has moved on from there: how many keys there were still says more than nothing.
        moved = tuple(it for it in record.changes if found[it.path] not in (it.old, it.new))
        book.count(replace(record, deeds=(Deed("", moved),)))
        swapped_unchecked = {deed.group for deed in record.deeds if deed.swap} - set(record.passed)
        failed += swapped_unchecked - set(failed)
    book.apply({"op": "done", "record": record.number, "failed": failed})


def prune(book: Book, found: Mapping[str, str | None]) -> None:
    """Drop the debts for contents that the targets have no more.

    What a rollback would go through on its way to the files of the last success is still wanted.
    """
    wanted = {path: {content} for path, content in found.items()}
    for record in reversed(book.in_order()):
        if not record.done:
            continue
        deeds = []
        for deed in record.deeds:
            changes = [it if it.new in wanted[it.path] else replace(it, paid=True) for it in deed.changes]
            deeds.append(replace(deed, changes=tuple(changes)))
            if deed.rollback:
                for change in deed.changes:
                    if change.new in wanted[change.path]:
                        wanted[change.path].add(change.old)
        book.records[record.number] = replace(record, deeds=tuple(deeds))
    book.tidy()


# --- how it is written -----------------------------------------------------------------------------------------------


def write_line(entry: Entry) -> bytes:
    """Return an entry as one line: a checksum, then JSON."""
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_lines(content: bytes) -> Iterator[Entry]:
    """Yield the entries of a ledger; what is torn, at its end or where a disk was full, is dropped."""
    for line in content.split(b"\n"):
        checksum, _, text = line.partition(b" ")
        try:
            entry = json.loads(text) if int(checksum, 16) == zlib.crc32(text) else None
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry


def read_old_files(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield path and mark of each old file that a ledger speaks of, also of those that are over."""
    for entry in read_lines(content):
        with suppress(LookupError, TypeError, ValueError, AttributeError):
            if entry["op"] == "begin":
                yield from ((change.path, change.mark) for change in read_record(entry).changes if change.mark)
            elif entry["op"] == "in place":
                yield entry["path"], entry["mark"]


def write_counts(counts: Mapping[str, Counted], root: str, backend: str, store: tuple[str, int], at: float) -> Entry:
    """Return an entry of counts; ``at``: wall clock."""
    entry: Entry = {"op": "counted", "at": at, "counts": {name: counted.keys for name, counted in counts.items()}}
    entry["identity"], entry["revision"] = store
    reads = {name: (it.strip, it.prefixes) for name, it in counts.items() if it.prefixes is not None}
    more = {"root": root, "backend": backend, "reads": reads}
    return entry | {name: it for name, it in more.items() if it}


def _counted(keys: int, backend: str, read: Sequence[Any] | None) -> Counted:
    """Return a count as ``write_counts`` and ``Record.reads`` have it."""
    strip, prefixes = read if read is not None else ("", None)
    return Counted(keys, backend, None if prefixes is None else tuple(prefixes), strip)


def write_run(key: str, run: LastRun) -> Entry:
    return {"op": "run", "key": key, **fields(run)}


def write_rejections(rejections: Mapping[str, Rejection | None]) -> Entry:
    told = {name: None if one is None else fields(one) for name, one in rejections.items()}
    return {"op": "rejected", "rejections": told}


def write_record(record: Record) -> Entry:
    return {"op": "begin", **_lean(record)}


def _lean(value: Any) -> Any:
    """Leave out what would be read the same without it: in a record of a thousand changes it is most."""
    if isinstance(value, CommandReload | VerifyCommand):
        return _lean(value.command)
    if is_frozen(value):
        return {name: _lean(it) for name, it in fields(value).items() if it or it is None}
    return [_lean(it) for it in value] if isinstance(value, list | tuple) else value


def read_record(entry: Entry) -> Record:
    """Return the record that an entry holds; raises ``LookupError``, ``TypeError`` or ``ValueError``."""
    return Record(
        int(entry["number"]),
        float(entry.get("at", 0.0)),
        tuple(
            Deed(
                deed.get("group", ""),
                tuple(Change(**change) for change in deed.get("changes", ())),
                deed.get("swap", False),
                deed.get("rollback", False),
            )
            for deed in entry.get("deeds", ())
        ),
        tuple(
            Debt(
                debt["key"],
                _command(debt["command"]),
                debt.get("timeout", 0.0),
                _verify(debt["verify"]),
                debt.get("on_failure", "retry"),
            )
            for debt in entry.get("debts", ())
        ),
        entry.get("restores", False),
        tuple((number, group) for number, group in entry.get("instead", ())),
        tuple(entry.get("passed", ())),
        entry.get("done", False),
        entry.get("backend", ""),
        entry.get("root", ""),
        tuple((name, strip, tuple(prefixes)) for name, strip, prefixes in entry.get("reads", ())),
    )


def _verify(written: Any) -> Verifier | None:
    return None if written is None else from_json(_with_kind(written), VERIFIERS)


def _command(written: Any) -> ReloadAction:
    return from_json(_with_kind(written), ACTIONS)


def _with_kind(written: Any) -> dict[str, Any]:
    """Return an action or a verifier with its kind, which its fields show."""
    if not isinstance(written, dict):
        return {"kind": "command", "command": written}
    kinds = {"signal": "signal", "url": "http", "line": "socket", "program": "program"}
    return {"kind": next((kind for name, kind in kinds.items() if name in written), ""), **written}
