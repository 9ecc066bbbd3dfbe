"""Addresses of servers: how they are written, and the proxies by which they are reached."""

from __future__ import annotations

import ipaddress
import os
from binascii import b2a_base64
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from confpy.errors import StoreError, UsageError
from confpy.frozen import frozen

TLS = frozenset({"https", "rediss", "zookeeper+tls"})
"""The schemes of TLS."""
UNIX = "unix"
"""The scheme of a Unix socket."""
PATH_BYTES = 107
"""The longest path of a Unix socket."""


@frozen
class Node:
    """The address of one server."""

    scheme: str
    host: str
    """Its name or address; with the scheme ``unix``, the path of its socket."""
    port: int

    @property
    def socket_file(self) -> str:
        """The path of its Unix socket, empty where it is reached otherwise."""
        return self.host if self.scheme == UNIX else ""

    @property
    def url(self) -> str:
        """The address as people write it."""
        if self.scheme == UNIX:
            return f"unix://{self.host}"
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@frozen
class Proxy:
    """The address of an HTTP proxy."""

    node: Node
    authorization: str
    """The value of ``Proxy-Authorization``, empty where the address has no user."""


def parse_nodes(texts: Sequence[str], *, scheme: str, port: int) -> tuple[Node, ...]:
    """Read ``host``, ``host:port``, ``scheme://host:port`` (IPv6 in brackets) or ``unix:///path``.

    Raises ``UsageError``.
    """
    return tuple(dict.fromkeys(_parse_node(text.strip(), scheme, port) for text in texts))


def _parse_node(text: str, scheme: str, port: int) -> Node:
    if text.startswith(f"{UNIX}:"):
        return _parse_socket(text)
    if "@" in text:  # not shown: what stands before it may be a password
        raise UsageError("the address of a node holds a user or a password", hint="give them by their own settings")
    if "%" in text:  # a scope of IPv6: neither a URL nor a Host header can carry it
        raise UsageError(
            f"{text!r} is not the address of a node: it has a scope", hint="give one that is not link-local, or a name"
        )
    if text.count(":") > 1:
        with suppress(ValueError):
            return Node(scheme, str(ipaddress.IPv6Address(text)), port)  # bare, without brackets
    with suppress(ValueError):
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        host = parts.hostname or ""
        if parts.scheme in ("http", "https") and is_host(host) and parts.path in ("", "/") and not parts.query:
            return Node(parts.scheme, host, parts.port or port)
    raise UsageError(f"{text!r} is not the address of a node", hint="write host:port or http://host:port")


def _parse_socket(text: str) -> Node:
    path = text.removeprefix(f"{UNIX}:").removeprefix("//")
    if not path.startswith("/") or not path.isprintable():
        raise UsageError(f"{text!r} is not the address of a Unix socket", hint="write unix:///run/name.sock")
    if len(os.fsencode(path)) > PATH_BYTES:
        raise UsageError(
            f"the path of the socket {text!r} is longer than {PATH_BYTES} bytes", hint="give a shorter one"
        )
    return Node(UNIX, path, 0)


def is_host(name: str) -> bool:
    """Say whether a name can be one of a host; for one that is not ASCII that takes the tables of IDNA to be loaded."""
    if not name.isascii():
        with suppress(UnicodeError):
            return bool(name.encode("idna"))
        return False
    *labels, last = name.split(".")
    return bool(name) and all(0 < len(label) < 64 for label in labels) and len(last) < 64


def proxy_of(node: Node) -> Proxy | None:
    """Return the proxy that the environment names for a server; none for the machine itself, as in Go.

    Raises ``StoreError`` for the address of a proxy that cannot be used.
    """
    if node.host == "localhost" or node.host.startswith("127.") or node.host == "::1":
        return None
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    named = "" if proxy_bypass(f"{node.host}:{node.port}") else getproxies_environment().get(node.scheme, "")
    return _parse_proxy(named, node.scheme) if named else None


def _parse_proxy(text: str, scheme: str) -> Proxy:
    with suppress(ValueError):
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme == "http" and parts.hostname:
            login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
            authorization = basic_authorization(login) if parts.username else ""
            return Proxy(Node("http", parts.hostname, parts.port or 80), authorization)
    # Not shown: it may hold a password.
    raise StoreError(f"the variable {scheme}_proxy does not name a proxy", hint="write http://host:port")


def basic_authorization(login: bytes) -> str:
    """Return the value of ``Authorization`` for ``user:password``."""
    return f"Basic {b2a_base64(login, newline=False).decode()}"
