"""Answers of HTTP servers, as they are read from a socket."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.http.body import TooLarge, read_body
from confpy.http.response import Disconnected, NotHTTP, Response, request_bytes

HEAD = b"HTTP/1.1 200 OK\r\n"


def answer(raw: bytes, method: str = "GET") -> Response:
    """Return the answer that a server sends with these bytes, after which it ends the connection."""
    ours, theirs = socket.socketpair()
    with closing(theirs):
        theirs.sendall(raw)
    with closing(ours):
        response = Response(ours, method)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response


def body(raw: bytes, limit: int = 100_000) -> bytes:
    response = answer(raw)
    try:
        return read_body(response, limit)
    finally:
        response.close()


def chunked(data: bytes, sizes: list[int]) -> bytes:
    out = []
    for size in sizes:
        piece, data = data[:size], data[size:]
        if piece:
            out.append(b"%x;name=value\r\n%b\r\n" % (len(piece), piece))
    if data:
        out.append(b"%X\r\n%b\r\n" % (len(data), data))
    return b"".join(out) + b"0\r\nTrailer: x\r\n\r\n"


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), max_size=9), st.integers(1, 60))
def test_a_body_is_read_however_it_is_framed_and_in_whatever_pieces(data, sizes, piece):
    framed = {
        "length": b"Content-Length: %d\r\n\r\n%b" % (len(data), data),
        "chunks": b"Transfer-Encoding: chunked\r\n\r\n" + chunked(data, sizes),
        "end": b"\r\n" + data,
    }
    for kind, raw in framed.items():
        response = answer(HEAD + raw)
        found = b""
        while part := response.read(piece):
            assert len(part) <= piece
            found += part
        assert found == data, kind
        assert response.ended
        assert response.reusable == (kind != "end")


def test_the_head_is_read_with_names_in_any_case_repeated_and_folded_lines():
    response = answer(b"HTTP/1.1 404  Not  here \r\nA-b: 1\r\na-B:2 \r\nC: x\r\n  y\r\nContent-Length: 0\r\n\r\n")
    assert (response.status, response.reason) == (404, "Not  here")
    assert response.headers["A-B"] == response.headers.get("a-b") == "1, 2"
    assert response.headers.get("c") == "x, y"
    assert response.headers.get("other") is None
    with pytest.raises(KeyError):
        response.headers["other"]


@pytest.mark.parametrize("reason", [b"", b" ", b" OK", b" \xe9"])
def test_a_reason_may_be_missing(reason):
    response = answer(b"HTTP/1.1 204" + reason + b"\r\n\r\n")
    assert (response.status, response.ended) == (204, True)


def test_what_comes_before_the_answer_is_no_answer():
    raw = b"HTTP/1.1 100 Continue\r\nA: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    response = answer(raw + HEAD + b"Content-Length: 2\r\n\r\nok")
    assert (response.status, response.headers.get("A")) == (200, None)
    assert read_body(response, 10) == b"ok"


@pytest.mark.parametrize(
    ("raw", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close\r\n\r\nx", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\nx", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\nx", False),
        (b"HTTP/1.1 200 OK\r\n\r\nx", False),
    ],
)
def test_a_connection_serves_again_if_the_server_will_not_end_it(raw, reusable):
    response = answer(raw)
    assert read_body(response, 10) == b"x"
    assert response.reusable == reusable
    response.close()


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("CONNECT", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_that_has_no_body_is_over_after_its_head(method, status):
    response = answer(b"HTTP/1.1 %d OK\r\nContent-Length: 5\r\n\r\n" % status, method)
    assert response.ended
    assert response.read(5) == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n", b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.1 200 OK", b"\r\n",
        b"x" * 70_000, HEAD, HEAD + b"A: 1\r\n", HEAD + b"A: 1", HEAD + b"no colon\r\n\r\n", HEAD + b": 1\r\n\r\n",
        HEAD + b"A: " + b"x" * 70_000 + b"\r\n\r\n", HEAD + b"A: 1\r\n" * 101 + b"\r\n",
    ],
)  # fmt: skip
def test_what_is_no_head_is_an_error(raw):
    with pytest.raises(NotHTTP):
        answer(raw)


def test_a_connection_that_ends_without_an_answer_is_an_error_of_its_own():
    with pytest.raises(Disconnected):
        answer(b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Length: 5\r\n\r\nfour", b"Content-Length: 5\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\nfour",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nfour", b"Transfer-Encoding: chunked\r\n\r\n4\r\nfourX\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-4\r\nfour\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)  # fmt: skip
def test_a_body_that_is_broken_off_or_malformed_is_an_error(raw):
    with pytest.raises(NotHTTP):
        body(HEAD + raw)


def test_a_body_above_the_limit_is_too_large():
    with pytest.raises(TooLarge):
        body(HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000, limit=999)


def test_a_request_is_written_with_its_length():
    assert request_bytes("POST", "/a?b", {"Host": "h"}, b"{}") == (
        b"POST /a?b HTTP/1.1\r\nHost: h\r\nAccept-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert b"Content-Length: 0" in request_bytes("PUT", "/", {}, None)
    assert b"Content-Length" not in request_bytes("GET", "/", {}, None)


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/a b", {}), ("/a\r\nX: 1", {}), ("/", {"A": "1\r\nB: 2"}), ("/", {"A\n": ""}), ("/\0", {})],
)
def test_a_request_with_what_would_end_a_line_is_not_written(path, headers):
    with pytest.raises(ValueError, match="control character"):
        request_bytes("GET", path, headers, None)
