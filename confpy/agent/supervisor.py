"""The program that confpy runs and ends with (``-exec``): when it starts, what signals it gets, what confpy exits with.

Pure. The program starts once, and is not started again: what restarts a container or a unit is a better judge of that,
and sees from the exit code why it ended. Its states::

    waiting ── is_started ──▶ running ── a signal to stop ──▶ stopping ──▶ ended
                                 └──────── it ends unasked ───────────────▶ ended
"""

from __future__ import annotations

import os
import signal
from typing import Literal

from confpy.agent.config import AgentConfig
from confpy.agent.reloads import PendingReloads
from confpy.agent.step import Step
from confpy.clock import NEVER
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild

KILL_TIME = 2.0
"""Seconds between TERM and KILL for a program that did not stop at its own stop signal: a part of its time."""


class Supervisor:
    """The program, from its start to its end. Without ``-exec`` there is none, and nothing waits for it."""

    def __init__(self, step: Step, config: AgentConfig, reloads: PendingReloads) -> None:
        self._step = step
        self._reloads = reloads
        self._stop_signal = config.child_stop_signal
        self._stop_timeout = config.child_stop_timeout
        self._forwarded = config.forwarded
        self.state: Literal["none", "waiting", "running", "stopping", "ended"] = (
            "waiting" if config.supervises else "none"
        )
        reloads.is_held = config.supervises
        self._asked_by = 0
        """The signal that it was asked to stop with."""
        self._late = False
        """It did not stop at that signal in time."""
        self._killed = False
        self._terminate_at = self._kill_at = NEVER
        self._code: int | None = None
        """What confpy exits with, where the program has ended."""

    @property
    def is_waiting(self) -> bool:
        """Whether the program is still to be started."""
        return self.state == "waiting"

    @property
    def runs(self) -> bool:
        """Whether its end is still to come."""
        return self.state in ("running", "stopping")

    def start_if(self, *, is_started: bool) -> bool:
        """Start the program if its files are there, and say whether it did. What changes from now on owes a reload."""
        if not (self.is_waiting and is_started):
            return False
        self.state = "running"
        self._step.log("info", "exec.started")
        self._step.do(StartChild())
        self._step.actions += self._reloads.release()
        return True

    def forwards(self, number: int) -> bool:
        """Forward a signal that is meant for the program; returns False if it is confpy's own."""
        if number not in self._forwarded:
            return False
        if self.runs:
            self._step.do(SignalChild(number))
        return True

    def stop(self, number: int) -> None:
        """Ask the program to stop, as confpy itself was by this signal."""
        if self.state != "running":
            self.state = "ended" if self.state == "waiting" else self.state
            return
        self.state = "stopping"
        self._asked_by = self._stop_signal or number
        self._kill_at = self._step.now + self._stop_timeout
        if self._asked_by != signal.SIGTERM:
            self._terminate_at = self._kill_at - min(KILL_TIME, self._stop_timeout / 2)
        self._step.do(SignalChild(self._asked_by))

    def hurry(self) -> None:
        """Take another signal to stop: TERM at once, and KILL at the one after it."""
        if self.state != "stopping" or self._killed:
            return
        now = self._step.now
        if self._late:
            self._kill_at = now
        else:
            self._terminate_at, self._kill_at = now, min(self._kill_at, now + KILL_TIME)
        self.do_what_is_due()

    def do_what_is_due(self) -> None:
        """Take it that time has passed."""
        now = self._step.now
        if self.state != "stopping":
            return
        if now >= self._kill_at:
            self._killed = True
            self._terminate_at = self._kill_at = NEVER
            self._log_late("kills it")
            self._step.do(SignalChild(signal.SIGKILL))
        elif now >= self._terminate_at:
            self._terminate_at = NEVER
            self._log_late("sends it TERM")
            self._step.do(SignalChild(signal.SIGTERM))

    def _log_late(self, did: str) -> None:
        self._late = True
        hint = "raise exec_stop_timeout if it needs longer"
        self._step.log("warning", "exec.late", signal=_name(self._asked_by), did=did, hint=hint)

    def next_at(self) -> float:
        """Return the monotonic time of the next thing to do."""
        return min(self._terminate_at, self._kill_at)

    def take(self, ended: ChildEnded) -> None:
        """Take how the program has ended."""
        asked = self.state == "stopping"
        self.state = "ended"
        self._terminate_at = self._kill_at = NEVER
        self._code = code = ended.code if ended.code >= 0 else 128 - ended.code
        if ended.reason:
            error, hint = os.strerror(ended.reason), "is it installed, on the PATH, and executable for confpy's user?"
            self._step.log("error", "exec.failed", error=f"the program cannot be started: {error}", hint=hint)
        elif asked and code in {0, 128 + self._asked_by}:
            self._code = 0
            self._step.log("info", "exec.ended", code=code, did="has stopped as it was asked to")
        else:
            did = "exits with its code" if asked else "ends with it: nothing had asked it to"
            self._step.log("error" if code else "warning", "exec.ended", code=code, did=did)

    def exit_code(self, own: int) -> int:
        """Return what confpy exits with. ``own``: its code where no program was started."""
        return own if self._code is None else self._code


def _name(number: int) -> str:
    return signal.Signals(number).name if number in signal.valid_signals() else str(number)
