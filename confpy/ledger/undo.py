"""What ``confpy undo`` puts back: what a group was before the last delivery of one of its resources."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from confpy.config.resource import Resource
from confpy.errors import TargetError, UsageError
from confpy.frozen import replace
from confpy.history.records import ROLLBACK, UNDO, HistoryEntry, Previous
from confpy.ledger.history import History
from confpy.system.disk import Disk
from confpy.target.look import Folders, look


def plan(
    entries: Sequence[HistoryEntry], resource: Resource, group: Sequence[Resource]
) -> tuple[dict[str, HistoryEntry], tuple[str, ...]]:
    """Return the entries before which a group was as it is to become, by resource, and the deliveries to take back.

    ``entries``: of all targets, the oldest first. What was taken back before is not taken back again. Raises
    ``UsageError`` if there is nothing to take back. Pure.
    """
    dests = {one.name: one.dest for one in group}
    over = {delivery for entry in entries for delivery in entry.undoes}
    own = [
        entry
        for entry in entries
        if dests.get(entry.resource) == entry.target
        and entry.trigger not in (UNDO, ROLLBACK)
        and entry.delivery not in over
    ]
    last = next((entry for entry in reversed(own) if entry.resource == resource.name), None)
    if last is None:
        hint = "confpy history shows what there is; what was delivered before confpy kept a history cannot be undone"
        raise UsageError("the history has no delivery of it", hint=hint, target=resource.dest)
    taken = own[next(at for at, entry in enumerate(own) if entry.delivery == last.delivery) :]
    first: dict[str, HistoryEntry] = {}
    for entry in taken:
        first.setdefault(entry.resource, entry)
    return first, tuple(dict.fromkeys(entry.delivery for entry in taken))


def find(
    history: History, resource: Resource, group: Sequence[Resource], disk: Disk, root: str = ""
) -> tuple[dict[str, Previous], tuple[str, ...]]:
    """Return what a group is to become, with its contents, and the deliveries that this takes back.

    Raises ``UsageError`` and ``TargetError`` where that is not possible as a whole, and ``OSError``.
    """
    if not history.folder:
        raise UsageError("confpy keeps no history", hint="it needs a state folder that it may write to (state_dir)")
    first, undoes = plan(history.read(), resource, group)
    folders = Folders(disk, root)
    return {one.name: _previous(one, first.get(one.name), history, disk, folders) for one in group}, undoes


def _previous(
    resource: Resource, entry: HistoryEntry | None, history: History, disk: Disk, folders: Folders
) -> Previous:
    """Return what one target is to become; without an entry, what it is now."""
    if entry is None:
        now = look(resource, disk, folders)
        if now.status is None or now.content is None:
            raise TargetError("the target of another one of its group is missing", target=resource.dest)
        status = now.status
        return Previous(now.path, "", stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, content=now.content)
    previous = entry.previous
    if previous is None:
        raise UsageError("the target is a stream: what was written cannot be taken back", target=resource.dest)
    if previous.digest is None:
        hint = "remove it by hand if it is not wanted"
        raise UsageError("there was no file before the last delivery", hint=hint, target=resource.dest)
    return replace(previous, content=history.content(replace(previous, path=os.path.normpath(resource.dest))))
