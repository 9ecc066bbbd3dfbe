"""Removes state folders and compiled templates that are no longer used.

A process that uses a state folder holds a shared lock on one byte of its lock file; to remove the folder, that byte is
locked exclusively. A state folder is removed at the end of a run that left nothing in it, or if its confdir is gone and
it was not used for long. A failure here is not an error: the files stay for the next sweep.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random

from confpy.ledger.book import Book
from confpy.ledger.file import ENDING, NAME
from confpy.ledger.folder import confdir_of, folder_name
from confpy.ledger.formats import read_lines
from confpy.ledger.history import FOLDER as HISTORY
from confpy.ledger.locks import LOCKS, PLACES
from confpy.ledger.stamps import NAME as STAMPS
from confpy.system.disk import Disk
from confpy.system.ownership import require_private

IN_USE = PLACES
"""The byte of the lock file on which every process that uses the folder holds a shared lock."""
HAPROXY = "haproxy"
"""The folder that says what each HAProxy has taken."""
CONFDIR = "confdir"
"""The file that has the path of the confdir, if that was too long for the folder's name."""
SWEPT = ".swept"
"""The file whose modification time is that of the last sweep of its folder."""
DAY = 86400.0
UNUSED = 30 * DAY
"""Seconds without use after which a state folder whose confdir is gone, or a file of compiled templates, is removed."""
PRECIOUS = 180 * DAY
"""The same for a folder with an owed reload, a hold or an open delivery: its volume may just not be mounted."""
MOST = 1000
"""Folders, or files of compiled templates, that one sweep checks."""
TRIES = 100
"""How often a folder that others remove at the same time is created again."""
WAIT = 1.0
"""Seconds to wait for a process that is about to remove the folder."""
COMPILED = r"[0-9a-f]{40}|\.[0-9a-f]{40}\.(confpy-)?[0-9a-f]{8}"
"""Names in the folder of compiled templates: one file for the templates of a confdir, one for each template of earlier
versions, and those that are being written."""
FOLDERS = frozenset({HISTORY, HAPROXY})
STATE = (
    rf"{re.escape(LOCKS)}|{CONFDIR}|{STAMPS}|{HISTORY}|{HAPROXY}|(keys|etcd|files|held-.+)\.json(\.set-aside)?|\..+\.stage|\..+\.confpy-[0-9a-f]{{8}}(\.old)?"
    rf"|{re.escape(NAME)}[0-9a-f]{{8}}({re.escape(ENDING)}(\.set-aside)?|\.v\d+)"
)
"""Names of files in a state folder. A folder with any other file is not removed."""


class InUse:
    """A state folder that is in use by this process, until ``leave``."""

    def __init__(self, folder: str, descriptor: int, disk: Disk) -> None:
        self._folder = folder
        self._descriptor = descriptor
        self._disk = disk

    @classmethod
    def enter(cls, folder: str, confdir: str, disk: Disk) -> InUse | None:
        """Create a state folder if it is missing and mark it as in use; returns None if that is not possible.

        ``confdir``: the resolved path of the confdir that the folder belongs to.
        """
        with suppress(OSError):
            for _ in range(TRIES):
                # Another process may remove the folder at any moment.
                with suppress(FileNotFoundError):
                    disk.make_folder(folder)
                    path = require_private(folder, disk, volumes=True)
                    if (descriptor := _enter(path, confdir, disk)) is not None:
                        return cls(path, descriptor, disk)
        return None

    def is_alone(self) -> bool:
        """Return whether no other process uses the folder; then none does until this one leaves it."""
        return self._disk.lock_alone(self._descriptor, IN_USE)

    def leave(self) -> None:
        """Release the folder, and remove it if nothing in it is needed."""
        try:
            names = set(self._disk.names(self._folder))
            # The shared lock becomes an exclusive one only if no other process uses the folder.
            if names <= {LOCKS, CONFDIR} and self._disk.lock_alone(self._descriptor, IN_USE):
                _remove(self._folder, self._disk)
        except OSError:
            pass
        finally:
            self._disk.close(self._descriptor)


def _enter(path: str, confdir: str, disk: Disk) -> int | None:
    """Lock a state folder as in use; returns the open lock file, None if it was removed meanwhile.

    Raises ``OSError``.
    """
    lock_file = os.path.join(path, LOCKS)
    descriptor = disk.open_locks(lock_file)
    try:
        if disk.lock(descriptor, (IN_USE,), WAIT, shared=True) and _is_at(lock_file, descriptor, disk):
            os.utime(descriptor)  # when the folder was used last
            _record_confdir(path, folder_name(confdir), confdir, disk)
            return descriptor
    except BaseException:
        disk.close(descriptor)
        raise
    disk.close(descriptor)
    return None


def is_due(state_dir: str, now: float) -> bool:
    """Return whether a sweep is due, at the cost of one system call. ``now``: seconds since 1970."""
    try:
        return abs(now - os.lstat(os.path.join(state_dir, SWEPT)).st_mtime) >= DAY
    except OSError:
        return True


def sweep(state_dir: str, cache_dir: str, disk: Disk, now: float, random: Random | None = None) -> None:
    """Remove what was not used for long, once a day for each of the two folders. ``now``: seconds since 1970."""
    for folder, remove in ((state_dir, _sweep_state), (cache_dir, _sweep_compiled)):
        if not folder:  # the path would be that of the working directory
            continue
        with suppress(OSError):
            path = require_private(folder, disk, volumes=True)
            if _begin(os.path.join(path, SWEPT), now):
                names = disk.names(path)
                # Of more than one sweep checks, others come next time.
                (random or Random()).shuffle(names)
                remove(path, names[:MOST], disk, now)


def _sweep_state(state_dir: str, names: Sequence[str], disk: Disk, now: float) -> None:
    for name in names:
        folder = os.path.join(state_dir, name)
        with suppress(OSError, ValueError):
            confdir = confdir_of(name) or _recorded_confdir(folder, name, disk)
            if confdir and not _exists(confdir):
                _remove_if_unused(folder, disk, now)


def _sweep_compiled(cache_dir: str, names: Sequence[str], disk: Disk, now: float) -> None:
    for name in names:
        path = os.path.join(cache_dir, name)
        with suppress(OSError):
            if re.fullmatch(COMPILED, name) and disk.lstat(path).st_mtime < now - UNUSED:
                disk.remove(path)


def _remove_if_unused(folder: str, disk: Disk, now: float) -> None:
    """Remove a state folder unless it is in use, or was lately; raises ``OSError``."""
    folder = require_private(folder, disk, volumes=True)
    with _alone(folder, disk) as alone:
        names = disk.names(folder)
        if not alone or not all(re.fullmatch(STATE, name, re.DOTALL) for name in names):
            return
        paths = [os.path.join(folder, name) for name in names]
        found = [disk.lstat(path) for path in paths]
        used = max(status.st_mtime for status in found)
        expected = [stat.S_IFDIR if name in FOLDERS else stat.S_IFREG for name in names]
        if used >= now - UNUSED or [stat.S_IFMT(status.st_mode) for status in found] != expected:
            return
        if used < now - PRECIOUS or not any(_is_precious(path, disk) for path in paths):
            _remove(folder, disk)


@contextmanager
def _alone(folder: str, disk: Disk) -> Iterator[bool]:
    """Lock a state folder exclusively; yields whether no other process uses it. Raises ``OSError``."""
    path = os.path.join(folder, LOCKS)
    descriptors = [disk.open_existing(path)]
    try:
        alone = disk.lock_alone(descriptors[0], IN_USE) and _is_at(path, descriptors[0], disk)
        for name in disk.names(folder) if alone else ():
            # An earlier version locks nothing but its ledger.
            if name.startswith(NAME) and name.endswith(ENDING):
                descriptor = disk.adopt(os.path.join(folder, name))
                if descriptor is None:
                    alone = False
                    break
                descriptors.append(descriptor)
        yield alone
    finally:
        for descriptor in descriptors:
            disk.close(descriptor)


def _is_precious(path: str, disk: Disk) -> bool:
    """Return whether a file of a state folder is still needed: it has an owed reload, an open delivery or a hold."""
    name = os.path.basename(path)
    if name in {LOCKS, CONFDIR, "keys.json", "etcd.json", "files.json", STAMPS, *FOLDERS} or name.endswith(".stage"):
        return False
    if not (name.startswith(NAME) and name.endswith(ENDING)):
        return True
    book = Book()
    try:
        for entry in read_lines(disk.read(path)):
            if "op" in entry:
                book.apply(entry)
    except (OSError, LookupError, TypeError, ValueError, AttributeError):
        return True
    return bool(book.records)


def _remove(folder: str, disk: Disk) -> None:
    """Remove a state folder that is locked exclusively, its lock file last; raises ``OSError``."""
    for name in sorted(disk.names(folder), key=lambda name: name == LOCKS):
        if name in FOLDERS:
            disk.remove_folder(os.path.join(folder, name))
        else:
            disk.remove(os.path.join(folder, name))
    os.rmdir(folder)


def _begin(path: str, now: float) -> bool:
    """Return whether the last sweep was a day ago, and record that there is one now; raises ``OSError``."""
    if not is_due(os.path.dirname(path), now):
        return False
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.utime(descriptor, (now, now))
    finally:
        os.close(descriptor)
    return True


def _is_at(path: str, descriptor: int, disk: Disk) -> bool:
    """Return whether an open file is still the one at its path; raises ``FileNotFoundError`` if there is none."""
    there, opened = disk.lstat(path), disk.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)


def _exists(path: str) -> bool:
    """Return whether there is anything at a path; True if that cannot be found out."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _record_confdir(folder: str, name: str, confdir: str, disk: Disk) -> None:
    if confdir_of(name) is None and not os.path.lexists(path := os.path.join(folder, CONFDIR)):
        disk.write_file(path, os.fsencode(confdir), durable=False)


def _recorded_confdir(folder: str, name: str, disk: Disk) -> str:
    """Return the recorded confdir; empty if the folder is not named after it."""
    descriptor = disk.open_existing(os.path.join(folder, CONFDIR))
    try:
        confdir = os.fsdecode(os.read(descriptor, 1 << 16))
    finally:
        disk.close(descriptor)
    return confdir if folder_name(confdir) == name else ""
