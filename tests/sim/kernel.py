"""A disk as a kernel keeps it, with what of it is flushed: it fills up, fails, and forgets at a power cut.

What is modelled: folder entries and contents, each with what was synced of it apart from what was not; second names;
links; descriptors, ``flock`` and byte locks; a full disk, read-only folders, files that are mounted over their place,
syncs that fail. Not modelled: folders in folders, links to folders, owners and modes that are lost, more than one
file system.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random


class Died(BaseException):
    """The process is no more. Nothing in confpy catches it: it ends whatever was under way."""


class Inode:
    __slots__ = ("changed", "content", "durable", "link", "lock", "locks", "mode", "names", "number", "written")

    def __init__(self, number: int, mode: int, link: str | None = None) -> None:
        self.number = number
        self.mode = mode
        self.link = link
        self.content = b""
        self.durable = b""
        """What a power cut leaves at least."""
        self.names = 1
        self.lock: object = None
        self.locks: dict[int, object] = {}
        self.written = self.changed = 0


class Folder:
    """Names, and what was done to them since they were synced."""

    __slots__ = ("durable", "names", "pending")

    def __init__(self) -> None:
        self.names: dict[str, Inode] = {}
        self.durable: dict[str, Inode] = {}
        self.pending: list[dict[str, Inode | None]] = []

    def put(self, names: dict[str, Inode | None]) -> None:
        """Change names, all at once or, after a power cut, not at all."""
        _lay(self.names, names)
        self.pending.append(names)

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.pending.clear()


def _lay(names: dict[str, Inode], over: dict[str, Inode | None]) -> None:
    for name, inode in over.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


class Kernel:
    """What outlives a process, and of it what outlives a power cut."""

    def __init__(self, random: Random, folders: Iterable[str]) -> None:
        self.random = random
        self.folders = {path: Folder() for path in folders}
        self.mounts: set[str] = set()
        """Files that stand there by a mount of their own: no name for a rename."""
        self.read_only: set[str] = set()
        self.full = False
        self.failing = 0.0
        """The chance that a sync or a rename fails."""
        self.fuse = 0
        """After so many calls that change something the process dies; 0: it does not."""
        self.tell: Callable[[str], None] | None = None
        """Takes each call, to be shown."""
        self.removing: Callable[[str], None] | None = None
        """Takes the path of each file that confpy is about to remove."""
        self.faults: Counter[str] = Counter()
        self.suspect: set[str] = set()
        """Folders in which something failed."""
        self.boots = 0
        self.wall: Callable[[], float] = lambda: 0.0
        """Seconds since 1970, for the times of files."""
        self.times = [0.0]
        """Of each moment the time."""
        self._clock = 0
        self._numbers = 0

    @property
    def now(self) -> int:
        """The moment of the last change."""
        return self._clock

    def tick(self) -> int:
        self._clock += 1
        self.times.append(self.wall())
        return self._clock

    def inode(self, mode: int, link: str | None = None) -> Inode:
        self._numbers += 1
        inode = Inode(self._numbers, mode, link)
        inode.written = inode.changed = self.tick()
        return inode

    def find(self, path: str) -> Inode | None:
        """Return what a path names, links not followed."""
        folder, _, name = path.rpartition("/")
        found = self.folders.get(folder)
        return found.names.get(name) if found is not None else None

    def follow(self, path: str) -> str:
        for _ in range(8):
            inode = self.find(path)
            if inode is None or inode.link is None:
                return path
            path = inode.link
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def content(self, path: str) -> bytes | None:
        """Return what somebody reads there, None where nothing is."""
        inode = self.find(self.follow(path))
        return None if inode is None else inode.content

    def identity(self, path: str) -> object:
        """Return what another version of a file does not share."""
        inode = self.find(self.follow(path))
        return None if inode is None else (inode.number, inode.changed)

    # --- what people do --------------------------------------------------------------------------------------------

    def write(self, path: str, content: bytes) -> None:
        """Write a file as a careful person does, where a link leads to."""
        path = self.follow(path)
        inode = self.find(path)
        if inode is None:
            inode = self.inode(stat.S_IFREG | 0o644)
            folder, _, name = path.rpartition("/")
            self.folders[folder].put({name: inode})
            self.folders[folder].sync()
        inode.content = inode.durable = content
        inode.written = inode.changed = self.tick()

    def link(self, path: str, to: str) -> None:
        folder, _, name = path.rpartition("/")
        self.folders[folder].put({name: self.inode(stat.S_IFLNK | 0o777, to)})
        self.folders[folder].sync()

    def remove(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        if name in self.folders[folder].names and path not in self.mounts:
            self.folders[folder].names[name].names -= 1
            self.folders[folder].put({name: None})
            self.folders[folder].sync()

    # --- what happens to it ----------------------------------------------------------------------------------------

    def end_process(self) -> None:
        """Close what a process had open."""
        for folder in self.folders.values():
            for inode in folder.names.values():
                inode.lock = None
                inode.locks.clear()

    def cut_power(self) -> None:
        """Forget what was not synced: of each folder some changes, of each content some bytes."""
        random = self.random
        self.boots += 1
        for path in sorted(self.folders):
            folder = self.folders[path]
            names = dict(folder.durable)
            if random.random() < 0.5:  # a journal: in order
                survives = folder.pending[: random.randint(0, len(folder.pending))]
            else:
                survives = [change for change in folder.pending if random.random() < 0.5]
            for change in survives:
                _lay(names, change)
            folder.names = names
            folder.sync()
        counted: Counter[Inode] = Counter(inode for folder in self.folders.values() for inode in folder.names.values())
        for inode, names_ in counted.items():
            inode.names = names_
            inode.lock = None
            inode.locks.clear()
            if inode.content != inode.durable:
                inode.content = inode.durable = self._lose(inode)

    def _lose(self, inode: Inode) -> bytes:
        new, old = inode.content, inode.durable
        at = self.random.randint(len(old) if new.startswith(old) else 0, len(new))
        match self.random.randint(0, 4):
            case 0:
                return new
            case 1:
                return old
            case 2:  # the size is there, the bytes are not
                return new[:at] + bytes(len(new) - at) if new.startswith(old) else new[:at] + old[at:]
            case _:
                return new[:at] if new.startswith(old) else new[:at] + old[at:]
