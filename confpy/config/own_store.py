"""``[backend]`` in a resource, as confd's fork has it: a store of its own, in place of the one of the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

from confpy.config import confd
from confpy.config.kinds import LIST, shown
from confpy.config.mounts import ADDRESSES, read_store, same_servers, settle_store
from confpy.config.settings import STORE_SETTINGS, Settings
from confpy.config.stores import STORES
from confpy.config.toml import EMPTY, plain
from confpy.errors import ConfpyError, UsageError

OpensStore: TypeAlias = Callable[[Settings], tuple[str, Callable[[str], tuple[str, ...]]]]
"""Opens a store; returns where it is in the tree of keys, and what to read of it for a path."""


def own_store(tables: Mapping[str, object], settings: Settings) -> Settings | None:
    """Return the settings of the store that a resource has for itself; None if it has none, or the one of the run.

    Stores are the same where their names are and, of nodes and files that the table gives, they share an address (of
    one cluster), or have the same files. Raises ``UsageError``.
    """
    for name, table in tables.items():
        if plain(name) != "backend" or not isinstance(table, dict):
            continue
        given = {plain(key): (key, value) for key, value in table.items() if value not in EMPTY}
        _, backend = given.get("backend", ("", ""))
        if not backend:
            continue
        if not isinstance(backend, str):
            raise UsageError(f"backend is not the name of a store: {shown(backend)}", key=name)
        if _is_the_runs(given, backend, settings):
            continue
        return _settings(name, table, backend, settings)
    return None


def _is_the_runs(given: Mapping[str, tuple[str, object]], backend: str, settings: Settings) -> bool:
    key, wanted = given.get("nodes", given.get("node", ("", ())))
    nodes = cast("tuple[str, ...]", LIST.read(wanted, key, key=key))
    key, wanted = given.get("file", ("", ()))
    files = cast("tuple[str, ...]", LIST.read(wanted, key, key=key))
    if settings.backend not in (backend, confd.STORES.get(backend)):
        return False
    if nodes and not shares_a_node(nodes, settings):
        return False
    return not files or set(map(os.path.abspath, files)) == set(map(os.path.abspath, settings.files))


def _settings(name: str, table: Mapping[str, object], backend: str, settings: Settings) -> Settings:
    # In the fork, etcd is etcd v3.
    means = confd.STORES.get(backend, backend)
    means = means if means in STORES else backend
    ignored: list[ConfpyError] = []  # the fork's words for stores that confpy does not have
    own = read_store({**table, _written(table): means}, {"key": name}, ignored)
    is_named = bool(ADDRESSES & own.keys()) or same_servers(means, settings.backend)
    if means in STORES and STORES[means].nodes and not is_named:
        hint = 'write nodes = ["…"] in its table: what the run has is not taken for another store'
        raise UsageError(f"the store {means} of the resource has no nodes", hint=hint, key=name)
    run = {name: getattr(settings, name) for name in (*STORE_SETTINGS, "backend", "confdir")}
    return settle_store(own, run, {})


def _written(table: Mapping[str, object]) -> str:
    return next(key for key in table if plain(key) == "backend")


def shares_a_node(nodes: tuple[str, ...], settings: Settings) -> bool:
    """Say whether one of these addresses is a node of the store; raises ``UsageError`` for one that is no address."""
    from confpy.http.addresses import parse_nodes  # most resources name no store

    port = STORES[settings.backend].port if settings.backend in STORES else 0
    own = settings.nodes or ("127.0.0.1",) * (not (settings.srv_domain or settings.srv_record))

    def addresses(texts: tuple[str, ...]) -> set[tuple[str, int]]:
        found = parse_nodes(texts, scheme=settings.scheme, port=port)
        return {("127.0.0.1" if node.host == "localhost" else node.host, node.port) for node in found}

    return not addresses(nodes).isdisjoint(addresses(own))
