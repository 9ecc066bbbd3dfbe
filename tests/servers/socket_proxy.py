"""A read-only proxy before an engine's socket, as people put one there: four paths, GET, and new versions only.

It says that the engine speaks 1.52, refuses what is older than 1.44, and asks the engine in its own version.
"""

from __future__ import annotations

import re
import socket
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ALLOWED = re.compile(r"(/v1\.(\d+))?(/(?:_ping|version|events|containers/json|containers/[0-9a-f]+/json)(?:\?.*)?)")
OLDEST = 44


class _Upstream(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class SocketProxy:
    """Serves on a port of the loopback what it allows of the engine behind a socket."""

    def __init__(self, path: Path, version: str) -> None:
        self.path = path
        self.version = version
        self.refused: list[str] = []
        """Method and path of what was refused."""
        self.passed: set[str] = set()
        """The paths that were asked for, without version and query."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"tcp://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def send_error(self, *arguments: Any) -> None:
                """Also called for every method but GET."""
                proxy.refused.append(f"{self.command} {self.path}")
                super().send_error(*arguments)

            def do_GET(self) -> None:
                found = ALLOWED.fullmatch(self.path)
                if found is None or (found[2] and int(found[2]) < OLDEST):
                    self.send_error(403)
                    return
                proxy.passed.add(found[3].partition("?")[0])
                upstream = _Upstream(proxy.path)
                try:
                    upstream.request("GET", (f"/v{proxy.version}" if found[1] else "") + found[3])
                    answer = upstream.getresponse()
                    self.send_response_only(answer.status)
                    for name in ("Content-Type", "Date", "Server"):
                        if value := answer.getheader(name):
                            self.send_header(name, value)
                    self.send_header("Api-Version", "1.52")
                    self.send_header("Connection", "close")
                    self.end_headers()
                    while piece := answer.read1(65536):
                        self.wfile.write(piece)
                except OSError:
                    pass
                finally:
                    upstream.close()

        return Handler
