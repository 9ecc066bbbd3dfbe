"""Whether files can be trusted: only root and the user confpy runs as could have put them there."""

from __future__ import annotations

import errno
import os
import stat
from itertools import accumulate

from confpy.system.disk import Disk


def require_private(folder: str, disk: Disk, *, volumes: bool = False) -> str:
    """Return the path of a folder, links followed; raises ``OSError`` if another user could change what is there.

    Whoever may write to a folder above it can replace it, unless that folder is sticky, as /tmp is. ``volumes``: a
    mount of its own, as containers have them, may be open to all as well. No step of the path can be replaced after it
    was checked: the one above it was checked before.
    """
    path = disk.resolve(folder)
    above = root = disk.lstat("/")
    for step in accumulate(path.strip("/").split("/"), "{}/{}".format, initial=""):
        found = disk.lstat(step or "/")
        if step == path:
            trusted = is_trusted(found)
        elif found.st_mode & stat.S_ISVTX or (volumes and found.st_dev != above.st_dev):
            trusted = _is_owned_by(found, root.st_uid)
        else:
            trusted = _is_owned_by(found, root.st_uid) and not _is_open(found)
        if not trusted or not stat.S_ISDIR(found.st_mode):
            raise PermissionError(errno.EPERM, f"another user owns {step or '/'}, or may write there")
        above = found
    return path


def is_trusted(status: os.stat_result) -> bool:
    """Return whether only root and the user confpy runs as may write to a file or folder."""
    return _is_owned_by(status, 0) and not _is_open(status)


def _is_owned_by(status: os.stat_result, root: int) -> bool:
    """``root``: the owner of ``/``, which has another number in a user namespace."""
    return status.st_uid in {0, root, os.geteuid()}


def _is_open(status: os.stat_result) -> bool:
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
