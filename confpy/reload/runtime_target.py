"""``reload_haproxy``: the sockets of the HAProxys that are changed while they run, instead of being reloaded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from confpy.errors import UsageError
from confpy.frozen import frozen
from confpy.reload.kinds import Option, Written

if TYPE_CHECKING:
    from confpy.reload.actions import ReloadAction

MOST_SOCKETS = 64
"""Processes of one configuration: HAProxy itself runs at most so many."""


def _sockets(written: Written) -> RuntimeTarget:
    """Return what "unix:/run/haproxy/admin.sock" or a list of such means; raises ``ValueError``."""
    from ipaddress import ip_address

    sockets = (written,) if isinstance(written, str) else written
    if not 0 < len(sockets) <= MOST_SOCKETS or len({*sockets}) < len(sockets):
        raise ValueError
    for socket in sockets:
        path = socket.removeprefix("unix:")
        if path != socket:
            if not path.startswith("/") or not path.isprintable() or " " in path:
                raise ValueError
            continue
        host, _, port = socket.rpartition(":")
        # Whoever reaches the socket rules HAProxy: one that is open to a network is no place for keys or commands.
        if not ip_address(host.removeprefix("[").removesuffix("]")).is_loopback or ("[" in host) != (":" in host):
            raise ValueError
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise ValueError
    return RuntimeTarget(tuple(sockets))


@frozen
class RuntimeTarget:
    """The HAProxys that are to do what their files say without a reload, where they can."""

    kind: ClassVar[str] = "haproxy"
    options: ClassVar[Mapping[str, Option]] = {
        "reload_haproxy": Option(
            'a socket such as "unix:/run/haproxy/admin.sock" or "127.0.0.1:9999", or a list of them',
            _sockets,
            "the admin socket of a HAProxy that is changed while it runs, and reloaded only if that is not enough:"
            " `unix:/run/haproxy/admin.sock`, `127.0.0.1:PORT`, or a list with one socket for each process; beside"
            " a reload ([more](haproxy-without-reloads.md))",
            {
                "type": ["string", "array"],
                "pattern": r"^(unix:/|127\.|\[::1\]:)[!-~]+$",
                "items": {"type": "string", "pattern": r"^(unix:/|127\.|\[::1\]:)[!-~]+$"},
                "minItems": 1,
                "examples": ["unix:/run/haproxy/admin.sock"],
            },
            "string or list",
        ),
    }

    sockets: tuple[str, ...]
    """``unix:/run/haproxy/admin.sock`` or ``127.0.0.1:9999``: one for each process."""

    def describe(self) -> str:
        """Return the sockets as one line for people."""
        return ", ".join(self.sockets)


def parse_runtime(given: Mapping[str, Any], action: ReloadAction | None) -> RuntimeTarget | None:
    """Return what a resource's options say of it; None: nothing. Raises ``UsageError`` for it alone.

    ``action``: the reload, for what the running HAProxy cannot take.
    """
    target: RuntimeTarget | None = given.get("reload_haproxy")
    if target is not None and action is None:
        hint = 'add a reload for what needs one, such as reload_cmd = "systemctl reload haproxy"'
        raise UsageError("there is a reload_haproxy without a reload", hint=hint, key="reload_haproxy")
    return target
