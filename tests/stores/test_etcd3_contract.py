"""etcd v3: the contract, on a real server of each version that is here."""

from __future__ import annotations

import pytest

from confpy.stores.etcd.v3 import Etcd3Store
from tests.stores.contract import NetworkContract


class TestEtcd3Store(NetworkContract):
    store = Etcd3Store
    beside = 512

    @pytest.fixture(autouse=True)
    def _server(self, etcd):
        self.server = etcd

    def write(self, keys):
        self.server.put_all({key: value for key, value in keys.items() if value is not None})
        for key in (key for key, value in keys.items() if value is None):
            self.server.delete(key)
