"""Errors of the file system, explained for people."""

from __future__ import annotations

import errno

from confpy.config.resource import Resource
from confpy.errors import TargetError

HINTS = {
    errno.ENOENT: "it was removed in the meantime: does another program work in its folder?",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EACCES: "give confpy's user the right to do that",
    errno.EPERM: "give confpy's user the right to do that",
    errno.ENAMETOOLONG: "choose a shorter name: that of a candidate has 17 bytes more",
    errno.ENOSPC: "make room on the disk; it is tried again",
    errno.EDQUOT: "make room in the quota; it is tried again",
    errno.EROFS: "the file system is read-only",
    errno.ENXIO: "nobody reads it: start its reader first",
    errno.ETIMEDOUT: "its reader has stopped reading",
    errno.EPIPE: "its reader has ended",
    errno.ELOOP: "a link stands in its place, or links form a loop",
    errno.ETXTBSY: "a process executes it: it can be replaced, but not written in place",
}


def failure(
    what: str, resource: Resource, error: OSError, kind: type[TargetError] = TargetError, **where: str
) -> TargetError:
    """Return ``error`` as a ``TargetError``: ``what`` could not be done to the resource's target, and why."""
    reason = error.strerror or str(error)
    hint = HINTS.get(error.errno or 0, "")
    return kind(f"{what}: {reason}", hint=hint, target=resource.dest, **where)
