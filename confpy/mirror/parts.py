"""What is to be known of each store that one resource reads, where they are several. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias


class Part(NamedTuple):
    """One of the stores of a resource."""

    reads: tuple[str, ...]
    """What the resource reads from it."""
    store: int
    """How often it was replaced by another one."""
    read_at: float
    """When the newest read of all that is wanted of it began."""


Parts: TypeAlias = Mapping[str, Part]
"""By mount; empty where a resource reads one store."""
