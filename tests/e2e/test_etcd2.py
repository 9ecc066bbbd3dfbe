"""The examples on etcd v2, with not a byte changed: a backend that registers with a TTL comes, and goes by itself."""

from __future__ import annotations

import pytest

from tests.e2e.examples import EXAMPLES
from tests.e2e.running import Confpy, run_once
from tests.servers.ports import free_port
from tests.servers.traffic import Traffic
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
        ended = run_once(*flags, folder=tmp_path, more=environment)
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
