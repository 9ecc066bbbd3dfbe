"""What a check finds: one value for each mistake, with its place and what to write instead. Pure."""

from __future__ import annotations

from typing import Literal

from confpy.config.positions import Position
from confpy.errors import ConfpyError
from confpy.frozen import frozen, replace

UNKNOWN = Position(0, 0)
Level = Literal["error", "warning", "note"]


@frozen
class Finding:
    """One mistake."""

    level: Level
    """``error``: confpy would fail, ignore it or do something else than meant; ``warning``: it works, but not well;
    ``note``: nothing to correct."""
    message: str
    """One line: what is wrong. Never the value of a key of the store, nor a secret."""
    hint: str = ""
    """What to write or do instead; empty where the message says it."""
    file: str = ""
    """Empty where it is no file's: a flag, a node."""
    line: int = 0
    """From 1; 0: it belongs to the whole file."""
    column: int = 0
    """From 1, in characters; 0: unknown."""
    resource: str = ""


class Findings:
    """All that was found, each once."""

    def __init__(self) -> None:
        self._found: dict[Finding, Finding] = {}
        self.notes: list[Finding] = []
        """What is no mistake."""

    def add(self, finding: Finding) -> None:
        """Add one, unless there is the same without a resource's name: templates may serve several."""
        self._found.setdefault(replace(finding, resource=""), finding)

    def take(
        self, error: ConfpyError, file: str, place: Position = UNKNOWN, *, level: Level = "error", resource: str = ""
    ) -> None:
        """Add an error of confpy's as it is reported elsewhere; ``place`` counts where it names no line itself."""
        line = error.where.get("line", 0)
        if not isinstance(line, int) or not line:
            line, column = place
        else:
            given = error.where.get("column", place.column if place.line == line else 0)
            column = given if isinstance(given, int) else 0
        hint = error.hint.removeprefix("going on without it; ")
        self.add(Finding(level, error.message.removesuffix(", ignored"), hint, file, line, column, resource))

    def note(self, finding: Finding) -> None:
        """Add what is no mistake."""
        self.notes.append(finding)

    def sorted(self) -> list[Finding]:
        """Return them by file and line."""
        return sorted(self._found.values(), key=lambda one: (one.file, one.line, one.column, one.message))
