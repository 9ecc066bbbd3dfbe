"""A line of the log, as a value: what pure code returns in place of writing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from confpy.frozen import NOTHING, frozen

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


@frozen
class LogEvent:
    """Write one log line."""

    level: Level
    event: str
    """A dotted name, as ``resource.changed``; ``docs/logs.md`` lists them all."""
    fields: Mapping[str, object] = NOTHING
    last: bool = False
    """No other will follow."""
