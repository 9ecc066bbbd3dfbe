"""Removes the candidates that a killed confpy left beside its targets."""

from __future__ import annotations

import os
from contextlib import suppress

from confpy.errors import TargetError
from confpy.system.disk import Disk
from confpy.system.filenames import staged_for
from confpy.target.look import Folders, places


def sweep(dests: tuple[str, ...], disk: Disk, root: str = "") -> tuple[str, ...]:
    """Remove the stage files beside these targets that no living process holds; returns their paths.

    ``root``: as in ``Rules``.
    """
    folders = Folders(disk, root)
    targets: dict[str, set[str]] = {}
    for dest in dests:
        with suppress(OSError, TargetError):
            # The candidate of a link that is replaced lies beside the link, else beside the file that it leads to.
            for path, _ in places(dest, disk, folders):
                targets.setdefault(os.path.dirname(path), set()).add(os.path.basename(path))
    removed = []
    for folder, wanted in targets.items():
        try:
            names = disk.names(folder)
        except OSError:
            continue
        for name in names:
            path = os.path.join(folder, name)
            if staged_for(name) in wanted and disk.remove_if_abandoned(path):
                removed.append(path)
    return tuple(removed)
