"""What a target is now, what it should be, and how a candidate takes its place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from dataclasses import dataclass, field

from confpy.disk import Disk
from confpy.errors import TargetError
from confpy.model import Known, Resource, Stamp

NEW_MODE = 0o644
"""Permission bits of a target that did not exist and whose resource names none."""
STAGE_MARK = ".confpy-"
"""What the names of stage files have in common; the dot in front keeps them out of ``include *.conf``."""


def digest(content: bytes) -> bytes:
    """Return what confpy remembers of a content: enough to know it again, nothing to read in it."""
    return hashlib.sha256(content).digest()


def stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Current:
    """What a target is before a delivery."""

    path: str
    """With links followed: the file itself."""
    status: os.stat_result | None
    content: bytes | None

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.status.st_mode) if self.status else NEW_MODE


def look(resource: Resource, disk: Disk) -> Current:
    """Read a resource's target; raises ``TargetError`` for one that cannot be a target or be read."""
    try:
        path = disk.resolve(resource.dest)
        status = disk.stat(path)
        if status is None:
            return Current(path, None, None)
        if stat.S_ISDIR(status.st_mode):
            raise TargetError("the target is a directory", hint="dest names a file", target=resource.dest)
        if not stat.S_ISREG(status.st_mode):
            raise TargetError("the target is not a regular file", target=resource.dest)
        return Current(path, status, disk.read(path))
    except OSError as error:
        raise failure("the target cannot be read", resource, error) from error


def differences(resource: Resource, current: Current, content: bytes) -> list[str]:
    """Name what is other than the resource wants it: ``missing``, ``content``, ``mode``, ``owner``.

    An owner that we may not give counts as right: else a confpy that is not root would deliver for ever.
    """
    if current.status is None:
        return ["missing"]
    found = []
    if current.content != content:
        found.append("content")
    if resource.mode is not None and current.mode != resource.mode:
        found.append("mode")
    if _foreign(resource, current.status) and (os.geteuid() == 0 or resource.strict_owner):
        found.append("owner")
    return found


def _foreign(resource: Resource, status: os.stat_result) -> bool:
    return resource.uid not in (None, status.st_uid) or resource.gid not in (None, status.st_gid)


@dataclass(slots=True)
class Staged:
    """A candidate on disk, beside its target: whole, with its final mode and owner, locked as long as it is open."""

    resource: Resource
    current: Current
    content: bytes
    path: str
    descriptor: int
    notes: list[str] = field(default_factory=list)


def stage(resource: Resource, current: Current, content: bytes, disk: Disk) -> Staged:
    """Write a candidate beside its target; raises ``TargetError``, and then nothing of it is left."""
    folder, name = os.path.split(current.path)
    staged = None
    try:
        for _ in range(8):
            path = os.path.join(folder, f".{name}{STAGE_MARK}{os.urandom(4).hex()}")
            staged = Staged(resource, current, content, path, disk.create(path))
            if disk.is_linked(staged.descriptor):
                break
            disk.close(staged.descriptor)  # a sweep of another confpy caught it before the lock
        assert staged is not None
        disk.write(staged.descriptor, content)
        _give_owner(staged, disk)
        disk.chmod(staged.descriptor, current.mode if resource.mode is None else resource.mode)
    except OSError as error:
        if staged is not None:
            discard(staged, disk)
        raise failure("the candidate cannot be written beside the target", resource, error, folder=folder) from error
    except TargetError:
        if staged is not None:
            discard(staged, disk)
        raise
    return staged


def _give_owner(staged: Staged, disk: Disk) -> None:
    """Give the candidate the wanted owner, or that of the target it replaces."""
    resource, was = staged.resource, staged.current.status
    mine = disk.fstat(staged.descriptor)
    uid = resource.uid if resource.uid is not None else was.st_uid if was else mine.st_uid
    gid = resource.gid if resource.gid is not None else was.st_gid if was else mine.st_gid
    if (uid, gid) == (mine.st_uid, mine.st_gid):
        return
    try:
        disk.chown(staged.descriptor, uid, gid)
    except OSError as error:
        if resource.strict_owner:
            raise failure(f"the owner {uid}:{gid} cannot be given", resource, error) from error
        staged.notes.append(f"owner {uid}:{gid} cannot be given ({error.strerror}), it stays ours")
        # The group alone may be one of ours.
        if gid != mine.st_gid:
            with contextlib.suppress(OSError):
                disk.chown(staged.descriptor, -1, gid)


def discard(staged: Staged, disk: Disk) -> None:
    """Remove a candidate that will not be committed."""
    with contextlib.suppress(OSError):
        disk.remove(staged.path)
    close(staged, disk)


def close(staged: Staged, disk: Disk) -> None:
    """Let go of a candidate: its lock ends."""
    if staged.descriptor >= 0:
        disk.close(staged.descriptor)
        staged.descriptor = -1


def commit(staged: Staged, disk: Disk) -> Known:
    """Put a candidate in its target's place, atomically where the file system can; raises ``TargetError``."""
    path = staged.current.path
    try:
        try:
            disk.rename(staged.path, path)
        except OSError as error:
            # EBUSY: the target is a mount point (a file bind-mounted into a container) and cannot be renamed over.
            if error.errno not in (errno.EBUSY, errno.EXDEV) or staged.current.content is None:
                raise
            _write_in_place(staged, disk)
            staged.notes.append("written in place, not atomically: it is a mount point")
        status = disk.stat(path)
    except OSError as error:
        discard(staged, disk)
        raise failure("the target cannot be replaced", staged.resource, error) from error
    close(staged, disk)
    return Known(digest(staged.content), stamp(status) if status else None)


def _write_in_place(staged: Staged, disk: Disk) -> None:
    """Overwrite the target where it stands; on failure its old bytes are put back."""
    old = staged.current.content
    assert old is not None
    wanted = disk.fstat(staged.descriptor)
    descriptor = disk.open_existing(staged.current.path)
    try:
        try:
            disk.reserve(descriptor, max(len(old), len(staged.content)))
            disk.overwrite(descriptor, staged.content)
        except OSError:
            disk.overwrite(descriptor, old)
            raise
        now = disk.fstat(descriptor)
        if (now.st_uid, now.st_gid) != (wanted.st_uid, wanted.st_gid):
            with contextlib.suppress(OSError):  # said when the candidate was staged
                disk.chown(descriptor, wanted.st_uid, wanted.st_gid)
        if now.st_mode != wanted.st_mode:
            disk.chmod(descriptor, stat.S_IMODE(wanted.st_mode))
    finally:
        disk.close(descriptor)
    disk.remove(staged.path)


def sweep(dests: tuple[str, ...], disk: Disk) -> tuple[str, ...]:
    """Remove the stage files beside these targets that no living process holds; returns their paths."""
    wanted: dict[str, list[str]] = {}
    for dest in dests:
        folder, name = os.path.split(disk.resolve(dest))
        wanted.setdefault(folder, []).append(f".{name}{STAGE_MARK}")
    removed = []
    for folder, marks in wanted.items():
        try:
            names = [name for name in disk.names(folder) if STAGE_MARK in name]
        except OSError:
            continue
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith(tuple(marks)) and disk.remove_if_abandoned(path):
                removed.append(path)
    return tuple(removed)


HINTS = {
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.EACCES: "give confpy's user the right to write there",
    errno.EPERM: "give confpy's user the right to do that",
    errno.ENOSPC: "make room on the disk; it is tried again",
    errno.EDQUOT: "make room in the quota; it is tried again",
    errno.EROFS: "the file system is read-only",
}


def failure(what: str, resource: Resource, error: OSError, **where: str) -> TargetError:
    """Make the error of a file that could not be dealt with."""
    reason = error.strerror or str(error)
    hint = HINTS.get(error.errno or 0, "")
    return TargetError(f"{what}: {reason}", hint=hint, target=resource.dest, **where)
