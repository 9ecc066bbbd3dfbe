"""Values from and to JSON, YAML, TOML and base64. Pure. What cannot be read is said by its place, never by its text."""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Undefined

from confpy.templates.functions import InvalidArgument, as_text

_ESCAPED_BYTE = "[\udc80-\udcff]"
_SURROGATE_ESCAPE = r"\\u[dD][89a-fA-F]"
_LONE_SURROGATE = "[\ud800-\udfff]"


def from_json(text: object) -> Any:
    """Read JSON. Numbers with a whole value are integers however they are spelled, as in JavaScript and in Go."""
    source = as_text(text)
    if not source.isascii():
        source = re.sub(_ESCAPED_BYTE, "\ufffd", source)
        if source.startswith("\ufeff"):
            raise InvalidArgument(
                "this is not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig), line 1 column 1", text
            )
    try:
        value = _DECODER.decode(source)
    except json.JSONDecodeError as error:
        problem = error.msg.partition(":")[0]
        raise InvalidArgument(f"this is not JSON: {problem}, line {error.lineno} column {error.colno}", text) from None
    except ValueError:  # an integer of thousands of digits, or one of _constant
        raise InvalidArgument("this is not JSON: a number that is none, or is too long", text) from None
    except RecursionError:
        raise InvalidArgument("this JSON is nested too deeply", text) from None
    # Half of a surrogate pair is no character; in confpy's texts it would stand for a byte.
    return _whole(value) if "\\u" in source and re.search(_SURROGATE_ESCAPE, source) else value


def json_object(text: object) -> dict[str, Any]:
    """Read a JSON object (confd's ``json``); ``null`` is an empty one."""
    value = from_json(text)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("this JSON is not an object", text, hint="jsonArray reads an array, from_json anything")
    return value


def json_array(text: object) -> list[Any]:
    """Read a JSON array (confd's ``jsonArray``); ``null`` is an empty one."""
    value = from_json(text)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidArgument("this JSON is not an array", text, hint="json reads an object, from_json anything")
    return value


def _number(digits: str) -> float | int:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's idea of JSON


_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_constant)


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(_LONE_SURROGATE, "\ufffd", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(item) for name, item in value.items()}
    return value


def to_json(value: object, pretty: bool = False) -> str:
    """Write JSON on one line, or indented by two; the order of keys stays."""
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, indent=2 if pretty else None, default=_not_writable
        )
    except (ValueError, TypeError):
        raise InvalidArgument(
            "this cannot be written as JSON: a number that is none, or a key that is no text"
        ) from None


def _not_writable(value: object) -> Any:
    if isinstance(value, Undefined):
        str(value)  # raises, naming what is undefined
    raise InvalidArgument(f"{type(value).__name__} cannot be written as JSON")


def _plain(value: object) -> Any:
    """Return the value made of nothing but dictionaries, lists and scalars."""
    if isinstance(value, Undefined):
        str(value)  # raises, naming what is undefined
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def from_yaml(text: object) -> Any:
    """Read YAML 1.1, safely: nothing in it makes Python objects."""
    import yaml  # most templates need none

    try:
        return yaml.safe_load(as_text(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f": line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise InvalidArgument(f"this is not YAML{where}", text) from None


def to_yaml(value: object) -> str:
    """Write YAML in block style, without the last line end; the order of keys stays."""
    import yaml

    try:
        written = yaml.safe_dump(
            _plain(value), default_flow_style=False, allow_unicode=True, sort_keys=False, width=float("inf")
        )
    except yaml.YAMLError:
        raise InvalidArgument("this cannot be written as YAML") from None
    return written.removesuffix("...\n").removesuffix("\n")


def from_toml(text: object) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(as_text(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        where = re.search(r"\(at [a-z0-9 ,]+\)$", str(error))
        raise InvalidArgument("this is not TOML" + (f" {where[0]}" if where else ""), text) from None


def to_toml(value: Mapping[str, object]) -> str:
    import tomli_w

    plain = _plain(value)
    if not isinstance(plain, dict):
        raise InvalidArgument(f"only a dictionary can be written as TOML, not {type(value).__name__}")
    try:
        return tomli_w.dumps(plain)
    except (TypeError, ValueError, AttributeError):
        raise InvalidArgument("this cannot be written as TOML: it has no null, and its keys are texts") from None


def base64_encode(text: object) -> str:
    return binascii.b2a_base64(as_text(text).encode("utf-8", "surrogateescape"), newline=False).decode("ascii")


def base64_decode(text: object) -> str:
    """Decode RFC 4648 base64 with padding; line ends in it are skipped, any other foreign character is refused."""
    encoded = as_text(text).replace("\r", "").replace("\n", "")
    try:
        # Python lets padding pass that there is nothing left to pad.
        content = None if len(encoded) % 4 else binascii.a2b_base64(encoded.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        content = None
    if content is None:
        raise InvalidArgument("this is not base64", text, hint="the alphabet is A-Z a-z 0-9 + /, padded with =")
    return content.decode("utf-8", "surrogateescape")
