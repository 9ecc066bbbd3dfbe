"""What a Go template may call: Go's own functions, confd's, and those of confd's living fork. Data only."""

from __future__ import annotations

from typing import Final, NamedTuple

from confpy.templates.golang.values import (
    ANY,
    ANYS,
    BOOL,
    INT,
    INTS,
    MAP,
    PAIR,
    PAIR_LIST,
    PAIRS,
    SERVICES,
    STRING,
    STRINGS,
    TIME,
    VALUE,
)


class Signature(NamedTuple):
    """The types of a function, as Go's reflection tells them."""

    parameters: tuple[str, ...]
    result: str
    rest: str | None = None
    """The type of any number of further arguments."""


def _takes(*parameters: str, gives: str, rest: str | None = None) -> Signature:
    return Signature(parameters, gives, rest)


BUILTINS: Final = {
    "and": _takes(VALUE, gives=ANY, rest=VALUE),
    "call": _takes(VALUE, gives=ANY, rest=VALUE),
    "eq": _takes(VALUE, gives=BOOL, rest=VALUE),
    "ge": _takes(VALUE, VALUE, gives=BOOL),
    "gt": _takes(VALUE, VALUE, gives=BOOL),
    "html": _takes(gives=STRING, rest=ANY),
    "index": _takes(VALUE, gives=ANY, rest=VALUE),
    "js": _takes(gives=STRING, rest=ANY),
    "le": _takes(VALUE, VALUE, gives=BOOL),
    "len": _takes(VALUE, gives=INT),
    "lt": _takes(VALUE, VALUE, gives=BOOL),
    "ne": _takes(VALUE, VALUE, gives=BOOL),
    "not": _takes(VALUE, gives=BOOL),
    "or": _takes(VALUE, gives=ANY, rest=VALUE),
    "print": _takes(gives=STRING, rest=ANY),
    "printf": _takes(STRING, gives=STRING, rest=ANY),
    "println": _takes(gives=STRING, rest=ANY),
    "slice": _takes(VALUE, gives=ANY, rest=VALUE),
    "urlquery": _takes(gives=STRING, rest=ANY),
}

CONFD: Final = {
    "add": _takes(INT, INT, gives=INT),
    "atoi": _takes(STRING, gives=INT),
    "base": _takes(STRING, gives=STRING),
    "base64Decode": _takes(STRING, gives=STRING),
    "base64Encode": _takes(STRING, gives=STRING),
    "contains": _takes(STRING, STRING, gives=BOOL),
    "datetime": _takes(gives=TIME),
    "dir": _takes(STRING, gives=STRING),
    "div": _takes(INT, INT, gives=INT),
    "exists": _takes(STRING, gives=BOOL),
    "fileExists": _takes(STRING, gives=BOOL),
    "get": _takes(STRING, gives=PAIR),
    "getenv": _takes(STRING, gives=STRING, rest=STRING),
    "gets": _takes(STRING, gives=PAIRS),
    "getv": _takes(STRING, gives=STRING, rest=STRING),
    "getvs": _takes(STRING, gives=STRINGS),
    "join": _takes(STRINGS, STRING, gives=STRING),
    "json": _takes(STRING, gives=MAP),
    "jsonArray": _takes(STRING, gives=ANYS),
    "lookupIP": _takes(STRING, gives=STRINGS),
    "lookupIPV4": _takes(STRING, gives=STRINGS),
    "lookupIPV6": _takes(STRING, gives=STRINGS),
    "lookupSRV": _takes(STRING, STRING, STRING, gives=SERVICES),
    "ls": _takes(STRING, gives=STRINGS),
    "lsdir": _takes(STRING, gives=STRINGS),
    "map": _takes(gives=MAP, rest=ANY),
    "mod": _takes(INT, INT, gives=INT),
    "mul": _takes(INT, INT, gives=INT),
    "parseBool": _takes(STRING, gives=BOOL),
    "replace": _takes(STRING, STRING, STRING, INT, gives=STRING),
    "reverse": _takes(ANY, gives=ANY),
    "seq": _takes(INT, INT, gives=INTS),
    "sortByLength": _takes(STRINGS, gives=STRINGS),
    "sortKVByLength": _takes(PAIR_LIST, gives=PAIR_LIST),
    "split": _takes(STRING, STRING, gives=STRINGS),
    "sub": _takes(INT, INT, gives=INT),
    "toLower": _takes(STRING, gives=STRING),
    "toUpper": _takes(STRING, gives=STRING),
    "trimSuffix": _takes(STRING, STRING, gives=STRING),
}

FORK: Final = {
    "append": _takes(ANY, ANY, gives=ANYS),
    "camelcase": _takes(STRING, gives=STRING),
    "coalesce": _takes(gives=ANY, rest=ANY),
    "default": _takes(ANY, ANY, gives=ANY),
    "dict": _takes(gives=MAP, rest=ANY),
    "empty": _takes(ANY, gives=BOOL),
    "fromJson": _takes(STRING, gives=ANY),
    "hasKey": _takes(MAP, STRING, gives=BOOL),
    "hostname": _takes(gives=STRING),
    "include": _takes(STRING, gives=STRING, rest=ANY),
    "indent": _takes(INT, STRING, gives=STRING),
    "kebabcase": _takes(STRING, gives=STRING),
    "keys": _takes(MAP, gives=STRINGS),
    "list": _takes(gives=ANYS, rest=ANY),
    "lookupIfaceIPV4": _takes(STRING, gives=STRING),
    "lookupIfaceIPV6": _takes(STRING, gives=STRING),
    "nindent": _takes(INT, STRING, gives=STRING),
    "nospace": _takes(STRING, gives=STRING),
    "pluck": _takes(STRING, gives=ANYS, rest=MAP),
    "quote": _takes(STRING, gives=STRING),
    "regexFind": _takes(STRING, STRING, gives=STRING),
    "regexMatch": _takes(STRING, STRING, gives=BOOL),
    "regexReplaceAll": _takes(STRING, STRING, STRING, gives=STRING),
    "repeat": _takes(INT, STRING, gives=STRING),
    "sha256sum": _takes(STRING, gives=STRING),
    "snakecase": _takes(STRING, gives=STRING),
    "squote": _takes(STRING, gives=STRING),
    "ternary": _takes(ANY, ANY, BOOL, gives=ANY),
    "toJson": _takes(ANY, gives=STRING),
    "toPrettyJson": _takes(ANY, gives=STRING),
    "trimPrefix": _takes(STRING, STRING, gives=STRING),
    "values": _takes(MAP, gives=ANYS),
}

CONFPY: Final = {
    "file": _takes(STRING, gives=STRING),
    "fileHash": _takes(STRING, gives=STRING),
}
"""What confpy alone has."""

FUNCTIONS: Final[dict[str, Signature]] = {**BUILTINS, **CONFD, **FORK, **CONFPY}

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

CHANGES_IN_PLACE: Final = frozenset({"reverse", "sortByLength", "sortKVByLength"})
"""The functions that change the very list that they are given."""
