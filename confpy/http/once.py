"""One request on a connection of its own: ``reload_http``, and the check of a registration."""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple
from urllib.parse import urlsplit

from confpy.http.addresses import Node
from confpy.http.connection import Connection, Describe
from confpy.http.deadlines import Deadlines


class Reply(NamedTuple):
    """What was answered."""

    status: int
    reason: str
    output: bytes
    """The beginning of the body, if it is not a 2xx."""


def request_once(method: str, url: str, timeout: float, describe: Describe, most: int) -> Reply:
    """Make a request, of ``timeout`` seconds as a whole; raises what ``describe`` makes of a failure.

    A Unix socket is written as ``http://unix:/path:/path``. ``most``: bytes of the body to return.
    """
    parts = urlsplit(url)
    file, _, path = parts.path.partition(":") if parts.netloc == "unix:" else ("", "", parts.path)
    is_tls = parts.scheme == "https" and not file
    node = Node(
        "https" if is_tls else "http", "localhost" if file else parts.hostname or "", parts.port or (80, 443)[is_tls]
    )
    trust = None
    if is_tls:
        from confpy.http.tls import Trust  # it loads ssl

        trust = Trust()
    target = f"{path or '/'}?{parts.query}" if parts.query else path or "/"
    with (
        closing(Deadlines()) as deadlines,
        closing(
            Connection(
                node,
                deadlines=deadlines,
                connect_timeout=timeout,
                answer_timeout=timeout,
                trust=trust,
                socket_file=file,
                describe=describe,
            )
        ) as connection,
        connection.bounded(),
    ):
        answer = connection.request(method, target, {"Connection": "close"})
        output = b"" if 200 <= answer.status < 300 else answer.read(most)
    return Reply(answer.status, answer.reason, output)
