"""etcd v2, over its HTTP API: reads of whole folders, then long polls, one event each.

Each event has an index, and the next poll continues there, so that no event between two polls is lost as long as etcd
remembers it: the last 1,000 changes of all keys. ``v2_wire`` has the requests and answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, urljoin, urlsplit

from confpy.config.stores.etcd import ETCDV2
from confpy.errors import AccessDenied, StoreError, UsageError, bug
from confpy.http.addresses import Node, parse_nodes
from confpy.http.body import TooLarge, await_body, read_body
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import normalise
from confpy.keys.snapshot import Changes, Snapshot
from confpy.stores.etcd.v2_wire import WATCH_HEADS, LongPoll, Reading, error_of, heads, lists, url_path
from confpy.stores.network import basic_auth, etcd_scheme, open_endpoints

if TYPE_CHECKING:
    from confpy.config.settings import Settings
    from confpy.http.response import Response

Login: TypeAlias = "Callable[[], tuple[bytes, bytes] | None]"

ANSWER_BYTES = 64 << 20
"""The largest answer that is held in memory: etcd v2 cannot give a folder in pages."""
_ANSWERS = 6
"""How many times the timeout of one answer a read of many prefixes may take in total."""
_REDIRECTS = 3
_REDIRECTED = (301, 302, 307, 308)
_SHORTEST_WAIT = 1.0
"""Seconds. With an empty answer an old etcd ends a long poll; one that arrives at once is a fault."""


class Etcd2Store:
    """The keys of an etcd v2 cluster, or of the v2 API of a later version, behind ``confpy.stores.Store``."""

    capabilities = Capabilities(
        remote=True, value_bytes=10 << 20, binary_values=False, watches=True, missing="error", lists=lists
    )

    def __init__(self, endpoints: Endpoints, login: Login) -> None:
        self._endpoints = endpoints
        self._login = login
        self._denied: set[str] = set()
        """Paths above prefixes that etcd does not let this user read: not to be read again."""

    @property
    def node(self) -> str:
        return self._endpoints.node

    @classmethod
    def open(cls, settings: Settings) -> Etcd2Store:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""
        endpoints = open_endpoints("etcd v2", ETCDV2, settings, scheme=etcd_scheme(settings))
        login = partial(basic_auth, settings)
        login()
        return cls(endpoints, login)

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the path: every key of etcd v2 begins with a slash."""
        return (normalise(path),)

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:  # noqa: ARG002 - v2 cannot count
        """Read each prefix as of its own index; many are read together. A denied one is the error of its listing."""
        return self._endpoints.with_failover(lambda connection: self._read(self._api(connection), prefixes))

    def _read(self, api: Api, prefixes: Sequence[str]) -> Snapshot:
        reading = Reading(prefixes, self._denied)
        with api.connection.bounded((_ANSWERS - 1) * self._endpoints.read_timeout):
            while (head := reading.next_path()) is not None:
                try:
                    with api.connection.bounded():
                        response = api.get(url_path(head, recursive="true", quorum="true"))
                        text = read_body(response, ANSWER_BYTES)
                except TooLarge as error:
                    reading.deny(error)
                else:
                    reading.take(response.status, response.headers, text)
        snapshot = reading.snapshot()
        for listing in snapshot.listings.values():
            if listing.error is not None:
                listing.error.at(node=api.connection.node.url)
        return snapshot

    def poll(self, prefixes: Sequence[str]) -> None:  # noqa: ARG002 - only a read can tell
        """Return None: only a read can tell."""
        return

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> Etcd2Stream:
        """Follow every prefix; returns when etcd has accepted a long poll for each of them."""
        while True:
            with ExitStack() as opened:
                waiters = []
                for head in heads(cursors, WATCH_HEADS, self._denied):
                    below = {prefix: cursor for prefix, cursor in cursors.items() if lists(head, prefix)}
                    try:
                        long_poll = LongPoll(head, below, identity)
                        waiter = self._endpoints.with_failover(partial(self._wait_below, long_poll), stays_open=True)
                    except AccessDenied:
                        if head in cursors:
                            raise
                        self._denied.add(head)
                        break
                    opened.callback(waiter.close)
                    waiters.append(waiter)
                else:
                    opened.pop_all()
                    return Etcd2Stream(waiters)

    def _wait_below(self, long_poll: LongPoll, connection: Connection) -> _Waiter:
        return _Waiter(long_poll, self._api(connection))

    def _api(self, connection: Connection) -> Api:
        try:
            connection.login = self._login()
        except UsageError as error:
            raise error.copy(StoreError) from error
        return Api(connection, set(self._endpoints))

    def close(self) -> None:
        """Abort every connection; waiting calls raise ``StoreError``, iterations end."""
        self._endpoints.close()


class Etcd2Stream:
    """Changes from long polls, each on a thread of its own; merged by prefix until they are taken."""

    def __init__(self, waiters: Sequence[_Waiter]) -> None:
        self._waiters = waiters
        self._changed = threading.Condition()
        self._failure: StoreError | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Changes]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after the changes before it."""
        for waiter in self._waiters:
            threading.Thread(target=self._follow, args=[waiter], name="confpy-wait", daemon=True).start()
        while True:
            with self._changed:
                self._changed.wait_for(self._has_changes)
                changes = [one for waiter in self._waiters for one in waiter.long_poll.take()]
            if self._closed:
                return
            yield from changes
            if not changes and self._failure is not None:
                self.close()
                raise self._failure

    def _has_changes(self) -> bool:
        return self._closed or self._failure is not None or any(waiter.long_poll for waiter in self._waiters)

    def _follow(self, waiter: _Waiter) -> None:
        try:
            while not self._closed:
                text = waiter.receive()
                with self._changed:
                    if text:
                        waiter.long_poll.feed(text)
                    self._changed.notify_all()
                waiter.send()
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream must not stop unnoticed
            failure = error if isinstance(error, StoreError) else StoreError(bug(error).message)
            failure.at(node=waiter.node)
            with self._changed:
                self._failure = self._failure or failure
                self._changed.notify_all()

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for waiter in self._waiters:
            waiter.close()


class _Waiter:
    """A connection with a long poll below one head. Made when etcd has accepted it; raises ``StoreError``."""

    def __init__(self, long_poll: LongPoll, api: Api) -> None:
        self.long_poll = long_poll
        self.node = api.connection.node.url
        self._api = api
        self.send()

    def send(self) -> None:
        """Poll for the next event; etcd sends the headers of its answer at once. Raises ``StoreError``."""
        with self._api.connection.bounded():
            self._response = self._api.get(self.long_poll.next_path())
            if self._response.status != 200:
                raise error_of(self._response.status, read_body(self._response, ANSWER_BYTES))
            self.long_poll.begin(self._response.headers)
        self._since = time.monotonic()

    def receive(self) -> bytes:
        """Return the next event, or nothing if the poll ended without one. Raises ``StoreError``."""
        with self._api.connection.described():
            await_body(self._response)
        with self._api.connection.bounded():
            text = read_body(self._response, ANSWER_BYTES).strip()
        if not text and time.monotonic() - self._since < _SHORTEST_WAIT:
            raise StoreError("etcd ended the wait at once")
        return text

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._api.connection.close()


class Api:
    """The API of one etcd, or of the one that it redirects to."""

    def __init__(self, connection: Connection, nodes: Collection[Node]) -> None:
        """``nodes`` are those of the settings: no other is shown the login."""
        self.connection = connection
        self._at = connection.node
        self._nodes = nodes

    def get(self, path: str) -> Response:
        """Return the answer, whose body is still to be read; follows redirects. To be called within ``bounded``."""
        return self.request("GET", path, {}, None)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        """Send any request, as ``get``."""
        for _ in range(_REDIRECTS + 1):
            response = self.connection.request(method, path, headers, body)
            if response.status not in _REDIRECTED:
                return response
            path = self._follow(response.headers.get("Location") or "")
        raise StoreError(f"it redirects more than {_REDIRECTS} times", hint="do its nodes agree on their leader?")

    def _follow(self, location: str) -> str:
        """Send this request and all that come after it to where a redirect points; returns the path there."""
        to = urlsplit(urljoin(self._at.url, location))
        if to.scheme != self._at.scheme or not to.netloc:
            raise StoreError(f"it redirects to {to.scheme}://, not {self._at.scheme}://", hint="name that node itself")
        try:
            (self._at,) = parse_nodes([to.netloc], scheme=to.scheme, port=443 if to.scheme == "https" else 80)
        except UsageError:
            raise StoreError("it redirects to what is no address", hint="name its other nodes themselves") from None
        self.connection.move(self._at)
        if self._at not in self._nodes:
            self.connection.login = None
        return quote(to._replace(scheme="", netloc="").geturl(), safe="%/?&=+:;,@!$'()*~")
