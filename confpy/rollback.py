"""The way back: the files with which a reload last succeeded take their places again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from confpy import target
from confpy.disk import Disk
from confpy.errors import TargetError
from confpy.ledger import BUSY, PATIENCE, Ledger
from confpy.model import Known, Owed, Report, Restored
from confpy.repair import Change, Debt, Deed


def restore(key: str, ledger: Ledger, disk: Disk) -> Restored:
    """Put back every target that was committed since a reload last succeeded, and can be.

    Reports ``changed`` for what was put back (without ``known`` where no file was there before), ``unchanged``, or
    ``failed`` for one that somebody else has changed. Their record still owes the reload, for the files that are there
    by then, and so it does those of other members of a group. Cut off, it is brought to its end by the next start.
    """
    undone = ledger.to_undo(key)
    first: dict[str, Change] = {}
    last: dict[str, Change] = {}
    for _, deed in undone:
        for change in deed.changes:
            first.setdefault(change.path, change)
            last[change.path] = change
    reports: dict[str, Report] = {}
    with ledger.locked(first, PATIENCE) as free:
        back: list[tuple[Change, str]] = []
        for path, oldest in first.items():
            change = replace(last[path], old=last[path].new, new=oldest.old, mark=oldest.mark)
            try:
                back.append((change, _old_file(change, free, ledger, disk)))
            except TargetError as error:
                reports[change.resource] = Report(change.resource, "failed", error.at(resource=change.resource))
        changes = tuple(change for change, _ in back)
        debts = {debt.key: debt for record, _ in undone for debt in record.debts}
        instead = [(record.number, deed.group) for record, deed in undone]
        notes: tuple[str, ...] = ()
        record = 0
        try:
            record = ledger.begin([Deed("", changes)], debts.values(), restores=True, instead=instead)
        except OSError as error:
            notes = (f"the ledger cannot be written ({error.strerror}): a kill now leaves this half done",)
        for change, kept in back:
            reports[change.resource] = _put_back(change, kept, record, notes, disk)
        for folder in {os.path.dirname(change.path) for change in changes}:
            with suppress(OSError):
                disk.sync_folder(folder)
        if not any(reports[change.resource].error for change in changes):
            for _, deed in undone:
                for change in deed.changes:
                    for place in target.old_places(change.path, change.mark, ledger.folder):
                        target.forget(place, disk)
            ledger.done(record)
    owed = tuple(_owed(debt, changes, record) for debt in debts.values() if debt.key != key)
    return Restored(key, tuple(reports.values()), tuple(one for one in owed if one.resources))


def _owed(debt: Debt, changes: Iterable[Change], record: int) -> Owed:
    """Return what a program of another member has to be told."""
    dests = {change.resource: change.dest for change in changes if change.key == debt.key}
    records = (record,) if record else ()
    names, paths = tuple(dests), tuple(dests.values())
    return Owed(debt.key, debt.command, debt.timeout, debt.verify, names, paths, records, debt.on_failure)


def _old_file(change: Change, free: frozenset[str], ledger: Ledger, disk: Disk) -> str:
    """Return the file to put back, empty where the target has to go; raises ``TargetError`` where it is not to be."""
    now = target.found(change.path, disk)
    if change.path not in free:
        raise TargetError(BUSY, target=change.dest)
    if now not in (change.old, change.new):
        raise TargetError("somebody else has changed the target: it is left alone", target=change.dest)
    for place in target.old_places(change.path, change.mark, ledger.folder):
        if disk.read_link(place) is not None or target.found(place, disk) == change.new is not None:
            return place
    if now == change.new or change.new is None:
        return ""
    raise TargetError("the old file is gone: the target cannot be put back", target=change.dest)


def _put_back(change: Change, kept: str, record: int, notes: tuple[str, ...], disk: Disk) -> Report:
    name = change.resource
    try:
        changed = target.found(change.path, disk) != change.new
        if changed:
            target.put_back(change.path, kept, disk, in_place=change.in_place)
        status = disk.stat(change.path)
    except OSError as error:
        torn = TargetError(f"{target.TORN}: it cannot be put back: {error.strerror}", target=change.dest, resource=name)
        return Report(name, "failed", torn)
    known = Known(bytes.fromhex(change.new), target.stamp(status)) if status and change.new else None
    return Report(name, "changed" if changed else "unchanged", None, known, notes, record=record)
