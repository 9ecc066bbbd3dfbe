"""The environment as a store: what the contract asks of all."""

from __future__ import annotations

import pytest

from confpy.errors import StoreError
from confpy.stores.env import EnvStore
from tests.stores.contract import ReadContract


class TestEnvStore(ReadContract):
    odd = ReadContract.odd.replace("=", "")

    @pytest.fixture(autouse=True)
    def _environment(self):
        self.environment = {}

    def open(self):
        return EnvStore(self.environment)

    def write(self, keys):
        for key, value in keys.items():
            name = key[1:].upper().replace("/", "_")
            if value is None:
                del self.environment[name]
            else:
                self.environment[name] = value


def test_the_environment_cannot_be_watched():
    store = EnvStore({})
    assert not store.capabilities.watches
    with pytest.raises(StoreError):
        store.watch({"/": 0})
