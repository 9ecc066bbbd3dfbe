"""Whether what stands on the disk can be believed: only root and we could have put it there."""

from __future__ import annotations

import errno
import os
import stat
from itertools import accumulate

from confpy.system.disk import Disk


def require_private(folder: str, disk: Disk, *, volumes: bool = False) -> str:
    """Return the path of a folder, links followed; raises ``OSError`` where somebody else could change what is there.

    Who may write to a folder above it can exchange it, unless that is sticky, as /tmp is. ``volumes``: nor is that held
    against a mount of its own, as containers have them, open to all. No step of the path can be exchanged after it was
    looked at: the one above was looked at before.
    """
    path = disk.resolve(folder)
    above = root = disk.lstat("/")
    for step in accumulate(path.strip("/").split("/"), "{}/{}".format, initial=""):
        found = disk.lstat(step or "/")
        if step == path:
            believed = is_ours(found)
        elif found.st_mode & stat.S_ISVTX or (volumes and found.st_dev != above.st_dev):
            believed = _is_owned_by(found, root.st_uid)
        else:
            believed = _is_owned_by(found, root.st_uid) and not _is_open(found)
        if not believed or not stat.S_ISDIR(found.st_mode):
            raise PermissionError(errno.EPERM, f"somebody else owns {step or '/'}, or may write there")
        above = found
    return path


def is_ours(status: os.stat_result) -> bool:
    """Whether nobody but root and we may write to a file or folder."""
    return _is_owned_by(status, 0) and not _is_open(status)


def _is_owned_by(status: os.stat_result, root: int) -> bool:
    """``root``: in a user namespace it may have another number; who owns ``/`` owns all."""
    return status.st_uid in {0, root, os.geteuid()}


def _is_open(status: os.stat_result) -> bool:
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
