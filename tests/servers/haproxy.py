"""A real HAProxy in master-worker mode, as the example and Debian's unit run it."""

from __future__ import annotations

from pathlib import Path

from tests.servers.program import Program, find


class HAProxy(Program):
    """HAProxy on the configuration ``config``; its master writes ``pidfile`` and listens on ``socket``, if any."""

    def __init__(self, config: Path, *, pidfile: Path, socket: Path | None, port: int) -> None:
        master = ["-S", str(socket)] if socket else []
        command = [find("haproxy"), "-W", "-db", "-p", str(pidfile), *master, "-f", str(config)]
        super().__init__(command, port=port, log=config.with_suffix(".log"))
