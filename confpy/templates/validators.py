"""What keeps one bad registration from stopping all the others, and a value from becoming configuration. Pure.

A *kind* describes briefly what is wrong with a value, never repeating it; empty if nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from shlex import quote
from typing import NamedTuple

from confpy.templates.formats import json_object
from confpy.templates.functions import InvalidArgument, as_text, atoi

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


# Compiled when they are first used: most templates need none of them.


@cache
def _label() -> re.Pattern[str]:
    return re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


@cache
def _host_and_port() -> re.Pattern[str]:
    return re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>[^:]*)")


class HostPort(NamedTuple):
    """An address to connect to; the host without brackets."""

    host: str
    port: int


def literal_address(name: str) -> str:
    """Return the address that a text is, as Go prints it, nothing where it is a name.

    A zone (``fe80::1%eth0``) is cut off, an IPv4 address in IPv6 clothes undressed.
    """
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return ""
    return str((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)


# --- kinds -----------------------------------------------------------------------------------------------------------


def _text(value: str) -> str:
    return "empty" if not value else "a control character or line end in it" if _CONTROL.search(value) else ""


def _port(value: str) -> str:
    if not (value.isascii() and value.isdigit() and len(value) <= 5):
        return "the port is not a number"
    return "" if 0 < int(value) < 65536 else "the port is not from 1 to 65535"


def _address(value: str, kind: Callable[[str], object]) -> bool:
    try:
        kind(value)
    except AddressValueError:
        return False
    # A zone (fe80::1%eth0) means something on one machine only.
    return "%" not in value


def _ip(value: str) -> str:
    return "" if _address(value, IPv4Address) or _address(value, IPv6Address) else "not an IP address"


def _hostname(value: str) -> str:
    """RFC 1123, and underscores, which resolvers and containers use."""
    labels = value.removesuffix(".").split(".")
    if len(value) > 254 or not all(map(_label().fullmatch, labels)):
        return "not a host name"
    # What ends in a number is meant as an IPv4 address.
    return "not a host name" if labels[-1].isdigit() and not _address(value, IPv4Address) else ""


def _host(value: str) -> str:
    return "" if not _hostname(value) or _address(value, IPv6Address) else "not a host name or IP address"


def _hostport(value: str) -> str:
    if _CONTROL.search(value):
        return "a control character or line end in it"
    parts = _host_and_port().fullmatch(value)
    if parts is None:
        return "not host:port, or an IPv6 address without brackets"
    if parts["v6"] is not None:
        return ("" if _address(parts["v6"], IPv6Address) else "not an IPv6 address in brackets") or _port(parts["port"])
    return _hostname(parts["host"]) or _port(parts["port"])


def _integer(value: str) -> str:
    try:
        atoi(value)
    except InvalidArgument:
        return "not an integer"
    return ""


def _json(value: str) -> str:
    try:
        json_object(value)
    except InvalidArgument as refused:
        return refused.reason
    return ""


KINDS: Mapping[str, Callable[[str], str]] = {
    "host": _host,
    "hostname": _hostname,
    "hostport": _hostport,
    "int": _integer,
    "ip": _ip,
    "json": _json,
    "port": _port,
    "text": _text,
}


def flaw(value: object, kind: str, fields: Mapping[str, str]) -> str:
    """Return what is wrong with a value of this kind, nothing where it is right; ``fields`` are those of a JSON object.

    Raises ``InvalidArgument`` for a kind that does not exist.
    """
    for name in (kind, *fields.values()):
        if name not in KINDS:
            raise InvalidArgument(f"there is no kind {name!r}", hint="kinds are " + ", ".join(KINDS))
    if fields and kind != "json":
        raise InvalidArgument("only the kind json has fields")
    if not isinstance(value, str | int) or isinstance(value, bool):
        return f"not text but {type(value).__name__}"
    reason = KINDS[kind](as_text(value))
    if reason or not fields:
        return reason
    entry = json_object(value)
    for name, wanted in fields.items():
        if name not in entry:
            return f"the field {name!r} is missing"
        reason = flaw(entry[name], wanted, {})
        if reason:
            return f"the field {name!r}: {reason}"
    return ""


def valid(kind: str) -> Callable[[object], bool]:
    """Return the test for a kind: ``valid_hostport`` and its like."""

    def test(value: object) -> bool:
        return not flaw(value, kind, {})

    return test


# --- values that must be right ---------------------------------------------------------------------------------------


def int_range(value: object, low: int, high: int) -> int:
    """Return the value as an integer from low to high; raises ``InvalidArgument`` for any other."""
    try:
        number = atoi(value)
    except InvalidArgument:
        number = None
    if number is None or isinstance(value, bool) or not low <= number <= high:
        raise InvalidArgument(f"this is not an integer from {low} to {high}", value)
    return number


def one_of(value: object, *allowed: object) -> object:
    """Return the value where it is one of the allowed; raises ``InvalidArgument`` otherwise."""
    if value not in allowed:
        raise InvalidArgument("this is not one of " + ", ".join(map(str, allowed)), value)
    return value


def hostport(host: object, port: object) -> str:
    """Return ``host:port``, an IPv6 address in brackets, also where it came with them.

    Raises ``InvalidArgument`` where it is no address to connect to.
    """
    name, number = as_text(host), as_text(port)
    if name.startswith("[") and name.endswith("]") and ":" in name:
        name = name[1:-1]
    address = f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
    reason = _hostport(address)
    if reason:
        raise InvalidArgument(f"this is not an address: {reason}", port if _port(number) else host)
    return address


def parse_hostport(address: object) -> HostPort:
    """Return host and port of ``host:port`` or ``[IPv6]:port``; raises ``InvalidArgument`` for anything else."""
    text = as_text(address)
    reason = _hostport(text)
    if reason:
        raise InvalidArgument(f"this is not an address: {reason}", address)
    host, _, port = text.rpartition(":")
    return HostPort(host.strip("[]"), int(port))


# --- quoting ---------------------------------------------------------------------------------------------------------


def one_line(value: object) -> str:
    """Return the text of a value; raises ``InvalidArgument`` where it has a control character or line end."""
    text = as_text(value)
    if _CONTROL.search(text):
        raise InvalidArgument("a control character or line end cannot be quoted", value)
    return text


def haproxy_quote(value: object) -> str:
    """Quote one word of HAProxy's configuration: between single quotes nothing is special but their end.

    https://docs.haproxy.org/3.0/configuration.html#2.2
    """
    return "'" + one_line(value).replace("'", r"'\''") + "'"


def nginx_quote(value: object, dollar: str = "") -> str:
    r"""Quote one parameter of nginx's configuration.

    ``$`` begins a variable in most directives, and nginx has no way to escape it: it is refused, unless ``dollar`` says
    what to write for it: ``"$"`` in a directive without variables, else a variable that holds one (a ``geo`` block).
    """
    text = one_line(value)
    if "$" in text and not dollar:
        raise InvalidArgument(
            "nginx would read the $ in it as a variable", value, hint='say what to write for it: dollar="…"'
        )
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("$", dollar) + '"'


def apache_quote(value: object) -> str:
    """Quote one argument of Apache's configuration; ``${`` and ``%{``, which it expands, are refused.

    https://httpd.apache.org/docs/2.4/configuring.html: ``${…}`` is replaced before quotes are looked at.
    """
    text = one_line(value)
    for begin in ("${", "%{"):
        if begin in text:
            raise InvalidArgument(f"Apache would expand the {begin}…}} in it, and has no way to escape it", value)
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


def shell_quote(value: object) -> str:
    """Quote one word for ``sh``; line ends stay what they are."""
    text = as_text(value)
    if "\0" in text:
        raise InvalidArgument("a NUL character cannot be quoted", value)
    return quote(text)


def double_quote(value: object) -> str:
    r"""Put text between double quotes, with ``\`` before ``"`` and ``\``: as JSON, YAML and TOML read it."""
    return '"' + one_line(value).replace("\\", r"\\").replace('"', r"\"") + '"'


def single_quote(value: object) -> str:
    """Put text between single quotes; one that has them is refused, as every format escapes them in its own way."""
    text = one_line(value)
    if "'" in text:
        raise InvalidArgument(
            "a single quote cannot stand between single quotes", value, hint="shell_quote and others can"
        )
    return f"'{text}'"
