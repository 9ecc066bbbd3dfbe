"""The file of a ledger: lines are appended to it, and it is replaced by a shorter one when it has grown.

A lock on the file shows that its process lives. The files of processes that are gone are adopted by the next start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from confpy.events import LogEvent
from confpy.frozen import define, field
from confpy.ledger.formats import HEAD, READABLE, Entry, read_lines, write_line
from confpy.system.disk import Disk, token

NAME, ENDING = "ledger-", ".log"
LARGE = 1 << 20
"""Bytes above which a ledger is replaced by one without what is over."""


@define
class AdoptedFile:
    """A ledger of a process that is gone, open and locked."""

    path: str
    descriptor: int
    content: bytes = b""
    problems: list[str] = field(default_factory=list)
    """What in it is not understood: then it is set aside, not removed, when another has its place."""


class LedgerFile:
    """The ledger of this process. It is created with its first entry."""

    def __init__(self, folder: str, disk: Disk) -> None:
        self.folder = folder
        self.path = ""
        self.is_incomplete = False
        """It lacks entries that were applied: the disk was full."""
        self._disk = disk
        self._descriptor = -1
        self._size = 0
        self._shortest = 0
        """Bytes of it when it was last replaced."""

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    @property
    def is_long(self) -> bool:
        """Whether it should be replaced by a shorter one."""
        return self._size > max(LARGE, 2 * self._shortest)

    def append(self, entry: Entry, *, durable: bool) -> None:
        """Write an entry, flushed to disk if ``durable``; raises ``OSError``, and has no part of the entry then."""
        if not self.is_open:
            self._create([entry])
            return
        line = write_line(entry)
        try:
            self._disk.write(self._descriptor, line)
            if durable:
                self._disk.sync(self._descriptor)
        except OSError:
            with suppress(OSError):
                self._disk.truncate(self._descriptor, self._size)
            raise
        self._size += len(line)

    def replace(self, entries: Sequence[Entry], adopted: Sequence[AdoptedFile] = ()) -> None:
        """Make one file of these entries, in place of this one and of adopted ones; raises ``OSError``.

        The new file is whole before an old one goes.
        """
        content = b"".join(map(write_line, [HEAD, *entries]))
        if entries and not self.is_open and len(adopted) == 1 and _is_whole(adopted[0], content):
            # It says the same, but for a torn end: it is used as it is.
            self.path, self._descriptor, self._size = adopted[0].path, adopted[0].descriptor, len(content)
            self._disk.truncate(self._descriptor, self._size)
            return
        old = [*adopted, AdoptedFile(self.path, self._descriptor)] if self.is_open else [*adopted]
        if entries:
            self._create(entries)
        else:
            self._descriptor = -1
        self.is_incomplete = False
        for file in old:
            if file.problems:
                with suppress(OSError):
                    self._disk.rename(file.path, set_aside(file.path))
            else:
                self._disk.discard(file.path)
            self._disk.close(file.descriptor)
        # No power cut may bring back a ledger that is over: a start would believe it.
        sync_folders({self.folder}, self._disk)

    def close(self) -> None:
        if self.is_open:
            self._disk.close(self._descriptor)
            self._descriptor = -1

    def _create(self, entries: Iterable[Entry]) -> None:
        """Create a file of these entries, durably, and all at once: a part of them would be believed."""
        path = os.path.join(self.folder, f"{NAME}{token()}{ENDING}")
        content = b"".join(map(write_line, [HEAD, *entries]))
        self._descriptor = self._disk.write_new_file(path, content)
        self.path, self._size = path, len(content)
        self._shortest = self._size


def _is_whole(file: AdoptedFile, content: bytes) -> bool:
    return not file.problems and file.content.startswith(content)


def set_aside(path: str) -> str:
    """Return the path that a file is renamed to if it is not understood."""
    return f"{path}.set-aside"


def adopt(folder: str, own: str, disk: Disk, notes: list[LogEvent]) -> list[AdoptedFile]:
    """Lock the ledgers of processes that are gone; raises ``OSError``. ``own``: the path of this process's ledger.

    One of another version is set aside, which is added to ``notes``.
    """
    endings = (ENDING, *(f".v{version}" for version in READABLE))
    files = []
    for name in sorted(disk.names(folder)):
        path = os.path.join(folder, name)
        if not name.startswith(NAME) or not name.endswith(endings) or path == own:
            continue
        descriptor = disk.adopt(path)
        if descriptor is None:
            continue
        content = disk.read(path)
        version = next(read_lines(content), HEAD).get("ledger")
        if version in READABLE:
            # What is done now depends on it: its process may have died before it was flushed to disk.
            disk.sync(descriptor)
            files.append(AdoptedFile(path, descriptor, content))
            continue
        aside = f"{path.removesuffix(ENDING)}.v{version}" if isinstance(version, int) else set_aside(path)
        disk.rename(path, aside)
        disk.close(descriptor)
        fields = {"error": "it was written by another version of confpy", "file": aside, "record": "ledger"}
        notes.append(LogEvent("warning", "state.quarantined", fields))
    if files:
        disk.sync_folder(folder)
    return files


def sync_folders(folders: Iterable[str], disk: Disk) -> None:
    """Flush folders to disk, as far as that is possible."""
    for folder in sorted(folders):
        with suppress(OSError):
            disk.sync_folder(folder)
