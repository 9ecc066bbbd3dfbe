"""Whether confpy is ready: started, and for those who want it, well. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from confpy.frozen import frozen
from confpy.status.model import Status, StoreStatus, Trouble, find_troubles

SOON = 5.0
"""Seconds for which what ends by itself is no trouble yet: with a probe every few seconds, less than ten in all."""
ANSWERS = 5.0
"""Seconds for which an answer of a store says that it is there."""


@frozen
class Readiness:
    """What is to be said about a status."""

    is_started: bool
    troubles: tuple[Trouble, ...]
    """What is wrong."""
    lasting: tuple[Trouble, ...]
    """Of that, what has lasted too long."""

    @property
    def is_well(self) -> bool:
        return self.is_started and not self.troubles


def judge(status: Status, *, max_stale: float = 0.0, asked: bool = False) -> Readiness:
    """Return how ready confpy is.

    ``max_stale``: seconds after which a trouble counts as lasting, 0: none does. ``asked``: the stores were asked, so
    that one that has not answered of late is silent.
    """
    found = (*find_troubles(status, late=SOON), *(silent_stores(status) if asked else ()))
    lasting = tuple(one for one in found if max_stale and status.now - one.since >= max_stale)
    return Readiness(status.is_started, found, lasting)


def stores_answer(status: Status) -> bool:
    """Say whether it is known of each store whether it is there: it has answered of late, or is known to be away."""
    return not any(map(partial(_is_silent, status), status.stores))


def silent_stores(status: Status) -> Iterator[Trouble]:
    """Yield the stores that were asked, and do not answer: it takes them longer than they have for a whole read."""
    for one in filter(partial(_is_silent, status), status.stores):
        yield Trouble(
            f"store {one.label}", f"it has not answered for {status.now - one.answered_at:.0f} s", one.answered_at
        )


def _is_silent(status: Status, store: StoreStatus) -> bool:
    # One that nothing is read from never answers.
    return store.is_up and bool(store.answered_at) and status.now - store.answered_at > ANSWERS
