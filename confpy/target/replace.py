"""How a candidate becomes its target, and how the old file is preserved meanwhile and put back.

A rename leaves the target whole at every moment; one that is written in place is whole again after the next start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from itertools import pairwise

from confpy.config.resource import Resource
from confpy.errors import TargetError, TargetTorn
from confpy.system.disk import Disk
from confpy.system.filenames import STAGE_MARK
from confpy.target.failures import failure
from confpy.target.look import Current, digest, is_descriptor
from confpy.target.stage import NOT_BESIDE, Staged, copy_attributes, discard, give_owner, opened

OLD_MARK = ".old"
"""The end of the name of an old file that is preserved during a delivery: no sweep removes it."""
BACKUP_MARK = ".confpy-backup-"
"""What precedes the number in the name of a backup."""
NOT_OVER = (errno.EBUSY, errno.EXDEV)
"""Why nothing can be renamed over a target: a file that is mounted there, into a container, does not belong to its
folder."""
READER = 5.0
"""Seconds within which the reader of a stream has to begin, or go on, to read."""


def write_stream(resource: Resource, current: Current, content: bytes, disk: Disk) -> None:
    """Write a content to a target that is a stream; raises ``TargetError``. What is written cannot be taken back."""
    try:
        if is_descriptor(current.path, disk):
            # Not by its name: that would open a file anew, and overwrite the beginning of what others have written.
            disk.stream(int(os.path.basename(current.path)), content, READER)
            return
        descriptor = disk.open_stream(current.path, READER)
        try:
            disk.stream(descriptor, content, READER)
        finally:
            disk.close(descriptor)
    except OSError as error:
        raise failure("the target cannot be written", resource, error) from error


def replace_target(staged: Staged, disk: Disk) -> os.stat_result | None:
    """Rename a candidate over its target; raises ``TargetError``. None: it has to be written in place.

    Returns what was put there, not what is there now: a change in between is drift.
    """
    if staged.in_place:
        return None
    try:
        disk.rename(staged.path, staged.current.path)
    except OSError as error:
        if error.errno in NOT_OVER and staged.current.content is not None and staged.resource.write != "rename":
            staged.in_place = True
            if staged.content != staged.current.content:
                staged.note("written in place, not atomically: it is a mount point")
            return None
        raise failure("the target cannot be replaced", staged.resource, error) from error
    staged.notes += staged.missing
    return disk.fstat(staged.descriptor)


def write_in_place(staged: Staged, disk: Disk) -> os.stat_result:
    """Give the target, in place, what the candidate has; raises ``TargetError``, and then the old bytes stay.

    Raises ``TargetTorn`` if neither the new nor the old content fits.
    """
    old, status = staged.current.content, staged.current.status
    assert old is not None
    assert status is not None
    try:
        with opened(staged.current.path, disk) as descriptor:
            if not os.path.samestat(disk.fstat(descriptor), status):
                hint = "does another program write it? the next delivery looks again"
                what = "the target was replaced while its candidate was checked"
                raise TargetError(what, hint=hint, target=staged.resource.dest)
            # Owner and mode first: a file that is to be private must not be open to others with the new content.
            staged.notes += give_owner(staged, descriptor, disk)
            if stat.S_IMODE(disk.fstat(descriptor).st_mode) != staged.mode:
                disk.chmod(descriptor, staged.mode)
            if staged.content != old:
                _overwrite(staged, descriptor, old, disk)
            return disk.fstat(descriptor)
    except OSError as error:
        raise failure("the target cannot be replaced", staged.resource, error) from error


def _overwrite(staged: Staged, descriptor: int, old: bytes, disk: Disk) -> None:
    try:
        disk.reserve(descriptor, max(len(old), len(staged.content)))
        disk.overwrite(descriptor, staged.content)
    except OSError:
        # A file system that copies on write has no room for the old bytes either, except for the candidate's.
        discard(staged, disk)
        try:
            disk.overwrite(descriptor, old)
        except OSError as error:
            what = "the target is torn: neither the new nor the old fits in place"
            raise failure(what, staged.resource, error, TargetTorn) from error
        raise


def old_paths(path: str, mark: str, spare: str) -> tuple[str, ...]:
    """Return where the old file of a target may be preserved: beside it, else in a folder of confpy's."""
    folder, name = os.path.split(path)
    old = f".{name}{STAGE_MARK}{mark}{OLD_MARK}"
    return tuple(os.path.join(place, old) for place in (folder, spare) if place)


def preserve_old(staged: Staged, mark: str, disk: Disk, spare: str) -> str:
    """Preserve the old file until its delivery has ended; returns its path, empty if there is no old file.

    A second name is enough for a file that is renamed over; one that is written in place has to be copied. Raises
    ``TargetError``.
    """
    current = staged.current
    if current.status is None and not current.linked:
        return ""
    paths = old_paths(current.path, mark, spare)
    try:
        if not staged.in_place:
            try:
                disk.link(current.path, paths[0])
            except OSError:  # a file system without links, another user's file, a mounted file
                if current.content is None:
                    raise
            else:
                return paths[0]
        path = paths[-1] if staged.in_place else paths[0]
        _copy(current, path, disk.create(path, os.O_RDONLY), disk)
    except OSError as error:
        raise failure("the old file cannot be saved", staged.resource, error) from error
    return path


def _copy(current: Current, path: str, descriptor: int, disk: Disk) -> None:
    """Write an old file into a new one: content, mode, and as far as possible owner and attributes; closes it."""
    assert current.content is not None
    assert current.status is not None
    try:
        disk.fill(path, descriptor, current.content)
        with contextlib.suppress(OSError):
            disk.chown(descriptor, current.status.st_uid, current.status.st_gid)
        copy_attributes(current.path, path, descriptor, current.mode, disk)
        disk.chmod(descriptor, current.mode)
        disk.sync(descriptor)
    except OSError:
        disk.discard(path)
        raise
    finally:
        disk.close(descriptor)


def remove_old(path: str, mark: str, disk: Disk, spare: str) -> None:
    """Remove the preserved old file of a target, wherever it lies."""
    for place in old_paths(path, mark, spare):
        disk.discard(place)


def put_back(path: str, old: str, disk: Disk, *, in_place: bool) -> None:
    """Restore a target: from ``old``, the preserved file, or to no file if that is empty.

    Raises ``OSError``, also if what is to be written in place is not a regular file.
    """
    if not old:
        with contextlib.suppress(FileNotFoundError):
            disk.remove(path)
        return
    if not in_place:
        try:
            disk.rename(old, path)
        except OSError as error:
            if error.errno not in NOT_OVER:
                raise
        else:
            # A rename between two names of one file leaves both.
            disk.discard(old)
            return
    content, status = disk.read(old), disk.stat(old)
    assert status is not None
    with opened(path, disk) as descriptor:
        disk.reserve(descriptor, max(len(content), disk.fstat(descriptor).st_size))
        disk.overwrite(descriptor, content)
        with contextlib.suppress(OSError):
            disk.chown(descriptor, status.st_uid, status.st_gid)
        disk.chmod(descriptor, stat.S_IMODE(status.st_mode))
    disk.discard(old)


def back_up(current: Current, versions: int, disk: Disk, spare: str) -> None:
    """Copy a target that is about to change to the newest of so many backups; raises ``OSError``.

    ``.NAME.confpy-backup-1`` is the newest. A delivery that is cut off and repeated makes no version twice.
    """
    if current.content is None:
        return
    folder, name = os.path.split(current.path)
    try:
        _rotate(current, folder, f".{name}{BACKUP_MARK}", versions, disk)
    except OSError as error:
        if error.errno not in NOT_BESIDE or not spare:
            raise
        place = digest(os.fsencode(current.path)).hex()[:8]
        _rotate(current, spare, f".{name}-{place}{BACKUP_MARK}", versions, disk)


def _rotate(current: Current, folder: str, stem: str, versions: int, disk: Disk) -> None:
    names = [os.path.join(folder, f"{stem}{number}") for number in range(1, versions + 1)]
    with contextlib.suppress(OSError):
        if disk.read(names[0]) == current.content:
            return
    stage, descriptor = disk.create_beside(os.path.join(folder, os.path.basename(current.path)), os.O_RDONLY)
    _copy(current, stage, descriptor, disk)
    for newer, older in reversed([*pairwise(names)]):
        with contextlib.suppress(FileNotFoundError):
            disk.rename(newer, older)
    disk.rename(stage, names[0])
