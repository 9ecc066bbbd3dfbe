"""Where a store's servers are: how their addresses are written, and by which proxy they are reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from confpy.errors import UsageError
from confpy.frozen import frozen

if TYPE_CHECKING:
    from confpy.config.settings import Settings


@frozen
class Node:
    """Where one server of the store listens."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Its address as people write it."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_nodes(texts: Sequence[str], *, scheme: str, port: int) -> tuple[Node, ...]:
    """Read ``host``, ``host:port`` or ``scheme://host:port`` (IPv6 in brackets); raises ``UsageError``."""
    return tuple(dict.fromkeys(_parse_node(text.strip(), scheme, port) for text in texts))


def _parse_node(text: str, scheme: str, port: int) -> Node:
    if "@" in text:  # not shown: what stands before it may be a password
        raise UsageError("the address of a node holds a user or a password", hint="give them by their own settings")
    if "%" in text:  # a scope of IPv6: neither a URL nor a Host header can carry it
        raise UsageError(
            f"{text!r} is not the address of a node: it has a scope", hint="give one that is not link-local, or a name"
        )
    with suppress(ValueError):
        return Node(scheme, str(ipaddress.IPv6Address(text)), port)  # bare, without brackets
    with suppress(ValueError):
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        host = parts.hostname or ""
        if parts.scheme in ("http", "https") and host.encode("idna") and parts.path in ("", "/") and not parts.query:
            return Node(parts.scheme, host, parts.port or port)
    raise UsageError(f"{text!r} is not the address of a node", hint="write host:port or http://host:port")


def etcd_scheme(settings: Settings) -> str:
    """Return the scheme of etcd's nodes: as with confd, a CA or a certificate means TLS."""
    return "https" if settings.client_ca_keys or settings.client_cert else settings.scheme


def proxies(node: Node) -> dict[str, str]:
    """Return the proxies that the environment names for this node; none for the machine itself, as in Go."""
    if node.host == "localhost" or node.host.startswith("127.") or node.host == "::1":
        return {}
    if proxy_bypass(f"{node.host}:{node.port}"):
        return {}
    named = getproxies_environment()
    return {scheme: named[scheme] for scheme in ("http", "https") if scheme in named}
