"""Free ports of the loopback."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_ports(number: int) -> list[int]:
    """Return as many different TCP ports of 127.0.0.1, each of which nobody had a moment ago."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody had a moment ago."""
    return free_ports(1)[0]
