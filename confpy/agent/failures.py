"""What becomes of a resource that failed, and of the others of its group. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from confpy.agent.onetime import EndPolicy
from confpy.agent.resources import Resources, ResourceState
from confpy.agent.step import Step
from confpy.errors import ConfpyError


class Failures:
    """Takes failures: they are logged, and the resource is tried again."""

    def __init__(self, step: Step, resources: Resources, end: EndPolicy) -> None:
        self._step = step
        self._resources = resources
        self._end = end

    def fail(
        self,
        state: ResourceState,
        error: ConfpyError,
        *,
        quiet: bool = False,
        content: bytes | None = None,
        attempt: int = 0,
        wait: float = 0.0,
    ) -> None:
        """Keep a resource dirty, and log why, unless the same was logged lately (``Damping``).

        ``content``: what could not be delivered. ``quiet``: it is logged elsewhere. ``attempt``, ``wait``: how many
        times it was tried, and the seconds to the next, where nothing was tried now; else the backoff has them.
        """
        self._resources.set_error(state, error)
        state.outcome = "failed"
        self._resources.note_try(state)
        self._resources.mark(state)
        tries = 0 if attempt else state.backoff.attempts + 1
        if not attempt:
            attempt, wait = tries, state.backoff.wait()
        self._resources.retry(state, self._step.now + wait)
        self._end.add(error)
        if quiet:
            return
        if self._end.is_final or state.damping.admits(error.identity, tries, self._step.now, content):
            state.logged = True
            again = self._end.retry_fields(attempt, wait)
            self._step.log("error", "resource.failed", **error.fields(), **again)

    def fail_group(self, states: Sequence[ResourceState], culprit: ResourceState, error: ConfpyError) -> None:
        """Deliver nothing of a group, since one of it failed."""
        self.fail(culprit, error.at(resource=culprit.name))
        for state in states:
            if state is not culprit:
                self.hold_back(state, culprit)

    def hold_back(self, state: ResourceState, culprit: ResourceState) -> None:
        """Let a resource wait until the one of its group that failed is tried again."""
        state.outcome = "held"
        if self._end.is_final:
            self._resources.note_try(state)
        if state.dirty:
            self._resources.retry(state, culprit.retry_at)
