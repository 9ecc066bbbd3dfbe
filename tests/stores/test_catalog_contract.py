"""Consul's catalogue: the contract, on a real server whose services somebody else registers.

A key is ``/<service>/<instance>``, and its value is not free. So what the tests write is registered with the value in
its meta, which is taken for the value of the key. Tests of the contract that need other keys or values stand here with
those that a catalogue can have.
"""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.stores.catalog.store import CatalogStore
from tests.background import Call
from tests.servers.consul import Consul
from tests.servers.proxy import FaultProxy
from tests.stores.contract import NetworkContract, closes_within_a_second, following
from tests.waiting import wait_until

ODD = " .-?#+&=\"'\\;:,*[]{}()<>|~^`!@$"


@pytest.fixture(scope="module")
def consul():
    """One for all tests here, since it takes seconds to start."""
    # Consul counts a connection until its query ends, also when the client is gone: a thousand opens are many.
    with Consul(limits={"http_max_conns_per_client": 5_000}) as server:
        yield server


def value_of(value):
    return None if value is None else json.loads(value)["meta"]["value"]


class Stream:
    def __init__(self, stream):
        self.close = stream.close
        self._stream = stream

    def __iter__(self):
        for one in self._stream:
            yield Changes(
                one.prefix, one.revision, {key: (at, value_of(value)) for key, (at, value) in one.keys.items()}
            )


class WithoutServers:
    """The store, without the service that Consul's servers register themselves as, and with values of the meta."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def read(self, prefixes, counted=()):
        found = {}
        for prefix, listing in self._store.read(prefixes, counted).listings.items():
            keys = {key: value_of(value) for key, value in listing.keys.items() if not key.startswith("/consul/")}
            found[prefix] = Listing(listing.revision, keys, listing.error)
        return Snapshot(found)

    def watch(self, cursors, identity=""):
        return Stream(self._store.watch(cursors, identity))


class TestCatalogStore(NetworkContract):
    store = CatalogStore

    @pytest.fixture(autouse=True)
    def _server(self, consul):
        self.server = consul
        consul.clear_catalogue()

    def open_at(self, *nodes, **settings):
        return WithoutServers(super().open_at(*nodes, **settings))

    def write(self, keys):
        instances = {}
        for key, value in keys.items():
            _, service, instance = key.split("/")
            instances[service, instance] = None if value is None else {"Port": 80, "Meta": {"value": value}}
        self.server.catalogue(instances)

    def test_a_prefix_stands_for_itself_and_all_below_it(self):
        keys = {"/http/a": "1", "/http/b": "2"}
        self.write({**keys, "/other/a": "3"})
        assert self.read("/http", "/http/a") == [keys, {"/http/a": "1"}]

    def test_a_prefix_does_not_bring_a_sibling_that_begins_like_it(self):
        self.write({"/http/a": "1", "/http/ab": "2", "/https/a": "3", "/http-old/a": "4"})
        assert self.read("/http/a", "/http-old") == [{"/http/a": "1"}, {"/http-old/a": "4"}]

    def test_the_root_stands_for_every_key(self):
        keys = {"/a/x": "1", "/b/c": "2", "/b/d": "3"}
        self.write(keys)
        assert self.read("/") == [keys]

    def test_several_prefixes_get_their_own_keys_also_where_they_overlap(self):
        self.write({"/a/x": "1", "/a/y": "2", "/b/z": "3", "/c/z": "4"})
        assert self.read("/a", "/a/y", "/b") == [{"/a/x": "1", "/a/y": "2"}, {"/a/y": "2"}, {"/b/z": "3"}]

    def test_more_prefixes_than_fit_one_request_are_read(self):
        self.write({f"/many-{n}/key": str(n) for n in range(300)})
        assert self.read(*(f"/many-{n}" for n in range(300))) == [{f"/many-{n}/key": str(n)} for n in range(300)]

    def test_a_missing_tree_is_empty_and_no_error(self):
        assert self.read("/none", "/") == [{}, {}]
        self.write({"/a/x": "1"})
        assert self.read("/none", "/a/none", "/a/x/none", "/a") == [{}, {}, {}, {"/a/x": "1"}]

    def test_keys_and_values_may_be_of_any_script(self):
        keys = {"/żółw/日本": "Ångström 😀", "/żółw/ключ": "значение", "/żółwx/a": "sibling"}
        self.write(keys)
        assert self.read("/żółw", "/") == [{key: value for key, value in keys.items() if "x/" not in key}, keys]

    def test_a_value_may_be_any_bytes_where_the_store_says_so(self):
        value = "a\tb\n\u0085\u2028"
        self.write({"/raw/x": value})
        assert self.read("/raw") == [{"/raw/x": value}]

    def test_a_key_may_hold_any_bytes_where_the_store_says_so_and_odd_characters_everywhere(self):
        self.server.catalogue({(ODD, f"{ODD}{n}"): {"Port": 80, "Meta": {"value": str(n)}} for n in range(2)})
        keys = {f"/{ODD}/{ODD}0": "0", f"/{ODD}/{ODD}1": "1"}
        assert self.read(f"/{ODD}", f"/{ODD}/{ODD}1") == [keys, {f"/{ODD}/{ODD}1": "1"}]

    def test_a_value_as_large_as_the_store_says_is_read_whole(self):
        meta = {f"m{n}": "x" * 512 for n in range(63)} | {"value": "1"}
        self.server.catalogue({("large", "x"): {"Port": 80, "Meta": meta}})
        assert self.read("/large") == [{"/large/x": "1"}]

    def test_an_ask_agrees_with_a_read_or_says_that_it_cannot_tell(self):
        self.write({"/a/x": "1", "/a/y": "2", "/b/z": "3"})
        with closing(self.open()) as store:
            before = store.poll(["/a", "/none"])
            assert before.counts == {"/a": 2, "/none": 0}
            assert before.newest["/none"] == 0
            assert 0 < before.newest["/a"] <= before.revision == store.read(["/a"]).listings["/a"].revision
            self.write({"/a/x": None})
            assert store.poll(["/a"]).counts == {"/a": 1}
            self.write({"/a/y": "3"})
            assert store.poll(["/a"]).newest["/a"] > before.newest["/a"]

    def test_a_watch_brings_nothing_of_a_sibling(self):
        with self.followed("/http") as seen:
            self.write({"/https/a": "1", "/http-old/x": "2"})
            self.write({"/http/a": "3"})
            seen.wait_for({"/http/a": "3"})
            assert {key for changes in seen.changes for key in changes.keys} == {"/http/a"}

    def test_several_prefixes_are_watched_on_one_stream(self):
        with self.followed("/a", "/b/y", "/none") as seen:
            self.write({"/a/x": "1", "/b/y": "2", "/b/other": "3"})
            seen.wait_for({"/a/x": "1", "/b/y": "2"})

    test_a_value_beyond_what_the_store_takes_is_refused_when_it_is_put_and_harms_nobody = None  # nothing is put

    def test_closing_ends_a_call_whose_answer_drips_within_a_second(self):
        self.write({f"/a/{n}": "x" * 500 for n in range(20)})
        with FaultProxy(self.server.port) as proxy:
            store = self.open_at(proxy.endpoint, read_timeout=60.0)
            store.read(["/none"])
            reported = proxy.bytes_down
            proxy.drip(500)
            under_way = Call(lambda: store.read(["/a"]))
            wait_until(lambda: proxy.bytes_down > reported + 200, what="the answer drips")
            closes_within_a_second(store, under_way)


class TestManyServices(TestCatalogStore):
    """The same where there are more services than have a query of their own."""

    @pytest.fixture(autouse=True)
    def _many(self, monkeypatch):
        monkeypatch.setattr("confpy.stores.catalog.follower.FEW", 0)
        monkeypatch.setattr("confpy.stores.catalog.store.FEW", 0)

    # Whoever asks: these cost seconds, and are about what is answered and what a store keeps.
    test_nothing_is_left_after_a_thousand_opens = None
    test_ten_thousand_keys_are_read_whole = None
    test_a_burst_of_a_thousand_changes_ends_in_the_final_state = None
    test_more_prefixes_than_fit_one_request_are_read = None
    test_a_value_as_large_as_the_store_says_is_read_whole = None
    test_closing_ends_a_call_whose_answer_drips_within_a_second = None

    def test_an_ask_agrees_with_a_read_or_says_that_it_cannot_tell(self):
        self.write({"/a/x": "1", "/a/y": "2", "/b/z": "3"})
        with closing(self.open()) as store:
            assert store.poll(["/a"]) is None
            before = store.read(["/a"]).listings["/a"].revision
            assert store.poll(["/a"]).counts == {"/a": 2}
            self.write({"/a/x": None})
            assert store.poll(["/a"]) is None
            with following(store, store.read(["/a"])):
                assert store.poll(["/a"]).counts == {"/a": 1}
                self.write({"/a/y": "3"})
                wait_until(lambda: store.poll(["/a"]).newest["/a"] > before, what="the change is known")
