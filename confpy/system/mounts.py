"""The list of mounts, as the kernel writes it. Pure."""

from __future__ import annotations

import os
from collections.abc import Collection

FILE = "/proc/self/mountinfo"


def devices(mounts: bytes, kinds: Collection[str]) -> frozenset[int]:
    """Return the devices of the file systems of these kinds, from the content of ``FILE``."""
    found = set()
    for line in mounts.splitlines():
        # man 5 proc: the device is the third field, the kind the first one after the lone hyphen.
        fields, _, rest = line.partition(b" - ")
        if rest.split(b" ", 1)[0].decode("ascii", "replace") in kinds:
            major, _, minor = fields.split(b" ", 3)[2].partition(b":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)
