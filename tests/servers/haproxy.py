"""A real HAProxy in master-worker mode, as the example and Debian's unit run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.servers.program import Program, find

NEWER = Path(__file__).parents[2] / ".cache" / "haproxy" / "haproxy"
"""The HAProxy of a later Debian, where scripts/test has fetched it."""


def haproxies() -> dict[str, str]:
    """Return the HAProxys that are here, by what they are called in tests."""
    newer = {"newer": str(NEWER)} if NEWER.exists() else {}
    return {"system": "haproxy", **newer}


class HAProxy(Program):
    """HAProxy on the configuration ``config``; its master writes ``pidfile`` and listens on ``socket``, if any."""

    def __init__(
        self,
        config: Path,
        *,
        pidfile: Path,
        socket: Path | None,
        port: int,
        program: str = "haproxy",
        more: Mapping[str, str] | None = None,
    ) -> None:
        """``more``: variables that its configuration refers to."""
        master = ["-S", str(socket)] if socket else []
        command = [find(program), "-W", "-db", "-p", str(pidfile), *master, "-f", str(config)]
        super().__init__(command, port=port, log=config.with_suffix(".log"), more=more)
