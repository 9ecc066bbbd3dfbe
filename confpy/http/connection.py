"""One HTTP connection for stores and ``reload_http``: a deadline for each request, and ``close`` from any thread.

``socket.close`` wakes no thread that waits in ``recv``; ``shutdown`` on the socket does. So every socket is recorded
before it connects, and a closed store and an expired deadline do the same: ``abort``. It ends a connect, a TLS
handshake, a body that comes byte by byte and a quiet stream alike, which the timeouts of a socket do not.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from confpy.errors import ConfpyError, StoreError
from confpy.http.addresses import TLS, Node, Proxy, basic_authorization
from confpy.http.deadlines import Deadlines
from confpy.http.errors import FOREIGN, NoAddress, NoAnswer, NoConnection, TunnelRefused, describe_error
from confpy.http.response import Response, request_bytes
from confpy.system.abandonable import AbandonableCall, Abandoned

if TYPE_CHECKING:
    from confpy.http.tls import Trust

Describe: TypeAlias = Callable[[BaseException, Node], ConfpyError]
_Addresses: TypeAlias = list[tuple[Any, ...]]

LONGEST_TIMEOUT = 2e6
"""Seconds: a socket refuses a timeout of 2**31 milliseconds and more."""

# A quiet stream has no read timeout. Its death shows after 30 s + 3 × 10 s without an answer from the other kernel.
KEEPALIVE = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_NODELAY", socket.IPPROTO_TCP, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 30),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 10),
    ("TCP_KEEPCNT", socket.IPPROTO_TCP, 3),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, 60_000),
)


class Connection:
    """Requests to one server, one after the other; made by one thread, aborted and closed by any.

    It lives for one read or one stream: no idle connection is stored that may be dead when it is needed.
    """

    def __init__(
        self,
        node: Node,
        *,
        deadlines: Deadlines,
        connect_timeout: float,
        answer_timeout: float,
        trust: Trust | None = None,
        find_proxy: Callable[[Node], Proxy | None] = lambda _: None,
        socket_file: str = "",
        describe: Describe = describe_error,
    ) -> None:
        """Timeouts are seconds: for each address of the server, and for a request as a whole.

        ``trust`` may be None for ``http``. With a ``socket_file``, that is connected to in place of ``node``.
        ``describe`` makes an error for people of what the system and ``response`` raise.
        """
        self.node = node
        self.login: tuple[bytes, bytes] | None = None
        """User and password of basic authentication."""
        self.owned_by_caller = False
        """Whether it outlives the call that it was opened for (``Endpoints``)."""
        self.on_close: Callable[[Connection], object] = lambda _: None
        self._peer = node
        """The server to connect to: another one than ``node`` after a redirect."""
        self._deadlines = deadlines
        self._connect_timeout = min(connect_timeout, LONGEST_TIMEOUT)
        self._answer_timeout = answer_timeout
        self._trust = trust
        self._find_proxy = find_proxy
        self._socket_file = socket_file
        self._describe_error = describe
        self._cause: ConfpyError | None = None
        """Why it was aborted."""
        self._dialed: Proxy | None = None
        """The proxy that is being connected to."""
        self._proxy: Proxy | None = None
        self._end: socket.socket | None = None
        """What is sent to and read from."""
        self._response: Response | None = None
        self._sent: Response | None = None
        """The answer of which nothing was read yet."""
        self._socket: socket.socket | None = None
        """A second descriptor of the socket: TLS detaches the first one, and this one shuts it down all the same."""
        self._lookup: AbandonableCall[_Addresses] | None = None
        self._lock = threading.Lock()

    # --- ending it ---------------------------------------------------------------------------------------------------

    def abort(self, cause: ConfpyError) -> None:
        """Wake the thread that waits for this connection: it raises ``cause``. Any thread, any number of times."""
        with self._lock:
            self._cause = self._cause or cause
            if self._lookup is not None:
                self._lookup.abandon()
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Abort it and release its sockets. Any thread, any number of times."""
        self.abort(StoreError("the connection was closed"))
        self._disconnect()
        with self._lock:
            end, self._socket = self._socket, None
        if end is not None:
            end.close()
        self.on_close(self)

    def move(self, to: Node) -> None:
        """Send the next requests to another server, after a redirect."""
        self._disconnect()
        self._peer = to

    def _disconnect(self) -> None:
        with self._lock:
            answers, self._response, self._sent = (self._response, self._sent), None, None
            end, self._end = self._end, None
        for response in answers:
            if response is not None:
                response.close()
        if end is not None:
            end.close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Response:
        """Send a GET; return the answer, whose body is still to be read. To be called within ``bounded``."""
        return self.request("GET", path, headers or {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        """Send JSON; return the answer, whose body is still to be read. To be called within ``bounded``."""
        return self.request("POST", path, {"Content-Type": "application/json", **(headers or {})}, body)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """Send a request; return the answer, whose body is still to be read. To be called within ``bounded``."""
        self.send(method, path, headers, body)
        return self.receive()

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> None:
        """Send a request, whose answer ``receive`` returns. To be called within ``bounded``.

        The connection of the previous request serves again if that one's answer was read to its end.
        """
        if self._cause is not None:
            raise self._cause
        end = self._ready()
        at = _authority(self._peer)
        sent = {"Host": at, "User-Agent": "confpy", **headers}
        if self.login is not None:
            sent["Authorization"] = basic_authorization(b":".join(self.login))
        if self._proxy is not None and self._peer.scheme == "http":
            path = f"http://{at}{path}"
            if self._proxy.authorization:
                sent["Proxy-Authorization"] = self._proxy.authorization
        end.sendall(request_bytes(method, path, sent, body))
        self._sent = Response(end, method)

    def receive(self) -> Response:
        """Return the answer to what was sent, whose body is still to be read. To be called within ``bounded``."""
        response, self._sent = self._sent, None
        if response is None:  # ``close`` took it away
            raise self._cause or StoreError("nothing was sent")
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        with self._lock:
            if self._cause is None:
                self._response = response
                return response
        response.close()  # a ``close`` while the answer came did not see it
        raise self._cause

    def _ready(self) -> socket.socket:
        """Return the connection as it is ready for a request, else a new one."""
        end, response = self._end, self._response
        with self._lock:
            self._response = None
        if self._sent is not None:  # nobody wants its answer any more
            self._sent.close()
            self._sent = response = None
        is_ready = response is not None and response.ended and response.reusable
        if end is not None and is_ready and not self.arrived():  # what arrived now would be no answer, or the end
            return end
        if response is not None:
            response.close()
        self._disconnect()
        end = self._connect()
        with self._lock:
            self._end = end
        return end

    def arrived(self) -> bool:
        """Whether bytes wait to be read, or the end does."""
        poll = select.poll()
        with self._lock:
            if self._cause is not None or self._socket is None:
                return True
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))

    def open(self) -> socket.socket:
        """Return a socket that is connected, for a protocol other than HTTP. To be called within ``bounded``."""
        if self._cause is not None:
            raise self._cause
        return self._ready()

    # --- deadlines and errors ----------------------------------------------------------------------------------------

    @contextmanager
    def bounded(self, pause: float = 0.0) -> Iterator[None]:
        """Abort what the block does after ``answer_timeout``; whatever it meets is raised as ``described``.

        ``pause`` is how many seconds more the server was asked to wait before it answers.
        """
        seconds = self._answer_timeout + pause
        late = partial(self.abort, self._describe_error(NoAnswer(seconds), self._peer))
        with self._deadlines.within(seconds, late), self.described():
            yield

    @contextmanager
    def described(self) -> Iterator[None]:
        """Raise what the system and ``response`` raise in the block as an error for people."""
        try:
            yield
        except ConfpyError as error:
            if self._cause is None or error is self._cause:
                raise
            raise self._cause from error
        except FOREIGN as error:
            raise (self._cause or self._describe(error)) from error
        except (AttributeError, ValueError) as error:
            if self._cause is None:
                raise
            raise self._cause from error  # ``close`` took the socket away between two lines
        if self._cause is not None:  # an abort can look like the end of a body
            raise self._cause

    def _describe(self, error: BaseException) -> ConfpyError:
        if self._dialed is not None:
            described = self._describe_error(error, self._dialed.node)
            at = self._dialed.node.url.removeprefix("http://")
            described.message = f"the proxy {at}: {described.message}"
        else:
            described = self._describe_error(error, self._peer)
        if self._peer.scheme in TLS and self._trust is not None and self._trust.stale is not None:
            reason = self._trust.stale.message
            described.message += f" (with the files of TLS as they were before they changed: {reason})"
        return described

    # --- connecting --------------------------------------------------------------------------------------------------

    def _connect(self) -> socket.socket:
        """Return a socket that speaks to the server: through its proxy, and in TLS where it wants that."""
        if self._socket_file:
            end = self._dial([(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", self._socket_file)])
        else:
            self._proxy = self._dialed = self._find_proxy(self._peer)
            at = self._peer if self._proxy is None else self._proxy.node
            end = self._dial(self._resolve(at.host, at.port))
        try:
            if self._peer.scheme in TLS:
                if self._proxy is not None:
                    self._open_tunnel(end, self._proxy)
                self._dialed = None
                assert self._trust is not None
                name = self._trust.server_name or self._peer.host.rstrip(".")
                end = self._trust.context().wrap_socket(end, server_hostname=name)
            self._dialed = None
            end.settimeout(None)
        except BaseException:
            end.close()
            raise
        return end

    def _dial(self, addresses: _Addresses) -> socket.socket:
        """Connect to the first address that answers."""
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in addresses:
            end = socket.socket(family, kind, protocol)
            try:
                self._record(end)
                for name, level, value in KEEPALIVE:
                    if family != socket.AF_UNIX and (option := getattr(socket, name, None)):
                        end.setsockopt(level, option, value)
                end.settimeout(self._connect_timeout)
                end.connect(address)
            except OSError as error:
                end.close()
                if self._cause is not None:
                    raise self._cause from error
                failure = error
            else:
                return end
        raise NoConnection(self._connect_timeout) if isinstance(failure, TimeoutError) else failure

    def _record(self, end: socket.socket) -> None:
        with self._lock:
            if self._cause is not None:
                end.close()
                raise self._cause
            if self._socket is not None:
                self._socket.close()  # of the previous connection: one at a time
            self._socket = end.dup()

    def _resolve(self, host: str, port: int) -> _Addresses:
        """Return the addresses of a name, looked up on a thread that can be abandoned."""
        # As bytes: for text, even for ASCII, Python loads the tables of IDNA, which takes 3 ms.
        name = host.encode() if host.isascii() else host
        with suppress(socket.gaierror):
            return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        lookup = AbandonableCall(partial(socket.getaddrinfo, name, port, type=socket.SOCK_STREAM))
        with self._lock:
            self._lookup = lookup
            if self._cause is not None:
                raise self._cause
        try:
            return lookup.result(self._connect_timeout)
        except Abandoned:
            assert self._cause is not None
            raise self._cause from None
        except TimeoutError:
            raise NoAddress from None

    def _open_tunnel(self, end: socket.socket, proxy: Proxy) -> None:
        """Let the proxy connect to the server (RFC 9110, 9.3.6)."""
        at = f"{_ascii_host(self._peer)}:{self._peer.port}"
        login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        end.sendall(f"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n{login}\r\n".encode("ascii"))
        with closing(Response(end, "CONNECT")) as answer:
            answer.begin()
            if answer.status != 200:
                raise TunnelRefused(answer.status)


def _ascii_host(node: Node) -> str:
    host = node.host if node.host.isascii() else node.host.encode("idna").decode()
    return f"[{host}]" if ":" in host else host


def _authority(node: Node) -> str:
    """Return host and port as the ``Host`` header has them: the port only where it is not the scheme's own."""
    if node.socket_file:
        return "localhost"
    default = 443 if node.scheme == "https" else 80
    return _ascii_host(node) if node.port == default else f"{_ascii_host(node)}:{node.port}"
