"""The mirror of the store, or of all where others are mounted: made from the settings and what the stores can do."""

from __future__ import annotations

from itertools import count
from random import Random

from confpy.config.settings import Settings
from confpy.keys.capabilities import Capabilities
from confpy.mirror.mirror import Mirror
from confpy.mirror.mirrors import Mirrors
from confpy.stores.tree import Stores

LONGEST_WAIT, EAGER = 60.0, 3.0
"""Seconds from one attempt to read a store to the next, at most: of a daemon, and of a one-shot."""


def make_mirror(settings: Settings, stores: Stores, random: Random, period: float) -> Mirror | Mirrors:
    """Return the mirror. ``period``: seconds from one comparison with a store to the next."""
    numbers = count(1)

    def of(mount: str, name: str, can: Capabilities) -> Mirror:
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
            name=name,
            mount=mount,
        )

    main = of("", settings.backend, stores.main.capabilities)
    if not stores.mounted:
        return main
    mounted = (of(mount, settings.mounts[mount].backend, one.capabilities) for mount, one in stores.mounted.items())
    return Mirrors((main, *mounted))
