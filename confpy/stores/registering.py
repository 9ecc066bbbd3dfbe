"""Keys are put into the stores here, and only here: following them never writes.

etcd3gw and py-consul know the messages of leases, transactions and sessions. They are sent over confpy's own
connections, whose every wait has a deadline (``docs/decisions/0002-libraries.md``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from confpy.config.stores import STORES
from confpy.errors import UsageError
from confpy.frozen import replace
from confpy.keys.capabilities import Capabilities
from confpy.keys.mounts import Mounts
from confpy.registration.values import Entry, Registrar

if TYPE_CHECKING:
    from confpy.config.settings import Settings

SHORTEST_WAIT = 1.0
"""Seconds that a node has to answer in any case."""


class RegistrarType(Protocol):
    """What ``StoreOptions.registrar`` names."""

    capabilities: Capabilities

    @classmethod
    def open(cls, settings: Settings, entry: Entry) -> Registrar:
        """Return the registrar of an entry. No traffic yet; raises ``UsageError``."""


def open_registrar(settings: Settings, entry: Entry, *, as_service: bool = False) -> Registrar:
    """Return the registrar of an entry in the settings' store; raises ``UsageError``.

    Below a mount, that is the store which is mounted there. ``as_service``: as a service of Consul's agent. A value
    that the store cannot hold is refused here, before anything is put.
    """
    point = Mounts(settings.mounts).point_of(entry.key)
    if point in settings.mounts:
        if entry.key == point:
            raise UsageError("the key is where a store is mounted", key=entry.key, hint="name a key below it")
        settings, entry = settings.mounts[point], replace(entry, key=entry.key.removeprefix(point))
    name = settings.backend
    if name not in STORES:
        raise UsageError(f"unknown store {name!r}", hint="choose one of " + ", ".join(sorted(STORES)))
    path = STORES[name].service_registrar if as_service else STORES[name].registrar
    if not path:
        able = ", ".join(
            one.name for one in STORES.values() if (one.service_registrar if as_service else one.registrar)
        )
        what = "a service" if as_service else "a key"
        raise UsageError(f"{what} cannot be registered in the store {name!r}", hint=f"-backend is one of {able}")
    module, _, attribute = path.partition(":")
    try:
        kind: type[RegistrarType] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and not error.name.startswith("confpy"):
            needs = f"to register keys, the store {name!r} needs the Python package {error.name!r}"
            raise UsageError(needs, hint=f"pip install {error.name}") from error
        raise
    _reject(name, kind.capabilities, entry)
    if entry.ttl is not None:
        # A node that does not answer must not take the time in which another one could.
        most = max(SHORTEST_WAIT, entry.ttl / 3)
        connect, read = min(settings.connect_timeout, most), min(settings.read_timeout, most)
        settings = replace(settings, connect_timeout=connect, read_timeout=read)
    return kind.open(settings, entry)


def _reject(store: str, capabilities: Capabilities, entry: Entry) -> None:
    """Raise ``UsageError`` for a value that the store cannot hold."""
    most = capabilities.value_bytes
    if most is not None and len(entry.value) > most:
        hint = f"the store {store} takes {most:,} at most"
        raise UsageError(f"the value has {len(entry.value):,} bytes", key=entry.key, hint=hint)
    if not capabilities.binary_values:
        try:
            entry.value.decode()
        except UnicodeDecodeError:
            hint = f"the store {store} takes nothing else"
            raise UsageError("the value is not text in UTF-8", key=entry.key, hint=hint) from None
