"""The memory store: the contract, and what only a store with a history of its own can show."""

from __future__ import annotations

from contextlib import closing

import pytest

from confpy.errors import WatchLost
from confpy.keys.snapshot import Changes
from confpy.stores.memory import MemoryStore
from tests.stores.contract import WatchContract


class TestMemoryStore(WatchContract):
    @pytest.fixture(autouse=True)
    def _fresh(self):
        self.store = MemoryStore()

    def open(self):
        return self.store

    def write(self, keys):
        self.store.update(keys)


def test_an_update_of_many_keys_is_one_revision_and_comes_as_one():
    store = MemoryStore({"/a/x": "1"})
    stream = store.watch({"/a": store.read(["/a"]).listings["/a"].revision})
    revision = store.update({"/a/x": None, "/a/y": "2", "/b": "3"})
    with closing(stream):
        assert next(iter(stream)) == Changes("/a", revision, {"/a/x": (revision, None), "/a/y": (revision, "2")})


def test_removing_what_is_not_there_is_no_revision():
    store = MemoryStore({"/a": "1"})
    assert store.delete("/none") == store.read(["/"]).listings["/"].revision


def test_a_watch_resumes_exactly_after_its_cursor():
    store = MemoryStore()
    seen = store.set("/a", "1")
    store.set("/a", "2")
    last = store.set("/b", "3")
    with closing(store.watch({"/": seen})) as stream:
        assert next(iter(stream)) == Changes("/", last, {"/a": (last - 1, "2"), "/b": (last, "3")})


def test_a_watch_from_before_a_compaction_is_lost_and_one_that_has_seen_all_goes_on():
    store = MemoryStore()
    early = store.set("/a", "1")
    late = store.set("/a", "2")
    store.compact()
    with pytest.raises(WatchLost):
        store.watch({"/": early})
    with closing(store.watch({"/": late})) as stream:
        revision = store.set("/a", "3")
        assert next(iter(stream)) == Changes("/", revision, {"/a": (revision, "3")})


def test_a_history_that_is_full_forgets_its_oldest_revisions():
    store = MemoryStore(history=3)
    revisions = [store.set("/a", str(n)) for n in range(5)]
    with pytest.raises(WatchLost):
        store.watch({"/": revisions[0]})
    with closing(store.watch({"/": revisions[1]})) as stream:
        assert next(iter(stream)).keys == {"/a": (revisions[4], "4")}


def test_a_watch_from_the_future_is_lost():
    store = MemoryStore()
    with pytest.raises(WatchLost):
        store.watch({"/": 99})


def test_a_watch_of_another_store_is_lost_when_it_opens_and_while_it_is_open():
    store = MemoryStore(identity="one")
    with pytest.raises(WatchLost):
        store.watch({"/": 1}, "two")
    with closing(store.watch({"/": 1}, "one")) as stream:
        store.identity = "two"
        store.set("/a", "1")
        with pytest.raises(WatchLost):
            next(iter(stream))


def test_a_prefix_without_a_slash_stands_for_both_spellings():
    store = MemoryStore({"stolon/x": "1", "/stolon/y": "2"})
    listings = store.read(store.prefixes("stolon")).listings
    assert {prefix: listing.keys for prefix, listing in listings.items()} == {
        "/stolon": {"/stolon/y": "2"},
        "stolon": {"stolon/x": "1"},
    }
