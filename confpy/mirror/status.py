"""How a store and its stream are, for those who ask. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from confpy.clock import NEVER
from confpy.errors import StoreError
from confpy.mirror.denied import DeniedPrefixes
from confpy.mirror.health import StoreHealth
from confpy.mirror.resync import Resync
from confpy.mirror.streams import Streams


class MirrorStatus(NamedTuple):
    """A mirror at one moment. Times are monotonic."""

    error: StoreError | None
    """Why the store cannot be read."""
    answered_at: float | None
    """When it last answered, or a stream of it brought something; None: not yet."""
    stream: Literal["", "open", "opening", "waiting"]
    next_at: float
    """When it is asked next; ``NEVER`` where an answer is awaited."""
    denied: tuple[str, ...]
    """Prefixes that it denies."""
    is_comparing: bool
    """A read or a poll is under way or due, or one has found what the stream has still to bring."""
    has_readers: bool = True
    """Something is read from the store."""


def describe(
    health: StoreHealth, streams: Streams, resync: Resync, denied: DeniedPrefixes, *, next_read_at: float, now: float
) -> MirrorStatus:
    """Return how a mirror is. ``next_read_at``: minus ``NEVER`` while a read is under way."""
    answers = [one for one in (health.answered_at, streams.brought_at) if one is not None]
    is_reading = next_read_at == -NEVER
    under_way = is_reading or resync.is_polling
    return MirrorStatus(
        health.error,
        max(answers, default=None),
        streams.state,
        NEVER if under_way else min(next_read_at, resync.at),
        tuple(denied),
        under_way or resync.is_behind or min(next_read_at, resync.at) <= now,
    )
