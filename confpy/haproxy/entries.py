"""Maps and the lists of ACLs: the entries of a file, and the commands that replace those of the process at once."""

from __future__ import annotations

import re
from collections.abc import Iterator

from confpy.haproxy.commands import MAX_PAYLOAD, Unsafe, command
from confpy.haproxy.values import Command

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def read_map(content: bytes) -> tuple[str, ...]:
    """Return the entries of a map as HAProxy reads them, each ``key value``; ``key `` has no value."""
    entries = []
    for line in _lines(content):
        key, _, value = _spaces(line.rstrip(" \t")).partition(" ")
        entries.append(f"{key} {value.lstrip(' ' + chr(9))}")
    return tuple(entries)


def read_list(content: bytes) -> tuple[str, ...]:
    """Return the patterns of a file of an ACL, with the spaces that follow them."""
    return tuple(_lines(content))


def _lines(content: bytes) -> Iterator[str]:
    for line in content.decode("latin-1").split("\n"):
        text = line.split("\r", 1)[0].lstrip(" \t")
        if text and not line.startswith("#"):
            yield text


def _spaces(line: str) -> str:
    """Return a line whose key ends with a space."""
    tab, space = line.find("\t"), line.find(" ")
    return line.replace("\t", " ", 1) if tab >= 0 and (space < 0 or tab < space) else line


def replace_map(path: str, version: int, entries: tuple[str, ...]) -> Iterator[Command]:
    """Yield the commands that give a map these entries; raises ``Unsafe``."""
    yield command("prepare", "map", path, accepts=(f"New version created: {version}",))
    for payload in _payloads(entries):
        yield command("add", "map", f"@{version}", path, payload=payload)
    yield command("commit", "map", f"@{version}", path)


def replace_list(path: str, version: int, patterns: tuple[str, ...]) -> Iterator[Command]:
    """Yield the commands that give the file of an ACL these patterns; raises ``Unsafe``."""
    yield command("prepare", "acl", path, accepts=(f"New version created: {version}",))
    for pattern in patterns:
        yield command("add", "acl", f"@{version}", path, pattern)
    yield command("commit", "acl", f"@{version}", path)


def _payloads(entries: tuple[str, ...]) -> Iterator[str]:
    lines: list[str] = []
    size = 0
    for entry in entries:
        if _CONTROL.search(entry) or entry.endswith(" "):
            raise Unsafe("an entry without a value, or with a control character")
        if lines and size + len(entry) >= MAX_PAYLOAD:
            yield "\n".join(lines)
            lines, size = [], 0
        lines.append(entry)
        size += len(entry) + 1
    if lines:
        yield "\n".join(lines)
