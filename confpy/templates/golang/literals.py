"""Go's constants as strconv reads them (https://go.dev/ref/spec#Lexical_elements). Pure."""

from __future__ import annotations

import re

from confpy.templates.golang.nodes import Number

_ESCAPE = re.compile(
    r"\\(?:(?P<simple>[abfnrtv\\'\"])|x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"
    r"|(?P<octal>[0-7]{3}))|(?P<bad>\\)"
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_INTEGER = re.compile(
    r"(?P<sign>[+-]?)(?:0[xX](?P<hex>(?:_?[0-9a-fA-F])+)|0[bB](?P<binary>(?:_?[01])+)|0[oO](?P<octal>(?:_?[0-7])+)"
    r"|(?P<old>0(?:_?[0-7])+)|(?P<decimal>0|[1-9](?:_?[0-9])*))"
)
_BASES = {"hex": 16, "binary": 2, "octal": 8, "old": 8, "decimal": 10}
_DECIMAL = re.compile(
    r"[+-]?(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_HEXADECIMAL = re.compile(
    r"[+-]?0[xX](?:(?:_?[0-9a-fA-F])+(?:\.(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?)?|\.[0-9a-fA-F](?:_?[0-9a-fA-F])*)"
    r"[pP][+-]?[0-9](?:_?[0-9])*"
)
_LONGEST = 400
"""Characters that a number may have: one with more is no number that anybody meant."""


class Malformed(ValueError):
    """The constant is none; the message is Go's."""


def unquote(text: str) -> str:
    """Return the value of a quoted or raw string; raises ``Malformed``."""
    if text[0] == "`":
        return text[1:-1].replace("\r", "")
    inner = text[1:-1]
    if "\\" not in inner:
        return inner
    if r"\'" in inner and "'" in {escape["simple"] for escape in _ESCAPE.finditer(inner)}:
        raise Malformed("invalid syntax")
    plain = _ESCAPE.sub(_unescape, inner)
    # Bytes of single escapes may make up characters.
    return plain.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _unescape(escape: re.Match[str]) -> str:
    if escape["simple"]:
        return _SIMPLE[escape["simple"]]
    if escape["x"] or escape["octal"]:
        byte = int(escape["x"], 16) if escape["x"] else int(escape["octal"], 8)
        if byte < 0x80:
            return chr(byte)
        if byte < 0x100:
            return chr(0xDC00 + byte)
    elif not escape["bad"]:
        point = int(escape["u"] or escape["U"], 16)
        if point < 0xD800 or 0xDFFF < point <= 0x10FFFF:
            return chr(point)
    raise Malformed("invalid syntax")


def character(text: str) -> int:
    """Return the code point of ``'x'``; raises ``Malformed``."""
    inner = text[1:-1]
    if len(inner) == 1 and inner != "\\":
        return 0xFFFD if "\ud800" <= inner <= "\udfff" else ord(inner)
    escape = _ESCAPE.fullmatch(inner)
    if escape is None or escape["bad"] or escape["simple"] == '"':
        bad = not inner or (inner[0] == "\\" and (not _ESCAPE.match(inner) or bool(_bad(inner))))
        raise Malformed("invalid syntax" if bad else f"malformed character constant: {text}")
    if escape["x"] or escape["octal"]:
        byte = int(escape["x"], 16) if escape["x"] else int(escape["octal"], 8)
        if byte < 0x100:
            return byte
    return ord(_unescape(escape))


def _bad(inner: str) -> bool:
    escape = _ESCAPE.match(inner)
    return escape is None or bool(escape["bad"]) or escape["simple"] == '"'


def number(pos: int, line: int, text: str) -> Number:
    """Return a number's constant; raises ``Malformed``."""
    if len(text) > _LONGEST:
        raise Malformed("illegal number syntax: it is too long")
    end = pos + len(text)
    if text.endswith("i"):
        # 1+2i: the second sign parts it; the first may be that of an exponent.
        split = re.fullmatch(r"(.*[^eEpP])([+-].*)i", text) if text[1:].count("+") + text[1:].count("-") else None
        real, imaginary = (split[1], split[2]) if split else ("0", text[:-1])
        parts = _floating(real), _floating(imaginary)
        if parts[0] is not None and parts[1] is not None:
            value = complex(parts[0], parts[1])
            whole = value.real if value.imag == 0 else None
            return Number(pos, end, line, text, _whole(whole), whole, value)
        raise Malformed(f'illegal number syntax: "{text}"')
    integer = _integer(text)
    if integer is not None and -(2**63) <= integer < 2**63:
        return Number(pos, end, line, text, integer, float(integer))
    if integer is not None and 0 <= integer < 2**64 and text[0] not in "+-":
        return Number(pos, end, line, text, None, float(integer))
    floating = _floating(text)
    if floating is None:
        raise Malformed(f'illegal number syntax: "{text}"')
    if not any(sign in text for sign in ".eEpP"):
        raise Malformed(f'integer overflow: "{text}"')
    return Number(pos, end, line, text, _whole(floating), floating)


def _integer(text: str) -> int | None:
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    kind = next(name for name in _BASES if found[name])
    value = int(found[kind].replace("_", ""), _BASES[kind])
    return -value if found["sign"] == "-" else value


def _floating(text: str) -> float | None:
    if _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text.replace("_", ""))
        except OverflowError:
            return None
    if not _DECIMAL.fullmatch(text):
        return None
    value = float(text.replace("_", ""))
    return None if value in {float("inf"), float("-inf")} else value


def _whole(value: float | None) -> int | None:
    """Return the integer that a float is, if it is one of 64 bits."""
    return int(value) if value is not None and value.is_integer() and -(2.0**63) <= value < 2.0**63 else None
