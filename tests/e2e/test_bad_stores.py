"""What is wrong about a store is one line with node, reason and a hint; one-shot ends with 3, the daemon goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pytest

from tests.e2e.running import Confpy, Ended, run_once
from tests.servers.authority import Authority
from tests.servers.consul import MASTER, Consul
from tests.servers.etcd import Etcd2
from tests.servers.ports import free_port
from tests.servers.web import Backend

Server = TypeVar("Server", Etcd2, Consul, Backend)
CANARY = "canary-0b5c"
"""A secret that no server knows and no log may hold."""
PASSWORD = "canary-the-right-one"
"""One that a server knows."""


@dataclass
class Town:
    """Servers of each kind, open and guarded; each starts when a test first asks for it."""

    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)

    def _enter(self, server: Server) -> Server:
        return self.stack.enter_context(server)

    @cached_property
    def own(self) -> Authority:
        return Authority(self.folder / "own")

    @cached_property
    def theirs(self) -> Authority:
        return Authority(self.folder / "theirs")

    @cached_property
    def server_pair(self) -> tuple[Path, Path]:
        return self.own.issue("server", "IP:127.0.0.1")

    def shows(self, signer: Authority) -> tuple[str, ...]:
        """Trust our authority, and show a certificate of this one."""
        certificate, key = signer.issue("client", field="O")
        return "-client-ca-keys", str(self.own.ca), "-client-cert", str(certificate), "-client-key", str(key)

    @cached_property
    def secret(self) -> str:
        (self.folder / "secret").write_text(CANARY)
        return str(self.folder / "secret")

    @cached_property
    def etcd(self) -> Etcd2:
        return self._enter(Etcd2())

    @cached_property
    def tls_etcd(self) -> Etcd2:
        certificate, key = self.server_pair
        shown = ("--cert-file", str(certificate), "--key-file", str(key))
        wanted = ("--client-cert-auth", "--trusted-ca-file", str(self.own.ca))
        return self._enter(Etcd2(*shown, *wanted, scheme="https"))

    @cached_property
    def guarded_etcd(self) -> Etcd2:
        server = self._enter(Etcd2())
        server.guard("/nothing")
        server.add_user("web", PASSWORD, ("/a", "/b"))
        server.enable_auth()
        return server

    @cached_property
    def consul(self) -> Consul:
        return self._enter(Consul())

    @cached_property
    def tls_consul(self) -> str:
        port = free_port()
        certificate, key = self.server_pair
        files = {"cert_file": str(certificate), "key_file": str(key), "ca_file": str(self.own.ca)}
        self._enter(Consul(https=port, verify_incoming_https=True, **files))
        return f"127.0.0.1:{port}"

    @cached_property
    def guarded_consul(self) -> Consul:
        return self._enter(Consul(acl=True))

    @cached_property
    def web(self) -> Backend:
        return self._enter(Backend("web"))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"))
    with town.stack:
        yield town


class Installation:
    """A confdir with one resource over ``/a``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "out"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "templates" / "a.j2").write_text('{{ getv("/a/x") }}')
        self.add("a")

    def add(self, name: str) -> None:
        toml = f'[template]\nsrc = "a.j2"\ndest = "{self.folder / name}.out"\nkeys = ["/a"]\n'
        (self.folder / "conf.d" / f"{name}.toml").write_text(toml)

    def once(self, *flags: str) -> Ended:
        return run_once(*flags, "-confdir", str(self.folder), "-log-level", "debug", folder=self.folder)

    def watch(self, *flags: str) -> Confpy:
        flags = (*flags, "-confdir", str(self.folder), "-log-level", "debug")
        return Confpy("-watch", *flags, folder=self.folder)

    def text(self) -> str:
        return (self.folder / "a.out").read_text()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


ETCD = ("etcdv2", "etcdv3", "etcd")


@dataclass(frozen=True)
class Case:
    """What is wrong, for which stores, and what the one line says of it."""

    what: str
    backends: tuple[str, ...]
    flags: Callable[[Town], tuple[str, ...]]
    says: str
    names: str = "127.0.0.1:"
    """Where it went wrong: the node, else the record."""


CASES = [
    Case("a wrong port", (*ETCD, "consul"), lambda _: ("-node", f"127.0.0.1:{free_port()}"), "connection refused"),
    Case(
        "several nodes, and none works",
        (*ETCD, "consul"),
        lambda _: ("-node", f"127.0.0.1:{free_port()}", "-node", "http://no-such-host.invalid:1"),
        "no-such-host.invalid is not known",
    ),
    Case("https to a plain port", ETCD, lambda town: ("-node", f"https://127.0.0.1:{town.etcd.port}"), "http://"),
    Case(
        "https to a plain port", ("consul",), lambda town: ("-node", f"https://127.0.0.1:{town.consul.port}"), "http://"
    ),
    Case("http to a TLS port", ETCD, lambda town: ("-node", f"http://127.0.0.1:{town.tls_etcd.port}"), "https://"),
    Case("http to a TLS port", ("consul",), lambda town: ("-node", f"http://{town.tls_consul}"), "https://"),
    Case(
        "the CA of somebody else",
        ETCD,
        lambda town: ("-node", town.tls_etcd.endpoint, "-client-ca-keys", str(town.theirs.ca)),
        "not trusted",
    ),
    Case(
        "the CA of somebody else",
        ("consul",),
        lambda town: ("-node", f"https://{town.tls_consul}", "-client-ca-keys", str(town.theirs.ca)),
        "not trusted",
    ),
    Case(
        "another name in the certificate",
        ETCD,
        lambda town: ("-node", town.tls_etcd.endpoint, *town.shows(town.own), "-server-name", "other.example"),
        "other.example",
    ),
    Case(
        "no client certificate",
        ETCD,
        lambda town: ("-node", town.tls_etcd.endpoint, "-client-ca-keys", str(town.own.ca)),
        "certificate",
    ),
    Case(
        "no client certificate",
        ("consul",),
        lambda town: ("-node", f"https://{town.tls_consul}", "-client-ca-keys", str(town.own.ca)),
        "certificate",
    ),
    Case(
        "a client certificate of somebody else",
        ETCD,
        lambda town: ("-node", town.tls_etcd.endpoint, *town.shows(town.theirs)),
        "certificate",
    ),
    Case(
        "a client certificate of somebody else",
        ("consul",),
        lambda town: ("-node", f"https://{town.tls_consul}", *town.shows(town.theirs)),
        "certificate",
    ),
    Case(
        "a wrong password",
        ETCD,
        lambda town: (
            *("-node", town.guarded_etcd.endpoint, "-basic-auth"),
            *("-username", "web", "-password-file", town.secret),
        ),
        "password",
    ),
    Case("no user", ETCD, lambda town: ("-node", town.guarded_etcd.endpoint), "username"),
    Case(
        "an unknown token",
        ("consul",),
        lambda town: ("-node", town.guarded_consul.endpoint, "-auth-token-file", town.secret),
        "token",
    ),
    Case(
        "an unknown datacenter",
        ("consul",),
        lambda town: ("-node", town.consul.endpoint, "-datacenter", "nowhere"),
        "datacenter",
    ),
    Case(
        "a domain without the records",
        (*ETCD, "consul"),
        lambda _: ("-srv-domain", "nowhere.invalid"),
        "exist",
        names="_tcp.nowhere.invalid",
    ),
    Case(
        "a record that is not there",
        (*ETCD, "consul"),
        lambda _: ("-srv-record", "_keys._tcp.nowhere.invalid."),
        "exist",
        names="_keys._tcp.nowhere.invalid",
    ),
    Case("a Consul", ETCD, lambda town: ("-node", town.consul.endpoint), "etcd"),
    Case("an etcd", ("consul",), lambda town: ("-node", town.etcd.endpoint), "not as Consul does"),
    Case("the port for peers", ETCD, lambda town: ("-node", f"127.0.0.1:{town.etcd.peer_port}"), "etcd"),
    Case("the port for servers", ("consul",), lambda town: ("-node", town.consul.rpc), "before the answer"),
    Case("a web server", (*ETCD, "consul"), lambda town: ("-node", town.web.address), "it answers, but not as"),
]


@pytest.mark.parametrize(
    ("backend", "case"),
    [pytest.param(backend, case, id=f"{backend}: {case.what}") for case in CASES for backend in case.backends],
)
def test_what_is_wrong_is_one_line_with_node_reason_and_hint_and_one_shot_ends_with_3(
    backend, case, town, installation
):
    ended = installation.once("-backend", backend, *case.flags(town))
    assert ended.code == 3, ended.events
    (line,) = (event for event in ended.events if event["level"] != "debug")
    assert line["event"] in ("store.lost", "prefix.denied")
    assert case.says in f"{line['error']}; {line['hint']}"
    assert case.names in f"{line.get('node')} {line['error']}"
    assert CANARY not in ended.log
    assert not installation.target.exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("-node", "http://127.0.0.1:2379/v3"), "/v3"),
        (("-node", "ftp://127.0.0.1:2379"), "ftp://"),
        (("-client-ca-keys", "secret"), "holds no certificate"),
        (("-client-ca-keys", "nowhere.pem"), "nowhere.pem"),
        (("-client-cert", "secret", "-client-key", "secret"), "certificate"),
        (("-username", "web", "-basic-auth", "-password-file", "nowhere"), "nowhere"),
    ],
)
@pytest.mark.parametrize("backend", [*ETCD, "consul"])
def test_what_is_wrong_before_any_request_ends_with_2(backend, flags, says, installation):
    (installation.folder / "secret").write_text(CANARY)
    ended = installation.once("-backend", backend, *flags)
    assert ended.code == 2, ended.log
    (line,) = (event for event in ended.events if event["level"] != "debug")
    assert says in str(line)
    assert CANARY not in ended.log


def test_a_thousand_resources_of_a_store_that_is_away_are_two_lines_and_all_stand_in_the_report(installation):
    for number in range(999):
        installation.add(f"r{number}")
    report = installation.folder / "report.json"
    ended = installation.once("-backend", "etcdv3", "-node", f"127.0.0.1:{free_port()}", "-report", str(report))
    assert ended.code == 3
    lost, failed = (event for event in ended.events if event["level"] != "debug")
    assert (lost["event"], failed["event"], failed["failures"]) == ("store.lost", "onetime.failed", 1000)
    assert failed["each"].endswith(f"and 990 more: {lost['error']}")
    assert report.read_text().count("connection refused") == 1000


# --- the daemon ------------------------------------------------------------------------------------------------------


def goes_on(installation: Installation, mend: Callable[[], object], *flags: str) -> None:
    """Fail, name the next try, and deliver once it is mended."""
    with installation.watch(*flags) as confpy:
        lost = confpy.says("store.lost")
        assert 0 <= lost["retry_in"] <= 1
        assert lost["node"]
        mend()
        confpy.says("store.recovered", seconds=60)
        confpy.says("resource.changed", resource="a")
        assert installation.text() == "1"
        assert not any("canary" in str(event) for event in confpy.events)
        assert confpy.stop() == 0


@pytest.mark.parametrize("kind", [Etcd2, Consul])
def test_the_daemon_waits_for_a_server_that_is_not_there_yet(kind, installation):
    with kind(started=False) as server:

        def mend():
            server.start()
            server.put("a/x" if kind is Consul else "/a/x", "1")

        goes_on(installation, mend, "-backend", "consul" if kind is Consul else "etcdv3", "-node", server.endpoint)


def test_the_daemon_takes_a_password_that_is_mended_in_its_file(town, installation):
    secret = installation.folder / "secret"
    secret.write_text(CANARY)
    town.guarded_etcd.put("/a/x", "1")
    flags = (
        "-backend",
        "etcdv3",
        "-node",
        town.guarded_etcd.endpoint,
        "-username",
        "web",
        "-password-file",
        str(secret),
    )
    goes_on(installation, lambda: secret.write_text(PASSWORD), *flags)


def test_the_daemon_takes_a_token_that_is_mended_in_its_file(town, installation):
    secret = installation.folder / "secret"
    secret.write_text(CANARY)
    town.guarded_consul.put("a/x", "1")
    token = town.guarded_consul.grant('key_prefix "a/" { policy = "read" }')
    with installation.watch(
        "-backend", "consul", "-node", town.guarded_consul.endpoint, "-auth-token-file", str(secret)
    ) as confpy:
        confpy.says("store.lost")
        secret.write_text(token)
        confpy.says("resource.changed", seconds=60, resource="a")
        assert installation.text() == "1"
        assert not any(one in str(event) for event in confpy.events for one in (CANARY, token, MASTER))


def test_the_daemon_takes_a_ca_that_is_mended_in_its_file(town, installation):
    trusted = installation.folder / "ca.pem"
    trusted.write_bytes(town.theirs.ca.read_bytes())
    flags = dict(zip(*[iter(town.shows(town.own))] * 2, strict=True)) | {"-client-ca-keys": str(trusted)}
    with installation.watch("-backend", "etcdv3", "-node", town.tls_etcd.endpoint, *sum(flags.items(), ())) as confpy:
        assert "not trusted" in confpy.says("store.lost")["error"]
        trusted.write_bytes(town.own.ca.read_bytes())
        confpy.says("store.recovered", seconds=60)


@pytest.mark.parametrize("backend", ["etcdv2", "etcdv3", "etcd", "consul"])
def test_a_secret_on_the_command_line_warns_and_stands_in_no_line(backend, town, installation):
    node = town.guarded_consul.endpoint if backend == "consul" else town.guarded_etcd.endpoint
    flags = ("-auth-token", CANARY) if backend == "consul" else ("-basic-auth", "-username", "web", "-password", CANARY)
    ended = installation.once("-backend", backend, "-node", node, *flags)
    assert ended.code == 3
    assert "list of processes" in ended.find("settings.warning")["error"]
    assert CANARY not in ended.log + ended.output
