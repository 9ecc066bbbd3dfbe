"""One question of a template to the world outside the store. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from confpy.frozen import frozen


@frozen
class Lookup:
    """One question to the world outside the store, answered by a worker, never by the owner."""

    kind: Literal["template", "ip", "srv", "exists", "interface", "file", "hash"]
    """``template``: source and code of a template; ``ip``: addresses of a name; ``srv``: SRV records;
    ``exists``: whether a path does; ``interface``: the addresses of one of the machine's network interfaces;
    ``file``: the content of a file; ``hash``: its SHA-256 in hexadecimal digits."""
    name: str
    engine: Literal["auto", "go", "jinja", "included"] = "auto"
    """Of a template: its language; ``auto``: its name and its text say; ``included``: Go, with data of its own."""
    delimiters: tuple[str, ...] = ()
    """Of a template: what stands around its expressions; empty: ``{{`` and ``}}``."""


_KINDS = {
    "template": "the template",
    "ip": "the addresses of",
    "srv": "the SRV records of",
    "interface": "the addresses of the interface",
    "exists": "the path",
    "file": "the file",
    "hash": "the file",
}
HIDDEN = "a name that is not shown, as it may be a value"


def describe(lookup: Lookup, is_literal: Callable[[Lookup], bool]) -> str:
    """Name a look-up for people: one that stands in no template word for word may be made of a key's value.

    ``is_literal`` says whether it does. The names of files stand in the resource.
    """
    is_known = lookup.kind in {"file", "hash"} or is_literal(lookup)
    return f"{_KINDS[lookup.kind]} {repr(lookup.name) if is_known else HIDDEN}"
