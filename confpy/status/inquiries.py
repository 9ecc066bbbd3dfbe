"""What the server asks the owner thread: its status, and with that whether it makes progress at all.

The owner answers between two of its steps. An answer is used for a while, so that however many ask, the owner is not
kept from its work. One that does not answer in time is frozen, or busy for longer than it ever should be.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from confpy.clock import NEVER
from confpy.frozen import define, frozen
from confpy.status.model import Status

PATIENCE = 5.0
"""Seconds without an answer after which the owner counts as frozen."""
FRESH = 0.5
"""Seconds for which an answer is used again."""
ALIVE = 3.0
"""Seconds for which an answer says that the owner is alive. With ``PATIENCE``, less than ten in all."""
AGAIN = 0.25
"""Seconds from one question to the next."""
MOST = 128
"""Who wait at the same time."""


class Ask(Protocol):
    """Posts a question to the owner."""

    def __call__(self, take: Callable[[Status | None], None], *, asks_stores: bool) -> None:
        """Have the owner call ``take`` on its own thread: with None where a bug kept it from making a status.

        ``asks_stores``: the stores are asked as well.
        """


@frozen
class Seen:
    """What is known of the owner."""

    status: Status | None
    """Its newest answer; None: it never gave one."""
    responds: bool
    age: float = 0.0
    """Seconds since that answer, or since the first question where there was none."""


@frozen
class Wanted:
    """What somebody waits for."""

    age: float = FRESH
    """How old an answer may be, in seconds."""
    until: Callable[[Status], bool] = lambda _: True
    """What must be so before it is used, or the patience is over."""
    asks_stores: bool = False


@define
class _Waiter:
    wanted: Wanted
    since: float
    deadline: float
    done: Callable[[Seen], None]


def _nobody() -> None:
    """Wake nobody."""


class Inquiries:
    """Who waits for which answer. All but ``take`` is called on the server's thread."""

    def __init__(self, ask: Ask, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self.wake: Callable[[], None] = _nobody
        """Has ``tick`` called; called by ``take``."""
        self._clock = clock
        self._answers: deque[Status | None] = deque(maxlen=1)
        self._latest: Status | None = None
        self._latest_at = -NEVER
        self._began = clock()
        self._asked_at: float | None = None
        """When the question in flight was asked."""
        self._ask_at = -NEVER
        """When the next one may be asked."""
        self._waiters: list[_Waiter] = []

    def want(self, wanted: Wanted, done: Callable[[Seen], None]) -> None:
        """Have ``done`` called with what is wanted, or with what is known when the patience is over."""
        now = self._clock()
        asked_at = now if self._asked_at is None else self._asked_at
        # Who comes when a question is overdue already does not wait for another one.
        self._waiters.append(_Waiter(wanted, now, max(now, asked_at + PATIENCE), done))
        del self._waiters[:-MOST]
        self.tick(now)

    def take(self, status: Status | None) -> None:
        """Take an answer, on the owner's thread."""
        self._answers.append(status)
        self.wake()

    def tick(self, now: float) -> float:
        """Answer those whose time has come, ask what is to be asked; return when to be called again."""
        if self._answers:
            self._latest = self._answers.pop() or self._latest
            self._latest_at = now
            self._asked_at = None
        waiting, self._waiters = self._waiters, []
        done: list[_Waiter] = []
        for waiter in waiting:
            (done if self._is_over(waiter, now) else self._waiters).append(waiter)
        for waiter in done:
            waiter.done(self._seen(waiter, now))
        if self._waiters and self._asked_at is None and now >= self._ask_at:
            self._asked_at = now
            self._ask_at = now + AGAIN
            self._ask(self.take, asks_stores=any(waiter.wanted.asks_stores for waiter in self._waiters))
        moments = [waiter.deadline for waiter in self._waiters]
        if moments and self._asked_at is None:
            moments.append(self._ask_at)
        return min(moments, default=NEVER)

    def _is_fresh(self, waiter: _Waiter) -> bool:
        return self._latest_at >= waiter.since - waiter.wanted.age

    def _is_over(self, waiter: _Waiter, now: float) -> bool:
        if now >= waiter.deadline:
            return True
        return self._is_fresh(waiter) and (self._latest is None or waiter.wanted.until(self._latest))

    def _seen(self, waiter: _Waiter, now: float) -> Seen:
        since = self._began if self._latest_at == -NEVER else self._latest_at
        return Seen(self._latest, self._is_fresh(waiter), now - since)
