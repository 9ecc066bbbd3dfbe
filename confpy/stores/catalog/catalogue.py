"""The services as Consul last said, and what changed when. Pure.

Consul counts each service with an index of its own. Those of two services do not say which change was known first, and
that of a service without instances may be any lower one. So changes are counted here: a revision is the time at which
they were known, in milliseconds, and grows with each change of any service, also over restarts of confpy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping

from confpy.errors import AccessDenied, WatchLost
from confpy.keys.prefixes import ROOT, covers
from confpy.stores.catalog.instances import Check, Service, name_of

REMEMBERED = 10_000
"""How many keys that went are remembered, for streams that begin before that."""


def service_of(prefix: str) -> str | None:
    """Return the service whose keys a prefix stands for; empty for all services, None for none."""
    if prefix == ROOT:
        return ""
    return name_of(prefix.split(ROOT)[1])


class Catalogue:
    """Services, and the revision at which each of their keys was last changed."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """``now`` returns seconds since 1970."""
        self.revision = 0
        self._now = now
        self.denied: dict[str, AccessDenied] = {}
        """Service → why the token may not read it."""
        self._services: dict[str, Service] = {}
        self._changed: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        """Key that is there no more → revision at which it went."""
        self._gone_since = 0
        """All keys that went after this revision are known."""
        self._on_node: dict[str, set[str]] = {}
        """Node → services with an instance there."""

    def __contains__(self, name: object) -> bool:
        return name in self._services

    def get(self, name: str) -> Service | None:
        return self._services.get(name)

    def names(self) -> set[str]:
        """Return the services that were read and have instances."""
        return {name for name, service in self._services.items() if service.instances}

    def on_nodes(self, nodes: Iterable[str]) -> set[str]:
        """Return the services that have an instance on one of the nodes."""
        return {name for node in nodes for name in self._on_node.get(node, ())}

    def differing(self, node: str, instances: Mapping[str, tuple[str, int]]) -> dict[str, int]:
        """Return the services that have other instances on a node than is known, and the index that each has reached.

        ``instances``: id → service and the index at which it was registered last.
        """
        listed: dict[str, dict[str, int]] = {}
        for one, (name, index) in instances.items():
            listed.setdefault(name, {})[one] = index
        found = {}
        for name in listed.keys() | self.on_nodes([node]):
            service, here = self._services.get(name), listed.get(name, {})
            known = service.instances.items() if service is not None else ()
            if here != {one: index for (at, one), index in known if at == node}:
                found[name] = max(here.values(), default=0)
        return found

    # --- what Consul said ----------------------------------------------------------------------------------------

    def take(self, name: str, service: Service) -> dict[str, tuple[int, str | None]]:
        """Replace what is known of a service; returns its keys that changed, each with revision and value."""
        before = self._services.get(name)
        old: Mapping[str, str] = before.keys if before is not None else {}
        self._services[name] = service
        self.denied.pop(name, None)
        for node in (before.nodes if before is not None else set()) - service.nodes:
            self._on_node[node].discard(name)
            if not self._on_node[node]:
                del self._on_node[node]
        for node in service.nodes:
            self._on_node.setdefault(node, set()).add(name)
        news: dict[str, str | None] = {key: value for key, value in service.keys.items() if old.get(key) != value}
        news |= dict.fromkeys(old.keys() - service.keys.keys())
        if news or not self.revision:
            self.revision = max(self.revision + 1, int(self._now() * 1000))
        for key, value in news.items():
            if value is None:
                del self._changed[key]
                self._gone[key] = self.revision
            else:
                self._changed[key] = self.revision
                self._gone.pop(key, None)
        if len(self._gone) > REMEMBERED:
            self._gone.clear()
            self._gone_since = self.revision
        return {key: (self.revision, value) for key, value in news.items()}

    def forget(self, present: Container[str]) -> list[str]:
        """Forget the services without instances that are not present; returns them."""
        gone = [name for name, service in self._services.items() if not service.instances and name not in present]
        for name in gone:
            del self._services[name]
        return gone

    # --- what is read of it --------------------------------------------------------------------------------------

    def keys(self, prefix: str) -> dict[str, str]:
        """Return what is at or below a prefix."""
        name = service_of(prefix)
        if name == "":
            return {key: value for service in self._services.values() for key, value in service.keys.items()}
        service = self._services.get(name) if name is not None else None
        keys: Mapping[str, str] = service.keys if service is not None else {}
        return {key: value for key, value in keys.items() if covers(prefix, key)}

    def newest(self, keys: Iterable[str]) -> int:
        """Return the revision of the newest of these keys, 0 if there is none."""
        return max((self._changed[key] for key in keys), default=0)

    def since(self, prefix: str, revision: int) -> dict[str, tuple[int, str | None]]:
        """Return what changed below a prefix after a revision; raises ``WatchLost``."""
        if revision < self._gone_since or revision > self.revision:
            raise WatchLost(f"what went after revision {revision} is not known any more")
        keys = self.keys(prefix)
        news: dict[str, tuple[int, str | None]] = {
            key: (self._changed[key], value) for key, value in keys.items() if self._changed[key] > revision
        }
        gone = {key: (at, None) for key, at in self._gone.items() if at > revision and covers(prefix, key)}
        return news | gone


class Unwell:
    """All checks of the datacenter that do not pass, by service and by node, as of an index."""

    def __init__(self, index: int, checks: Iterable[tuple[str, Check]]) -> None:
        """``checks``: the service of each, empty for a check of the whole node."""
        self.index = index
        self.of_service: dict[str, set[Check]] = {}
        self.of_node: dict[str, set[Check]] = {}
        for name, check in checks:
            found, whose = (self.of_service, name) if name else (self.of_node, check[0])
            found.setdefault(whose, set()).add(check)

    def concerning(self, name: str, service: Service) -> frozenset[Check]:
        """Return those of a service and of its nodes."""
        found = set(self.of_service.get(name, ()))
        if self.of_node:
            found.update(*(self.of_node.get(node, ()) for node in service.nodes))
        return frozenset(found)

    def touched(self, before: Unwell | None, catalogue: Catalogue) -> set[str]:
        """Return the services that were read with other checks, of those that ``before`` says otherwise about."""
        services = _differing(before.of_service if before is not None else {}, self.of_service)
        nodes = _differing(before.of_node if before is not None else {}, self.of_node)
        return {name for name in services | catalogue.on_nodes(nodes) if self.contradicts(name, catalogue)}

    def contradicts(self, name: str, catalogue: Catalogue) -> bool:
        """Whether a service was read with other checks that do not pass, before this."""
        service = catalogue.get(name)
        return service is not None and service.index < self.index and service.unwell != self.concerning(name, service)


def _differing(one: Mapping[str, set[Check]], other: Mapping[str, set[Check]]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
