"""How a signal ends confpy: first the work in hand ends by itself, then it is made to. Pure."""

from __future__ import annotations

import signal

from confpy.agent.step import Step
from confpy.agent.supervisor import Supervisor
from confpy.clock import NEVER
from confpy.messages import Kill, Terminate
from confpy.reload.supervised import ChildEnded

TERM_TIME = 2.0
"""Seconds between TERM and KILL for the commands that run when the time to stop is over: a part of that time."""
CLEANUP_TIME = 0.5
"""Seconds in which a delivery whose check was killed may remove its candidate."""


class Shutdown:
    """The way to the end after the first signal to stop."""

    def __init__(self, step: Step, stop_timeout: float, child: Supervisor) -> None:
        """``stop_timeout``: seconds from the first signal to the end of the work. ``child`` ends before confpy does."""
        self._step = step
        self._child = child
        self._stop_timeout = stop_timeout
        self.stopped_by: int | None = None
        """The first signal to stop."""
        self.was_forced = False
        """The work in hand could not end by itself, or a second signal cut it short."""
        self._terminate_at = self._stop_at = NEVER
        self._is_over = False
        self._terminated = self._killed = False

    @property
    def has_begun(self) -> bool:
        return self.stopped_by is not None

    def next_at(self) -> float:
        """Return the monotonic time of the next thing to do."""
        return min(self._child.next_at(), NEVER if self._is_over else min(self._terminate_at, self._stop_at))

    def begin(self, number: int, name: str) -> None:
        """Take the first signal to stop."""
        self.stopped_by = number
        self._stop_at = self._step.now + self._stop_timeout
        self._terminate_at = self._stop_at - min(TERM_TIME, self._stop_timeout / 2)
        self._step.log("info", "signal.received", signal=name, did="ends what is in hand, then stops")
        self._child.stop(number)

    def take_end(self, ended: ChildEnded) -> None:
        """Take it that the supervised program has ended: confpy ends with it, and the commands in hand get no time."""
        self._child.take(ended)
        if not self.has_begun:
            self.stopped_by = signal.SIGTERM
            self._terminate_at, self._stop_at = self._step.now, self._step.now + min(TERM_TIME, self._stop_timeout)

    def hurry(self, name: str) -> None:
        """Take another signal to stop: it ends the wait for the work in hand, the next one that for its commands."""
        self.was_forced = True
        self._child.hurry()
        if self._killed:
            return
        now = self._step.now
        if self._terminated:
            self._stop_at = now
        else:
            self._terminate_at, self._stop_at = now, min(self._stop_at, now + TERM_TIME)
        self._step.log("info", "signal.received", signal=name, did="ends the commands that run, then stops")

    def is_over(self, *, working: bool) -> bool:
        """Say whether to stop now. ``working``: something is still in hand."""
        self._child.do_what_is_due()
        self._is_over = self._is_over or not working or (self._killed and self._step.now >= self._stop_at)
        return self._is_over and not self._child.runs

    def end_commands(self) -> bool:
        """End the commands that run when their time is over; says whether it did."""
        if self._is_over:  # the program is what is waited for
            return False
        now = self._step.now
        if now >= self._stop_at:
            self._killed = True
            self._stop_at = now + CLEANUP_TIME
            self._step.do(Kill())
        elif now >= self._terminate_at:
            if not self.was_forced:
                did = "asks the commands that still run to end"
                self._step.log("warning", "stop.late", did=did, hint="raise stop_timeout if they need longer")
            self._step.do(Terminate())
        else:
            return False
        self._terminated = self.was_forced = True
        self._terminate_at = NEVER
        return True

    @staticmethod
    def signal_name(number: int) -> str:
        return signal.Signals(number).name
