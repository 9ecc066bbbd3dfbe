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
from confpy.stores.consul.wire import Answer, Cover, Following, Told, cover, last_resort, takes_back, to_text
from confpy.stores.network import open_endpoints

if TYPE_CHECKING:
    from confpy.config.settings import Settings

DENIED = 60.0
"""Seconds until a string prefix that the token may not list is tried again where narrower ones do as well."""
DOUBTED = 60.0
"""Seconds for which a tree that is empty since the token changed is not believed: agents keep old rights for 30."""


class ConsulStore:
    """The keys of a Consul datacenter, behind ``confpy.stores.Store``.

    A revision is the index of a query. Indexes of two queries compare, as both count what the servers wrote; but the
    wider one may be ahead with nothing to show for it, and so no prefix is told a lower revision than before, unless
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

    def __init__(self, endpoints: Endpoints, login: Login, datacenter: str | None, *, polls: bool = False) -> None:
        """``polls``: nothing is watched, and any server may answer the same queries again."""
        self._endpoints = endpoints
        self._login = login
        self._datacenter = datacenter
        self._polls = polls
        self._random = random.Random()
        self._lock = threading.Lock()
        self._told: dict[str, Told] = {}
        self._indexes: dict[str, int] = {}
        """String prefix → the index of what was told of it."""
        self._denied: dict[str, tuple[float, StoreError]] = {}
        """String prefix that Consul does not answer → until when that is believed, and why it is so."""
        self._streams: set[ConsulStream] = set()
        self._read_as: Credentials | None = None
        """Who made the last read."""
        self._doubted: dict[str, float] = {}
        """Prefix that held keys for who read before → until when it is not believed to be empty."""

    @classmethod
    def open(cls, settings: Settings) -> ConsulStore:
        """Make the store that the settings describe. No traffic yet; raises ``UsageError``."""
        endpoints = open_endpoints("consul", CONSUL, settings)
        login = Login(settings)
        login.read()
        return cls(endpoints, login, settings.datacenter, polls=not (settings.watch or settings.onetime))

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the path with a leading slash: no key of Consul's needs one, and every raw key here has one."""
        return (path if path.startswith(ROOT) else ROOT + path,)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:  # noqa: ARG002
        """Read all prefixes, each at the index of the query that brought it; ``counted`` are left out."""
        return self._endpoints.with_failover(lambda connection: self._read(self._api(connection), prefixes))

    def _read(self, api: Api, prefixes: Sequence[str]) -> Snapshot:
        with self._lock:
            before = {prefix: told.revision for prefix, told in self._told.items()}
        indexes: dict[str, int] = {}
        found: dict[str, tuple[int, dict[str, tuple[int, bytes | None]]]] = {}
        listings: dict[str, Listing] = {}
        denied = self._denials()
        waiting = list(dict.fromkeys(prefixes))
        while waiting:
            chosen = self._cover(waiting, denied)
            listings |= {prefix: Listing(0, error=_refused(prefix, denied)) for prefix in chosen.refused}
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
        with self._lock:
            outdated = list(self._streams) if self._new_login(api.login) else []
            now = time.monotonic()
            for prefix in [one for one, (_, keys) in found.items() if not keys and self._doubted.get(one, now) > now]:
                del found[prefix]
                listings[prefix] = Listing(0, error=_doubtful(prefix))
            if any(self._older(prefix, index, keys, before) for prefix, (index, keys) in found.items()):
                self._told.clear()
                self._indexes.clear()
                before.clear()
            for prefix, (index, keys) in found.items():
                self._doubted.pop(prefix, None)
                revision = max(index, before.get(prefix, 0))
                modified = {key: at for key, (at, _) in keys.items()}
                told = self._told.setdefault(prefix, Told(revision, modified))
                told.read(revision, modified)
                listings[prefix] = Listing(revision, {key: to_text(value) for key, (_, value) in keys.items()})
            self._indexes |= indexes
        for stream in outdated:
            stream.fail(StoreError("the token changed", hint="confpy follows with the new one"))
        return Snapshot(listings)

    def _answer(self, api: Api, query: str, below: Sequence[str]) -> Answer:
        """Return what a query brings, where confpy polls from whichever server is near.

        That one may lag behind. What takes back something that was told has to come from the leader.
        """
        with self._lock:
            told = [self._told[prefix] for prefix in below if prefix in self._told]
        if self._polls and len(told) == len(below):
            answer = api.ask(query, consistency=STALE)
            if not takes_back(answer, told):
                return answer
        return api.ask(query, consistency=SURE if self._polls else LEADER)

    def _new_login(self, login: Credentials) -> bool:
        """Note who read, with the lock held; say whether it was somebody else before.

        Consul leaves out what a token may not read. What could be read before is not believed gone at once.
        """
        before, self._read_as = self._read_as, login
        if before in (None, login):
            return False
        until = time.monotonic() + DOUBTED
        self._doubted |= {prefix: until for prefix, told in self._told.items() if told.keys}
        self._indexes.clear()
        return True

    def _older(self, prefix: str, index: int, keys: Mapping[str, tuple[int, Any]], before: Mapping[str, int]) -> bool:
        """Say whether an answer with a lower index than before has another content: then the servers went back."""
        told = self._told.get(prefix)
        if told is None or index >= told.revision or told.revision != before.get(prefix):
            return False
        return told.keys != {key: modified for key, (modified, _) in keys.items()}

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        """Compare the indexes with those of what was told last; None where one is another, and only a read can tell."""
        if self._read_as not in (None, self._login.now()):
            return None
        status, refused = self._endpoints.with_failover(lambda one: self._stand(self._api(one), prefixes))
        with self._lock:
            if refused or any(self._indexes.get(query) != index for query, (index, _) in status.items()):
                return None
            if not self._doubted.keys().isdisjoint(prefixes):
                return None
            told = {prefix: self._told[prefix] for prefix in prefixes if prefix in self._told}
            if len(told) < len(prefixes):
                return None
            return PrefixStatus(
                identity="",
                revision=max((one.revision for one in told.values()), default=0),
                newest={prefix: max(one.keys.values(), default=0) for prefix, one in told.items()},
                counts={prefix: len(one.keys) for prefix, one in told.items()},
            )

    def _stand(
        self, api: Api, prefixes: Iterable[str]
    ) -> tuple[dict[str, tuple[int, tuple[str, ...]]], list[AccessDenied]]:
        """Return queries that the token may make, with index and prefixes; and why there is none for the others."""
        prefixes = tuple(prefixes)
        denied = self._denials()
        indexes: dict[str, int] = {}
        while True:
            chosen = self._cover(prefixes, denied)
            new = {query: below for query, below in chosen.queries.items() if query not in indexes}
            if not new:
                status = {query: (indexes[query], below) for query, below in chosen.queries.items()}
                return status, [_refused(prefix, denied) for prefix in chosen.refused]
            for query, below in new.items():
                try:
                    indexes[query] = self._index(api, query)
                except (AccessDenied, TooLarge) as error:
                    denied[query] = error
                    self._deny(query, below, error)

    def _index(self, api: Api, query: str) -> int:
        """Ask for the index alone, where confpy polls as ``_answer`` does."""
        if not self._polls:
            return api.ask_index(query)
        index = api.ask_index(query, consistency=STALE)
        return index if index >= self._indexes.get(query, 0) else api.ask_index(query, consistency=SURE)

    # --- following ---------------------------------------------------------------------------------------------------

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> ConsulStream:  # noqa: ARG002
        """Follow every prefix by at most 16 blocking queries; returns when Consul has answered for each of them."""
        if self._read_as not in (None, self._login.now()):
            raise WatchLost("the token changed")
        status, refused = self._endpoints.with_failover(lambda one: self._stand(self._api(one), cursors))
        if refused:
            raise refused[0]
        with self._lock:
            followings = [self._following(query, below, cursors, index) for query, (index, below) in status.items()]
        stream = ConsulStream(followings, self._connect, self._note, self._deny, self._streams.discard)
        with self._lock:
            self._streams.add(stream)
        stream.start()
        return stream

    def _following(self, query: str, below: Sequence[str], cursors: Mapping[str, int], index: int) -> Following:
        known: dict[str, int] = {}
        current = self._indexes.get(query) == index
        for prefix in below:
            above = next((one for one in reversed([*ancestors(prefix)]) if one in self._told), None)
            if above is None:
                raise WatchLost("the prefix was not read yet")
            told = self._told[above]
            current = current and told.revision <= cursors[prefix]
            known |= {key: at for key, at in told.at(cursors[prefix]).items() if covers(prefix, key)}
        return Following(query, below, known, index if current else 0, min(cursors[prefix] for prefix in below))

    def _note(self, query: str, index: int, news: Sequence[Changes]) -> None:
        """A stream brought an answer to a query."""
        with self._lock:
            self._indexes[query] = index
            for changes in news:
                if changes.prefix in self._told:
                    self._told[changes.prefix].note(changes.revision, changes.keys)

    # --- the way to Consul -------------------------------------------------------------------------------------------

    def _cover(self, prefixes: Sequence[str], denied: Mapping[str, StoreError]) -> Cover:
        with self._lock:
            weights = {prefix: len(told.keys) + 1 for prefix, told in self._told.items()}
        return cover(prefixes, weights, denied.keys())

    def _denials(self) -> dict[str, StoreError]:
        """Return the string prefixes that need not be tried now, and why."""
        now = time.monotonic()
        with self._lock:
            self._denied = {query: denial for query, denial in self._denied.items() if denial[0] > now}
            return {query: error for query, (_, error) in self._denied.items()}

    def _deny(self, query: str, below: Iterable[str], error: StoreError) -> None:
        """Remember that a query is refused or brings too much, unless one of its prefixes has no other to try."""
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
        """Cut every connection; what waits raises ``StoreError``, what iterates ends."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._endpoints.close()


def _refused(prefix: str, denied: Mapping[str, StoreError]) -> AccessDenied:
    """Return the error of a prefix for which every query is denied."""
    narrowest = max((query for query in denied if last_resort(prefix).startswith(query)), key=len)
    error = denied[narrowest]
    if isinstance(error, TooLarge):
        message, hint = error.message, "Consul has no pages: let the resource read keys further down the tree"
    else:
        message, hint = "Consul refuses the prefix: permission denied", "give the token a policy that may list it"
    return AccessDenied(message, hint=hint, prefix=prefix).at(**error.where)


def _doubtful(prefix: str) -> AccessDenied:
    return AccessDenied(
        "the prefix is empty since the token changed",
        hint=f"give the new one a policy that may read it; after {DOUBTED:g} s it is believed to be empty",
        prefix=prefix,
    )
