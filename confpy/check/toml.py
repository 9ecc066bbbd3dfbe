"""A TOML file with the places of its keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from confpy.check.findings import UNKNOWN, Findings
from confpy.config.positions import Path, Position, keys_of, position
from confpy.config.toml import parse_toml, plain, read_text
from confpy.errors import UsageError


class TomlFile:
    """A file that is valid TOML."""

    def __init__(self, path: str, text: str, tables: Mapping[str, object]) -> None:
        self.path = path
        self.text = text
        self.tables = tables

    @cached_property
    def _keys(self) -> Mapping[Path, Position]:
        return keys_of(self.text)

    def place(self, *path: str) -> Position:
        """Return where a key stands, in whatever case and with whatever dashes; else its table, else nowhere."""
        for length in range(len(path), 0, -1):
            if (found := self._keys.get(path[:length])) is not None:
                return found
            wanted = [*map(plain, path[:length])]
            for key, place in self._keys.items():
                if [*map(plain, key)] == wanted:
                    return place
        return UNKNOWN

    def place_of_text(self, start: Position, text: str) -> Position:
        """Return where a text stands at or after a place; the place itself where it does not."""
        lines = self.text.split("\n")
        offset = sum(len(line) + 1 for line in lines[: start.line - 1]) + start.column - 1
        found = self.text.find(text, max(offset, 0))
        return position(self.text, found) if found >= 0 and start.line else start


def read_toml(path: str, findings: Findings, *, resource: str = "", hint: str = "") -> TomlFile | None:
    """Return a TOML file; None if it cannot be read or is none, which is added. ``hint``: what else may be wrong."""
    try:
        text = read_text(path)
    except UsageError as error:
        findings.take(error, path, resource=resource)
        return None
    try:
        return TomlFile(path, text, parse_toml(text, path))
    except UsageError as error:
        error.hint = error.hint or hint
        findings.take(error, path, _place_of_error(text), resource=resource)
        return None


def _place_of_error(text: str) -> Position:
    """Return where a text stops being TOML."""
    import tomllib

    try:
        tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        if found is not None:
            return Position(int(found[1]), int(found[2]))
        if "end of document" in str(error):
            return position(text, len(text.rstrip()))
    return UNKNOWN
