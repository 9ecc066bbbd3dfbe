"""ZooKeeper: its default node."""

from __future__ import annotations

from confpy.config.options import StoreOptions

ZOOKEEPER = StoreOptions(
    "zookeeper",
    "confpy.stores.zookeeper.store:ZooKeeperStore",
    nodes=("127.0.0.1",),
    port=2181,
    extra="zookeeper",
    registrar="confpy.stores.zookeeper.registrar:ZooKeeperRegistrar",
)
