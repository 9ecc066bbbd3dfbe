"""Which deliveries go together: those that share a check or reload command, and those that have neither. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def batches(items: Sequence[tuple[Item, Sequence[str]]]) -> list[list[Item]]:
    """Put items, each with its commands, into batches of which no two share a command; the order stays."""
    found: list[list[tuple[Item, Sequence[str]]]] = []
    home: dict[str, int] = {}
    for pair in items:
        # One whose check is one batch's and whose reload is another's ties the two together.
        joined = sorted({home[command] for command in pair[1] if command in home}) or [len(found)]
        first = joined[0]
        if first == len(found):
            found.append([])
        for other in joined[1:]:
            for _, commands in found[other]:
                home.update(dict.fromkeys(commands, first))
            found[first] += found[other]
            found[other] = []
        found[first].append(pair)
        home.update(dict.fromkeys(pair[1], first))
    return [[item for item, _ in batch] for batch in found if batch]
