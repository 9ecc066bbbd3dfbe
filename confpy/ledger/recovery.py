"""What is to be done about deliveries that were cut off. Pure.

The digests of contents decide what became of a delivery. A target that is neither old nor new was changed by another
program, and stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from confpy.frozen import frozen, replace
from confpy.ledger.book import Book
from confpy.ledger.records import Change, GroupChange, Record


@frozen
class PutBack:
    """A target that has to become what it was (of a rollback: what it was to become)."""

    change: Change
    old: str
    """The file to put there; empty: there was none."""


@frozen
class RecoveryPlan:
    """What to do about one record that its process did not end."""

    record: Record
    steps: tuple[PutBack, ...]
    missing: tuple[Change, ...]
    """Targets that should be put back, and whose old file is not found."""


def plan(book: Book, found: Mapping[str, str | None], old_files: Mapping[str, str]) -> Iterator[RecoveryPlan]:
    """Yield what to do about the open records.

    ``found``: path → digest of what is there, None for nothing, empty if it cannot be read. ``old_files``: mark → path
    of the old file, which is whole. A group with a target that a later record has taken is over: that record began with
    what it found, and covers it.
    """
    taken: set[str] = set()
    plans = []
    for record in reversed(book.in_order()):
        if not record.done:
            steps: list[PutBack] = []
            missing: list[Change] = []
            for group in record.groups:
                if any(change.path in taken for change in group.changes):
                    continue
                back = _to_put_back(record, group, found)
                there = [
                    it for it in back if it.mark in old_files or (it.new if record.is_rollback else it.old) is None
                ]
                gone = [it for it in back if it not in there]
                # Old files are removed when their delivery is over: then another member has been changed since.
                if record.is_rollback or not any(found[it.path] == it.new for it in gone):
                    steps += (PutBack(change, old_files.get(change.mark, "")) for change in there)
                    missing += gone
            plans.append(RecoveryPlan(record, tuple(steps), tuple(missing)))
        taken |= {change.path for change in record.changes}
    yield from reversed(plans)


def _to_put_back(record: Record, group: GroupChange, found: Mapping[str, str | None]) -> list[Change]:
    passed = group.swap and group.name in record.check_passed
    # A missing target was not torn by confpy: writing in place neither creates nor removes a file. Nor was one that has
    # passed its check in place: it was whole by then, and flushed.
    torn = [it for it in group.changes if it.in_place and not passed and found[it.path] not in (it.old, it.new, None)]
    if record.is_rollback:
        return [it for it in group.changes if it.old != it.new and found[it.path] == it.old] + torn
    new = [it for it in group.changes if found[it.path] == it.new]
    cut_off = torn or any(found[it.path] == it.old != it.new for it in group.changes)
    return new + torn if cut_off or (group.swap and not passed) else []


def rollback_of(plan: RecoveryPlan, number: int, at: float) -> RecoveryPlan:
    """Return a plan as a record of its own, so that it is finished if it is cut off, too.

    It owes the reloads: a program may have read what was half new, since it was started at that moment, or the machine
    was.
    """
    steps = tuple(
        PutBack(replace(it.change, old=it.change.new, new=it.change.old, cleared=False), it.old) for it in plan.steps
    )
    group = GroupChange("", tuple(step.change for step in steps))
    return RecoveryPlan(Record(number, at, (group,), plan.record.reloads, is_rollback=True), steps, ())


def end(book: Book, record: Record, found: Mapping[str, str | None]) -> None:
    """End an open record: each of its groups is new by now, or is not."""
    failed = [group.name for group in record.groups if not any(found[it.path] == it.new for it in group.changes)]
    if not record.is_rollback:
        # A target that is neither has moved on from there: its key count is still better than none.
        moved = tuple(it for it in record.changes if found[it.path] not in (it.old, it.new))
        book.count(replace(record, groups=(GroupChange("", moved),)))
        swapped_unchecked = {group.name for group in record.groups if group.swap} - set(record.check_passed)
        failed += swapped_unchecked - set(failed)
    book.apply({"op": "done", "record": record.number, "failed": failed})


def prune(book: Book, found: Mapping[str, str | None]) -> None:
    """Drop the reloads that are owed for contents which the targets no longer have.

    What a rollback passes on its way to the files of the last success is still wanted.
    """
    wanted = {path: {content} for path, content in found.items()}
    for record in reversed(book.in_order()):
        if not record.done:
            continue
        groups = []
        for group in record.groups:
            changes = [it if it.new in wanted[it.path] else replace(it, cleared=True) for it in group.changes]
            groups.append(replace(group, changes=tuple(changes)))
            if group.rollback:
                for change in group.changes:
                    if change.new in wanted[change.path]:
                        wanted[change.path].add(change.old)
        book.records[record.number] = replace(record, groups=tuple(groups))
    book.tidy()
