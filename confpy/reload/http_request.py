"""The request that reloads a program: bounded as a whole, and cut off if the server is too slow."""

from __future__ import annotations

import contextlib
import http.client
import socket
from urllib.parse import urlsplit

from confpy.errors import ReloadError
from confpy.reload.context import Bounded
from confpy.reload.haproxy import LONGEST_SILENCE, connect, not_sent
from confpy.system.subprocesses import TAIL, for_people


def send_request(method: str, url: str, timeout: float, bounded: Bounded) -> None:
    """Make a request, of ``timeout`` seconds as a whole; raises ``ReloadError`` unless the answer is a 2xx."""
    parts = urlsplit(url)
    file, _, path = parts.path.partition(":") if parts.netloc == "unix:" else ("", "", parts.path)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind("localhost" if file else parts.hostname or "", parts.port, timeout=min(timeout, LONGEST_SILENCE))
    stream: socket.socket | None = None

    def exchange() -> tuple[int, bytes, bytes]:
        nonlocal stream
        with contextlib.closing(connection):
            if file:
                connection.sock = connect(file, timeout)
            else:
                connection.connect()
            stream = connection.sock
            target = f"{path or '/'}?{parts.query}" if parts.query else path or "/"
            connection.request(method, target, headers={"User-Agent": "confpy", "Connection": "close"})
            with connection.getresponse() as answer:
                good = 200 <= answer.status < 300
                return answer.status, answer.reason.encode(), b"" if good else answer.read(TAIL)

    try:
        status, reason, output = bounded(exchange, timeout)
    except http.client.HTTPException:
        raise ReloadError("the reload was not answered in HTTP", hint="is it the right port?") from None
    except OSError as error:
        if stream is not None:
            # A server that sends a byte now and then would hold the exchange open for ever.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(stream, socket.SHUT_RDWR)
        raise not_sent(error) from None
    if not 200 <= status < 300:
        where = {"output": said} if (said := for_people(output)) else {}
        raise ReloadError(f"the reload was answered with {status} {for_people(reason)[:200]}".rstrip(), **where)
