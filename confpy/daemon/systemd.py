"""Tells a service manager how the daemon is: READY, RELOADING, STOPPING, STATUS, and signs of life.

Imported only where ``NOTIFY_SOCKET`` is set. All is sent by the main thread between two of its steps: one that is stuck
sends nothing, and no other thread may say in its place that all is well.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from confpy.clock import NEVER
from confpy.messages import Message, Signalled
from confpy.status.announcements import Announcements, Facts
from confpy.status.model import Status, troubles
from confpy.status.notify import Notifier, in_words, watchdog_seconds

if TYPE_CHECKING:
    from confpy.agent.review import Review

STARTING, RUNNING = 1.0, 10.0
"""Seconds from one look at all resources to the next, at least: a status is made by a walk over them."""
REVIEW = 0.1
"""Seconds from one look at whether a reload of the daemon is over to the next."""


class Owner(Protocol):
    """The daemon, as its main thread sees it."""

    @property
    def is_started(self) -> bool: ...

    @property
    def is_stopping(self) -> bool: ...

    def status(self) -> Status: ...

    def review(self, asked_at: float) -> Review: ...


class ServiceManager:
    """What the service manager knows of the daemon."""

    def __init__(self, notifier: Notifier, watchdog: float, now: float) -> None:
        self._notifier = notifier
        self._announcements = Announcements(watchdog, now)
        self._reloads = 0
        self._asked_at: float | None = None
        """When the reload under way was asked for."""
        self._failed = False
        self._review_at = NEVER
        self._status: Status | None = None
        self._look_at = now
        self._is_old = True
        """Something may have changed since ``_status`` was made."""

    @classmethod
    def of(cls, environ: Mapping[str, str], now: float) -> ServiceManager | None:
        """Return the manager that the environment names; None if there is none. ``now``: monotonic."""
        notifier = Notifier.of(environ)
        return None if notifier is None else cls(notifier, watchdog_seconds(environ), now)

    def step(self, owner: Owner, messages: Sequence[Message], now: float) -> float:
        """Say what is new after a step with these messages; returns when to be called again, at the latest."""
        if any(isinstance(one, Signalled) and one.number == signal.SIGHUP for one in messages):
            self._reloads, self._asked_at, self._review_at = self._reloads + 1, now, now
        self._is_old = self._is_old or bool(messages)
        self._review(owner, now)
        self._look(owner, now)
        for datagram in self._announcements.step(self._facts(owner), now):
            self._notifier.send(*datagram)
        looks_at = self._look_at if self._is_old else NEVER
        return min(self._announcements.next_at(), self._review_at, looks_at)

    def _review(self, owner: Owner, now: float) -> None:
        """Find out whether a reload of the daemon is over."""
        if self._asked_at is None or now < self._review_at:
            return
        found = owner.review(self._asked_at)
        if found.is_over:
            self._asked_at, self._review_at, self._failed = None, NEVER, bool(found.errors)
            self._look_at = now
        else:
            self._review_at = now + REVIEW

    def _look(self, owner: Owner, now: float) -> None:
        """Have a new status made if the old one may be out of date, but not too often."""
        was_started = self._status is not None and self._status.is_started
        if owner.is_started and not was_started:
            self._look_at = now
        if self._is_old and now >= self._look_at and not owner.is_stopping:
            self._status, self._is_old = owner.status(), False
            self._look_at = now + (RUNNING if owner.is_started else STARTING)

    def _facts(self, owner: Owner) -> Facts:
        status = self._status
        away = status is not None and any(not store.answered_at for store in status.stores)
        return Facts(
            in_words(self._words(owner)),
            is_started=owner.is_started,
            waits_for_store=away,
            reloads=self._reloads,
            is_reloading=self._asked_at is not None,
            reload_failed=self._failed,
            is_stopping=owner.is_stopping,
        )

    def _words(self, owner: Owner) -> str:
        if owner.is_stopping:
            return "stops: ends what is in hand"
        if self._asked_at is not None:
            return "reads and looks at everything again"
        return "starts" if self._status is None else words(self._status)

    def close(self) -> None:
        self._notifier.close()


def words(status: Status) -> str:
    """Return how a daemon is, in a line."""
    found = [*troubles(status)]
    if not status.is_started:
        found = found[1:]  # that it has not started
    count = len(status.resources)
    resources = f"{count} resource{'' if count == 1 else 's'}"
    if not found:
        return f"{resources}, all up to date" if status.is_started else f"starts: {resources}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{resources}: {found[0]}{more}" if status.is_started else f"waits: {found[0]}{more}"
