"""A real nginx in the foreground."""

from __future__ import annotations

from pathlib import Path

from tests.servers.program import Program, find


class Nginx(Program):
    """nginx on the configuration ``config``, which names its pid file and its logs."""

    def __init__(self, config: Path, *, port: int) -> None:
        command = [find("nginx"), "-c", str(config), "-g", "daemon off;"]
        super().__init__(command, port=port, log=config.with_suffix(".log"))
