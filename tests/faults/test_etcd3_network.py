"""The etcd v3 store on a network that fails: every wait ends, every connection can be cut, no change is missed."""

from __future__ import annotations

import resource
import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest

from confpy.errors import StoreError, WatchLost
from tests.background import Call
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.proxy import FaultProxy
from tests.stores.contract import silent, threads_and_descriptors
from tests.waiting import wait_until


@contextmanager
def saying(greeting):
    """A server that answers one request with these bytes: its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with listener.accept()[0] as end:
                end.recv(65536)
                end.sendall(greeting)

        call = Call(answer)
        yield listener.getsockname()[1]
        call.end()


# --- deadlines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_says_nothing_is_given_up_in_time(scheme, etcd_store):
    with silent() as (port, _):
        store = etcd_store(f"{scheme}://127.0.0.1:{port}", connect_timeout=0.5, read_timeout=0.5)
        for call in (lambda: store.read(["/a"]), lambda: store.poll(["/a"]), lambda: store.watch({"/a": 1})):
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
        store.poll(["/a"])
    etcd.thaw()
    revision = etcd.put("/a/x", "1")
    assert next(iter(stream)).revision == revision
    assert store.poll(["/a"]).newest == {"/a": revision}


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


def test_a_node_that_works_is_found_among_those_that_do_not(etcd, etcd_store):
    with silent() as (port, _):
        nodes = [f"127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}", "http://no-such.invalid", etcd.endpoint]
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
    with saying(greeting) as port:
        with pytest.raises(StoreError, match=match) as caught:
            etcd_store(f"127.0.0.1:{port}").read(["/a"])
        assert caught.value.hint
        assert "\n" not in str(caught.value)
        assert str(port) in str(caught.value)


def test_refused_connections_and_unknown_names_are_distinguished(etcd_store):
    with pytest.raises(StoreError, match=r"connection refused .*does the server run"):
        etcd_store(f"127.0.0.1:{free_port()}").read(["/a"])
    with pytest.raises(StoreError, match=r"no-such\.invalid"):
        etcd_store("no-such.invalid:2379").read(["/a"])


# --- nothing stays, nothing spins ------------------------------------------------------------------------------------


def test_nothing_stays_after_many_failures(etcd_store):
    with silent() as (port, _):
        stores = [
            etcd_store(f"127.0.0.1:{port}", connect_timeout=0.02, read_timeout=0.02),
            etcd_store(f"https://127.0.0.1:{port}", connect_timeout=0.02, read_timeout=0.02),
            etcd_store(f"127.0.0.1:{free_port()}"),
        ]

        def fail():
            for store in stores:
                for call in (lambda s=store: s.read(["/a"]), lambda s=store: s.watch({"/a": 1})):
                    with pytest.raises(StoreError):
                        call()

        fail()
        before = threads_and_descriptors()
        for _ in range(20):
            fail()
        assert threads_and_descriptors() == before


def test_a_quiet_stream_costs_no_time(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    stream = store.watch({"/a": etcd.revision()})
    call = Call(lambda: list(stream))
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(AssertionError, match="the call goes on"):
        call.end(1)
    after = resource.getrusage(resource.RUSAGE_SELF)
    stream.close()
    call.end()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.2


def test_a_dead_peer_shows_by_keepalive(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    stream = store.watch({"/a": etcd.revision()})
    end = stream._stream._connection._socket
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
