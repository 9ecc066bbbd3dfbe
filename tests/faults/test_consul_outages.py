"""A whole confpy that watches a real Consul, and what happens to Consul: the next change arrives, and nothing spins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.running import run_once
from tests.faults.test_outages import Follower
from tests.servers.consul import Consul
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[..., Follower]]:
    with ExitStack() as stack:

        def started(*nodes: str, **options: object) -> Follower:
            follower = Follower(tmp_path, *nodes, backend="consul", **options)
            stack.enter_context(follower.confpy)
            return follower

        yield started


def recovered(follower: Follower, consul: Consul, value: str, *, fault: str, seconds: float = 40) -> None:
    """Put a value, and print how long it took to arrive."""
    began = time.monotonic()
    consul.put("app/a", value)
    follower.shows(f"/app/a={value}", seconds=seconds)
    print(f"recovered from {fault} within {time.monotonic() - began:.2f} s")  # noqa: T201  # what -rP shows


def test_a_change_and_a_deletion_reach_the_target(consul: Consul, follow: Callable[..., Follower]) -> None:
    consul.transact({"app/a": "1", "app/b": "1", "application": "no"})
    follower = follow(consul.endpoint)
    follower.shows("/app/b=1")
    consul.put("app/a", "2")
    consul.delete("app/b")
    wait_until(lambda: follower.text() == "/app/a=2\n", what="both are in the target")


def test_a_restart_is_survived(consul: Consul, follow: Callable[..., Follower]) -> None:
    consul.put("app/a", "1")
    follower = follow(consul.endpoint)
    follower.shows("/app/a=1")
    consul.restart()
    recovered(follower, consul, "2", fault="a restart")


def test_a_server_that_stays_away_leaves_the_target_and_costs_little(
    consul: Consul, follow: Callable[..., Follower]
) -> None:
    consul.put("app/a", "1")
    follower = follow(consul.endpoint)
    follower.shows("/app/a=1")
    consul.kill()
    follower.confpy.says("store.lost")
    before, threads = follower.cpu(), follower.threads()
    end = time.monotonic() + 5
    wait_until(lambda: time.monotonic() > end, what="five seconds pass")
    assert follower.cpu() - before < 0.5
    assert follower.threads() <= threads + 2
    assert follower.text() == "/app/a=1\n"
    consul.start()
    recovered(follower, consul, "2", fault="five seconds without a server")


def test_a_server_restored_to_an_older_state_is_read_anew(consul: Consul, follow: Callable[..., Follower]) -> None:
    consul.put("app/a", "old")
    backup = consul.backup()
    for number in range(50):
        consul.put("app/a", str(number))
    follower = follow(consul.endpoint)
    follower.shows("/app/a=49")
    consul.restore(backup)
    follower.shows("/app/a=old", seconds=40)
    recovered(follower, consul, "new", fault="a restored snapshot")


@pytest.mark.parametrize("fault", ["black_hole", "reset", "half_close", "refuse"])
def test_a_network_that_fails_makes_changes_late_and_not_wrong(
    consul: Consul, consul_proxy: FaultProxy, follow: Callable[..., Follower], fault: str
) -> None:
    consul.put("app/a", "1")
    follower = follow(consul_proxy.endpoint)
    follower.shows("/app/a=1")
    getattr(consul_proxy, fault)()
    consul.put("app/a", "2")
    if fault in ("black_hole", "refuse"):
        follower.confpy.says("store.lost", seconds=30)
    consul_proxy.heal()
    recovered(follower, consul, "3", fault=fault)


def test_a_frozen_server_is_noticed_and_survived(consul: Consul, follow: Callable[..., Follower]) -> None:
    consul.put("app/a", "1")
    follower = follow(consul.endpoint)
    follower.shows("/app/a=1")
    consul.freeze()
    follower.confpy.says("store.lost", seconds=30)
    consul.thaw()
    recovered(follower, consul, "2", fault="SIGSTOP")


def test_a_token_that_is_deleted_and_replaced_leaves_the_target_meanwhile(
    follow: Callable[..., Follower], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Consul(acl=True) as consul:
        consul.put("app/a", "1")
        rules = 'key_prefix "app" { policy = "read" }'
        file = tmp_path / "token"
        file.write_text(consul.grant(rules))
        monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(file))
        follower = follow(consul.endpoint)
        follower.shows("/app/a=1")
        accessor = consul.ask("GET", "acl/token/self", token=file.read_text())[0]["AccessorID"]
        consul.ask("DELETE", f"acl/token/{accessor}")
        follower.confpy.says("store.lost", seconds=30)
        assert follower.text() == "/app/a=1\n"
        file.write_text(consul.grant(rules))
        recovered(follower, consul, "2", fault="a deleted token")
        log = str(follower.confpy.events)
        assert file.read_text() not in log


def test_a_run_without_a_server_ends_with_3_and_one_clear_line(tmp_path: Path) -> None:
    for name in ("conf.d", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "templates" / "t.j2").write_text("{{ getv('/app/a') }}")
    (tmp_path / "conf.d" / "a.toml").write_text(f'[template]\nsrc = "t.j2"\ndest = "{tmp_path}/t"\nkeys = ["/app"]\n')
    ended = run_once(
        "-backend", "consul", "-confdir", str(tmp_path), folder=tmp_path, more={"CONSUL_HTTP_ADDR": "127.0.0.1:1"}
    )
    assert ended.code == 3
    assert "127.0.0.1:1" in ended.log
    assert "connection refused" in ended.log


def test_consuls_own_variables_lead_to_the_server(consul: Consul, tmp_path: Path) -> None:
    consul.put("app/a", "found")
    for name in ("conf.d", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "templates" / "t.j2").write_text("{{ getv('/app/a') }}")
    (tmp_path / "conf.d" / "a.toml").write_text(f'[template]\nsrc = "t.j2"\ndest = "{tmp_path}/t"\nkeys = ["/app"]\n')
    flags = ("-backend", "consul", "-confdir", str(tmp_path), "-auth-token", "secret-1234")
    ended = run_once(*flags, folder=tmp_path, more={"CONSUL_HTTP_ADDR": consul.endpoint})
    assert (ended.code, (tmp_path / "t").read_text()) == (0, "found")
    assert "list of processes" in ended.log
    assert "secret-1234" not in ended.log
