"""Files and folders, watched: the only user of watchdog.

Folders are watched, never files, so that renames, atomic replacements and the swapped symlinks of a Kubernetes volume
are seen, also of paths that do not exist yet. What has happened is not reported: the caller looks, and compares.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from watchdog import events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

# Threads of watchdog log the end of a watch as an error, on stderr unless there is a handler.
logging.getLogger("watchdog").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)

STEP = 0.05
"""Seconds without an event that end a burst."""
DEBOUNCE = 0.5
"""Seconds after which a burst is reported even if it goes on."""
RECHECK = 2.0
"""Seconds between two checks whether a watched folder was replaced: by one above it, or by a mount."""

POLL = 10.0
"""Seconds between two checks of the files themselves, if the system does not report changes."""
UNREPORTED = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "afs", "lustre", "glusterfs", "virtiofs", "vboxsf", "prl_fs")
"""Beginnings of the types of file systems on which inotify does not report what another machine changes."""
LIMITS = {
    errno.EMFILE: "raise fs.inotify.max_user_instances, user.max_inotify_instances (sysctl) or the limit of open files",
    errno.ENOSPC: "raise fs.inotify.max_user_watches or user.max_inotify_watches (sysctl)",
}
"""The errors of ``inotify_init`` and ``inotify_add_watch`` at a limit, inotify(7), and what to do."""

_WRITES = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type)
    and issubclass(kind, FileSystemEvent)
    and getattr(kind, "event_type", "") in {"attrib", "closed", "created", "deleted", "modified", "moved"}
]
"""The events that something was changed. To read is an event as well, and so is to open a folder in order to sync it:
the kernel is not asked for those."""
_TRIES = 10


class _Watched(NamedTuple):
    """One folder to watch."""

    device: int
    inode: int
    names: frozenset[str] | None
    """The entries that matter, None for all of them and all below."""


class Folder:
    """Reports when something at or below some paths may have changed.

    If the system cannot (no inotify left, a network file system), the files are checked every ``POLL`` seconds. All
    methods may be called from any thread.
    """

    def __init__(
        self,
        paths: Sequence[str],
        unwatched: Callable[[OSError], None] = lambda _: None,
        recheck: float | None = None,
    ) -> None:
        """Begin to watch; what changes from here on is reported by the next ``wait``.

        ``unwatched`` is called with the reason if inotify cannot be used: once until it can be used again. ``recheck``:
        seconds in place of ``RECHECK``.
        """
        self._recheck = RECHECK if recheck is None else recheck
        self._paths = tuple(os.path.abspath(path) for path in paths)
        self._unwatched = unwatched
        self._changed = threading.Condition()
        self._events = 0
        self._closed = False
        self._arming = threading.Lock()
        self._armed: dict[str, _Watched] = {}
        self._observer: BaseObserver | None = None
        self._failed = False
        """Inotify could not be used at the last attempt."""
        self._unreported = False
        """Some of the files are where inotify does not report all changes."""
        self._stamps: frozenset[_Stamp] = frozenset()
        """The files at the last check, if they are polled."""
        self._arm()

    def wait(self, timeout: float) -> bool:
        """Return True if something may have changed, False after ``timeout`` seconds or when closed."""
        now = time.monotonic()
        end, poll_at = now + timeout, now + POLL
        changed = self._settle(min(timeout, self._pause))
        while not (changed or self._closed) and (left := end - time.monotonic()) > 0 and self._unreplaced():
            if self._polls and time.monotonic() >= poll_at:
                poll_at = time.monotonic() + POLL
                if self._arm() or self._differ():
                    return not self._closed
            changed = self._settle(min(left, self._pause))
        if self._closed:
            return False
        # Other folders may have to be watched now; before the caller looks, so that no change is missed.
        return self._arm() or self._differ() or changed

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def _polls(self) -> bool:
        return self._failed or self._unreported

    @property
    def _pause(self) -> float:
        return min(self._recheck, POLL) if self._polls else self._recheck

    def _differ(self) -> bool:
        """Check the files if they are polled; returns whether any has changed."""
        seen, self._stamps = self._stamps, _stamps(self._paths) if self._polls else frozenset()
        return self._polls and seen != self._stamps

    def _settle(self, timeout: float) -> bool:
        """Return True at the end of a burst, False after ``timeout`` seconds without one."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closed, timeout)
            changed = self._events > 0
            end = time.monotonic() + DEBOUNCE
            while self._events and not self._closed and time.monotonic() < end:
                self._events = 0
                self._changed.wait_for(lambda: self._events or self._closed, STEP)
            self._events = 0
            return changed

    def _unreplaced(self) -> bool:
        """Whether each watched folder is still the one at its path."""
        return all(_identity(folder) == (watched.device, watched.inode) for folder, watched in self._armed.items())

    def close(self) -> None:
        """Stop watching and leave no thread behind."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with self._arming:
            self._disarm()

    def _arm(self) -> bool:
        """Watch the folders that have to be watched now; return whether they are others than before."""
        with self._arming:
            new = False
            for _ in range(_TRIES):
                wanted = _folders_to_watch(self._paths)
                if self._closed or wanted == self._armed:
                    break
                self._disarm()
                try:
                    self._observe(wanted)
                except OSError as error:
                    # No inotify instance left, or a folder has vanished: the next wait tries again.
                    self._disarm()
                    self._fail(error)
                    break
                new = True
                self._failed = False
                self._unreported = _are_unreported(wanted.values())
                self._stamps = _stamps(self._paths) if self._unreported else frozenset()
            return new

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            self._stamps = _stamps(self._paths)
            if error.errno != errno.ENOENT:  # a folder that was deleted meanwhile is not a limit of the system
                self._unwatched(error)

    def _observe(self, folders: dict[str, _Watched]) -> None:
        self._observer = Observer()
        for folder, watched in folders.items():
            listener, whole = _Listener(self._count, watched.names), watched.names is None
            self._observer.schedule(listener, folder, recursive=whole, event_filter=_WRITES)
        self._observer.start()
        self._armed = folders

    def _disarm(self) -> None:
        self._armed = {}
        if self._observer is None:
            return
        started = self._observer.is_alive()
        # Also one that never started: some have threads from the start.
        self._observer.stop()
        if started:
            self._observer.join()
        self._observer = None

    def _count(self) -> None:
        with self._changed:
            self._events += 1
            self._changed.notify_all()


class _Listener(FileSystemEventHandler):
    def __init__(self, note: Callable[[], None], names: frozenset[str] | None) -> None:
        self._count = note
        self._names = names

    def dispatch(self, event: FileSystemEvent) -> None:
        touched = {os.path.basename(os.fsdecode(path)) for path in (event.src_path, event.dest_path)}
        if self._names is None or self._names & touched:
            self._count()


def why_unwatched(error: OSError) -> str:
    """Return the hint for an error of inotify: which limit to raise, or nothing."""
    return LIMITS.get(error.errno or 0, "")


_Stamp: TypeAlias = tuple[str, int, int, int, int]
"""Path, device, inode, size, and time of the last change in nanoseconds."""


def _stamps(paths: Sequence[str]) -> frozenset[_Stamp]:
    """Return what identifies the files at and below some paths, and their content; links are followed."""
    found: set[_Stamp] = set()
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(path, frozenset()) for path in paths]
    while pending:
        path, above = pending.pop()
        try:
            status = os.stat(path)
            found.add((path, status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns))
            identity = (status.st_dev, status.st_ino)
            if stat.S_ISDIR(status.st_mode) and identity not in above:
                pending += ((os.path.join(path, name), above | {identity}) for name in os.listdir(path))
        except OSError as error:
            found.add((path, -1, -1, -1, error.errno or 0))
    return frozenset(found)


def _are_unreported(folders: Iterable[_Watched]) -> bool:
    """Whether a folder is on a file system on which other machines may change files unseen."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            # proc(5): the third field is major:minor, the first after " - " the type.
            unreported = {
                line.split(" ", 3)[2] for line in table if line.partition(" - ")[2].lower().startswith(UNREPORTED)
            }
    except OSError:
        return False
    return any(f"{os.major(watched.device)}:{os.minor(watched.device)}" in unreported for watched in folders)


def _folders_to_watch(paths: Sequence[str]) -> dict[str, _Watched]:
    """Return the folders that have to be watched to see every change at or below the paths.

    These are the paths themselves if they are folders, and the one that each path, and each link on the way to it, is
    an entry of. A missing one is awaited where it will appear. The other folders on the way are not watched, since each
    takes a thread: if one is replaced, those below it are other folders, which ``RECHECK`` notices.
    """
    names: dict[str, set[str]] = {}
    whole: set[str] = set()
    seen: set[tuple[str, bool]] = set()
    # With whether the path itself is wanted, or only on the way to one.
    pending = [(path, True) for path in paths]
    while pending:
        path, wanted = pending.pop()
        if (path, wanted) in seen:
            continue
        seen.add((path, wanted))
        link, is_folder = os.path.islink(path), os.path.isdir(path)
        parent, name = os.path.split(path)
        if name:
            if wanted or link or not is_folder:
                # By its real path, as a folder that is reached by two can be watched only once.
                names.setdefault(os.path.realpath(parent), set()).add(name)
            pending.append((parent, False))
        if link:
            pending.append((_target(path), wanted))
        elif wanted and is_folder:
            whole.add(os.path.realpath(path))
            pending += ((inside, True) for inside in _links(path))
    folders = {}
    for folder in {*names, *whole}:
        if any(other in whole for other in _above(folder)):
            continue
        if (identity := _identity(folder)) is not None:
            folders[folder] = _Watched(*identity, None if folder in whole else frozenset(names[folder]))
    return folders


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _target(link: str) -> str:
    try:
        return os.path.normpath(os.path.join(os.path.realpath(os.path.dirname(link)), os.readlink(link)))
    except OSError:  # deleted meanwhile
        return link


def _links(folder: str) -> list[str]:
    links: list[str] = []
    pending = [folder]
    while pending:
        # A folder that is gone, or may not be read, has none.
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    links.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return links


def _above(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent
