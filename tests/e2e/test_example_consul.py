"""``examples/haproxy/consul`` as written: HAProxy follows what a real agent registers and checks, without any key."""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.examples import HAPROXY
from tests.e2e.running import ROOT, Confpy, run_once
from tests.servers.consul import Consul
from tests.servers.haproxy import haproxies
from tests.servers.ports import free_port
from tests.servers.runtime import RuntimeProxy
from tests.servers.traffic import Traffic
from tests.servers.web import Backend
from tests.waiting import wait_until


def test_haproxy_follows_what_an_agent_registers_and_checks(consul: Consul, tmp_path: Path) -> None:
    port = free_port()
    confdir = HAPROXY.move(tmp_path, ROOT / "examples" / "haproxy" / "consul")
    flags = ["-backend", "consul-catalog", "-node", consul.endpoint, "-confdir", str(confdir)]
    environment = {"WEB_PORT": str(port)}
    config = tmp_path / "haproxy.cfg"

    def lists(**wanted: bool) -> None:
        """Return when the file has these servers, or has them not, and print after how long."""
        began = time.monotonic()
        wait_until(
            lambda: all((f"server {name} " in config.read_text()) is there for name, there in wanted.items()),
            seconds=60,
            what=str(wanted),
        )
        print(f"{wanted} after {(time.monotonic() - began) * 1000:.0f} ms")  # noqa: T201  # what -rP shows

    with Backend("a") as a, Backend("b") as b:
        consul.write_services(
            {"name": "web", "id": "a", "port": a.port, "weights": {"passing": 7, "warning": 1},
             "check": {"http": f"http://{a.address}/", "interval": "1s", "timeout": "1s", "status": "passing"}},
        )  # fmt: skip
        consul.register("web", "b", Port=b.port, Check={"CheckID": "b", "TTL": "1h", "Status": "passing"})
        wait_until(lambda: len(consul.ask("GET", "health/service/web?passing")[0]) == 2, what="both are registered")
        assert run_once("-no-reload", *flags, folder=tmp_path, more=environment).code == 0
        assert f"server a 127.0.0.1:{a.port} weight 7\n" in config.read_text()
        proxy = RuntimeProxy(tmp_path, port, min(haproxies()))
        proxy.start()
        try:
            with Confpy("-watch", *flags, folder=tmp_path, more=environment) as confpy:
                confpy.says("confpy.started")
                with Traffic(port) as traffic:
                    wait_until(lambda: traffic.answers["a"] and traffic.answers["b"], what="both answer")
                    consul.set_check("b", "fail")
                    lists(b=False, a=True)
                    traffic.forget()
                    wait_until(lambda: traffic.answers["a"] > 20, what="a answers")
                    consul.set_check("b", "pass")
                    lists(b=True, a=True)
                    wait_until(lambda: traffic.answers["b"] > 3, what="b answers again")
                assert traffic.failures == []
                a.stop()
                lists(a=False, b=True)
                consul.register("web", "c", Port=b.port, Address="127.0.0.1")
                lists(b=True, c=True)
                consul.deregister("c")
                lists(b=True, c=False)
                assert confpy.stop() == 0
        finally:
            proxy.stop()
