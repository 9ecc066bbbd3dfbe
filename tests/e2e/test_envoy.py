"""The example of Envoy: it follows its file by itself, without a reload, and no connection ends."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.examples import etcdctl
from tests.e2e.running import ROOT, Confpy, run_once
from tests.servers.envoy import Envoy
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.traffic import Traffic, ask
from tests.servers.web import Backend
from tests.waiting import wait_until

EXAMPLE = ROOT / "examples" / "envoy"
BACKENDS = "/services/web/backends"

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="there is no binary of Envoy for this machine")


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    """Return the example's confdir with its target in the test's folder."""
    for file in EXAMPLE.glob("*/*"):
        copy = tmp_path / "confdir" / file.relative_to(EXAMPLE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text().replace("/etc/envoy/", f"{tmp_path}/"))
    return tmp_path / "confdir"


@pytest.fixture
def a() -> Iterator[Backend]:
    with Backend("a") as backend:
        yield backend


def test_envoy_follows_its_endpoints_without_a_reload_and_no_request_fails(
    etcd: Etcd, tmp_path: Path, confdir: Path, a: Backend
) -> None:
    flags = ["-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(confdir)]
    etcdctl(etcd, "put", f"{BACKENDS}/a", a.address)
    assert run_once(*flags, folder=tmp_path).code == 0
    port = free_port()
    config = tmp_path / "envoy.yaml"
    listens = "0.0.0.0, port_value: 80 "
    text = (EXAMPLE / "envoy.yaml").read_text()
    assert listens in text
    config.write_text(text.replace(listens, f"127.0.0.1, port_value: {port} ").replace("/etc/envoy/", f"{tmp_path}/"))
    with (
        Backend("b") as b,
        Envoy(config, port=port),
        Confpy("-watch", *flags, folder=tmp_path) as confpy,
        Traffic(port) as traffic,
    ):
        confpy.says("confpy.started")
        wait_until(lambda: traffic.answers["a"], what="a answers")
        etcdctl(etcd, "put", f"{BACKENDS}/b", b.address)
        wait_until(lambda: traffic.answers["b"], what="b answers")
        etcdctl(etcd, "put", f"{BACKENDS}/named", "web.example:80")
        etcdctl(etcd, "del", f"{BACKENDS}/a")

        def only_b() -> bool:
            traffic.forget()
            wait_until(lambda: traffic.answers.total() >= 50, what="fifty answers")
            return set(traffic.answers) == {"b"}

        wait_until(only_b, seconds=20, what="all answers come from b")
        assert traffic.failures == []
        assert confpy.stop() == 0


def test_without_any_backend_envoy_answers_503(etcd: Etcd, tmp_path: Path, confdir: Path) -> None:
    flags = ["-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(confdir)]
    assert run_once(*flags, folder=tmp_path).code == 0
    port = free_port()
    config = tmp_path / "envoy.yaml"
    text = (EXAMPLE / "envoy.yaml").read_text().replace("/etc/envoy/", f"{tmp_path}/")
    config.write_text(text.replace("0.0.0.0, port_value: 80 ", f"127.0.0.1, port_value: {port} "))
    with Envoy(config, port=port):
        wait_until(lambda: ask(port)[0] == 503, what="503")
