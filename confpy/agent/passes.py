"""Which groups are rendered now, and which of them are delivered together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from confpy.agent.batches import Batch, Batches, batches
from confpy.agent.core import Core
from confpy.agent.fallback import Fallback
from confpy.agent.rejections import Rejections
from confpy.agent.reloads import PendingReloads
from confpy.agent.rendering import Rendering
from confpy.agent.resources import GroupKey, ResourceState, all_commands, prefixes_of, swaps
from confpy.candidates import Candidate, Group
from confpy.clock import NEVER, Damping
from confpy.errors import ReloadError
from confpy.templates.lookup import Lookup

FIRST_TRIES = 10.0
"""Seconds for which groups wait for the first try of another one that shares their check."""
REJECTED = "its reload has rejected this content: the previous file stays"

Ready: TypeAlias = tuple[list[ResourceState], Group]


class Passes:
    """Each pass renders the groups that are dirty and due, and sends them off in batches."""

    def __init__(
        self,
        core: Core,
        *,
        rendering: Rendering,
        fallback: Fallback,
        batches: Batches,
        reloads: PendingReloads,
        rejections: Rejections,
    ) -> None:
        self._step = core.step
        self._mirror = core.mirror
        self._resources = core.resources
        self._failures = core.failures
        self._end = core.end
        self._rendering = rendering
        self._fallback = fallback
        self._batches = batches
        self._reloads = reloads
        self._rejections = rejections
        self._waiting_since = NEVER
        """When the first group began to wait for the first try of another."""

    def run(self) -> None:
        """Render what is dirty and due, and send it off in batches."""
        world = self._rendering.world()
        needed: set[Lookup] = set()
        ready: list[Ready] = []
        groups = self._resources.dirty_groups()
        awaited = self._awaited_checks(groups)
        for group in groups:
            states = self._resources.groups[group]
            if not awaited.isdisjoint(self._resources.shared_checks(group)):
                continue
            cached = self._uses_cached_keys(states)
            if not cached and not self._is_due(states):
                continue
            candidates = self._rendering.render(states, world, needed, cached=cached)
            if candidates and not cached and (until := self._rejected_until(states, candidates)) is not None:
                self._leave_rejected(states, until)
            elif candidates:
                name = states[0].resource.dest if group.is_lone else group.name
                ready.append((states, Group(name, tuple(candidates), group.is_lone)))
        self._rendering.ask(needed)
        self._send(self._without_waiting(ready, groups) if needed else ready)

    def next_at(self) -> float:
        """Return the monotonic time from which groups wait no more for the first try of another."""
        moment = self._waiting_since + FIRST_TRIES
        return moment if self._step.now < moment else NEVER

    def due_times(self) -> Iterator[float]:
        """Yield the monotonic times at which dirty resources are due."""
        for state in self._resources.dirty():
            if not state.in_flight:
                moment = max(state.retry_at, state.settle.due())
                if moment > self._step.now:
                    yield moment

    def _send(self, ready: Sequence[Ready]) -> None:
        for batch in batches([(pair, all_commands(pair[0])) for pair in ready]):
            members = [state for states, _ in batch for state in states]
            swapped = any(swaps(states) for states, _ in batch)
            self._batches.add(Batch(tuple(group for _, group in batch), frozenset(all_commands(members)), swapped))
            for state in members:
                self._resources.send(state)
        self._step.actions += self._batches.send()

    # --- which groups are due ----------------------------------------------------------------------------------------

    def _is_due(self, states: Sequence[ResourceState]) -> bool:
        """Say whether a group can be rendered now: one of it should be, and nothing that it needs is amiss."""
        now = self._step.now
        dirty = [state for state in states if state.dirty]
        return (
            any(now >= state.retry_at for state in dirty)
            and all(now >= state.settle.due() for state in dirty)
            and not any(state.in_flight or (state.tried and self._end.is_final) for state in states)
            and not self._rendering.awaits(states)
            and self._are_commands_free(states)
            and all(self._mirror.ready(state.resource.prefixes) for state in states)
        )

    def _uses_cached_keys(self, states: Sequence[ResourceState]) -> bool:
        """Say whether a group is made from cached keys now: the store has not been read, and it was not made yet."""
        prefixes = prefixes_of(states)
        return (
            self._fallback.holds(prefixes)
            and not any(state.cached or state.known is not None or state.in_flight for state in states)
            and not self._end.waits_for_store(self._step.now)
            and not self._mirror.ready(prefixes)
            and not self._rendering.awaits(states)
            and self._are_commands_free(states)
        )

    def _are_commands_free(self, states: Sequence[ResourceState]) -> bool:
        """Say whether no command of a group is in use: no program may read files that are swapped in unchecked."""
        taken = self._batches.busy | self._reloads.restoring()
        if swaps(states):
            taken |= self._reloads.reloading()
        return taken.isdisjoint(all_commands(states))

    # --- groups that share a check -----------------------------------------------------------------------------------

    def _awaited_checks(self, groups: Iterable[GroupKey]) -> set[str]:
        """Return the shared checks of groups that will have their first try as soon as what they need is known.

        The others that share one wait for them: on an empty machine none may pass without all.
        """
        found: set[str] = set()
        for group in groups:
            checks = self._resources.shared_checks(group)
            if checks and self._is_to_come(self._resources.groups[group]):
                found |= checks
        self._waiting_since = min(self._waiting_since, self._step.now) if found else NEVER
        return found if self._step.now < self._waiting_since + FIRST_TRIES else set()

    def _is_to_come(self, states: Sequence[ResourceState]) -> bool:
        """Say whether a group has had no try, and waits for nothing but look-ups and the first read of its keys."""
        if all(state.tried for state in states):
            return False
        if any(state.in_flight or state.error is not None or state.guard.suspicion is not None for state in states):
            return False
        if self._rendering.awaits(states):
            return True
        is_read = all(self._mirror.ready(state.resource.prefixes) for state in states)
        return not is_read and not self._fallback.holds(prefixes_of(states))

    def _without_waiting(self, ready: Sequence[Ready], groups: Iterable[GroupKey]) -> list[Ready]:
        """Leave out the groups that wait for another one whose render has just asked for something."""
        awaited = self._awaited_checks(groups)
        stay: list[Ready] = []
        for states, group in ready:
            if awaited.isdisjoint(self._resources.shared_checks(states[0].group)):
                stay.append((states, group))
            else:
                for state in states:
                    state.cached = False
        return stay

    # --- contents that a reload rejected -----------------------------------------------------------------------------

    def _rejected_until(self, states: Sequence[ResourceState], candidates: Sequence[Candidate]) -> float | None:
        """Return the monotonic time before which a group is left, since a reload rejected these contents."""
        if not any(state.name in self._rejections for state in states):
            return None
        if any(one.torn or one.renewed for one in candidates):
            return None
        others = {state.name: state.known.digest.hex() for state in states if state.known is not None}
        return self._rejections.until(candidates, others, self._step.now)

    def _leave_rejected(self, states: Sequence[ResourceState], until: float) -> None:
        """Leave a group unchanged until then, and log that at least once an hour."""
        rejected = [state for state in states if state.name in self._rejections]
        now = self._step.now
        for state in rejected:
            error = ReloadError(
                REJECTED, hint=self._end.rejection_hint, resource=state.name, target=state.resource.dest
            )
            self._failures.fail(state, error, attempt=self._rejections[state.name].times, wait=until - now)
            state.retry_at = min(until, now + Damping.INTERVAL)
        for state in states:
            if state.name not in self._rejections:
                self._failures.hold_back(state, rejected[0])
