"""What the status of the store means for resources: what it denies, and whether it can be read at all. Pure."""

from __future__ import annotations

from confpy.agent.core import Core
from confpy.agent.fallback import Fallback
from confpy.agent.resources import ResourceState, prefixes_of
from confpy.clock import NEVER
from confpy.errors import StoreError


class StoreStatus:
    """Fails the resources whose keys cannot be read, and has them tried again when they can."""

    def __init__(self, core: Core, fallback: Fallback) -> None:
        self._step = core.step
        self._core = core
        self._resources = core.resources
        self._failures = core.failures
        self._end = core.end
        self._fallback = fallback
        self._taken: tuple[object, ...] = ()
        """What the status rested on that was taken last."""

    def take(self) -> None:
        """Take what is known of the store after a read."""
        lost = self._core.mirror.lost
        self._taken = self._basis()
        if lost is None:
            if self._core.mirror.has_answered:
                self._end.note_answer(self._step.now)
        else:
            self._fallback.request()
            if self._end.waits_for_store(self._step.now) or (self._end.is_final and self._fallback.is_awaited):
                return
        for state in self._concerned():
            error = self._core.mirror.error(state.resource.prefixes)
            if error is None:
                if isinstance(state.error, StoreError):
                    self._resources.retry(state, -NEVER)
            elif self._end.is_final and (state.tried or (self._core.mirror.is_loss(error) and self._is_cached(state))):
                continue
            elif state.error is None or state.error.kind != error.kind:
                # Each gets a copy: what one resource adds to it must not show in another's.
                self._failures.fail(state, _own(error, state), quiet=True)  # the mirror logs it, once for all

    def take_loss(self) -> None:
        """Take again that the store is lost, where something that this rests on has changed without a read."""
        if self._core.mirror.lost is not None and self._taken != self._basis():
            self.take()

    def fail_untried(self) -> None:
        """Fail what has no outcome in time."""
        for state in tuple(self._resources.untried.values()):
            error = self._core.mirror.error(state.resource.prefixes) or StoreError("no outcome in time (timeout)")
            self._failures.fail(state, _own(error, state))

    def _basis(self) -> tuple[object, ...]:
        """Return what the status rests on: where it is the same, nothing follows from it anew."""
        waits = self._end.waits_for_store(self._step.now)
        fallback = self._fallback
        return self._core.mirror.lost, waits, fallback.is_awaited, fallback.is_known, self._resources.version

    def _concerned(self) -> list[ResourceState]:
        """Return the resources that the status may concern, in order: all that read what cannot be read."""
        mirror = self._core.mirror
        names = self._resources.failed_by_store.keys() | mirror.denied_readers() | mirror.readers_of_lost()
        states = (self._resources.states[name] for name in names if name in self._resources.states)
        return sorted(states, key=lambda state: state.order)

    def _is_cached(self, state: ResourceState) -> bool:
        """Say whether the group of a resource can be made from cached keys."""
        return self._fallback.holds(prefixes_of(self._resources.groups[state.group]))


def _own(error: StoreError, state: ResourceState) -> StoreError:
    """Return the error for one of the resources that it concerns."""
    own = error.copy(StoreError)
    own.at(resource=state.name)
    return own
