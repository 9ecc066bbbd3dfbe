"""When a key is put, renewed and removed, and when the command gets a signal: a function of state, message and time.

The key is wanted while the check passes, the command runs, and nothing has asked confpy to stop::

    free ── claim ──▶ held ── refresh ──▶ held        wanted
      ▲                │  └── it is gone ──▶ free     claimed anew at once
      │                └── somebody else's ──▶ taken  claimed when it is free again
      └──── release ───┘                              no longer wanted

The first claim takes the key over from whoever has it: a container that is started again does not wait for the TTL of
the one before. From then on the newest owner has it: confpy never puts, renews or removes what another has taken over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from random import Random
from typing import Literal

from confpy.clock import NEVER, Backoff, Damping, jittered
from confpy.errors import ConfpyError, StoreError
from confpy.events import Level, LogEvent
from confpy.frozen import frozen
from confpy.registration.values import (
    Action,
    Answered,
    Ask,
    Check,
    Checked,
    Message,
    Notify,
    Operation,
    Signalled,
    Standing,
    Stop,
)
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild

RENEWALS = 3
"""How often a TTL is renewed before it would end."""
LOOKS = 10.0
"""Seconds between two looks at a key without a TTL."""
PROMPT = 1.0
"""Seconds between two checks, at most, until the first one passes."""
PATIENCE = 5.0
"""Seconds for which the end waits for a store that does not remove the key."""


@frozen
class Plan:
    """How a key is to be kept. Durations are seconds."""

    key: str
    ttl: float | None
    supervises: bool = False
    """There is a command, with which the key and confpy end."""
    checks: bool = False
    check_interval: float = 5.0
    check_failures: int = 2
    """How many checks in a row fail before the key is removed."""
    drain: float = 0.0
    """How long the command runs on after the key was removed."""
    stops: frozenset[int] = frozenset()
    """The signals that are asked to stop with; the command gets all others at once."""

    @property
    def period(self) -> float:
        """Seconds from one renewal to the next."""
        return LOOKS if self.ttl is None else self.ttl / RENEWALS


class Registration:
    """One key, from its registration to its end."""

    def __init__(self, plan: Plan, random: Random) -> None:
        self._plan = plan
        self._random = random
        self._now = 0.0
        self._actions: list[Action | LogEvent] = []
        self._standing: Standing | Literal["unknown"] = "free"
        """``unknown``: a claim failed, and may have been carried out."""
        self._under_way: Operation | None = None
        self._takes_over = True
        self._act_at = -NEVER
        """When the store may be asked next."""
        self._backoff = Backoff(random, base=min(1.0, plan.period / 2), cap=max(plan.period, 0.5))
        self._damping = Damping()
        self._passes = not plan.checks
        self._failures = 0
        """Checks in a row that failed."""
        self._is_checking = False
        self._check_at = -NEVER
        self._is_ready = False
        self._asked_by = 0
        """The signal that asked confpy to stop."""
        self._drain = 0.0
        self._awaits_removal = False
        """The drain begins when the key is gone."""
        self._forward_at = self._give_up_at = NEVER
        self._is_forwarded = False
        self._runs = plan.supervises
        self._code: int | None = None
        """What the command exited with."""
        self._is_over = False

    # --- steps -------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Action | LogEvent]:
        """Return what is to be done first. ``now``: monotonic seconds."""
        self._now = now
        if self._plan.supervises:
            self._actions.append(StartChild())
        return self._finish()

    def step(self, messages: Iterable[Message], now: float) -> list[Action | LogEvent]:
        """Take messages, and that it is ``now``; return what is to be done."""
        self._now = now
        for message in messages:
            match message:
                case Answered():
                    self._take_answer(message)
                case Checked(error):
                    self._take_check(error)
                case Signalled(number):
                    self._take_signal(number)
                case ChildEnded():
                    self._take_end(message)
        return self._finish()

    def next_at(self) -> float:
        """Return the monotonic time of the next thing to do without a message."""
        acts = NEVER if self._under_way or self._wished is None else self._act_at
        checks = self._check_at if self._checks else NEVER
        return min(acts, checks, self._forward_at, self._give_up_at)

    @property
    def standing(self) -> str:
        """How the key stands, as far as is known."""
        return self._standing

    def _finish(self) -> list[Action | LogEvent]:
        if not self._is_over:
            self._check_if_due()
            self._ask_if_due()
            self._stop_if_due()
        actions, self._actions = self._actions, []
        return actions

    def _log(self, level: Level, event: str, **fields: object) -> None:
        self._actions.append(LogEvent(level, event, {"key": self._plan.key, **fields}))

    # --- the store ---------------------------------------------------------------------------------------------------

    @property
    def _is_wanted(self) -> bool:
        return self._passes and not self._asked_by and self._code is None

    @property
    def _wished(self) -> Operation | None:
        """What the store would be asked next."""
        if self._is_wanted:
            return "refresh" if self._standing == "held" else "claim"
        return "release" if self._standing in ("held", "unknown") else None

    @property
    def _is_gone(self) -> bool:
        """Whether the key is not ours, and will not be."""
        return self._under_way is None and self._standing in ("free", "taken")

    def _hurry(self) -> None:
        """Have the store asked now: something else is wanted than before."""
        self._act_at = self._now
        self._backoff.reset()

    def _ask_if_due(self) -> None:
        wished = self._wished
        if wished is None or self._under_way or self._now < self._act_at:
            return
        self._under_way = wished
        self._actions.append(Ask(wished, takes_over=wished == "claim" and self._takes_over))

    def _take_answer(self, answer: Answered) -> None:
        self._under_way = None
        if answer.error is not None:
            self._take_failure(answer.operation, answer.error)
            return
        failed, previous = self._backoff.attempts, self._standing
        self._backoff.reset()
        self._damping.reset()
        self._standing = answer.standing
        is_new = answer.standing != previous
        if answer.standing == "taken" and is_new:
            did = "leaves it alone" + (", and puts it again when it is free" if self._is_wanted else "")
            self._log("warning", "registration.taken", reason="somebody else has put the key", did=did)
        elif answer.operation == "claim" and answer.standing == "held":
            self._takes_over = False
            ttl = {} if self._plan.ttl is None else {"ttl": round(self._plan.ttl, 3)}
            self._log("info", "registration.put", node=answer.node, **ttl)
            if not self._is_ready:
                self._is_ready = True
                self._actions.append(Notify("READY=1"))
        elif answer.operation == "refresh" and answer.standing == "free":
            self._log("warning", "registration.lost", reason="it has expired, or was removed", did="is put again")
        elif answer.operation == "refresh" and failed:
            self._log("info", "registration.kept", node=answer.node)
        elif answer.operation == "release" and answer.standing == "free":
            self._log("info", "registration.removed", node=answer.node)
        waits = self._is_wanted and answer.standing != "free"
        self._act_at = self._now + (jittered(self._plan.period, self._random) if waits else 0.0)

    def _take_failure(self, operation: Operation, error: StoreError) -> None:
        if operation == "claim":
            self._standing = "unknown"
        wait = self._backoff.wait()
        self._act_at = self._now + wait
        if self._damping.admits((operation, error.kind), self._backoff.attempts, self._now):
            fields = {**error.fields(), "attempt": self._backoff.attempts, "retry_in": round(wait, 1)}
            self._log("warning", "registration.failed", **{"operation": operation, **fields})

    # --- the check ---------------------------------------------------------------------------------------------------

    @property
    def _checks(self) -> bool:
        """Whether a check is still to be run."""
        return self._plan.checks and not (self._is_checking or self._asked_by or self._code is not None)

    def _check_if_due(self) -> None:
        if self._checks and self._now >= self._check_at:
            self._is_checking = True
            self._actions.append(Check())

    def _take_check(self, error: ConfpyError | None) -> None:
        self._is_checking = False
        if not self._checks:
            return
        interval = self._plan.check_interval
        self._failures = 0 if error is None else self._failures + 1
        if error is None and not self._passes:
            self._passes = True
            self._log("info", "registration.check_passed")
            self._hurry()
        elif error is not None and self._passes and self._failures >= self._plan.check_failures:
            self._passes = False
            self._log("warning", "registration.check_failed", **{**error.fields(), "did": "removes the key"})
            self._hurry()
        elif error is not None and not self._is_ready and self._failures == 1:
            self._log("info", "registration.waits", **{**error.fields(), "did": "puts the key when it passes"})
        if not (self._passes or self._is_ready):
            interval = min(interval, PROMPT)
        self._check_at = self._now + jittered(interval, self._random)

    # --- the command and the end -------------------------------------------------------------------------------------

    def _take_signal(self, number: int) -> None:
        if number not in self._plan.stops or self._is_forwarded:
            if self._runs:
                self._actions.append(SignalChild(number))
            return
        if self._asked_by:  # a second one: at once
            self._forward_at = self._now
            if not self._runs:
                self._give_up_at = self._now
            return
        self._asked_by = number
        self._actions.append(Notify("STOPPING=1"))
        # Nobody was sent here by a key that is not there: there is nothing to wait for.
        self._drain = 0.0 if self._is_gone else self._plan.drain
        self._forward_at = self._now + PATIENCE + self._drain
        if not self._runs:
            self._give_up_at = self._forward_at
        self._hurry()
        self._awaits_removal = True

    def _take_end(self, ended: ChildEnded) -> None:
        self._runs = False
        self._code = code = ended.code if ended.code >= 0 else 128 - ended.code
        self._forward_at, self._give_up_at = NEVER, self._now + PATIENCE
        if ended.reason:
            error, hint = os.strerror(ended.reason), "is it installed, on the PATH, and executable for confpy's user?"
            self._log(
                "error", "registration.command_failed", error=f"the command cannot be started: {error}", hint=hint
            )
        else:
            self._log("info" if self._asked_by or not code else "warning", "registration.command_ended", code=code)
        self._hurry()

    def _stop_if_due(self) -> None:
        if self._awaits_removal and self._is_gone:
            self._awaits_removal = False
            self._forward_at = min(self._forward_at, self._now + self._drain)
        is_due = self._now >= self._forward_at
        if self._runs:
            if is_due:
                self._is_forwarded = True
                self._forward_at = NEVER
                self._actions.append(SignalChild(self._asked_by))
            return
        if self._code is not None:
            is_due = True
        if (is_due and self._is_gone) or self._now >= self._give_up_at:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self._forward_at = self._give_up_at = self._check_at = NEVER
        code = self._code or 0
        if not self._is_gone:
            did = "it goes with its TTL"
            if self._plan.ttl is None:
                did, code = "it stays; confpy deregister removes it", self._code or StoreError.exit_code
            self._log("warning", "registration.left", reason="the store did not remove the key in time", did=did)
        self._actions.append(Stop(code))
