"""The stores of a run, mounted in one tree of keys: what each has, and which faults it shows by itself."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from confpy.keys.mounts import Mounts

KEYS = ("/a/1", "/a/2", "/a/3", "/b/x/1", "/b/x/2", "/b/y", "/c/1")
ALWAYS = "/a/1"
"""A key that is never deleted where the store gives wrong answers: what reads it is empty by a wrong answer alone."""
READS = (("/a",), ("/b",), ("/b/x",), ("/b/x", "/b/y"), ("/c",), ("/a", "/c"))
POINTS = (("/m",), ("/b/x",), ("/m", "/n"), ("/m", "/m/in"), ("/b", "/b/x"), ("/m/in", "/c"))
"""Where further stores may be: beside each other, within each other, and over keys of the one at ``/``."""
MOUNTED_KEYS = ("/1", "/2", "/3", "/in/1", "/in/2", "/x/1")
"""Those of each mounted store, as it calls them."""


class StorePlan(NamedTuple):
    """One store."""

    mount: str = ""
    keys: tuple[str, ...] = KEYS
    always: str = ALWAYS
    folders: tuple[str, ...] = ("/a", "/b", "/b/x", "/c")
    """What may go at once."""
    denials: tuple[str, ...] = ("/a", "/b/x", "/c")
    """What it may deny."""
    watches: bool = True
    names_deletions: bool = True
    stalls: float = 0.0
    """The chance that a stream falls silent."""
    restores: bool = False
    """It may come back from a backup."""
    wrong_answers: bool = False
    leaves: bool = False
    """It may be away for long, also when confpy starts."""

    def outer(self, key: str) -> str:
        """Return a key of the store in the one tree."""
        return self.mount + key


def plan_stores(main: StorePlan, seed: int) -> tuple[StorePlan, ...]:
    """Return the store at ``/`` and one or two more."""
    random = Random(f"{seed} stores")
    found = [main._replace(watches=random.random() < 0.8, leaves=random.random() < 0.4)]
    for mount in random.choice(POINTS):
        restores = random.random() < 0.15
        found.append(
            StorePlan(
                mount,
                MOUNTED_KEYS,
                "/1",
                ("/in", "/x"),
                ("/in", "/2", "/"),
                watches=random.random() < 0.7,
                names_deletions=random.random() < 0.8,
                stalls=random.choice((0.0, 0.01)),
                restores=restores,
                wrong_answers=not restores and random.random() < 0.5,
                leaves=random.random() < 0.4,
            )
        )
    return tuple(found)


def plan_reads(stores: Sequence[StorePlan], seed: int) -> tuple[tuple[str, ...], ...]:
    """Return what resources may read: a path above a mount reads that store, too."""
    random = Random(f"{seed} reads")
    points = [one.mount for one in stores if one.mount]
    mounts = Mounts(points)
    paths = ["/a", "/b", "/b/x", "/c", *points, *(f"{point}/in" for point in points)]
    chosen = [["/"], *([path] for path in paths)]
    chosen += [random.sample(paths, random.choice((2, 2, 3))) for _ in range(12)]
    return tuple(
        tuple(dict.fromkeys(prefix for path in some for prefix in (path, *mounts.below(path)))) for some in chosen
    )
