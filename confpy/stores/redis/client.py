"""Connections to Redis: the nodes that the settings describe, and commands to one that works.

Redis-py speaks the protocol and logs in; sockets, TLS, deadlines and the choice of a node are confpy's own, so that
``close`` reaches all of them.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from redis.connection import Connection as RedisConnection
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    MasterDownError,
    MaxConnectionsError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut

from confpy.config.stores.redis import REDIS
from confpy.errors import StoreError, UsageError
from confpy.http.addresses import TLS, Node, parse_nodes
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.http.errors import describe_error
from confpy.stores.network import read_trust, secret, srv_records

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")
Command: TypeAlias = "tuple[str | bytes | int, ...]"
Login: TypeAlias = "Callable[[], tuple[str | None, str | None]]"

SCHEMES = {"http": "redis", "https": "rediss"}
"""What the settings call a scheme → what Redis' addresses do."""
LARGEST_DATABASE = 1 << 20


class RedisClient:
    """The nodes of one Redis; every call is bounded in time, from any thread."""

    def __init__(self, endpoints: Endpoints, login: Login, database: int) -> None:
        self.endpoints = endpoints
        self.database = database
        self._login = login

    def call(self, use: Callable[[Session], Result], *, stays_open: bool = False) -> Result:
        """Return what ``use`` returns for a session with a node that works; raises ``StoreError``.

        With ``stays_open`` the session of a call that succeeded is the caller's to close.
        """
        return self.endpoints.with_failover(lambda one: use(self._session(one)), stays_open=stays_open)

    def _session(self, connection: Connection) -> Session:
        try:
            username, password = self._login()
        except UsageError as error:
            raise error.copy(StoreError) from error
        return Session(connection, username, password, self.database)

    def close(self) -> None:
        """Abort every session. Any thread, any number of times; waiting calls raise ``StoreError``."""
        self.endpoints.close()


class Session:
    """A connection to one server, logged in. Made by one thread, closed by any."""

    def __init__(self, connection: Connection, username: str | None, password: str | None, database: int) -> None:
        """Connect, log in and select the database; raises ``StoreError``."""
        self.connection = connection
        with connection.bounded(), _translated():
            self._wire = _Wire(connection.open(), username, password, database)
            self._wire.connect()

    def run(self, *commands: Command) -> list[Any]:
        """Send commands together and return their replies, an error that is about one of them as ``ResponseError``.

        Values are bytes. Raises ``StoreError`` where the server answers none of them.
        """
        replies: list[Any] = []
        with self.connection.bounded(), _translated():
            self._wire.send_packed_command(self._wire.pack_commands(list(commands)))
            for _ in commands:
                try:
                    replies.append(self._wire.read_response())
                except ResponseError as error:
                    replies.append(error)
        return replies

    def ask(self, *command: str | bytes | int) -> Any:
        """Return the reply to one command; raises ``StoreError`` for an error."""
        (reply,) = self.run(command)
        if isinstance(reply, ResponseError):
            raise refusal(reply)
        return reply

    def send(self, *commands: Command) -> None:
        """Send commands whose replies ``receive`` returns: subscriptions. Raises ``StoreError``."""
        with self.connection.bounded(), _translated():
            self._wire.send_packed_command(self._wire.pack_commands(list(commands)))

    def receive(self, *, waits: bool = False) -> Any:
        """Return the next reply or message; with ``waits`` there is no limit of time. Raises ``StoreError``."""
        with self.connection.described() if waits else self.connection.bounded(), _translated():
            return self._wire.read_response()

    def arrived(self) -> bool:
        """Whether ``receive`` would return at once."""
        return self._wire.has_more() or self.connection.arrived()

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self.connection.close()


class _Wire(RedisConnection):  # type: ignore[misc,unused-ignore]
    """Redis-py's connection, on a socket that is connected already, and never on another one."""

    def __init__(self, end: socket.socket, username: str | None, password: str | None, database: int) -> None:
        super().__init__(
            host="", db=database, username=username, password=password, protocol=2,
            socket_timeout=None, socket_connect_timeout=None,
        )  # fmt: skip
        # What the library is called is not sent: a user of an ACL may lack the right.
        self.driver_info = self.lib_name = self.lib_version = None
        self._end: socket.socket | None = end

    def _connect(self) -> socket.socket:
        end, self._end = self._end, None
        if end is None:
            raise ConnectionError("the connection was broken")
        return end

    def has_more(self) -> bool:
        """Whether a reply was received already, at least in part."""
        buffer = getattr(self._parser, "_buffer", None)
        return bool(buffer is not None and buffer.unread_bytes())


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what redis-py raises as an error of the system, or as one for people."""
    try:
        yield
    except (BusyLoadingError, MasterDownError) as error:
        raise refusal(error) from None
    except AuthenticationError as error:
        raise refusal(error) from None
    except (Disconnected, TimedOut) as error:
        raise ConnectionError("the connection was broken") from error
    except ResponseError as error:
        raise refusal(error) from None
    except RedisError as error:
        raise StoreError(f"its answer is not Redis' ({type(error).__name__})", hint="is it the right port?") from None


def refusal(error: RedisError) -> StoreError:
    """Return the error for people for a reply that refuses a command. It never holds what the command held."""
    said = str(error)
    if isinstance(error, BusyLoadingError):
        return StoreError("it is loading its data", hint="it answers when all of it is in memory")
    if isinstance(error, MasterDownError) or said.startswith("MASTERDOWN"):
        return StoreError("it is a replica that has lost its master")
    if said.startswith("NOAUTH") or "Authentication required" in said or "authentication required" in said:
        return StoreError("it wants a password", hint="give password_file, and username for a user of the ACL")
    if isinstance(error, AuthenticationWrongNumberOfArgsError):
        return StoreError("it knows no users", hint="before Redis 6 there is only a password: leave username out")
    if isinstance(error, AuthenticationError) or "WRONGPASS" in said or "invalid password" in said:
        return StoreError("user or password is wrong", hint="username and password_file name a user of the ACL")
    if isinstance(error, MaxConnectionsError) or "max number of clients" in said:
        return StoreError("it has as many clients as it takes", hint="see maxclients in its configuration")
    if isinstance(error, NoPermissionError) or said.startswith("NOPERM"):
        return StoreError("the user lacks a permission", hint="docs/stores/redis.md lists what confpy needs")
    if said.startswith(("MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT")):
        return StoreError("it is a node of a Redis Cluster", hint="confpy reads a single Redis, or its replicas")
    if "unknown command" in said.lower():
        return StoreError("it lacks a command", hint="Redis 2.8 or newer is needed, and no sentinel or proxy")
    if "DB index" in said or "invalid DB" in said:
        return StoreError("it has no database of this number", hint="see databases in its configuration")
    word = said.partition(" ")[0]
    return StoreError(f"it refuses a command ({word if word.isalpha() and word.isupper() else 'an error'})")


# --- settings --------------------------------------------------------------------------------------------------------


def connect(settings: Settings) -> RedisClient:
    """Return the client of the nodes that the settings describe. No traffic yet; raises ``UsageError``."""
    tls = settings.scheme == "https" or bool(settings.client_ca_keys or settings.client_cert)
    scheme = "rediss" if tls else "redis"
    found = [_node(text.strip(), scheme) for text in settings.nodes or REDIS.nodes]
    nodes = tuple(dict.fromkeys(node for node, _ in found))
    named = {database for _, database in found if database is not None}
    if settings.db:
        named.add(settings.db)
    if len(named) > 1:
        raise UsageError("more than one database is named", hint="give all nodes the same one, or db alone")
    find = None
    if settings.srv_record or settings.srv_domain:
        from confpy.http import srv

        records = srv_records(settings, settings.scheme)
        find = partial(_found, partial(srv.find, records, settings.connect_timeout))
        nodes = ()
    is_tls = find is not None or any(node.scheme in TLS for node in nodes)
    trust = read_trust(settings, with_key=bool(settings.client_cert)) if is_tls else None
    login = partial(_login, settings)
    login()
    endpoints = Endpoints(
        "redis",
        random.sample(nodes, len(nodes)) if settings.nodes else nodes,
        trust=trust,
        find=find,
        find_proxy=lambda _: None,
        describe=_describe,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
    )
    return RedisClient(endpoints, login, named.pop() if named else 0)


def _login(settings: Settings) -> tuple[str | None, str | None]:
    """Return user and password, each None if there is none; raises ``UsageError``.

    With confd, the password of Redis is what it calls the client's key.
    """
    given = settings.password or (None if settings.client_cert else settings.client_key)
    password = secret(given, settings.password_file)
    if settings.username and password is None:
        raise UsageError("Redis needs a password beside the user", hint="give password_file")
    return settings.username or None, password


def _node(text: str, scheme: str) -> tuple[Node, int | None]:
    """Return the node of ``host:port``, ``host:port/2``, ``redis://…`` or a path, and the database that it names."""
    path = text.removeprefix("unix:")
    if path.startswith("/"):
        return Node("unix", os.path.normpath(path), 0), None
    written, _, rest = text.rpartition("://")
    if written not in ("", *SCHEMES, *SCHEMES.values()):
        raise UsageError(f"the scheme of a Redis' address is redis or rediss, not {written}")
    address, _, database = rest.partition("/")
    if database and not (database.isascii() and database.isdecimal() and int(database) < LARGEST_DATABASE):
        raise UsageError("what follows the address of a node is not the number of a database", hint="write host:port/0")
    (node,) = parse_nodes([address], scheme="http", port=REDIS.port)
    scheme = SCHEMES.get(written, written) or scheme
    return Node(scheme, node.host, node.port), int(database) if database else None


def _found(find: Callable[[], Sequence[Node]]) -> list[Node]:
    return [Node(SCHEMES[node.scheme], node.host, node.port) for node in find()]


def _describe(error: BaseException, node: Node) -> StoreError:
    found = describe_error(error, node)
    found.hint = found.hint.replace("https://", "rediss://").replace("http://", "redis://")
    return found


def bulk(reply: object) -> str:
    """Return the text of a value or of a key."""
    return cast("bytes", reply).decode("utf-8", "surrogateescape")
