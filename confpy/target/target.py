"""What a target is now, what it should be, and how a candidate takes its place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from confpy.config.resource import Resource
from confpy.errors import TargetError
from confpy.frozen import frozen
from confpy.messages import FileStamp
from confpy.system.disk import Disk, is_stream
from confpy.system.filenames import STAGE_MARK

NEW_FOLDER_MODE = 0o755
NEW_MODE = 0o644
"""Permission bits of a target that did not exist and whose resource names none."""
LARGEST = 1 << 30
"""Bytes of a file that may be a target: it is read as a whole, and is none of ours beyond that."""
OLD_MARK = ".old"
"""What the names of old files that are kept for the time of a delivery end in: no sweep touches them."""
BACKUP_MARK = ".confpy-backup-"
"""What stands before the number of a version that is kept."""
TORN = "the target is torn"
STAGE_NAME = re.compile(r"\.(.+)" + re.escape(STAGE_MARK) + "[0-9a-f]{8}", re.DOTALL)

OF_CONTENT = frozenset({"security.ima", "security.evm", "security.capability"})
"""Attributes that speak of one content, and would lie about another."""
ACCESS = "system.posix_acl_access"
"""The access control list. New files may get one from their folder; the mode of a file is a part of it."""
ACCESS_ENTRY = struct.Struct("<HHI")
"""Tag, permission bits, who; after four bytes of version: ``linux/posix_acl_xattr.h``."""
OWNER, GROUP, MASK, OTHERS = 0x01, 0x04, 0x10, 0x20
LINKS = 40
"""Links in a row that are followed, as the kernel does."""
NOT_BESIDE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Why nothing can be put into a target's folder, though the target itself may be writable."""
NOT_OVER = (errno.EBUSY, errno.EXDEV)
"""Why nothing can be renamed over a target: a file that is mounted there, into a container, is not its folder's."""
OUTPUTS = ("1", "2")
"""Descriptors of ours that may be targets: standard output and error."""
READER = 5.0
"""Seconds in which somebody has to begin, or go on, to read a stream."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def digest(content: bytes) -> bytes:
    """Return what confpy remembers of a content: enough to know it again, nothing to read in it."""
    return hashlib.sha256(content).digest()


def stamp(status: os.stat_result) -> FileStamp:
    return FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@frozen
class Current:
    """What a target is before a delivery."""

    path: str
    """The file itself: with links followed that are to be followed."""
    status: os.stat_result | None
    content: bytes | None
    linked: bool = False
    """A link stands there, which will be replaced."""
    stream: bool = False
    """It is written to, and can be neither read again nor replaced: a FIFO, a character device, an output of ours."""

    @property
    def mode(self) -> int:
        return NEW_MODE if self.status is None or self.stream else stat.S_IMODE(self.status.st_mode)

    @property
    def digest(self) -> str | None:
        """What the ledger calls this content; None where there is no file."""
        return None if self.content is None else digest(self.content).hex()


def look(resource: Resource, disk: Disk, root: str = "") -> Current:
    """Read a resource's target; raises ``TargetError`` for one that cannot be a target or be read.

    ``root`` is a folder, resolved, out of which no link may lead.
    """
    try:
        path, linked = _find(resource, disk, root)
        status = None if linked else disk.stat(path)
        if status is None:
            return Current(path, None, None, linked)
        if is_stream(status.st_mode) or _is_descriptor(path, disk):
            _insist_on_stream(resource, path, status, disk)
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
    """Return the path that a rename has to replace, and whether what stands there is a link."""
    for path, linked in _places(resource.dest, disk, root):
        if not linked:
            return path, False
        if resource.symlink == "refuse":
            hint = 'name the file itself, or write symlink = "follow" or "replace"'
            raise TargetError("the target is a link", hint=hint, target=resource.dest)
        if resource.symlink == "replace" or _others_may_write(os.path.dirname(path), disk):
            return path, True
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _places(dest: str, disk: Disk, root: str) -> Iterator[tuple[str, bool]]:
    """Yield where a target may stand, and whether a link stands there: ``dest``, then where one leads after another.

    Raises ``TargetError`` where the next one is outside of the root.
    """
    path = dest
    for _ in range(LINKS):
        folder = disk.resolve(os.path.dirname(path))
        if root and os.path.commonpath((root, folder)) != root:
            raise TargetError("the target lies outside of the root", hint="a link leads there", target=dest)
        path = os.path.join(folder, os.path.basename(path))
        link = None if _is_descriptor(path, disk) else disk.read_link(path)
        yield path, link is not None
        if link is None:
            return
        path = root + link if link.startswith("/") else os.path.join(folder, link)


def _is_descriptor(path: str, disk: Disk) -> bool:
    """Say whether a path, its folder resolved, is an open descriptor of ours, as ``/dev/stdout`` is."""
    return path.startswith("/proc/") and os.path.dirname(path) == disk.resolve("/proc/self/fd")


def _insist_on_stream(resource: Resource, path: str, status: os.stat_result, disk: Disk) -> None:
    """Raise ``TargetError`` for what is not to be written to as a stream."""
    folder, name = os.path.split(path)
    if _is_descriptor(path, disk):
        if name not in OUTPUTS:
            hint = "of the open descriptors only /dev/stdout and /dev/stderr can be targets"
            raise TargetError(f"the target is descriptor {name} of confpy", hint=hint, target=resource.dest)
        # Where it was closed at the start, its number belongs to whatever was opened next.
        if (sys.__stdout__ if name == "1" else sys.__stderr__) is None:
            raise TargetError("confpy was started with this output closed", target=resource.dest)
    elif status.st_uid not in (0, os.geteuid()) and _others_may_write(folder, disk):
        hint = "whoever put it there would read the file; give it to confpy's user, or put it into another folder"
        raise TargetError("the target is another user's FIFO or device", hint=hint, target=resource.dest)
    if resource.write == "rename":
        raise TargetError("the target is not a regular file", hint='write = "rename" needs one', target=resource.dest)


def _others_may_write(folder: str, disk: Disk) -> bool:
    """Say whether somebody beside root and us decides where the links of a folder lead."""
    status = disk.stat(folder)
    if status is None:
        return False
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid())
    return bool(by_group or status.st_mode & stat.S_IWOTH or status.st_uid not in (0, os.geteuid()))


def differences(resource: Resource, current: Current, content: bytes) -> list[str]:
    """Name what is other than the resource wants it: ``missing``, ``content``, ``mode``, ``owner``.

    An owner that we may not give counts as right: else a confpy that is not root would deliver for ever.
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
    in_place: bool = False
    """The target is to be written where it stands: asked for, or nothing can be put into its folder."""
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """What it could not be given: said where it becomes the target, which keeps it where it is written in place."""

    @property
    def mode(self) -> int:
        return self.current.mode if self.resource.mode is None else self.resource.mode

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def stage(resource: Resource, current: Current, content: bytes, disk: Disk, spare: str = "") -> Staged:
    """Write a candidate beside its target; raises ``TargetError``, and then nothing of it is left.

    ``spare`` is a folder of ours for a candidate that may not lie beside its target, which is then written in place.
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
        staged.lost += _give_owner(staged, descriptor, disk)
        if current.status is not None:
            lost = _give_attributes(current.path, path, descriptor, staged.mode, disk)
            staged.lost += [f"attributes of the old file could not be kept: {', '.join(lost)}"] if lost else []
        disk.chmod(descriptor, staged.mode)
    except OSError as error:
        failed = failure("the candidate cannot be written beside the target", resource, error, folder=folder)
        if staged is not None:
            discard(staged, disk)
        elif not spare and _lies_apart(error, resource, current, disk):
            failed.hint += "; a state folder to write to (state_dir) would do: then the file is written where it stands"
        if error.errno == errno.ENOENT and disk.stat(folder) is None:
            failed.hint = "make the folder, or write mkdir = true"
        raise failed from error
    except TargetError:
        if staged is not None:
            discard(staged, disk)
        raise
    return staged


def stage_apart(resource: Resource, current: Current, content: bytes, disk: Disk, folder: str) -> Staged:
    """Write a candidate that is only looked at, by checks, into a folder of ours; raises ``TargetError``."""
    staged = None
    try:
        path, descriptor = create_beside(os.path.join(folder, os.path.basename(resource.dest)), disk)
        staged = Staged(resource, current, content, path, descriptor)
        disk.fill(path, descriptor, content)
        disk.chmod(descriptor, staged.mode)
    except OSError as error:
        if staged is not None:
            discard(staged, disk)
        raise failure("the candidate cannot be written", resource, error, folder=folder) from error
    return staged


def write_stream(resource: Resource, current: Current, content: bytes, disk: Disk) -> None:
    """Write a content to a target that is a stream; raises ``TargetError``. What is written cannot be taken back."""
    try:
        if _is_descriptor(current.path, disk):
            # Not by its name: that would open a file anew, and write over the beginning of what others have written.
            disk.stream(int(os.path.basename(current.path)), content, READER)
            return
        descriptor = disk.open_stream(current.path, READER)
        try:
            disk.stream(descriptor, content, READER)
        finally:
            disk.close(descriptor)
    except OSError as error:
        raise failure("the target cannot be written", resource, error) from error


def _create(resource: Resource, current: Current, disk: Disk, spare: str) -> tuple[str, int, bool]:
    """Make an empty stage file; returns its path, its descriptor and whether it lies apart from the target."""
    try:
        return (*create_beside(current.path, disk), False)
    except OSError as error:
        if not spare or not _lies_apart(error, resource, current, disk):
            raise
        with contextlib.suppress(OSError):
            return (*create_beside(os.path.join(spare, os.path.basename(current.path)), disk), True)
        raise


def _lies_apart(error: OSError, resource: Resource, current: Current, disk: Disk) -> bool:
    """Say whether a candidate that was refused beside its target may lie elsewhere: the target itself is writable."""
    if error.errno not in NOT_BESIDE or resource.write == "rename" or current.content is None:
        return False
    try:
        with _opened(current.path, disk):
            return True
    except OSError:
        return False


def create_beside(target: str, disk: Disk) -> tuple[str, int]:
    """Make an empty stage file beside a target; returns its path and descriptor."""
    folder, name = os.path.split(target)
    tries = 8
    while True:
        path = os.path.join(folder, f".{name}{STAGE_MARK}{token()}")
        try:
            return path, disk.create(path, os.O_RDONLY)
        except FileExistsError:
            tries -= 1
            if not tries:
                raise


def token() -> str:
    """Return eight hexadecimal digits, by chance."""
    return os.urandom(4).hex()


def _give_attributes(source: str, path: str, descriptor: int, mode: int, disk: Disk) -> list[str]:
    """Give a new file the access control list, the security label and the other attributes of another.

    Returns those that it was refused. Raises ``OSError`` where there is no room for them: there may be later.
    """
    kept = disk.attributes(source)
    if ACCESS in kept:
        kept[ACCESS] = _with_mode(kept[ACCESS], mode)
    elif ACCESS in disk.attributes(path):
        disk.drop_attribute(descriptor, ACCESS)
    lost = []
    for name, value in kept.items():
        if name in OF_CONTENT:
            continue
        try:
            disk.give_attribute(descriptor, name, value)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            if disk.attributes(path).get(name) != value:
                lost.append(f"{name} ({error.strerror})")
    return lost


def _with_mode(access: bytes, mode: int) -> bytes:
    """Return an access control list as ``chmod`` would leave it: given so, it opens the file to nobody for a moment."""
    entries = [*ACCESS_ENTRY.iter_unpack(access[4:])]
    group = MASK if any(tag == MASK for tag, _, _ in entries) else GROUP
    bits = {OWNER: mode >> 6 & 7, group: mode >> 3 & 7, OTHERS: mode & 7}
    return access[:4] + b"".join(ACCESS_ENTRY.pack(tag, bits.get(tag, old), who) for tag, old, who in entries)


def _give_owner(staged: Staged, descriptor: int, disk: Disk) -> list[str]:
    """Give an open file the wanted owner, or that of the target; returns what is to be said of it."""
    resource, was = staged.resource, staged.current.status
    mine = disk.fstat(descriptor)
    uid = resource.uid if resource.uid is not None else was.st_uid if was else mine.st_uid
    gid = resource.gid if resource.gid is not None else was.st_gid if was else mine.st_gid
    if (uid, gid) == (mine.st_uid, mine.st_gid):
        return []
    try:
        disk.chown(descriptor, uid, gid)
    except OSError as error:
        asked = resource.uid is not None or resource.gid is not None
        if resource.strict_owner or (asked and os.geteuid() == 0):
            raise failure(f"the owner {uid}:{gid} cannot be given", resource, error) from error
        # The group alone may be one of ours.
        if gid != mine.st_gid:
            with contextlib.suppress(OSError):
                disk.chown(descriptor, -1, gid)
        return [f"owner {uid}:{gid} cannot be given ({error.strerror})"]
    return []


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


def replace(staged: Staged, disk: Disk) -> os.stat_result | None:
    """Rename a candidate into its target's place; raises ``TargetError``. None: it has to be written in place.

    Returns what was put there, not what stands there by now: somebody may have come in between, and that is drift.
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
    staged.notes += staged.lost
    return disk.fstat(staged.descriptor)


def write_in_place(staged: Staged, disk: Disk) -> os.stat_result:
    """Make the target what the candidate is, where it stands; raises ``TargetError``, and then the old bytes stay."""
    old, was = staged.current.content, staged.current.status
    assert old is not None
    assert was is not None
    try:
        with _opened(staged.current.path, disk) as descriptor:
            if not os.path.samestat(disk.fstat(descriptor), was):
                hint = "does another program write it? the next delivery looks again"
                what = "the target was replaced while its candidate was checked"
                raise TargetError(what, hint=hint, target=staged.resource.dest)
            # Owner and mode come first: what is asked to be closed shall not stand open with the new content.
            staged.notes += _give_owner(staged, descriptor, disk)
            if stat.S_IMODE(disk.fstat(descriptor).st_mode) != staged.mode:
                disk.chmod(descriptor, staged.mode)
            if staged.content != old:
                _overwrite(staged, descriptor, old, disk)
            return disk.fstat(descriptor)
    except OSError as error:
        raise failure("the target cannot be replaced", staged.resource, error) from error


@contextlib.contextmanager
def _opened(path: str, disk: Disk) -> Iterator[int]:
    """Give a descriptor for writing into a file where it stands, which no process that is started inherits."""
    with disk.writing():
        descriptor = disk.open_existing(path)
        try:
            yield descriptor
        finally:
            disk.close(descriptor)


def _overwrite(staged: Staged, descriptor: int, old: bytes, disk: Disk) -> None:
    try:
        disk.reserve(descriptor, max(len(old), len(staged.content)))
        disk.overwrite(descriptor, staged.content)
    except OSError:
        # A file system that copies on write has no room for the old bytes either, but that of the candidate.
        discard(staged, disk)
        try:
            disk.overwrite(descriptor, old)
        except OSError as error:
            raise failure(TORN + ": neither the new nor the old fits in place", staged.resource, error) from error
        raise


def old_places(path: str, mark: str, spare: str) -> tuple[str, ...]:
    """Return where the old file of a target may be kept: beside it, else in a folder of ours."""
    folder, name = os.path.split(path)
    kept = f".{name}{STAGE_MARK}{mark}{OLD_MARK}"
    return tuple(os.path.join(place, kept) for place in (folder, spare) if place)


def keep_old(staged: Staged, mark: str, disk: Disk, spare: str) -> str:
    """Keep the old file until its delivery has ended; returns where, empty where there is none to keep.

    A second name is enough for what is renamed over; a file that is written in place has to be copied. Raises
    ``TargetError``.
    """
    current = staged.current
    if current.status is None and not current.linked:
        return ""
    places = old_places(current.path, mark, spare)
    try:
        if not staged.in_place:
            try:
                disk.link(current.path, places[0])
            except OSError:  # a file system without links, a file of somebody else's, a mounted file
                if current.content is None:
                    raise
            else:
                return places[0]
        place = places[-1] if staged.in_place else places[0]
        _copy(current, place, disk.create(place, os.O_RDONLY), disk)
    except OSError as error:
        raise failure("the old file cannot be kept", staged.resource, error) from error
    return place


def _copy(current: Current, place: str, descriptor: int, disk: Disk) -> None:
    """Write an old file into one that was just made: content, mode, and the owner and attributes where we may."""
    assert current.content is not None
    assert current.status is not None
    try:
        disk.fill(place, descriptor, current.content)
        with contextlib.suppress(OSError):
            disk.chown(descriptor, current.status.st_uid, current.status.st_gid)
        _give_attributes(current.path, place, descriptor, current.mode, disk)
        disk.chmod(descriptor, current.mode)
        disk.sync(descriptor)
    except OSError:
        forget(place, disk)
        raise
    finally:
        disk.close(descriptor)


def forget_old(path: str, mark: str, disk: Disk, spare: str) -> None:
    """Remove the old file that was kept of a target, wherever it lies."""
    for place in old_places(path, mark, spare):
        forget(place, disk)


def put_back(path: str, kept: str, disk: Disk, *, in_place: bool) -> None:
    """Make a target what it was: the file that was kept, or none where none was.

    Raises ``OSError``, also where something else than a file is to be written in place.
    """
    if not kept:
        with contextlib.suppress(FileNotFoundError):
            disk.remove(path)
        return
    if not in_place:
        try:
            disk.rename(kept, path)
        except OSError as error:
            if error.errno not in NOT_OVER:
                raise
        else:
            # Two names of one file stay two names.
            forget(kept, disk)
            return
    content, status = disk.read(kept), disk.stat(kept)
    assert status is not None
    with _opened(path, disk) as descriptor:
        disk.reserve(descriptor, max(len(content), disk.fstat(descriptor).st_size))
        disk.overwrite(descriptor, content)
        with contextlib.suppress(OSError):
            disk.chown(descriptor, status.st_uid, status.st_gid)
        disk.chmod(descriptor, stat.S_IMODE(status.st_mode))
    forget(kept, disk)


def found(path: str, disk: Disk) -> str | None:
    """Return the digest of what is at a path, None where nothing is, empty where it cannot be read."""
    try:
        status = disk.stat(path)
        if status is None and disk.read_link(path) is None:
            return None
        if status is not None and not stat.S_ISREG(status.st_mode):
            return ""
        return digest(disk.read(path)).hex()
    except OSError:
        return ""


def forget(path: str, disk: Disk) -> None:
    """Remove a file of ours that nobody needs any more."""
    with contextlib.suppress(OSError):
        disk.remove(path)


def back_up(current: Current, versions: int, disk: Disk, spare: str) -> None:
    """Keep a target that is about to change as the newest of so many versions; raises ``OSError``.

    ``.NAME.confpy-backup-1`` is the newest. A delivery that is cut off and begun again keeps no version twice.
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
    stage, descriptor = create_beside(os.path.join(folder, os.path.basename(current.path)), disk)
    _copy(current, stage, descriptor, disk)
    for newer, older in reversed([*pairwise(names)]):
        with contextlib.suppress(FileNotFoundError):
            disk.rename(newer, older)
    disk.rename(stage, names[0])


def sweep(dests: tuple[str, ...], disk: Disk, root: str = "") -> tuple[str, ...]:
    """Remove the stage files beside these targets that no living process holds; returns their paths.

    ``root``: as in ``Rules``.
    """
    root = disk.resolve(root) if root else ""
    targets: dict[str, set[str]] = {}
    for dest in dests:
        with contextlib.suppress(OSError, TargetError):
            # Where a link is replaced its candidate lies beside the link, else beside the file that it leads to.
            for path, _ in _places(dest, disk, root):
                targets.setdefault(os.path.dirname(path), set()).add(os.path.basename(path))
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
    errno.ENOENT: "it was removed in the meantime: does another program work in its folder?",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.EACCES: "give confpy's user the right to do that",
    errno.EPERM: "give confpy's user the right to do that",
    errno.ENAMETOOLONG: "choose a shorter name: that of a candidate has 17 bytes more",
    errno.ENOSPC: "make room on the disk; it is tried again",
    errno.EDQUOT: "make room in the quota; it is tried again",
    errno.EROFS: "the file system is read-only",
    errno.ENXIO: "nobody reads it: start its reader first",
    errno.ETIMEDOUT: "its reader has stopped reading",
    errno.EPIPE: "its reader has ended",
    errno.ELOOP: "a link stands in its place, or links lead in a ring",
    errno.ETXTBSY: "a process executes it: it can be replaced, but not be written where it stands",
}


def failure(what: str, resource: Resource, error: OSError, **where: str) -> TargetError:
    """Make the error of a file that could not be dealt with."""
    reason = error.strerror or str(error)
    hint = HINTS.get(error.errno or 0, "")
    return TargetError(f"{what}: {reason}", hint=hint, target=resource.dest, **where)
