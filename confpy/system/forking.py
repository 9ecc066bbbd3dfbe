"""Keeps the start of processes apart from files that are open for writing.

A child has a copy of every descriptor until it executes its program. A file that is open for writing at that moment
stays open after it was closed here, and cannot be executed meanwhile: ``ETXTBSY``, "Text file busy".
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

PATIENCE = 1.0
"""Seconds that one side waits for the other at most: a disk that hangs must not block every command."""

_changed = threading.Condition()
_inside = {"writing": 0, "spawning": 0}


def writing() -> contextlib.AbstractContextManager[None]:
    """Let no other thread start a process meanwhile. Several threads may write at once."""
    return _alone("writing", "spawning")


def spawning() -> contextlib.AbstractContextManager[None]:
    """Let no other thread open a file for writing meanwhile. Several threads may start processes at once."""
    return _alone("spawning", "writing")


@contextlib.contextmanager
def _alone(own: str, other: str) -> Iterator[None]:
    with _changed:
        if _inside[other]:
            _changed.wait_for(lambda: not _inside[other], PATIENCE)
        _inside[own] += 1
    try:
        yield
    finally:
        with _changed:
            _inside[own] -= 1
            _changed.notify_all()
