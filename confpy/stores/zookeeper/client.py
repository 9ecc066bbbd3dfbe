"""Sessions with ZooKeeper: the nodes that the settings describe, and requests to one that works.

Kazoo speaks the protocol and holds sessions; sockets, TLS, deadlines and the choice of a node are confpy's own, so that
``close`` reaches all of them. Kazoo's threads end with a session.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NoNodeError,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler

from confpy.config.stores.zookeeper import ZOOKEEPER
from confpy.errors import StoreError, UsageError
from confpy.http.addresses import TLS, Node, parse_nodes
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.http.errors import NoAnswer, describe_error
from confpy.stores.network import read_trust, secret, srv_records

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Request: TypeAlias = "Callable[[KazooClient], Any]"
"""Sends a request; returns kazoo's result of it, which is still to come."""
LOST = (ConnectionLoss, ConnectionClosedError, SessionExpiredError, KazooTimeoutError, AuthFailedError)
"""What kazoo raises where the connection or the session has ended, not a request alone."""

SESSION = 10.0
"""Seconds after which a server ends a session that it hears nothing of."""
ATTEMPTS = 3
"""Servers that may be asked to go on with a session before that is over."""
PIPELINED = 256
"""Requests that are sent before the first answer is awaited."""
GOODBYE = 0.5
"""Seconds for a server to confirm the end of a session; without that it notices by itself."""
SCHEMES = {False: "zookeeper", True: "zookeeper+tls"}
_LOGGER = logging.getLogger("kazoo")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False
_LOGGER.setLevel(logging.CRITICAL + 1)


class ZooKeeper:
    """The nodes of one ZooKeeper, and a path that all others are below. Made by ``connect``."""

    def __init__(self, endpoints: Endpoints, login: Callable[[], str | None], chroot: str) -> None:
        self.endpoints = endpoints
        self.chroot = chroot
        self._login = login

    def session(self, *, seconds: float = SESSION, reconnects: bool = False) -> Session:
        """Open a session with a node that works; raises ``StoreError``. It is the caller's to close.

        ``seconds``: the session's timeout. With ``reconnects``, kazoo keeps the session, and what is ephemeral with it,
        over broken connections; otherwise it is over with its connection.
        """

        def open_on(connection: Connection) -> Session:
            session = Session(self, connection, self._user(), seconds, reconnects=reconnects)
            try:
                session.start()
            except BaseException:
                session.close()
                raise
            return session

        session = self.endpoints.with_failover(open_on, stays_open=True)
        _leave_to_kazoo(session.connection)
        return session

    def _user(self) -> str | None:
        try:
            return self._login()
        except UsageError as error:
            raise error.copy(StoreError) from error

    def close(self) -> None:
        """Abort every connection. Any thread, any number of times; waiting calls raise ``StoreError``."""
        self.endpoints.close()


class Session:
    """A session on one connection. Made by one thread, used and closed by any."""

    def __init__(
        self, zookeeper: ZooKeeper, connection: Connection, user: str | None, seconds: float, *, reconnects: bool
    ) -> None:
        self.connection = connection
        self._endpoints = zookeeper.endpoints
        self._reconnects = reconnects
        self._ended = False
        self._waiting = 0
        self._lock = threading.Lock()
        self._closed = False
        self.on_end: Callable[[], object] = lambda: None
        """Called, on a thread of kazoo's, when the session or its connection has ended."""
        with connection.bounded():
            first: socket.socket | None = connection.open()
        self._first = first
        self.kazoo = KazooClient(
            # Kazoo resolves this, and asks the handler for a connection to it, who knows better. It divides the time
            # that a server has to confirm a session by their number: one that is only starting may never do so.
            hosts=",".join(["127.0.0.1:1"] * ATTEMPTS) + zookeeper.chroot,
            timeout=seconds,
            handler=_Handler(self._connect, self._note_end),
            auth_data=[("digest", user)] if user is not None else None,
            randomize_hosts=False,
            logger=_LOGGER,
            connection_retry={
                "max_tries": -1 if reconnects else 1,
                "max_delay": 5.0,
                "interrupt": lambda: self._closed,
            },
            command_retry={"max_tries": 1},
        )
        self.kazoo.add_listener(self._note_state)

    def start(self) -> None:
        """Begin the session; returns when the server has confirmed it. Raises ``StoreError``."""
        with self.connection.bounded():
            live = self.kazoo.start_async()
            while not live.wait(0.02) and not self._ended:  # the deadline ends the connection, and that kazoo's loop
                pass
            if not live.is_set():
                raise ConnectionError("the connection was broken")

    def _connect(self) -> socket.socket:
        first, self._first = self._first, None
        if first is not None:
            return first
        if not self._reconnects or self._closed:
            raise ConnectionRefusedError
        try:
            old, self.connection = self.connection, self._endpoints.with_failover(lambda one: one, stays_open=True)
            _leave_to_kazoo(self.connection)
            old.close()
            if self._closed:
                self.connection.close()
            with self.connection.bounded():
                return self.connection.open()
        except StoreError:
            raise ConnectionRefusedError from None

    def _note_state(self, state: str) -> None:
        if state == KazooState.LOST or (state == KazooState.SUSPENDED and not self._reconnects):
            self._note_end()

    def _note_end(self) -> None:
        self._ended = True
        self.on_end()

    @property
    def is_alive(self) -> bool:
        """Whether requests may be sent."""
        return not self._ended and not self._closed and bool(self.kazoo.connected)

    @property
    def has_ended(self) -> bool:
        """Whether it is over, and not only without a connection."""
        return self._ended or self._closed

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits for answers."""
        return self._waiting > 0

    @property
    def zxid(self) -> int:
        """The id of the newest transaction that the server has told of: its revision."""
        return int(self.kazoo.last_zxid)

    def gather(self, requests: Iterable[Request]) -> list[Any]:
        """Send requests, and return their answers: an error that is about one of them as ``KazooException``.

        They are pipelined: the caller gives ``PIPELINED`` at most. Raises ``StoreError`` where the session ends.
        """
        with self._lock:
            self._waiting += 1
        try:
            with self.connection.bounded():
                sent = [request(self.kazoo) for request in requests]
                return [_answer(one) for one in sent]
        finally:
            with self._lock:
                self._waiting -= 1

    def synchronise(self) -> int:
        """See to it that all that was written anywhere before is seen here; return the newest transaction's id."""
        (answer,) = self.gather([lambda kazoo: kazoo.sync_async("/")])
        if isinstance(answer, KazooException) and not isinstance(answer, NoNodeError | NoAuthError):
            raise refusal(answer)
        return self.zxid

    def close(self) -> None:
        """End it; the server is given a moment to confirm that. Any thread, any number of times."""
        with self._lock:
            closed, self._closed = self._closed, True
        if closed:
            return
        timer = threading.Timer(GOODBYE, self.connection.abort, [StoreError("the session was closed")])
        timer.daemon = True
        timer.start()
        try:
            self.kazoo.stop()
            self.kazoo.close()
        finally:
            timer.cancel()
            self.connection.close()


def _leave_to_kazoo(connection: Connection) -> None:
    """Let a connection be broken, and not closed, by whoever closes all of them: its session closes it.

    Kazoo's thread waits for it by epoll, which forgets a descriptor that is closed, and would not be woken.
    """
    connection.owned_by_caller = False


class _Handler(SequentialThreadingHandler):  # type: ignore[misc,unused-ignore]
    """Kazoo's threads, on connections that somebody else makes."""

    def __init__(self, connect: Callable[[], socket.socket], ended: Callable[[], object]) -> None:
        """``ended`` is called when the thread that reads and writes has ended."""
        super().__init__()
        self._make_connection = connect
        self._ended = ended

    def spawn(self, func: Callable[..., object], *arguments: object, **options: object) -> threading.Thread:
        def run() -> None:
            with suppress(Exception):  # what it met is seen by whoever waits
                func(*arguments, **options)
            self._ended()

        thread = threading.Thread(target=run, name="confpy-kazoo", daemon=True)
        thread.start()
        return thread

    def create_connection(self, *_arguments: object, **_options: object) -> socket.socket:
        return self._make_connection()


def _answer(result: Any) -> Any:
    """Await an answer; raises ``ConnectionError`` if there will be none."""
    try:
        return result.get()
    except LOST:
        raise ConnectionError("the connection was broken") from None
    except KazooException as error:
        return error


def refusal(error: KazooException) -> StoreError:
    """Return the error for people for a request that a server refused."""
    return StoreError(f"it refuses a request ({type(error).__name__.removesuffix('Error')})")


# --- settings --------------------------------------------------------------------------------------------------------


def connect(settings: Settings) -> ZooKeeper:
    """Return the ZooKeeper that the settings describe. No traffic yet; raises ``UsageError``."""
    tls = settings.scheme == "https" or bool(settings.client_ca_keys or settings.client_cert)
    found = [_node(text.strip(), tls=tls) for text in settings.nodes or ZOOKEEPER.nodes]
    nodes = tuple(dict.fromkeys(node for node, _ in found))
    chroots = {chroot for _, chroot in found if chroot}
    if len(chroots) > 1:
        raise UsageError("the nodes name different paths", hint="all keys are below one: host:2181,host2:2181/path")
    find = None
    if settings.srv_record or settings.srv_domain:
        from confpy.http import srv

        find = partial(_found, partial(srv.find, srv_records(settings, settings.scheme), settings.connect_timeout))
        nodes = ()
    is_tls = find is not None or any(node.scheme in TLS for node in nodes)
    trust = read_trust(settings) if is_tls else None
    login = partial(_login, settings)
    login()
    endpoints = Endpoints(
        "zookeeper",
        random.sample(nodes, len(nodes)) if settings.nodes else nodes,
        trust=trust,
        find=find,
        find_proxy=lambda _: None,
        describe=_describe,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
    )
    return ZooKeeper(endpoints, login, chroots.pop() if chroots else "")


def _login(settings: Settings) -> str | None:
    """Return ``user:password`` for the scheme ``digest`` of ACLs; raises ``UsageError``."""
    password = secret(settings.password, settings.password_file)
    if not settings.username and password is None:
        return None
    if not settings.username or password is None:
        raise UsageError("ZooKeeper needs both a user and a password", hint="give username and password_file")
    return f"{settings.username}:{password}"


def _node(text: str, *, tls: bool) -> tuple[Node, str]:
    """Return the node of ``host:port`` or ``host:port/path``, and the path."""
    written, _, rest = text.rpartition("://")
    if written not in ("", "zk", "http", "https", *SCHEMES.values()):
        raise UsageError(f"the scheme of a ZooKeeper's address is zookeeper or zookeeper+tls, not {written}")
    address, _, path = rest.partition("/")
    (node,) = parse_nodes([address], scheme="http", port=ZOOKEEPER.port)
    scheme = SCHEMES[written in ("https", SCHEMES[True]) or (tls and written not in ("http", SCHEMES[False], "zk"))]
    chroot = os.path.normpath(f"/{path}") if path.strip("/") else ""
    return Node(scheme, node.host, node.port), chroot


def _found(find: Callable[[], Sequence[Node]]) -> list[Node]:
    return [Node(SCHEMES[node.scheme == "https"], node.host, node.port) for node in find()]


def _describe(error: BaseException, node: Node) -> StoreError:
    found = describe_error(error, node)
    found.hint = found.hint.replace("https://", "zookeeper+tls://").replace("http://", "zookeeper://")
    if isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
        found.hint = "does it run, is it part of a majority of its ensemble, and is it the right port?"
    if isinstance(error, NoAnswer):
        found.hint = "is it part of a majority of its ensemble?"
    return found
