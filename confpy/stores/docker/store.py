"""The containers of a Docker or Podman engine, behind ``confpy.stores.Store``.

The events are asked for before the list, from a moment before that: so nothing is missed between the two. Engines count
no revisions. Here each change of a key gets one, in the order of the engine's answers: requests for containers are made
one after the other, so that an older answer never replaces a newer one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from confpy.config.stores.docker import DOCKER
from confpy.errors import StoreError, UsageError
from confpy.frozen import replace
from confpy.http.addresses import UNIX, Node, parse_nodes
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import ROOT, select
from confpy.keys.snapshot import PrefixStatus, Snapshot
from confpy.stores.docker.addressing import Reach
from confpy.stores.docker.api import Api, Listed
from confpy.stores.docker.containers import LISTED, Container
from confpy.stores.docker.following import ENDED, Following
from confpy.stores.docker.model import Diff, Model, Rules
from confpy.stores.docker.own import find_own
from confpy.stores.docker.stream import DockerStream
from confpy.stores.docker.wire import Engine, Event, WrongVersion
from confpy.stores.memory import MemoryStore
from confpy.stores.network import read_trust

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")

PORTS = {"http": 2375, "https": 2376}
DEAD_FOR = 2.5
"""Seconds for which a container that has ended is not believed to run: the engine's list lags behind its events."""
HISTORY = 1_000
"""Revisions from which a stream can be resumed."""


class DockerStore:
    """The containers that one engine runs."""

    capabilities = Capabilities(remote=True, binary_values=False, watches=True)

    def __init__(self, endpoints: Endpoints, rules: Rules, *, follows: bool, environment: bool = False) -> None:
        """``follows``: a read is followed by a stream. ``environment``: containers' variables are wanted."""
        self._endpoints = endpoints
        self._rules = rules
        self._follows = follows
        self._wants_environment = environment
        self._environments: dict[str, Mapping[str, str]] = {}
        """Id → variables: those of a container never change."""
        self._engine: Engine | None = None
        self._requests = threading.Lock()
        """Held from a request for containers until its answer is in the model."""
        self._lock = threading.Lock()
        self._model = Model(rules)
        # Higher than what an earlier confpy has reached, which made fewer than a thousand changes a second.
        self._keys = MemoryStore(identity="", history=HISTORY, revision=time.time_ns() // 1_000_000)
        self._dead: dict[str, float] = {}
        """Id of a container that has ended → until when an answer that it runs is not believed."""
        self._listed_at = 0.0
        """When the newest list was made, by the engine's clock."""
        self._following: Following | None = None
        self._streams: set[DockerStream] = set()

    @property
    def node(self) -> str:
        return self._endpoints.node

    @classmethod
    def open(cls, settings: Settings) -> DockerStore:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""
        node = _node(settings)
        endpoints = Endpoints(
            "docker",
            [node],
            trust=read_trust(settings) if node.scheme == "https" else None,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
        )
        is_own, inside = find_own()
        host = "127.0.0.1" if node.socket_file or node.host == "localhost" else node.host
        reach = Reach(settings.docker_network or "", settings.docker_published, host)
        rules = Rules(reach, settings.docker_health, is_own, inside)
        follows = settings.watch and not settings.onetime
        return cls(endpoints, rules, follows=follows, environment=settings.docker_env)

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the path with a leading slash, as all keys here have one."""
        return (path if path.startswith(ROOT) else ROOT + path,)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        with self._requests:
            if self._follows:
                self._ensure_following()
            self._refresh(None)
        snapshot = self._keys.read(prefixes, counted)
        with self._lock:
            notes = self._model.take_notes()
        return replace(snapshot, notes=notes)

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus:
        """List, and compare: what differs is not taken over, since the events have to bring it."""
        with self._requests:
            found = self._alive(self._list(None).containers)
            with self._lock:
                known, keys = self._model.containers.copy(), self._model.keys.copy()
                status = self._keys.poll(prefixes)
            if {one.id: one for one in found} == known:
                return status
            model = Model(self._rules)
            model.replace(found)
            before, after = (select(prefixes, one) for one in (keys, model.keys))
        behind = [prefix for prefix in prefixes if before[prefix] != after[prefix]]
        revision = status.revision + bool(behind)
        return replace(
            status,
            revision=revision,
            newest={**status.newest, **dict.fromkeys(behind, revision)},
            counts={prefix: len(keys) for prefix, keys in after.items()},
        )

    def _refresh(self, ids: Collection[str] | None) -> None:
        """Read the containers with these ids, or all, into the model; the requests' lock is held."""
        listed = self._list(ids)
        found = {one.id: one for one in self._alive(listed.containers)}
        with self._lock:
            if ids is None:
                self._listed_at = listed.at
                self._environments = {one: self._environments[one] for one in found if one in self._environments}
            self._change(lambda model: model.replace(found.values()) if ids is None else model.update(ids, found))

    def _list(self, ids: Collection[str] | None) -> Listed:
        return self._with_engine(lambda api, engine: self._complete(api, engine, api.containers(engine, ids)))

    def _complete(self, api: Api, engine: Engine, listed: Listed) -> Listed:
        """Add the environments of the containers, if they are wanted."""
        if not self._wants_environment:
            return listed
        for one in listed.containers:
            if one.id not in self._environments:
                self._environments[one.id] = api.environment(engine, one.id)
        return listed._replace(
            containers=[one._replace(environment=self._environments[one.id]) for one in listed.containers]
        )

    def _with_engine(self, call: Callable[[Api, Engine], Result]) -> Result:
        """Return what a call returns that knows which version to speak."""

        def request(connection: Connection) -> Result:
            api = Api(connection)
            if self._engine is None:
                self._engine, _ = api.ping()
            try:
                return call(api, self._engine)
            except WrongVersion:
                # Of a newer generation, or a proxy's own choice: what it speaks itself is right for sure.
                self._engine = self._engine._replace(version=self._engine.newest)
                return call(api, self._engine)

        try:
            return self._endpoints.with_failover(request)
        except StoreError:
            self._engine = None  # another one may answer next
            raise

    def _alive(self, containers: Collection[Container]) -> list[Container]:
        """Return those that become keys, without what an event said has ended a moment ago."""
        now = time.monotonic()
        with self._lock:
            self._dead = {one: until for one, until in self._dead.items() if until > now}
            listed = [one for one in containers if one.state in LISTED]
            return [one for one in listed if one.id not in self._dead or one.state != "running"]

    def _change(self, change: Callable[[Model], Diff]) -> None:
        """Change the model, and the keys with it; the lock is held."""
        noted = self._model.noted
        if diff := change(self._model):
            self._keys.update(diff)
        if self._model.noted != noted:
            for stream in self._streams:
                stream.wake()

    # --- following ---------------------------------------------------------------------------------------------------

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> DockerStream:  # noqa: ARG002
        """Follow each prefix; returns when the engine was asked for its events, and listed after that."""
        with self._requests:
            if self._ensure_following():
                self._refresh(None)
            following = self._following
            assert following is not None
            with self._lock:
                stream = DockerStream(self._keys, cursors, following, lambda: self._model.noted, self._forget)
                self._streams.add(stream)
        if following.failure is not None:
            stream.wake()
        return stream

    def _ensure_following(self) -> bool:
        """Follow the engine's events, if that is not so already; says whether it was not so. Requests' lock is held."""
        if self._following is not None and not self._following.is_over:
            return False

        def ask(connection: Connection) -> Following:
            api = Api(connection)
            self._engine, now = api.ping()
            events = api.follow(self._engine, now - 1)
            return Following(events, self._refresh_some, self._take_event, self._end)

        self._following = self._endpoints.with_failover(ask, stays_open=True)
        self._following.start()
        return True

    def _refresh_some(self, ids: Collection[str] | None) -> None:
        with self._requests:
            self._refresh(ids)

    def _take_event(self, event: Event) -> None:
        """Take it that a container has ended, if it has: its list shows that later only."""
        with self._lock:
            if event.action not in ENDED:
                if event.action in ("start", "restart", "unpause"):
                    self._dead.pop(event.container, None)
            elif event.at >= self._listed_at:  # an older one is no news, and the container may run again
                self._dead[event.container] = time.monotonic() + DEAD_FOR
                container = self._model.containers.get(event.container)
                if container is not None and container.state == "running":
                    self._change(lambda model: model.update([event.container], {}))

    def _end(self, following: Following) -> None:
        """The events have ended."""
        with self._lock:
            streams = [stream for stream in self._streams if stream.following is following]
        for stream in streams:
            stream.wake()

    def _forget(self, stream: DockerStream) -> None:
        """A stream was closed. With the last one end the events that they shared."""
        with self._lock:
            self._streams.discard(stream)
            shared = any(one.following is stream.following for one in self._streams)
        if not shared:
            stream.following.close()

    def close(self) -> None:
        """Abort every connection; waiting calls raise ``StoreError``, iterations end."""
        with self._lock:
            streams, following = list(self._streams), self._following
        for stream in streams:
            stream.close()
        if following is not None:
            following.close()
        self._endpoints.close()


def _node(settings: Settings) -> Node:
    """Return the address of the engine; raises ``UsageError``."""
    if settings.srv_record or settings.srv_domain:
        raise UsageError(
            "an engine is not named by SRV records", hint="name it with -node, as in unix:///run/docker.sock"
        )
    if len(settings.nodes) > 1:
        hint = "engines have different containers: confpy reads one of them"
        raise UsageError(f"docker: {len(settings.nodes)} nodes are given", hint=hint)
    text = settings.nodes[0].strip() if settings.nodes else _default_socket()
    secure = settings.scheme == "https" or bool(settings.client_cert or settings.client_ca_keys)
    scheme = "https" if secure else "http"
    if text.startswith(("ssh:", "npipe:", "fd:")):
        hint = "give the engine's socket as unix:///path, or tcp://host:port with TLS"
        raise UsageError(f"{text!r} is not an address that confpy can connect to", hint=hint)
    if text.startswith("/"):
        text = f"{UNIX}://{text}"
    (node,) = parse_nodes([text.removeprefix("tcp://")], scheme=scheme, port=PORTS[scheme])
    return node


def _default_socket() -> str:
    """Return the first socket that is there, of Docker, of this user's Podman and of the system's; else Docker's."""
    run = os.environ.get("XDG_RUNTIME_DIR", "")
    paths = ["/var/run/docker.sock", *([f"{run}/podman/podman.sock"] if run else []), "/run/podman/podman.sock"]
    for path in paths:
        with suppress(OSError):
            if os.path.exists(path):
                return f"{UNIX}://{path}"
    return DOCKER.nodes[0]
