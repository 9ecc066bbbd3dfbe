"""The stores, behind one protocol. A store's libraries are loaded when it is opened, and not before."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from confpy.config.stores import STORES
from confpy.errors import UsageError
from confpy.keys.capabilities import Capabilities
from confpy.keys.snapshot import Changes, Invalidated, PrefixStatus, Snapshot

if TYPE_CHECKING:
    from confpy.config.settings import Settings


class WatchStream(Protocol):
    """Changes as they arrive. Made by ``Store.watch``, which blocks until every watch is established."""

    def __iter__(self) -> Iterator[Changes | Invalidated]:
        """Yield until ``close`` (then it ends), or raise ``WatchLost`` (read again) or ``StoreError`` (resume)."""

    def close(self) -> None:
        """End it. Any thread, any number of times; unblocks the iteration within 1 s."""


class OpenStore(Protocol):
    """A store of keys, once it is open. Every call is bounded in time, and may come from any thread.

    Keys are raw here: as the store spells them, any bytes as ``surrogateescape`` text. A prefix stands for itself and
    all below it by path segment (``confpy.keys.prefixes.covers``); "/" stands for every key.
    """

    capabilities: Capabilities

    @property
    def node(self) -> str:
        """The address of the node that answered last, without a password; empty: none did, or it has no nodes."""

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return what to read for a key of a resource: ``path`` is the effective prefix joined with the key.

        It has a leading slash unless the user wrote none. A store whose keys need no leading slash may answer with
        two prefixes, one that folds case with the folded one.
        """

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        """Read all prefixes at one revision; raises ``StoreError`` where nothing could be read.

        ``counted`` are prefixes to count only, as part of the same requests where the store can, else left out.
        """

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        """Return the status of the prefixes cheaply, or None if only a read can tell; raises ``StoreError``."""

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> WatchStream:
        """Follow each prefix from the revision after its cursor, on one stream; raises like the stream."""

    def close(self) -> None:
        """Close everything. Any thread, any number of times; unblocks all other calls within 1 s."""


class Store(OpenStore, Protocol):
    """A store as its module has it: it can be opened, too."""

    @classmethod
    def open(cls, settings: Settings) -> Store:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""


def open_store(name: str, settings: Settings) -> Store:
    """Open the store that is called ``name``; raises ``UsageError`` for an unknown or uninstalled one."""
    if name not in STORES:
        from confpy.stores.outside import open_outside  # it looks at every installed distribution

        return open_outside(name, settings)
    module, _, attribute = STORES[name].code.partition(":")
    try:
        store: type[Store] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and not error.name.startswith("confpy"):
            package = f"'confpy[{STORES[name].extra}]'" if STORES[name].extra else error.name
            raise UsageError(
                f"the store {name!r} needs the Python package {error.name.partition('.')[0]!r}",
                hint=f"pip install {package}",
            ) from error
        raise
    return store.open(settings)
