"""Redis: the contract, on a real server."""

from __future__ import annotations

from contextlib import closing

import pytest

from confpy.errors import AccessDenied
from confpy.stores.redis.store import RedisStore
from tests.servers.redis import PASSWORD, Redis
from tests.stores.contract import NetworkContract, RefusalContract, following


@pytest.fixture(scope="module")
def redis():
    """One for all tests here."""
    with Redis() as server:
        yield server


class TestRedisStore(NetworkContract):
    store = RedisStore

    @pytest.fixture(autouse=True)
    def _server(self, redis):
        self.server = redis
        redis.do("FLUSHALL")

    def open_at(self, *nodes, **settings):
        scheme = {"http": "redis", "https": "rediss"}
        nodes = [f"{scheme.get(node.partition('://')[0], 'redis')}://{node.partition('://')[2]}" for node in nodes]
        return super().open_at(*nodes, **settings)

    def write(self, keys):
        self.server.update(keys)

    def test_a_value_beyond_what_the_store_takes_is_refused_when_it_is_put_and_harms_nobody(self):
        # Redis takes 512 MB: it is confpy that refuses it, and the prefix with it.
        with closing(self.open()) as store:
            self.write({"/a/x": "1", "/b/x": "x" * (store.capabilities.value_bytes + 1)})
            listings = store.read(["/a", "/b"]).listings
            assert listings["/a"].keys == {"/a/x": "1"}
            assert isinstance(listings["/b"].error, AccessDenied)
            assert listings["/b"].error.where["key"] == "/b/x"
            with following(store, store.read(["/a"])) as seen:
                self.write({"/a/y": "2"})
                seen.wait_for({"/a/x": "1", "/a/y": "2"})


class TestRedisRefusals(RefusalContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis):
        redis.do("FLUSHALL")
        self.server = redis

    def open_without(self, prefix):
        # A pattern of an ACL allows: everything else that the tests write is named.
        patterns = [f"~{one}/*" for one in sorted({"/a", "/shut", "/z"} - {prefix})]
        self.server.allow("reader", *patterns, "allchannels", "+@read", "+@pubsub", "+info", "+config|get", "+select")
        settings = {"username": "reader", "password": PASSWORD}
        return TestRedisStore.open_at(_opener, self.server.endpoint, **settings)

    def write(self, keys):
        self.server.update(keys)


_opener = TestRedisStore()
