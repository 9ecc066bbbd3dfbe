"""The services that a Consul datacenter knows, by their health. ``docs/stores/consul-catalog.md`` is the contract.

``api`` asks Consul, ``instances`` makes keys of an answer, ``catalogue`` holds them, ``reader`` decides which answer is
believed, ``follower`` when to ask, and ``stream`` hands out what is new.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from confpy.config.stores.consul import CONSUL_CATALOG
from confpy.errors import AccessDenied, StoreError, WatchLost
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import ROOT
from confpy.keys.snapshot import PrefixStatus, Snapshot
from confpy.stores.catalog.api import Api, Scope
from confpy.stores.catalog.catalogue import service_of
from confpy.stores.catalog.follower import FEW, Follower
from confpy.stores.catalog.instances import Choice, can_be_asked, folded
from confpy.stores.catalog.reader import Reader
from confpy.stores.catalog.stream import CatalogStream
from confpy.stores.consul.api import Credentials, Login
from confpy.stores.network import open_endpoints

if TYPE_CHECKING:
    from confpy.config.settings import Settings


class CatalogStore:
    """Healthy instances of services, behind ``confpy.stores.Store``: ``/<service>/<instance>``."""

    capabilities = Capabilities(remote=True, names_deletions=False, binary_values=False, watches=True)

    def __init__(
        self, endpoints: Endpoints, login: Login, scope: Scope, choice: Choice, services: frozenset[str] = frozenset()
    ) -> None:
        """``services``: those that there are to be; empty: all."""
        self._endpoints = endpoints
        self._login = login
        self._scope = scope
        self._choice = choice
        self._services = services
        self._reader = Reader()
        self._lock = threading.Lock()
        self._read_as: Credentials | None = None
        """The credentials of the last read."""
        self._follower: Follower | None = None
        self._closed = False

    @property
    def node(self) -> str:
        return self._endpoints.node

    @classmethod
    def open(cls, settings: Settings) -> CatalogStore:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""
        endpoints = open_endpoints("consul", CONSUL_CATALOG, settings)
        login = Login(settings)
        login.read()
        scope = Scope(settings.datacenter or "", settings.namespace or "", settings.partition or "")
        choice = Choice(folded(settings.service_tags), settings.service_status, settings.service_value)
        return cls(endpoints, login, scope, choice, frozenset(settings.services))

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the path with a leading slash, as every key here has one."""
        return (path if path.startswith(ROOT) else ROOT + path,)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:  # noqa: ARG002
        """Read all services that the prefixes stand for; ``counted`` are left out."""
        return self._endpoints.with_failover(lambda connection: self._read(self._api(connection), prefixes))

    def _read(self, api: Api, prefixes: Sequence[str]) -> Snapshot:
        outdated = self._take_login(api.login)
        wanted = self._wanted(prefixes)
        if wanted is None or len(wanted) > FEW:
            names, nodes = api.names(), api.nodes()
            with self._reader.lock:
                known = self._reader.catalogue.names()
                if wanted is None:
                    self._reader.say_unaskable(name for name in names.tags if not can_be_asked(name))
                chosen = {*names.tags, *known} if wanted is None else wanted
                if known <= chosen:  # all that is known is read after that
                    self._reader.names, self._reader.nodes = names, nodes
            if wanted is None:
                wanted = frozenset(chosen)
        for name in sorted(wanted):
            self._reader.ask(api, name)
        for stream in outdated:
            stream.fail(StoreError("the token changed", hint="confpy follows with the new one"))
        listings, notes = self._reader.listings(prefixes)
        return Snapshot(listings, notes=notes)

    def _wanted(self, prefixes: Iterable[str]) -> frozenset[str] | None:
        """Return the services that the prefixes stand for; None: all."""
        names = [service_of(prefix) for prefix in prefixes]
        if "" in names:
            return self._services or None
        return frozenset(name for name in names if name and (not self._services or name in self._services))

    def _take_login(self, login: Credentials) -> list[CatalogStream]:
        """Take note of who reads; returns the streams of who read before, if that is another one."""
        with self._lock:
            before, self._read_as = self._read_as, login
        if before in (None, login):
            return []
        self._reader.suspect()
        with self._reader.lock:
            return list(self._reader.streams)

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        """Ask the leader about what may be different, and return how the prefixes are then."""
        if self._read_as not in (None, self._login.now()):
            return None
        return self._endpoints.with_failover(lambda one: self._poll(self._api(one), prefixes))

    def _poll(self, api: Api, prefixes: Sequence[str]) -> PrefixStatus | None:
        wanted = self._wanted(prefixes)
        if wanted is not None and len(wanted) <= FEW:
            for name in sorted(wanted):
                self._reader.ask(api, name, sure=True)
            return self._reader.status(prefixes)
        names, unwell, nodes = api.names(), api.unwell(), api.nodes()
        with self._reader.lock:
            before, follower = self._reader.names, self._follower
            if before is not None and names.index < before.index:
                self._reader.distrust_copies()
            if before is None or (follower is None and names.index != before.index):
                return None
            touched = self._reader.take_unwell(unwell) | self._reader.differing(names) | self._reader.take_nodes(nodes)
        for name in sorted(touched if wanted is None else touched & wanted):
            self._reader.ask(api, name, sure=True)
        return self._reader.status(prefixes)

    # --- following ---------------------------------------------------------------------------------------------------

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> CatalogStream:  # noqa: ARG002
        """Follow every prefix; returns when Consul has answered."""
        if self._read_as not in (None, self._login.now()):
            raise WatchLost("the token changed")
        self._endpoints.with_failover(lambda one: self._establish(self._api(one), cursors))
        stream = CatalogStream(cursors, self._ended)
        with self._reader.lock:
            for prefix, revision in cursors.items():
                stream.put(self._reader.catalogue.revision, self._reader.catalogue.since(prefix, revision))
            self._reader.streams.add(stream)
        self._follow()
        if self._closed:  # it may not have seen this one
            stream.close()
        return stream

    def _establish(self, api: Api, prefixes: Iterable[str]) -> None:
        """Ask Consul once for what is to be followed; raises ``StoreError``."""
        wanted = self._wanted(prefixes)
        if wanted is None or len(wanted) > FEW:
            api.unwell()
        for name in sorted(wanted or ()) if wanted is None or len(wanted) <= FEW else ():
            self._reader.ask(api, name)
        with self._reader.lock:
            for prefix in prefixes:
                error = self._reader.catalogue.denied.get(service_of(prefix) or "")
                if error is not None:
                    raise error.copy(AccessDenied).about(prefix)

    def _follow(self) -> None:
        """Follow what the open streams want, and no more."""
        with self._lock:
            with self._reader.lock:
                prefixes = {prefix for stream in self._reader.streams for prefix in stream.prefixes}
            names = self._wanted(prefixes)
            if self._follower is not None and prefixes and self._follower.names == names:
                return
            before, self._follower = self._follower, None
            if before is not None:
                before.close()
            if prefixes and not self._closed:
                self._follower = Follower(self._reader, self._connect, names, self._failed)
                self._follower.start()

    def _failed(self, follower: Follower, error: StoreError) -> None:
        """End the streams, of which one query failed; they are opened again."""
        with self._lock:
            if follower is not self._follower:
                return
            self._follower = None
        follower.close()
        with self._reader.lock:
            streams = list(self._reader.streams)
        for stream in streams:
            stream.fail(error)

    def _ended(self, stream: CatalogStream) -> None:
        with self._reader.lock:
            self._reader.streams.discard(stream)
        self._follow()

    # --- connections -------------------------------------------------------------------------------------------------

    def _connect(self) -> Api:
        """Return the API on a connection that stays open, and is the caller's to close."""
        return self._endpoints.with_failover(self._api, stays_open=True)

    def _api(self, connection: Connection) -> Api:
        return Api(connection, self._login.now(), self._scope, self._choice)

    def close(self) -> None:
        """Abort every connection; waiting calls raise ``StoreError``, iterations end."""
        self._closed = True
        with self._reader.lock:
            streams = list(self._reader.streams)
        for stream in streams:
            stream.close()
        self._endpoints.close()
