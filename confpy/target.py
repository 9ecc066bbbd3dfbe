"""What a target is now, what it should be, and how a candidate takes its place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from dataclasses import dataclass, field

from confpy.disk import Disk
from confpy.errors import TargetError
from confpy.model import Resource, Stamp

NEW_MODE = 0o644
"""Permission bits of a target that did not exist and whose resource names none."""
STAGE_MARK = ".confpy-"
"""What the names of stage files have in common; the dot in front keeps them out of ``include *.conf``."""
STAGE_NAME = re.compile(r"\.(.+)" + re.escape(STAGE_MARK) + "[0-9a-f]{8}", re.DOTALL)


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
        # By the name as given, so that the kernel has its say about links (fs.protected_symlinks).
        status = disk.stat(resource.dest)
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

    @property
    def mode(self) -> int:
        return self.current.mode if self.resource.mode is None else self.resource.mode


def stage(resource: Resource, current: Current, content: bytes, disk: Disk) -> Staged:
    """Write a candidate beside its target; raises ``TargetError``, and then nothing of it is left."""
    folder = os.path.dirname(current.path)
    staged = None
    try:
        path, descriptor = _create(current.path, disk)
        staged = Staged(resource, current, content, path, descriptor)
        disk.write(descriptor, content)
        _give_owner(staged, descriptor, disk)
        disk.chmod(descriptor, staged.mode)
    except OSError as error:
        if staged is not None:
            discard(staged, disk)
        raise failure("the candidate cannot be written beside the target", resource, error, folder=folder) from error
    except TargetError:
        if staged is not None:
            discard(staged, disk)
        raise
    return staged


def _create(target: str, disk: Disk) -> tuple[str, int]:
    """Make an empty stage file beside a target; returns its path and descriptor."""
    folder, name = os.path.split(target)
    tries = 8
    while True:
        path = os.path.join(folder, f".{name}{STAGE_MARK}{os.urandom(4).hex()}")
        try:
            return path, disk.create(path)
        except FileExistsError:
            tries -= 1
            if not tries:
                raise


def _give_owner(staged: Staged, descriptor: int, disk: Disk) -> None:
    """Give an open file the wanted owner, or that of the target."""
    resource, was = staged.resource, staged.current.status
    mine = disk.fstat(descriptor)
    uid = resource.uid if resource.uid is not None else was.st_uid if was else mine.st_uid
    gid = resource.gid if resource.gid is not None else was.st_gid if was else mine.st_gid
    if (uid, gid) == (mine.st_uid, mine.st_gid):
        return
    try:
        disk.chown(descriptor, uid, gid)
    except OSError as error:
        if resource.strict_owner:
            raise failure(f"the owner {uid}:{gid} cannot be given", resource, error) from error
        note = f"owner {uid}:{gid} cannot be given ({error.strerror})"
        if note not in staged.notes:
            staged.notes.append(note)
        # The group alone may be one of ours.
        if gid != mine.st_gid:
            with contextlib.suppress(OSError):
                disk.chown(descriptor, -1, gid)


def changes(staged: Staged, status: os.stat_result) -> bool:
    """Say whether a file that holds the candidate, with this mode and owner, is other than the target was.

    Not every difference can be mended: root in a container may not give files away, a mounted folder of another
    system has modes of its own. Where it is the only one, a delivery would change nothing, again and again.
    """
    was = staged.current.status
    if was is None or staged.current.content != staged.content:
        return True
    return (was.st_mode, was.st_uid, was.st_gid) != (status.st_mode, status.st_uid, status.st_gid)


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


def commit(staged: Staged, disk: Disk) -> os.stat_result:
    """Put a candidate in its target's place, atomically where the file system can; raises ``TargetError``.

    Returns what was put there, not what stands there by now: somebody may have come in between, and that is drift.
    """
    try:
        try:
            disk.rename(staged.path, staged.current.path)
            return disk.fstat(staged.descriptor)
        except OSError as error:
            # EBUSY: the target is a mount point (a file bind-mounted into a container) and cannot be renamed over.
            if error.errno not in (errno.EBUSY, errno.EXDEV) or staged.current.content is None:
                raise
            return _write_in_place(staged, staged.current.content, disk)
    except OSError as error:
        raise failure("the target cannot be replaced", staged.resource, error) from error
    finally:
        discard(staged, disk)


def _write_in_place(staged: Staged, old: bytes, disk: Disk) -> os.stat_result:
    """Make the target what the candidate is, where it stands; where there is no room the ``old`` bytes stay."""
    descriptor = disk.open_existing(staged.current.path)
    try:
        # Owner and mode come first: what is asked to be closed shall not stand open with the new content.
        _give_owner(staged, descriptor, disk)
        if stat.S_IMODE(disk.fstat(descriptor).st_mode) != staged.mode:
            disk.chmod(descriptor, staged.mode)
        if staged.content != old:
            _overwrite(staged, descriptor, old, disk)
            staged.notes.append("written in place, not atomically: it is a mount point")
        return disk.fstat(descriptor)
    finally:
        disk.close(descriptor)


def _overwrite(staged: Staged, descriptor: int, old: bytes, disk: Disk) -> None:
    try:
        disk.reserve(descriptor, max(len(old), len(staged.content)))
        disk.overwrite(descriptor, staged.content)
    except OSError:
        try:
            disk.overwrite(descriptor, old)
        except OSError as error:
            raise failure(
                "the target is torn: neither the new nor the old fits in place", staged.resource, error
            ) from error
        raise


def sweep(dests: tuple[str, ...], disk: Disk) -> tuple[str, ...]:
    """Remove the stage files beside these targets that no living process holds; returns their paths."""
    targets: dict[str, set[str]] = {}
    for dest in dests:
        folder, name = os.path.split(disk.resolve(dest))
        targets.setdefault(folder, set()).add(name)
    removed = []
    for folder, wanted in targets.items():
        try:
            names = disk.names(folder)
        except OSError:
            continue
        for name in names:
            match = STAGE_NAME.fullmatch(name)
            path = os.path.join(folder, name)
            if match and match[1] in wanted and disk.remove_if_abandoned(path):
                removed.append(path)
    return tuple(removed)


HINTS = {
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.EACCES: "give confpy's user the right to do that",
    errno.EPERM: "give confpy's user the right to do that",
    errno.ENAMETOOLONG: "choose a shorter name: that of a candidate has 17 bytes more",
    errno.ENOSPC: "make room on the disk; it is tried again",
    errno.EDQUOT: "make room in the quota; it is tried again",
    errno.EROFS: "the file system is read-only",
}


def failure(what: str, resource: Resource, error: OSError, **where: str) -> TargetError:
    """Make the error of a file that could not be dealt with."""
    reason = error.strerror or str(error)
    hint = HINTS.get(error.errno or 0, "")
    return TargetError(f"{what}: {reason}", hint=hint, target=resource.dest, **where)
