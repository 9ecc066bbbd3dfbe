"""etcd v3, over its JSON gateway: reads at one revision, cheap status queries, one stream for all changes.

``v3_wire`` has the requests and answers, ``v3_reading`` one read, ``v3_gateway`` the login and the traffic. The reasons
are in ``docs/decisions/0003-etcd3-over-the-gateway.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from confpy.config.stores.etcd import ETCDV3
from confpy.errors import StoreError
from confpy.http.body import Lines, Stream, TooLarge
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import ROOT
from confpy.keys.snapshot import Changes, Invalidated, PrefixStatus, Snapshot
from confpy.stores.etcd.v3_gateway import ANSWER_BYTES, Gateway, Login, Paths, parsed
from confpy.stores.etcd.v3_permissions import Denied, Grants
from confpy.stores.etcd.v3_reading import PAGE_BYTES, PAGE_KEYS, READ_BYTES, Reading
from confpy.stores.etcd.v3_wire import Compacted, StatusRequest, Watches
from confpy.stores.network import etcd_scheme, open_endpoints

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")

READ_TIMES = READ_BYTES // PAGE_BYTES
"""How many times the timeout of one answer a read may take in total: enough for the largest."""
_BATCH_BYTES = 8 << 20
"""How much of what has already arrived is merged at most."""
_READ_ATTEMPTS = 3
"""How often a read begins again because its revision was compacted."""
DENIED_FOR = 5.0
"""Seconds until a read tries again what the user may not read. They add to the mirror's own wait."""


class Etcd3Store:
    """The keys of an etcd v3 cluster, behind ``confpy.stores.Store``."""

    capabilities = Capabilities(
        remote=True, value_bytes=3 << 19, binary_keys=True, watches=True
    )  # etcd --max-request-bytes

    def __init__(self, endpoints: Endpoints, login: Login) -> None:
        self._endpoints = endpoints
        self._login = login
        self._paths: Paths = {}
        self._page_keys = PAGE_KEYS
        self._polled: _Polled | None = None
        """The last poll."""

    @property
    def node(self) -> str:
        return self._endpoints.node

    @classmethod
    def open(cls, settings: Settings) -> Etcd3Store:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""
        endpoints = open_endpoints("etcd", ETCDV3, settings, scheme=etcd_scheme(settings))
        login = Login(settings)
        login.password()
        return cls(endpoints, login)

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the key as given and, if it has no leading slash, with one, too: etcd distinguishes them."""
        if path in ("", ROOT):
            return (ROOT,)
        return (path,) if path.startswith(ROOT) else (ROOT + path, path)

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        """Read all prefixes at one revision, 128 in a request, and siblings after these together.

        A prefix that the user may not read has an error as its listing; the others are read without it.
        """
        return self._endpoints.with_failover(lambda one: self._read(self._gateway(one), prefixes, counted))

    def _gateway(self, connection: Connection) -> Gateway:
        return Gateway(connection, self._paths, self._login)

    def _read(self, gateway: Gateway, prefixes: Sequence[str], counted: Sequence[str]) -> Snapshot:
        end = time.monotonic() + READ_TIMES * self._endpoints.read_timeout
        for _ in range(_READ_ATTEMPTS - 1):
            with suppress(Compacted):
                return self._read_once(gateway, prefixes, counted, end)
        return self._read_once(gateway, prefixes, counted, end)

    def _read_once(self, gateway: Gateway, prefixes: Sequence[str], counted: Sequence[str], end: float) -> Snapshot:
        reading = Reading(prefixes, counted, page_keys=self._page_keys)
        if grants := self._login.lately(DENIED_FOR):
            reading.restrict(grants)
        hidden, learned = grants is not None, False
        while (request := reading.next_request()) is not None:
            try:
                text: bytes | None = gateway.fetch("kv/txn", request)
                while text is not None:
                    if time.monotonic() > end:
                        raise self._too_long()
                    # Sent before the answer is taken apart: etcd works meanwhile.
                    ahead = reading.request_ahead()
                    receive = gateway.send("kv/txn", ahead) if ahead is not None else None
                    reading.take(*parsed(text))
                    text = receive() if receive is not None else None
            except TooLarge:
                if not reading.shrink():
                    raise
            except Denied:
                if learned:
                    raise
                reading.restrict(gateway.learn())
                hidden = learned = True
        if not hidden:
            self._login.grants = None  # what was denied is not any more, or not wanted
        self._page_keys = reading.page_keys
        return reading.snapshot()

    def _too_long(self) -> StoreError:
        hint = "is etcd overloaded? let resources name fewer keys, or raise read_timeout"
        return StoreError(f"not all was read within {READ_TIMES * self._endpoints.read_timeout:g} s", hint=hint)

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus:
        """Return the status of the prefixes, in some hundred bytes each, however many keys they have.

        While etcd is at the revision of the last poll, nothing has changed, and that is all that is asked for. With
        users, permissions may have changed nevertheless.
        """
        return self._endpoints.with_failover(lambda one: self._with_grants(self._gateway(one), self._poll, prefixes))

    def _with_grants(self, gateway: Gateway, call: Callable[..., Result], *arguments: object) -> Result:
        """Call with what is known of the user's grants; if etcd denies that, once more with the current ones."""
        try:
            return call(gateway, self._login.grants, *arguments)
        except Denied:
            return call(gateway, gateway.learn(), *arguments)

    def _poll(self, gateway: Gateway, grants: Grants | None, prefixes: Sequence[str]) -> PrefixStatus:
        last = self._polled
        if last is not None and last.prefixes == tuple(prefixes) and not self._login.user:
            one = _ask(gateway, StatusRequest(prefixes[:1]))
            if one.origin() == last.origin:
                return last.status
        query = _ask(gateway, StatusRequest(prefixes, grants))
        self._polled = _Polled(tuple(prefixes), query.origin(), query.status())
        return self._polled.status

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> Etcd3Stream:
        """Follow every prefix on one stream; returns when etcd has answered for each.

        Raises ``AccessDenied``, with the prefix, for one that may not be read.
        """

        def follow(connection: Connection) -> Etcd3Stream:
            return self._with_grants(self._gateway(connection), self._watch, cursors, identity)

        return self._endpoints.with_failover(follow, stays_open=True)

    def _watch(self, gateway: Gateway, grants: Grants | None, cursors: Mapping[str, int], identity: str) -> Etcd3Stream:
        def establish() -> Etcd3Stream:
            watches = Watches(cursors, identity, grants)
            with gateway.connection.bounded():
                stream = Etcd3Stream(gateway.stream("watch", watches.body()), watches)
                while not watches.established:
                    stream.receive()
            return stream

        return gateway.logged_in(establish)

    def close(self) -> None:
        """Abort every connection; waiting calls raise ``StoreError``, iterations end."""
        self._endpoints.close()


class _Polled(NamedTuple):
    """What a poll was about, and brought."""

    prefixes: tuple[str, ...]
    origin: tuple[str, str, int]
    status: PrefixStatus


def _ask(gateway: Gateway, query: StatusRequest) -> StatusRequest:
    """Send a status query, and return it with its answers."""
    while (request := query.next_request()) is not None:
        answer, _ = gateway.post("kv/txn", request)
        query.take(answer)
    return query


class Etcd3Stream:
    """Changes as etcd sends them. What has already arrived is merged by watch; nothing is waited for."""

    def __init__(self, stream: Stream, watches: Watches) -> None:
        self._stream = stream
        self._watches = watches
        self._lines = Lines(ANSWER_BYTES)
        self._closed = False

    def __iter__(self) -> Iterator[Changes | Invalidated]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after the changes before it."""
        failure: StoreError | None = None
        while not self._closed:
            yield from self._watches.take()
            if failure is not None and not self._closed:
                self._stream.close()
                raise failure.at(node=self._stream.node.url)
            try:
                size = self.receive()
                while size < _BATCH_BYTES and self._stream.arrived():
                    size += self.receive()
            except StoreError as error:
                failure = error

    def receive(self) -> int:
        """Take what has arrived, waiting if nothing has; returns the number of bytes. Raises ``StoreError``."""
        data = self._stream.read()
        if data is None:
            raise StoreError("etcd closed the stream")
        for line in self._lines.feed(data):
            self._watches.feed(line)
        return len(data)

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._closed = True
        self._stream.close()
