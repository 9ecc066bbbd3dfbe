"""What a change runs: a command, or a signal, a request or a line for a socket; and what verifies it. Pure."""

from __future__ import annotations

from typing import TypeAlias

from confpy.frozen import frozen
from confpy.system.placeholders import Command


@frozen
class SignalReload:
    """Send a signal to the process that a file names, or to all processes of a name."""

    signal: str
    """``HUP``."""
    pidfile: str = ""
    process: str = ""


@frozen
class HttpReload:
    """Make a request; any 2xx is success."""

    method: str
    url: str


@frozen
class SocketReload:
    """Say lines to a Unix socket, each on a connection of its own, and read the answers."""

    path: str
    line: str
    more: tuple[str, ...] = ()
    """Lines after the first."""
    expect: str = ""
    """The regular expression that each answer has to hold; empty: what is known of HAProxy's answers decides."""

    @property
    def lines(self) -> tuple[str, ...]:
        return (self.line, *self.more)


@frozen
class VerifyProgram:
    """See whether a program that confpy knows has taken its new configuration."""

    program: str
    """``nginx``, ``apache`` or ``haproxy``."""
    socket: str = ""
    """HAProxy: that of its master; empty: it is found out."""
    pidfile: str = ""
    """The file with the number of its master; empty: all masters of its name are looked at."""


ReloadBy: TypeAlias = "Command | SignalReload | HttpReload | SocketReload"

Verify: TypeAlias = "Command | VerifyProgram"
