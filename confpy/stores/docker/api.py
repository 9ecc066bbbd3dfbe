"""An engine's API on one connection: of all it has, the four paths that this store needs."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from confpy.errors import StoreError
from confpy.http.body import Headers, Stream, read_body
from confpy.http.connection import Connection
from confpy.stores.answers import parsing
from confpy.stores.docker.containers import Container, parse
from confpy.stores.docker.labels import environment
from confpy.stores.docker.wire import EVENTS, Engine, chosen, error_of, listing, not_an_engine, path, seconds

ANSWER_BYTES = 64 << 20
"""The largest answer that is held in memory: an engine has no pages."""
HEALTHS = ("healthy", "unhealthy", "starting")


class Listed(NamedTuple):
    """Containers as of one moment."""

    containers: list[Container]
    at: float
    """When the engine answered, in seconds since 1970 by its clock; 0 where it does not say."""


class Api:
    """Requests to an engine."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ping(self) -> tuple[Engine, float]:
        """Return what the engine is, and the moment by its clock or ours, whichever is earlier."""
        _, headers = self._get("/_ping")
        newest = headers.get("Api-Version") or ""
        if not newest:  # a proxy may have dropped the header
            body, _ = self._get("/version")
            with parsing(not_an_engine):
                newest = str(json.loads(body)["ApiVersion"])
        podman = bool(headers.get("Libpod-Api-Version")) or (headers.get("Server") or "").startswith("Libpod")
        now = time.time()
        return Engine(chosen(newest), newest, podman), min(now, seconds(headers.get("Date")) or now)

    def containers(self, engine: Engine, ids: Collection[str] | None = None) -> Listed:
        """Return the containers with these ids, or all, that run, are paused or being restarted."""
        items, headers = self._list(listing(engine, ids))
        with parsing(not_an_engine):
            if engine.podman and items:
                self._complete(engine, ids, items)
            return Listed([parse(item) for item in items], seconds(headers.get("Date")) or 0.0)

    def _complete(self, engine: Engine, ids: Collection[str] | None, items: list[dict[str, Any]]) -> None:
        """Add what Podman's list lacks: the results of health checks, and how a container without a network has one."""
        healths: dict[str, str] = {}
        for health in HEALTHS:
            # Those that have a check at all, mostly none; then what it says of them.
            asked = list(HEALTHS) if health == HEALTHS[0] else [health]
            found, _ = self._list(listing(engine, ids, health=asked))
            healths |= {str(item["Id"]): health for item in found}
            if not healths:
                break
        for item in items:
            item["Health"] = {"Status": healths.get(str(item["Id"]), "")}
            if not (item.get("HostConfig") or (item.get("NetworkSettings") or {}).get("Networks")):
                item["HostConfig"] = (self._inspect(engine, str(item["Id"])) or {}).get("HostConfig")

    def environment(self, engine: Engine, one: str) -> Mapping[str, str]:
        """Return the environment of the container with an id; none where that has ended."""
        found = self._inspect(engine, one) or {}
        with parsing(not_an_engine):
            return environment(((found.get("Config") or {}).get("Env")) or [])

    def follow(self, engine: Engine, since: float) -> Events:
        """Ask for events from a moment on. Podman answers with the first one only: so nothing is waited for."""
        asked = path(engine, "events", since=str(int(since)), filters=EVENTS)
        with self._connection.bounded():
            self._connection.send("GET", asked, {})
        return Events(self._connection, asked)

    def _inspect(self, engine: Engine, one: str) -> Mapping[str, Any] | None:
        asked = path(engine, f"containers/{one}/json")
        with self._connection.bounded():
            answer = self._connection.get(asked)
            body = read_body(answer, ANSWER_BYTES)
        if answer.status == 404:  # it ended a moment ago
            return None
        if answer.status != 200:
            raise error_of(answer.status, body, asked)
        with parsing(not_an_engine):
            found: Mapping[str, Any] = json.loads(body)
            return found

    def _list(self, asked: str) -> tuple[list[dict[str, Any]], Headers]:
        body, headers = self._get(asked)
        with parsing(not_an_engine):
            items = json.loads(body)
            if not isinstance(items, list):
                raise TypeError
            return items, headers

    def _get(self, asked: str) -> tuple[bytes, Headers]:
        with self._connection.bounded():
            answer = self._connection.get(asked)
            body = read_body(answer, ANSWER_BYTES)
        if answer.status != 200:
            raise error_of(answer.status, body, asked)
        return body, answer.headers


class Events:
    """The stream of events that was asked for."""

    def __init__(self, connection: Connection, asked: str) -> None:
        self._connection = connection
        self._asked = asked
        self._stream: Stream | None = None

    def arrived(self) -> bool:
        """Whether something came that was not read."""
        return self._connection.arrived()

    def open(self) -> Stream:
        """Wait, without a limit, until the engine answers; raises ``StoreError`` if it refuses."""
        with self._connection.described():
            answer = self._connection.receive()
        if answer.status != 200:
            with self._connection.bounded():
                raise error_of(answer.status, read_body(answer, ANSWER_BYTES), self._asked)
        return Stream(self._connection, answer)

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._connection.close()


def as_store_error(error: Exception) -> StoreError:
    """Return what ended a thread as an error of the store."""
    from confpy.errors import ConfpyError, bug

    failure = error if isinstance(error, ConfpyError) else bug(error)
    return failure if isinstance(failure, StoreError) else failure.copy(StoreError)
