"""The table of stores: one row each."""

from __future__ import annotations

from confpy.config.options import StoreOptions
from confpy.config.stores.consul import CONSUL, CONSUL_CATALOG
from confpy.config.stores.docker import DOCKER
from confpy.config.stores.etcd import ETCD, ETCDV2, ETCDV3
from confpy.config.stores.file import FILE
from confpy.config.stores.redis import REDIS
from confpy.config.stores.zookeeper import ZOOKEEPER

STORES = {
    store.name: store
    for store in (
        StoreOptions("env", "confpy.stores.env:EnvStore"),
        FILE,
        StoreOptions("memory", "confpy.stores.memory:MemoryStore"),
        ETCDV2,
        CONSUL,
        CONSUL_CATALOG,
        DOCKER,
        ETCDV3,
        ETCD,
        REDIS,
        ZOOKEEPER,
    )
}


def tools_variables(setting: str) -> str:
    """Return what the stores' own tools read for a setting, for the manual; empty if nothing."""
    stores: dict[tuple[str, ...], list[str]] = {}
    for store in STORES.values():
        names = tuple(f"${one.name}" for group in store.variables for one in group if one.setting == setting)
        if names:
            stores.setdefault(names, []).append(store.name)
    return ", ".join(
        f"{', else '.join(names)}{',' if len(names) > 1 else ''} for {min(among, key=len)}"
        for names, among in stores.items()
    )
