"""Whether the store can be reached, and when it is tried again. Pure."""

from __future__ import annotations

from random import Random

from confpy.clock import Backoff, Damping
from confpy.errors import StoreError
from confpy.mirror.result import MirrorResult


class StoreHealth:
    """Losses of the store, and its recovery."""

    def __init__(self, random: Random, *, patience: float, once: bool) -> None:
        """``patience``: seconds from one try to the next, at most. ``once``: there is no next one."""
        self.error: StoreError | None = None
        """Why the store cannot be read now."""
        self.answered_at: float | None = None
        """Monotonic time of its last answer."""
        self._once = once
        self._since = 0.0
        self._backoff = Backoff(random, cap=patience)
        self._damping = Damping()

    def fail(self, result: MirrorResult, error: StoreError, now: float, *, has_keys: bool) -> float:
        """Log that the store is lost, unless the same was logged lately (``Damping``); returns when to try again."""
        attempts = self._backoff.attempts
        wait = self._backoff.wait()
        if self.error is None:
            self._since = now
        if self._damping.admits(error.kind, attempts + 1, now):
            again = {} if self._once else {"attempt": attempts + 1, "retry_in": round(wait, 1)}
            did = "goes on with the keys that it has" if has_keys else "has no keys yet"
            result.log("error", "store.lost", **error.fields(), did=did, **again)
        self.error = error
        return now + wait

    def recover(self, result: MirrorResult, now: float) -> None:
        """Take it that the store answers."""
        self.answered_at = now
        self._backoff.reset()
        self._damping.reset()
        if self.error is not None:
            result.log("info", "store.recovered", after=round(now - self._since, 1))
            self.error = None
