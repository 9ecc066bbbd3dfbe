"""All stores of one run, mounted in one tree of keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from confpy.config.settings import ROWS, STORE_SETTINGS
from confpy.errors import UsageError
from confpy.frozen import NOTHING, replace
from confpy.keys.capabilities import Capabilities
from confpy.keys.mounts import OWN, Mounts
from confpy.keys.prefixes import normalise
from confpy.keys.tree import KeyTree
from confpy.keys.view import Source
from confpy.stores import OpenStore, open_store

if TYPE_CHECKING:
    from confpy.config.settings import Settings


class Stores:
    """The store at ``/``, and the mounted ones."""

    def __init__(self, main: OpenStore, mounted: Mapping[str, OpenStore] = NOTHING) -> None:
        """``mounted``: by mount, as they are: without adapters. Keys of the main one below a mount are hidden."""
        self.mounts = Mounts(mounted)
        self.main = main
        self.kinds: dict[str, Settings] = {}
        """Where the stores of single resources are → their settings."""
        self._own: dict[tuple[object, ...], str] = {}
        self.mounted: dict[str, OpenStore] = {}
        if mounted:
            from confpy.stores.mounted import MountedStore  # most runs have one store

            self.main = MountedStore(main, "", self.mounts.points)
            for mount, one in mounted.items():
                self.mounted[mount] = MountedStore(one, mount, self.mounts.below(mount))

    def prefixes(self, path: str) -> tuple[str, ...]:
        """As ``Store.prefixes``: a path above a mount reads that store, too."""
        if not self.mounts.points:
            return self.main.prefixes(path)
        clean = normalise(path)
        mount = self.mounts.point_of(clean)
        found = self.mounted[mount].prefixes(clean) if mount else self.main.prefixes(path)
        below = (prefix for point in self.mounts.below(clean) for prefix in self.mounted[point].prefixes(point))
        return (*found, *below)

    def own(self, settings: Settings) -> tuple[str, Callable[[str], tuple[str, ...]]]:
        """Open the store that a resource has for itself; return where it is, and what to read of it for a path.

        Raises ``UsageError``. Equal settings are one store.
        """
        from confpy.stores.mounted import MountedStore

        address = _address(settings)
        point = self._own.get(address, "")
        if not point:
            store = open_store(settings.backend, settings)
            number = len(self._own)
            name = hashlib.sha256(repr(_named(settings)).encode("utf-8", "surrogateescape")).hexdigest()[:6]
            point = f"{OWN}{name}]"
            # Of two that differ in what is secret alone.
            point = f"{OWN}{name}-{number}]" if point in self.mounted else point
            self.mounted[point] = MountedStore(store, point)
            self.kinds[point] = settings
            self.mounts.add_own(point)
            self._own[address] = point
        return point, partial(self._own_prefixes, point)

    def _own_prefixes(self, point: str, path: str) -> tuple[str, ...]:
        clean = normalise(path)
        if self.mounts.point_of(clean):
            return self.prefixes(clean)
        found = self.mounted[point].prefixes(point if clean == "/" else point + clean)
        below = (prefix for mount in self.mounts.below(clean) for prefix in self.mounted[mount].prefixes(mount))
        return (*found, *below)

    def split(self, prefixes: Sequence[str]) -> Iterator[tuple[OpenStore, str, list[str]]]:
        """Yield each store that some of the prefixes belong to, its mount, and these."""
        for mount, group in self.mounts.split(prefixes).items():
            yield self.mounted[mount] if mount else self.main, mount, group

    def sources(self, tree: KeyTree, prefixes: Sequence[str], texts: Sequence[str] = ()) -> tuple[Source, ...]:
        """Return where the view of a resource finds its keys, if those of all stores are in one tree."""
        of_texts = self.mounts.split(texts)
        found = []
        for store, mount, group in self.split(prefixes):
            can = store.capabilities
            found.append(Source(tree, group, can.lists, can.spells, of_texts.get(mount, ()), mount))
        return tuple(found)

    @property
    def can_change(self) -> bool:
        """Whether a later read of any of them may bring something else."""
        return any(store.capabilities.can_change for _, store in self.all)

    @property
    def capabilities(self) -> Capabilities:
        """What the store at ``/`` can do; where others are mounted, with what one of them can."""
        of = self.main.capabilities
        each = [store.capabilities for _, store in self.all]
        return replace(of, remote=any(one.remote for one in each), watches=any(one.watches for one in each))

    @property
    def all(self) -> tuple[tuple[str, OpenStore], ...]:
        """Each with its mount; that of the store at ``/`` is empty."""
        return (("", self.main), *self.mounted.items())

    def close(self) -> None:
        """Close all."""
        for _, store in self.all:
            store.close()


def open_stores(settings: Settings) -> Stores:
    """Open all stores of the settings; raises ``UsageError``, with the mount where that is about one.

    Those with the same settings are one client.
    """
    main = open_store(settings.backend, settings)
    if not settings.mounts:
        return Stores(main)
    clients = {_address(settings): main}
    opened: dict[str, OpenStore] = {}
    for mount, of in settings.mounts.items():
        address = _address(of)
        if address not in clients:
            try:
                clients[address] = open_store(of.backend, of)
            except UsageError as error:
                for store in clients.values():
                    store.close()
                raise error.at(mount=mount)  # noqa: B904 - it is the same
        opened[mount] = clients[address]
    return Stores(main, opened)


def _named(settings: Settings) -> tuple[object, ...]:
    """Return what a store is called by that a resource has for itself: the same at each start, and nothing secret."""
    names = [name for name in sorted(STORE_SETTINGS) if not ROWS[name].kind.secret]
    return settings.backend, *(getattr(settings, name) for name in names)


def _address(settings: Settings) -> tuple[object, ...]:
    """Return what is equal for two stores that one client serves."""
    return settings.backend, *(getattr(settings, name) for name in sorted(STORE_SETTINGS))
