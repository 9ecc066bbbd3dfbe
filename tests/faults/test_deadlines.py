"""No request can hang for ever: each call that a store makes over the network ends, be it a byte a second that comes.

A stream that is open and quiet has no deadline, on purpose: a resync sees what it did not bring.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, NamedTuple

import pytest

from confpy.config.settings import Settings
from confpy.errors import StoreError
from confpy.keys.snapshot import Snapshot
from confpy.stores import open_store
from confpy.stores.consul import stream
from tests.servers.consul import Consul
from tests.servers.dns import Dns
from tests.servers.etcd import Etcd, Etcd2
from tests.servers.proxy import FaultProxy
from tests.stores.contract import following
from tests.stores.test_etcd2 import Redirecting
from tests.waiting import wait_until

ANSWER = 1.0
"""Seconds that a server has for an answer."""
SLACK = 15.0
"""Seconds that a busy machine may take more. What drips takes minutes."""
SHUT = "/shut"
"""A prefix that the server refuses, where it can."""


class Scene(NamedTuple):
    """A real server with the key ``/a/x`` behind a proxy, and what a store needs to reach it."""

    server: Any
    proxy: FaultProxy
    put: Callable[[str, str], object]
    settings: dict[str, Any]


@contextmanager
def staged(name: str) -> Iterator[Scene]:
    with ExitStack() as stack:
        settings: dict[str, Any] = {}
        if name == "etcdv3":
            server: Any = stack.enter_context(Etcd())
            put = server.put
            put("/a/x", "0")
            server.add_user("web", "web's password", ("/a", "/a0"))
            server.enable_auth()
            settings = {"username": "web", "password": "web's password"}
        elif name == "consul":
            server = stack.enter_context(Consul(acl=True, lists=True))

            def put(key: str, value: str) -> object:
                return server.put(key[1:], value)

            put("/a/x", "0")
            settings = {"auth_token": server.grant('key_prefix "a" { policy = "list" }')}
        else:
            server = stack.enter_context(Etcd2())
            put = server.set
            put("/a/x", "0")
        yield Scene(server, stack.enter_context(FaultProxy(server.port)), put, settings)


def opened(scene: Scene, name: str) -> Any:
    nodes = (scene.proxy.endpoint,)
    return closing(
        open_store(name, Settings(nodes=nodes, connect_timeout=ANSWER, read_timeout=ANSWER, **scene.settings))
    )


# --- what is asked ---------------------------------------------------------------------------------------------------


def before_it_drips(store: Any) -> Snapshot:
    """Read while all is well: for as long as a busy machine takes, which may be longer than an answer has time."""

    def read() -> Snapshot | None:
        with suppress(StoreError):
            snapshot: Snapshot = store.read(["/a"])
            return None if snapshot.listings["/a"].error else snapshot
        return None

    return wait_until(read, seconds=60, what="a read that succeeds")


def reads(store: Any, scene: Scene, drip: Callable[[], None]) -> None:
    drip()
    error = store.read(["/a"]).listings["/a"].error
    if error is not None:
        raise error


def reads_what_is_refused(store: Any, scene: Scene, drip: Callable[[], None]) -> None:
    drip()
    store.read(["/a", SHUT])


def asks(store: Any, scene: Scene, drip: Callable[[], None]) -> None:
    before_it_drips(store)
    drip()
    store.poll(["/a"])


def opens_a_stream(store: Any, scene: Scene, drip: Callable[[], None]) -> None:
    snapshot = before_it_drips(store)
    drip()
    store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)


def waits(store: Any, scene: Scene, drip: Callable[[], None]) -> None:
    snapshot = before_it_drips(store)
    drip()
    with closing(store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)) as stream:
        scene.put("/a/x", "1")
        for _ in stream:
            pass


class Call(NamedTuple):
    """A request that a store makes: what finds it among all, and how it comes about."""

    store: str
    what: str
    request: str
    make: Callable[[Any, Scene, Callable[[], None]], None]
    head: bool = True
    """The head of the answer drips; otherwise it comes whole, and the body drips."""


def both(store: str, what: str, request: str, make: Callable[[Any, Scene, Callable[[], None]], None]) -> list[Call]:
    return [Call(store, f"{what}, {part}", request, make, part == "head") for part in ("head", "body")]


CALLS = [
    *both("etcdv3", "version", r"GET /version$", reads),
    *both("etcdv3", "login", r"/auth/authenticate$", reads),
    *both("etcdv3", "roles of a user", r"/auth/user/get$", reads_what_is_refused),
    *both("etcdv3", "rights of a role", r"/auth/role/get$", reads_what_is_refused),
    *both("etcdv3", "read", r"/kv/txn$", reads),
    *both("etcdv3", "question", r"/kv/txn$", asks),
    *both("etcdv3", "stream", r"/watch$", opens_a_stream),
    *both("etcdv2", "read", r"GET /v2/keys/.*quorum=true$", reads),
    Call("etcdv2", "stream", r"GET /v2/keys/.*wait=true", opens_a_stream),
    Call("etcdv2", "event", r"GET /v2/keys/.*wait=true", waits, head=False),
    *both("consul", "read", r"GET /v1/kv/a\?recurse=1&\w+=1$", reads),
    *both("consul", "read of what is refused", r"GET /v1/kv/shut/?\?recurse=1&\w+=1$", reads_what_is_refused),
    *both("consul", "question", r"GET /v1/kv/.*keys=True", asks),
    *both("consul", "stream", r"GET /v1/kv/.*keys=True", opens_a_stream),
    *both("consul", "blocking query", r"GET /v1/kv/.*index=\d+&wait=", waits),
]


# --- the promise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=[f"{call.store} {call.what}" for call in CALLS])
def test_a_request_ends_in_time_where_a_byte_a_second_comes(call, monkeypatch):
    monkeypatch.setattr(stream, "WAIT", ANSWER)  # else a blocking query may take five minutes
    with staged(call.store) as scene, opened(scene, call.store) as store:
        began = 0.0
        earlier = 0

        def drip() -> None:
            nonlocal began, earlier
            scene.proxy.drip(1, only=call.request, head=call.head)
            began = time.monotonic()
            earlier = len(scene.proxy.requests)

        def it_was_the_request() -> bool:
            """Or one before it was not answered in time, as on a busy machine: then it is tried once more."""
            scene.proxy.heal()
            with pytest.raises(StoreError, match=r"no answer|in time|ended"):
                call.make(store, scene, drip)
            return bool(re.search(call.request, "\n".join(scene.proxy.requests[earlier:]), re.MULTILINE))

        wait_until(it_was_the_request, seconds=90, what="the request fails that drips")
        assert time.monotonic() - began < ANSWER + SLACK + (2 * ANSWER if call.make is waits else 0)


def test_a_redirect_ends_in_time_where_a_byte_a_second_comes():
    with staged("etcdv2") as scene, Redirecting(scene.proxy.endpoint) as leader:
        scene.proxy.drip(1)
        settings = Settings(nodes=(leader.endpoint,), connect_timeout=ANSWER, read_timeout=ANSWER)
        with closing(open_store("etcdv2", settings)) as store:
            began = time.monotonic()
            with pytest.raises(StoreError, match="no answer"):
                store.read(["/a"])
            assert time.monotonic() - began < ANSWER + SLACK


@pytest.mark.parametrize("name", ["etcdv3", "etcdv2", "consul"])
def test_an_srv_record_ends_in_time_where_the_name_server_says_nothing(name, monkeypatch):
    with Dns() as server:
        server.silent = True
        monkeypatch.setattr("dns.resolver.Resolver", server.resolver)
        settings = Settings(srv_domain="confpy.test", connect_timeout=ANSWER, read_timeout=ANSWER)
        with closing(open_store(name, settings)) as store:
            began = time.monotonic()
            with pytest.raises(StoreError, match="SRV"):
                store.read(["/a"])
            assert time.monotonic() - began < ANSWER + SLACK
        assert server.asked


@pytest.mark.parametrize("name", ["etcdv3", "etcdv2", "consul"])
def test_no_request_is_made_that_is_not_among_these(name):
    with staged(name) as scene, opened(scene, name) as store:
        store.read(["/a", SHUT])
        store.poll(["/a"])
        with following(store, store.read(["/a"])) as seen:
            for value in ("1", "2"):
                scene.put("/a/x", value)
                seen.wait_for({"/a/x": value})
        store.poll(["/a"])
        known = [call.request for call in CALLS if call.store == name]
        assert scene.proxy.requests
        assert not [one for one in scene.proxy.requests if not any(re.search(request, one) for request in known)]
