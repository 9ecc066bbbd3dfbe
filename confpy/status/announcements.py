"""What a service manager is told, and when: sd_notify(3) as a function of facts and time. Pure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TypeAlias

from confpy.clock import NEVER
from confpy.frozen import frozen

EXTENSION, EXTEND_EVERY = 30.0, 10.0
"""Seconds by which the start may take longer while the store is away, and from one request for that to the next."""
Datagram: TypeAlias = tuple[str, ...]
"""Variables that the manager gets together."""


@frozen
class Facts:
    """What is said of a daemon."""

    words: str
    """For people, in one line."""
    is_started: bool = False
    waits_for_store: bool = False
    """The store has not answered yet."""
    reloads: int = 0
    """How many reloads of the daemon have begun."""
    is_reloading: bool = False
    reload_failed: bool = False
    """The last one ended with something that could not be delivered."""
    is_stopping: bool = False


class Announcements:
    """What was said, and what is still to be said.

    All is said by the owner of the state, between two of its steps, the sign of life too: an owner that is frozen says
    nothing, and the manager ends it.
    """

    def __init__(self, watchdog: float, now: float) -> None:
        """``watchdog``: seconds within which the manager wants a sign of life; 0: it wants none."""
        # Half of it is usual: a third leaves room for a step that takes long.
        self._period = watchdog / 3 if watchdog else NEVER
        self._ping_at = now if watchdog else NEVER
        self._extend_at = now
        self._words = ""
        self._is_ready = False
        self._reloads = 0
        self._is_reloading = False
        self._is_stopping = False

    def next_at(self) -> float:
        """Return the monotonic time by which ``step`` is to be called again."""
        return self._ping_at if self._is_ready else min(self._ping_at, self._extend_at)

    def step(self, facts: Facts, now: float) -> Iterator[Datagram]:
        """Yield what is to be said at the monotonic time ``now``."""
        said = [*self._states(facts, now)]
        if facts.words != self._words:
            self._words = facts.words
            said[-1:] = [(*(said[-1] if said else ()), f"STATUS={facts.words}")]
        yield from said
        if not self._is_ready and not self._is_stopping and facts.waits_for_store:
            if now >= self._extend_at:
                self._extend_at = now + EXTEND_EVERY
                yield (f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}",)
        else:
            self._extend_at = NEVER
        if now >= self._ping_at:
            self._ping_at = now + self._period
            yield ("WATCHDOG=1",)

    def _states(self, facts: Facts, now: float) -> Iterator[Datagram]:
        """Yield the changes of state to announce."""
        if self._is_stopping:
            return
        if facts.is_stopping:
            self._is_stopping = True
            yield ("STOPPING=1",)
            return
        if not self._is_ready:
            self._reloads = facts.reloads  # those before the start has ended are part of it
            self._is_ready = facts.is_started
            if self._is_ready:
                yield ("READY=1",)
            return
        if facts.reloads != self._reloads:
            self._reloads, self._is_reloading = facts.reloads, True
            # In one datagram: systemd compares the time with that of its request (Type=notify-reload).
            yield ("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}")
        if self._is_reloading and not facts.is_reloading:
            self._is_reloading = False
            yield ("READY=1", f"ERRNO={errno.EIO if facts.reload_failed else 0}")
