"""``confpy history``: the last deliveries."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

from confpy.commands import Call
from confpy.commands.stdout import printable, write
from confpy.config.sources import load_settings
from confpy.errors import UsageError
from confpy.history.records import HistoryEntry
from confpy.ledger.folder import StateFolder
from confpy.ledger.history import History, entries_of

HEAD = ("TIME", "TARGET", "TRIGGER", "REVISION", "CONTENT", "CHECK", "RELOAD", "TOOK", "KEYS")
SHORT = 8
"""Digits of a hash that are shown."""


def run(call: Call) -> int:
    """Show them, the newest last; raises ``UsageError`` where the state folder cannot be read."""
    settings, _warnings = load_settings(call.flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    folder = StateFolder.of(settings, lambda event: call.log.write(event.level, event.event, event.fields))
    history = History(folder.path, most=settings.history or 1)
    try:
        entries = history.read()
    except OSError as error:
        hint = "run it as the user that confpy runs as"
        raise UsageError(f"the history cannot be read: {error.strerror}", hint=hint, folder=history.folder) from error
    if call.arguments:
        entries = entries_of(entries, call.arguments[0])
    if "json" in call.switches:
        write(json.dumps([as_json(entry) for entry in entries], indent=2, ensure_ascii=True) + "\n")
        return 0
    if not entries:
        hint = "nothing was delivered yet, or by a confpy with another -confdir or -state-dir"
        call.log.write("warning", "history.none", {"folder": history.folder, "hint": hint})
        return 0
    write("".join(f"{line}\n" for line in table(entries)))
    return 0


def as_json(entry: HistoryEntry) -> dict[str, object]:
    """Return an entry as JSON takes it. ``old`` and ``new``: null where there was no file, or no hash is recorded."""
    previous = entry.previous
    return {
        "at": entry.at,
        "delivery": entry.delivery,
        "resource": entry.resource,
        "target": entry.target,
        "group": entry.group.removeprefix("group ") if entry.group.startswith("group ") else None,
        "trigger": entry.trigger,
        "revision": entry.revision,
        "keys": list(entry.keys),
        "more_keys": entry.more_keys,
        "created": previous is not None and previous.digest is None,
        "old": (previous.digest if previous is not None else None) or None,
        "new": entry.new or None,
        "is_kept": previous is not None and bool(previous.kept),
        "check": entry.check or None,
        "took": entry.took,
        "reload": (entry.reload or "owed") if entry.owes else None,
        "reload_took": entry.reload_took,
        "undoes": list(entry.undoes),
    }


def table(entries: Sequence[HistoryEntry]) -> list[str]:
    """Return the lines that show entries, control characters of names written as escapes."""
    rows = [HEAD, *map(_row, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(entry: HistoryEntry) -> tuple[str, ...]:
    keys = ", ".join((*entry.keys, f"and {entry.more_keys} more") if entry.more_keys else entry.keys)
    cells = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at)),
        entry.target,
        entry.trigger,
        str(entry.revision or "-"),
        _content(entry),
        entry.check or "-",
        ((entry.reload or "owed") if entry.owes else "-"),
        f"{entry.took:.3f}",
        keys or "-",
    )
    return tuple(printable(cell.replace("\n", "\\n").replace("\t", "\\t")) for cell in cells)


def _content(entry: HistoryEntry) -> str:
    """Return the old and the new hash, shortened."""
    previous = entry.previous
    if not entry.new:
        return "-"
    if previous is None:
        return entry.new[:SHORT]
    old = "new file" if previous.digest is None else previous.digest[:SHORT] or "-"
    return f"{old} > {entry.new[:SHORT]}"
