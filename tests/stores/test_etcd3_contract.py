"""etcd v3: the contract, on a real server."""

from __future__ import annotations

import pytest

from tests.stores.contract import WatchContract


class TestEtcd3Store(WatchContract):
    @pytest.fixture(autouse=True)
    def _server(self, etcd, etcd_store):
        self.etcd = etcd
        self.open_store = etcd_store

    def open(self):
        return self.open_store(self.etcd.endpoint)

    def write(self, keys):
        self.etcd.put_all({key: value for key, value in keys.items() if value is not None})
        for key in (key for key, value in keys.items() if value is None):
            self.etcd.delete(key)
