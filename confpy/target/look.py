"""What a target is now, and how it differs from what its resource wants."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator

from confpy.candidates import OwnedFile
from confpy.config.resource import Resource
from confpy.errors import TargetError
from confpy.frozen import frozen
from confpy.system.disk import Disk, is_stream
from confpy.target.failures import failure
from confpy.target.stamps import Stamps, is_settled, stamp

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
    read_at: int = 0
    """When it was read, in nanoseconds of the clock of the disk; 0: it was not."""

    @property
    def mode(self) -> int:
        return NEW_MODE if self.status is None or self.stream else stat.S_IMODE(self.status.st_mode)

    @property
    def digest(self) -> str | None:
        """The digest of this content as the ledger stores it; None if there is no file."""
        return None if self.content is None else digest(self.content).hex()


class Folders:
    """Folders of targets with all links followed. Each is resolved once, however many targets it has."""

    def __init__(self, disk: Disk, root: str = "") -> None:
        """``root``: a folder out of which no link may lead; empty: any may."""
        self.root = disk.resolve(root) if root else ""
        self._disk = disk
        self._resolved: dict[str, str] = {}
        self._ignoring: dict[str, bool] = {}

    def resolve(self, folder: str) -> str:
        """Return the path of a folder, links followed; raises ``OSError``."""
        found = self._resolved.get(folder)
        if found is None:
            found = self._resolved[folder] = self._disk.resolve(folder)
        return found

    def has(self, folder: str) -> bool:
        """Return whether a resolved folder lies in the root."""
        return not self.root or os.path.commonpath((self.root, folder)) == self.root

    def forget(self) -> None:
        """Resolve all anew from now on: their links may lead elsewhere by then."""
        self._resolved.clear()

    def ignores_case(self, dest: str) -> bool:
        """Return whether names beside a target that differ in case only are one file: asked with a file for a moment.

        It is named as a candidate of the target, so that a start removes it after a kill. Raises ``OSError``.
        """
        folder, name = os.path.split(dest)
        resolved = self.resolve(folder)
        known = self._ignoring.get(resolved)
        if known is None and self._disk.stat(resolved) is not None:
            path, descriptor = self._disk.create_beside(os.path.join(resolved, name))
            try:
                known = self._disk.find(os.path.join(resolved, os.path.basename(path).swapcase())) is not None
            finally:
                self._disk.discard(path)
                self._disk.close(descriptor)
            self._ignoring[resolved] = known
        return bool(known)


@frozen
class Wanted:
    """What a target may have already, so that it need not be read to know it."""

    content: bytes
    digest: bytes
    stamps: Stamps
    """What is known of the targets, and what is learned of this one is added."""
    last: Current | None = None
    """What the target was at the last look."""

    def known(self, path: str, status: os.stat_result) -> Current | None:
        """Return what a target is, if that is certain without reading it."""
        if self.stamps.recognise(path, status, self.digest):
            return Current(path, status, self.content)
        last = self.last
        if last is None or last.path != path or last.status is None or not last.read_at:
            return None
        is_same = stamp(last.status) == stamp(status) and is_settled(last.status, last.read_at)
        return Current(path, status, last.content, read_at=last.read_at) if is_same else None


def look(resource: Resource, disk: Disk, folders: Folders | None = None, wanted: Wanted | None = None) -> Current:
    """Look at a resource's target, and read it unless its content is certain (``wanted``).

    Raises ``TargetError`` if it cannot be a target or cannot be read.
    """
    try:
        path, status = _find(resource, disk, folders or Folders(disk))
        if status is None or stat.S_ISLNK(status.st_mode):
            return Current(path, None, None, linked=status is not None)
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
        if wanted is not None and (known := wanted.known(path, status)) is not None:
            return known
        read_at = disk.clock()
        content, status = disk.read_version(path)
        if wanted is not None and content == wanted.content:
            wanted.stamps.learn(path, status, wanted.digest, read_at)
        return Current(path, status, content, read_at=read_at)
    except OSError as error:
        raise failure("the target cannot be read", resource, error) from error


def _find(resource: Resource, disk: Disk, folders: Folders) -> tuple[str, os.stat_result | None]:
    """Return the path that a rename has to replace, and what is there: a link if that is to be replaced."""
    for path, status in places(resource.dest, disk, folders):
        if status is None or not stat.S_ISLNK(status.st_mode):
            return path, status
        if resource.symlink == "refuse":
            hint = 'name the file itself, or write symlink = "follow" or "replace"'
            raise TargetError("the target is a link", hint=hint, target=resource.dest)
        if resource.symlink == "replace" or _others_may_write(os.path.dirname(path), disk):
            return path, status
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def places(dest: str, disk: Disk, folders: Folders) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield the paths at which a target may be, and what is there: ``dest``, then where each link leads.

    Raises ``TargetError`` if the next one is outside of the root.
    """
    path = dest
    for _ in range(LINKS):
        above, name = os.path.split(path)
        folder = folders.resolve(above)
        if not folders.has(folder):
            raise TargetError("the target lies outside of the root", hint="a link leads there", target=dest)
        if folder != above:
            path = os.path.join(folder, name)
        if is_descriptor(path, disk):
            yield path, disk.stat(path)
            return
        status = disk.find(path)
        yield path, status
        if status is None or not stat.S_ISLNK(status.st_mode):
            return
        link = disk.read_link(path)
        if link is None:  # it has just been replaced
            continue
        path = folders.root + link if link.startswith("/") else os.path.join(folder, link)


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


def why_it_stays(owned: OwnedFile | None, current: Current, digest: str | None, *, link: bool) -> str:
    """Return why a target that is there is not to be removed: it is not as it was delivered. Empty: it is.

    ``link``: it is a link, which would lead to nothing.
    """
    if owned is None or link or current.linked or current.stream or current.path != owned.path:
        return "a link or another file is in its place"
    return "" if digest == owned.digest else "somebody else has changed it"


def require_own_file(resource: Resource, twin: str, folders: Folders) -> None:
    """Raise ``TargetError`` where a target is that of another item (``twin``), whose name differs in case only."""
    try:
        ignores_case = folders.ignores_case(resource.dest)
    except OSError as error:
        raise failure("it cannot be found out whether the folder ignores case", resource, error) from error
    if ignores_case:
        hint = "this file system ignores case; the other one is delivered"
        raise TargetError(f"its file is that of another item: {twin}", hint=hint, target=resource.dest)


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
