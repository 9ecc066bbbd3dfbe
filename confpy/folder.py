"""Files and folders, followed: the only user of watchdog.

Folders are watched, never files, so that renames, atomic replacements and the swapped symlinks of a Kubernetes volume
are seen, also of what is not there yet. Nobody is told *what* happened: look again, and compare.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

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

    Where the system cannot watch (no inotify left, a network file system) it says nothing: whoever must know looks
    now and then, as often as ``wait`` comes back without news. All methods may be called from any thread.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Begin to watch; what changes from here on is told by the next ``wait``."""
        self._paths = tuple(os.path.abspath(path) for path in paths)
        self._stirred = threading.Condition()
        self._events = 0
        self._closed = False
        self._arming = threading.Lock()
        self._armed: dict[str, _Place] = {}
        self._observer: BaseObserver | None = None
        self._arm()

    def wait(self, timeout: float) -> bool:
        """Return True when something stirred, False after ``timeout`` seconds or when closed."""
        end = time.monotonic() + timeout
        stirred = self._settle(min(timeout, LOOK))
        while not (stirred or self._closed) and (left := end - time.monotonic()) > 0 and self._stands():
            stirred = self._settle(min(left, LOOK))
        if self._closed:
            return False
        # What is there now may have to be watched elsewhere; before the caller looks, so that nothing falls between.
        return self._arm() or stirred

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
                except OSError:
                    # No inotify instance left, or a folder vanished again: the next wait tries anew.
                    self._disarm()
                    break
                new = True
            return new

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
