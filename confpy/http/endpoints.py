"""The endpoints of one store: several nodes, tried in turn, and every connection to them within reach of ``close``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from confpy.errors import AccessDenied, NoApi, StoreError, WatchLost
from confpy.http.addresses import Node, Proxy, proxy_of
from confpy.http.connection import Connection, Describe
from confpy.http.deadlines import Deadlines
from confpy.http.errors import describe_error
from confpy.system.abandonable import AbandonableCall, Abandoned

if TYPE_CHECKING:
    from confpy.http.tls import Trust

Result = TypeVar("Result")
Find: TypeAlias = Callable[[], Sequence[Node]]

ROTATION_INTERVAL = 3600.0
"""Seconds for which a node that works is the first choice; then the next one is, so that load spreads in a cluster."""


class Endpoints:
    """The nodes of one store, each with its connections. They are tried in turn, from the current first choice on."""

    def __init__(
        self,
        store: str,
        nodes: Sequence[Node],
        *,
        trust: Trust | None,
        connect_timeout: float,
        read_timeout: float,
        find: Find | None = None,
        find_proxy: Callable[[Node], Proxy | None] = proxy_of,
        describe: Describe = describe_error,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``store`` is its name in errors; the timeouts are seconds, ``read_timeout`` bounds a request as a whole.

        ``trust`` may be None if no node speaks TLS. ``find`` queries DNS for the nodes, the best one first: at first
        use, when none of them works any more, and after each ``ROTATION_INTERVAL``. ``describe``: as ``Connection``
        takes it.
        """
        self.store = store
        self.trust = trust
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._nodes = tuple(nodes)
        """In the order in which they are tried."""
        self._find = find
        self._find_proxy = find_proxy
        self._describe = describe
        self.node = ""
        """The address of the one that answered last; empty: none did, or none works any more. Any thread reads it."""
        self._lookups: set[AbandonableCall[Sequence[Node]]] = set()
        self._lookup_error: StoreError | None = None
        """Why the last query of DNS brought no nodes."""
        self._clock = clock
        self._first_since: float | None = None
        """Since when the first node is the first choice; None if that has to be chosen anew."""
        self._connections: set[Connection] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._deadlines = Deadlines()

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def with_failover(self, call: Callable[[Connection], Result], *, stays_open: bool = False) -> Result:
        """Return what ``call`` returns for a new connection to a node that works; that node is the first choice next.

        Each node is tried once, and none after three times the timeouts of one. ``WatchLost`` and ``AccessDenied`` are
        answers, and are raised; any other ``StoreError`` is a reason to try the next node. With ``stays_open`` the
        connection of a call that succeeded is the caller's to close.
        """
        tried: list[tuple[Node, StoreError]] = []
        deadline = time.monotonic() + 3 * (self.connect_timeout + self.read_timeout)
        for node in (nodes := self._in_order()):
            if tried and time.monotonic() > deadline:
                break
            connection = self._open(node)
            try:
                result = call(connection)
                connection.owned_by_caller = stays_open
            except (WatchLost, AccessDenied) as error:
                self.node = node.url
                self._begin_with(node)
                error.at(node=node.url)
                raise
            except StoreError as error:
                if self._closed:
                    raise
                tried.append((node, error))
            else:
                self.node = node.url
                self._begin_with(node)
                return result
            finally:
                if not connection.owned_by_caller:
                    connection.close()
        self._begin_with(nodes[len(tried) % len(nodes)])
        self.node, self._first_since = "", None
        raise self._none_works(tried)

    # --- the order of the nodes --------------------------------------------------------------------------------------

    def _in_order(self) -> tuple[Node, ...]:
        """Return the nodes in the order in which to try them; raises ``StoreError`` if DNS has none."""
        now, since = self._clock(), self._first_since
        if since is None or not self._nodes or now - since > ROTATION_INTERVAL:
            self._first_since = now
            if self._find is not None:
                self._look_up(self._find)
            elif since is not None:
                self._begin_with(self._nodes[1 % len(self._nodes)])
        return self._nodes

    def _begin_with(self, node: Node) -> None:
        """Make a node the first choice, and those that stood before it the last ones."""
        nodes = self._nodes
        if node in nodes[1:]:
            at = nodes.index(node)
            self._nodes, self._first_since = nodes[at:] + nodes[:at], self._clock()

    def _look_up(self, find: Find) -> None:
        """Query DNS for the nodes; without an answer the previous ones stay. Raises ``StoreError`` without any."""
        lookup = AbandonableCall(find)
        with self._lock:
            self._lookups.add(lookup)
            if self._closed:
                lookup.abandon()
        try:
            # The query has a limit of its own; it gets a little more time here, as its error is the better one.
            nodes = lookup.result(self.connect_timeout + 1)
        except Abandoned:
            raise self._closed_error() from None
        except TimeoutError:
            self._lookup_error = StoreError("the SRV record could not be looked up in time", hint="does DNS work?")
        except StoreError as error:
            self._lookup_error = error
        else:
            self._nodes, self._lookup_error = tuple(nodes), None
        finally:
            with self._lock:
                self._lookups.discard(lookup)
        if not self._nodes and self._lookup_error is not None:
            self._first_since = None
            raise StoreError(f"{self.store}: {self._lookup_error.message}", hint=self._lookup_error.hint)

    def _none_works(self, tried: list[tuple[Node, StoreError]]) -> StoreError:
        node, last = tried[-1]
        if self._lookup_error is not None:
            last.message += f" (and these nodes may be the wrong ones: {self._lookup_error.message})"
        kind = next((NoApi for _, error in tried if isinstance(error, NoApi)), StoreError)
        if len(tried) == 1:
            return kind(f"{self.store}: {last.message}", hint=last.hint, **{"node": node.url, **last.where})
        each = ", ".join(f"{node.url}: {error.message}" for node, error in tried)
        return kind(f"{self.store}: none of {len(tried)} nodes can be used: {each}", hint=last.hint)

    # --- their connections -------------------------------------------------------------------------------------------

    def _open(self, node: Node) -> Connection:
        connection = Connection(
            node,
            deadlines=self._deadlines,
            connect_timeout=self.connect_timeout,
            answer_timeout=self.read_timeout,
            trust=self.trust,
            find_proxy=self._find_proxy,
            socket_file=node.socket_file,
            describe=self._describe,
        )
        connection.on_close = self._forget
        with self._lock:
            if self._closed:
                raise self._closed_error()
            self._connections.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def _closed_error(self) -> StoreError:
        return StoreError(f"{self.store}: the store was closed")

    def close(self) -> None:
        """Abort every connection. Any thread, any number of times."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
            for lookup in self._lookups:
                lookup.abandon()
        for connection in connections:
            connection.abort(self._closed_error())
            if connection.owned_by_caller:  # no call will close it
                connection.close()
        self._deadlines.close()
