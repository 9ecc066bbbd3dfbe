"""What every store promises. A test class for a store inherits one of these classes and says how to fill the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import closing, contextmanager, suppress

from confpy.errors import StoreError
from confpy.keytree import KeyTree, covers
from confpy.model import Changes, Stirred
from tests.waiting import wait_until


class ReadContract:
    """For every store. ``open`` and ``write`` are what a concrete class fills in."""

    nests = True
    """A key with a value may have others below it."""

    def open(self):
        """Open the store under test, another one each time, on the same keys."""
        raise NotImplementedError

    def write(self, keys: Mapping[str, str | None]) -> None:
        """Put keys (paths), and remove those that are None, behind the store's back."""
        raise NotImplementedError

    def read(self, *prefixes: str) -> list[dict[str, str]]:
        with closing(self.open()) as store:
            listings = store.read(prefixes).listings
            assert set(listings) == set(prefixes)
            assert all(listing.error is None for listing in listings.values())
            return [dict(listings[prefix].keys) for prefix in prefixes]

    def test_a_prefix_stands_for_itself_and_all_below_it(self):
        keys = {"/http/a": "1", "/http/b/c": "2"} | ({"/http": "own"} if self.nests else {})
        self.write({**keys, "/other": "3"})
        assert self.read("/http", "/http/a") == [keys, {"/http/a": "1"}]

    def test_a_prefix_does_not_bring_a_sibling_that_begins_like_it(self):
        self.write({"/http/a": "1", "/https/a": "2", "/http2": "3", "/http-old/a": "4", "/http0": "5"})
        assert self.read("/http") == [{"/http/a": "1"}]

    def test_the_root_stands_for_every_key(self):
        keys = {"/a": "1", "/b/c": "2", "/b/d/e": "3"}
        self.write(keys)
        assert self.read("/") == [keys]

    def test_several_prefixes_get_their_own_keys_also_where_they_overlap(self):
        self.write({"/a/x": "1", "/a/y/z": "2", "/b": "3", "/c": "4"})
        assert self.read("/a", "/a/y", "/b") == [{"/a/x": "1", "/a/y/z": "2"}, {"/a/y/z": "2"}, {"/b": "3"}]

    def test_more_prefixes_than_fit_one_request_are_read(self):
        self.write({f"/many/{n}/key": str(n) for n in range(300)})
        assert self.read(*(f"/many/{n}" for n in range(300))) == [{f"/many/{n}/key": str(n)} for n in range(300)]

    def test_a_missing_tree_is_empty_and_no_error(self):
        assert self.read("/none", "/") == [{}, {}]
        self.write({"/a": "1"})
        assert self.read("/none", "/a/none", "/a") == [{}, {}, {"/a": "1"}]

    def test_an_empty_value_is_a_value(self):
        self.write({"/a/empty": "", "/a/blank": " \n"})
        assert self.read("/a") == [{"/a/empty": "", "/a/blank": " \n"}]

    def test_keys_and_values_may_be_of_any_script(self):
        keys = {"/żółw/日本": "Ångström 😀", "/żółw/ключ": "значение", "/żółwx": "sibling"}
        self.write(keys)
        assert self.read("/żółw", "/") == [{key: value for key, value in keys.items() if key != "/żółwx"}, keys]

    def test_a_value_may_be_any_bytes_where_the_store_says_so(self):
        with closing(self.open()) as store:
            value = "a\udcff\udc80\tb" if store.limits.binary_values else "a\tb"
        self.write({"/raw": value})
        assert self.read("/raw") == [{"/raw": value}]

    def test_a_deleted_key_is_gone_and_comes_back_when_it_is_made_again(self):
        self.write({"/a/x": "1", "/a/y": "1"})
        assert self.read("/a") == [{"/a/x": "1", "/a/y": "1"}]
        self.write({"/a/x": None})
        assert self.read("/a") == [{"/a/y": "1"}]
        self.write({"/a/x": "2"})
        assert self.read("/a") == [{"/a/x": "2", "/a/y": "1"}]

    def test_ten_thousand_keys_are_read_whole(self):
        keys = {f"/big/{n:05}": f"value {n}" for n in range(10_000)}
        self.write(keys)
        assert self.read("/big") == [keys]

    def test_covers_are_counted_or_left_out(self):
        self.write({"/a/x": "1", "/a/y": "2", "/b/z": "3"})
        with closing(self.open()) as store:
            snapshot = store.read(["/a/x"], covers=["/a", "/b", "/none"])
        assert set(snapshot.listings) == {"/a/x"}
        assert snapshot.counts in ({}, {"/a": 2, "/b": 1, "/none": 0})

    def test_an_ask_agrees_with_a_read_or_says_that_it_cannot_tell(self):
        self.write({"/a/x": "1", "/a/y": "2", "/b": "3"})
        with closing(self.open()) as store:
            before = store.ask(["/a", "/none"])
            if before is None:
                assert store.ask(["/"]) is None
                return
            assert before.counts == {"/a": 2, "/none": 0}
            assert before.newest["/none"] == 0
            assert 0 < before.newest["/a"] <= before.revision == store.read(["/a"]).listings["/a"].revision
            self.write({"/a/x": None})
            assert store.ask(["/a"]).counts == {"/a": 1}
            self.write({"/a/y": "3"})
            assert store.ask(["/a"]).newest["/a"] > before.newest["/a"]

    def test_what_a_resource_asks_for_leads_to_its_keys(self):
        self.write({"/app/port": "1"})
        with closing(self.open()) as store:
            for path in ("/app", "app"):
                prefixes = store.prefixes(path)
                listings = store.read(prefixes).listings
                assert {"/app/port": "1"} in [dict(listings[prefix].keys) for prefix in prefixes]

    def test_close_may_be_called_again_and_from_any_thread(self):
        store = self.open()
        store.read(["/"])
        closer = threading.Thread(target=store.close)
        closer.start()
        closer.join(5)
        store.close()
        assert not closer.is_alive()


class WatchContract(ReadContract):
    """For stores that can watch."""

    def test_the_store_says_that_it_watches(self):
        with closing(self.open()) as store:
            assert store.limits.watches

    def test_a_change_between_read_and_watch_is_seen(self):
        self.write({"/a/x": "1", "/a/gone": "1"})
        with closing(self.open()) as store:
            snapshot = store.read(["/a"])
            self.write({"/a/x": "2", "/a/gone": None})
            with following(store, snapshot) as seen:
                seen.wait_for({"/a/x": "2"})

    def test_changes_deletions_and_returns_are_seen(self):
        self.write({"/a/x": "1"})
        with self.followed("/a") as seen:
            self.write({"/a/new": "n"})
            seen.wait_for({"/a/x": "1", "/a/new": "n"})
            self.write({"/a/x": None})
            seen.wait_for({"/a/new": "n"})
            self.write({"/a/x": ""})
            seen.wait_for({"/a/new": "n", "/a/x": ""})
            self.write({"/a/x": None, "/a/new": None})
            seen.wait_for({})

    def test_a_tree_that_is_not_there_yet_can_be_watched(self):
        with self.followed("/later") as seen:
            self.write({"/later/x": "1"})
            seen.wait_for({"/later/x": "1"})

    def test_a_watch_brings_nothing_of_a_sibling(self):
        with self.followed("/http") as seen:
            self.write({"/https/a": "1", "/http-old": "2"})
            self.write({"/http/a": "3"})
            seen.wait_for({"/http/a": "3"})
            brought = [key for changes in seen.changes for key in changes.keys]
            assert all(covers("/http", key) for key in brought)

    def test_a_burst_of_a_thousand_changes_ends_in_the_final_state(self):
        with self.followed("/burst") as seen:
            for n in range(1_000):
                self.write({f"/burst/{n % 7}": str(n)})
            seen.wait_for({f"/burst/{n % 7}": str(n) for n in range(993, 1_000)})

    def test_what_one_watch_brings_is_in_order(self):
        with self.followed("/order") as seen:
            for n in range(200):
                self.write({"/order/n": str(n)})
            seen.wait_for({"/order/n": "199"})
            revisions = [changes.revision for changes in seen.changes]
            values = [int(changes.keys["/order/n"][1]) for changes in seen.changes]
            assert revisions == sorted(set(revisions))
            assert values == sorted(set(values))
            assert all(changes.keys["/order/n"][0] <= changes.revision for changes in seen.changes)

    def test_several_prefixes_are_watched_on_one_stream(self):
        with self.followed("/a", "/b/c", "/none") as seen:
            self.write({"/a/x": "1", "/b/c/y": "2", "/b/other": "3"})
            seen.wait_for({"/a/x": "1", "/b/c/y": "2"})

    def test_prefixes_can_be_added_while_another_watch_is_open(self):
        self.write({"/a/x": "1", "/b/x": "1"})
        with closing(self.open()) as store:
            with following(store, store.read(["/a"])) as first, following(store, store.read(["/a", "/b"])) as both:
                self.write({"/a/x": "2", "/b/x": "2"})
                first.wait_for({"/a/x": "2"})
                both.wait_for({"/a/x": "2", "/b/x": "2"})
            with following(store, store.read(["/b"])) as last:
                self.write({"/b/x": "3"})
                last.wait_for({"/b/x": "3"})

    def test_closing_the_stream_ends_the_iteration_within_a_second(self):
        with closing(self.open()) as store, following(store, store.read(["/"])) as seen:
            began = time.monotonic()
            seen.stream.close()
            seen.thread.join(5)
            assert time.monotonic() - began < 1
            assert not seen.thread.is_alive()
            assert seen.error is None
            seen.stream.close()

    def test_closing_the_store_ends_its_streams_within_a_second(self):
        store = self.open()
        with following(store, store.read(["/"])) as seen:
            began = time.monotonic()
            store.close()
            seen.thread.join(5)
            assert time.monotonic() - began < 1
            assert not seen.thread.is_alive()
            assert seen.error is None or isinstance(seen.error, StoreError)

    def test_no_thread_is_left_after_a_hundred_opens(self):
        before = threading.active_count()
        for _ in range(100):
            with closing(self.open()) as store:
                snapshot = store.read(["/a"])
                store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity).close()
        wait_until(lambda: threading.active_count() <= before, what="the threads of closed stores end")

    @contextmanager
    def followed(self, *prefixes: str):
        with closing(self.open()) as store, following(store, store.read(prefixes)) as seen:
            yield seen


class Seen:
    """A tree that follows a store, kept up to date by a thread of its own."""

    def __init__(self, store, snapshot) -> None:
        self.store = store
        self.prefixes = list(snapshot.listings)
        self.trees = {prefix: KeyTree() for prefix in self.prefixes}
        self.changes: list[Changes] = []
        self.error: Exception | None = None
        self._apply(snapshot)
        cursors = {prefix: listing.revision for prefix, listing in snapshot.listings.items()}
        self.stream = store.watch(cursors, snapshot.identity)
        self.thread = threading.Thread(target=self._follow, name="test-follower", daemon=True)
        self.thread.start()

    def keys(self) -> dict[str, str]:
        return {key: value for tree in list(self.trees.values()) for key, value in tree.items("/")}

    def wait_for(self, keys: Mapping[str, str]) -> None:
        wait_until(
            lambda: self.keys() == keys or not self.thread.is_alive(), seconds=15, what=f"the watch has brought {keys}"
        )
        assert self.error is None
        assert self.keys() == keys

    def _apply(self, snapshot) -> None:
        for prefix, listing in snapshot.listings.items():
            self.trees[prefix].replace(prefix, listing.keys)

    def _follow(self) -> None:
        try:
            for changes in self.stream:
                if isinstance(changes, Stirred):
                    # A read that meets a file on its way to another place fails; the next change tells of its arrival.
                    with suppress(StoreError):
                        self._apply(self.store.read(self.prefixes))
                    continue
                self.changes.append(changes)
                tree = self.trees[changes.prefix]
                for path in changes.gone:
                    tree.replace(path, {})
                for key, (_, value) in changes.keys.items():
                    tree.delete(key) if value is None else tree.set(key, value)
        except Exception as error:  # noqa: BLE001 - the test that waits for it tells
            self.error = error


@contextmanager
def following(store, snapshot):
    seen = Seen(store, snapshot)
    try:
        yield seen
    finally:
        seen.stream.close()
        seen.thread.join(5)
        assert not seen.thread.is_alive()
