"""``examples/haproxy/runtime`` as written: backends register and go as containers do, and HAProxy keeps its worker."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.examples import HAPROXY, etcdctl
from tests.e2e.running import ROOT, Confpy, run_once
from tests.servers.etcd import Etcd
from tests.servers.haproxy import haproxies
from tests.servers.ports import free_port
from tests.servers.runtime import RuntimeProxy
from tests.servers.traffic import Traffic
from tests.servers.web import Backend
from tests.waiting import wait_until


@dataclass
class Site:
    """The example that runs."""

    etcd: Etcd
    proxy: RuntimeProxy
    confpy: Confpy

    def put(self, key: str, value: str) -> None:
        etcdctl(self.etcd, "put", f"/services/web/{key}", value)

    def stat(self) -> dict[str, str]:
        """Return what ``show stat`` says of each server that has an address: its address → its state."""
        rows = csv.DictReader(self.proxy.ask("show stat").removeprefix("# ").splitlines())
        names = {row["svname"]: row["status"] for row in rows if row["pxname"] == "web" and row["type"] == "2"}
        served = self.proxy.served()
        return {served[name]: status for name, status in names.items() if name in served}


@pytest.fixture(params=sorted(haproxies()))
def site(request: pytest.FixtureRequest, etcd: Etcd, tmp_path: Path) -> Iterator[Site]:
    port = free_port()
    etcdctl(etcd, "put", "/services/web/port", str(port))
    if request.param == "system":
        etcdctl(etcd, "put", "/services/web/slots", "16")
    confdir = HAPROXY.move(tmp_path, ROOT / "examples" / "haproxy" / "runtime")
    flags = ["-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(confdir)]
    ended = run_once("-no-reload", *flags, folder=tmp_path)
    assert ended.code == 0, ended.events
    proxy = RuntimeProxy(tmp_path, port, request.param)
    proxy.start()
    try:
        with Confpy("-watch", *flags, folder=tmp_path) as confpy:
            confpy.says("confpy.started")
            found = Site(etcd, proxy, confpy)
            # HAProxy was started right after its file was written: what it has read is known after one reload at most.
            found.put("maxconn", "3000")
            confpy.says("resource.changed")
            yield found
            assert confpy.stop() == 0
    finally:
        proxy.stop()


def test_backends_register_and_go_as_containers_do_while_show_stat_watches(site):
    with Backend("first") as first:
        site.put("backends/first", first.address)
        wait_until(lambda: site.stat().get(first.address) in {"UP", "no check"}, what="the first backend is up")
        worker = site.proxy.worker()
        with Traffic(site.proxy.port) as traffic:
            for number in range(5):
                with Backend(f"b{number}") as backend:
                    site.put(f"backends/b{number}", backend.address)
                    wait_until(lambda backend=backend: backend.address in site.stat(), what="show stat has it")
                    wait_until(lambda number=number: traffic.answers[f"b{number}"] > 3, what="it gets requests")
                    etcdctl(site.etcd, "del", f"/services/web/backends/b{number}")
                    wait_until(lambda backend=backend: backend.address not in site.stat(), what="it has gone")
            assert set(site.stat()) == {first.address}
        assert traffic.failures == []
        assert site.proxy.worker() == worker


def test_a_setting_that_haproxy_rejects_is_replaced_by_the_previous_file(site):
    worker = site.proxy.worker()
    config = (site.proxy.folder / "haproxy.cfg").read_text()
    site.put("maxconn", "abc")
    site.confpy.says("reload.rolled_back")
    assert (site.proxy.folder / "haproxy.cfg").read_text() == config
    assert site.proxy.worker() != 0
    with Backend("next") as backend:
        site.put("maxconn", "3000")
        site.put("backends/next", backend.address)
        with Traffic(site.proxy.port) as traffic:
            wait_until(lambda: traffic.answers["next"] > 3, what="the next backend gets requests")
    assert worker
