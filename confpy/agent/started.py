"""Whether confpy has started: the one definition, for READY, ``/readyz`` and ``--exec``. Pure.

It has when each resource was delivered, or has failed for a reason that waiting does not heal while its target exists
from before; or when the store did not answer within ``ready_timeout`` and every target exists. So one bad file of fifty
does not keep a pod unready for ever, and a store that is down does not hold up a boot; and nothing is started on a file
that is missing. Once started, it stays so.

Whether targets exist is asked of the disk by a job: only of those that were not delivered, and only until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from confpy.agent.core import Core
from confpy.agent.loading import Loading
from confpy.agent.resources import ResourceState
from confpy.clock import NEVER
from confpy.events import abbreviate
from confpy.messages import FindTargets, FoundTargets

SHORTEST, LONGEST = 1.0, 60.0
"""Seconds from one look for missing targets to the next: the wait doubles, and is over when something is delivered."""


class Started:
    """Whether all resources have come so far that what uses their targets may start."""

    def __init__(self, core: Core, loading: Loading, ready_timeout: float) -> None:
        """``ready_timeout``: seconds that a store which does not answer has."""
        self._step = core.step
        self._resources = core.resources
        self._core = core
        self._loading = loading
        self._timeout = ready_timeout
        self._is_used = not core.end.is_final
        self._look_at = -NEVER
        self._wait = SHORTEST
        self._undelivered_count = 0
        """How many were not delivered at the last look."""
        self._is_looking = False
        self._version = 0
        """That of the resources whose targets are looked for."""
        self.at: float | None = None
        """Monotonic time from which on it has started."""
        self.missing: tuple[str, ...] = ()
        """The targets that it waits for."""

    def evaluate(self) -> None:
        """Find out whether it has started by now."""
        if self.at is not None or not self._is_used or not self._loading.is_done or self._is_looking:
            return
        now = self._step.now
        count = len(self._resources.failed) + len(self._resources.untried)
        if self._resources.first_deliveries or (now < self._look_at and count >= self._undelivered_count):
            return
        if self._has_pending():  # before all that were not delivered are gone through
            return
        undelivered = tuple({state.name: state for state in self._undelivered()}.values())
        if self._waits(undelivered):
            return
        if not undelivered:
            self._end()
            return
        self._is_looking, self._version, self._undelivered_count = True, self._resources.version, count
        dests = (one.resource.dest for one in undelivered if one.matches is None and not one.gone)
        self._step.do(FindTargets(tuple(dests)))

    def take(self, found: FoundTargets) -> None:
        """Take which targets are missing of those that were not delivered."""
        self._is_looking = False
        self.missing = found.missing
        same = self._version == self._resources.version
        # What had an outcome at that look may have none any more: an undo of it has failed.
        is_over = same and not self._has_pending() and not self._waits(self._undelivered())
        if self.at is None and not found.missing and is_over:
            self._end()
        else:
            self._look_at = self._step.now + self._wait
            self._wait = min(LONGEST, 2 * self._wait)

    def next_at(self) -> float:
        """Return the monotonic time at which it is to be found out next without a message."""
        if self.at is not None or not self._is_used or not self._loading.is_done or self._is_looking:
            return NEVER
        now = self._step.now
        return min((one for one in (self._look_at, self._deadline()) if one > now), default=NEVER)

    def _deadline(self) -> float:
        began, _ = self._step.began or (self._step.now, 0.0)
        return began + self._timeout

    def _has_pending(self) -> bool:
        """Say whether the first try of a resource is still to come."""
        return any(self._is_pending(state) for state in self._resources.untried.values())

    def _waits(self, undelivered: Iterable[ResourceState]) -> bool:
        """Say whether the store may still bring what one of them needs."""
        return self._step.now < self._deadline() and any(map(self._waits_for_store, undelivered))

    def _undelivered(self) -> Iterator[ResourceState]:
        """Yield those that were not delivered: they failed, are held, or wait for the store."""
        yield from self._resources.failed.values()
        yield from self._resources.untried.values()

    def _waits_for_store(self, state: ResourceState) -> bool:
        """Say whether a resource was not delivered since the store did not answer."""
        return not (state.undone or self._core.mirror.ready(state.resource.prefixes) or self._is_denied(state))

    def _is_denied(self, state: ResourceState) -> bool:
        error = self._core.mirror.error(state.resource.prefixes)
        return error is not None and not self._core.mirror.is_loss(error)

    def _is_pending(self, state: ResourceState) -> bool:
        """Say whether an outcome of a resource is still to be waited for."""
        if state.guard.suspicion is not None or state.undone:
            return False
        return self._step.now < self._deadline() or not self._waits_for_store(state)

    def _end(self) -> None:
        self.at, self.missing = self._step.now, ()
        began, _ = self._step.began or (self._step.now, 0.0)
        failed = list(self._resources.failed)
        fields = {"failed": abbreviate(failed)} if failed else {}
        count = len(self._resources.states)
        self._step.log("info", "confpy.ready", resources=count, **fields, took=round(self._step.now - began, 3))
