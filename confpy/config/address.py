"""Where confpy listens: an address as it is written. Pure."""

from __future__ import annotations

import contextlib
import ipaddress

from confpy.frozen import frozen


@frozen
class Address:
    """Where to listen: a path, or a host and a port."""

    path: str = ""
    host: str = ""
    """Empty: all addresses of this machine."""
    port: int = 0

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def is_local(self) -> bool:
        """Whether other machines cannot connect."""
        if self.path or self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``unix:PATH``, ``PORT``, ``HOST:PORT`` or ``:PORT``; a lone port is one of 127.0.0.1.

    Raises ``ValueError``.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    host = host if colon else "127.0.0.1"
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host or not host.isascii() or any(not (one.isalnum() or one in "-._") for one in host):
        raise ValueError
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError
    return Address(host=host, port=int(port))
