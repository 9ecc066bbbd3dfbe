"""Node addresses, chunks and lines: what the HTTP of stores does without a network."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.errors import StoreError, UsageError, WatchLost
from confpy.http import response
from confpy.http.addresses import Node, parse_nodes, proxy_of
from confpy.http.body import Chunks, Lines, TooLarge, read_body
from confpy.http.connection import KEEPALIVE, Connection
from confpy.http.deadlines import Deadlines
from confpy.http.endpoints import ROTATION_INTERVAL, Endpoints
from confpy.http.errors import FOREIGN, describe_error
from confpy.http.tls import Trust
from tests.servers.authority import Authority
from tests.servers.ports import free_port
from tests.servers.proxy import FaultProxy
from tests.servers.web import Backend
from tests.waiting import wait_until


def endpoints(*texts, **options):
    options = {"trust": None, "connect_timeout": 1.0, "read_timeout": 2.0, **options}
    return Endpoints("test", parse_nodes(texts, scheme="http", port=2379), **options)


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
        ("unix:///run/db.sock", "unix:///run/db.sock"),
        ("unix:/run/db.sock", "unix:///run/db.sock"),
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
    "text", ["", "http://", "tcp://db:1", "db:port", "db:99999", "http://db/v2", "unix//x", "a..b", "[::1", "x" * 64]
)
def test_what_is_no_address_is_refused_with_a_hint(text):
    with pytest.raises(UsageError, match="not the address of a node") as caught:
        parse_nodes([text], scheme="http", port=2379)
    assert "host:port" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:run/db.sock", "is not the address of a Unix socket"),
        ("unix://", "is not the address of a Unix socket"),
        ("unix:///run/\ndb", "is not the address of a Unix socket"),
        ("unix:///" + "x" * 107, "is longer than 107 bytes"),
    ],
)
def test_what_is_no_path_of_a_socket_is_refused(text, expected):
    with pytest.raises(UsageError, match=expected):
        parse_nodes([text], scheme="http", port=2379)


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
    monkeypatch.setenv("https_proxy", "user:p%40ss@secure-proxy")
    monkeypatch.setenv("no_proxy", "inside.example")
    found = {}
    for text in ("db", "https://db", "db.inside.example", "127.0.0.1", "localhost", "[::1]"):
        (node,) = parse_nodes([text], scheme="http", port=2379)
        found[text] = proxy_of(node)
    plain, secure = found.pop("db"), found.pop("https://db")
    assert (plain.node, plain.authorization) == (Node("http", "proxy", 3128), "")
    assert (secure.node, secure.authorization) == (Node("http", "secure-proxy", 80), "Basic dXNlcjpwQHNz")
    assert set(found.values()) == {None}


@pytest.mark.parametrize("address", ["socks5://user:s3cret@proxy:1080", "https://user:s3cret@proxy", "http://:s3cret@"])
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable_alone(monkeypatch, address):
    monkeypatch.setenv("http_proxy", address)
    with pytest.raises(StoreError, match=r"^the variable http_proxy does not name a proxy") as caught:
        proxy_of(Node("http", "db", 2379))
    assert "s3cret" not in str(caught.value)


def test_every_node_is_tried_once_and_the_one_that_works_is_the_first_next_time():
    tried = []

    def call(connection):
        tried.append(connection.node.host)
        if connection.node.host != "b":
            raise StoreError("down")
        return "answer"

    store = endpoints("a", "b", "c")
    assert store.with_failover(call) == "answer"
    assert len(tried) == len(set(tried))
    assert tried[-1] == "b"
    tried.clear()
    assert store.with_failover(call) == "answer"
    assert tried == ["b"]


def test_the_error_of_many_nodes_names_each_and_its_reason():
    def call(connection):
        raise StoreError(f"reason {connection.node.host}", hint="mend it")

    with pytest.raises(StoreError) as caught:
        endpoints("a", "b").with_failover(call)
    assert "http://a:2379: reason a" in str(caught.value)
    assert "http://b:2379: reason b" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint == "mend it"


def test_an_answer_that_every_node_would_give_is_not_asked_of_the_next_one():
    tried = []

    def call(connection):
        tried.append(connection.node)
        raise WatchLost("compacted")

    with pytest.raises(WatchLost):
        endpoints("a", "b").with_failover(call)
    assert len(tried) == 1


def ask(connection, limit=100):
    with connection.bounded():
        return read_body(connection.get("/"), limit)


def test_a_name_lookup_that_hangs_is_abandoned(monkeypatch):
    hanging = threading.Event()

    def getaddrinfo(*_, flags=0, **__):
        if flags:
            raise socket.gaierror(-2, "not a number")
        hanging.wait(10)
        return []

    monkeypatch.setattr("confpy.http.connection.socket.getaddrinfo", getaddrinfo)
    store = endpoints("slow.example", connect_timeout=0.2)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"slow\.example could not be looked up"):
        store.with_failover(ask)
    assert time.monotonic() - began < 1
    store.close()
    store = endpoints("slow.example", connect_timeout=9, read_timeout=9)
    timer = threading.Timer(0.1, store.close)
    timer.start()
    with pytest.raises(StoreError, match="closed"):
        store.with_failover(ask)
    assert time.monotonic() - began < 2
    hanging.set()


def test_nothing_begins_on_a_closed_store():
    store = endpoints("a")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.with_failover(lambda connection: connection)


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxied", [False, True])
def test_every_connection_has_keepalive_also_by_a_proxy(proxied, monkeypatch):
    def call(connection):
        body = ask(connection)
        end = connection._socket
        return body, [end.getsockopt(level, getattr(socket, name)) for name, level, _ in KEEPALIVE]

    with Backend("here") as server:
        if proxied:
            monkeypatch.setenv("http_proxy", f"http://{server.address}")
        with closing(endpoints("db.example" if proxied else server.address)) as store:
            body, options = store.with_failover(call)
    assert body == b"here"
    assert options == [value for *_, value in KEEPALIVE]


def test_a_node_is_reached_by_ipv6():
    with Backend("here", host="::1") as server, closing(endpoints(f"[::1]:{server.port}")) as store:
        assert store.with_failover(ask) == b"here"


def test_requests_in_a_row_share_a_connection_until_the_server_ends_it():
    def call(connection):
        for _ in range(3):
            assert ask(connection) == b"here"
        assert proxy.connections == 1
        proxy.reset()
        wait_until(connection.arrived, what="the end of the connection")
        assert ask(connection) == b"here"
        connection.get("/")  # whose body nobody reads
        assert ask(connection) == b"here"
        connection.send("GET", "/", {})  # whose answer nobody reads
        assert ask(connection) == b"here"
        connection.send("GET", "/", {})
        assert read_body(connection.receive(), 100) == b"here"
        return proxy.connections

    with (
        Backend("here", keep_alive=True) as server,
        FaultProxy(server.port) as proxy,
        closing(endpoints(proxy.endpoint)) as store,
    ):
        assert store.with_failover(call) == 4


def test_an_answer_to_what_was_sent_is_not_waited_for_once_the_connection_is_closed():
    def call(connection):
        connection.send("GET", "/", {})
        connection.close()
        with pytest.raises(StoreError, match="closed"), connection.bounded():
            connection.receive()
        return True

    with Backend("here") as server, closing(endpoints(f"127.0.0.1:{server.port}")) as store:
        assert store.with_failover(call)


def test_the_rest_of_an_answer_that_was_too_large_is_not_taken_for_the_next_one():
    piece = 65536
    rest = threading.Event()

    class Large(socketserver.StreamRequestHandler):
        """Its first connection sends a part of an answer, and the rest when it is asked for more."""

        def handle(self):
            while self.rfile.readline().strip():
                pass
            if rest.is_set():
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere")
                return
            rest.set()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 2 * piece)
            if self.rfile.readline():
                self.wfile.write(b"x" * piece)

    def call(connection):
        with pytest.raises(TooLarge):
            ask(connection, piece)
        assert not connection.arrived()
        return ask(connection)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Large) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with closing(endpoints(f"127.0.0.1:{server.server_address[1]}")) as store:
                assert store.with_failover(call) == b"here"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("ending", ["abort", "close"])
def test_a_connection_is_ended_by_any_thread_and_raises_why(ending):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        deadlines = Deadlines()
        at = Node("http", "127.0.0.1", silent.getsockname()[1])
        connection = Connection(at, deadlines=deadlines, connect_timeout=5.0, answer_timeout=60.0)
        end = partial(connection.abort, StoreError("enough")) if ending == "abort" else connection.close
        threading.Timer(0.1, end).start()
        began = time.monotonic()
        with pytest.raises(StoreError, match="enough" if ending == "abort" else "closed"):
            ask(connection)
        assert time.monotonic() - began < 2
        connection.close()
        connection.close()
        with pytest.raises(StoreError):
            ask(connection)
        deadlines.close()


# --- proxies ---------------------------------------------------------------------------------------------------------


def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    with (
        closing(endpoints("db.example")) as store,
        pytest.raises(StoreError, match=rf"the proxy 127\.0\.0\.1:{port}: connection refused"),
    ):
        store.with_failover(ask)


@contextmanager
def tunnelling(status, asked, to=None):
    """Serve one CONNECT, with that status, and pass on what follows it."""

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self):
            while (line := self.rfile.readline().strip()) != b"":
                asked.append(line.decode())
            self.wfile.write(b"HTTP/1.1 %d Whatever\r\n\r\n" % status)
            if to is not None:
                with socket.create_connection(("127.0.0.1", to)) as target:
                    back = threading.Thread(target=pump, args=(target, self.connection))
                    back.start()
                    pump(self.connection, target)
                    back.join()

    def pump(source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_tls_goes_through_a_proxy_in_a_tunnel_with_the_login_for_it(monkeypatch, tmp_path):
    authority, asked = Authority(tmp_path), []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("db", "DNS:db.example"))
    with Backend("here", context) as server, tunnelling(200, asked, server.port) as port:
        monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}")
        trust = Trust(ca=str(authority.ca))
        with closing(endpoints("https://db.example:2379", trust=trust)) as store:
            assert store.with_failover(ask) == b"here"
    assert asked == [
        "CONNECT db.example:2379 HTTP/1.1",
        "Host: db.example:2379",
        "Proxy-Authorization: Basic bWU6c2VjcmV0",
    ]


def test_a_proxy_that_opens_no_tunnel_is_named_with_its_answer(monkeypatch):
    with tunnelling(407, []) as port:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
        with (
            closing(endpoints("https://db.example", trust=Trust())) as store,
            pytest.raises(StoreError, match=rf"the proxy 127\.0\.0\.1:{port}: it does not connect.*HTTP 407"),
        ):
            store.with_failover(ask)


# --- errors ----------------------------------------------------------------------------------------------------------


def every(kind):
    """The class and all that are derived from it."""
    yield kind
    for below in kind.__subclasses__():
        yield from every(below)


FOREIGN_CLASSES = sorted(
    {
        kind
        for root in FOREIGN
        for kind in every(root)
        if kind.__module__ in ("builtins", "socket", "ssl", "confpy.http.response", "confpy.http.errors")
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", FOREIGN_CLASSES)
def test_every_error_of_the_system_of_tls_and_of_http_is_described_for_people(kind):
    arguments = {
        "Disconnected": ("s3cret",),
        "NotHTTP": ("s3cret",),
        "TunnelRefused": (403,),
        "NoAddress": (),
    }
    made = kind(*arguments.get(kind.__name__, (2.0,) if kind.__module__ == "confpy.http.errors" else (5, "Reason")))
    if isinstance(made, ssl.SSLCertVerificationError):
        made.verify_message = "self-signed certificate"
    described = describe_error(made, Node("http", "db", 2379))
    assert type(described) is StoreError
    assert "the request failed" not in described.message
    assert "s3cret" not in str(described)
    assert "\n" not in str(described)


def test_the_map_of_errors_covers_the_modules_that_a_connection_is_built_on():
    names = {kind.__name__ for kind in FOREIGN_CLASSES}
    assert {kind.__name__ for kind in vars(response).values() if is_error(kind)} <= names
    assert {kind.__name__ for kind in vars(ssl).values() if is_error(kind)} <= names
    assert {"gaierror", "herror", "ConnectionResetError", "BrokenPipeError", "TimeoutError"} <= names


def is_error(what):
    return isinstance(what, type) and issubclass(what, (OSError, response.NotHTTP))


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_many_requests_at_once_share_one_thread_that_a_closed_store_ends():
    def call(connection):
        with connection.bounded(600):
            under_way.wait()
            return [thread.name for thread in threading.enumerate()].count("confpy-deadlines")

    under_way = threading.Barrier(16)
    with closing(endpoints("a")) as store, ThreadPoolExecutor(16) as pool:
        counts = [asked.result(10) for asked in [pool.submit(store.with_failover, call) for _ in range(16)]]
    assert counts == [1] * 16
    wait_until(lambda: "confpy-deadlines" not in [thread.name for thread in threading.enumerate()])


# --- which node ------------------------------------------------------------------------------------------------------


def test_a_node_that_was_the_first_choice_for_long_gives_way_to_the_next():
    now = 0.0
    store = endpoints("a", "b", "c", clock=lambda: now)
    used = []
    for _ in range(8):
        used.append(store.with_failover(lambda connection: connection.node.host))
        now += ROTATION_INTERVAL / 2 + 1
    assert used == ["a", "a", "b", "b", "c", "c", "a", "a"]


def test_who_took_over_from_a_node_that_failed_has_its_own_time():
    now = 0.0
    store = endpoints("a", "b", clock=lambda: now)
    down = {"a"}

    def call(connection):
        if connection.node.host in down:
            raise StoreError("down")
        return connection.node.host

    now += ROTATION_INTERVAL - 1
    assert store.with_failover(call) == "b"
    down.clear()
    now += ROTATION_INTERVAL - 1
    assert store.with_failover(call) == "b"
    now += 2
    assert store.with_failover(call) == "a"
