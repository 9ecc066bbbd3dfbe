"""What a Go template may call, and with which types: read from the rows of ``registry.py``. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from confpy.templates.registry import FUNCTIONS as ROWS


class Signature(NamedTuple):
    """The types of a function, as Go's reflection tells them."""

    parameters: tuple[str, ...]
    result: str
    rest: str | None = None
    """The type of any number of further arguments."""


_WRITTEN = re.compile(r"(?P<name>\w+)\((?P<parameters>.*)\) (?P<result>.+)")


def parse(written: str) -> tuple[str, Signature]:
    """Return the name and the types of ``name(type, ...type) type``; raises ``ValueError``."""
    found = _WRITTEN.fullmatch(written)
    if found is None:
        raise ValueError(f"{written!r} is no signature")
    parameters = found["parameters"].split(", ") if found["parameters"] else []
    rest = parameters.pop()[3:] if parameters and parameters[-1].startswith("...") else None
    return found["name"], Signature(tuple(parameters), found["result"], rest)


FUNCTIONS: Final[dict[str, Signature]] = dict(parse(row.go) for row in ROWS if row.go)

FOREIGN: Final = {
    **dict.fromkeys(("cget", "cgetv", "cgets", "cgetvs"), "confpy does not decrypt values"),
    "env": "confd's is getenv",
    "key": 'this is of consul-template; confd\'s is getv "/…"',
    "keyExists": "this is of consul-template; confd's is exists",
    "keyOrDefault": 'this is of consul-template; confd\'s is getv "/…" "default"',
    "lower": "confd's is toLower",
    "parseInt": "confd's is atoi",
    "parseJSON": "confd's is json",
    "service": 'this is of consul-template; confd has keys: range gets "/services/…/*"',
    "services": 'this is of consul-template; confd has keys: range lsdir "/services"',
    "title": "there is toUpper, toLower and camelcase",
    "trim": "there is trimSuffix, trimPrefix and nospace",
    "upper": "confd's is toUpper",
}
"""Functions of other programs → what to do."""

CHANGES_IN_PLACE: Final = frozenset(row.go_name for row in ROWS if row.in_place)
"""The functions that change the very list that they are given."""
