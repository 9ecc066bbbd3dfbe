"""The part of an engine's API that confpy uses, as a small HTTP server: for hundreds of containers, and for races.

What it answers has the form of what Docker 20.10 and Podman 4.3 do. The real ones are in ``docker``.
"""

from __future__ import annotations

import json
import re
import select
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

RUNNING = ("running", "paused", "restarting")


def container(name: str, number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a container as it is listed: with ``labels``, ``state``, ``networks`` (name → address), ``ports`` …"""
    networks = more.get("networks", {"bridge": f"172.17.{number // 250}.{number % 250 + 2}"})
    ports = [{"PrivatePort": port, "Type": "tcp"} if isinstance(port, int) else port for port in more.get("ports", ())]
    return {
        "Id": more.get("id", f"{number:064x}"),
        "Names": [f"/{name}", f"/other/{name}"],
        "Image": more.get("image", "web:1"),
        "Created": more.get("created", 1_700_000_000 + number),
        "Ports": ports,
        "Labels": more.get("labels", {}),
        "State": more.get("state", "running"),
        "Status": more.get("status", "Up 3 seconds"),
        "HostConfig": {"NetworkMode": more.get("mode", "default")},
        "NetworkSettings": {
            "Networks": {net: {"IPAddress": ip, "Gateway": "172.17.0.1"} for net, ip in networks.items()}
        },
    }


class Engine:
    """Lists what is in ``containers``, and sends what ``emit`` is given."""

    def __init__(self, *, version: str = "1.41", tls: ssl.SSLContext | None = None) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        """By id."""
        self.variables: dict[str, list[str]] = {}
        """Id → its environment."""
        self.version = version
        self.headers = {"Api-Version": version}
        """What each answer has."""
        self.requests: list[str] = []
        """Path and query of each, in order."""
        self.oldest = 0
        """The oldest minor version that is answered."""
        self.shows_events_late = False
        """Whether the head of the stream comes with its first event, as Podman's does."""
        self._streams: list[SimpleQueue[bytes | None]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def add(self, *items: dict[str, Any]) -> None:
        self.containers |= {item["Id"]: item for item in items}

    def emit(self, item: dict[str, Any], action: str, *, at: float | None = None) -> None:
        """Send an event about a container on every stream."""
        actor = {"ID": item["Id"], "Attributes": item["Labels"]}
        moment = time.time() if at is None else at
        event = {"Type": "container", "Action": action, "Actor": actor, "timeNano": int(moment * 1e9)}
        for stream in self._streams:
            stream.put(json.dumps(event).encode() + b"\n")

    def end_streams(self) -> None:
        """End every stream, as an engine does that stops."""
        for stream in self._streams:
            stream.put(None)

    def count(self, part: str) -> int:
        """How many requests have this in their path."""
        return sum(part in request for request in list(self.requests))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_streams()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, object]:
        """Return status and JSON for a path other than that of events."""
        parts = urlsplit(path)
        found = re.fullmatch(r"(?:/v1\.(\d+))?/(_ping|version|containers/json|containers/(\w+)/json)", parts.path)
        if found is None:
            return 404, {"message": "page not found"}
        if found[1] and int(found[1]) < self.oldest:
            return 400, {"message": f"client version 1.{found[1]} is too old. Minimum supported is 1.{self.oldest}"}
        if found[2] == "version":
            return 200, {"ApiVersion": self.version}
        if found[3]:
            one = self.containers.get(found[3])
            variables = self.variables.get(found[3], [])
            return (200, {**one, "Config": {"Env": variables}}) if one else (404, {"message": "no such container"})
        filters = json.loads(parse_qs(parts.query).get("filters", ["{}"])[0])
        healths = filters.get("health", ())
        return 200, [
            item
            for item in list(self.containers.values())
            if item["State"] in RUNNING and item["Id"] in filters.get("id", [item["Id"]])
            if not healths or item.get("health") in healths
        ]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                engine.requests.append(self.path)
                if "/events" in self.path:
                    engine._stream(self)
                    return
                status, said = engine._answer(self.path)
                body = b"OK" if "_ping" in self.path else json.dumps(said).encode()
                self.send_response_only(status)
                for name, value in {**engine.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        return Handler

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._streams.append(lines)
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        if not self.shows_events_late:
            handler.wfile.write(head)
            head = b""
        try:
            while True:
                try:
                    line = lines.get(timeout=0.1)
                except Empty:
                    if select.select([handler.connection], [], [], 0)[0]:  # the client has nothing to say: it has ended
                        break
                    continue
                if line is None:
                    break
                handler.wfile.write(head + b"%x\r\n%b\r\n" % (len(line), line))
                head = b""
            handler.wfile.write(head + b"0\r\n\r\n")
        except OSError:
            pass
        finally:
            self._streams.remove(lines)
            handler.close_connection = True
