"""etcd v2: the contract, on a real server."""

from __future__ import annotations

import pytest

from confpy.stores.etcd.v2 import Etcd2Store
from tests.stores.contract import NetworkContract, RefusalContract


class TestEtcd2Store(NetworkContract):
    store = Etcd2Store
    nests = False
    odd = NetworkContract.odd.translate({ord(one): None for one in "?=&"})  # what the test's client does not quote
    beside = len("value=")

    @pytest.fixture(autouse=True)
    def _server(self, etcd2):
        self.server = etcd2

    def write(self, keys):
        for key, value in keys.items():
            if value is None:
                self.server.remove(key)
            else:
                self.server.set(key, value)


class TestEtcd2Refusals(RefusalContract):
    @pytest.fixture(autouse=True)
    def _server(self, etcd2, etcd2_store):
        self.server = etcd2
        self.open_store = etcd2_store

    def open_without(self, prefix):
        # etcd v2 has no right that takes another one back: everything else that the tests write is named.
        self.server.guard(*{"/a", "/shut", "/z"} - {prefix})
        return self.open_store(self.server.endpoint)

    def write(self, keys):
        for key, value in keys.items():
            self.server.set(key, value)
