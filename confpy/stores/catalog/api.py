"""Consul's HTTP API for services and their health, on one connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from confpy.errors import AccessDenied, StoreError
from confpy.frozen import NOTHING, frozen
from confpy.http.body import Headers, read_body
from confpy.http.connection import Connection
from confpy.stores.answers import parsing
from confpy.stores.catalog.catalogue import Unwell
from confpy.stores.catalog.instances import Choice, Service, parse_service
from confpy.stores.consul.api import Credentials
from confpy.stores.consul.wire import error_of, is_fresh, not_consul

ANSWER_BYTES = 64 << 20
"""The largest answer that is held in memory: Consul has no pages."""
STALE_AFTER = 10
"""Seconds after which an answer from the agent's cache is no answer: the agent does not reach Consul's servers."""
_NOT_PASSING = 'Status != "passing"'


class Scope(NamedTuple):
    """Where the services are; empty: the agent's own."""

    datacenter: str = ""
    namespace: str = ""
    partition: str = ""


@frozen
class Names:
    """All services of the datacenter."""

    index: int
    tags: Mapping[str, tuple[str, ...]]
    """Service → the tags of all its instances."""


class Answer(NamedTuple):
    """What Consul says about one service."""

    service: Service
    is_fresh: bool
    """Whether it comes from a server that follows a leader, or from the agent's stream."""


class Api:
    """Queries of the catalogue on one connection. They raise ``StoreError``."""

    def __init__(self, connection: Connection, login: Credentials, scope: Scope, choice: Choice) -> None:
        self.login = login
        connection.login = login.basic_auth
        self._connection = connection
        self._scope = scope
        self._choice = choice

    def service(self, name: str, *, index: int = 0, wait: float = 0.0, cached: bool = False) -> Answer:
        """Return what is known of a service: by the agent if ``cached``, else by the leader of the servers.

        With an ``index``, after up to ``wait`` seconds while the service is at that.
        """
        reply = self._get(f"health/service/{quote(name, safe='')}", index, wait, {"cached": ""} if cached else {})
        with parsing(self._not_consul):
            service = parse_service(name, reply.index, reply.body, self._choice, hidden=reply.is_hidden)
        return Answer(service, reply.is_fresh)

    def names(self, index: int = 0, wait: float = 0.0) -> Names:
        """Return all services; with an ``index``, after up to ``wait`` seconds while none is registered or leaves."""
        reply = self._get("catalog/services", index, wait)
        with parsing(self._not_consul):
            found = json.loads(reply.body.decode("utf-8", "replace"))
            return Names(reply.index, {str(name): tuple(tags or ()) for name, tags in found.items()})

    def nodes(self) -> dict[str, int]:
        """Return all nodes: name → the index at which it was registered last, its services aside."""
        reply = self._get("catalog/nodes", options={"stale": ""})
        with parsing(self._not_consul):
            found = json.loads(reply.body.decode("utf-8", "replace"))
            return {str(node["Node"]): int(node["ModifyIndex"]) for node in found}

    def node(self, name: str) -> dict[str, tuple[str, int]]:
        """Return what is registered on a node: id → service, and the index at which it was registered last.

        Any server answers, which may be a little behind.
        """
        reply = self._get(f"catalog/node/{quote(name, safe='')}", options={"stale": ""})
        with parsing(self._not_consul):
            found = json.loads(reply.body.decode("utf-8", "replace")) or {"Services": None}
            services = (found["Services"] or {}).values()
            return {one["ID"]: (one["Service"], int(one["ModifyIndex"])) for one in services}

    def unwell(self, index: int = 0, wait: float = 0.0) -> Unwell:
        """Return the checks that do not pass; with an ``index``, after up to ``wait`` seconds without any change."""
        reply = self._get("health/state/any", index, wait, {"filter": _NOT_PASSING})
        with parsing(self._not_consul):
            found = json.loads(reply.body.decode("utf-8", "replace"))
            checks = [(one["ServiceName"], (one["Node"], one["CheckID"], one["Status"])) for one in found]
        return Unwell(reply.index, [one for one in checks if one[1][2] != "passing"])  # Consul before 1.5 has no filter

    def _get(self, path: str, index: int = 0, wait: float = 0.0, options: Mapping[str, object] = NOTHING) -> _Reply:
        blocking = {"index": index, "wait": f"{max(1, round(wait))}s"} if index and wait else {}
        dc, namespace, partition = self._scope
        scope = {"dc": dc, "ns": namespace, "partition": partition}
        parameters = {**options, **blocking, **{name: value for name, value in scope.items() if value}}
        headers = {"X-Consul-Token": self.login.token} if self.login.token else {}
        seconds = max(1.0, wait) if blocking else 0.0
        try:
            with self._connection.bounded(seconds * 17 / 16):  # Consul adds up to a sixteenth
                answer = self._connection.get(f"/v1/{path}?{urlencode(parameters)}", headers)
                body = read_body(answer, ANSWER_BYTES)
            return self._reply(answer.status, answer.headers, body)
        except StoreError as error:
            error.at(node=self._connection.node.url)
            raise

    def _reply(self, status: int, headers: Headers, body: bytes) -> _Reply:
        """Return an answer that is one; raises ``StoreError``."""
        if status != 200:
            raise _error_of(status, body)
        age = headers.get("Age") or "0"
        if headers.get("X-Cache") and age.isdecimal() and int(age) > STALE_AFTER:
            raise StoreError(f"the agent answers with what it knew {age} s ago", hint="does it reach Consul's servers?")
        with parsing(self._not_consul):
            index = max(1, int(headers.get("X-Consul-Index") or ""))  # 0 would be answered at once, without end
        hidden = headers.get("X-Consul-Results-Filtered-By-ACLs") == "true"
        # The agent's stream (since 1.10) names no leader; it is an error where it cannot be followed.
        streamed = headers.get("X-Consul-Query-Backend") == "streaming"
        return _Reply(index, body, is_hidden=hidden, is_fresh=streamed or is_fresh(headers))

    def _not_consul(self) -> StoreError:
        return not_consul().at(node=self._connection.node.url)

    def close(self) -> None:
        """End the connection. Any thread, any number of times."""
        self._connection.close()


@frozen
class _Reply:
    index: int
    body: bytes
    is_hidden: bool
    """Whether the token may not see a part of it."""
    is_fresh: bool


def _error_of(status: int, body: bytes) -> StoreError:
    """Return the error that an answer other than 200 stands for."""
    if status == 400 and b"Enterprise" in body:
        return StoreError("this Consul has no namespaces and partitions", hint="leave out namespace and partition")
    error = error_of(status, body)
    if isinstance(error, AccessDenied):
        return AccessDenied(error.message, hint="give the token service:read and node:read")
    return error
