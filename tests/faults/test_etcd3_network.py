"""The etcd v3 store on a network that fails: every wait ends, every connection can be cut, no change is missed."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from contextlib import closing

import pytest

from confpy.errors import StoreError
from confpy.stores import WatchLost
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until


class Call:
    """A call on a thread of its own: what it returned or raised, and when."""

    def __init__(self, call):
        self.result = self.error = self.ended = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            self.result = self._call()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            self.error = error
        self.ended = time.monotonic()

    def end(self, seconds=10):
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the call does not end"
        return self


class Silent:
    """A server that accepts and then says nothing, or only ``greeting``."""

    def __init__(self, greeting=b""):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.accepted = []
        self._greeting = greeting
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                end, _ = self.listener.accept()
            except OSError:
                return
            self.accepted.append(end)
            if self._greeting:
                end.recv(65536)
                end.sendall(self._greeting)
                end.shutdown(socket.SHUT_WR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()
        for end in self.accepted:
            end.close()


@pytest.fixture
def silent():
    with closing(Silent()) as server:
        yield server


# --- close from another thread ---------------------------------------------------------------------------------------


def closes_within_a_second(store, call):
    began = time.monotonic()
    store.close()
    call.end()
    assert call.ended - began < 1
    assert isinstance(call.error, StoreError)
    assert "the store was closed" in str(call.error)
    store.close()


def test_close_wakes_who_connects(etcd_store):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]  # the backlog is full: SYNs are dropped
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            store = etcd_store(f"127.0.0.1:{port}", connect_timeout=30.0, read_timeout=30.0)
            call = Call(lambda: store.read(["/a"]))
            wait_until(lambda: connecting(port) > len(fillers) - 2, what="the store connects")
            closes_within_a_second(store, call)
        finally:
            for filler in fillers:
                filler.close()


def connecting(port):
    """How many of this machine's connections to the port wait for an answer to their SYN."""
    with open("/proc/net/tcp") as table:
        return sum(f":{port:04X} 02 " in line for line in table)


def test_close_wakes_who_shakes_hands(silent, etcd_store):
    store = etcd_store(f"https://127.0.0.1:{silent.port}", connect_timeout=30.0, read_timeout=30.0)
    call = Call(lambda: store.read(["/a"]))
    wait_until(lambda: silent.accepted, what="the store connects")
    closes_within_a_second(store, call)


def test_close_wakes_who_reads(silent, etcd_store):
    store = etcd_store(f"127.0.0.1:{silent.port}", read_timeout=30.0)
    call = Call(lambda: store.read(["/a"]))
    wait_until(lambda: silent.accepted, what="the store connects")
    closes_within_a_second(store, call)


def test_close_wakes_who_waits_for_a_dripping_body(etcd, proxy, etcd_store):
    etcd.put_all({f"/a/{number}": "x" * 1000 for number in range(100)})
    store = etcd_store(proxy.endpoint, read_timeout=60.0)
    store.read(["/none"])
    proxy.drip(1000)
    call = Call(lambda: store.read(["/a"]))
    wait_until(lambda: proxy.count("kv/txn") == 2, what="the store asks")
    wait_until(lambda: proxy.bytes_down > 1000, what="the answer drips")
    closes_within_a_second(store, call)


def test_close_wakes_who_opens_a_stream(etcd, proxy, etcd_store):
    store = etcd_store(proxy.endpoint, read_timeout=30.0)
    store.read(["/a"])
    proxy.black_hole()
    call = Call(lambda: store.watch({"/a": 1}))
    wait_until(lambda: proxy.count("/watch") == 1, what="the store asks for a stream")
    closes_within_a_second(store, call)


@pytest.mark.parametrize("who", ["store", "stream"])
def test_close_ends_the_iteration_of_a_quiet_stream(etcd, etcd_store, who):
    store = etcd_store(etcd.endpoint)
    stream = store.watch({"/a": etcd.revision()})
    call = Call(lambda: list(stream))
    began = time.monotonic()
    (store if who == "store" else stream).close()
    call.end()
    assert call.ended - began < 1
    if who == "stream":
        assert call.result == []
    else:
        assert "the store was closed" in str(call.error)
    stream.close()


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_a_server_that_says_nothing_is_given_up_in_time(silent, etcd_store):
    for node in (f"127.0.0.1:{silent.port}", f"https://127.0.0.1:{silent.port}"):
        store = etcd_store(node, connect_timeout=0.5, read_timeout=0.5)
        for call in (lambda s=store: s.read(["/a"]), lambda s=store: s.ask(["/a"]), lambda s=store: s.watch({"/a": 1})):
            began = time.monotonic()
            with pytest.raises(StoreError, match=r"no answer (within 0\.5 s|in time)"):
                call()
            assert time.monotonic() - began < 2


def test_an_answer_that_drips_is_given_up_in_time(etcd, proxy, etcd_store):
    etcd.put_all({f"/a/{number}": "x" * 1000 for number in range(100)})
    store = etcd_store(proxy.endpoint, read_timeout=1.0)
    store.read(["/none"])
    proxy.drip(2000)  # never a second without a byte
    for call in (lambda: store.read(["/a"]), lambda: store.watch({f"/{number}": 1 for number in range(100)})):
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer within 1 s"):
            call()
        assert 0.9 < time.monotonic() - began < 2


def test_a_frozen_etcd_is_given_up_in_time_and_used_again_when_it_thaws(etcd, etcd_store):
    store = etcd_store(etcd.endpoint, read_timeout=0.5)
    snapshot = store.read(["/a"])
    stream = store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)
    etcd.freeze()
    with pytest.raises(StoreError, match=r"no answer within 0\.5 s"):
        store.ask(["/a"])
    etcd.thaw()
    revision = etcd.put("/a/x", "1")
    assert next(iter(stream)).revision == revision
    assert store.ask(["/a"]).newest == {"/a": revision}


# --- bytes as networks bring them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["split 1", "split 7", "merge"])
def test_how_the_bytes_are_cut_does_not_matter(etcd, proxy, etcd_store, fault):
    etcd.put_all({f"/a/é{number}": "日本" for number in range(20)})
    kind, _, size = fault.partition(" ")
    if kind == "split":
        proxy.split(int(size))
    else:
        proxy.merge()
    store = etcd_store(proxy.endpoint, read_timeout=20.0)
    snapshot = store.read(["/a"])
    assert len(snapshot.listings["/a"].keys) == 20
    stream = store.watch({"/a": snapshot.listings["/a"].revision, "/b": 1}, snapshot.identity)
    changes, seen = iter(stream), {}
    for number in range(30):
        etcd.put(f"/a/é{number}", str(number))
    while len(seen) < 30:
        seen.update(next(changes).keys)
    assert {key: value for key, (_, value) in seen.items()} == {f"/a/é{number}": str(number) for number in range(30)}


def test_a_stream_cut_in_the_middle_of_a_line_yields_only_what_was_whole(etcd, proxy, etcd_store):
    store = etcd_store(proxy.endpoint)
    cursor = etcd.revision()
    stream = store.watch({"/a": cursor})
    changes = iter(stream)
    first = etcd.put("/a/whole", "1")
    assert next(changes).revision == first
    before = proxy.bytes_down
    proxy.drip(400)
    etcd.put("/a/half", "x" * 2000)
    wait_until(lambda: proxy.bytes_down > before + 100, what="half of the line has come")
    proxy.reset()
    with pytest.raises(StoreError) as caught:
        next(changes)
    assert not isinstance(caught.value, WatchLost)
    proxy.heal()
    again = store.watch({"/a": first})
    assert next(iter(again)).keys.keys() == {"/a/half"}


@pytest.mark.parametrize("fault", ["reset", "half_close", "refuse", "kill"])
def test_a_stream_that_ends_is_an_error_that_can_be_resumed_from(etcd, proxy, etcd_store, fault):
    store = etcd_store(proxy.endpoint)
    snapshot = store.read(["/a"])
    cursor = snapshot.listings["/a"].revision
    changes = iter(store.watch({"/a": cursor}, snapshot.identity))
    if fault == "kill":
        etcd.kill()
    else:
        getattr(proxy, fault)()
    with pytest.raises(StoreError) as caught:
        next(changes)
    assert not isinstance(caught.value, WatchLost)
    assert caught.value.where["node"] == proxy.endpoint
    if fault == "kill":
        etcd.start()
    proxy.heal()
    revision = etcd.put("/a/x", "1")
    assert next(iter(store.watch({"/a": cursor}, snapshot.identity))).revision == revision


def test_interleaved_changes_of_two_watches_survive_reconnects_at_any_moment(etcd, proxy, etcd_store):
    """Order holds within a watch only: one cursor for both would lose what the slower one had not brought yet."""
    store = etcd_store(proxy.endpoint)
    start = etcd.revision()
    cursors = {"/a": start, "/b": start}
    seen = {}
    total = 2000
    finished = threading.Event()

    def write():
        for number in range(total // 2):
            etcd.put(f"/a/{number}", "x" * 50)
            etcd.put(f"/b/{number}", "y" * 5000 if number % 10 == 0 else "y")
            if number % 100 == 50:
                proxy.reset()
        finished.set()

    writer = threading.Thread(target=write)
    writer.start()
    reconnects = -1
    deadline = time.monotonic() + 60
    while len(seen) < total:
        assert time.monotonic() < deadline, f"missing: {total - len(seen)}"
        reconnects += 1
        try:
            stream = store.watch(dict(cursors))
            with closing(stream):
                for changes in stream:
                    assert changes.revision > cursors[changes.prefix]
                    cursors[changes.prefix] = changes.revision
                    for key, (revision, _) in changes.keys.items():
                        assert key not in seen, f"{key} came twice"
                        assert key.startswith(changes.prefix)
                        seen[key] = revision
                    if len(seen) == total:
                        break
        except WatchLost:
            raise
        except StoreError:
            continue
    writer.join()
    assert finished.is_set()
    assert reconnects >= 5
    assert len(set(seen.values())) == total


# --- nodes -----------------------------------------------------------------------------------------------------------


def test_a_node_that_works_is_found_among_those_that_do_not(etcd, silent, etcd_store):
    nodes = [f"127.0.0.1:{silent.port}", f"http://127.0.0.1:{free_port()}", "http://no-such.invalid", etcd.endpoint]
    for _ in range(4):
        store = etcd_store(*nodes, connect_timeout=1.0, read_timeout=1.0)
        revision = store.read(["/a"]).listings["/a"].revision
        store.watch({"/a": revision}).close()


def test_reads_begin_at_different_nodes(etcd, etcd_store):
    with FaultProxy(etcd.port) as one, FaultProxy(etcd.port) as two:
        for _ in range(40):
            etcd_store(one.endpoint, two.endpoint).read(["/a"])
        assert one.connections
        assert two.connections


def test_when_a_node_dies_the_next_call_uses_another(etcd, etcd_store):
    with FaultProxy(etcd.port) as one, FaultProxy(etcd.port) as two:
        store = etcd_store(one.endpoint, two.endpoint)
        store.read(["/a"])
        (one if one.connections else two).refuse()
        snapshot = store.read(["/a"])
        store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity).close()
        assert one.connections
        assert two.connections


@pytest.mark.parametrize(
    ("greeting", "match"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n", "not as etcd v3"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>\n</html>\n", "not as etcd v3"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "not as etcd v3"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{", "broken"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"", "broken"),
    ],
)
def test_what_is_not_an_etcd_is_said_in_one_line_with_a_hint(greeting, match, etcd_store):
    with closing(Silent(greeting or b" ")) as server:
        with pytest.raises(StoreError, match=match) as caught:
            etcd_store(f"127.0.0.1:{server.port}").read(["/a"])
        assert caught.value.hint
        assert "\n" not in str(caught.value)
        assert str(server.port) in str(caught.value)


def test_refused_connections_and_unknown_names_are_told_apart(etcd_store):
    with pytest.raises(StoreError, match=r"connection refused .*does the server run"):
        etcd_store(f"127.0.0.1:{free_port()}").read(["/a"])
    with pytest.raises(StoreError, match=r"no-such\.invalid"):
        etcd_store("no-such.invalid:2379").read(["/a"])


# --- nothing stays, nothing spins ------------------------------------------------------------------------------------


def test_nothing_stays_after_many_failures(silent, etcd_store):
    stores = [
        etcd_store(f"127.0.0.1:{silent.port}", connect_timeout=0.02, read_timeout=0.02),
        etcd_store(f"https://127.0.0.1:{silent.port}", connect_timeout=0.02, read_timeout=0.02),
        etcd_store(f"127.0.0.1:{free_port()}"),
    ]

    def fail():
        for store in stores:
            for call in (lambda s=store: s.read(["/a"]), lambda s=store: s.watch({"/a": 1})):
                with pytest.raises(StoreError):
                    call()

    def ours():
        return len(os.listdir("/proc/self/fd")) - len(silent.accepted)

    fail()
    wait_until(lambda: len(silent.accepted) == 4, what="the server has accepted all")
    threads, sockets = threading.active_count(), ours()
    for _ in range(20):
        fail()
    wait_until(lambda: len(silent.accepted) == 84, what="the server has accepted all")
    assert threading.active_count() == threads
    assert ours() == sockets


def test_a_quiet_stream_costs_no_time(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    stream = store.watch({"/a": etcd.revision()})
    call = Call(lambda: list(stream))
    before = resource.getrusage(resource.RUSAGE_SELF)
    call._thread.join(1)
    after = resource.getrusage(resource.RUSAGE_SELF)
    stream.close()
    call.end()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.2


def test_a_dead_peer_shows_by_keepalive(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    stream = store.watch({"/a": etcd.revision()})
    end = stream._stream._wire._end
    assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_the_store_is_read_through_a_restart_with_another_version_path(etcd, etcd_store):
    """A path that was learnt and is wrong now (an upgrade of etcd) is learnt again."""
    store = etcd_store(etcd.endpoint)
    store.read(["/a"])
    (node,) = store._paths
    store._paths[node] = "/v3alpha-gone/"
    with pytest.raises(StoreError, match="not as etcd v3"):
        store.read(["/a"])
    assert store.read(["/a"]).identity


def test_a_second_etcd_is_no_continuation_of_the_first(etcd, etcd_store):
    with Etcd() as other:
        snapshot = etcd_store(etcd.endpoint).read(["/a"])
        with pytest.raises(WatchLost, match="another etcd cluster"):
            etcd_store(other.endpoint).watch({"/a": 0}, snapshot.identity)
