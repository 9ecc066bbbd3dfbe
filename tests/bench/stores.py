"""The stores that programs are measured on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from resource import RLIMIT_NOFILE, getrlimit

from tests.bench.clients import ConsulKeys, EtcdKeys, Keys
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd


@dataclass(frozen=True, slots=True)
class Store:
    """``name`` is what figures call it, ``backend`` what confpy and confd do."""

    name: str
    backend: str
    node: str
    server: Etcd | Consul | None
    client: Keys | None

    @property
    def keys(self) -> Keys:
        assert self.client is not None, "nobody can write to the environment of another process"
        return self.client

    @property
    def port(self) -> int:
        return int(self.node.rpartition(":")[2])


ENVIRONMENT = Store("env", "env", "", None, None)


@contextlib.contextmanager
def opened(name: str) -> Iterator[Store]:
    """Start etcd or Consul; end it after the block."""
    if name == "etcd":
        with Etcd() as etcd, contextlib.closing(EtcdKeys(etcd.port)) as keys:
            yield Store(name, "etcdv3", etcd.endpoint, etcd, keys)
    else:
        with Consul(limits=limits()) as consul, contextlib.closing(ConsulKeys(consul.port)) as keys:
            yield Store(name, "consul", consul.endpoint, consul, keys)


def limits() -> dict[str, int]:
    """Return limits of Consul under which a client may ask for each resource on a connection of its own."""
    descriptors, _ = getrlimit(RLIMIT_NOFILE)
    connections = min(10_000, descriptors - 200)
    return {"http_max_conns_per_client": connections, "txn_max_req_len": 8 << 20, "kv_max_value_size": 512 << 10}
