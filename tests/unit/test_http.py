"""Node addresses, chunks and lines: what the HTTP of stores does without a network."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.errors import StoreError, UsageError, WatchLost
from confpy.http.addresses import Node, parse_nodes
from confpy.http.body import Chunks, Lines, read_body
from confpy.http.pool import KEEPALIVE, ROTATION_INTERVAL, Nodes, Wire
from tests.servers.ports import free_port
from tests.servers.web import Backend
from tests.waiting import wait_until


def nodes(*texts, **options):
    options = {"trust": None, "connect_timeout": 1.0, "read_timeout": 2.0, **options}
    return Nodes("test", parse_nodes(texts, scheme="http", port=2379), **options)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("db", "http://db:2379"),
        ("db:4001", "http://db:4001"),
        (" https://db:4001/ ", "https://db:4001"),
        ("http://db", "http://db:2379"),
        ("[::1]:4001", "http://[::1]:4001"),
        ("http://[fe80::1]", "http://[fe80::1]:2379"),
        ("::1", "http://[::1]:2379"),
        ("http://[::1]:4001/", "http://[::1]:4001"),
        ("2001:DB8::7", "http://[2001:db8::7]:2379"),
        ("10.0.0.1:2379", "http://10.0.0.1:2379"),
    ],
)
def test_a_node_is_read_in_every_spelling(text, url):
    (node,) = parse_nodes([text], scheme="http", port=2379)
    assert node.url == url


def test_the_scheme_is_for_nodes_that_have_none():
    found = parse_nodes(["a", "http://b"], scheme="https", port=1)
    assert [node.url for node in found] == ["https://a:1", "http://b:1"]


def test_a_node_given_twice_is_one():
    assert parse_nodes(["a", "http://a:1"], scheme="http", port=1) == (Node("http", "a", 1),)


@pytest.mark.parametrize(
    "text", ["", "http://", "tcp://db:1", "db:port", "db:99999", "http://db/v2", "unix:///x", "a..b", "[::1", "x" * 64]
)
def test_what_is_no_address_is_refused_with_a_hint(text):
    with pytest.raises(UsageError, match="not the address of a node") as caught:
        parse_nodes([text], scheme="http", port=2379)
    assert "host:port" in caught.value.hint


@pytest.mark.parametrize("text", ["fe80::1%eth0", "[fe80::1%eth0]:2379", "http://[fe80::1%25eth0]:2379"])
def test_a_scope_is_refused_by_name(text):
    with pytest.raises(UsageError, match="it has a scope"):
        parse_nodes([text], scheme="http", port=2379)


@pytest.mark.parametrize(
    "text", ["http://root:p%40s3cret@db:2379", "http://root:s3cret@db:2379", "root:s3cret@db:port"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(text):
    with pytest.raises(UsageError) as caught:
        parse_nodes([text], scheme="http", port=2379)
    assert "s3cret" not in str(caught.value)


def chunked(body: bytes, sizes: list[int]) -> bytes:
    out = []
    for size in sizes:
        piece, body = body[:size], body[size:]
        if piece:
            out.append(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece))
    if body:
        out.append(b"%X\r\n%s\r\n" % (len(body), body))
    return b"".join(out) + b"0\r\n\r\n"


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=9), st.lists(st.integers(1, 9), max_size=90))
def test_chunks_come_apart_however_their_bytes_are_cut(body, sizes, cuts):
    raw, chunks, found = chunked(body, sizes), Chunks(), b""
    for cut in [*cuts, len(raw)]:
        found += chunks.feed(raw[:cut])
        raw = raw[cut:]
    assert found == body
    assert chunks.ended


@pytest.mark.parametrize(
    "raw", [b"no number\r\n", b"x" * 2000, b"-5\r\n" + b"x" * 20, b"+3\r\nabc\r\n", b"1_0\r\n", b"1;aa1;" + b"a" * 2000]
)
def test_chunks_that_are_none_are_an_error(raw):
    with pytest.raises(StoreError, match="not HTTP"):
        Chunks().feed(raw)


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=9), st.integers(1, 30))
def test_lines_come_whole_however_they_are_cut(lines, size):
    data, cutter, found = b"".join(line + b"\n" for line in lines), Lines(1000), []
    for start in range(0, len(data), size):
        found += cutter.feed(data[start : start + size])
    assert found == [line for line in lines if line.strip()]


def test_a_line_above_the_limit_means_to_read_again():
    lines = Lines(10)
    assert lines.feed(b"1234567890\n1234") == [b"1234567890"]
    with pytest.raises(WatchLost, match="longer than"):
        lines.feed(b"5678901")


def test_proxies_of_the_environment_are_used_but_not_for_the_machine_itself(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    known = {}
    for text in ("db", "db.inside.example", "127.0.0.1", "localhost", "[::1]"):
        (node,) = parse_nodes([text], scheme="http", port=2379)
        wire = Wire(nodes(text), node)
        known[text] = wire.session.proxies
        wire.close()
    assert known.pop("db") == {"http": "http://proxy:3128"}
    assert set(map(str, known.values())) == {"{}"}


def test_every_node_is_tried_once_and_the_one_that_works_is_the_first_next_time():
    tried = []

    def turn(wire):
        tried.append(wire.node.host)
        if wire.node.host != "b":
            raise StoreError("down")
        return "answer"

    store = nodes("a", "b", "c")
    assert store.talk(turn) == "answer"
    assert len(tried) == len(set(tried))
    assert tried[-1] == "b"
    tried.clear()
    assert store.talk(turn) == "answer"
    assert tried == ["b"]


def test_the_error_of_many_nodes_names_each_and_its_reason():
    def turn(wire):
        raise StoreError(f"reason {wire.node.host}", hint="mend it")

    with pytest.raises(StoreError) as caught:
        nodes("a", "b").talk(turn)
    assert "http://a:2379: reason a" in str(caught.value)
    assert "http://b:2379: reason b" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint == "mend it"


def test_an_answer_that_every_node_would_give_is_not_asked_of_the_next_one():
    tried = []

    def turn(wire):
        tried.append(wire.node)
        raise WatchLost("compacted")

    with pytest.raises(WatchLost):
        nodes("a", "b").talk(turn)
    assert len(tried) == 1


def test_a_name_lookup_that_hangs_is_left_behind(monkeypatch):
    hanging = threading.Event()

    def getaddrinfo(*_, flags=0, **__):
        if flags:
            raise __import__("socket").gaierror(-2, "not a number")
        hanging.wait(10)
        return []

    monkeypatch.setattr("confpy.http.pool.socket.getaddrinfo", getaddrinfo)
    store = nodes("slow.example", connect_timeout=0.2)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"slow\.example could not be looked up"):
        store.talk(lambda wire: wire.dial("slow.example", 1))
    assert time.monotonic() - began < 1
    store = nodes("slow.example", connect_timeout=9)
    timer = threading.Timer(0.1, store.close)
    timer.start()
    with pytest.raises(StoreError, match="closed"):
        store.talk(lambda wire: wire.dial("slow.example", 1))
    assert time.monotonic() - began < 2
    hanging.set()


def test_nothing_begins_on_a_closed_store():
    store = nodes("a")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.talk(lambda wire: wire)


def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    store = nodes("db.example")

    def turn(wire):
        with wire.bounded():
            return wire.post("http://db.example:2379/", b"")

    with closing(store), pytest.raises(StoreError, match=rf"the proxy 127\.0\.0\.1:{port}: connection refused"):
        store.talk(turn)


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxied", [False, True])
def test_every_connection_is_kept_alive_also_by_a_proxy(proxied, monkeypatch):
    def turn(wire):
        with wire.bounded():
            response = wire.get(f"{wire.node.url}/", {})
            end = response.raw._fp.fp.raw._sock
            options = [end.getsockopt(level, getattr(socket, name)) for name, level, _ in KEEPALIVE]
            return read_body(response, 100), options

    with Backend("here") as server:
        if proxied:
            monkeypatch.setenv("http_proxy", f"http://{server.address}")
        with closing(nodes("db.example" if proxied else server.address)) as store:
            body, options = store.talk(turn)
    assert body == b"here"
    assert options == [value for *_, value in KEEPALIVE]


def test_a_node_is_reached_by_ipv6():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with closing(nodes(f"[::1]:{port}")) as store:
            store.talk(lambda wire: wire.dial(wire.node.host, wire.node.port).close())
            accepted, peer = listener.accept()
            accepted.close()
    assert peer[0] == "::1"


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_many_requests_at_once_share_one_thread_that_a_closed_store_ends():
    def turn(wire):
        with wire.bounded(600):
            under_way.wait()
            return [thread.name for thread in threading.enumerate()].count("confpy-deadlines")

    under_way = threading.Barrier(16)
    with closing(nodes("a")) as store, ThreadPoolExecutor(16) as pool:
        counts = [asked.result(10) for asked in [pool.submit(store.talk, turn) for _ in range(16)]]
    assert counts == [1] * 16
    wait_until(lambda: "confpy-deadlines" not in [thread.name for thread in threading.enumerate()])


# --- which node ------------------------------------------------------------------------------------------------------


def test_a_node_that_was_the_first_choice_for_long_gives_way_to_the_next():
    now = 0.0
    store = nodes("a", "b", "c", clock=lambda: now)
    used = []
    for _ in range(8):
        used.append(store.talk(lambda wire: wire.node.host))
        now += ROTATION_INTERVAL / 2 + 1
    assert used == ["a", "a", "b", "b", "c", "c", "a", "a"]


def test_who_took_over_from_a_node_that_failed_has_its_own_time():
    now = 0.0
    store = nodes("a", "b", clock=lambda: now)
    down = {"a"}

    def turn(wire):
        if wire.node.host in down:
            raise StoreError("down")
        return wire.node.host

    now += ROTATION_INTERVAL - 1
    assert store.talk(turn) == "b"
    down.clear()
    now += ROTATION_INTERVAL - 1
    assert store.talk(turn) == "b"
    now += 2
    assert store.talk(turn) == "a"
