"""What every store promises. A test class for a store inherits one of these classes and says how to fill the store."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from confpy.config.settings import Settings
from confpy.errors import AccessDenied, StoreError
from confpy.keys.prefixes import covers
from confpy.keys.snapshot import Changes, Invalidated
from confpy.keys.tree import KeyTree
from tests.background import Call
from tests.servers.consul import ConsulSaysNo
from tests.servers.etcd import EtcdSaysNo
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until

BOUNDLESS = 4 << 20
"""Bytes of a value, for a store that sets no bound."""


class ReadContract:
    """For every store. ``open`` and ``write`` are what a concrete class fills in."""

    nests = True
    """A key with a value may have others below it."""
    odd = " .-%2f?#+&=\"'\\;:,*[]{}()<>|~^`!@$"
    """What a part of a key may hold."""
    opens = 900
    """How often a store is opened and closed, to see whether something stays."""
    beside = 0
    """Bytes of ``capabilities.value_bytes`` that the store needs for the key and what else it keeps beside a value."""

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
            value = "a\udcff\udc80\tb" if store.capabilities.binary_values else "a\tb"
        self.write({"/raw": value})
        assert self.read("/raw") == [{"/raw": value}]

    def test_a_key_may_hold_any_bytes_where_the_store_says_so_and_odd_characters_everywhere(self):
        with closing(self.open()) as store:
            name = "k\udcff\udc80" if store.capabilities.binary_keys else "k"
        keys = {f"/odd/{self.odd}": "1", f"/odd/{self.odd}/{name}" if self.nests else f"/odd/{name}": "2"}
        self.write({**keys, "/other": "3"})
        assert self.read("/odd", f"/odd/{self.odd}") == [
            keys,
            {key: value for key, value in keys.items() if covers(f"/odd/{self.odd}", key)},
        ]

    def test_a_value_as_large_as_the_store_says_is_read_whole(self):
        with closing(self.open()) as store:
            value = "x" * ((store.capabilities.value_bytes or BOUNDLESS) - self.beside)
        self.write({"/large": value, "/small": "1"})
        assert self.read("/large", "/small") == [{"/large": value}, {"/small": "1"}]

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
            snapshot = store.read(["/a/x"], counted=["/a", "/b", "/none"])
        assert set(snapshot.listings) == {"/a/x"}
        assert snapshot.counts in ({}, {"/a": 2, "/b": 1, "/none": 0})

    def test_an_ask_agrees_with_a_read_or_says_that_it_cannot_tell(self):
        self.write({"/a/x": "1", "/a/y": "2", "/b": "3"})
        with closing(self.open()) as store:
            before = store.poll(["/a", "/none"])
            if before is None:
                assert store.poll(["/"]) is None
                return
            assert before.counts == {"/a": 2, "/none": 0}
            assert before.newest["/none"] == 0
            assert 0 < before.newest["/a"] <= before.revision == store.read(["/a"]).listings["/a"].revision
            self.write({"/a/x": None})
            assert store.poll(["/a"]).counts == {"/a": 1}
            self.write({"/a/y": "3"})
            assert store.poll(["/a"]).newest["/a"] > before.newest["/a"]

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

    @pytest.mark.skipif("COVERAGE_PROCESS_CONFIG" in os.environ, reason="coverage.py keeps objects of each thread")
    def test_nothing_is_left_after_many_opens(self):
        def use():
            with closing(self.open()) as store:
                snapshot = store.read(["/a"])
                if store.capabilities.watches:
                    store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity).close()

        self.write({"/a/x": "1"})
        for _ in range(self.opens // 9):  # what is made once and stays, and what the allocator needs
            use()
        before = threads_and_descriptors()
        objects, resident = objects_and_memory()
        for _ in range(self.opens):
            use()
        wait_until(lambda: threads_and_descriptors() <= before, what=f"{before} threads and descriptors again")
        more_objects, more_resident = objects_and_memory()
        assert more_objects - objects < 450
        assert more_resident - resident < 8 << 20


class ClosingContract:
    """For stores that can watch: ``close`` ends what they do. ``open`` is what a concrete class fills in."""

    def open(self):
        """Open the store under test, another one each time, on the same keys."""
        raise NotImplementedError

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


class WatchContract(ClosingContract, ReadContract):
    """For stores that can watch."""

    def test_the_store_says_that_it_watches(self):
        with closing(self.open()) as store:
            assert store.capabilities.watches

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
            with following(store, store.read(["/a"])) as first:
                snapshot = store.read(["/a", "/b"])
                self.write({"/a/x": "between", "/b/new": "between"})
                with following(store, snapshot) as both:
                    self.write({"/b/x": "2"})
                    first.wait_for({"/a/x": "between"})
                    both.wait_for({"/a/x": "between", "/b/new": "between", "/b/x": "2"})
            with following(store, store.read(["/b"])) as last:
                self.write({"/b/x": "3"})
                last.wait_for({"/b/new": "between", "/b/x": "3"})

    @contextmanager
    def followed(self, *prefixes: str):
        with closing(self.open()) as store, following(store, store.read(prefixes)) as seen:
            yield seen


class NetworkClosingContract(ClosingContract):
    """The same for stores on a network: ``store`` is the class under test, ``server`` the server of this test."""

    store: type
    server: object
    refuses: tuple[type[Exception], ...] = (EtcdSaysNo, ConsulSaysNo)
    """What the test's client raises where the server refuses a value."""

    def open(self):
        return self.open_at(self.server.endpoint)

    def open_at(self, *nodes, **settings):
        return self.store.open(Settings(nodes=nodes, **{"connect_timeout": 2.0, "read_timeout": 5.0, **settings}))

    def fill(self) -> None:
        """Let the answer to a read of ``/a`` have some thousand bytes."""
        raise NotImplementedError

    @pytest.mark.parametrize("call", ["read", "watch"])
    @pytest.mark.parametrize("wait", ["connect", "TLS", "answer"])
    def test_closing_ends_a_call_within_a_second(self, wait, call):
        with full() if wait == "connect" else silent() as (port, reached):
            scheme = "https" if wait == "TLS" else "http"
            store = self.open_at(f"{scheme}://127.0.0.1:{port}", connect_timeout=30.0, read_timeout=30.0)
            under_way = Call(lambda: store.read(["/a"]) if call == "read" else store.watch({"/a": 1}))
            wait_until(reached, what=f"the store waits for {wait}")
            closes_within_a_second(store, under_way)

    def test_closing_ends_the_look_up_of_a_name_within_a_second(self, monkeypatch):
        looking, answered = threading.Event(), threading.Event()
        look_up = socket.getaddrinfo

        def slow(host, *arguments, **options):
            if host not in ("slow.invalid", b"slow.invalid") or options.get("flags") == socket.AI_NUMERICHOST:
                return look_up(host, *arguments, **options)
            looking.set()
            answered.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        store = self.open_at("http://slow.invalid:1", connect_timeout=30.0, read_timeout=30.0)
        under_way = Call(lambda: store.read(["/a"]))
        try:
            assert looking.wait(10)
            closes_within_a_second(store, under_way)
        finally:
            answered.set()

    def test_closing_ends_a_call_whose_answer_drips_within_a_second(self):
        self.fill()
        with FaultProxy(self.server.port) as proxy:
            store = self.open_at(proxy.endpoint, read_timeout=60.0)
            store.read(["/none"])
            reported = proxy.bytes_down
            proxy.drip(500)
            under_way = Call(lambda: store.read(["/a"]))
            wait_until(lambda: proxy.bytes_down > reported + 200, what="the answer drips")
            closes_within_a_second(store, under_way)

    def test_closing_ends_the_opening_of_a_stream_within_a_second(self):
        with FaultProxy(self.server.port) as proxy:
            store = self.open_at(proxy.endpoint, read_timeout=60.0)
            snapshot = store.read(["/a"])
            opened = proxy.connections
            proxy.black_hole()
            under_way = Call(lambda: store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity))
            wait_until(lambda: proxy.connections > opened, what="the store asks for a stream")
            closes_within_a_second(store, under_way)

    def test_closing_ends_streams_within_a_second_where_the_server_is_silent(self):
        with FaultProxy(self.server.port) as proxy:
            store = self.open_at(proxy.endpoint)
            with following(store, store.read(["/a"])) as seen:
                wait_until(proxy.open_connections, what="the stream is open")
                proxy.black_hole()
                began = time.monotonic()
                store.close()
                seen.thread.join(5)
                assert time.monotonic() - began < 1


class NetworkContract(NetworkClosingContract, WatchContract):
    """For stores on a network that can be written: ``server`` is a real one."""

    def fill(self):
        self.write({"/a/x": "x" * 10_000})

    def test_a_value_beyond_what_the_store_takes_is_refused_when_it_is_put_and_harms_nobody(self):
        with closing(self.open()) as store:
            self.write({"/a/x": "1"})
            with following(store, store.read(["/a"])) as seen:
                with pytest.raises(self.refuses):
                    self.write({"/a/x": "x" * (store.capabilities.value_bytes + 1)})
                self.write({"/a/y": "2"})
                seen.wait_for({"/a/x": "1", "/a/y": "2"})


class RefusalContract:
    """For stores whose server can refuse one prefix and give another."""

    def open_without(self, prefix):
        """Open the store as somebody who may read everything but ``prefix``."""
        raise NotImplementedError

    def write(self, keys: Mapping[str, str]) -> None:
        """Put keys as somebody who may do so, before and after ``open_without``."""
        raise NotImplementedError

    def test_a_refused_prefix_fails_alone_and_is_named(self):
        self.write({"/a/x": "1", "/shut/x": "2", "/z/x": "3"})
        with closing(self.open_without("/shut")) as store:
            for _ in range(2):
                listings = store.read(["/a", "/shut", "/z"]).listings
                assert isinstance(listings["/shut"].error, AccessDenied)
                assert listings["/shut"].error.where["prefix"] == "/shut"
                assert not listings["/shut"].keys
                assert [(listings[prefix].error, listings[prefix].keys) for prefix in ("/a", "/z")] == [
                    (None, {"/a/x": "1"}),
                    (None, {"/z/x": "3"}),
                ]

    def test_what_is_not_refused_is_followed(self):
        self.write({"/a/x": "1", "/shut/x": "2", "/z/x": "3"})
        with closing(self.open_without("/shut")) as store:
            with following(store, store.read(["/a", "/z"])) as seen:
                self.write({"/a/x": "2", "/shut/x": "3", "/z/y": "4"})
                seen.wait_for({"/a/x": "2", "/z/x": "3", "/z/y": "4"})
            with pytest.raises(StoreError):
                store.watch({"/shut": 1})


def closes_within_a_second(store, under_way):
    began = time.monotonic()
    store.close()
    under_way.end()
    assert under_way.ended - began < 1
    assert isinstance(under_way.error, StoreError)
    assert "the store was closed" in str(under_way.error)


@contextmanager
def silent():
    """A server that lets connect and never answers: its port, and whether somebody has connected."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as accepted:
        listener.setblocking(False)

        def reached():
            with suppress(BlockingIOError):
                return accepted.enter_context(listener.accept()[0])

        yield listener.getsockname()[1], reached


@contextmanager
def full():
    """A server whose backlog is full, so that nobody gets an answer to a SYN: its port, and whether somebody waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as fillers:
        address = listener.getsockname()
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)

        def waiting():
            with open("/proc/net/tcp") as table:
                return sum(f":{address[1]:04X} 02 " in line for line in table)

        wait_until(waiting, what="the backlog is full")
        already = waiting()
        yield address[1], lambda: waiting() > already


def threads_and_descriptors():
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def objects_and_memory():
    """How many objects Python knows, and the bytes of memory that the process holds."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return len(gc.get_objects()), int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Seen:
    """A tree that follows a store, updated by a thread of its own."""

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
                if isinstance(changes, Invalidated):
                    # A read that meets a file on its way to another place fails; the next change tells of its arrival.
                    with suppress(StoreError):
                        self._apply(self.store.read(self.prefixes))
                    continue
                self.changes.append(changes)
                tree = self.trees[changes.prefix]
                for path in changes.deleted:
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
