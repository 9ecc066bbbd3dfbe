"""The file system, for whatever confpy writes: thin methods over system calls, and what is composed of them.

A crash can come after any method; a test counts the calls and kills the process at each. ``OSError`` passes through:
the callers know what they were doing, and say so.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import time
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager, suppress
from resource import RLIMIT_NOFILE, getrlimit

from confpy.system import links, mounts
from confpy.system.filenames import STAGE_MARK
from confpy.system.forking import writing

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_WRONLY | NEW
WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
LOCK = struct.Struct("hhqqi4x")
"""``struct flock`` of 64-bit Linux: type, from where, start, length, process."""
POLL = 0.02
"""Seconds between two tries to get a lock that another process holds."""
PIECE = 1 << 16
"""Bytes of a file that are compared, and written where they differ."""
BOOT = "/proc/sys/kernel/random/boot_id"
NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA, errno.ENOENT)
TRIES = 8
"""Names that are tried for a stage file."""


def token() -> str:
    """Return eight random hexadecimal digits."""
    return os.urandom(4).hex()


class SystemCalls:
    """What the kernel does. ``tests/sim/disk.py`` simulates each of them."""

    def stat(self, path: str) -> os.stat_result | None:
        """Return what is at ``path``, links followed, or None if there is nothing."""
        try:
            return os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def lstat(self, path: str) -> os.stat_result:
        """Return what is at ``path``, a link itself; raises ``FileNotFoundError``."""
        return os.lstat(path)

    def find(self, path: str) -> os.stat_result | None:
        """Return what is at ``path``, a link itself, or None if there is nothing."""
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def resolve(self, path: str) -> str:
        """Return ``path`` with all links followed: what a rename would have to replace."""
        return links.resolve(path)

    def read_version(self, path: str) -> tuple[bytes, os.stat_result]:
        """Read a file; returns its content, and what it was before that: whatever changes meanwhile is newer.

        A link or a FIFO that was just put in its place is not followed or waited for.
        """
        descriptor = os.open(path, READ)
        try:
            status = os.fstat(descriptor)
            # One byte more: less than that is all there is, but of a file of /proc, which has no size.
            parts = [os.read(descriptor, status.st_size + 1)]
            while parts[-1] and (len(parts) > 1 or len(parts[0]) != status.st_size):
                parts.append(os.read(descriptor, PIECE))
        finally:
            os.close(descriptor)
        return parts[0] if len(parts) <= 2 else b"".join(parts), status

    def clock(self) -> int:
        """Return the nanoseconds since 1970 of the clock that sets the times of files."""
        return time.time_ns()

    def read_link(self, path: str) -> str | None:
        """Return where a link leads, or None if there is no link."""
        try:
            return os.readlink(path)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def names(self, folder: str) -> list[str]:
        return os.listdir(folder)

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Return the names in a folder, and which of them are links."""
        with os.scandir(folder) as found:
            return [(entry.name, entry.is_symlink()) for entry in found]

    def make_folder(self, path: str) -> None:
        """Create a folder that only confpy may enter, and those above it; one that exists is left unchanged."""
        above = os.path.dirname(path)
        os.makedirs(above, 0o755, exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        self.sync_folder(above)

    def make_private_folder(self) -> str:
        """Create a folder for temporary files, which only confpy may enter; returns its path."""
        import tempfile

        return tempfile.mkdtemp(prefix="confpy-")

    def remove_folder(self, path: str) -> None:
        """Remove a folder with everything in it."""
        import shutil

        shutil.rmtree(path)

    def make_folders(self, path: str, mode: int) -> None:
        """Create a folder and those above it, each that is missing with exactly these permission bits.

        A link that was just put in the new folder's place is not followed.
        """
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        self.make_folders(above, mode)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        self.sync_folder(above)

    def create(self, path: str, access: int = os.O_WRONLY) -> int:
        """Create a file that only confpy may read, and lock it: a lock ends with its process, however that ends.

        ``access``: what the descriptor is for. One that only reads (``O_RDONLY``) may stay open while the file is
        executed; ``fill`` writes such a file. Raises ``FileExistsError`` if the name is taken, also if a sweep locked
        the file first.
        """
        descriptor = os.open(path, access | NEW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            caught = os.fstat(descriptor).st_nlink == 0
        except BlockingIOError:
            caught = True
        except OSError:
            # A file system without locks (some NFS): a sweep cannot lock the file either, and does not remove it.
            caught = False
        if caught:
            os.close(descriptor)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return descriptor

    def adopt(self, path: str) -> int | None:
        """Open and lock a file that its process left behind; None if that process lives or the file is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except OSError:  # locked, or a file system without locks, where it is unknown whether the process lives
            pass
        os.close(descriptor)
        return None

    def open_locks(self, path: str) -> int:
        """Open the file whose bytes are locks; creates it if it is missing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def lock(self, descriptor: int, places: Iterable[int], seconds: float, *, shared: bool = False) -> set[int]:
        """Lock bytes of an open file, one after another; returns those that were locked within ``seconds``.

        ``shared``: others may hold shared locks on them, too. A lock that the descriptor already has changes its kind.
        Locks belong to the open file, not to the process (OFD locks): closing the descriptor releases them, and they
        exclude other threads as well.
        """
        deadline = time.monotonic() + seconds
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        # On a file system without locks it cannot be known whether another process is there: do not wait.
        return {place for place in places if _lock_byte(descriptor, kind, place, deadline) is not False}

    def lock_alone(self, descriptor: int, place: int) -> bool:
        """Lock a byte exclusively, without waiting; False if another process holds it, or if that cannot be known."""
        return _lock_byte(descriptor, fcntl.F_WRLCK, place, time.monotonic()) is True

    def remove_if_abandoned(self, path: str) -> bool:
        """Remove a stage file unless a living process holds its lock; returns whether it was removed."""
        try:
            descriptor = os.open(path, READ)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def writing(self) -> AbstractContextManager[None]:
        """Let no process inherit what is open for writing meanwhile: it could not be executed (ETXTBSY)."""
        return writing()

    def fill(self, path: str, descriptor: int, content: bytes) -> None:
        """Write the new file at ``path``, whose descriptor only reads: it is open for writing only meanwhile.

        Raises ``OSError``, also if another file has taken its place.
        """
        made = os.fstat(descriptor)
        if made.st_mode & 0o600 != 0o600:  # because of the umask, or of the folder's default access control list
            os.fchmod(descriptor, 0o600)
        with self.writing():
            writer = os.open(path, WRITE)
            try:
                if not os.path.samestat(os.fstat(writer), made):
                    raise OSError(errno.ESTALE, "another file has taken its place", path)
                self.write(writer, content)
            finally:
                os.close(writer)

    def write(self, descriptor: int, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def truncate(self, descriptor: int, size: int) -> None:
        """Truncate an open file; further writes go to its new end."""
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)

    def attributes(self, path: str) -> dict[str, bytes]:
        """Return a file's extended attributes, access control list among them; none where Python has no call for it."""
        if not hasattr(os, "listxattr"):
            return {}
        try:
            return {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
        except OSError as error:
            if error.errno in NO_ATTRIBUTES:
                return {}
            raise

    def give_attribute(self, descriptor: int, name: str, value: bytes) -> None:
        os.setxattr(descriptor, name, value)

    def drop_attribute(self, descriptor: int, name: str) -> None:
        os.removexattr(descriptor, name)

    def free_descriptors(self) -> int:
        """Return about how many more files this process may open."""
        most = getrlimit(RLIMIT_NOFILE)[0]
        try:
            return most - len(os.listdir("/proc/self/fd"))
        except OSError:
            return most // 4

    def print(self, path: str, content: bytes) -> None:
        """Write to a file as it is, a terminal or a pipe: not atomically."""
        with open(path, "wb") as file:
            file.write(content)

    def chown(self, descriptor: int, uid: int, gid: int) -> None:
        os.fchown(descriptor, uid, gid)

    def chmod(self, descriptor: int, mode: int) -> None:
        os.fchmod(descriptor, mode)

    def fstat(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def sync(self, descriptor: int) -> None:
        """Flush the content of a file to disk."""
        os.fdatasync(descriptor)

    def sync_all(self, descriptors: list[int]) -> bool:
        """Flush many files at once, by one ``syncfs`` per file system; False if that is not possible."""
        import ctypes

        syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
        by_device = {os.fstat(descriptor).st_dev: descriptor for descriptor in descriptors}
        return syncfs is not None and all(syncfs(descriptor) == 0 for descriptor in by_device.values())

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        """Give a file, or a link itself, a second name."""
        os.link(old, new, follow_symlinks=False)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, folder: str) -> None:
        """Flush the entries of a folder to disk: renames, creations and removals."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder, and need not
                raise
        finally:
            os.close(descriptor)

    def open_existing(self, path: str) -> int:
        """Open a regular file to write it in place; raises ``OSError`` for anything else that may be there now."""
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "there is no regular file", path)
        return descriptor

    def open_stream(self, path: str, seconds: float) -> int:
        """Open a FIFO or a character device for writing; raises ``OSError`` for anything else that may be there now.

        Waits so many seconds for a FIFO to have a reader, then raises ``ENXIO``.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                descriptor = os.open(path, WRITE | os.O_NOCTTY)
            except OSError as error:
                left = deadline - time.monotonic()
                if error.errno != errno.ENXIO or left <= 0:
                    raise
                time.sleep(min(POLL, left))
                continue
            if is_stream(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            raise OSError(errno.EINVAL, "there is no FIFO and no character device", path)

    def stream(self, descriptor: int, content: bytes, seconds: float) -> None:
        """Write to a stream at its reader's pace; raises ``ETIMEDOUT`` if nothing is read for so many seconds."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        rest = memoryview(content)
        while rest:
            if not poll.poll(seconds * 1000):
                raise OSError(errno.ETIMEDOUT, "nothing reads it", None)
            # No more than does not block, whatever mode others who share the open file have set.
            rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]

    def reserve(self, descriptor: int, size: int) -> None:
        """Allocate space before anything is overwritten, so that a full disk is found while the old bytes are whole."""
        try:
            os.posix_fallocate(descriptor, 0, max(1, size))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # musl on a file system that cannot: the write itself will show it
                raise

    def overwrite(self, descriptor: int, content: bytes) -> None:
        """Make ``content`` the whole content of an open file, and flush it to disk.

        Parts that are equal are not written: a file system that copies on write would need space for them.
        """
        for place in range(0, len(content), PIECE):
            piece = content[place : place + PIECE]
            if os.pread(descriptor, len(piece), place) != piece:
                os.lseek(descriptor, place, os.SEEK_SET)
                self.write(descriptor, piece)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)


class Disk(SystemCalls):
    """The file system as confpy uses it."""

    def read(self, path: str) -> bytes:
        """Return the content of a file, as ``read_version``."""
        return self.read_version(path)[0]

    def boot(self) -> str:
        """Return what names the time since the machine was started, in 36 characters; empty if that is unknown."""
        try:
            return self.read(BOOT).decode("ascii").strip()
        except (OSError, ValueError):
            return ""

    def devices(self, kinds: Collection[str]) -> frozenset[int]:
        """Return the devices of the mounted file systems that are of these kinds."""
        try:
            return mounts.devices(self.read(mounts.FILE), kinds)
        except OSError:
            return frozenset()

    def create_beside(self, path: str, access: int = os.O_WRONLY) -> tuple[str, int]:
        """Create an empty stage file beside ``path``; returns its path and descriptor. ``access``: as in ``create``."""
        folder, name = os.path.split(path)
        tries = TRIES
        while True:
            stage = os.path.join(folder, f".{name}{STAGE_MARK}{token()}")
            try:
                return stage, self.create(stage, access)
            except FileExistsError:
                tries -= 1
                if not tries:
                    raise

    def write_file(
        self, path: str, content: bytes, *, mode: int | None = None, durable: bool = True, stage: str = ""
    ) -> None:
        """Make ``path`` a file with this content, all at once; raises ``OSError``.

        Whatever happens meanwhile, a kill or a power cut included, whoever opens ``path`` finds the old file or the new
        one, whole. ``durable``: the new one is on the disk when this returns, name and content; without it a power cut
        may bring back the old one or leave an empty file. The file has its ``mode`` (0600 if None) whatever the umask,
        from before it can be seen at ``path``.

        A failure leaves the old file and nothing beside it; if only the folder cannot be synced, the new file is in
        place. A kill may leave a stage file, which ``remove_if_abandoned`` removes. ``stage``: its path, if there is
        one writer at a time; a stage file that was left there is removed first.

        Not preserved are owner and attributes of the old file, nor a link at ``path``: it is replaced, not followed.
        Of several writers at once the last one wins.
        """
        if stage:
            self.remove_if_abandoned(stage)
        self.close(self._write_whole(path, content, mode, stage, durable=durable, new=False))

    def write_new_file(self, path: str, content: bytes) -> int:
        """Create a file at ``path``, where there is none, as ``write_file`` does; returns its descriptor.

        That is open for writing at the end, and locked. A failure leaves no file. Raises ``OSError``.
        """
        return self._write_whole(path, content, None, "", durable=True, new=True)

    def _write_whole(self, path: str, content: bytes, mode: int | None, stage: str, *, durable: bool, new: bool) -> int:
        stage, descriptor = (stage, self.create(stage)) if stage else self.create_beside(path)
        leftovers = [stage, path] if new else [stage]
        try:
            self.write(descriptor, content)
            if mode is not None:
                self.chmod(descriptor, mode)
            if durable:
                self.sync(descriptor)
            self.rename(stage, path)
            if not new:
                leftovers.clear()
            if durable:
                self.sync_folder(os.path.dirname(path))
        except Exception:
            for leftover in leftovers:
                self.discard(leftover)
            self.close(descriptor)
            raise
        return descriptor

    def discard(self, path: str) -> None:
        """Remove a file that is no longer needed; one that cannot be removed stays."""
        with suppress(OSError):
            self.remove(path)


def is_stream(mode: int) -> bool:
    """Return whether a file of this mode is written to and stores nothing: a FIFO, a character device."""
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _lock_byte(descriptor: int, kind: int, place: int, deadline: float) -> bool | None:
    """Lock one byte; returns whether that succeeded in time, None on a file system without locks."""
    wanted = LOCK.pack(kind, os.SEEK_SET, place, 1, 0)
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(POLL, left))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOLCK, errno.ENOTSUP):
                return None
            raise
        else:
            return True
