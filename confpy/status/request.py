"""A request for the status: its head, parsed by the standard library, and whether it may be answered."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

from confpy.frozen import frozen

HEAD_BYTES = 16 << 10
"""The longest head of a request; browsers send some 1 KiB."""
METHODS = ("GET", "HEAD")
RESOLVER = "/etc/resolv.conf"
_END = re.compile(rb"\n\r?\n")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::\d{1,5})?")


@frozen
class Request:
    """What is asked for."""

    path: str
    query: frozenset[str]
    """The names in the query; their values mean nothing."""
    accept: str = ""
    etag: str = ""
    """The version that the client has (``If-None-Match``)."""
    is_head: bool = False


class Refused(Exception):
    """A request that is not answered. ``code``: HTTP's; ``reason``: one line for people."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def head_end(received: bytes | bytearray, since: int) -> int:
    """Return where the head ends in what was received, -1 while it goes on; ``since``: how much was searched before."""
    found = _END.search(received, max(0, since - 2))
    return found.end() if found else -1


def parse(head: bytes, hosts: frozenset[str] | None) -> Request:
    """Return the request of a whole head; raises ``Refused``.

    ``hosts``: the names by which the server may be called, besides IP addresses; None: by any. A page in a browser
    whose own name was made to mean this machine (DNS rebinding) sends that name.
    """
    parsed = _Head(head)
    if parsed.failure is not None:
        raise Refused(*parsed.failure)
    if parsed.command not in METHODS:
        raise Refused(405, "only GET and HEAD: nothing can be changed here")
    if not parsed.path.startswith("/"):
        raise Refused(400, "the target of the request is not a path")
    named = parsed.headers.get_all("Host", [])
    if len(named) > 1 or (not named and parsed.request_version not in ("HTTP/0.9", "HTTP/1.0")):
        raise Refused(400, "the request has no Host, or several")
    if hosts is not None and named and not _is_ours(named[0].strip(), hosts):
        raise Refused(421, "the request is for another host: add its name to -status-hosts if it is this one")
    try:
        parts = urlsplit(parsed.path)
        query = frozenset(parse_qs(parts.query, keep_blank_values=True, max_num_fields=16))
    except ValueError:
        raise Refused(400, "the target of the request is not a path") from None
    return Request(
        parts.path,
        query,
        accept=str(parsed.headers.get("Accept", "")),
        etag=str(parsed.headers.get("If-None-Match", "")),
        is_head=parsed.command == "HEAD",
    )


def own_hosts(more: tuple[str, ...], *, is_local: bool) -> frozenset[str]:
    """Return the names by which this machine may be called; ``is_local``: it is reached by nobody else."""
    names = {"localhost", *more}
    if not is_local:
        host = socket.gethostname()
        names |= {host, *(f"{host.partition('.')[0]}.{domain}" for domain in _domains())}
    return frozenset(name.lower().rstrip(".") for name in names if name)


def _domains() -> Iterator[str]:
    """Yield the domains in which this machine looks for names: its own name may be one of them (resolv.conf(5))."""
    with suppress(OSError), open(RESOLVER, encoding="utf-8", errors="replace") as file:
        for words in map(str.split, file):
            if words and words[0] in {"domain", "search"}:
                yield from words[1:]


def _is_ours(host: str, hosts: frozenset[str]) -> bool:
    matched = _HOST.fullmatch(host)
    if matched is None:
        return False
    bracketed, name = matched.groups()
    with suppress(ValueError):
        # The port may be another one (a tunnel, a container's), and so may the address: neither can be made to mean
        # this machine by somebody else.
        return bool(ipaddress.ip_address(bracketed or name))
    return bracketed is None and name.lower().rstrip(".") in hosts


class _Head(BaseHTTPRequestHandler):
    """The parser of ``http.server``, over the bytes of one head."""

    def __init__(self, head: bytes) -> None:  # no socket: the base class would serve one
        self.failure: tuple[int, str] | None = None
        self.client_address = ("", 0)
        self.rfile = BytesIO(head.lstrip(b"\r\n"))
        self.wfile = BytesIO()
        self.raw_requestline = self.rfile.readline()
        self.command = ""
        self.path = ""
        if not self.raw_requestline or not self.parse_request():
            self.failure = self.failure or (400, "not a request of HTTP")
        elif not self.command:
            self.failure = (400, "not a request of HTTP")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        # The parser's message repeats the request.
        self.failure = (int(code), "not a request of HTTP that is understood here")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: whoever can connect could fill the log."""
