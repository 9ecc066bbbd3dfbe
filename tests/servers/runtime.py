"""A real HAProxy with an admin socket, and what it says of its servers."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from tests.servers.haproxy import HAProxy, haproxies
from tests.waiting import wait_until

CONFIG = """
global
    stats socket {folder}/admin${{INSTANCE}}.sock mode 600 level {level}
    {global_}
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend web
    bind 127.0.0.1:{port}{bind}
    {frontend}
    default_backend web
backend web
    balance roundrobin
    {backend}
"""


def ask(path: Path, line: str) -> str:
    """Send one line to an admin socket, and return the answer."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(str(path))
        stream.sendall(f"{line}\n".encode())
        stream.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: stream.recv(1 << 16), b"")).decode()


class RuntimeProxy:
    """HAProxy as a master in a folder, which a test may kill, reload and start anew."""

    def __init__(self, folder: Path, port: int, version: str, *, instance: str = "") -> None:
        self.folder, self.port, self.program, self.instance = folder, port, haproxies()[version], instance
        self.admin, self.master = folder / f"admin{instance}.sock", folder / f"master{instance}.sock"
        self._running: HAProxy | None = None

    def start(self) -> None:
        self._running = HAProxy(
            self.folder / "haproxy.cfg",
            pidfile=self.folder / f"pid{self.instance}", socket=self.master, port=self.port, program=self.program,
            more={"INSTANCE": self.instance},
        )  # fmt: skip
        self._running.started()
        wait_until(self.answers, what="the admin socket answers")

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def answers(self) -> bool:
        try:
            return bool(self.worker())
        except OSError:
            return False

    def is_alive(self) -> bool:
        return self._running is not None and self._running.process.poll() is None

    def master_process(self) -> int:
        assert self._running is not None
        return self._running.process.pid

    def ask(self, line: str) -> str:
        return ask(self.admin, line)

    def reload(self) -> None:
        """Reload it as somebody else than confpy does."""
        before = self.worker()
        with contextlib.suppress(ConnectionError):  # 2.6 closes the connection
            ask(self.master, "reload")
        wait_until(lambda: self.answers() and self.worker() != before, what="a new worker")

    def worker(self) -> int:
        """Return the process ID of the worker that answers; 0: none does."""
        return int(
            dict(line.split(": ", 1) for line in self.ask("show info").splitlines() if ": " in line).get("Pid", 0)
        )

    def servers(self) -> dict[str, tuple[str, str]]:
        """Return the servers of the backend ``web``: name → address, state."""
        lines = [line.split() for line in self.ask("show servers state web").splitlines()[2:] if line]
        return {line[3]: (f"{line[4]}:{line[18]}", _state(int(line[6]))) for line in lines}

    def served(self) -> dict[str, str]:
        """Return the servers that are not in maintenance: name → address."""
        return {name: address for name, (address, state) in self.servers().items() if state != "maint"}


def _state(admin: int) -> str:
    """Return what an administrative state means: 1, 2 and 32 are kinds of maintenance, 8 is drain."""
    return "maint" if admin & 35 else "drain" if admin & 8 else "ready"
