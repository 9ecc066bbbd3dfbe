# ruff: noqa: ARG002 - the interface is that of the real one
"""The simulated disk as one process has it, with the interface of ``confpy.system.disk.Disk``.

A process can die at any call, and does nothing from then on; what it had open is closed, as a kernel does.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from confpy.system.disk import Disk
from tests.sim.kernel import Died, Folder, Inode, Kernel

DEVICE = 1
GRAIN = 100_000_001
"""Nanoseconds from one moment of the simulated clock to the next: all file times differ, and none is too young."""


class Status(NamedTuple):
    """What confpy looks at of an ``os.stat_result``."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_ctime: float = 0.0
    """Seconds since 1970: the others only tell moments apart."""


class _ReadingDisk(Disk):
    """The calls that change nothing, and what every call goes through."""

    def __init__(
        self,
        kernel: Kernel,
        pause: Callable[[], None] | None = None,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        """``pause``: called in the middle of jobs, for others to go on; ``wait``: lets so many seconds pass."""
        self.dead = False
        self.last = ""
        """The call in which it died."""
        self._kernel = kernel
        self._pause = pause
        self._wait = wait
        self._open: dict[int, tuple[Inode, str]] = {}
        self._numbers = 2

    # --- what every call goes through ------------------------------------------------------------------------------

    def _look(self) -> None:
        if self.dead:
            raise Died

    def _step(self, call: str, *paths: str) -> None:
        """One call that changes something: the process may have died before it."""
        if self.dead:
            raise Died
        kernel = self._kernel
        if kernel.tell is not None:
            kernel.tell(" ".join((f"  {call}", *paths)))
        if kernel.fuse:
            kernel.fuse -= 1
            if not kernel.fuse:
                self.dead, self.last = True, call
                kernel.faults[f"died before {call}"] += 1
                raise Died(call)
        if self._pause is not None:
            self._pause()

    def _fail(self, number: int, folder: str) -> OSError:
        self._kernel.suspect.add(folder)
        self._kernel.faults[errno.errorcode[number]] += 1
        return OSError(number, os.strerror(number))

    def _folder(self, path: str) -> tuple[Folder, str]:
        """Return the folder of a path that may be changed, and the name in it."""
        folder, _, name = path.rpartition("/")
        found = self._kernel.folders.get(folder)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if folder in self._kernel.read_only:
            raise self._fail(errno.EROFS, folder)
        return found, name

    def _lack_room(self, path: str) -> None:
        if self._kernel.full and self._kernel.random.random() < 0.7:
            raise self._fail(errno.ENOSPC, path.rpartition("/")[0])

    def _need(self, path: str) -> Inode:
        inode = self._kernel.find(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return inode

    def _descriptor(self, inode: Inode, path: str) -> int:
        self._numbers += 1
        self._open[self._numbers] = (inode, path)
        return self._numbers

    # --- looking ---------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> os.stat_result | None:
        self._look()
        if path in self._kernel.folders:
            return Status(stat.S_IFDIR | 0o755, 0, DEVICE, 2, os.geteuid(), os.getegid(), 0, 0, 0)  # type: ignore[return-value]
        inode = self._kernel.find(self._kernel.follow(path))
        return None if inode is None else self._status(inode)

    def lstat(self, path: str) -> os.stat_result:
        above = path.rstrip("/") + "/"
        if any(f"{folder}/".startswith(above) for folder in self._kernel.folders):
            path = next(iter(self._kernel.folders))
        found = self.stat(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def free_descriptors(self) -> int:
        return 100

    def find(self, path: str) -> os.stat_result | None:
        self._look()
        inode = self._kernel.find(path)
        return self.stat(path) if inode is None else self._status(inode)

    def clock(self) -> int:
        return (self._kernel.now + 1) * GRAIN

    def boot(self) -> str:
        return f"{self._kernel.boots:036}"

    def devices(self, kinds: Collection[str]) -> frozenset[int]:
        return frozenset({DEVICE})

    def _status(self, it: Inode) -> os.stat_result:
        size, times = len(it.content), (it.written * GRAIN, it.changed * GRAIN)
        at = self._kernel.times[it.changed]
        return Status(it.mode, it.number, DEVICE, it.names, os.geteuid(), os.getegid(), size, *times, at)  # type: ignore[return-value]

    def resolve(self, path: str) -> str:
        self._look()
        return self._kernel.follow(path)

    def read_version(self, path: str) -> tuple[bytes, os.stat_result]:
        self._look()
        inode = self._need(path)
        if inode.link is not None:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return inode.content, self._status(inode)

    def read_link(self, path: str) -> str | None:
        self._look()
        inode = self._kernel.find(path)
        return None if inode is None else inode.link

    def names(self, folder: str) -> list[str]:
        self._look()
        if folder not in self._kernel.folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
        return sorted(self._kernel.folders[folder].names)

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        return [(name, self._kernel.folders[folder].names[name].link is not None) for name in self.names(folder)]

    def attributes(self, path: str) -> dict[str, bytes]:
        self._look()
        return {}

    def give_attribute(self, descriptor: int, name: str, value: bytes) -> None:
        raise AssertionError("there are none to give")

    def drop_attribute(self, descriptor: int, name: str) -> None:
        raise AssertionError("there are none to drop")

    def fstat(self, descriptor: int) -> os.stat_result:
        self._look()
        return self._status(self._open[descriptor][0])


class SimDisk(_ReadingDisk):
    """The disk as one process has it."""

    # --- folders ---------------------------------------------------------------------------------------------------

    def make_folder(self, path: str) -> None:
        self.make_folders(path, 0o700)

    def make_folders(self, path: str, mode: int) -> None:
        self._look()
        if path not in self._kernel.folders:
            raise AssertionError("folders are there from the start")

    def make_private_folder(self) -> str:
        path = f"/tmp/confpy-{self._kernel.tick()}"
        self._step("make_private_folder", path)
        self._kernel.folders[path] = Folder()
        return path

    def remove_folder(self, path: str) -> None:
        self._step("remove_folder", path)
        del self._kernel.folders[path]

    def sync_folder(self, folder: str) -> None:
        self._step("sync_folder", folder)
        if self._kernel.failing and self._kernel.random.random() < self._kernel.failing:
            raise self._fail(errno.EIO, folder)
        self._kernel.folders[folder].sync()

    # --- descriptors and locks -------------------------------------------------------------------------------------

    def writing(self) -> AbstractContextManager[None]:
        return nullcontext()  # nothing is executed here, and jobs are stacked: one would wait for itself

    def create(self, path: str, access: int = os.O_WRONLY) -> int:
        self._step("create", path)
        folder, name = self._folder(path)
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._lack_room(path)
        inode = self._kernel.inode(stat.S_IFREG | 0o600)
        folder.put({name: inode})
        descriptor = self._descriptor(inode, path)
        inode.lock = (self, descriptor)
        return descriptor

    def adopt(self, path: str) -> int | None:
        self._look()
        inode = self._kernel.find(path)
        if inode is None or inode.lock is not None:
            return None
        self._folder(path)
        descriptor = self._descriptor(inode, path)
        inode.lock = (self, descriptor)
        return descriptor

    def open_existing(self, path: str) -> int:
        self._look()
        inode = self._need(path)
        if inode.link is not None:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if path not in self._kernel.mounts:
            self._folder(path)
        return self._descriptor(inode, path)

    def open_locks(self, path: str) -> int:
        self._look()
        inode = self._kernel.find(path)
        if inode is None:
            folder, name = self._folder(path)
            self._lack_room(path)
            inode = self._kernel.inode(stat.S_IFREG | 0o600)
            folder.put({name: inode})
        return self._descriptor(inode, path)

    def lock(self, descriptor: int, places: Iterable[int], seconds: float, *, shared: bool = False) -> set[int]:
        assert not shared, "the folder's own lock is taken outside of the simulated process"
        self._step("lock")
        inode, _ = self._open[descriptor]
        got = set()
        for place in places:
            holder = inode.locks.setdefault(place, (self, descriptor))
            if holder != (self, descriptor):
                # Jobs of one process are stacked here: the one below cannot end before this one does.
                if self._wait is not None:
                    self._wait(seconds)
            else:
                got.add(place)
        return got

    def lock_alone(self, descriptor: int, place: int) -> bool:
        return bool(self.lock(descriptor, (place,), 0.0))

    def close(self, descriptor: int) -> None:
        self._look()
        inode, _ = self._open.pop(descriptor)
        if inode.lock == (self, descriptor):
            inode.lock = None
        for place in [place for place, holder in inode.locks.items() if holder == (self, descriptor)]:
            del inode.locks[place]

    # --- contents --------------------------------------------------------------------------------------------------

    def _dies_within(self, inode: Inode, content: bytes, rest: bytes) -> None:
        """Leave a part of a write behind where the process is about to die."""
        if self._kernel.fuse == 1 and not self.dead:
            at = self._kernel.random.randint(0, len(content))
            inode.content = content[:at] + rest[at:]

    def fill(self, path: str, descriptor: int, content: bytes) -> None:
        if self._kernel.find(path) is not self._open[descriptor][0]:
            raise OSError(errno.ESTALE, "another file has taken its place")
        self.write(descriptor, content)

    def write(self, descriptor: int, content: bytes) -> None:
        inode, path = self._open[descriptor]
        old = inode.content
        if self._kernel.fuse == 1 and not self.dead:
            inode.content = old + content[: self._kernel.random.randint(0, len(content))]
        self._step("write", path)
        try:
            self._lack_room(path)
        except OSError:
            inode.content = old + content[: self._kernel.random.randint(0, len(content))]
            raise
        inode.content = old + content
        inode.written = inode.changed = self._kernel.tick()

    def overwrite(self, descriptor: int, content: bytes) -> None:
        inode, path = self._open[descriptor]
        old = inode.content
        self._dies_within(inode, content, old)
        self._step("overwrite", path)
        inode.content = content
        inode.written = inode.changed = self._kernel.tick()
        self._dies_within(inode, content, old)
        self._step("overwrite's sync", path)
        self._sync(inode, path)

    def print(self, path: str, content: bytes) -> None:
        self._step("print", path)
        self._kernel.write(path, content)

    def open_stream(self, path: str, seconds: float) -> int:
        raise AssertionError("there are no streams")

    def stream(self, descriptor: int, content: bytes, seconds: float) -> None:
        raise AssertionError("there are no streams")

    def truncate(self, descriptor: int, size: int) -> None:
        self._step("truncate")
        inode, _ = self._open[descriptor]
        inode.content = inode.content[:size]

    def reserve(self, descriptor: int, size: int) -> None:
        self._step("reserve")
        inode, path = self._open[descriptor]
        if size > len(inode.content):
            self._lack_room(path)

    def chown(self, descriptor: int, uid: int, gid: int) -> None:
        self._look()

    def chmod(self, descriptor: int, mode: int) -> None:
        self._step("chmod")
        inode, _ = self._open[descriptor]
        inode.mode = stat.S_IFREG | mode
        inode.changed = self._kernel.tick()

    def sync(self, descriptor: int) -> None:
        self._step("sync", self._open[descriptor][1])
        self._sync(*self._open[descriptor])

    def _sync(self, inode: Inode, path: str) -> None:
        if self._kernel.failing and self._kernel.random.random() < self._kernel.failing:
            raise self._fail(errno.EIO, path.rpartition("/")[0])
        inode.durable = inode.content

    def sync_all(self, descriptors: list[int]) -> bool:
        for descriptor in descriptors:
            self.sync(descriptor)
        return True

    # --- names -----------------------------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        self._step("rename", old, new)
        source, old_name = self._folder(old)
        target, new_name = self._folder(new)
        inode = self._need(old)
        if old in self._kernel.mounts or new in self._kernel.mounts:
            self._kernel.faults["EBUSY"] += 1
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if self._kernel.failing and self._kernel.random.random() < self._kernel.failing:
            raise self._fail(errno.EIO, new.rpartition("/")[0])
        replaced = target.names.get(new_name)
        if replaced is inode:
            return
        if replaced is not None:
            replaced.names -= 1
        inode.changed = self._kernel.tick()
        if source is target:
            source.put({new_name: inode, old_name: None})
        else:
            target.put({new_name: inode})
            source.put({old_name: None})

    def link(self, old: str, new: str) -> None:
        self._step("link", old, new)
        folder, name = self._folder(new)
        inode = self._need(old)
        if old in self._kernel.mounts:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        self._lack_room(new)
        inode.names += 1
        inode.changed = self._kernel.tick()
        folder.put({name: inode})

    def remove(self, path: str) -> None:
        self._step("remove", path)
        folder, name = self._folder(path)
        inode = self._need(path)
        if path in self._kernel.mounts:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if self._kernel.removing is not None:
            self._kernel.removing(path)
        inode.names -= 1
        inode.changed = self._kernel.tick()
        folder.put({name: None})

    def remove_if_abandoned(self, path: str) -> bool:
        self._look()
        inode = self._kernel.find(path)
        if inode is None or inode.lock is not None or inode.link is not None:
            return False
        try:
            self.remove(path)
        except OSError:
            return False
        return True


class Alone(AbstractContextManager[object]):
    """A lock of a process in which jobs are stacked: who holds it is not interrupted."""

    def __init__(self) -> None:
        self.held = 0

    def __enter__(self) -> None:
        self.held += 1

    def __exit__(self, *_: object) -> None:
        self.held -= 1
