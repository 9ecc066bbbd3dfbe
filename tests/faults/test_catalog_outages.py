"""A whole confpy that follows Consul's catalogue, and what happens to the network, the agent and the servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.faults.test_outages import Follower
from tests.servers.consul import Consul, cluster, leader
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Follower]]:
    monkeypatch.setenv("CONFPY_SERVICE_VALUE", "address")
    monkeypatch.setenv("CONFPY_READ_TIMEOUT", "2s")
    with ExitStack() as stack:

        def started(*nodes: str, prefix: str) -> Follower:
            follower = Follower(tmp_path, *nodes, backend="consul-catalog", prefixes=(prefix,))
            stack.enter_context(follower.confpy)
            return follower

        yield started


def put(consul: Consul, port: int) -> None:
    consul.catalogue({("web", "w"): {"Port": port}})


def line(port: int) -> str:
    return f"/web/w=192.0.2.1:{port}"


def recovered(follower: Follower, consul: Consul, port: int, *, fault: str) -> None:
    """Register another port, and print how long it took to arrive."""
    began = time.monotonic()
    put(consul, port)
    follower.shows(line(port), seconds=90)
    print(f"recovered from {fault} within {time.monotonic() - began:.2f} s")  # noqa: T201  # what -rP shows
    assert "a bug in confpy" not in str(follower.confpy.events)


def loses(follower: Follower) -> bool:
    return any(str(one["event"]).endswith(".lost") for one in follower.confpy.events)


@pytest.mark.parametrize("prefix", ["/web", "/"])
def test_what_fails_on_the_way_or_at_the_agent_makes_changes_late_and_not_wrong(
    consul: Consul, consul_proxy: FaultProxy, follow: Callable[..., Follower], prefix: str
) -> None:
    """By a query for the service, and by the two lists."""
    put(consul, 1)
    follower = follow(consul_proxy.endpoint, prefix=prefix)
    follower.shows(line(1))
    port = 1
    for fault in ("reset", "half_close", "refuse" if prefix == "/" else "black_hole"):
        getattr(consul_proxy, fault)()
        port += 1
        put(consul, port)
        if fault in ("refuse", "black_hole"):
            wait_until(partial(loses, follower), seconds=60, what="the loss is logged")
            assert line(port) not in follower.text()
        consul_proxy.heal()
        follower.shows(line(port), seconds=90)
        port += 1
        recovered(follower, consul, port, fault=fault)
    consul_proxy.split(7)
    recovered(follower, consul, 20, fault="split answers")
    consul_proxy.heal()
    consul.restart()
    recovered(follower, consul, 21, fault="a restart of the agent")
    if prefix == "/":
        return  # what follows takes seconds, and does not depend on it
    consul.freeze()
    follower.confpy.says("store.lost", seconds=60)
    assert line(21) in follower.text()
    consul.thaw()
    recovered(follower, consul, 22, fault="SIGSTOP")


def test_a_leader_that_dies_loses_no_change_and_servers_without_one_change_nothing(
    follow: Callable[..., Follower],
) -> None:
    with cluster() as servers:
        put(servers[0], 1)
        follower = follow(*(server.endpoint for server in servers), prefix="/web")
        follower.shows(line(1))
        dies = leader(servers)
        dies.kill()
        leader(servers)
        alive = [server for server in servers if server is not dies]
        recovered(follower, alive[0], 2, fault="the death of the leader")
        alive[0].kill()
        follower.confpy.says("store.lost", seconds=60)
        assert follower.text() == f"{line(2)}\n"


def test_an_agent_whose_services_are_gone_for_a_moment_does_not_empty_the_target(
    consul: Consul, follow: Callable[..., Follower]
) -> None:
    """As after a restart of an agent that has not registered its services yet (hashicorp/consul#16539)."""
    put(consul, 1)
    follower = follow(consul.endpoint, prefix="/web")
    follower.shows(line(1))
    consul.catalogue({("web", "w"): None})
    follower.confpy.says("keys.suspect", seconds=60)
    assert follower.text() == f"{line(1)}\n"
    put(consul, 2)
    follower.shows(line(2), seconds=60)
