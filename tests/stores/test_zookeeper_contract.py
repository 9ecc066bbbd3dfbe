"""ZooKeeper: the contract, on a real server."""

from __future__ import annotations

import pytest
from kazoo.security import make_digest_acl

from confpy.stores.zookeeper.store import ZooKeeperStore
from tests.background import Call
from tests.servers.proxy import FaultProxy
from tests.servers.zookeeper import ZooKeeper, ZooKeeperSaysNo
from tests.stores.contract import NetworkContract, RefusalContract, closes_within_a_second
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def zookeeper():
    """One for all tests here."""
    with ZooKeeper() as server:
        yield server


class TestZooKeeperStore(NetworkContract):
    store = ZooKeeperStore
    beside = 200
    opens = 180  # each takes a session
    refuses = (ZooKeeperSaysNo,)

    @pytest.fixture(autouse=True)
    def _server(self, zookeeper):
        self.server = zookeeper
        zookeeper.clear()

    def write(self, keys):
        self.server.update(keys)

    def test_what_one_watch_brings_is_in_order(self):
        # A node without data and without children so far is a key: as a folder it is one that had a child.
        self.write({"/order/n": "0"})
        self.write({"/order/n": None})
        super().test_what_one_watch_brings_is_in_order()

    def test_closing_ends_the_opening_of_a_stream_within_a_second(self):
        # The session of the read serves, so that there is no other connection to wait for.
        with FaultProxy(self.server.port) as proxy:
            store = self.open_at(proxy.endpoint, read_timeout=60.0, watch=True)
            snapshot = store.read(["/a"])
            proxy.black_hole()
            under_way = Call(lambda: store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity))
            wait_until(lambda: store.session().is_waiting, what="the store asks for watches")
            closes_within_a_second(store, under_way)


class TestZooKeeperRefusals(RefusalContract):
    @pytest.fixture(autouse=True)
    def _server(self, zookeeper):
        zookeeper.clear()
        self.server = zookeeper
        zookeeper.at.add_auth("digest", "writer:secret")
        yield
        zookeeper.clear()

    def open_without(self, prefix):
        shut = [make_digest_acl("writer", "secret", all=True)]
        self.server.at.set_acls(prefix, shut)
        return TestZooKeeperStore.open_at(TestZooKeeperStore(), self.server.endpoint)

    def write(self, keys):
        self.server.update(keys)
