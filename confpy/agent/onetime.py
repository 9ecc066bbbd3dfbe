"""When confpy ends, and what it ends with: a daemon at a signal, a one-shot run when everything had its try. Pure.

Both policies answer the same questions, so that nothing else in the agent asks which of them it has.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

from confpy.agent.config import AgentConfig
from confpy.agent.resources import ResourceState
from confpy.clock import NEVER
from confpy.errors import ConfpyError, exit_code
from confpy.events import LogEvent, abbreviate


class Forever:
    """A daemon: it waits for what is missing, tries again what failed, and ends when a signal says so."""

    is_final = False
    """Whether a resource has one try, and a failure is its outcome."""
    waits_for_resources = True
    """Whether there may be resources later where there are none now."""
    follows_files = True
    """Whether changes of watched files are reported."""
    again = ""
    """What a hint adds where the command has to be started again."""
    rejection_hint = "change its keys, its template or a command, or send SIGHUP to try it again now"

    def __init__(self, config: AgentConfig) -> None:
        self.saves_keys = self.uses_cached_keys = config.saves_keys

    def begin(self, now: float) -> None:
        """Take the time of the first step."""

    def note_answer(self, now: float) -> None:
        """The store answers."""

    def waits_for_store(self, now: float) -> bool:  # noqa: ARG002
        """Say whether a store that cannot be read now fails nothing yet."""
        return False

    def deadline(self) -> float:
        """Return the monotonic time at which what has no outcome fails."""
        return NEVER

    def ends_before(self, moment: float) -> bool:  # noqa: ARG002
        return False

    def moments(self, now: float) -> Iterable[float]:  # noqa: ARG002
        """Return the monotonic times after now at which these answers change."""
        return ()

    def add(self, error: ConfpyError) -> None:
        """Take a failure that a one-shot run ends with."""

    def note_invalid(self, errors: Mapping[str, ConfpyError]) -> None:
        """Take why the files of resources are invalid, by resource."""

    def retry_fields(self, attempt: int, wait: float) -> dict[str, object]:
        """Return what the line of a failure adds about the next try, in ``wait`` seconds."""
        return {"attempt": attempt, "retry_in": round(wait, 1)}

    def has_ended(self, *, waits: bool, owes: bool) -> bool:  # noqa: ARG002
        """Say whether there is nothing left to do. ``waits``: for an outcome of some resource; ``owes``: reloads."""
        return False

    def report(self, states: Collection[ResourceState], now: float) -> Iterator[LogEvent]:  # noqa: ARG002
        """Yield the lines at the end."""
        return iter(())

    def exit_code(self) -> int:
        return 0

    def stopped_code(self, stopped_by: int, *, forced: bool) -> int:
        """Return the exit code after a signal. A daemon that ended in time, as it was asked to, has not failed."""
        if not forced:
            return 0
        return 128 + (signal.SIGINT if stopped_by == signal.SIGINT else signal.SIGTERM)

    def outcomes(self, states: Iterable[ResourceState]) -> list[dict[str, object]]:
        """Return the outcome of each resource, including those whose file is invalid."""
        return _outcomes(states, {})


class Once:
    """A one-shot run: each resource has one try; what failed decides the exit code."""

    is_final = True
    waits_for_resources = False
    follows_files = False
    again = ", then this again"
    rejection_hint = 'change its keys, its template or a command; retry_refused = "0s" tries it again now'
    saves_keys = False

    def __init__(self, config: AgentConfig) -> None:
        self.uses_cached_keys = config.allow_stale
        self._retry_for = config.retry_for
        self._timeout = config.timeout
        self._began: float | None = None
        self._answered_at: float | None = None
        """When the store answered for the first time."""
        self._errors: list[ConfpyError] = []
        self._invalid: Mapping[str, ConfpyError] = {}
        """Resource → why its file is invalid."""

    def begin(self, now: float) -> None:
        self._began = now if self._began is None else self._began

    def note_answer(self, now: float) -> None:
        self._answered_at = now if self._answered_at is None else self._answered_at

    def waits_for_store(self, now: float) -> bool:
        return now < self._gives_up_at()

    def deadline(self) -> float:
        return (self._gives_up_at() if self._answered_at is None else self._answered_at) + self._timeout

    def ends_before(self, moment: float) -> bool:
        """Say whether the run ends before that time."""
        return moment == NEVER or moment > self.deadline()

    def moments(self, now: float) -> Iterable[float]:
        return (one for one in (self._gives_up_at(), self.deadline()) if one > now)

    def _gives_up_at(self) -> float:
        return (self._began or 0.0) + self._retry_for

    def add(self, error: ConfpyError) -> None:
        self._errors.append(error)

    def note_invalid(self, errors: Mapping[str, ConfpyError]) -> None:
        self._invalid = errors

    def retry_fields(self, attempt: int, wait: float) -> dict[str, object]:  # noqa: ARG002
        return {}

    def has_ended(self, *, waits: bool, owes: bool) -> bool:
        return not waits and not owes

    def report(self, states: Collection[ResourceState], now: float) -> Iterator[LogEvent]:
        """Yield a line that lists all failures, those with one message together, or that there was nothing to do."""
        if not self._errors and all(state.outcome == "unchanged" for state in states):
            count = len(states)
            took = round(now - (self._began or 0.0), 3)
            fields = {"resources": count, "changed": 0, "unchanged": count, "took": took}
            yield LogEvent("info", "onetime.done", fields)
        if len(self._errors) > 1:
            alike: dict[str, list[str]] = {}
            for error in self._errors:
                alike.setdefault(error.message, []).append(str(error.where.get("resource", "?")))
            each = "; ".join(f"{abbreviate(names)}: {message}" for message, names in alike.items())
            yield LogEvent("error", "onetime.failed", {"failures": len(self._errors), "each": each})

    def exit_code(self) -> int:
        return exit_code(self._errors)

    def stopped_code(self, stopped_by: int, *, forced: bool) -> int:  # noqa: ARG002
        return 128 + stopped_by

    def outcomes(self, states: Iterable[ResourceState]) -> list[dict[str, object]]:
        return _outcomes(states, self._invalid)


EndPolicy: TypeAlias = Forever | Once


def end_policy(config: AgentConfig) -> EndPolicy:
    return Once(config) if config.onetime else Forever(config)


def _outcomes(states: Iterable[ResourceState], invalid: Mapping[str, ConfpyError]) -> list[dict[str, object]]:
    found = [
        {
            **_outcome(
                state.resource.name, state.resource.dest, state.outcome or "not tried", state.error or state.unread
            ),
            **({"reload_avoided": state.reload_avoided} if state.resource.reload_haproxy is not None else {}),
        }
        for state in states
    ]
    return found + [_outcome(name, "", "failed", error) for name, error in invalid.items()]


def _outcome(name: str, target: str, outcome: str, error: ConfpyError | None) -> dict[str, object]:
    return {
        "resource": name,
        "target": target,
        "outcome": outcome,
        "changed": outcome == "changed",
        "stage": error.stage if error else "",
        "error": error.message if error else "",
    }
