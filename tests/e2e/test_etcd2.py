"""Load balancers on etcd v2: a backend that registers with a TTL comes, and goes by itself."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.e2e.examples import EXAMPLES, HAPROXY
from tests.e2e.running import Confpy, run_once
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.servers.traffic import Traffic, ask
from tests.servers.web import Backend
from tests.waiting import wait_until


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_backend_with_a_ttl_gets_traffic_until_it_expires(example, etcd2, tmp_path):
    port = free_port()
    with Backend("a") as a, Backend("b") as b:
        etcd2.set("/services/web/port", str(port))
        etcd2.set("/services/web/backends/a", a.address)
        flags = ["-backend", "etcdv2", "-node", etcd2.endpoint, "-confdir", str(example.move(tmp_path))]
        environment = example.environment(tmp_path)
        ended = run_once("-no-reload", *flags, folder=tmp_path, more=environment)
        assert ended.code == 0, ended.events
        with (
            example.serve(tmp_path, port) as proxy,
            Confpy("-watch", *flags, "-resync", "300s", folder=tmp_path, more=environment),
            Traffic(proxy.port) as traffic,
        ):
            wait_until(lambda: traffic.answers["a"], what="a answers")
            etcd2.set("/services/web/backends/b", b.address, ttl=3)
            wait_until(lambda: traffic.answers["b"], what="b answers")
            config = example.target(tmp_path)
            wait_until(lambda: b.address not in config.read_text(), what="b has expired")
            assert a.address in config.read_text()
        assert traffic.failures == []


@pytest.mark.parametrize("backend", ["etcdv2", "etcd"])
def test_a_backend_put_by_curl_with_a_ttl_of_five_seconds_is_in_haproxy_for_five_seconds(backend, etcd2, tmp_path):
    port = free_port()
    etcd2.set("/services/web/port", str(port))
    confdir = HAPROXY.move(tmp_path)
    template = confdir / "templates" / "haproxy.cfg.j2"
    template.write_text(template.read_text().replace("/services/web/backends/*", "/services/web/*"))
    flags = ["-backend", backend, "-confdir", str(confdir)]
    environment = {**HAPROXY.environment(tmp_path), "ETCDCTL_PEERS": f"http://127.0.0.1:1,{etcd2.endpoint}"}
    ended = run_once("-no-reload", *flags, folder=tmp_path, more=environment)
    assert ended.code == 0, ended.events
    curl = [find("curl"), "-fsSL", f"{etcd2.endpoint}/v2/keys/services/web/a", "-XPUT"]
    with (
        Backend("a") as a,
        HAPROXY.serve(tmp_path, port),
        Confpy("-watch", *flags, "-resync", "300s", folder=tmp_path, more=environment) as confpy,
    ):
        confpy.says("confpy.started")
        assert ask(port)[0] == 503
        put_at = time.monotonic()
        subprocess.run([*curl, "-d", f"value={a.address}", "-d", "ttl=5"], check=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: ask(port) == (200, "a"), seconds=4, what="HAProxy has the backend")
        # A worker of before may still answer for a moment, and had no backend.
        gone = wait_until(
            lambda: time.monotonic() > put_at + 4 and ask(port)[0] == 503 and time.monotonic(),
            seconds=10,
            what="HAProxy has it no more",
        )
        assert gone < put_at + 9
