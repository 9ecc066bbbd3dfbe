"""Candidates: files beside their targets, whole and with their final mode and owner, that may take the targets' places.

``replace.py`` makes them the targets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator

from confpy.config.resource import Resource
from confpy.errors import TargetError
from confpy.frozen import define, field
from confpy.system.disk import Disk
from confpy.target.failures import failure
from confpy.target.look import Current

NEW_FOLDER_MODE = 0o755
OF_CONTENT = frozenset({"security.ima", "security.evm", "security.capability"})
"""Attributes that describe one content, and would be wrong for another."""
ACCESS = "system.posix_acl_access"
"""The access control list. New files may get one from their folder; the mode of a file is a part of it."""
ACCESS_ENTRY = struct.Struct("<HHI")
"""Tag, permission bits, who; after four bytes of version: ``linux/posix_acl_xattr.h``."""
OWNER, GROUP, MASK, OTHERS = 0x01, 0x04, 0x10, 0x20
NOT_BESIDE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Why nothing can be put into a target's folder, though the target itself may be writable."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@define
class Staged:
    """A candidate on disk, locked as long as it is open."""

    resource: Resource
    current: Current
    content: bytes
    path: str
    descriptor: int
    in_place: bool = False
    """The target is to be written in place: asked for, or nothing can be put into its folder."""
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What it could not be given. It is reported if the candidate takes the target's place: a target that is written in
    place does not lose it."""

    @property
    def mode(self) -> int:
        return self.current.mode if self.resource.mode is None else self.resource.mode

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def stage(resource: Resource, current: Current, content: bytes, disk: Disk, spare: str = "") -> Staged:
    """Write a candidate beside its target; raises ``TargetError``, and then nothing of it is left.

    ``spare`` is a folder of confpy's for a candidate that cannot lie beside its target, which is then written in place.
    """
    folder = os.path.dirname(current.path)
    staged = None
    try:
        if resource.mkdir:
            disk.make_folders(folder, NEW_FOLDER_MODE if resource.dir_mode is None else resource.dir_mode)
        path, descriptor, apart = _create(resource, current, disk, spare)
        in_place = apart or (resource.write == "inplace" and current.content is not None)
        staged = Staged(resource, current, content, path, descriptor, in_place)
        if current.linked and resource.symlink == "follow":
            staged.note("the link was replaced, not followed: others may write to its folder")
        if apart:
            staged.note(f"written in place, not atomically: nothing can be put into {folder}")
        disk.fill(path, descriptor, content)
        staged.missing += give_owner(staged, descriptor, disk)
        if current.status is not None:
            missing = copy_attributes(current.path, path, descriptor, staged.mode, disk)
            staged.missing += [f"attributes of the old file were lost: {', '.join(missing)}"] if missing else []
        disk.chmod(descriptor, staged.mode)
    except OSError as error:
        failed = failure("the candidate cannot be written beside the target", resource, error, folder=folder)
        if staged is not None:
            discard(staged, disk)
        elif not spare and _may_lie_apart(error, resource, current, disk):
            failed.hint += "; a state folder to write to (state_dir) would do: then the file is written in place"
        if error.errno == errno.ENOENT and disk.stat(folder) is None:
            failed.hint = "make the folder, or write mkdir = true"
        raise failed from error
    except TargetError:
        if staged is not None:
            discard(staged, disk)
        raise
    return staged


def stage_apart(resource: Resource, current: Current, content: bytes, disk: Disk, folder: str) -> Staged:
    """Write a candidate that is only read, by checks, into a folder of confpy's; raises ``TargetError``."""
    staged = None
    try:
        path, descriptor = disk.create_beside(os.path.join(folder, os.path.basename(resource.dest)), os.O_RDONLY)
        staged = Staged(resource, current, content, path, descriptor)
        disk.fill(path, descriptor, content)
        disk.chmod(descriptor, staged.mode)
    except OSError as error:
        if staged is not None:
            discard(staged, disk)
        raise failure("the candidate cannot be written", resource, error, folder=folder) from error
    return staged


def _create(resource: Resource, current: Current, disk: Disk, spare: str) -> tuple[str, int, bool]:
    """Create an empty stage file; returns its path, its descriptor and whether it lies apart from the target."""
    try:
        return (*disk.create_beside(current.path, os.O_RDONLY), False)
    except OSError as error:
        if not spare or not _may_lie_apart(error, resource, current, disk):
            raise
        with contextlib.suppress(OSError):
            path = os.path.join(spare, os.path.basename(current.path))
            return (*disk.create_beside(path, os.O_RDONLY), True)
        raise


def _may_lie_apart(error: OSError, resource: Resource, current: Current, disk: Disk) -> bool:
    """Return whether a candidate that failed beside its target may lie elsewhere: the target itself is writable."""
    if error.errno not in NOT_BESIDE or resource.write == "rename" or current.content is None:
        return False
    try:
        with opened(current.path, disk):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def opened(path: str, disk: Disk) -> Iterator[int]:
    """Yield a descriptor for writing a file in place, which no process that is started inherits."""
    with disk.writing():
        descriptor = disk.open_existing(path)
        try:
            yield descriptor
        finally:
            disk.close(descriptor)


def copy_attributes(source: str, path: str, descriptor: int, mode: int, disk: Disk) -> list[str]:
    """Give a new file the access control list, the security label and the other attributes of another.

    Returns those that could not be set. Raises ``OSError`` if there is no room for them: there may be later.
    """
    attributes = disk.attributes(source)
    if ACCESS in attributes:
        attributes[ACCESS] = _with_mode(attributes[ACCESS], mode)
    elif ACCESS in disk.attributes(path):
        disk.drop_attribute(descriptor, ACCESS)
    missing = []
    for name, value in attributes.items():
        if name in OF_CONTENT:
            continue
        try:
            disk.give_attribute(descriptor, name, value)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            if disk.attributes(path).get(name) != value:
                missing.append(f"{name} ({error.strerror})")
    return missing


def _with_mode(access: bytes, mode: int) -> bytes:
    """Return an access control list as ``chmod`` would leave it: set so, it opens the file to nobody for a moment."""
    entries = [*ACCESS_ENTRY.iter_unpack(access[4:])]
    group = MASK if any(tag == MASK for tag, _, _ in entries) else GROUP
    bits = {OWNER: mode >> 6 & 7, group: mode >> 3 & 7, OTHERS: mode & 7}
    return access[:4] + b"".join(ACCESS_ENTRY.pack(tag, bits.get(tag, old), who) for tag, old, who in entries)


def give_owner(staged: Staged, descriptor: int, disk: Disk) -> list[str]:
    """Give an open file the wanted owner, or that of the target; returns what to report.

    Raises ``TargetError`` if the owner is required and cannot be set.
    """
    resource, old = staged.resource, staged.current.status
    if resource.uid is None and resource.gid is None and old is None:
        return []
    now = disk.fstat(descriptor)
    uid = resource.uid if resource.uid is not None else old.st_uid if old else now.st_uid
    gid = resource.gid if resource.gid is not None else old.st_gid if old else now.st_gid
    if (uid, gid) == (now.st_uid, now.st_gid):
        return []
    try:
        disk.chown(descriptor, uid, gid)
    except OSError as error:
        asked = resource.uid is not None or resource.gid is not None
        if resource.strict_owner or (asked and os.geteuid() == 0):
            raise failure(f"the owner {uid}:{gid} cannot be given", resource, error) from error
        # confpy's user may be a member of the group.
        if gid != now.st_gid:
            with contextlib.suppress(OSError):
                disk.chown(descriptor, -1, gid)
        return [f"owner {uid}:{gid} cannot be given ({error.strerror})"]
    return []


def changes(staged: Staged, status: os.stat_result) -> bool:
    """Return whether a file that holds the candidate, with this mode and owner, differs from the old target.

    Not every difference can be corrected: root in a container may not give files away, a mounted folder of another
    system has modes of its own. If it is the only one, a delivery would change nothing, again and again.
    """
    old = staged.current.status
    if old is None or staged.current.content != staged.content:
        return True
    return (old.st_mode, old.st_uid, old.st_gid) != (status.st_mode, status.st_uid, status.st_gid)


def discard(staged: Staged, disk: Disk) -> None:
    """Remove a candidate that will not be committed."""
    disk.discard(staged.path)
    close(staged, disk)


def close(staged: Staged, disk: Disk) -> None:
    """Close a candidate: its lock ends."""
    if staged.descriptor >= 0:
        disk.close(staged.descriptor)
        staged.descriptor = -1
