"""Stores that lie: a proxy that hides the keys of a real one, as if it had lost them, and one whose keys never end."""

from __future__ import annotations

import http.client
import json
import threading
from base64 import b64encode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class _Server:
    """A server on a free port of the loopback."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="faulty-server", kwargs={"poll_interval": 0.05}
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HidingProxy(_Server):
    """Passes requests on to 127.0.0.1:``target``; while ``hides``, all that it is asked for is not there."""

    def __init__(self, target: int) -> None:
        self.hides = False
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._pass(self, target)

            def do_POST(self) -> None:
                proxy._pass(self, target)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)

    def _pass(self, handler: BaseHTTPRequestHandler, target: int) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        server = http.client.HTTPConnection("127.0.0.1", target)
        try:
            server.request(handler.command, handler.path, body, dict(handler.headers))
            answer = server.getresponse()
            stream = "/watch" in handler.path
            content = b"" if stream else answer.read()
            status = answer.status
            if self.hides and not stream:
                status, content = _hidden(handler.path, status, content)
            handler.send_response(status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP:
                    handler.send_header(name, value)
            if stream:
                handler.send_header("Transfer-Encoding", "chunked")
                handler.end_headers()
                while piece := answer.read1(65536):
                    handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                handler.wfile.write(b"0\r\n\r\n")
            else:
                handler.send_header("Content-Length", str(len(content)))
                handler.end_headers()
                handler.wfile.write(content)
        except (OSError, http.client.HTTPException):
            handler.close_connection = True
        finally:
            server.close()


class Endless(_Server):
    """Answers reads as etcd v3 does, ``keys`` at a time with values of ``size`` bytes, and there is always more."""

    def __init__(self, prefix: str, *, keys: int, size: int) -> None:
        self.pages = 0
        endless = self
        value = b64encode(bytes(size)).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._say({"etcdserver": "3.5.0", "etcdcluster": "3.5.0"})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                numbers = range(endless.pages * keys, (endless.pages + 1) * keys)
                endless.pages += 1
                names = [b64encode(f"{prefix}/{number:09}".encode()).decode() for number in numbers]
                found = {"kvs": [{"key": name, "value": value} for name in names], "more": True}
                header = {"cluster_id": "1", "revision": "9"}
                self._say({"header": header, "succeeded": True, "responses": [{"response_range": found}]})

            def _say(self, answer: dict[str, Any]) -> None:
                content = json.dumps(answer).encode()
                with suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)


def _hidden(path: str, status: int, content: bytes) -> tuple[int, bytes]:
    """Return the answer as it would be without any key."""
    if path.startswith("/v1/kv/"):
        return 404, b""
    with suppress(ValueError):
        return status, json.dumps(_without_keys(json.loads(content))).encode()
    return status, content


def _without_keys(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: _without_keys(value) for name, value in answer.items() if name not in {"kvs", "count", "more"}}
    return [_without_keys(one) for one in answer] if isinstance(answer, list) else answer
