"""Which content targets had when they were read last, so that an unchanged one need not be read again.

A target has the same content if device, inode, size and both times are the same: every write sets ``ctime``, and nobody
but the kernel can. Where that does not hold it is read: with times as young as the grain of the clock (a second write
may have left them as they are), and on file systems that are not known to show each change at once, such as those of a
network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct

from confpy.candidates import FileStamp
from confpy.system.disk import Disk

FIELDS = Struct("<QQqqq")
KEY, SEAL = 16, 16
"""Bytes of the key, and of a digest under it."""
FINE, COARSE = 50_000_000, 2_000_000_000
"""Nanoseconds that are longer than the grain of file times: of those kept in nanoseconds, and of others."""
LOCAL = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs"})
"""File systems that are known to show each change at once. A device that is not found among the mounts, as those of
Btrfs, is not one."""


def stamp(status: os.stat_result) -> FileStamp:
    """Return what identifies a version of a file without reading it."""
    size, written, changed = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return FIELDS.pack(status.st_dev, status.st_ino, size, written, changed)


def is_settled(status: os.stat_result, moment: int) -> bool:
    """Return whether a change after ``moment`` will have other times than the file had then.

    ``moment``: nanoseconds of the clock of the disk, no later than when ``status`` was taken.
    """
    changed = status.st_ctime_ns
    grain = FINE if changed % 1_000_000 else COARSE
    return moment - max(changed, status.st_mtime_ns) >= grain


class Stamps:
    """The stamps of targets, by path, each with a digest of the content. For any thread.

    The digests have a key, lest short contents be found by a table of digests.
    """

    def __init__(self, disk: Disk, key: bytes = b"", loaded: dict[str, bytes] | None = None) -> None:
        """``loaded``: what another process has learned, with this key."""
        self.key = key or os.urandom(KEY)
        self.learned = 0
        """How many were learned since ``entries`` was asked last."""
        self._disk = disk
        self._known: dict[str, bytes] = {}
        self._loaded = loaded or {}
        """Those that were not asked for yet."""
        self._local: frozenset[int] | None = None

    def recognise(self, path: str, status: os.stat_result, digest: bytes) -> bool:
        """Return whether a target certainly has the content of this digest. ``status``: what it is now."""
        known = self._known.get(path)
        if known is None:
            known = self._loaded.pop(path, None)
            if known is None:
                return False
            self._known[path] = known
        if known != stamp(status) + self._sealed(digest):
            return False
        return self._is_local(status.st_dev)

    def learn(self, path: str, status: os.stat_result, digest: bytes, moment: int) -> None:
        """Take the content that a target was just found to have. ``status``, ``moment``: as in ``is_settled``."""
        if is_settled(status, moment):
            self._known[path] = stamp(status) + self._sealed(digest)
            self.learned += 1

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """Yield path, and stamp with digest, of all that a later process may believe."""
        self.learned = 0
        for path, known in self._known.copy().items():
            if self._is_local(FIELDS.unpack_from(known)[0]):
                yield path, known
        for path, known in self._loaded.copy().items():
            # Of another tree, or of a resource that is gone: those of files that are gone are forgotten.
            status = self._disk.find(path)
            if status is not None and known.startswith(stamp(status)):
                yield path, known

    def _is_local(self, device: int) -> bool:
        if self._local is None:
            self._local = self._disk.devices(LOCAL)
        return device in self._local

    def _sealed(self, digest: bytes) -> bytes:
        return blake2b(digest, digest_size=SEAL, key=self.key).digest()
