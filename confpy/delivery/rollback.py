"""Rollback: the files with which a reload last succeeded take their places again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from confpy.candidates import DeliveredState, OwnedFile, Report
from confpy.errors import TargetError, TargetTorn
from confpy.frozen import replace
from confpy.ledger.ledger import Ledger
from confpy.ledger.locks import BUSY, PATIENCE
from confpy.ledger.records import Change, GroupChange, Record
from confpy.messages import Restored
from confpy.reload.spec import PendingReload, ReloadSpec, UnknownReload
from confpy.system.disk import Disk
from confpy.target.look import digest_at
from confpy.target.replace import old_paths, put_back, remove_old
from confpy.target.stamps import stamp


def restore(key: str, ledger: Ledger, disk: Disk) -> Restored:
    """Put back every target that was committed since a reload last succeeded, if possible.

    Reports ``changed`` for what was put back (without ``known`` if there was no file before), ``unchanged``, or
    ``failed`` for what could not be put back: its reload stays owed. The record of the rest still owes the reload, for
    the files that are there then, and the reloads of other members of a group. If it is cut off, the next start
    completes it.
    """
    undone = ledger.to_undo(key)
    ways: dict[str, list[Change]] = {}
    for change in (change for _, group in undone for change in group.changes):
        ways.setdefault(change.path, []).append(change)
    reports: dict[str, Report] = {}
    stuck: set[str] = set()
    back: list[tuple[Change, str]] = []
    with ledger.locked(ways, PATIENCE) as free:
        for path, way in ways.items():
            try:
                back.append(_way_back(way, path in free, ledger, disk))
            except TargetError as error:
                stuck.add(path)
                reports[way[0].resource] = Report(way[0].resource, "failed", error.at(resource=way[0].resource))
        reloads = {reload.key: reload for record, _ in undone for reload in record.reloads}
        undone = [(record, group) for record, group in undone if stuck.isdisjoint(it.path for it in group.changes)]
        changes = tuple(change for change, _ in back)
        record, notes = _begin(changes, reloads.values(), undone, ledger) if back else (0, ())
        for change, old in back:
            reports[change.resource] = _put_back(change, old, record, notes, disk)
        for folder in {os.path.dirname(change.path) for change in changes}:
            with suppress(OSError):
                disk.sync_folder(folder)
        if not any(reports[change.resource].error for change in changes):
            for change in (change for _, group in undone for change in group.changes):
                remove_old(change.path, change.mark, disk, ledger.folder)
            ledger.done(record)
        else:
            ledger.leave(record)
    others = (it for it in reloads.values() if isinstance(it, ReloadSpec) and it.key != key)
    owed = tuple(_owed(spec, changes, record) for spec in others)
    refused = {
        # That there was to be no file is the digest of none.
        it.resource: (it.old or "", it.path, it.new)
        for it in changes
        if it.old != it.new and reports[it.resource].error is None
    }
    owned = tuple(
        OwnedFile(it.resource, it.of, it.item, it.dest, it.path, it.new)
        for it in changes
        if it.of and it.ours and it.new is not None and reports[it.resource].error is None
    )
    return Restored(key, tuple(reports.values()), tuple(one for one in owed if one.resources), refused, owned)


def _begin(
    changes: tuple[Change, ...],
    reloads: Iterable[ReloadSpec | UnknownReload],
    undone: list[tuple[Record, GroupChange]],
    ledger: Ledger,
) -> tuple[int, tuple[str, ...]]:
    """Record what is about to be put back; returns the number, and what to report if that could not be written."""
    replaces = [(record.number, group.name) for record, group in undone]
    try:
        return ledger.begin([GroupChange("", changes)], reloads, is_rollback=True, replaces=replaces), ()
    except OSError as error:
        return 0, (f"the ledger cannot be written ({error.strerror}): a kill now leaves this half done",)


def _way_back(way: list[Change], free: bool, ledger: Ledger, disk: Disk) -> tuple[Change, str]:
    """Return what becomes of a target, and the file to put there, empty if the target is to be removed.

    ``way``: its changes, the oldest first. Raises ``TargetError`` if it is not to be put back.
    """
    newest = way[-1]
    if not free:
        raise TargetError(BUSY, target=newest.dest)
    now = digest_at(newest.path, disk)
    if now not in (newest.new, way[0].old):
        raise TargetError("somebody else has changed the target: it is left alone", target=newest.dest)
    for oldest in way:
        change = replace(newest, old=newest.new, new=oldest.old, mark=oldest.mark, cleared=False, ours=oldest.ours)
        for place in old_paths(change.path, change.mark, ledger.folder):
            if disk.read_link(place) is not None or digest_at(place, disk) == change.new is not None:
                return change, place
        if change.new in (now, None):
            return change, ""
        # If its reload had succeeded, and a power cut made the ledger lose that, the next change goes back far enough.
    raise TargetError("the old file is gone: the target cannot be put back", target=newest.dest)


def _owed(spec: ReloadSpec, changes: Iterable[Change], record: int) -> PendingReload:
    """Return the reload that is owed to the program of another member."""
    dests = {change.resource: change.dest for change in changes if change.key == spec.key}
    records = (record,) if record else ()
    return PendingReload(spec, tuple(dests), tuple(dests.values()), records)


def _put_back(change: Change, old: str, record: int, notes: tuple[str, ...], disk: Disk) -> Report:
    name = change.resource
    try:
        changed = digest_at(change.path, disk) != change.new
        if changed:
            put_back(change.path, old, disk, in_place=change.in_place)
        status = disk.stat(change.path)
    except OSError as error:
        message = f"the target is torn: it cannot be put back: {error.strerror}"
        torn = TargetTorn(message, target=change.dest, resource=name)
        return Report(name, "failed", torn)
    known = DeliveredState(bytes.fromhex(change.new), stamp(status)) if status and change.new else None
    return Report(name, "changed" if changed else "unchanged", None, known, notes, record=record)
