"""The request that reloads a program."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import urlsplit

from confpy.errors import ReloadError
from confpy.http.addresses import Node
from confpy.http.connection import Connection
from confpy.http.deadlines import Deadlines
from confpy.http.response import Disconnected
from confpy.reload.haproxy import not_sent
from confpy.system.subprocesses import TAIL, for_people


def send_request(method: str, url: str, timeout: float) -> None:
    """Make a request, of ``timeout`` seconds as a whole; raises ``ReloadError`` unless the answer is a 2xx."""
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
                describe=_describe,
            )
        ) as connection,
        connection.bounded(),
    ):
        answer = connection.request(method, target, {"Connection": "close"})
        output = b"" if 200 <= answer.status < 300 else answer.read(TAIL)
    if not 200 <= answer.status < 300:
        where = {"output": said} if (said := for_people(output)) else {}
        reason = for_people(answer.reason.encode())[:200]
        raise ReloadError(
            f"the reload was answered with {answer.status} {reason}".rstrip(), kind=("HTTP", answer.status), **where
        )


def _describe(error: BaseException, _: Node) -> ReloadError:
    if isinstance(error, OSError) and not isinstance(error, Disconnected):
        return not_sent(error)
    return ReloadError("the reload was not answered in HTTP", hint="is it the right port?")
