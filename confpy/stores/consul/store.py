"""Consul's KV: recursive reads, and blocking queries on a small number of string prefixes that cover what is wanted.

``wire`` chooses the queries and compares their answers, ``api`` sends them, ``stream`` follows them.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confpy.clock import jittered
from confpy.config.stores.consul import CONSUL
from confpy.errors import AccessDenied, StoreError, WatchLost
from confpy.http.body import TooLarge
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import ROOT, ancestors, covers, select
from confpy.keys.snapshot import Changes, Listing, PrefixStatus, Snapshot
from confpy.stores.consul.api import LEADER, STALE, SURE, Api, Credentials, Login
from confpy.stores.consul.stream import ConsulStream
from confpy.stores.consul.wire import (
    COMPARED_BYTES,
    Answer,
    BlockingQuery,
    Cover,
    Reported,
    contradicts,
    cover,
    last_resort,
    to_text,
)
from confpy.stores.network import open_endpoints

if TYPE_CHECKING:
    from confpy.config.settings import Settings

DENIED = 60.0
"""Seconds until a string prefix that the token may not list is tried again, while narrower ones serve."""
SUSPECT_FOR = 60.0
"""Seconds for which a tree is suspect that is empty since the token changed: agents cache rights for 30."""


class ConsulStore:
    """The keys of a Consul datacenter, behind ``confpy.stores.Store``.

    A revision is the index of a query. Indexes of two queries compare, as both count what the servers wrote; but the
    index of the wider one may be ahead without any change. So a prefix never gets a lower revision than before, unless
    the servers were restored.
    """

    capabilities = Capabilities(
        remote=True,
        names_deletions=False,
        value_bytes=512 << 10,
        binary_values=True,
        watches=True,
        text_prefixes=True,
    )

    def __init__(
        self, endpoints: Endpoints, login: Login, datacenter: str | None, *, polls: bool = False, once: bool = False
    ) -> None:
        """``polls``: nothing is watched, and any server may answer the queries of a later read.

        ``once``: nothing is watched or read later.
        """
        self._endpoints = endpoints
        self._login = login
        self._datacenter = datacenter
        self._polls = polls
        self._follows = not polls and not once
        self._random = random.Random()
        self._lock = threading.Lock()
        self._reported: dict[str, Reported] = {}
        self._indexes: dict[str, int] = {}
        """String prefix → the index of the last answer that was reported."""
        self._bodies: dict[str, Answer] = {}
        """String prefix → the answer of the last read, until a stream goes on from there; without its keys."""
        self._denied: dict[str, tuple[float, StoreError]] = {}
        """String prefix that Consul does not answer → when to try it again, and why it does not."""
        self._streams: set[ConsulStream] = set()
        self._read_as: Credentials | None = None
        """The credentials of the last read."""
        self._suspect: dict[str, float] = {}
        """Prefix that had keys with the previous credentials → until when it is suspect if it is empty."""

    @property
    def node(self) -> str:
        return self._endpoints.node

    @classmethod
    def open(cls, settings: Settings) -> ConsulStore:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""
        endpoints = open_endpoints("consul", CONSUL, settings)
        login = Login(settings)
        login.read()
        once, polls = settings.onetime, not (settings.watch or settings.onetime)
        return cls(endpoints, login, settings.datacenter, polls=polls, once=once)

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the path with a leading slash: no key of Consul's needs one, and every raw key here has one."""
        return (path if path.startswith(ROOT) else ROOT + path,)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:  # noqa: ARG002
        """Read all prefixes, each at the index of the query that brought it; ``counted`` are left out."""
        return self._endpoints.with_failover(lambda connection: self._read(self._api(connection), prefixes))

    def _read(self, api: Api, prefixes: Sequence[str]) -> Snapshot:
        with self._lock:
            before = {prefix: reported.revision for prefix, reported in self._reported.items()}
        indexes: dict[str, int] = {}
        bodies: dict[str, Answer] = {}
        found: dict[str, tuple[int, dict[str, tuple[int, bytes | None]]]] = {}
        listings: dict[str, Listing] = {}
        denied = self._denials()
        waiting = list(dict.fromkeys(prefixes))
        while waiting:
            chosen = self._cover(waiting, denied)
            listings |= {prefix: Listing(0, error=_denied_error(prefix, denied)) for prefix in chosen.denied}
            waiting = []
            for query, below in chosen.queries.items():
                try:
                    answer = self._answer(api, query, below)
                except (AccessDenied, TooLarge) as error:
                    denied[query] = error
                    self._deny(query, below, error)
                    waiting += below
                    continue
                indexes[query] = answer.at
                found |= {prefix: (answer.at, keys) for prefix, keys in select(below, answer.keys).items()}
                if self._follows and len(answer.body) <= COMPARED_BYTES:
                    bodies[query] = answer._replace(keys={})
        with self._lock:
            outdated = list(self._streams) if self._new_login(api.login) else []
            now = time.monotonic()
            for prefix in [one for one, (_, keys) in found.items() if not keys and self._suspect.get(one, now) > now]:
                del found[prefix]
                listings[prefix] = Listing(0, error=_suspect_error(prefix))
            if any(self._older(prefix, index, keys, before) for prefix, (index, keys) in found.items()):
                self._reported.clear()
                self._indexes.clear()
                before.clear()
            for prefix, (index, keys) in found.items():
                self._suspect.pop(prefix, None)
                revision = max(index, before.get(prefix, 0))
                modified = {key: at for key, (at, _) in keys.items()}
                if prefix in self._reported:
                    self._reported[prefix].read(revision, modified)
                else:
                    self._reported[prefix] = Reported(revision, modified)
                listings[prefix] = Listing(revision, {key: to_text(value) for key, (_, value) in keys.items()})
            self._indexes |= indexes
            self._bodies = {} if self._streams else bodies
        for stream in outdated:
            stream.fail(StoreError("the token changed", hint="confpy follows with the new one"))
        return Snapshot(listings)

    def _answer(self, api: Api, query: str, below: Sequence[str]) -> Answer:
        """Return the answer to a query; when polling, from any server, which may lag behind.

        An answer that contradicts what was reported has to come from the leader.
        """
        with self._lock:
            reported = [self._reported[prefix] for prefix in below if prefix in self._reported]
        if self._polls and len(reported) == len(below):
            answer = api.read(query, consistency=STALE)
            if not contradicts(answer, reported):
                return answer
        return api.read(query, consistency=SURE if self._polls else LEADER)

    def _new_login(self, login: Credentials) -> bool:
        """Record who read, with the lock held; return whether the credentials have changed.

        Consul leaves out what a token may not read. Keys that could be read before do not count as deleted at once.
        """
        before, self._read_as = self._read_as, login
        if before in (None, login):
            return False
        until = time.monotonic() + SUSPECT_FOR
        self._suspect |= {prefix: until for prefix, reported in self._reported.items() if reported.keys}
        self._indexes.clear()
        return True

    def _older(self, prefix: str, index: int, keys: Mapping[str, tuple[int, Any]], before: Mapping[str, int]) -> bool:
        """Whether an answer with a lower index has other content than before: then the servers were restored."""
        reported = self._reported.get(prefix)
        if reported is None or index >= reported.revision or reported.revision != before.get(prefix):
            return False
        return reported.keys != {key: modified for key, (modified, _) in keys.items()}

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        """Compare the indexes with those of the last answers; None if one differs, and only a read can tell."""
        if self._read_as not in (None, self._login.now()):
            return None
        status, errors = self._endpoints.with_failover(lambda one: self._indexes_of(self._api(one), prefixes))
        with self._lock:
            if errors or any(self._indexes.get(query) != index for query, (index, _) in status.items()):
                return None
            if not self._suspect.keys().isdisjoint(prefixes):
                return None
            reported = {prefix: self._reported[prefix] for prefix in prefixes if prefix in self._reported}
            if len(reported) < len(prefixes):
                return None
            return PrefixStatus(
                identity="",
                revision=max((one.revision for one in reported.values()), default=0),
                newest={prefix: max(one.keys.values(), default=0) for prefix, one in reported.items()},
                counts={prefix: len(one.keys) for prefix, one in reported.items()},
            )

    def _indexes_of(
        self, api: Api, prefixes: Iterable[str]
    ) -> tuple[dict[str, tuple[int, tuple[str, ...]]], list[AccessDenied]]:
        """Return the queries that the token may make, with index and prefixes, and the errors of other prefixes."""
        prefixes = tuple(prefixes)
        denied = self._denials()
        indexes: dict[str, int] = {}
        while True:
            chosen = self._cover(prefixes, denied)
            new = {query: below for query, below in chosen.queries.items() if query not in indexes}
            if not new:
                status = {query: (indexes[query], below) for query, below in chosen.queries.items()}
                return status, [_denied_error(prefix, denied) for prefix in chosen.denied]
            for query, below in new.items():
                try:
                    indexes[query] = self._index(api, query)
                except (AccessDenied, TooLarge) as error:
                    denied[query] = error
                    self._deny(query, below, error)

    def _index(self, api: Api, query: str) -> int:
        """Return the index of a query; when polling, from any server as ``_answer`` does."""
        if not self._polls:
            return api.read_index(query)
        index = api.read_index(query, consistency=STALE)
        return index if index >= self._indexes.get(query, 0) else api.read_index(query, consistency=SURE)

    # --- following ---------------------------------------------------------------------------------------------------

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> ConsulStream:  # noqa: ARG002
        """Follow every prefix with at most 16 blocking queries; returns when Consul has answered for each prefix."""
        if self._read_as not in (None, self._login.now()):
            raise WatchLost("the token changed")
        status, errors = self._endpoints.with_failover(lambda one: self._indexes_of(self._api(one), cursors))
        if errors:
            raise errors[0]
        with self._lock:
            queries = [self._blocking_query(query, below, cursors, index) for query, (index, below) in status.items()]
            self._bodies = {}
        stream = ConsulStream(queries, self._connect, self._record, self._deny, self._streams.discard)
        with self._lock:
            self._streams.add(stream)
        stream.start()
        return stream

    def _blocking_query(
        self, query: str, below: Sequence[str], cursors: Mapping[str, int], index: int
    ) -> BlockingQuery:
        known: dict[str, int] = {}
        current = self._indexes.get(query) == index
        for prefix in below:
            above = next((one for one in reversed([*ancestors(prefix)]) if one in self._reported), None)
            if above is None:
                raise WatchLost("the prefix was not read yet")
            reported = self._reported[above]
            current = current and reported.revision <= cursors[prefix]
            known |= {key: at for key, at in reported.at(cursors[prefix]).items() if covers(prefix, key)}
        body = self._bodies.get(query)
        last = body.body if current and body is not None and body.at == index else b""
        cursor = min(cursors[prefix] for prefix in below)
        return BlockingQuery(query, below, known, index if current else 0, cursor, last=last)

    def _record(self, query: str, index: int, news: Sequence[Changes]) -> None:
        """Record the answer to a query of a stream."""
        with self._lock:
            self._indexes[query] = index
            for changes in news:
                if changes.prefix in self._reported:
                    self._reported[changes.prefix].record(changes.revision, changes.keys)

    # --- queries and connections -------------------------------------------------------------------------------------

    def _cover(self, prefixes: Sequence[str], denied: Mapping[str, StoreError]) -> Cover:
        with self._lock:
            weights = {prefix: len(reported.keys) + 1 for prefix, reported in self._reported.items()}
        return cover(prefixes, weights, denied.keys())

    def _denials(self) -> dict[str, StoreError]:
        """Return the string prefixes that are not tried now, each with its error."""
        now = time.monotonic()
        with self._lock:
            self._denied = {query: denial for query, denial in self._denied.items() if denial[0] > now}
            return {query: error for query, (_, error) in self._denied.items()}

    def _deny(self, query: str, below: Iterable[str], error: StoreError) -> None:
        """Record that a query is denied or brings too much, unless one of its prefixes has no narrower one."""
        if query not in map(last_resort, below):
            pause = math.inf if isinstance(error, TooLarge) else jittered(DENIED, self._random)
            with self._lock:
                self._denied[query] = time.monotonic() + pause, error

    def _connect(self) -> Api:
        """Return the API on a connection that stays open, and is the caller's to close."""
        return self._endpoints.with_failover(self._api, stays_open=True)

    def _api(self, connection: Connection) -> Api:
        return Api(connection, self._login.now(), self._datacenter)

    def close(self) -> None:
        """Abort every connection; waiting calls raise ``StoreError``, iterations end."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._endpoints.close()


def _denied_error(prefix: str, denied: Mapping[str, StoreError]) -> AccessDenied:
    """Return the error of a prefix for which every query is denied."""
    narrowest = max((query for query in denied if last_resort(prefix).startswith(query)), key=len)
    error = denied[narrowest]
    if isinstance(error, TooLarge):
        message, hint = error.message, "Consul has no pages: let the resource read keys further down the tree"
    else:
        message, hint = "Consul refuses the prefix: permission denied", "give the token a policy that may list it"
    return AccessDenied(message, hint=hint, prefix=prefix).at(**error.where)


def _suspect_error(prefix: str) -> AccessDenied:
    return AccessDenied(
        "the prefix is empty since the token changed",
        hint=f"give the new one a policy that may read it; after {SUSPECT_FOR:g} s it counts as empty",
        prefix=prefix,
    )
