"""Consul's KV: the contract, on a real server."""

from __future__ import annotations

import pytest

from tests.stores.contract import WatchContract


class TestConsulStore(WatchContract):
    @pytest.fixture(autouse=True)
    def _server(self, consul, consul_store):
        self.consul = consul
        self.open_store = consul_store

    def open(self):
        return self.open_store(self.consul.endpoint)

    def write(self, keys):
        self.consul.transact({key.removeprefix("/"): value for key, value in keys.items()})
