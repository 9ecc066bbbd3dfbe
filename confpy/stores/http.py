"""HTTP for stores: several nodes, a deadline on everything, and connections that can be cut from any thread.

``Session.close()`` and ``socket.close()`` wake nobody who waits in ``recv``; ``shutdown`` on the socket does. So every
socket is recorded before it connects, and closing a store, like a deadline that runs out, is one thing: a *cut*. That
also bounds a body that drips, which the timeouts of requests do not.
"""

from __future__ import annotations

import ipaddress
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from io import BufferedReader
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from confpy.errors import StoreError, StoreRefused, UsageError
from confpy.settings import Settings, read_text
from confpy.stores import WatchLost

Result = TypeVar("Result")
_Addresses: TypeAlias = list[tuple[Any, ...]]

_PIECE = 65536
_HEAD_BYTES = 1024
# A quiet stream has no read timeout. Its death shows after 30 s + 3 × 10 s without an answer from the other kernel.
_KEEPALIVE = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_NODELAY", socket.IPPROTO_TCP, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 30),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 10),
    ("TCP_KEEPCNT", socket.IPPROTO_TCP, 3),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, 60_000),
)


class TooLarge(StoreError):
    """An answer is larger than the caller wants to hold."""


# --- nodes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """Where one server of the store listens."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Its address as people write it."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_nodes(texts: Sequence[str], *, scheme: str, port: int) -> tuple[Node, ...]:
    """Read ``host``, ``host:port`` or ``scheme://host:port`` (IPv6 in brackets); raises ``UsageError``."""
    return tuple(dict.fromkeys(_parse_node(text.strip(), scheme, port) for text in texts))


def _parse_node(text: str, scheme: str, port: int) -> Node:
    with suppress(ValueError):
        return Node(scheme, str(ipaddress.IPv6Address(text)), port)  # bare, without brackets
    if "@" in text:  # not shown: what stands before it may be a password
        raise UsageError("the address of a node holds a user or a password", hint="give them by their own settings")
    with suppress(ValueError):
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        if parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/") and not parts.query:
            return Node(parts.scheme, parts.hostname, parts.port or port)
    raise UsageError(f"{text!r} is not the address of a node", hint="write host:port or http://host:port")


def trust(
    *, ca: str | None = None, cert: str | None = None, key: str | None = None, insecure: bool = False
) -> ssl.SSLContext:
    """Return what TLS trusts (the machine's CAs where no ``ca`` is given) and shows; raises ``UsageError``."""
    if key and not cert:
        raise UsageError("a client key is given without its certificate", hint="give the certificate, too")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            f"the CA file cannot be used: {error.strerror or error}", hint="it must be readable and PEM", file=ca or ""
        ) from error
    if cert:
        try:
            context.load_cert_chain(cert, key, password="")  # no prompt for the passphrase of an encrypted key
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the client certificate cannot be used: {getattr(error, 'strerror', None) or error}",
                hint="certificate and key must be readable, PEM, without a passphrase, and belong together",
                file=cert,
            ) from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user asked for it by name
    return context


def secret(text: str | None, file: str | None) -> str | None:
    """Return what stands in the file where one is given, else ``text``; raises ``UsageError``."""
    found = read_text(file).strip() if file else text
    if found and not found.isprintable():
        raise UsageError("a password or a token is not printable text", **({"file": file} if file else {}))
    return found


def basic_auth(settings: Settings) -> tuple[bytes, bytes] | None:
    """Return user and password, where logging in by them is wanted; raises ``UsageError``."""
    if not settings.basic_auth:
        return None
    password = secret(settings.password, settings.password_file)
    return (settings.username or "").encode(), (password or "").encode()


def open_nodes(store: str, settings: Settings, *, default: Sequence[str], port: int, scheme: str = "") -> Nodes:
    """Return the nodes that the settings name, else the ``default`` ones; raises ``UsageError``.

    ``scheme`` is for those whose address says none; empty: that of the settings.
    """
    nodes = parse_nodes(settings.nodes or default, scheme=scheme or settings.scheme, port=port)
    tls = None
    if any(node.scheme == "https" for node in nodes):
        tls = trust(
            ca=settings.client_ca_keys,
            cert=settings.client_cert,
            key=settings.client_key,
            insecure=settings.client_insecure,
        )
    timeouts = {"connect_timeout": settings.connect_timeout, "read_timeout": settings.read_timeout}
    return Nodes(store, nodes, tls=tls, **timeouts)


def etcd_scheme(settings: Settings) -> str:
    """Return the scheme of etcd's nodes: as with confd, a CA or a certificate means TLS."""
    return "https" if settings.client_ca_keys or settings.client_cert else settings.scheme


class Nodes:
    """The nodes of one store: tried in turn from a random one on, with all their connections in reach of ``close``."""

    def __init__(
        self,
        store: str,
        nodes: Sequence[Node],
        *,
        tls: ssl.SSLContext | None,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        """``store`` is its name in errors; the timeouts are seconds, ``read_timeout`` bounds a request as a whole.

        ``tls`` is what ``trust`` made, and may be None where no node speaks TLS.
        """
        self.store = store
        self.tls = tls
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._nodes = random.sample(list(nodes), len(nodes))
        self._next = 0
        self._wires: set[Wire] = set()
        self._closed = False
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def talk(self, turn: Callable[[Wire], Result], *, keep: bool = False) -> Result:
        """Return what ``turn`` makes of a fresh wire to a node that works; the next call begins with that node.

        A node is tried once, and none after three times the timeouts of one. ``WatchLost`` and ``StoreRefused`` are
        answers, and end it; any other ``StoreError`` is a reason to try the next node. With ``keep`` the wire stays
        open, and is the caller's to close.
        """
        tried: list[tuple[Node, StoreError]] = []
        deadline = time.monotonic() + 3 * (self.connect_timeout + self.read_timeout)
        first = self._next
        for turns in range(len(self._nodes)):
            if tried and time.monotonic() > deadline:
                break
            position = (first + turns) % len(self._nodes)
            wire = self._open(self._nodes[position])
            try:
                result = turn(wire)
                wire.kept = keep
            except (WatchLost, StoreRefused) as error:
                error.at(node=wire.node.url)
                raise
            except StoreError as error:
                if self._closed:
                    raise
                tried.append((wire.node, error))
                self._next = (position + 1) % len(self._nodes)
            else:
                self._next = position
                return result
            finally:
                if not wire.kept:
                    wire.close()
        raise self._none_works(tried)

    def _none_works(self, tried: list[tuple[Node, StoreError]]) -> StoreError:
        node, last = tried[-1]
        if len(tried) == 1:
            return StoreError(f"{self.store}: {last.message}", hint=last.hint, **{"node": node.url, **last.where})
        each = ", ".join(f"{node.url}: {error.message}" for node, error in tried)
        return StoreError(f"{self.store}: none of {len(tried)} nodes can be used: {each}", hint=last.hint)

    def _open(self, node: Node) -> Wire:
        wire = Wire(self, node)
        with self._lock:
            if self._closed:
                raise self.closed()
            self._wires.add(wire)
        return wire

    def forget(self, wire: Wire) -> None:
        """``wire`` is closed."""
        with self._lock:
            self._wires.discard(wire)

    def closed(self) -> StoreError:
        """Return the error of whoever waits while the store is closed."""
        return StoreError(f"{self.store}: the store was closed")

    def close(self) -> None:
        """Cut every connection. Any thread, any number of times."""
        with self._lock:
            self._closed = True
            wires = list(self._wires)
        for wire in wires:
            wire.cut(self.closed())
            if wire.kept:  # no turn will close it
                wire.close()


# --- one conversation ------------------------------------------------------------------------------------------------


class Wire:
    """One conversation with one node: a ``requests`` session whose connection can be cut.

    It lives for one read or one stream; nothing idle is kept that could be dead when it is needed.
    """

    def __init__(self, nodes: Nodes, node: Node) -> None:
        self.node = node
        self.session = requests.Session()
        self.session.trust_env = False  # .netrc would replace our headers, REQUESTS_CA_BUNDLE our CA
        self.session.verify = nodes.tls is None or nodes.tls.verify_mode != ssl.CERT_NONE
        self.session.proxies = _proxies(node)
        self.session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Adapter(self, nodes.tls))
        self._nodes = nodes
        self.kept = False
        """Whether it outlives the turn that it was opened for."""
        self._cause: StoreError | None = None
        self._connections: list[HTTPConnection] = []
        self._end: socket.socket | None = None
        self._response: requests.Response | None = None
        self._lookup: SimpleQueue[_Addresses | OSError | None] = SimpleQueue()
        self._lock = threading.Lock()

    def cut(self, cause: StoreError) -> None:
        """Wake whoever waits on this wire: it raises ``cause``. Any thread, any number of times."""
        with self._lock:
            self._cause = self._cause or cause
            self._lookup.put(None)
            if self._end is not None:
                with suppress(OSError):
                    self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the conversation and let go of its sockets. Any thread, any number of times."""
        self.cut(self._nodes.closed())
        with self._lock:
            response, self._response = self._response, None
            end, self._end = self._end, None
            connections, self._connections = self._connections, []
        if response is not None:
            response.close()
        self.session.close()
        for connection in connections:  # urllib3 would leave them to the garbage collector, and they keep us from it
            connection.close()
        if end is not None:
            end.close()
        self._nodes.forget(self)

    def post(self, url: str, body: bytes, **headers: str) -> requests.Response:
        """Send ``body``, return the answer whose own body is still to be read; the answer before it is let go."""
        if self._response is not None:
            self._response.close()
        headers = {"Content-Type": "application/json", **headers}
        self._response = self.session.post(url, data=body, headers=headers, stream=True, allow_redirects=False)
        return self._response

    def get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask, return the answer whose own body is still to be read; the answer before it is let go."""
        if self._response is not None:
            self._response.close()
        self._response = self.session.get(url, headers=headers, stream=True, allow_redirects=False)
        return self._response

    @contextmanager
    def bounded(self, pause: float = 0.0) -> Iterator[None]:
        """Cut what the block does after ``read_timeout``; all that it meets comes out as a ``StoreError``.

        ``pause`` is how many seconds more the server was asked to wait before it answers.

        Requests itself is given no timeouts: they would bound each ``recv``, not the whole.
        """
        seconds = self._nodes.read_timeout + pause
        timer = threading.Timer(seconds, self.cut, [StoreError(f"no answer within {seconds:g} s")])
        timer.name, timer.daemon = "confpy-deadline", True
        timer.start()
        try:
            with self.translated():
                yield
        finally:
            timer.cancel()
            timer.join()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what libraries and the system raise in the block into a ``StoreError`` that says it for people."""
        try:
            yield
        except (StoreError, requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
            if self._cause is not None:
                raise self._cause from error
            if isinstance(error, StoreError):
                raise
            raise _said(error, self.node) from error
        if self._cause is not None:  # a cut can look like the end of a body
            raise self._cause

    def arrived(self) -> bool:
        """Whether bytes wait to be read, or the end does."""
        poll = select.poll()
        with self._lock:
            if self._cause is not None or self._end is None:
                return True
            poll.register(self._end, select.POLLIN)
            return bool(poll.poll(0))

    # --- how its connection comes to be ------------------------------------------------------------------------------

    def dial(self, host: str, port: int) -> socket.socket:
        """Connect, within ``connect_timeout`` for each address of the host; raises ``StoreError``."""
        try:
            return self._connected(host, port)
        except StoreError as error:
            if self.session.proxies and host != self.node.host:
                error.message = f"the proxy {host}:{port}: {error.message}"
            raise

    def made(self, connection: HTTPConnection) -> None:
        """Remember a connection of urllib3's, to close it."""
        with self._lock:
            self._connections.append(connection)

    def _connected(self, host: str, port: int) -> socket.socket:
        failure: OSError | None = None
        for family, kind, protocol, _, address in self._resolve(host, port):
            end = socket.socket(family, kind, protocol)
            try:
                self._record(end)
                for name, level, value in _KEEPALIVE:
                    if option := getattr(socket, name, None):
                        end.setsockopt(level, option, value)
                end.settimeout(self._nodes.connect_timeout)
                end.connect(address)
            except OSError as error:
                end.close()
                if self._cause is not None:
                    raise self._cause from error
                failure = error
            else:
                return end
        if isinstance(failure, TimeoutError):
            raise StoreError(
                f"no connection within {self._nodes.connect_timeout:g} s",
                hint="is the address right, does a firewall block it?",
            ) from failure
        raise _said(failure or OSError("the name has no address"), self.node) from failure

    def _record(self, end: socket.socket) -> None:
        """Keep a second handle of the socket: TLS takes the first one away, and this one cuts it all the same."""
        with self._lock:
            if self._cause is not None:
                end.close()
                raise self._cause
            if self._end is not None:
                self._end.close()  # of the connection before: one at a time
            self._end = end.dup()

    def _resolve(self, host: str, port: int) -> _Addresses:
        """Look the name up on a thread that can be left behind: ``getaddrinfo`` cannot be stopped."""
        with suppress(socket.gaierror):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        answers = self._lookup

        def look() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                answers.put(error)

        threading.Thread(target=look, name="confpy-lookup", daemon=True).start()
        try:
            found = answers.get(timeout=self._nodes.connect_timeout)
        except Empty:
            self._lookup = SimpleQueue()  # a late answer is not the next one's
            found = TimeoutError(f"the name {host} could not be looked up in time")
        if self._cause is not None:
            raise self._cause
        if isinstance(found, socket.gaierror):
            raise StoreError(
                f"the name {host} is not known ({found.strerror})", hint="is it spelled right, does DNS work?"
            ) from found
        if isinstance(found, OSError):
            raise StoreError(str(found), hint="does DNS work?") from found
        return found or []


def _proxies(node: Node) -> dict[str, str]:
    """Return the proxies that the environment names for this node; none for the machine itself, as in Go."""
    if node.host == "localhost" or node.host.startswith("127.") or node.host == "::1":
        return {}
    if proxy_bypass(f"{node.host}:{node.port}"):
        return {}
    proxies = getproxies_environment()
    return {scheme: proxies[scheme] for scheme in ("http", "https") if scheme in proxies}


class _Adapter(HTTPAdapter):
    """Makes every connection of a session through its wire."""

    def __init__(self, wire: Wire, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._pools = {"http": partial(_Pool, wire), "https": partial(_TlsPool, wire)}
        super().__init__(pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, ssl_context=self._tls, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave the TLS context as it is: requests would add its own bundle of CAs to the one the user named."""


class _Connection(HTTPConnection):
    def __init__(self, wire: Wire, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wire = wire
        wire.made(self)

    def _new_conn(self) -> socket.socket:
        return self._wire.dial(self._dns_host, self.port or 80)


class _TlsConnection(HTTPSConnection):
    def __init__(self, wire: Wire, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wire = wire
        wire.made(self)

    def _new_conn(self) -> socket.socket:
        return self._wire.dial(self._dns_host, self.port or 443)


class _Pool(HTTPConnectionPool):
    def __init__(self, wire: Wire, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ConnectionCls = partial(_Connection, wire)  # type: ignore[assignment]


class _TlsPool(HTTPSConnectionPool):
    def __init__(self, wire: Wire, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ConnectionCls = partial(_TlsConnection, wire)  # type: ignore[assignment]


# --- what comes back -------------------------------------------------------------------------------------------------


def read_body(response: requests.Response, limit: int) -> bytes:
    """Read an answer as a whole; raises ``TooLarge`` above ``limit`` bytes."""
    body = bytearray()
    for piece in response.iter_content(_PIECE):
        body += piece
        if len(body) > limit:
            response.close()
            raise TooLarge(f"an answer is larger than {limit >> 20} MB")
    return bytes(body)


class Stream:
    """The body of an answer that does not end, as it comes: never waits for more than there is."""

    def __init__(self, wire: Wire, response: requests.Response) -> None:
        self.node = wire.node
        self._wire = wire
        # Below urllib3, whose readers wait for a whole chunk or buffer bytes where `arrived` does not see them.
        raw: Any = response.raw
        self._source: BufferedReader | None = raw._fp.fp  # noqa: SLF001
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        self._chunks = Chunks() if chunked else None

    def read(self) -> bytes | None:
        """Return what has come, waiting where nothing has; None where the body ended. Raises ``StoreError``.

        It may be empty: what came was the coding around the body, and to wait for more would hold up what came before.
        """
        with self._wire.translated():
            raw = self._received()
            if self._chunks is None or not raw:
                return raw or None
            body = self._chunks.feed(raw)
            return None if self._chunks.ended and not body else body

    def _received(self) -> bytes:
        try:
            return self._source.read1(_PIECE) if self._source is not None else b""
        except ValueError:  # closed by another thread a moment ago
            return b""

    def arrived(self) -> bool:
        """Whether ``read`` would return at once."""
        return self._wire.arrived()

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._wire.close()


class Chunks:
    """Takes chunked transfer coding apart, however its bytes are cut (RFC 9112, 7.1). Raises ``StoreError``."""

    def __init__(self) -> None:
        self.ended = False
        self._head = b""
        """The beginning of a chunk's first line, while its end has not come."""
        self._rest = 0
        """Bytes of the chunk still to come, with the two of its line end."""

    def feed(self, raw: bytes) -> bytes:
        """Return the body's bytes among ``raw``."""
        data, at = self._head + raw, 0
        self._head = b""
        body: list[bytes] = []
        while at < len(data) and not self.ended:
            if self._rest:
                taken = min(self._rest, len(data) - at)
                body.append(data[at : at + min(taken, max(0, self._rest - 2))])
                self._rest -= taken
                at += taken
                continue
            end = data.find(b"\r\n", at)
            if end < 0 and len(data) - at < _HEAD_BYTES:
                self._head = data[at:]
                break
            try:
                size = int(data[at:end].partition(b";")[0], 16)
            except ValueError:
                raise StoreError("the stream is not HTTP") from None
            self._rest, self.ended, at = size + 2, size == 0, end + 2
        return b"".join(body)


class Lines:
    """Cuts bytes into lines, however they come. Raises ``WatchLost`` for a line longer than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their ends and without the empty ones."""
        *whole, rest = data.split(b"\n")
        lines = []
        for piece in whole:
            self._hold(piece)
            lines.append(b"".join(self._pieces))
            self._pieces, self._length = [], 0
        self._hold(rest)
        return [line for line in lines if line.strip()]

    def _hold(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length > self._limit:
            raise WatchLost(f"one line of the stream is longer than {self._limit >> 20} MB")


# --- errors ----------------------------------------------------------------------------------------------------------


def _said(error: BaseException, node: Node) -> StoreError:
    """Say for people what went wrong on the way to an answer and on the way back."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _said_of_tls(cause)
    for cause in causes:
        if isinstance(cause, ConnectionRefusedError):
            return StoreError("connection refused", hint="does the server run, are host and port right?")
        if isinstance(cause, TimeoutError):
            return StoreError("no answer in time", hint="is the address right, is the server alive?")
        if isinstance(cause, ConnectionError):  # also http.client's RemoteDisconnected
            hint = "if it stays so: does the server want https://?" if node.scheme == "http" else ""
            return StoreError("the connection was broken before the answer came", hint=hint)
        if isinstance(cause, HTTPException):
            return StoreError("its answer is not HTTP, or was broken off", hint="is it the right port?")
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return StoreError(cause.strerror[0].lower() + cause.strerror[1:])
    return StoreError(f"the request failed ({type(error).__name__})")


def _said_of_tls(error: ssl.SSLError) -> StoreError:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreError(
            f"its certificate is not trusted: {error.verify_message}",
            hint="name the CA that signed it (client_ca_keys), and the node as the certificate does",
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):  # which of them, differs between OpenSSLs
        return StoreError("the TLS connection was broken off", hint="if it stays so: does the server want http://?")
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"):
        return StoreError("it does not speak TLS", hint="write http:// instead of https://, or mend the port")
    said = reason.lower().replace("_", " ")
    if "CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason:
        return StoreError(
            f"it refused our certificate ({said})", hint="give one that it trusts (client_cert, client_key)"
        )
    return StoreError(f"TLS failed ({said})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all that it wraps, in the many ways of requests and urllib3."""
    seen: set[int] = set()
    open_ = [error]
    while open_:
        cause = open_.pop(0)
        if id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
            open_.extend(one for one in inner if isinstance(one, BaseException))
