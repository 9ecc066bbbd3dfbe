"""Consul's KV: the contract, on a real server."""

from __future__ import annotations

import pytest

from confpy.stores.consul.store import ConsulStore
from tests.servers.consul import Consul
from tests.stores.contract import NetworkContract, RefusalContract


def write(consul, keys):
    consul.transact({key.removeprefix("/"): value for key, value in keys.items()})


@pytest.fixture(scope="module")
def consul():
    """One for all tests here, since it takes seconds to start."""
    # Consul counts a connection until its query ends, also when the client is gone: a thousand opens are many.
    limits = {"http_max_conns_per_client": 5_000, "txn_max_req_len": 8 << 20, "kv_max_value_size": 512 << 10}
    with Consul(limits=limits) as server:
        yield server


class TestConsulStore(NetworkContract):
    store = ConsulStore

    @pytest.fixture(autouse=True)
    def _server(self, consul):
        self.server = consul
        consul.delete("", prefix=True)

    def write(self, keys):
        write(self.server, keys)


class TestConsulRefusals(RefusalContract):
    @pytest.fixture(autouse=True)
    def _server(self, consul_store):
        self.open_store = consul_store
        with Consul(acl=True, lists=True) as self.server:
            yield

    def open_without(self, prefix):
        rules = f'key_prefix "" {{ policy = "list" }}\nkey_prefix "{prefix[1:]}" {{ policy = "deny" }}'
        return self.open_store(self.server.endpoint, auth_token=self.server.grant(rules))

    def write(self, keys):
        write(self.server, keys)
