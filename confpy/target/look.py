"""What a target is now, and how it differs from what its resource wants."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator

from confpy.candidates import FileStamp
from confpy.config.resource import Resource
from confpy.errors import TargetError
from confpy.frozen import frozen
from confpy.system.disk import Disk, is_stream
from confpy.target.failures import failure

NEW_MODE = 0o644
"""Permission bits of a target that did not exist and whose resource does not set any."""
LARGEST = 1 << 30
"""Bytes of the largest target: it is read as a whole, and a larger file was not written by confpy."""
LINKS = 40
"""Links in a row that are followed, as the kernel does."""
OUTPUTS = ("1", "2")
"""Descriptors of this process that may be targets: standard output and error."""


def digest(content: bytes) -> bytes:
    """Return what confpy stores to recognise a content: nothing of it can be read from that."""
    return hashlib.sha256(content).digest()


def stamp(status: os.stat_result) -> FileStamp:
    """Return what identifies a version of a file without reading it."""
    return FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@frozen
class Current:
    """What a target is before a delivery."""

    path: str
    """The file itself, with those links followed that are to be followed."""
    status: os.stat_result | None
    content: bytes | None
    linked: bool = False
    """The target is a link, which will be replaced."""
    stream: bool = False
    """It can be written but neither read back nor replaced: a FIFO, a character device, an output of this process."""

    @property
    def mode(self) -> int:
        return NEW_MODE if self.status is None or self.stream else stat.S_IMODE(self.status.st_mode)

    @property
    def digest(self) -> str | None:
        """The digest of this content as the ledger stores it; None if there is no file."""
        return None if self.content is None else digest(self.content).hex()


def look(resource: Resource, disk: Disk, root: str = "") -> Current:
    """Read a resource's target; raises ``TargetError`` if it cannot be a target or cannot be read.

    ``root`` is a folder, resolved, out of which no link may lead.
    """
    try:
        path, linked = _find(resource, disk, root)
        status = None if linked else disk.stat(path)
        if status is None:
            return Current(path, None, None, linked)
        if is_stream(status.st_mode) or is_descriptor(path, disk):
            _require_stream(resource, path, status, disk)
            return Current(path, status, None, stream=True)
        if stat.S_ISDIR(status.st_mode):
            raise TargetError("the target is a directory", hint="dest names a file", target=resource.dest)
        if not stat.S_ISREG(status.st_mode):
            raise TargetError("the target is not a regular file", target=resource.dest)
        if status.st_size > LARGEST:
            hint = "is dest right? then remove it"
            raise TargetError(f"the target is larger than {LARGEST >> 30} GB", hint=hint, target=resource.dest)
        return Current(path, status, disk.read(path))
    except OSError as error:
        raise failure("the target cannot be read", resource, error) from error


def _find(resource: Resource, disk: Disk, root: str) -> tuple[str, bool]:
    """Return the path that a rename has to replace, and whether it is a link."""
    for path, linked in places(resource.dest, disk, root):
        if not linked:
            return path, False
        if resource.symlink == "refuse":
            hint = 'name the file itself, or write symlink = "follow" or "replace"'
            raise TargetError("the target is a link", hint=hint, target=resource.dest)
        if resource.symlink == "replace" or _others_may_write(os.path.dirname(path), disk):
            return path, True
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def places(dest: str, disk: Disk, root: str) -> Iterator[tuple[str, bool]]:
    """Yield the paths at which a target may be, and whether each is a link: ``dest``, then where each link leads.

    Raises ``TargetError`` if the next one is outside of the root.
    """
    path = dest
    for _ in range(LINKS):
        folder = disk.resolve(os.path.dirname(path))
        if root and os.path.commonpath((root, folder)) != root:
            raise TargetError("the target lies outside of the root", hint="a link leads there", target=dest)
        path = os.path.join(folder, os.path.basename(path))
        link = None if is_descriptor(path, disk) else disk.read_link(path)
        yield path, link is not None
        if link is None:
            return
        path = root + link if link.startswith("/") else os.path.join(folder, link)


def is_descriptor(path: str, disk: Disk) -> bool:
    """Return whether a path, its folder resolved, is an open descriptor of this process, as ``/dev/stdout`` is."""
    return path.startswith("/proc/") and os.path.dirname(path) == disk.resolve("/proc/self/fd")


def _require_stream(resource: Resource, path: str, status: os.stat_result, disk: Disk) -> None:
    """Raise ``TargetError`` unless the target may be written as a stream."""
    folder, name = os.path.split(path)
    if is_descriptor(path, disk):
        if name not in OUTPUTS:
            hint = "of the open descriptors only /dev/stdout and /dev/stderr can be targets"
            raise TargetError(f"the target is descriptor {name} of confpy", hint=hint, target=resource.dest)
        # If it was closed at the start, its number belongs to whatever was opened next.
        if (sys.__stdout__ if name == "1" else sys.__stderr__) is None:
            raise TargetError("confpy was started with this output closed", target=resource.dest)
    elif status.st_uid not in (0, os.geteuid()) and _others_may_write(folder, disk):
        hint = "whoever put it there would read the file; give it to confpy's user, or put it into another folder"
        raise TargetError("the target is another user's FIFO or device", hint=hint, target=resource.dest)
    if resource.write == "rename":
        raise TargetError("the target is not a regular file", hint='write = "rename" needs one', target=resource.dest)


def _others_may_write(folder: str, disk: Disk) -> bool:
    """Return whether users other than root and confpy's decide where the links of a folder lead."""
    status = disk.stat(folder)
    if status is None:
        return False
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid())
    return bool(by_group or status.st_mode & stat.S_IWOTH or status.st_uid not in (0, os.geteuid()))


def differences(resource: Resource, current: Current, content: bytes) -> list[str]:
    """Name what differs from what the resource wants: ``missing``, ``content``, ``mode``, ``owner``.

    An owner that confpy may not set counts as right: else a confpy that is not root would deliver for ever.
    """
    if current.status is None:
        return ["a link" if current.linked else "missing"]
    if current.stream:
        return ["content"]
    found = []
    if current.content != content:
        found.append("content")
    if resource.mode is not None and current.mode != resource.mode:
        found.append("mode")
    if _has_other_owner(resource, current.status) and (os.geteuid() == 0 or resource.strict_owner):
        found.append("owner")
    return found


def _has_other_owner(resource: Resource, status: os.stat_result) -> bool:
    return resource.uid not in (None, status.st_uid) or resource.gid not in (None, status.st_gid)


def digest_at(path: str, disk: Disk) -> str | None:
    """Return the digest of the file at a path, None if there is nothing, empty if it cannot be read."""
    try:
        status = disk.stat(path)
        if status is None and disk.read_link(path) is None:
            return None
        if status is not None and not stat.S_ISREG(status.st_mode):
            return ""
        return digest(disk.read(path)).hex()
    except OSError:
        return ""
