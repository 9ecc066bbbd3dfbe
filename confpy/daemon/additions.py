"""What the page shows of the history: the last deliveries, and the diff of the last change of each target."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from confpy.history.records import HistoryEntry
from confpy.ledger.history import History
from confpy.ledger.last_change import changed
from confpy.status.model import Status
from confpy.status.page import Delivery, Shown
from confpy.system.disk import Disk

MOST_DELIVERIES, MOST_DIFFS = 50, 20


class HistoryOnPage:
    """Reads the history when it has changed: the page is asked for each second."""

    def __init__(self, history: History, disk: Disk, guard: AbstractContextManager[object] | None = None) -> None:
        """``guard``: keeps threads apart, if there are several."""
        self._history = history
        self._disk = disk
        self._guard = guard or nullcontext()
        self._seen: object = None
        self._entries: Sequence[HistoryEntry] = ()

    def __call__(self, status: Status) -> Shown:
        """Return what the page shows beside a status; nothing where the history cannot be read."""
        sensitive = {one.target for one in status.resources if one.sensitive}
        shown = {one.target for one in status.resources}
        with self._guard:
            entries = self._read()
        newest: dict[str, HistoryEntry] = {}
        for entry in reversed(entries):
            newest.setdefault(entry.target, entry)
        diffs = {
            target: found.lines
            for target, entry in [*newest.items()][:MOST_DIFFS]
            if target in shown
            and (found := changed(entry, self._history, self._disk, sensitive=target in sensitive)).lines
        }
        deliveries = [_delivery(entry) for entry in reversed(entries[-MOST_DELIVERIES:])]
        return Shown(diffs=diffs, history=deliveries)

    def _read(self) -> Sequence[HistoryEntry]:
        try:
            status = os.stat(self._history.path)
            seen = status.st_ino, status.st_size, status.st_mtime_ns
            if seen != self._seen:
                self._entries, self._seen = self._history.read(), seen
        except OSError:
            self._entries, self._seen = (), None
        return self._entries


def _delivery(entry: HistoryEntry) -> Delivery:
    named = ", ".join(entry.keys) + (f" and {entry.more_keys} more" if entry.more_keys else "")
    parts = [entry.trigger, f"keys {named}" if named else "", f"check {entry.check}" if entry.check else ""]
    if entry.owes:
        parts.append(f"reload {entry.reload or 'owed'}")
    return Delivery(entry.resource, entry.target, entry.at, entry.revision, "; ".join(filter(None, parts)))
