"""The one user of the file system for whatever is written: thin names over system calls.

One method is one step that a crash can fall behind; a test counts them and dies at each. ``OSError`` passes through:
the rooms above know what they were doing, and say so.
"""

from __future__ import annotations

import errno
import fcntl
import os

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """The real one. ``tests/sim`` has another."""

    def stat(self, path: str) -> os.stat_result | None:
        """Return what is at ``path``, links followed, or None where nothing is."""
        try:
            return os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def resolve(self, path: str) -> str:
        """Return ``path`` with all links followed: what a rename would have to replace."""
        return os.path.realpath(path)

    def read(self, path: str) -> bytes:
        """Read a file. A link or a FIFO that somebody has just put in its place is not followed or waited for."""
        with open(os.open(path, READ), "rb") as file:
            return file.read()

    def names(self, folder: str) -> list[str]:
        return os.listdir(folder)

    def create(self, path: str) -> int:
        """Make a new file that only we may read, and lock it: a lock ends with its process, however that ends.

        Raises ``FileExistsError`` where the name is taken, also by a sweep that caught the file before it was locked.
        """
        descriptor = os.open(path, CREATE, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            caught = os.fstat(descriptor).st_nlink == 0
        except BlockingIOError:
            caught = True
        except OSError:
            # A file system without locks (some NFS): a sweep there cannot lock the file either, and leaves it be.
            caught = False
        if caught:
            os.close(descriptor)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return descriptor

    def remove_if_abandoned(self, path: str) -> bool:
        """Remove a stage file unless a living process holds its lock. True where it was removed."""
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

    def write(self, descriptor: int, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def chown(self, descriptor: int, uid: int, gid: int) -> None:
        os.fchown(descriptor, uid, gid)

    def chmod(self, descriptor: int, mode: int) -> None:
        os.fchmod(descriptor, mode)

    def fstat(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def sync(self, descriptor: int) -> None:
        """Bring the content of one file to the platter."""
        os.fdatasync(descriptor)

    def sync_all(self, descriptors: list[int]) -> bool:
        """Bring many files down at once, by one ``syncfs`` per file system. False where that cannot be done."""
        import ctypes

        syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
        by_device = {os.fstat(descriptor).st_dev: descriptor for descriptor in descriptors}
        return syncfs is not None and all(syncfs(descriptor) == 0 for descriptor in by_device.values())

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, folder: str) -> None:
        """Bring renames in ``folder`` to the platter."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder: nothing to bring down
                raise
        finally:
            os.close(descriptor)

    def open_existing(self, path: str) -> int:
        """Open a file to write into it where it stands."""
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def reserve(self, descriptor: int, size: int) -> None:
        """Take the room before anything is overwritten, so that a full disk is found while the old bytes stand."""
        try:
            os.posix_fallocate(descriptor, 0, max(1, size))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # musl on a file system that cannot: the write itself will tell
                raise

    def overwrite(self, descriptor: int, content: bytes) -> None:
        """Make the open file hold ``content`` and no more."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        self.write(descriptor, content)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
