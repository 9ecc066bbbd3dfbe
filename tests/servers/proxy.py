"""A real TCP proxy on the loopback that fails in the ways in which networks do, and counts what passes."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import NamedTuple, Self

from tests.servers.ports import free_port

MERGE_SECONDS = 0.05
"""How long ``merge`` holds bytes back in wait for more."""


class FaultProxy:
    """Passes ``address``:``port`` on to 127.0.0.1:``target``, and misbehaves until ``heal``.

    What comes from the target is *down*, what goes to it is *up*. Faults apply to open and to new connections.
    """

    def __init__(self, target: int, *, address: str = "127.0.0.1") -> None:
        self.target = target
        self.address = address
        self.port = free_port()
        self.endpoint = f"http://{address}:{self.port}"
        self.connections = 0
        """How many connections were accepted."""
        self.requests: list[str] = []
        """Method and path of each HTTP request, in order."""
        self.bytes_down = 0
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._flow = threading.Event()
        self._flow.set()
        self._drip: _Drip | None = None
        self._piece: int | None = None
        self._merging = False
        self._listener: socket.socket | None = None
        self._listen()

    def count(self, path: str) -> int:
        """How many requests had a path that ends so, e.g. ``kv/txn``."""
        return sum(request.endswith(path) for request in list(self.requests))

    def open_connections(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._links)

    # --- faults ------------------------------------------------------------------------------------------------------

    def black_hole(self) -> None:
        """Take everything, pass nothing, and say nothing. ``heal`` passes on what was held, as TCP would."""
        self._flow.clear()

    def forget(self) -> None:
        """Be a black hole to the open connections alone, as a firewall that forgot them is; new ones work."""
        for link in self._snapshot():
            link.forgotten = True

    def inject(self, data: bytes) -> None:
        """Say ``data`` on every open connection, as if the server had."""
        for link in self._snapshot():
            with suppress(OSError):
                link.client.sendall(data)

    def reset(self) -> None:
        """Break every open connection with RST; new ones work."""
        for link in self._snapshot():
            link.reset()

    def half_close(self) -> None:
        """End the way down of every open connection with FIN; the way up stays."""
        for link in self._snapshot():
            link.half_close()

    def drip(self, bytes_per_second: float, *, only: str = "", head: bool = True) -> None:
        """Let the bytes down come one after another, this many a second.

        ``only`` is a regular expression: drip what follows a request whose method and path it finds. With ``head``
        false, the head of an answer comes at once, and its body drips.
        """
        self._drip = _Drip(bytes_per_second, re.compile(only), head)

    def split(self, size: int) -> None:
        """Pass what comes down in pieces of ``size`` bytes."""
        self._piece = size

    def merge(self) -> None:
        """Hold what comes down until 50 ms pass without more, and pass it as one."""
        self._merging = True

    def refuse(self) -> None:
        """Refuse new connections and reset the open ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset()

    def heal(self) -> None:
        """Stop misbehaving."""
        self._drip, self._piece, self._merging = None, None, False
        for link in self._snapshot():
            link.forgotten = False
        self._flow.set()
        if self._listener is None:
            self._listen()

    def close(self) -> None:
        """End everything; no thread or socket stays."""
        self._closed.set()
        self._flow.set()
        self.refuse()
        while self._threads:
            self._threads.pop().join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- traffic -----------------------------------------------------------------------------------------------------

    def _snapshot(self) -> list[_Link]:
        with self._lock:
            return list(self._links)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="fault-proxy", daemon=True)
        with self._lock:
            self._threads = [other for other in self._threads if other.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, self.port))
        listener.listen(1024)
        self._listener = listener
        self._start(self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _abort(client)
                continue
            link = _Link(client, server)
            with self._lock:
                self._links.add(link)
            self._start(self._pass_up, link)
            self._start(self._pass_down, link)

    def _pass_up(self, link: _Link) -> None:
        seen = _requests()
        next(seen)

        def note(data: bytes) -> None:
            requests = seen.send(data)
            self.requests.extend(requests)
            link.request = requests[-1] if requests else link.request

        self._pass(link, link.client, link.server, note)

    def _pass_down(self, link: _Link) -> None:
        def note(data: bytes) -> None:
            self.bytes_down += len(data)

        self._pass(link, link.server, link.client, note)

    def _pass(self, link: _Link, source: socket.socket, sink: socket.socket, note: Callable[[bytes], None]) -> None:
        down = sink is link.client
        try:
            while data := source.recv(65536):
                if down and self._merging:
                    data += _all_that_comes(source)
                for piece in self._pieces(link, data) if down else (data,):
                    note(piece)
                    self._gate(link)
                    sink.sendall(piece)
            self._gate(link)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            link.reset()
        finally:
            self._ended(link)

    def _gate(self, link: _Link) -> None:
        """Wait out a black hole; raise where the connection was broken meanwhile."""
        while (link.forgotten or not self._flow.is_set()) and not link.broken and not self._closed.is_set():
            self._closed.wait(0.02)
        if link.broken:
            raise ConnectionResetError

    def _pieces(self, link: _Link, data: bytes) -> Iterator[bytes]:
        while data:
            drip = self._drip if self._drip is not None and self._drip.only.search(link.request) else None
            head = data.find(b"\r\n\r\n") + 4 if data.startswith(b"HTTP/") else 0
            if drip is None:
                size = self._piece or len(data)
            elif head and not drip.head:
                size = head
            else:
                size = max(1, int(drip.rate / 20))
            yield data[:size]
            data = data[size:]
            if drip is not None and size != head:
                self._closed.wait(size / drip.rate)

    def _ended(self, link: _Link) -> None:
        """One way of the link ended; with the second one it is gone."""
        with self._lock:
            link.ways -= 1
            if link.ways:
                return
            self._links.discard(link)
        link.client.close()
        link.server.close()


class _Drip(NamedTuple):
    rate: float
    only: re.Pattern[str]
    head: bool


class _Link:
    """One connection: both its ends."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.ways = 2
        self.broken = False
        self.forgotten = False
        self.request = ""
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def reset(self) -> None:
        """Wake whoever reads the two; closed after that, they send RST."""
        self.broken = True
        for end in (self.client, self.server):
            _reset(end)

    def half_close(self) -> None:
        with suppress(OSError):
            self.client.shutdown(socket.SHUT_WR)


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)


def _abort(end: socket.socket) -> None:
    _reset(end)
    end.close()


def _all_that_comes(source: socket.socket) -> bytes:
    """Return what arrives until ``MERGE_SECONDS`` pass without anything."""
    data = b""
    source.settimeout(MERGE_SECONDS)
    try:
        while more := source.recv(65536):
            data += more
    except TimeoutError:
        pass
    finally:
        source.settimeout(None)
    return data


def _requests() -> Generator[list[str], bytes, None]:
    """Take the bytes of one way up, give the requests that each of them completes; be silent after what is no HTTP."""
    buffer = b""
    found: list[str] = []
    while True:
        buffer += yield found
        found = []
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end]
            words = head.split(b"\r\n", 1)[0].split(b" ")
            if len(words) != 3 or not words[2].startswith(b"HTTP/"):
                buffer = b""
                break
            found.append(f"{words[0].decode()} {words[1].decode('latin-1')}")
            length = re.search(rb"(?mi)^content-length:\s*(\d+)", head)
            rest = int(length.group(1)) if length else 0
            buffer = buffer[end + 4 :]
            while rest > len(buffer):
                rest -= len(buffer)
                buffer = yield found
                found = []
            buffer = buffer[rest:]
