"""Locks that keep several confpys with one state folder apart, target by target."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from confpy.system.disk import Disk
from confpy.target.look import digest

LOCKS = "targets.lock"
PLACES = 1 << 62
"""Bytes of the lock file, none of which is ever written."""
PATIENCE = 30.0
"""Seconds that a delivery waits, at least, for another confpy that delivers the same target."""
BUSY = "another confpy delivers this target"


@contextmanager
def locked(folder: str, paths: Iterable[str], seconds: float, disk: Disk) -> Iterator[frozenset[str]]:
    """Lock targets against other processes; yields those paths that were free within the time.

    ``folder``: the state folder; empty: there are no other processes to know of.
    """
    if not folder:
        yield frozenset(paths)
        return
    places = {path: int.from_bytes(digest(os.fsencode(path))[:8], "big") % PLACES for path in paths}
    try:
        descriptor = disk.open_locks(os.path.join(folder, LOCKS))
    except OSError:  # the folder is gone, no descriptor is left: a delivery is worth more than its lock
        yield frozenset(places)
        return
    try:
        # In one order for all: two that wait for each other would wait for ever.
        got = set(places.values())
        with suppress(OSError):  # a file system that cannot lock now: as above
            got = disk.lock(descriptor, sorted(got), seconds)
        yield frozenset(path for path, place in places.items() if place in got)
    finally:
        disk.close(descriptor)
