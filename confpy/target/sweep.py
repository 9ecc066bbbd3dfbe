"""Removes the candidates that a killed confpy left beside its targets."""

from __future__ import annotations

import os
import re
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
    targets: dict[str, dict[str, str]] = {}
    patterns: dict[str, list[re.Pattern[str]]] = {}
    for dest in dests:
        above, name = os.path.split(dest)
        with suppress(OSError):
            folder = folders.resolve(above)
            if folders.has(folder):
                targets.setdefault(folder, {})[name] = dest
                if "{{" in name and (items := _of_items(name)) is not None:
                    patterns.setdefault(folder, []).append(items)
    found = {folder: _Found(folder, wanted, disk) for folder, wanted in targets.items()}
    # The candidate of a link that is replaced lies beside the link, else beside the file that it leads to.
    for dest in [dest for one in found.values() for dest in one.linked]:
        with suppress(OSError, TargetError):
            for path, _ in places(dest, disk, folders):
                folder, name = os.path.split(path)
                targets.setdefault(folder, {})[name] = dest
    removed = []
    for folder, wanted in targets.items():
        one = found.get(folder) or _Found(folder, wanted, disk)
        for name in one.staged:
            path = os.path.join(folder, name)
            of = staged_for(name) or ""
            is_wanted = of in wanted or any(one.fullmatch(of) for one in patterns.get(folder, ()))
            if is_wanted and disk.remove_if_abandoned(path):
                removed.append(path)
    return tuple(removed)


def _of_items(name: str) -> re.Pattern[str] | None:
    """Return what the names of the files of items match (``for_each``); None where it is the name of one file."""
    from confpy.keys.each import PLACE

    parts = [re.escape(part) for part in PLACE.split(name)]
    return re.compile(".+".join(parts), re.DOTALL) if len(parts) > 1 else None


class _Found:
    """What a folder has: it is read once, however many targets are there."""

    def __init__(self, folder: str, wanted: dict[str, str], disk: Disk) -> None:
        """``wanted``: name → ``dest`` of targets."""
        self.staged: list[str] = []
        self.linked: list[str] = []
        """The targets that are links."""
        with suppress(OSError):
            for name, is_link in disk.entries(folder):
                if is_link and name in wanted:
                    self.linked.append(wanted[name])
                elif staged_for(name) is not None:
                    self.staged.append(name)
