"""A real HAProxy in master-worker mode, as the example and Debian's unit run it."""

from __future__ import annotations

from pathlib import Path

from tests.servers.program import Program, find


class HAProxy(Program):
    """HAProxy on the configuration ``config``; its master writes ``pidfile`` and listens on ``socket``."""

    def __init__(self, config: Path, *, pidfile: Path, socket: Path, port: int) -> None:
        command = [find("haproxy"), "-W", "-db", "-p", str(pidfile), "-S", str(socket), "-f", str(config)]
        super().__init__(command, port=port, log=config.with_suffix(".log"))
