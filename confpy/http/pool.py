"""HTTP for stores: several nodes, a deadline on everything, and connections that can be cut from any thread.

``Session.close()`` and ``socket.close()`` wake nobody who waits in ``recv``; ``shutdown`` on the socket does. So every
socket is recorded before it connects, and closing a store, like a deadline that runs out, is one thing: a *cut*. That
also bounds a body that drips, which the timeouts of requests do not.
"""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from confpy.errors import AccessDenied, NoApi, StoreError, WatchLost
from confpy.http.addresses import Node, parse_nodes, proxies
from confpy.http.deadlines import Deadlines
from confpy.http.errors import said
from confpy.http.resolve import ask_apart
from confpy.http.tls import Trust

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")
Find: TypeAlias = Callable[[], Sequence[Node]]
_Addresses: TypeAlias = list[tuple[Any, ...]]

ROTATION_INTERVAL = 3600.0
"""Seconds for which a node that works is the first choice; then the next one is, so that load spreads in a cluster."""

# A quiet stream has no read timeout. Its death shows after 30 s + 3 × 10 s without an answer from the other kernel.
KEEPALIVE = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_NODELAY", socket.IPPROTO_TCP, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 30),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 10),
    ("TCP_KEEPCNT", socket.IPPROTO_TCP, 3),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, 60_000),
)


# --- nodes -----------------------------------------------------------------------------------------------------------


def open_nodes(store: str, settings: Settings, *, default: Sequence[str], port: int, scheme: str = "") -> Nodes:
    """Return the nodes that the settings name, in random order, else the ``default`` ones; raises ``UsageError``.

    ``scheme`` is for those whose address says none; empty: that of the settings.
    """
    scheme = scheme or settings.scheme
    find: Find | None = None
    nodes: tuple[Node, ...] = ()
    if settings.srv_record or settings.srv_domain:
        from confpy.http import srv  # it brings dnspython

        find = partial(srv.find, srv.records(settings, scheme), settings.connect_timeout)
    else:
        nodes = parse_nodes(settings.nodes or default, scheme=scheme, port=port)
        if settings.nodes:  # the default ones are in the order in which they are likely
            nodes = tuple(random.sample(nodes, len(nodes)))
    trust = None
    named = settings.client_ca_keys or settings.client_cert or settings.client_key
    if find or named or any(node.scheme == "https" for node in nodes):
        trust = Trust(
            ca=settings.client_ca_keys,
            cert=settings.client_cert,
            key=settings.client_key,
            server_name=settings.server_name,
            insecure=settings.client_insecure,
        )
    return Nodes(
        store,
        nodes,
        trust=trust,
        find=find,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
    )


class Nodes:
    """The nodes of one store: tried in turn from the first one on, with all their connections in reach of ``close``."""

    def __init__(
        self,
        store: str,
        nodes: Sequence[Node],
        *,
        trust: Trust | None,
        connect_timeout: float,
        read_timeout: float,
        find: Find | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``store`` is its name in errors; the timeouts are seconds, ``read_timeout`` bounds a request as a whole.

        ``trust`` may be None where no node speaks TLS. ``find`` asks DNS for the nodes, the best one first: at first
        use, when none of them works any more, and after each ``ROTATION_INTERVAL``.
        """
        self.store = store
        self.trust = trust
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._nodes = tuple(nodes)
        """In the order in which they are tried."""
        self._find = find
        self._lookups: set[Future[Sequence[Node]]] = set()
        self._unfound: StoreError | None = None
        """Why the nodes are not what DNS says now."""
        self._clock = clock
        self._since: float | None = None
        """Since when the first node is the first one; None where it is to be chosen anew."""
        self._wires: set[Wire] = set()
        self._closed = False
        self._lock = threading.Lock()
        self.deadlines = Deadlines()

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def talk(self, turn: Callable[[Wire], Result], *, keep: bool = False) -> Result:
        """Return what ``turn`` makes of a fresh wire to a node that works; the next call begins with that node.

        A node is tried once, and none after three times the timeouts of one. ``WatchLost`` and ``AccessDenied`` are
        answers, and end it; any other ``StoreError`` is a reason to try the next node. With ``keep`` the wire stays
        open, and is the caller's to close.
        """
        tried: list[tuple[Node, StoreError]] = []
        deadline = time.monotonic() + 3 * (self.connect_timeout + self.read_timeout)
        for node in (nodes := self._order()):
            if tried and time.monotonic() > deadline:
                break
            wire = self._open(node)
            try:
                result = turn(wire)
                wire.kept = keep
            except (WatchLost, AccessDenied) as error:
                self._prefer(node)
                error.at(node=node.url)
                raise
            except StoreError as error:
                if self._closed:
                    raise
                tried.append((node, error))
            else:
                self._prefer(node)
                return result
            finally:
                if not wire.kept:
                    wire.close()
        self._prefer(nodes[len(tried) % len(nodes)])
        self._since = None
        raise self._none_works(tried)

    # --- which node --------------------------------------------------------------------------------------------------

    def _order(self) -> tuple[Node, ...]:
        """Return the nodes as they are to be tried; raises ``StoreError`` where DNS names none."""
        now, since = self._clock(), self._since
        if since is None or not self._nodes or now - since > ROTATION_INTERVAL:
            self._since = now
            if self._find is not None:
                self._look_up(self._find)
            elif since is not None:
                self._prefer(self._nodes[1 % len(self._nodes)])
        return self._nodes

    def _prefer(self, node: Node) -> None:
        """Begin with this node from now on, and end with those that stood before it."""
        nodes = self._nodes
        if node in nodes[1:]:
            at = nodes.index(node)
            self._nodes, self._since = nodes[at:] + nodes[:at], self._clock()

    def _look_up(self, find: Find) -> None:
        """Ask DNS for the nodes; where it does not say, those that it named before stay. Raises ``StoreError``."""
        lookup = ask_apart(find)
        with self._lock:
            self._lookups.add(lookup)
            if self._closed:
                lookup.cancel()
        try:
            # What asks is bounded by itself; a little longer, as it has the better reason.
            nodes = lookup.result(self.connect_timeout + 1)
        except CancelledError:
            raise self.closed() from None
        except TimeoutError:
            self._unfound = StoreError("the SRV record could not be looked up in time", hint="does DNS work?")
        except StoreError as error:
            self._unfound = error
        else:
            self._nodes, self._unfound = tuple(nodes), None
        finally:
            with self._lock:
                self._lookups.discard(lookup)
        if not self._nodes and self._unfound is not None:
            self._since = None
            raise StoreError(f"{self.store}: {self._unfound.message}", hint=self._unfound.hint)

    def _none_works(self, tried: list[tuple[Node, StoreError]]) -> StoreError:
        node, last = tried[-1]
        if self._unfound is not None:
            last.message += f" (and these nodes may be the wrong ones: {self._unfound.message})"
        kind = next((NoApi for _, error in tried if isinstance(error, NoApi)), StoreError)
        if len(tried) == 1:
            return kind(f"{self.store}: {last.message}", hint=last.hint, **{"node": node.url, **last.where})
        each = ", ".join(f"{node.url}: {error.message}" for node, error in tried)
        return kind(f"{self.store}: none of {len(tried)} nodes can be used: {each}", hint=last.hint)

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
            for lookup in self._lookups:
                lookup.cancel()
        for wire in wires:
            wire.cut(self.closed())
            if wire.kept:  # no turn will close it
                wire.close()
        self.deadlines.close()


# --- one conversation ------------------------------------------------------------------------------------------------


class Wire:
    """One conversation with one node: a ``requests`` session whose connection can be cut.

    It lives for one read or one stream; nothing idle is kept that could be dead when it is needed.
    """

    def __init__(self, nodes: Nodes, node: Node) -> None:
        self.node = node
        self.session = requests.Session()
        self.session.trust_env = False  # .netrc would replace our headers, REQUESTS_CA_BUNDLE our CA
        self.session.verify = nodes.trust is None or not nodes.trust.insecure
        self.session.proxies = proxies(node)
        self.session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Adapter(self, nodes.trust if node.scheme == "https" else None))
        self._nodes = nodes
        self.kept = False
        """Whether it outlives the turn that it was opened for."""
        self._cause: StoreError | None = None
        self._connections: list[HTTPConnection] = []
        self._end: socket.socket | None = None
        self._response: requests.Response | None = None
        self._lookup: Future[_Addresses] | None = None
        self._lock = threading.Lock()

    def cut(self, cause: StoreError) -> None:
        """Wake whoever waits on this wire: it raises ``cause``. Any thread, any number of times."""
        with self._lock:
            self._cause = self._cause or cause
            if self._lookup is not None:
                self._lookup.cancel()
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
        return self._ask("POST", url, {"Content-Type": "application/json", **headers}, body)

    def get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask, return the answer whose own body is still to be read; the answer before it is let go."""
        return self._ask("GET", url, headers)

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> requests.Response:
        if self._response is not None:
            self._response.close()
        response = self.session.request(method, url, headers=headers, data=body, stream=True, allow_redirects=False)
        with self._lock:
            if self._cause is None:
                self._response = response
                return response
        response.close()  # a ``close`` while the answer came did not see it
        raise self._cause

    @contextmanager
    def bounded(self, pause: float = 0.0) -> Iterator[None]:
        """Cut what the block does after ``read_timeout``; all that it meets comes out as a ``StoreError``.

        ``pause`` is how many seconds more the server was asked to wait before it answers.

        Requests itself is given no timeouts: they would bound each ``recv``, not the whole.
        """
        seconds = self._nodes.read_timeout + pause
        late = partial(self.cut, StoreError(f"no answer within {seconds:g} s"))
        with self._nodes.deadlines.within(seconds, late), self.translated():
            yield

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
            raise self._told(said(error, self.node)) from error
        except (AttributeError, ValueError) as error:
            if self._cause is None:
                raise
            raise self._cause from error  # ``close`` took the socket away between two lines of urllib3
        if self._cause is not None:  # a cut can look like the end of a body
            raise self._cause

    def _told(self, error: StoreError) -> StoreError:
        """Add to an error of TLS that its files are not what they were."""
        trust = self._nodes.trust
        if self.node.scheme == "https" and trust is not None and trust.stale is not None:
            error.message += f" (with the files of TLS as they were before they changed: {trust.stale.message})"
        return error

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
                for name, level, value in KEEPALIVE:
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
        raise said(failure or OSError("the name has no address"), self.node) from failure

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
        lookup = ask_apart(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
        with self._lock:
            self._lookup = lookup
            if self._cause is not None:
                raise self._cause
        try:
            return lookup.result(self._nodes.connect_timeout)
        except CancelledError:
            raise self._cause or self._nodes.closed() from None
        except TimeoutError as error:
            raise StoreError(f"the name {host} could not be looked up in time", hint="does DNS work?") from error
        except socket.gaierror as error:
            hint = "is it spelled right, does DNS work?"
            raise StoreError(f"the name {host} is not known ({error.strerror})", hint=hint) from error


class _Adapter(HTTPAdapter):
    """Makes every connection of a session through its wire."""

    def __init__(self, wire: Wire, trust: Trust | None) -> None:
        self._tls: dict[str, Any] = {}
        if trust is not None:
            self._tls = {"ssl_context": trust.context(), "server_hostname": trust.server_name}
        self._pools = {"http": partial(_Pool, wire), "https": partial(_TlsPool, wire)}
        super().__init__(pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs | self._tls)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs | self._tls)
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
