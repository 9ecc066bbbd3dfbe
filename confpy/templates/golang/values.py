"""What values of Go are in Python, and what Go calls their types. Pure.

Texts are ``str`` with bytes that are no UTF-8 escaped, ``int`` stands for ``int``, ``float`` for ``float64``. None is a
nil in an interface (JSON's null); ``MISSING`` is no value at all: a map's missing key, the data of a template. Lists
have a class for each type of element, as Go refuses one where another is wanted even when both are empty.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from confpy.keys.view import Pair
from confpy.templates.results import Service

STRING: Final = "string"
INT: Final = "int"
FLOAT: Final = "float64"
BOOL: Final = "bool"
COMPLEX: Final = "complex128"
MAP: Final = "map[string]interface {}"
STRINGS: Final = "[]string"
INTS: Final = "[]int"
ANYS: Final = "[]interface {}"
PAIR: Final = "memkv.KVPair"
PAIRS: Final = "memkv.KVPairs"
PAIR_LIST: Final = "[]memkv.KVPair"
SERVICE: Final = "*net.SRV"
SERVICES: Final = "[]*net.SRV"
TIME: Final = "time.Time"
UINT8: Final = "uint8"
UINT16: Final = "uint16"
ANY: Final = "interface {}"
"""Known only when it is there."""
VALUE: Final = "reflect.Value"
"""Of a parameter: whatever comes, a missing value among it."""
NOTHING: Final = ""
"""The type of ``MISSING``."""

LISTS: Final = frozenset({STRINGS, INTS, ANYS, PAIRS, PAIR_LIST, SERVICES})
NILABLE: Final = LISTS | {MAP}
"""Types that Go's ``nil`` is a value of."""


class Missing:
    """No value: false, and ``<no value>`` where it is printed."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()


class Uint8(int):
    """A byte of a text."""


class Uint16(int):
    """Port, priority or weight of a service."""


class GoList(list[Any]):
    """A slice; it is changed in place where Go does so."""

    __slots__ = ()
    go_type: ClassVar[str]


class Strings(GoList):
    """``[]string``."""

    __slots__ = ()
    go_type = STRINGS


class Ints(GoList):
    """``[]int``."""

    __slots__ = ()
    go_type = INTS


class Anys(GoList):
    """``[]interface{}``: what JSON's arrays are."""

    __slots__ = ()
    go_type = ANYS


class Pairs(GoList):
    """``memkv.KVPairs``, of ``gets``: ``reverse`` does not know it."""

    __slots__ = ()
    go_type = PAIRS


class PairList(GoList):
    """``[]memkv.KVPair``."""

    __slots__ = ()
    go_type = PAIR_LIST


class Services(GoList):
    """``[]*net.SRV``."""

    __slots__ = ()
    go_type = SERVICES


ELEMENTS: Final = {
    STRINGS: STRING, INTS: INT, ANYS: ANY, PAIRS: PAIR, PAIR_LIST: PAIR, SERVICES: SERVICE, MAP: ANY, STRING: UINT8,
}  # fmt: skip
"""What ``range`` and ``index`` find in a type; in a text only ``index``."""

FIELDS: Final = {
    PAIR: {"Key": STRING, "Value": STRING},
    SERVICE: {"Target": STRING, "Port": UINT16, "Priority": UINT16, "Weight": UINT16},
}
"""The fields of structures; each is an attribute with a small letter."""

_NAMES: Final[dict[type, str]] = {
    str: STRING, int: INT, float: FLOAT, bool: BOOL, complex: COMPLEX, dict: MAP, Pair: PAIR, Service: SERVICE,
    Uint8: UINT8, Uint16: UINT16, type(None): ANY,
}  # fmt: skip


def type_name(value: object) -> str:
    """Return what Go calls the type of a value; raises ``KeyError`` for ``MISSING``."""
    kind = type(value)
    return _NAMES.get(kind) or str(getattr(kind, "go_type", kind.__name__))


def convert(kind: str, wanted: str) -> str:
    """Return the hint for a value of one type where another is wanted, nothing where no function makes it."""
    if (kind, wanted) == (STRING, INT):
        return "atoi makes a number of a text"
    return 'printf "%v" makes a text of it' if wanted == STRING and kind in {INT, FLOAT, BOOL} else ""


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
