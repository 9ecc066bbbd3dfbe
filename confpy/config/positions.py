"""Where the keys of a TOML file stand: the standard parser says it of errors alone. Pure.

It reads files that are valid: of others, it finds what stands above the first mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

Path: TypeAlias = tuple[str, ...]
"""The tables and the key, from the outside."""


class Position(NamedTuple):
    """A place in a text; both numbers count from 1, columns in characters."""

    line: int
    column: int


def position(text: str, offset: int) -> Position:
    """Return the place of the character at an offset."""
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
_SCALAR = re.compile(r"[^,\[\]{}#\n\"']+")
_DOT = re.compile(r"[ \t]*\.[ \t]*")


def keys_of(text: str) -> Mapping[Path, Position]:
    """Return where each key of a TOML file stands, and where each table is opened."""
    return dict(_Scanner(text).scan())


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def scan(self) -> Iterator[tuple[Path, Position]]:
        table: Path = ()
        while self._skip():
            start = self._at
            if self._text.startswith("[", start):
                self._at += 2 if self._text.startswith("[[", start) else 1
                self._take(re.compile(r"[ \t]*"))
                path = self._key()
                if not path:
                    return
                table = path
                yield table, position(self._text, start)
                self._take(re.compile(r"[ \t]*\]{1,2}"))
                continue
            path = self._key()
            if not path or not self._take(re.compile(r"[ \t]*=[ \t]*")):
                return
            yield table + path, position(self._text, start)
            if not self._value():
                return

    def _skip(self) -> bool:
        """Go on to the next character that is no white space and no comment. False: there is none."""
        self._take(_SPACE)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _string(self) -> str:
        return next(filter(None, map(self._take, _STRINGS)), "")

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            part = self._take(_BARE)
            if not part:
                quoted = self._string()
                if not quoted:
                    return ()
                part = _unquoted(quoted)
            parts.append(part)
            if not self._take(_DOT):
                return tuple(parts)

    def _value(self) -> bool:
        """Step over a value. False if it is none."""
        start = self._at
        depth = 0
        while self._at < len(self._text):
            if self._string() or self._take(_SCALAR):
                pass
            elif (sign := self._text[self._at]) in "[{":
                depth += 1
                self._at += 1
            elif sign in "]}" and depth:
                depth -= 1
                self._at += 1
            elif depth and sign in ",\n#":
                self._at += 1
                self._take(_SPACE)
            else:
                break
            if not depth and self._text[self._at : self._at + 1] in {"", "\n", "#"}:
                break
        return self._at > start and not depth


def _unquoted(quoted: str) -> str:
    if quoted.startswith("'"):
        return quoted[1:-1]
    import tomllib  # hardly any key is quoted so

    try:
        return str(tomllib.loads(f"x = {quoted}")["x"])
    except ValueError:
        return quoted[1:-1]
