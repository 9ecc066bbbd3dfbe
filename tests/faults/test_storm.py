"""A storm of changes: the files are right in the end, the program is reloaded seldom, and nothing piles up."""

from __future__ import annotations

import time

import pytest

from tests.bench.processes import memory
from tests.e2e.installation import Installation, Program
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd
from tests.waiting import wait_until

RESOURCES, PUTS, INTERVAL = 20, 2000, 1.0


@pytest.mark.parametrize("backend", ["etcdv3", "consul"])
def test_after_a_storm_files_equal_keys_and_reloads_were_few(tmp_path, backend):
    program = Program(tmp_path)
    with Etcd() if backend == "etcdv3" else Consul() as server:
        installation = Installation(tmp_path, "-backend", backend, "-node", server.endpoint)
        slash = "/" if backend == "etcdv3" else ""
        server.transact({f"{slash}app/r{number}": "0" for number in range(RESOURCES)})
        more = {"reload_cmd": program.failing(0), "min_reload_interval": f"'{INTERVAL}s'"}
        dests = [installation.add(f"r{number}", **more) for number in range(RESOURCES)]
        with installation.start() as confpy:
            wait_until(lambda: all(dest.exists() for dest in dests), what="the first files")
            wait_until(lambda: program.count, what="the first reload")
            before, began = memory(confpy.process.pid), time.monotonic()
            last: dict[int, int] = {}
            for turn in range(PUTS // 10):
                some = {(turn * 10 + one) % RESOURCES: turn for one in range(10)}
                server.transact({f"{slash}app/r{number}": str(value) for number, value in some.items()})
                last |= some
            wait_until(
                lambda: [dest.read_text() for dest in dests] == [f"{last[number]}\n" for number in range(RESOURCES)],
                seconds=60, what="the final state",
            )  # fmt: skip
            took = time.monotonic() - began
            runs = program.count - 1
            assert runs <= took / INTERVAL + 1
            # The last commit is followed by a reload, which may have to wait for its turn.
            committed = max(dest.stat().st_mtime for dest in dests)
            wait_until(lambda: program.runs.stat().st_mtime >= committed, seconds=10, what="the last reload")
            assert memory(confpy.process.pid) - before < 15
