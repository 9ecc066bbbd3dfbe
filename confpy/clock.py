"""Time as a value: monotonic seconds come in, waits go out. Nothing here sleeps."""

from __future__ import annotations

import time
from random import Random
from typing import Protocol

LONGEST = 10 * 365.25 * 86400
"""Seconds that stand for no limit. Waits refuse what does not fit their clock, long after anybody stopped waiting."""
NEVER = float("inf")
"""A moment that does not come; with a minus, one that has always passed."""


class Clock(Protocol):
    """Where the daemon reads the time; tests and the simulator bring their own."""

    def monotonic(self) -> float:
        """Seconds that never go back, for waits."""

    def time(self) -> float:
        """Seconds since 1970 UTC, for people and templates."""


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


class Backoff:
    """Waits that double from ``base`` to ``cap`` seconds, each drawn evenly from (0, limit] (full jitter).

    Full jitter spreads thousands of clients that lost the same server at the same moment:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. A floor of a tenth of the limit keeps
    a lucky draw from becoming a busy loop.
    """

    __slots__ = ("_base", "_cap", "_random", "attempts")

    def __init__(self, random: Random, base: float = 1.0, cap: float = 60.0) -> None:
        self._random = random
        self._base = base
        self._cap = cap
        self.attempts = 0

    def wait(self) -> float:
        """Count one more failure and return the seconds to wait before the next try."""
        # 2**64 is far above any cap: the exponent is bounded so that ten thousand failures stay cheap.
        limit = min(self._cap, self._base * 2.0 ** min(self.attempts, 64))
        self.attempts += 1
        return limit * (0.1 + 0.9 * self._random.random())

    def reset(self) -> None:
        """Forget the failures after a success."""
        self.attempts = 0


def jittered(seconds: float, random: Random, spread: float = 0.1) -> float:
    """Return ``seconds`` give or take ``spread`` of it, so that many daemons do not ask in step."""
    return seconds * (1 - spread + 2 * spread * random.random())


class Damping:
    """Which of the failures in a row of one thing are worth a log line: a retry loop must not flood the log.

    Logged are a reason that was not logged before, another content, the attempts 1, 4, 16, 64 and so on, and any
    attempt an hour after the last line.
    """

    __slots__ = ("_at", "_content", "_reasons")

    INTERVAL = 3600.0
    """Seconds after which the next failure is logged in any case."""
    MOST_REASONS = 32
    """Reasons that are remembered: with more than these the message differs every time."""

    def __init__(self) -> None:
        self._reasons: set[object] = set()
        self._content: object = None
        self._at = -NEVER

    def admits(self, reason: object, attempt: int, now: float, content: object = None) -> bool:
        """Say whether to log this failure, and count it as logged if so.

        ``attempt``: how many failed in a row, this one included. ``now``: monotonic seconds. ``content``: what was
        tried, where that can change between two attempts.
        """
        if isinstance(content, bytes):
            content = hash(content)  # a rendered file is not held for as long as it fails
        if content != self._content:
            self._content = content
            self._reasons.clear()
        is_power_of_four = attempt & (attempt - 1) == 0 and attempt.bit_length() % 2 == 1
        if reason in self._reasons and not is_power_of_four and now - self._at < self.INTERVAL:
            return False
        if len(self._reasons) >= self.MOST_REASONS:
            self._reasons.clear()
        self._reasons.add(reason)
        self._at = now
        return True

    def reset(self) -> None:
        """Forget what was logged, after a success."""
        self._reasons.clear()
        self._content, self._at = None, -NEVER


class Settle:
    """When a burst of changes is to be delivered: at once after quiet, else when quiet again, never later than max.

    ``quiet`` and ``longest`` are seconds. A change that follows ``quiet`` seconds of nothing is due at once; those
    that come on its heels wait until ``quiet`` seconds pass without another, and at most ``longest`` since the first.
    """

    __slots__ = ("_first", "_last", "_longest", "_quiet")

    def __init__(self, quiet: float, longest: float) -> None:
        self._quiet = quiet
        self._longest = max(quiet, longest)
        self._first: float | None = None
        self._last = -NEVER

    def note(self, now: float) -> None:
        """A change came at ``now``."""
        if self._first is None and now - self._last >= self._quiet:
            self._last = now
            return
        if self._first is None:
            self._first = now
        self._last = now

    def due(self) -> float:
        """Return the moment from which the noted changes may be delivered; it has passed where nothing waits."""
        if self._first is None:
            return -NEVER
        return min(self._last + self._quiet, self._first + self._longest)

    def done(self) -> None:
        """The noted changes are being delivered."""
        self._first = None
