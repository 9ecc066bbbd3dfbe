"""The mirror of the store, or of all where others are mounted: made from the settings and what the stores can do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from confpy.agent.config import nodes_of
from confpy.config.settings import Settings
from confpy.keys.capabilities import Capabilities
from confpy.mirror.mirror import Mirror
from confpy.stores.tree import Stores

if TYPE_CHECKING:
    from confpy.mirror.mirrors import Mirrors

LONGEST_WAIT, EAGER = 60.0, 3.0
"""Seconds from one attempt to read a store to the next, at most: of a daemon, and of a one-shot."""


def make_mirror(
    settings: Settings, stores: Stores, random: Random, period: float, numbers: Iterator[int] | None = None
) -> Mirror | Mirrors:
    """Return the mirror. ``period``: seconds from one comparison with a store to the next. ``numbers``: of requests."""
    numbers = numbers or count(1)
    main = _mirror(settings, settings, stores.main.capabilities, random, "", period=period, numbers=numbers)
    if not stores.mounted:
        return main
    from confpy.mirror.mirrors import Mirrors  # most runs have one store

    mounted = (
        _mirror(settings, settings.mounts[mount], one.capabilities, random, mount, period=period, numbers=numbers)
        for mount, one in stores.mounted.items()
    )
    return Mirrors((main, *mounted))


def own_mirror(
    settings: Settings, stores: Stores, random: Random, base: str, *, period: float, numbers: Iterator[int]
) -> Mirror:
    """Return the mirror of a store that a resource has for itself. ``base``: where that is."""
    can = stores.mounted[base].capabilities
    return _mirror(settings, stores.kinds[base], can, random, base, period=period, numbers=numbers)


def _mirror(
    settings: Settings,
    of: Settings,
    can: Capabilities,
    random: Random,
    mount: str,
    *,
    period: float,
    numbers: Iterator[int],
) -> Mirror:
    """Return the mirror of one store. ``settings``: of the run; ``of``: of the store."""
    return Mirror(
        random,
        follows=settings.watch and not settings.onetime and can.watches,
        period=period,
        once=settings.onetime and not settings.retry_for,
        patience=EAGER if settings.onetime else LONGEST_WAIT,
        binary=can.binary_values,
        lists=can.lists,
        spells=can.spells,
        names_deletions=can.names_deletions,
        remote=can.remote,
        on_missing=can.missing if mount else None,
        numbers=numbers,
        name=of.backend,
        nodes=nodes_of(of),
        mount=mount,
    )
