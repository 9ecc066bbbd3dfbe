"""The last change of a target as a diff, for people: never of what others may not read, nor of a sensitive resource."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from difflib import unified_diff

from confpy.errors import UsageError
from confpy.frozen import frozen
from confpy.history.records import HistoryEntry
from confpy.ledger.history import History, entries_of
from confpy.system.disk import Disk

LARGEST = 1 << 20
"""Bytes of a content that is compared: a larger one takes seconds."""
MOST_LINES = 2000
"""Lines of a diff that is shown."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, and what changes the direction of text."""


@frozen
class LastChange:
    """The last change of a target."""

    entry: HistoryEntry | None = None
    """None: the history has none."""
    lines: tuple[str, ...] = ()
    """A unified diff, control characters written as escapes; empty where it is not shown."""
    why_not: str = ""
    """Why the diff is not shown; empty: it is."""


def last_change(history: History, target: str, disk: Disk, *, sensitive: bool) -> LastChange:
    """Return how a target changed last; raises ``OSError`` where the history cannot be read.

    ``target``: its path as its resource names it, or the name of the resource. ``sensitive``: it is so by now.
    """
    entry = next(reversed(entries_of(history.read(), target)), None)
    return (
        LastChange(None, (), "the history has no delivery of it")
        if entry is None
        else changed(entry, history, disk, sensitive=sensitive)
    )


def changed(entry: HistoryEntry, history: History, disk: Disk, *, sensitive: bool) -> LastChange:
    """Return the change of the newest entry of a target with its diff, if that may be shown."""
    previous = entry.previous
    if sensitive or (previous is not None and previous.digest == ""):
        return LastChange(entry, (), "the resource is sensitive, or the old file was a link")
    if previous is None:
        return LastChange(entry, (), "the target is a stream, or a rollback put the file back")
    if previous.digest is not None and not previous.mode & stat.S_IROTH:
        return LastChange(entry, (), "not everybody may read the target")
    try:
        old = b"" if previous.digest is None else history.content(previous)
    except UsageError as error:
        return LastChange(entry, (), error.message)
    new = _current(previous.path, disk)
    if isinstance(new, str):
        return LastChange(entry, (), new)
    if max(len(old), len(new)) > LARGEST:
        return LastChange(entry, (), "it is too large to be compared here")
    names = ("/dev/null" if previous.digest is None else entry.target, entry.target)
    return LastChange(entry, tuple(_shown(_diff(old, new, *names))))


def _current(path: str, disk: Disk) -> bytes | str:
    """Return what a target is now, or why that is not shown."""
    try:
        status = disk.find(path)
        if status is None:
            return "the target is missing"
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & stat.S_IROTH:
            return "not everybody may read the target"
        content, opened = disk.read_version(path)
    except OSError as error:
        return f"the target cannot be read: {error.strerror}"
    return content if opened.st_mode & stat.S_IROTH else "not everybody may read the target"


def _diff(old: bytes, new: bytes, old_name: str, new_name: str) -> Iterator[str]:
    before, after = (content.decode("utf-8", "backslashreplace").splitlines() for content in (old, new))
    return unified_diff(before, after, os.path.normpath(old_name), os.path.normpath(new_name), lineterm="")


def _shown(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == MOST_LINES:
            yield "… and more"
            return
        yield CONTROL.sub(lambda found: ascii(found[0])[1:-1], line)
