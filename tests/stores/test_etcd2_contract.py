"""etcd v2: the contract, on a real server."""

from __future__ import annotations

import pytest

from tests.stores.contract import WatchContract


class TestEtcd2Store(WatchContract):
    nests = False

    @pytest.fixture(autouse=True)
    def _server(self, etcd2, etcd2_store):
        self.etcd = etcd2
        self.open_store = etcd2_store

    def open(self):
        return self.open_store(self.etcd.endpoint)

    def write(self, keys):
        for key, value in keys.items():
            if value is None:
                self.etcd.remove(key)
            else:
                self.etcd.set(key, value)
