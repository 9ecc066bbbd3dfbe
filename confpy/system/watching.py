"""Files and folders, followed: the only user of watchdog.

Folders are watched, never files, so that renames, atomic replacements and the swapped symlinks of a Kubernetes volume
are seen, also of what is not there yet. Nobody is told *what* happened: look again, and compare.
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
from typing import NamedTuple, TypeAlias

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

# Threads of watchdog that meet the end of a watch speak of it as an error, on stderr where nobody listens otherwise.
logging.getLogger("watchdog").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)

QUIET = 0.05
"""Seconds without an event that end a burst."""
LONGEST = 0.5
"""Seconds after which a burst is told of even if it goes on."""
LOOK = 2.0
"""Seconds between two looks whether a folder is another one: where one above it was replaced, or something mounted."""

SLOW_LOOK = 10.0
"""Seconds between two looks at the files themselves where the system does not tell of changes."""
SILENT = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "afs", "lustre", "glusterfs", "virtiofs", "vboxsf", "prl_fs")
"""How the types of file systems begin of which inotify does not tell what another machine changes."""
LIMITS = {
    errno.EMFILE: "raise fs.inotify.max_user_instances, user.max_inotify_instances (sysctl) or the limit of open files",
    errno.ENOSPC: "raise fs.inotify.max_user_watches or user.max_inotify_watches (sysctl)",
}
"""What ``inotify_init`` and ``inotify_add_watch`` fail with where a limit is reached, inotify(7), and what to do."""

_WRITES = {"attrib", "closed", "created", "deleted", "modified", "moved"}
_TRIES = 10


class _Place(NamedTuple):
    """One folder to watch."""

    device: int
    inode: int
    names: frozenset[str] | None
    """The entries that matter, None for all of them and all below."""


class Folder:
    """Says when something at or below some paths may have changed.

    Where the system cannot tell (no inotify left, a network file system) it looks at the files itself, every
    ``SLOW_LOOK`` seconds. All methods may be called from any thread.
    """

    def __init__(self, paths: Sequence[str], unwatched: Callable[[OSError], None] = lambda _: None) -> None:
        """Begin to watch; what changes from here on is told by the next ``wait``.

        ``unwatched`` is called where inotify cannot be used, with the reason: once until it can be used again.
        """
        self._paths = tuple(os.path.abspath(path) for path in paths)
        self._unwatched = unwatched
        self._stirred = threading.Condition()
        self._events = 0
        self._closed = False
        self._arming = threading.Lock()
        self._armed: dict[str, _Place] = {}
        self._observer: BaseObserver | None = None
        self._failed = False
        """Inotify could not be used when it was tried last."""
        self._silent = False
        """Some of the files lie where inotify does not tell of all changes."""
        self._stamps: frozenset[_Stamp] = frozenset()
        """Where the system does not tell: what was there at the last look."""
        self._arm()

    def wait(self, timeout: float) -> bool:
        """Return True when something stirred, False after ``timeout`` seconds or when closed."""
        now = time.monotonic()
        end, look_at = now + timeout, now + SLOW_LOOK
        stirred = self._settle(min(timeout, LOOK))
        while not (stirred or self._closed) and (left := end - time.monotonic()) > 0 and self._stands():
            if self._looks and time.monotonic() >= look_at:
                look_at = time.monotonic() + SLOW_LOOK
                if self._arm() or self._differ():
                    return not self._closed
            stirred = self._settle(min(left, LOOK))
        if self._closed:
            return False
        # What is there now may have to be watched elsewhere; before the caller looks, so that nothing falls between.
        return self._arm() or self._differ() or stirred

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def _looks(self) -> bool:
        return self._failed or self._silent

    def _differ(self) -> bool:
        """Look at the files where the system does not tell of changes; returns whether there were any."""
        seen, self._stamps = self._stamps, _stamps(self._paths) if self._looks else frozenset()
        return self._looks and seen != self._stamps

    def _settle(self, timeout: float) -> bool:
        """Return True at the end of a burst, False after ``timeout`` seconds without one."""
        with self._stirred:
            self._stirred.wait_for(lambda: self._events or self._closed, timeout)
            stirred = self._events > 0
            end = time.monotonic() + LONGEST
            while self._events and not self._closed and time.monotonic() < end:
                self._events = 0
                self._stirred.wait_for(lambda: self._events or self._closed, QUIET)
            self._events = 0
            return stirred

    def _stands(self) -> bool:
        """Whether each folder that is watched is still the one at its path."""
        return all(_identity(folder) == (place.device, place.inode) for folder, place in self._armed.items())

    def close(self) -> None:
        """Stop watching and leave no thread behind."""
        with self._stirred:
            self._closed = True
            self._stirred.notify_all()
        with self._arming:
            self._disarm()

    def _arm(self) -> bool:
        """Watch what has to be watched now; return whether that was anything new."""
        with self._arming:
            new = False
            for _ in range(_TRIES):
                wanted = _places(self._paths)
                if self._closed or wanted == self._armed:
                    break
                self._disarm()
                try:
                    self._observe(wanted)
                except OSError as error:
                    # No inotify instance left, or a folder vanished again: the next wait tries anew.
                    self._disarm()
                    self._fail(error)
                    break
                new = True
                self._failed = False
                self._silent = _are_silent(wanted.values())
                self._stamps = _stamps(self._paths) if self._silent else frozenset()
            return new

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            self._stamps = _stamps(self._paths)
            if error.errno != errno.ENOENT:  # a folder that went meanwhile is no limit of the system's
                self._unwatched(error)

    def _observe(self, places: dict[str, _Place]) -> None:
        self._observer = Observer()
        for folder, place in places.items():
            self._observer.schedule(_Listener(self._note, place.names), folder, recursive=place.names is None)
        self._observer.start()
        self._armed = places

    def _disarm(self) -> None:
        self._armed = {}
        if self._observer is None:
            return
        started = self._observer.is_alive()
        # Also one that never started: some have threads from the moment that they are made.
        self._observer.stop()
        if started:
            self._observer.join()
        self._observer = None

    def _note(self) -> None:
        with self._stirred:
            self._events += 1
            self._stirred.notify_all()


class _Listener(FileSystemEventHandler):
    def __init__(self, note: Callable[[], None], names: frozenset[str] | None) -> None:
        self._note = note
        self._names = names

    def dispatch(self, event: FileSystemEvent) -> None:
        # Reading is an event as well, and we read because of events.
        if event.event_type not in _WRITES:
            return
        touched = {os.path.basename(os.fsdecode(path)) for path in (event.src_path, event.dest_path)}
        if self._names is None or self._names & touched:
            self._note()


def why_unwatched(error: OSError) -> str:
    """Return the hint for an error of inotify: which limit to raise, or nothing."""
    return LIMITS.get(error.errno or 0, "")


_Stamp: TypeAlias = tuple[str, int, int, int, int]
"""Path, device, inode, size, and time of the last change in nanoseconds."""


def _stamps(paths: Sequence[str]) -> frozenset[_Stamp]:
    """Return what tells the files at and below some paths from other ones, links followed."""
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


def _are_silent(places: Iterable[_Place]) -> bool:
    """Say whether a place lies on a file system that others may change without a word to us."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            # proc(5): the third field is major:minor, the first after " - " the type.
            silent = {line.split(" ", 3)[2] for line in table if line.partition(" - ")[2].lower().startswith(SILENT)}
    except OSError:
        return False
    return any(f"{os.major(place.device)}:{os.minor(place.device)}" in silent for place in places)


def _places(paths: Sequence[str]) -> dict[str, _Place]:
    """Return the folders that have to be watched to see every change at or below the paths.

    These are the paths themselves where they are folders, and the one that each path, and each link on the way to it,
    is an entry of. What is missing on the way is awaited where it will appear. All other folders on the way are not
    watched, since each takes a thread: where one is replaced, those below it are not the same any more.
    """
    names: dict[str, set[str]] = {}
    whole: set[str] = set()
    seen: set[tuple[str, bool]] = set()
    # Whether a path is only a step of the way, or what we want to know about.
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
                # By its real name, as a folder that is reached on two ways can be watched only once.
                names.setdefault(os.path.realpath(parent), set()).add(name)
            pending.append((parent, False))
        if link:
            pending.append((_target(path), wanted))
        elif wanted and is_folder:
            whole.add(os.path.realpath(path))
            pending += ((inside, True) for inside in _links(path))
    places = {}
    for folder in {*names, *whole}:
        if any(other in whole for other in _above(folder)):
            continue
        if (identity := _identity(folder)) is not None:
            places[folder] = _Place(*identity, None if folder in whole else frozenset(names[folder]))
    return places


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _target(link: str) -> str:
    try:
        return os.path.normpath(os.path.join(os.path.realpath(os.path.dirname(link)), os.readlink(link)))
    except OSError:  # gone since we looked
        return link


def _links(folder: str) -> list[str]:
    links = []
    for path, folders, files in os.walk(folder):
        links += [link for name in (*folders, *files) if os.path.islink(link := os.path.join(path, name))]
    return links


def _above(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent
