"""A line of the log, as a value: what pure code returns in place of writing it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypeAlias

from confpy.frozen import NOTHING, frozen

Level: TypeAlias = Literal["debug", "info", "warning", "error"]

MOST_NAMES = 10
"""Names that one line lists; it counts the others."""


@frozen
class LogEvent:
    """Write one log line."""

    level: Level
    event: str
    """A dotted name, as ``resource.changed``; ``docs/logs.md`` lists them all."""
    fields: Mapping[str, object] = NOTHING


def first_names(names: Collection[str], most: int) -> list[str]:
    """Return the first of some names in their order, so many at most."""
    if len(names) <= most:
        return sorted(names)
    from heapq import nsmallest  # a change rarely has more

    return nsmallest(most, names)


def abbreviate(names: Sequence[str]) -> str:
    """Return the first names for a line, and how many others there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
