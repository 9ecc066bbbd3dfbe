"""Asks Consul about services and keeps what it said: any thread, each with a connection of its own.

The agent answers from its own copy, which it follows by itself (``?cached``). A copy alone never makes a service
vanish, and never takes it back to an earlier state: then the leader is asked. When that itself goes back, its servers
were restored from a snapshot, and agents go on with copies of what was there before, until their own queries end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from confpy.errors import AccessDenied
from confpy.events import LogEvent
from confpy.frozen import NOTHING
from confpy.http.body import TooLarge
from confpy.keys.prefixes import ROOT
from confpy.keys.snapshot import Listing, PrefixStatus
from confpy.stores.catalog.api import Api, Names
from confpy.stores.catalog.catalogue import Catalogue, Unwell, service_of
from confpy.stores.catalog.instances import Service, can_be_asked, segment
from confpy.stores.catalog.stream import CatalogStream

SUSPECT_FOR = 60.0
"""Seconds for which instances that vanished together with a permission are not taken for gone: agents cache rights for
30."""
COPY_LASTS = 660.0
"""Seconds for which no copy is used after the servers were restored: an agent's query waits for ten minutes."""
_SAID = 10_000
"""How many instances that were left out are remembered, in order to say so once."""


class Reader:
    """The catalogue, and the streams that follow it."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.names: Names | None = None
        """All services, as of a moment before each of those in the catalogue was read."""
        self.nodes: Mapping[str, int] | None = None
        """The same of all nodes: name → index."""
        self.unwell: Unwell | None = None
        self.streams: set[CatalogStream] = set()
        self.lock = threading.RLock()
        """Held by whoever uses what is above."""
        self._indexes: dict[str, int] = {}
        """Service → the index of its last answer, also of one that was not believed."""
        self._no_copies_until = 0.0
        """Monotonic time until which only the leader is asked."""
        self._suspect_until = 0.0
        """Monotonic time until which no service is taken for gone."""
        self._hidden_since: dict[str, float] = {}
        """Service → since when a part of it is hidden that was not hidden before."""
        self._said: set[tuple[str, str, str]] = set()
        self._notes: list[LogEvent] = []
        """What is to be logged by the next read."""

    def suspect(self) -> None:
        """Take it that the token is another one: for a minute, what vanishes may only be hidden."""
        with self.lock:
            self._suspect_until = time.monotonic() + SUSPECT_FOR

    def distrust_copies(self) -> None:
        """Take it that the servers were restored to an earlier state: for some minutes, only the leader is asked."""
        with self.lock:
            self._no_copies_until = time.monotonic() + COPY_LASTS

    @property
    def _uses_copies(self) -> bool:
        return time.monotonic() >= self._no_copies_until

    # --- asking ------------------------------------------------------------------------------------------------------

    def ask(self, api: Api, name: str, *, wait: float = 0.0, sure: bool = False) -> bool:
        """Ask about a service, after up to ``wait`` seconds without a change; says whether anything is new.

        ``sure``: ask the leader. So it is for a service that nothing is known of.
        """
        if not can_be_asked(name):
            return False
        with self.lock:
            before = self.catalogue.get(name)
            index = self._indexes.get(name, 0)
            cached = before is not None and not sure and self._uses_copies
        try:
            answer = api.service(name, index=index, wait=wait, cached=cached)
            service = answer.service
            if before is not None and cached and (not answer.is_fresh or _is_doubtful(service, before)):
                with self.lock:
                    before = self.catalogue.get(name)
                service, cached = api.service(name).service, False
        except (AccessDenied, TooLarge) as error:
            with self.lock:
                self._deny(name, error.copy(AccessDenied))
            return False
        with self.lock:
            if cached and not self._uses_copies:
                return False
            return self._take(name, service, before)

    def _take(self, name: str, service: Service, before: Service | None) -> bool:
        """Take an answer to a question of when ``before`` was known; says whether anything is new."""
        now = self.catalogue.get(name)
        if now is not None and now is not before and service.index < now.index:
            return False  # another thread has a newer one meanwhile
        if now is not None and service.index < now.index:
            self.distrust_copies()
        self._indexes[name] = service.index
        if (error := self._hides(name, service, now)) is not None:
            self._deny(name, error)
            return False
        was_denied = name in self.catalogue.denied
        news = self.catalogue.take(name, service)
        for instance, reason in service.left_out:
            fields = {"service": name, "instance": segment(instance)[:200], "reason": reason}
            self._say(name, instance, reason, LogEvent("warning", "instance.left_out", fields))
        self._tell(news)
        return bool(news) or was_denied

    def _tell(self, news: Mapping[str, tuple[int, str | None]] = NOTHING) -> None:
        """Hand out what changed, and what is to be logged; without a stream, that waits for the next read."""
        for stream in self.streams if news or self._notes else ():
            stream.put(self.catalogue.revision, news, self._take_notes())

    def _hides(self, name: str, service: Service, now: Service | None) -> AccessDenied | None:
        """Return the error if instances are missing since the token may not see them, and not since they are gone."""
        had = now is not None and bool(now.instances)
        moment = time.monotonic()
        if service.hidden and not service.instances:
            return AccessDenied("Consul hides the service from the token", hint="give it service:read and node:read")
        if had and not service.instances and moment < self._suspect_until:
            return AccessDenied(
                "the service has no instance since the token changed",
                hint=f"give the new one service:read and node:read; after {SUSPECT_FOR:g} s it counts as gone",
            )
        if now is None or not service.hidden or now.hidden or now.keys.keys() <= service.keys.keys():
            self._hidden_since.pop(name, None)
            return None
        if moment - self._hidden_since.setdefault(name, moment) > SUSPECT_FOR:
            return None
        return AccessDenied(
            "Consul hides instances of the service from the token since a moment ago",
            hint=f"give it node:read; after {SUSPECT_FOR:g} s they count as gone",
        )

    def _deny(self, name: str, error: AccessDenied) -> None:
        """Take it that the token may not read a service: what is known of it stays."""
        is_new = name not in self.catalogue.denied
        self.catalogue.denied[name] = error
        if not is_new:
            return
        if name in self.catalogue:
            fields = {"service": name, **error.fields(), "did": "keeps its instances where all services are read"}
            self._notes.append(LogEvent("error", "service.denied", fields))
            self._tell()
        for stream in self.streams:
            for prefix in stream.prefixes:
                if service_of(prefix) == name:
                    stream.fail(error.copy(AccessDenied).about(prefix))

    def _say(self, name: str, instance: str, reason: str, event: LogEvent) -> None:
        said = name, instance, reason
        if said not in self._said:
            if len(self._said) >= _SAID:
                self._said.clear()
            self._said.add(said)
            self._notes.append(event)

    def _take_notes(self) -> tuple[LogEvent, ...]:
        notes, self._notes = tuple(self._notes), []
        return notes

    # --- what is known -----------------------------------------------------------------------------------------------

    def say_unaskable(self, names: Iterable[str]) -> None:
        """Log the services about which Consul cannot be asked."""
        with self.lock:
            for name in names:
                reason = "Consul cannot be asked about a service of this name"
                self._say(name, "", reason, LogEvent("warning", "service.left_out", {"service": segment(name)[:200]}))

    def listings(self, prefixes: Sequence[str]) -> tuple[dict[str, Listing], tuple[LogEvent, ...]]:
        """Return what is known below each prefix, and what is to be logged."""
        with self.lock:
            listings = {}
            for prefix in prefixes:
                error = self.catalogue.denied.get(service_of(prefix) or "")
                if error is not None:
                    listings[prefix] = Listing(0, error=error.copy(AccessDenied).about(prefix))
                else:
                    listings[prefix] = Listing(self.catalogue.revision, self.catalogue.keys(prefix))
            return listings, self._take_notes()

    def status(self, prefixes: Sequence[str]) -> PrefixStatus:
        """Return the status of the prefixes that the token may read."""
        with self.lock:
            keys = {
                prefix: self.catalogue.keys(prefix)
                for prefix in prefixes
                if (service_of(prefix) or ROOT) not in self.catalogue.denied
            }
            return PrefixStatus(
                identity="",
                revision=self.catalogue.revision,
                newest={prefix: self.catalogue.newest(found) for prefix, found in keys.items()},
                counts={prefix: len(found) for prefix, found in keys.items()},
            )

    def is_behind(self, name: str, index: int) -> bool:
        """Whether a service is known to have changed since it was read: to be at ``index``, or in its checks."""
        with self.lock:
            return self._indexes.get(name, index) < index or (
                self.unwell is not None and self.unwell.contradicts(name, self.catalogue)
            )

    def take_unwell(self, unwell: Unwell) -> set[str]:
        """Take what checks do not pass; returns the services that are to be asked about."""
        with self.lock:
            before, self.unwell = self.unwell, unwell
            return unwell.touched(before, self.catalogue)

    def take_names(self, names: Names) -> set[str]:
        """Take the names of all services; returns those that came, went or have other tags."""
        with self.lock:
            touched = self.differing(names)
            self.names = names
            return touched

    def differing(self, names: Names) -> set[str]:
        """Return the services that came, went or have other tags than when their names were last taken."""
        with self.lock:
            before = self.names.tags if self.names is not None else {}
            touched = {name for name, tags in names.tags.items() if before.get(name) != tags}
            return touched | (before.keys() - names.tags.keys()) | (self.catalogue.names() - names.tags.keys())

    def take_nodes(self, nodes: Mapping[str, int]) -> set[str]:
        """Take the nodes and their indexes; returns the services on those that are registered otherwise than before."""
        with self.lock:
            before, self.nodes = self.nodes or {}, nodes
            return self.catalogue.on_nodes(name for name, index in nodes.items() if before.get(name, index) != index)

    def differing_on(self, node: str, instances: Mapping[str, tuple[str, int]]) -> dict[str, int]:
        """Return the services that differ on a node, and their indexes: as ``Catalogue.differing``."""
        with self.lock:
            return self.catalogue.differing(node, instances)

    def forget_gone(self) -> None:
        """Forget the services that are not there any more."""
        with self.lock:
            present = self.names.tags if self.names is not None else {}
            for name in self.catalogue.forget(present):
                self._indexes.pop(name, None)
                self._hidden_since.pop(name, None)


def _is_doubtful(service: Service, before: Service) -> bool:
    """Whether an answer from a copy says less, or something older, than what is known."""
    return service.index < before.index or (bool(before.instances) and not service.instances)
