"""Keeps apart, in time, files that are open for writing and the start of processes.

A child has a copy of every descriptor until it executes its program. A file that is open for writing in that moment
stays so, for others, after it was closed here, and cannot be executed: ``ETXTBSY``, "Text file busy".
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

PATIENCE = 1.0
"""Seconds that one side waits for the other at most: a disk that hangs must not hold up every command."""

_changed = threading.Condition()
_inside = {"writing": 0, "spawning": 0}


def writing() -> contextlib.AbstractContextManager[None]:
    """Let no process be started by another thread as long as this lasts. Several threads may write at once."""
    return _alone("writing", "spawning")


def spawning() -> contextlib.AbstractContextManager[None]:
    """Let no other thread have a file open for writing as long as this lasts. Several threads may spawn at once."""
    return _alone("spawning", "writing")


@contextlib.contextmanager
def _alone(own: str, other: str) -> Iterator[None]:
    with _changed:
        _changed.wait_for(lambda: not _inside[other], PATIENCE)
        _inside[own] += 1
    try:
        yield
    finally:
        with _changed:
            _inside[own] -= 1
            _changed.notify_all()
