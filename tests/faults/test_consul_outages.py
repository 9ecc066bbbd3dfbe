"""A whole confpy that watches a real Consul, and what happens to Consul: the next change arrives, and nothing spins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.running import Ended, run_once
from tests.faults.test_outages import Follower
from tests.servers.authority import Authority
from tests.servers.consul import MASTER, Consul, cluster, leader
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
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


@pytest.fixture
def servers() -> Iterator[list[Consul]]:
    with cluster() as three:
        yield three


def test_a_leader_that_dies_loses_no_change(servers: list[Consul], follow: Callable[..., Follower]) -> None:
    servers[0].transact({f"app/{number}": "1" for number in range(5)})
    dies = leader(servers)
    others = [server for server in servers if server is not dies]
    follower = follow(*(server.endpoint for server in servers))
    follower.shows("/app/4=1")
    dies.kill()
    began = time.monotonic()
    leader(servers)
    print(f"another leader after {time.monotonic() - began:.2f} s")  # noqa: T201  # what -rP shows
    for number in range(5):
        others[number % 2].put(f"app/{number}", f"new {number}")
    wait_until(
        lambda: follower.text() == "".join(f"/app/{number}=new {number}\n" for number in range(5)),
        seconds=60,
        what="every change has arrived",
    )
    recovered(follower, others[0], "of the new leader", fault="the death of the leader")


def test_a_server_without_a_leader_is_not_believed_and_tried_again(
    servers: list[Consul], follow: Callable[..., Follower]
) -> None:
    alone, *others = servers
    alone.put("app/a", "1")
    follower = follow(alone.endpoint)
    follower.shows("/app/a=1")
    for other in others:
        other.kill()
    wait_until(lambda: "leader" in str(follower.confpy.says("store.lost", seconds=40)), what="it says why")
    assert follower.text() == "/app/a=1\n"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Consul.start, others))
    recovered(follower, alone, "2", fault="two servers of three", seconds=90)


def test_a_thousand_resources_are_sixteen_queries_and_cost_nothing_at_rest(
    consul: Consul, consul_proxy: FaultProxy, follow: Callable[..., Follower], tmp_path: Path
) -> None:
    prefixes = tuple(f"/svc/{number:04}" for number in range(1000))
    consul.transact({f"{prefix[1:]}/a": "1" for prefix in prefixes})
    follower = follow(consul_proxy.endpoint, prefixes=prefixes, resync="300s")
    wait_until(lambda: len(list((tmp_path / "out").iterdir())) == 1000, seconds=60, what="all targets are there")
    wait_until(lambda: "index=" in "".join(consul_proxy.requests), what="the queries are open")
    consul.put("svc/0999/a", "2")
    follower.shows("/svc/0999/a=2", number=999)
    before, asked = follower.cpu(), len(consul_proxy.requests)
    end = time.monotonic() + 3
    wait_until(lambda: time.monotonic() > end, what="three seconds pass")
    assert consul_proxy.open_connections() <= 16
    assert len(consul_proxy.requests) - asked <= 16
    assert follower.cpu() - before < 0.3


# --- one run ---------------------------------------------------------------------------------------------------------


class Once:
    """A confdir with one resource, run once, with nothing but what the environment says of Consul."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "t"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "templates" / "t.j2").write_text("{{ getv('/app/a') }}")
        (folder / "conf.d" / "a.toml").write_text(
            f'[template]\nsrc = "t.j2"\ndest = "{self.target}"\nkeys = ["/app"]\n'
        )

    def run(self, *flags: str, **environment: str) -> Ended:
        flags = ("-backend", "consul", "-confdir", str(self.folder), *flags)
        more = {f"CONSUL_{name}": value for name, value in environment.items()}
        return run_once(*flags, folder=self.folder, more=more)

    def brings(self, value: str, *flags: str, **environment: str) -> Ended:
        self.target.unlink(missing_ok=True)
        ended = self.run(*flags, **environment)
        assert (ended.code, ended.log and self.target.exists() and self.target.read_text()) == (0, value), ended.log
        return ended

    def fails(self, *said: str, code: int = 3, flags: tuple[str, ...] = (), **environment: str) -> None:
        """One line that says all this; nothing is made."""
        ended = self.run(*flags, **environment)
        assert ended.code == code, ended.log
        (line,) = ended.log.splitlines()
        assert [words for words in said if words not in line] == [], line
        assert not self.target.exists()


@pytest.fixture
def once(tmp_path: Path) -> Once:
    return Once(tmp_path)


def test_a_run_without_a_server_ends_with_3_and_one_clear_line(once: Once) -> None:
    once.fails("127.0.0.1:1", "connection refused", "does the server run", HTTP_ADDR="127.0.0.1:1")


def test_consuls_own_variables_lead_to_the_server_and_what_is_said_wins(once: Once, tmp_path: Path) -> None:
    token, none = tmp_path / "token", "00000000-dead-beef-dead-000000000000"
    with Consul(acl=True) as consul:
        consul.put("app/a", "found")
        token.write_text(MASTER)
        once.brings("found", HTTP_ADDR=consul.endpoint, HTTP_TOKEN=MASTER)
        once.brings("found", HTTP_ADDR=f"127.0.0.1:{consul.port}", HTTP_TOKEN_FILE=str(token), HTTP_TOKEN=none)
        said = ("-node", consul.endpoint, "-auth-token-file", str(token))
        once.brings("found", *said, HTTP_ADDR="127.0.0.1:1", HTTP_TOKEN=none, HTTP_SSL="true")
        ended = once.brings("found", "-auth-token", MASTER, HTTP_ADDR=consul.endpoint, HTTP_TOKEN=none)
        assert "list of processes" in ended.log
        assert MASTER not in ended.log


def test_consuls_own_variables_lead_over_tls(once: Once, tmp_path: Path) -> None:
    port = free_port()
    own, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    server, client = own.issue("consul", "IP:127.0.0.1"), own.issue("confpy")
    tls = {"ca_file": str(own.ca), "cert_file": str(server[0]), "key_file": str(server[1])}
    with Consul(https=port, verify_incoming_https=True, **tls) as consul:
        consul.put("app/a", "found")
        node, at = f"https://127.0.0.1:{port}", {"HTTP_ADDR": f"127.0.0.1:{port}", "HTTP_SSL": "true"}
        shown = {"CLIENT_CERT": str(client[0]), "CLIENT_KEY": str(client[1])}
        right, wrong = {"CACERT": str(own.ca)}, {"CACERT": str(other.ca)}
        once.brings("found", **at, **right, **shown)
        once.brings("found", "-client-ca-keys", str(own.ca), **at, **wrong, **shown)
        once.target.unlink()
        once.fails(node, "not trusted", "client_ca_keys", **at, **wrong, **shown)
        once.fails(node, "certificate", "client_cert", **at, **right)
        once.fails(f"http://127.0.0.1:{port}", "it speaks TLS only", "https://", HTTP_ADDR=f"127.0.0.1:{port}")


def test_what_is_wrong_is_one_line_that_names_node_reason_and_what_to_do(once: Once, etcd: Etcd) -> None:
    unknown = "12345678-aaaa-bbbb-cccc-000000000009"
    with Consul(acl=True) as consul:
        deleted = consul.grant("")
        accessor = consul.ask("GET", "acl/token/self", token=deleted)[0]["AccessorID"]
        consul.ask("DELETE", f"acl/token/{accessor}")
        at = consul.endpoint
        flags = ("-datacenter", "mars")
        once.fails(at, "does not know the datacenter", "spelled", flags=flags, HTTP_ADDR=at, HTTP_TOKEN=MASTER)
        for token in (unknown, deleted):
            once.fails(at, "does not know the token", "auth_token", HTTP_ADDR=at, HTTP_TOKEN=token)
        https = at.replace("http:", "https:")
        once.fails(https, "does not speak TLS", "http://", HTTP_ADDR=https)
    once.fails(etcd.endpoint, "not as Consul does", "Consul's HTTP API", HTTP_ADDR=etcd.endpoint)
    once.fails("unix:///run/no.sock", "there is no socket", "does the server run", HTTP_ADDR="unix:///run/no.sock")
    address = "http://127.0.0.1:8500/below/a/path"
    once.fails(address, "is not the address of a node", "http://host:port", code=2, HTTP_ADDR=address)
