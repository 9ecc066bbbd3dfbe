"""The server for the status: who may ask what, and that nobody keeps others out."""

from __future__ import annotations

import os
import socket
import stat
import threading

import pytest

from confpy.config.address import Address, parse_address
from confpy.errors import UsageError
from confpy.status import request as request_module
from confpy.status import server as serving
from confpy.status.listening import Listener
from confpy.status.request import HEAD_BYTES, Refused, head_end, own_hosts, parse
from confpy.status.response import text
from confpy.status.server import CONNECTIONS, StatusServer
from tests.servers.ports import free_port
from tests.waiting import wait_until

LOCAL = own_hosts((), is_local=True)


def head(path="/", *lines, method="GET", version="HTTP/1.1", host="localhost"):
    hosts = [f"Host: {host}"] if host else []
    return "\r\n".join([f"{method} {path} {version}", *hosts, *lines, "\r\n"]).encode()


def refusal(data, hosts=LOCAL):
    with pytest.raises(Refused) as caught:
        parse(data, hosts)
    return caught.value.code


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("127.0.0.1:9100", Address(host="127.0.0.1", port=9100)),
        ("9100", Address(host="127.0.0.1", port=9100)),
        (":9100", Address(host="", port=9100)),
        ("[::1]:9100", Address(host="::1", port=9100)),
        ("0.0.0.0:80", Address(host="0.0.0.0", port=80)),
        ("lb1.example.com:9100", Address(host="lb1.example.com", port=9100)),
        ("unix:/run/confpy/http.sock", Address(path="/run/confpy/http.sock")),
    ],
)
def test_an_address_is_read(written, meant):
    assert parse_address(written) == meant


@pytest.mark.parametrize(
    "written",
    ["", "unix:", "unix:http.sock", "localhost", "::1:9100", "a:0", "a:65536", "a:-1", "a:٣", "[x]:1", "a b:1"],
)
def test_what_is_no_address_is_none(written):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_address(written)


@pytest.mark.parametrize(
    ("written", "is_local"),
    [("9100", True), ("[::1]:1", True), ("localhost:1", True), ("unix:/a", True), (":1", False), ("10.0.0.1:1", False)],
)
def test_it_is_known_which_addresses_only_this_machine_reaches(written, is_local):
    assert parse_address(written).is_local is is_local


def test_a_socket_in_the_file_system_is_for_its_owner_alone_and_goes_with_the_server(tmp_path):
    path = tmp_path / "http.sock"
    listener = Listener(Address(path=str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listener.close()
    assert os.listdir(tmp_path) == []


def test_a_socket_that_nobody_listens_at_is_replaced_and_one_in_use_is_not(tmp_path):
    path = str(tmp_path / "http.sock")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    first = Listener(Address(path=path))
    with pytest.raises(UsageError, match="another process listens there"):
        Listener(Address(path=path))
    first.close()


def test_a_file_that_is_no_socket_stays(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(UsageError, match="a file that is no socket"):
        Listener(Address(path=str(path)))
    assert path.read_text() == "data"


def test_a_link_to_a_socket_is_not_followed(tmp_path):
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a file that is no socket"):
        Listener(Address(path=str(path)))


def test_a_socket_that_took_the_place_of_ours_stays(tmp_path):
    path = tmp_path / "http.sock"
    listener = Listener(Address(path=str(path)))
    path.unlink()
    path.write_text("another's")
    listener.close()
    assert path.exists()


def test_a_path_longer_than_the_kernel_takes_is_said_so(tmp_path):
    with pytest.raises(UsageError, match="cannot listen at unix:"):
        Listener(Address(path=f"{tmp_path}/{'x' * 120}"))


def test_a_port_in_use_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(UsageError, match="address already in use"):
        Listener(Address(host="127.0.0.1", port=other.getsockname()[1]))


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_request_is_read():
    request = parse(head("/readyz?strict&a=b", "If-None-Match: x", "Accept: text/plain", method="HEAD"), LOCAL)
    assert (request.path, request.query, request.etag, request.accept, request.is_head) == (
        "/readyz", {"strict", "a"}, "x", "text/plain", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:80", "127.0.0.1:9100", "10.1.2.3", "[::1]:9100", "localhost."]
)
def test_a_host_that_nobody_else_can_make_mean_this_machine_is_taken(host):
    assert parse(head(host=host), LOCAL).path == "/"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost:80:80",
        "a@localhost",
        "[evil]",
        "::1",
    ],
)
def test_a_name_that_was_made_to_mean_this_machine_is_refused(host):
    assert refusal(head(host=host)) == 421


def test_names_can_be_added_and_the_own_one_counts_where_others_can_connect():
    own = socket.gethostname()
    assert refusal(head(host=own), own_hosts((), is_local=True)) == 421 or own == "localhost"
    assert parse(head(host=f"{own}:9100"), own_hosts((), is_local=False))
    assert parse(head(host="lb.example.com"), own_hosts(("LB.example.com.",), is_local=True))


def test_the_own_name_counts_in_the_domains_of_the_resolver(monkeypatch, tmp_path):
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("# a comment\nnameserver 10.0.0.1\nsearch example.com Corp.example.\n\n")
    monkeypatch.setattr(request_module, "RESOLVER", str(resolver))
    monkeypatch.setattr(socket, "gethostname", lambda: "lb1.internal")
    hosts = own_hosts((), is_local=False)
    assert hosts == {"localhost", "lb1.internal", "lb1.example.com", "lb1.corp.example"}
    assert refusal(head(host="lb1.evil.example"), hosts) == 421
    resolver.unlink()
    assert own_hosts((), is_local=False) == {"localhost", "lb1.internal"}


def test_a_socket_in_the_file_system_takes_any_host():
    assert parse(head(host="whatever"), None)


def test_a_health_check_without_a_host_is_answered():
    assert parse(head(host="", version="HTTP/1.0"), LOCAL)
    assert refusal(head(host="")) == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_nothing_but_get_and_head_is_answered(method):
    assert refusal(head(method=method)) == 405


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n", b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / FTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", head("http://localhost/"), head("*"), head("/", "Host: localhost"),
        head("/" + "?" + "&".join(f"a{n}" for n in range(99))),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(data):
    assert 400 <= refusal(data) <= 505


def test_a_head_ends_at_its_empty_line_however_it_is_cut():
    data = head() + b"body"
    received = bytearray()
    for number, byte in enumerate(data):
        received.append(byte)
        found = head_end(received, number)
        assert found == (len(data) - 4 if number >= len(data) - 5 else -1) or number >= len(data) - 4
        if found > 0:
            break
    assert found == len(data) - 4


# --- the server ------------------------------------------------------------------------------------------------------


class Serving:
    """A server that answers each path with itself, and ``/later`` when ``release`` is called."""

    def __init__(self, address, hosts=LOCAL):
        self.listener = Listener(address)
        self.later = []
        self.failures = []
        self.server = StatusServer(self.listener, self.answer, hosts, tick=self.tick, failed=self.failures.append)
        self.released = threading.Event()

    def answer(self, request, reply):
        if request.path == "/bug":
            raise RuntimeError("a secret")
        if request.path == "/later":
            self.later.append(reply)
        else:
            reply(text(200, request.path))

    def tick(self, now):
        if self.released.is_set():
            for reply in self.later:
                reply(text(200, "at last"))
            self.later.clear()
        return now + 60

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.close()


@pytest.fixture
def serving_port():
    port = free_port()
    with Serving(Address(host="127.0.0.1", port=port)) as served:
        served.port = port
        yield served


def talk(port, data, *, ends=False):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        return read(connection)


def read(connection):
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def test_one_request_is_answered_and_the_connection_ends(serving_port):
    answer = talk(serving_port.port, head("/a") + head("/b"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n/a")
    assert b"Content-Security-Policy: default-src 'none'" in answer
    assert b"unsafe" not in answer


def test_a_head_is_asked_for_without_its_body(serving_port):
    answer = talk(serving_port.port, head("/abc", method="HEAD"))
    assert b"Content-Length: 4\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_refusal_names_nothing_of_the_request(serving_port):
    answer = talk(serving_port.port, head("/<script>", host="<b>evil"))
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"evil" not in answer
    assert b"script>" not in answer


def test_a_bug_in_an_answer_shows_no_value_and_ends_nothing(serving_port):
    answer = talk(serving_port.port, head("/bug"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert "RuntimeError" in str(serving_port.failures[0])
    assert talk(serving_port.port, head("/a")).endswith(b"/a")


def test_a_head_that_never_ends_is_cut(serving_port):
    answer = talk(serving_port.port, b"GET / HTTP/1.1\r\nX: " + b"x" * (HEAD_BYTES + 1))
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_an_answer_that_comes_later_holds_up_no_other(serving_port):
    with socket.create_connection(("127.0.0.1", serving_port.port), timeout=10) as waiting:
        waiting.sendall(head("/later"))
        wait_until(lambda: serving_port.later)
        assert talk(serving_port.port, head("/a")).endswith(b"/a")
        serving_port.released.set()
        serving_port.server.wake()
        assert read(waiting).endswith(b"at last")


def test_a_client_that_went_away_is_not_missed(serving_port):
    with socket.create_connection(("127.0.0.1", serving_port.port), timeout=10) as waiting:
        waiting.sendall(head("/later"))
        wait_until(lambda: serving_port.later)
    serving_port.released.set()
    serving_port.server.wake()
    wait_until(lambda: not serving_port.later)
    assert talk(serving_port.port, head("/a")).endswith(b"/a")
    assert serving_port.failures == []


def test_a_thousand_connections_that_say_nothing_keep_nobody_out(serving_port):
    idle = [socket.create_connection(("127.0.0.1", serving_port.port), timeout=10) for _ in range(1000)]
    try:
        assert talk(serving_port.port, head("/a")).endswith(b"/a")
        assert len(serving_port.server._connections) <= CONNECTIONS
    finally:
        for connection in idle:
            connection.close()


def test_who_dribbles_is_cut_off(monkeypatch):
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    port = free_port()
    with Serving(Address(host="127.0.0.1", port=port)), socket.create_connection(("127.0.0.1", port)) as slow:
        slow.settimeout(0.01)
        slow.sendall(b"GET / HTTP/1.1\r\n")

        def is_cut():
            try:
                slow.sendall(b"x")
                return slow.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(is_cut, what="the connection is cut")


def test_who_reads_nothing_is_cut_off(monkeypatch):
    monkeypatch.setattr(serving, "SEND_SECONDS", 0.2)
    port = free_port()
    with Serving(Address(host="127.0.0.1", port=port)) as served:
        served.answer = served.server._answer = lambda _, reply: reply(text(200, "x" * (32 << 20)))
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(head("/"))
            wait_until(lambda: not served.server._connections and served.server._thread.is_alive())


def test_a_body_is_not_waited_for(serving_port):
    answer = talk(serving_port.port, head("/", "Content-Length: 1000000", method="POST") + b"x" * 100_000)
    assert answer.startswith(b"HTTP/1.1 405 ")


def test_it_serves_on_a_socket_in_the_file_system(tmp_path):
    path = str(tmp_path / "s")
    with Serving(Address(path=path), hosts=None), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(head("/a", host="x"))
        assert read(connection).endswith(b"/a")
    assert not os.path.exists(path)


def test_the_server_goes_on_where_no_descriptor_is_left(serving_port, monkeypatch):
    monkeypatch.setattr(serving, "RETRY_SECONDS", 0.05)
    real, calls = serving_port.listener.socket, []

    class Exhausted:
        def __init__(self, listener):
            self.listener = listener

        def accept(self):
            calls.append(1)
            if len(calls) == 1:
                raise OSError(24, "Too many open files")
            return self.listener.accept()

        def __getattr__(self, name):
            return getattr(self.listener, name)

    serving_port.server._listener.socket = exhausted = Exhausted(real)
    serving_port.server._selector.modify(real, 1)
    key = serving_port.server._selector.get_key(real)
    serving_port.server._selector._fd_to_key[key.fd] = key._replace(fileobj=exhausted)
    assert talk(serving_port.port, head("/a")).endswith(b"/a")
    assert len(calls) >= 2
