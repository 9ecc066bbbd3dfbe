"""etcd, by either API and by both: its tools' variables, its default nodes."""

from __future__ import annotations

from confpy.config.options import StoreOptions, Variable

PORT = 2379
VARIABLES = ((Variable("ETCDCTL_PEERS", "nodes"), Variable("ETCDCTL_ENDPOINTS", "nodes")),)
"""What etcdctl reads, by API v2 and v3."""

ETCD = StoreOptions(
    "etcd",
    "confpy.stores.etcd.auto:EtcdStore",
    ("127.0.0.1",),
    PORT,
    VARIABLES,
    registrar="confpy.stores.etcd.auto_registrar:EtcdRegistrar",
)
ETCDV2 = StoreOptions(
    "etcdv2",
    "confpy.stores.etcd.v2:Etcd2Store",
    ("127.0.0.1", "127.0.0.1:4001"),  # the first years' port
    PORT,
    VARIABLES,
    registrar="confpy.stores.etcd.v2_registrar:Etcd2Registrar",
)
ETCDV3 = StoreOptions(
    "etcdv3",
    "confpy.stores.etcd.v3:Etcd3Store",
    ("127.0.0.1",),
    PORT,
    VARIABLES,
    in_fork=("etcd",),
    registrar="confpy.stores.etcd.v3_registrar:Etcd3Registrar",
)
