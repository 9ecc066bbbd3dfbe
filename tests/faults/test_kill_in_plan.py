"""confpy is killed (SIGKILL) after each system call with which it tells a running HAProxy of a change.

Then it starts again: HAProxy is as the file says, without a reload, and nothing that the plan had begun is left.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from confpy.haproxy.answers import read_servers_state
from confpy.haproxy.values import Avoided
from confpy.ledger.ledger import Ledger
from confpy.reload import runtime
from confpy.reload.actions import CommandReload
from confpy.reload.running import Answering
from confpy.reload.runtime_ports import RuntimePorts
from confpy.reload.runtime_socket import Sockets
from confpy.reload.runtime_target import RuntimeTarget
from confpy.reload.spec import ReloadSpec
from confpy.reload.taken import TakenFolder
from confpy.system.disk import Disk
from tests.faults.stepping import killed_after
from tests.servers.haproxy import HAProxy, haproxies
from tests.servers.ports import free_port

CONFIG = """global
    stats socket {socket} mode 600 level admin

defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s

frontend web
    bind 127.0.0.1:{port}
    default_backend web

backend web
    balance roundrobin
{servers}
"""
FROM = {"a": "10.0.0.1:80", "b": "10.0.0.2:80 weight 3", "c": "10.0.0.3:80"}
TO = {
    "newer": {"a": "10.0.0.9:81 weight 5", "b": "10.0.0.2:80 weight 3 disabled", "d": "10.0.0.4:80"},
    # It adds and removes none.
    "system": {"a": "10.0.0.9:81 weight 5", "b": "10.0.0.2:80 weight 3 disabled", "c": "10.0.0.8:80"},
}


class Site:
    """A HAProxy, its file, and the state folder of the confpys that tell it of changes."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.config = folder / "haproxy.cfg"
        self._socket = folder / "admin.sock"
        self._state = folder / "state"

    @property
    def _admin(self) -> str:
        return f"unix:{self._socket}"

    @contextmanager
    def serving(self, program: str) -> Iterator[None]:
        """Serve; that HAProxy has read the file is recorded."""
        self.write(FROM)
        pidfile = self.config.with_suffix(".pid")
        with HAProxy(self.config, pidfile=pidfile, socket=None, port=self.port, program=program):
            with self._ports() as ports:
                worker = Answering(self._admin, ports, 5.0).worker
                files = {str(self.config): self.config.read_bytes()}
                ports.taken.put(self._admin, runtime._taken(worker, files, ports))
            yield

    def write(self, servers: Mapping[str, str]) -> None:
        lines = "\n".join(f"    server {name} {words}" for name, words in servers.items())
        text = CONFIG.format(socket=self._socket, port=self.port, servers=lines)
        Disk().write_file(str(self.config), text.encode(), mode=0o600)

    def tell(self) -> Avoided:
        """Tell HAProxy of its file, as one confpy does."""
        spec = ReloadSpec("none", CommandReload("false"), 10.0, runtime=RuntimeTarget((self._admin,)))
        with self._ports() as ports:
            told = runtime.follow(spec, [str(self.config)], ports)
        assert isinstance(told, Avoided), told
        return told

    @contextmanager
    def _ports(self) -> Iterator[RuntimePorts]:
        disk = Disk()
        with closing(Ledger.open(str(self._state), disk)) as ledger:
            taken = TakenFolder(str(self._state / "haproxy"), disk)
            yield RuntimePorts(disk, Sockets(), taken, _boottime, time.time, time.sleep, ledger.locked)

    def pid(self) -> str:
        return next(line for line in self._ask("show info").splitlines() if line.startswith("Pid:"))

    def is_as(self, servers: Mapping[str, str]) -> bool:
        """Say whether HAProxy has these servers; others may be there in maintenance."""
        found = read_servers_state(self._ask("show servers state web"))["web"]
        running = {
            name: (f"{one.address}:{one.port}", one.weight, bool(one.admin & 1))
            for name, one in found.items()
            if name in servers or not one.admin & 1
        }
        return running == {name: _shown(words.split()) for name, words in servers.items()}

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self._socket))
            stream.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: stream.recv(65536), b"")).decode()


def _shown(words: list[str]) -> tuple[str, int, bool]:
    weight = int(words[words.index("weight") + 1]) if "weight" in words else 1
    return words[0], weight, "disabled" in words


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", haproxies())
def test_a_kill_after_any_system_call_of_a_plan_is_made_good_by_the_next_start(tmp_path, version, record_property):
    site, calls, killed = Site(tmp_path), 0, True
    with site.serving(haproxies()[version]):
        worker = site.pid()
        while killed:
            calls += 1
            site.write(TO[version])
            killed = killed_after(calls, site.tell)
            site.tell()
            assert site.is_as(TO[version]), f"after system call {calls}"
            site.write(FROM)
            site.tell()
            assert site.is_as(FROM), f"back, after system call {calls}"
        assert site.pid() == worker, "no reload"
    record_property("crash points", (f"a plan for HAProxy, {version}", calls - 1))
    assert calls > 50
