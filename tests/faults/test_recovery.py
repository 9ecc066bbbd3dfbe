"""What befalls servers and networks, and a whole confpy on each store behind it: late it may be, wrong or busy never.

How long each recovery took stands in a table at the end of the run.
"""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.test_outages import Follower
from tests.servers.consul import Consul, ConsulSaysNo
from tests.servers.etcd import Etcd, Etcd2, EtcdSaysNo, cluster
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until

RESYNC = 2
"""Seconds. So are these:"""
ANSWER = 2
OUTAGE = 3
TOKEN = 5
BOUND = 20
"""Until all changes are there: a resync, an answer that hangs, the longest wait after some failures, a busy machine."""
CALM = 8
"""Requests a second that are not yet a busy loop."""


# --- stores ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """How one store is served and written to, and what its server says where it fails in mid-stream."""

    server: Callable[..., Any]
    put: Callable[[Any, str, str], object]
    delete: Callable[[Any, str], object]
    error: bytes


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\n\r\n" % (len(text) + 1, text)


KINDS = {
    "etcdv3": Kind(
        Etcd,
        Etcd.put,
        Etcd.delete,
        chunk(b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}'),
    ),
    "etcdv2": Kind(
        Etcd2,
        Etcd2.set,
        Etcd2.remove,
        chunk(b'{"errorCode":401,"message":"The event in requested index is outdated and cleared","index":9}')
        + b"0\r\n\r\n",
    ),
    "consul": Kind(
        Consul,
        lambda server, key, value: server.put(key[1:], value),
        lambda server, key: server.delete(key[1:]),
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 17\r\n\r\nNo cluster leader",
    ),
}


class Scene:
    """Servers behind a proxy each, a confpy that follows them, and the keys as they should arrive."""

    def __init__(self, kind: Kind, servers: list[Any], proxies: list[FaultProxy]) -> None:
        self.kind = kind
        self.servers = servers
        self.proxies = proxies
        self.keys: dict[str, str] = {}
        self._number = 0

    @property
    def server(self) -> Any:
        (server,) = self.servers
        return server

    @property
    def proxy(self) -> FaultProxy:
        (proxy,) = self.proxies
        return proxy

    def change(self) -> None:
        """Change a key, make one and remove one."""
        old = [key for key in self.keys if key.startswith("/app/new/")]
        self._number += 1
        self._write("/app/same", str(self._number))
        self._write(f"/app/new/{self._number}", "1")
        for key in old:
            self._write(key, None)

    def _write(self, key: str, value: str | None) -> None:
        wait_until(lambda: any(self._written(server, key, value) for server in self.servers), seconds=30, what=key)
        if value is None:
            del self.keys[key]
        else:
            self.keys[key] = value

    def _written(self, server: Any, key: str, value: str | None) -> bool:
        try:
            self.kind.delete(server, key) if value is None else self.kind.put(server, key, value)
        except (EtcdSaysNo, ConsulSaysNo):
            return value is None and len(self.servers) > 1  # it went with the answer that was lost
        except (OSError, http.client.HTTPException):
            return False
        return True

    def text(self) -> str:
        return "".join(f"{key}={value}\n" for key, value in sorted(self.keys.items()))

    def requests(self) -> int:
        return sum(max(proxy.connections, len(proxy.requests)) for proxy in self.proxies)


def lasts(seconds: float) -> None:
    """Let an outage last."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds=seconds + 5, what=f"{seconds:g} s have passed")


# --- faults: each returns when a recovery is possible ----------------------------------------------------------------


def black_hole(scene: Scene) -> None:
    scene.proxy.black_hole()
    scene.change()
    lasts(OUTAGE)
    scene.proxy.heal()


def forgotten_by_a_firewall(scene: Scene) -> None:
    scene.proxy.forget()


def reset(scene: Scene) -> None:
    scene.proxy.reset()


def half_close(scene: Scene) -> None:
    scene.proxy.half_close()


def slow_drip(scene: Scene) -> None:
    scene.proxy.drip(1)
    scene.change()
    lasts(OUTAGE)
    scene.proxy.heal()


def split_bytes(scene: Scene) -> None:
    scene.proxy.split(1)


def merged_chunks(scene: Scene) -> None:
    scene.proxy.merge()


def error_in_mid_stream(scene: Scene) -> None:
    scene.proxy.inject(scene.kind.error)


def refused_connections(scene: Scene) -> None:
    scene.proxy.refuse()
    scene.change()
    lasts(OUTAGE)
    scene.proxy.heal()


def restart(scene: Scene) -> None:
    scene.server.restart()


def sigstop(scene: Scene) -> None:
    scene.server.freeze()
    lasts(OUTAGE)
    scene.server.thaw()


def kill_9(scene: Scene) -> None:
    scene.server.kill()
    lasts(OUTAGE)
    scene.server.start()


def history_forgotten(scene: Scene) -> None:
    """What was changed while nobody listened is compacted (etcd v3), or fell out of the 1,000 events (v2)."""
    scene.proxy.refuse()
    scene.change()
    if isinstance(scene.server, Etcd2):
        for number in range(1_100):
            scene.server.set("/other", str(number))
    else:
        scene.server.put("/other", "1")
        scene.server.compact()
    scene.proxy.heal()


def restored_from_a_backup(scene: Scene) -> None:
    """Revisions and indexes go backwards."""
    backup, keys = scene.server.backup(), dict(scene.keys)
    scene.change()
    scene.change()
    scene.server.restore(backup)
    scene.keys = keys


def leader_lost(scene: Scene) -> None:
    next(server for server in scene.servers if server.leads()).kill()
    scene.change()  # returns when there is another


def two_of_three_down(scene: Scene) -> None:
    down = scene.servers[1:]
    for server in down:
        server.kill()
    lasts(OUTAGE)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(type(scene.servers[0]).start, down))


def login_expired(scene: Scene) -> None:
    """The token goes unused for longer than etcd keeps it."""
    scene.proxy.refuse()
    scene.change()
    lasts(TOKEN + 1)
    scene.proxy.heal()


Fault = Callable[[Scene], None]
EVERYWHERE: tuple[Fault, ...] = (
    black_hole, forgotten_by_a_firewall, reset, half_close, slow_drip, split_bytes, merged_chunks, error_in_mid_stream,
    refused_connections, restart, sigstop, kill_9, restored_from_a_backup,
)  # fmt: skip
IN_ETCD: tuple[Fault, ...] = (history_forgotten, leader_lost, two_of_three_down)
IN_CLUSTERS = (leader_lost, two_of_three_down)
CASES = [
    *((fault, name) for fault in EVERYWHERE for name in KINDS),
    *((fault, name) for fault in IN_ETCD for name in ("etcdv3", "etcdv2")),
    (login_expired, "etcdv3"),
]


# --- the promise -----------------------------------------------------------------------------------------------------


@contextmanager
def staged(fault: Fault, name: str) -> Iterator[Scene]:
    kind = KINDS[name]
    with ExitStack() as stack:
        if fault in IN_CLUSTERS:
            servers = stack.enter_context(cluster(kind.server))
        elif fault is login_expired:
            servers = [stack.enter_context(kind.server(f"--auth-token-ttl={TOKEN}"))]
            servers[0].add_user("web", "web's password", ("/app", "/app0"))
            servers[0].enable_auth()
        else:
            servers = [stack.enter_context(kind.server())]
        yield Scene(kind, servers, [stack.enter_context(FaultProxy(server.port)) for server in servers])


def descriptors(follower: Follower) -> int:
    return len(os.listdir(f"/proc/{follower.confpy.process.pid}/fd"))


@pytest.mark.parametrize(("fault", "name"), CASES, ids=[f"{fault.__name__}-{name}" for fault, name in CASES])
def test_no_change_is_missed_nothing_spins_and_nothing_grows(fault, name, tmp_path, monkeypatch, record_property):
    monkeypatch.setenv("CONFPY_READ_TIMEOUT", f"{ANSWER}s")
    monkeypatch.setenv("CONFPY_CONNECT_TIMEOUT", "1s")
    if fault is login_expired:
        monkeypatch.setenv("CONFPY_USERNAME", "web")
        monkeypatch.setenv("CONFPY_PASSWORD", "web's password")
    with staged(fault, name) as scene:
        scene.change()
        nodes = [proxy.endpoint for proxy in scene.proxies]
        follower = Follower(tmp_path, *nodes, backend=name, resync=f"{RESYNC}s")
        with follower.confpy:
            arrives(follower, scene)
            scene.change()
            arrives(follower, scene)
            threads, files = follower.threads(), descriptors(follower)
            cpu, asked, began = follower.cpu(), scene.requests(), time.monotonic()
            fault(scene)
            healed = time.monotonic()
            scene.change()
            arrives(follower, scene)
            record_property("recovered", (fault.__name__.replace("_", " "), name, round(time.monotonic() - healed, 2)))
            took = time.monotonic() - began
            assert scene.requests() - asked < 20 + CALM * took
            assert follower.cpu() - cpu < 0.5 + 0.1 * took
            wait_until(
                lambda: follower.threads() <= threads and descriptors(follower) <= files,
                seconds=BOUND,
                what=f"{threads} threads and {files} descriptors, as before the fault",
            )
        assert not [event for event in follower.confpy.events if "a bug in confpy" in str(event)]


def arrives(follower: Follower, scene: Scene) -> None:
    wait_until(
        lambda: "".join(sorted(follower.text().splitlines(keepends=True))) == scene.text(),
        seconds=BOUND,
        what="every change is in the target, and nothing else",
    )
