"""A real Envoy in the foreground: the binary that comes as a Python package."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.servers.program import Program


class Envoy(Program):
    """Envoy on the configuration ``config``, without a place for a second one beside it."""

    def __init__(self, config: Path, *, port: int) -> None:
        command = [
            f"{sys.prefix}/bin/envoy",
            "-c",
            str(config),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "info",
        ]
        super().__init__(command, port=port, log=config.with_suffix(".log"))
