"""YAML, JSON and TOML documents as paths and text, printed as confd's file backend prints them.

YAML is what Go's yaml.v2 takes for it, which is YAML 1.1 with its own idea of numbers: ``0644`` is 420 and ``on`` is
true, while ``1:30``, ``1e3`` and dates stay text. https://github.com/go-yaml/yaml/blob/v2/resolve.go
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeAlias

from confpy.errors import StoreError
from confpy.keys.prefixes import ROOT, normalise

Node: TypeAlias = "str | list[Node] | dict[str, Node] | None"
"""A document with its scalars already printed; None has no key."""

DEEPEST = 100
"""Levels of nesting; the parser in C has no bound of its own and takes the process with it."""
MOST = 1_000_000
"""Values of one document, so that aliases of aliases do not multiply without end."""

_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"
_TRUE = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_FALSE = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
_NULL = {"", "~", "null", "Null", "NULL"}
_SPECIAL = {
    **{sign + word: "+Inf" for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{"-" + word: "-Inf" for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), "NaN"),
}
_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<x>[0-9a-fA-F]+)|0[bB](?P<b>[01]+)|0[oO]?(?P<o>[0-7]+)|(?P<d>0|[1-9][0-9]*))"
)
_BASES = {"x": 16, "b": 2, "o": 8, "d": 10}
_FLOAT = re.compile(r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+][0-9]+)?")
_DOTTED = re.compile(r"\.[0-9]+(?:[eE][-+]?[0-9]+)?")
_KINDS = {
    "bool": re.compile(r"true|false"),
    "float": re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?|[-+]Inf|NaN"),
    "int": re.compile(r"-?[0-9]+"),
    "null": re.compile(r""),
}
_LONE = re.compile("[\ud800-\udfff]")


def leaves(file: str, content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every value of a document, in its order.

    ``.toml`` files are TOML, all others YAML or JSON, of which only the first document counts. Raises ``StoreError``
    naming file, line and column.
    """
    yield from _leaves(file, _node(file, content))


def leaves_of_mapping(file: str, content: bytes) -> list[tuple[str, str]] | None:
    """Return what ``leaves`` yields, or None where the top level is no mapping; raises ``StoreError``."""
    node = _node(file, content)
    return list(_leaves(file, node)) if isinstance(node, dict) else None


def _node(file: str, content: bytes) -> Node:
    text = _decode(file, content)
    with _placed(file):
        return _parse_toml(text) if file.endswith(".toml") else _parse(text)


def _leaves(file: str, node: Node) -> Iterator[tuple[str, str]]:
    with _placed(file):
        yield from _flatten(node)


@contextmanager
def _placed(file: str) -> Iterator[None]:
    """Turn ``Malformed`` into a ``StoreError`` that says where."""
    try:
        yield
    except Malformed as error:
        places: dict[str, str | int] = {"file": file, "line": error.line, "column": error.column}
        raise StoreError(error.problem).at(**{name: place for name, place in places.items() if place}) from None


class Malformed(Exception):
    """A document is not what it should be; ``line`` and ``column`` count from 1, 0 is unknown."""

    def __init__(self, problem: str, line: int = 0, column: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column


def scalar(text: str) -> str | None:
    """Return how a plain scalar is printed; None for a null, and for integers that Go has as unsigned only."""
    if text in _TRUE:
        return "true"
    if text in _FALSE:
        return "false"
    if text in _NULL:
        return None
    if text in _SPECIAL:
        return _SPECIAL[text]
    if text[0] == ".":
        return _print(float(text), text) if _DOTTED.fullmatch(text) else text
    if text[0] not in "+-0123456789":
        return text
    plain = text.replace("_", "")
    match = _INTEGER.fullmatch(plain)
    if match:
        base = match.lastgroup or "d"
        number = int(match["sign"] + match[base], _BASES[base])
        if -(2**63) <= number < 2**63:
            return str(number)
        if number < 2**64 and not match["sign"]:
            return None
    return _print(float(plain), text) if _FLOAT.fullmatch(plain) else text


def _print(number: float, text: str) -> str:
    """Print a float as Go does without an exponent; one out of range stays text."""
    if number in (float("inf"), float("-inf")):
        return text
    return format(Decimal(repr(number)), "f").removesuffix(".0")


def _decode(file: str, content: bytes) -> str:
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise StoreError("the file is not UTF-8 text", file=file, line=line) from None


def _flatten(node: Node) -> Iterator[tuple[str, str]]:
    if not (node is None or isinstance(node, dict)):
        raise Malformed("the top level has to be a mapping", 1)
    count = 0
    pending: list[tuple[str, Node]] = [(ROOT, node)]
    while pending:
        path, node = pending.pop()
        count += 1
        if count > MOST:
            raise Malformed(f"more than {MOST} values")
        if isinstance(node, dict):
            pending += [(normalise(f"{path}/{key}"), child) for key, child in reversed(node.items())]
        elif isinstance(node, list):
            pending += [(normalise(f"{path}/{index}"), node[index]) for index in range(len(node) - 1, -1, -1)]
        elif node is not None:
            yield path, node


# --- JSON and TOML ---------------------------------------------------------------------------------------------------


def _parse(text: str) -> Node:
    """Parse YAML; what is JSON takes the faster way, which also allows tabs and pairs of surrogates."""
    if text.lstrip().startswith("{"):
        try:
            return _plain(json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number))
        except (ValueError, RecursionError):
            pass  # then it is a flow mapping of YAML, or YAML says what is wrong
    return _parse_yaml(text)


def _parse_toml(text: str) -> Node:
    import tomllib

    try:
        return _plain(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).partition(" (at ")
        line, column = (int(number) for number in (*re.findall(r"\d+", place), 0, 0)[:2])
        raise Malformed(problem, line, column) from None
    except RecursionError:
        raise Malformed(f"nested deeper than {DEEPEST} levels") from None


class _Number(str):
    """A number as written in JSON."""

    __slots__ = ()


def _plain(value: object, depth: int = 0) -> Node:
    if depth > DEEPEST:
        raise Malformed(f"nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        return {_LONE.sub("\ufffd", key): _plain(child, depth + 1) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child, depth + 1) for child in value]
    if isinstance(value, _Number):
        return scalar(value)
    if isinstance(value, str):
        # A lone surrogate would stand for a raw byte further on.
        return _LONE.sub("\ufffd", value)
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(str(value)) or _print(value, "")
    # Dates and times of TOML; integers.
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# --- YAML ------------------------------------------------------------------------------------------------------------


def _parse_yaml(text: str) -> Node:
    import yaml

    # libyaml is ten times as fast; both take the same documents.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)(text)
    try:
        return _Composer(loader.get_event).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "malformed"
        raise Malformed(problem, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0) from None
    except yaml.reader.ReaderError as error:
        raise Malformed(f"a character that YAML does not allow ({error.reason})") from None
    finally:
        loader.dispose()


class _Composer:
    """Builds the first document from the parser's events: with a bound on depth, and the text of scalars as written."""

    def __init__(self, next_event: Callable[[], Any]) -> None:
        self._next = next_event
        self._anchors: dict[str, Node] = {}

    def document(self) -> Node:
        import yaml

        self._next()  # the stream begins
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        return self._node(self._next(), 0)

    def _node(self, event: Any, depth: int) -> Node:
        import yaml

        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _malformed(event, "an alias whose anchor is not complete before it")
            return self._anchors[event.anchor]
        if depth > DEEPEST:
            raise _malformed(event, f"nested deeper than {DEEPEST} levels")
        node: Node
        if isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = []
            while not isinstance(item := self._next(), yaml.SequenceEndEvent):
                node.append(self._node(item, depth + 1))
        else:
            node = _value(event)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _mapping(self, depth: int) -> dict[str, Node]:
        import yaml

        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == _MERGE and event.implicit[0]:
                node = self._node(self._next(), depth + 1)
                # Of several the first wins, and what the mapping says itself wins over all.
                for source in reversed(node if isinstance(node, list) else [node]):
                    if not isinstance(source, dict):
                        raise _malformed(event, "only mappings can be merged with <<")
                    merged.update(source)
                continue
            key = self._key(event, depth)
            own.pop(key, None)  # of two the last one wins, in its place
            own[key] = self._node(self._next(), depth + 1)
        return {**merged, **own}

    def _key(self, event: Any, depth: int) -> str:
        """Return a key as it is written: ``on``, ``8080`` and ``~`` are names here, not values."""
        import yaml

        if isinstance(event, yaml.ScalarEvent) and event.tag != _TAG + "binary":
            if event.anchor:
                self._anchors[event.anchor] = event.value
            return str(event.value)
        key = self._node(event, depth + 1)
        if not isinstance(key, str):
            raise _malformed(event, "a key has to be text")
        return key


def _value(event: Any) -> str | None:
    text: str = event.value
    if event.tag is None:
        return scalar(text) if event.implicit[0] else text
    kind = event.tag.removeprefix(_TAG)
    if kind == "binary":
        try:
            return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            raise _malformed(event, "!!binary that is not base64") from None
    if kind not in _KINDS:
        return text
    printed = scalar(text)
    if not _KINDS[kind].fullmatch(printed or ""):
        raise _malformed(event, f"a value that is no !!{kind}")
    return printed


def _malformed(event: Any, problem: str) -> Malformed:
    return Malformed(problem, event.start_mark.line + 1, event.start_mark.column + 1)
