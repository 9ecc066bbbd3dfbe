"""A ``server`` line as values: its address, and what the line and ``default-server`` say together."""

from __future__ import annotations

import socket

from confpy.haproxy.sections import ServerLine
from confpy.haproxy.values import Server
from confpy.haproxy.words import NAME, OF_NAMES, is_safe, options

MAX_WEIGHT = 256
MAX_PORT = 65535


def read_address(text: str) -> tuple[str, int] | None:
    """Return an IP address as HAProxy writes it, and its port, 0 if there is none; None: it is another form.

    As HAProxy does, the port is what follows the last colon: an IPv6 address without brackets has a port.
    """
    host, port = text, ""
    at = max(text.rfind(":"), text.rfind("]"))
    if at > 0 and text[at] == ":":
        host, port = text[:at], text[at + 1 :]
        if not (port.isdecimal() and port.isascii() and 0 < int(port) <= MAX_PORT):
            return None
    family = socket.AF_INET
    if ":" in host:
        family = socket.AF_INET6
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
    try:
        address = socket.inet_ntop(family, socket.inet_pton(family, host))
    except (OSError, ValueError):
        return None
    return address, int(port or "0")


def read_server(name: str, line: ServerLine, file: str) -> Server:
    """Return what a server is, its ``default-server`` included."""
    address, port = read_address(line.words[2]) or ("", 0)
    words = (*line.inherited, *line.words[3:])
    given = options(words)
    problem = "" if NAME.fullmatch(name) else "its name holds a character that is not sent"
    if isinstance(given, str):
        # The word may be the value of a key: it is not shown.
        problem = problem or "it has an option that is not known"
        return Server(name, address, port, words, file=file, line=line.line, problem=problem, is_read=False)
    weight, maxconn = _number(given, "weight", 1, MAX_WEIGHT), _number(given, "maxconn", 0, 2**31 - 1)
    if weight is None or maxconn is None:
        problem = problem or f"its {'weight' if weight is None else 'maxconn'} is not a number"
        return Server(name, address, port, words, file=file, line=line.line, problem=problem, is_read=False)
    if address:
        given = {option: values for option, values in given.items() if option not in OF_NAMES}
    is_weighted = "weight" in given
    is_disabled, is_checked, has_agent, is_backup = [
        given.pop(option, None) is not None for option in ("disabled", "check", "agent-check", "backup")
    ]
    given.pop("weight", None)
    given.pop("maxconn", None)
    rest: list[str] = []
    for option in sorted(given):
        rest += (option, *given[option])
        if not problem and not all(map(is_safe, given[option])):
            problem = f"{option} holds a character that is not sent"
    return Server(
        name,
        address,
        port,
        tuple(rest),
        weight,
        is_weighted,
        maxconn,
        is_disabled,
        is_checked,
        has_agent,
        is_backup,
        file,
        line.line,
        problem,
    )


def _number(given: dict[str, tuple[str, ...]], option: str, default: int, largest: int) -> int | None:
    text = given[option][0] if option in given else str(default)
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 11 and int(text) <= largest else None
