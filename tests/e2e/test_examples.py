"""The main job, end to end: keys in a real etcd become the configuration of a real proxy that serves real traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.examples import EXAMPLES, Example, etcdctl
from tests.e2e.running import Confpy, run_once
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.program import Program
from tests.servers.traffic import Traffic, ask
from tests.servers.web import Backend
from tests.waiting import wait_until


@dataclass
class Site:
    """An example that runs: etcd, the proxy, and confpy between them; backend ``a`` is registered."""

    etcd: Etcd
    example: Example
    folder: Path
    confpy: Confpy
    proxy: Program

    def put(self, key: str, value: str) -> None:
        etcdctl(self.etcd, "put", f"/services/web/{key}", value)

    def delete(self, key: str) -> None:
        etcdctl(self.etcd, "del", f"/services/web/{key}")

    @property
    def config(self) -> str:
        return self.example.target(self.folder).read_text()


@pytest.fixture
def a() -> Iterator[Backend]:
    with Backend("a") as backend:
        yield backend


@pytest.fixture
def b() -> Iterator[Backend]:
    with Backend("b") as backend:
        yield backend


@pytest.fixture(params=EXAMPLES, ids=lambda example: example.name)
def site(request: pytest.FixtureRequest, etcd: Etcd, tmp_path: Path, a: Backend) -> Iterator[Site]:
    example: Example = request.param
    port = free_port()
    etcdctl(etcd, "put", "/services/web/port", str(port))
    etcdctl(etcd, "put", "/services/web/backends/a", a.address)
    flags = ["-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(example.move(tmp_path))]
    environment = example.environment(tmp_path)
    ended = run_once("-no-reload", *flags, folder=tmp_path, more=environment)
    assert ended.code == 0, ended.events
    with (
        example.serve(tmp_path, port) as proxy,
        Confpy("-watch", *flags, folder=tmp_path, more=environment) as confpy,
    ):
        confpy.says("confpy.started")
        yield Site(etcd, example, tmp_path, confpy, proxy)
        assert confpy.stop() == 0


def answers_only(traffic: Traffic, name: str) -> None:
    """Return when a hundred answers in a row came from this backend."""

    def so() -> bool:
        traffic.forget()
        wait_until(lambda: traffic.answers.total() >= 100, what="a hundred answers")
        return set(traffic.answers) == {name}

    wait_until(so, seconds=20, what=f"all answers come from {name}")


def test_a_new_backend_gets_traffic_a_removed_one_none_and_no_request_fails(site: Site, b: Backend) -> None:
    with Traffic(site.proxy.port) as traffic:
        wait_until(lambda: traffic.answers["a"], what="a answers")
        site.put("backends/b", b.address)
        site.confpy.says("resource.changed", resource=site.example.name, reloaded=True)
        wait_until(lambda: traffic.answers["b"], what="b answers")
        site.delete("backends/b")
        site.confpy.says("resource.changed", resource=site.example.name, reloaded=True)
        answers_only(traffic, "a")
        site.put("backends/b", b.address)
        site.delete("backends/a")
        answers_only(traffic, "b")
    assert traffic.failures == []


def test_a_setting_that_the_program_refuses_is_not_delivered_and_a_mended_one_is(site: Site) -> None:
    before = site.config
    with Traffic(site.proxy.port) as traffic:
        site.put(site.example.setting, "abc")
        failed = site.confpy.says("resource.failed", resource=site.example.name)
        assert site.example.complaint in failed["output"]
        assert site.config == before
        traffic.forget()
        wait_until(lambda: traffic.answers["a"] > 20, what="the proxy serves on")
        site.put(site.example.setting, site.example.good)
        site.confpy.says("resource.changed", resource=site.example.name, reloaded=True)
        assert site.example.good in site.config
        traffic.forget()
        wait_until(lambda: traffic.answers["a"] > 20, what="the proxy serves on")
    assert traffic.failures == []


def test_backends_that_make_no_sense_are_left_out_and_named_and_the_others_delivered(site: Site, b: Backend) -> None:
    site.put("backends/far", "127.0.0.1:99999")
    left_out = site.confpy.says("value.skipped", key="/services/web/backends/far")
    assert "65535" in left_out["reason"]
    site.put("backends/sly", f"{b.address}\n    server evil 127.0.0.1:1")
    left_out = site.confpy.says("value.skipped", key="/services/web/backends/sly")
    assert "line end" in left_out["reason"]
    site.put("backends/b", b.address)
    site.confpy.says("resource.changed", resource=site.example.name, reloaded=True)
    with Traffic(site.proxy.port) as traffic:
        wait_until(lambda: traffic.answers["a"] and traffic.answers["b"], what="both good backends answer")
    assert traffic.failures == []
    assert "99999" not in site.config
    assert "evil" not in site.config
    assert not any("evil" in str(event) or "99999" in str(event) for event in site.confpy.events)


def test_without_any_backend_the_proxy_answers_503_and_recovers(site: Site, b: Backend) -> None:
    site.delete("backends/a")
    site.confpy.says("resource.changed", resource=site.example.name, reloaded=True)
    wait_until(lambda: ask(site.proxy.port)[0] == 503, what="503")
    site.put("backends/b", b.address)
    wait_until(lambda: ask(site.proxy.port) == (200, "b"), what="b answers")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_while_the_program_does_not_run_its_reload_is_owed_and_said(example, etcd, tmp_path):
    port = free_port()
    etcdctl(etcd, "put", "/services/web/port", str(port))
    flags = ["-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(example.move(tmp_path))]
    environment = example.environment(tmp_path)
    assert run_once("-no-reload", *flags, folder=tmp_path, more=environment).code == 0
    etcdctl(etcd, "put", f"/services/web/{example.setting}", example.good)
    ended = run_once(*flags, folder=tmp_path, more=environment)
    assert ended.code == 7
    assert ended.find("reload.failed")["did"] == "the reload stays owed, for the next start"
    with example.serve(tmp_path, port):
        ended = run_once(*flags, folder=tmp_path, more=environment)
        assert ended.code == 0, ended.events
        assert ended.find("reload.recovered")["reloaded"] is True
