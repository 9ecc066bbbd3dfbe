"""Which groups are rendered now, and which of them are delivered together. Pure.

A pass looks at the groups that were woken, and at no other: each of the rest waits for one thing that will wake it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from confpy.agent.batches import Batch, Batches, batches
from confpy.agent.core import Core, ItemsOnDemand
from confpy.agent.fallback import Fallback
from confpy.agent.first_tries import FirstTries
from confpy.agent.rejections import Rejections
from confpy.agent.reloads import PendingReloads
from confpy.agent.rendering import Rendering
from confpy.agent.resources import GroupKey, Plan, ResourceState, all_commands, prefixes_of, swaps
from confpy.agent.runqueue import Wait
from confpy.agent.undone import Undone
from confpy.candidates import Candidate, Group
from confpy.clock import NEVER, Damping
from confpy.errors import ReloadError
from confpy.events import abbreviate
from confpy.templates.lookup import Lookup

if TYPE_CHECKING:
    from confpy.agent.items import Items

REJECTED = "its reload has rejected this content: the previous file stays"

Ready: TypeAlias = tuple[list[ResourceState], Group]


class FirstTry(NamedTuple):
    """What groups wait for that share a check with others."""

    check: str


STORE = object()
"""What groups wait for whose keys were not read yet."""


class Passes:
    """Each pass renders the groups that are dirty and due, and sends them off in batches."""

    def __init__(
        self,
        core: Core,
        *,
        rendering: Rendering,
        fallback: Fallback,
        items: ItemsOnDemand[Items],
        batches: Batches,
        reloads: PendingReloads,
        rejections: Rejections,
        undone: Undone,
    ) -> None:
        self._step = core.step
        self._tells_steps = core.config.tells_steps
        self._core = core
        self._resources = core.resources
        self._failures = core.failures
        self._end = core.end
        self._rendering = rendering
        self.fallback = fallback
        self.items = items
        self._batches = batches
        self._reloads = reloads
        self._rejections = rejections
        self._undone = undone
        self._queue = core.resources.queue
        self._first_tries = FirstTries()
        self._waited_for_store = False
        """A store that could not be read did not fail anything yet."""

    def run(self, freed: Iterable[str] = ()) -> None:
        """Render what was woken and can be rendered now, and send it off in batches.

        ``freed``: commands that are in use no more.
        """
        now = self._step.now
        for command in freed:
            self._queue.wake_for(command)
        for check in self._first_tries.late(now):
            self._queue.wake_for(FirstTry(check))
        waits_for_store = self._end.waits_for_store(now)
        if self._waited_for_store and not waits_for_store:
            self._resources.wake_dirty()
        self._waited_for_store = waits_for_store
        self._look_at_woken()

    def _look_at_woken(self) -> None:
        woken = self._take_woken()
        if self.items.now:
            woken = self._plan(woken, self.items.now)
        if not woken:
            return
        world = self._rendering.world()
        needed: set[Lookup] = set()
        ready: list[Ready] = []
        unfinished: list[GroupKey] = []
        for group in woken:
            states = self._resources.groups[group]
            if (wait := self._wait_of(group, states)) is not None:
                self._queue.wait(group, wait)
                if self._tells_steps:
                    self._tell_wait(states, wait)
                continue
            if (candidates := self._undone.candidates(states)) is not None:
                ready.append((states, _group(states, candidates)))
                continue
            cached = self._uses_cached_keys(states)
            candidates = self._rendering.render(states, world, needed, cached=cached)
            if candidates and not cached and (until := self._rejected_until(states, candidates)) is not None:
                self._leave_rejected(states, until)
            elif candidates:
                ready.append((states, _group(states, candidates)))
                continue
            unfinished.append(group)
        self._rendering.ask(needed)
        self._note_first_tries(unfinished)
        ready, waiting = self._without_waiting(ready) if needed else (ready, [])
        if ready:
            self._send(ready)
        for group in (*unfinished, *waiting):
            wait = self._wait_of(group, self._resources.groups[group])
            if wait is None:
                self._queue.wake(group)
            else:
                self._queue.wait(group, wait)

    def _plan(self, woken: Sequence[GroupKey], items: Items) -> list[GroupKey]:
        """Have the items of resources with ``for_each`` found; returns the other groups, these items among them."""
        others = []
        groups = self._resources.groups
        for group in woken:
            states = groups.get(group)
            if states is None:
                continue  # an item that its plan has removed just now
            if states[0].matches is None:
                others.append(group)
                continue
            if self._wait_of(group, states) is None:
                items.plan(states[0], cached=self._uses_cached_keys(states))
            if states[0].dirty:
                wait = self._wait_of(group, states)
                self._queue.wait(group, wait) if wait is not None else self._queue.wake(group)
        self._forget_removed()
        return self._resources.in_order({one for one in (*others, *self._take_woken_items()) if one in groups})

    def _tell_wait(self, states: Sequence[ResourceState], wait: Wait) -> None:
        if wait.until < NEVER and any(state.dirty and state.error is None for state in states):
            names = abbreviate([state.name for state in states])
            self._step.log("debug", "resource.waits", resource=names, seconds=round(wait.until - self._step.now, 3))

    def note_store(self) -> None:
        """Take it that a read has ended, or that the cached keys are here."""
        self._queue.wake_for(STORE)
        for group in self._first_tries:
            self._queue.wake(group)
        if self.fallback.is_known:
            self._resources.wake_dirty()

    def forget_first_tries(self) -> None:
        """Take it that other groups are run now."""
        self._first_tries.clear()

    def _forget_removed(self) -> None:
        """Let nobody wait for the first try of items that are no more."""
        for group in [one for one in self._first_tries if one not in self._resources.groups]:
            for check in self._first_tries.note(group, frozenset(), is_to_come=False):
                self._queue.wake_for(FirstTry(check))

    def next_at(self) -> float:
        """Return the monotonic time at which a group is due that waits for nothing else."""
        return min(self._queue.next_at(), self._first_tries.next_at(self._step.now))

    def _send(self, ready: Sequence[Ready]) -> None:
        for batch in batches([(pair, all_commands(pair[0])) for pair in ready]):
            members = [state for states, _ in batch for state in states]
            swapped = any(swaps(states) for states, _ in batch)
            self._batches.add(Batch(tuple(group for _, group in batch), frozenset(all_commands(members)), swapped))
            for state in members:
                self._resources.send(state)
        self._step.actions += self._batches.send()

    # --- which groups are due ----------------------------------------------------------------------------------------

    def _take_woken(self) -> list[GroupKey]:
        """Return the dirty groups that were woken, and those that waited for the first try of one of them."""
        woken = self._queue.take(self._step.now)
        self._note_first_tries(woken)
        return self._resources.in_order(woken | self._queue.take(self._step.now))

    def _take_woken_items(self) -> list[GroupKey]:
        """Return the groups that were woken since, without the plans, which are looked at in the next step."""
        woken = self._take_woken()
        for group in [one for one in woken if self._resources.groups[one][0].matches is not None]:
            woken.remove(group)
            self._queue.wake(group)
        return woken

    def _wait_of(self, group: GroupKey, states: Sequence[ResourceState]) -> Wait | None:
        """Return what a group with a dirty resource waits for, None where it can be rendered now.

        Of several things one is enough: when that has come, it is asked again.
        """
        if any(state.in_flight for state in states):
            return Wait()  # the end of its delivery wakes it
        if self._undone.holds(states):
            return self._wait_of_held(states)
        plan = states[0].plan
        if (
            plan is not None
            and plan.dirty
            and not (plan.cached and not self._core.mirror.ready(plan.resource.prefixes))
        ):
            return Wait(on=Plan(plan.name))
        if (lookup := self._rendering.awaited(states)) is not None:
            return Wait(on=lookup)
        if not self._uses_cached_keys(states) and (wait := self._wait_for_keys(states)) is not None:
            return wait
        if (command := self._command_in_use(states)) is not None:
            return Wait(on=command)
        check = self._first_tries.awaited(self._resources.shared_checks(group), self._step.now)
        return None if check is None else Wait(on=FirstTry(check))

    def _wait_of_held(self, states: Sequence[ResourceState]) -> Wait | None:
        """Return what a held group waits for: a person, or what is to be put back may be put back now."""
        if self._undone.candidates(states) is None:
            self._undone.note_held(states)
            return Wait()
        command = self._command_in_use(states)
        return None if command is None else Wait(on=command)

    def _wait_for_keys(self, states: Sequence[ResourceState]) -> Wait | None:
        """Return what a group waits for that is made from the store's keys: one of it should be, and they are here."""
        if self._end.is_final and any(state.tried for state in states):
            return Wait()  # it had its one try
        dirty = [state for state in states if state.dirty]
        moment = max(min(state.retry_at for state in dirty), *(state.settle.due() for state in dirty))
        if moment > self._step.now:
            return Wait(moment)
        is_read = all(self._core.mirror.ready(state.resource.prefixes) for state in states)
        return None if is_read else Wait(on=STORE)

    def _uses_cached_keys(self, states: Sequence[ResourceState]) -> bool:
        """Say whether a group is made from cached keys: the store has not been read, and it was not made yet."""
        if not self.fallback.is_known:
            return False
        prefixes = prefixes_of(states)
        return (
            self.fallback.holds(prefixes)
            and not any(state.cached or state.known is not None or state.gone for state in states)
            and not self._end.waits_for_store(self._step.now)
            and not self._core.mirror.ready(prefixes)
        )

    def _command_in_use(self, states: Sequence[ResourceState]) -> str | None:
        """Return a command of a group that is in use: no program may read files that are swapped in unchecked.

        Nor does a file change while a program reads it that is told of later changes: it has to be known what it read.
        """
        busy, reloads = self._batches.busy, self._reloads
        swapped = swaps(states)
        told = any(state.resource.reload_haproxy is not None for state in states)
        for command in all_commands(states):
            if command in busy or reloads.is_restoring(command):
                return command
            if (swapped and reloads.is_reloading(command)) or (told and reloads.is_reloading_by_itself(command)):
                return command
        return None

    # --- groups that share a check -----------------------------------------------------------------------------------

    def _note_first_tries(self, groups: Iterable[GroupKey]) -> None:
        """Take which of these have their first try to come: it is awaited by those that share a check with them."""
        ended: list[str] = []
        for group in groups:
            if checks := self._resources.shared_checks(group):
                is_to_come = self._is_to_come(self._resources.groups[group])
                ended += self._first_tries.note(group, checks, is_to_come=is_to_come)
        self._first_tries.begin(self._step.now)
        for check in ended:
            self._queue.wake_for(FirstTry(check))

    def _is_to_come(self, states: Sequence[ResourceState]) -> bool:
        """Say whether a group has had no try, and waits for nothing but look-ups and the first read of its keys."""
        if all(state.tried for state in states) or not any(state.dirty for state in states):
            return False
        if self._undone.holds(states):
            return False
        if any(state.in_flight or state.error is not None or state.guard.suspicion is not None for state in states):
            return False
        if self._rendering.awaited(states) is not None:
            return True
        is_read = all(self._core.mirror.ready(state.resource.prefixes) for state in states)
        return not is_read and not self.fallback.holds(prefixes_of(states))

    def _without_waiting(self, ready: Sequence[Ready]) -> tuple[list[Ready], list[GroupKey]]:
        """Leave out, and return too, the groups that wait for one whose render has just asked for something."""
        stay: list[Ready] = []
        waiting: list[GroupKey] = []
        for states, one in ready:
            group = states[0].group
            if self._first_tries.awaited(self._resources.shared_checks(group), self._step.now) is None:
                stay.append((states, one))
                continue
            waiting.append(group)
            for state in states:
                state.cached = False
        return stay, waiting

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
            self._resources.retry(state, min(until, now + Damping.INTERVAL))
        for state in states:
            if state.name not in self._rejections:
                self._failures.hold_back(state, rejected[0])


def _group(states: Sequence[ResourceState], candidates: Iterable[Candidate]) -> Group:
    """Return the candidates of a group's resources as a group."""
    group = states[0].group
    return Group(states[0].resource.dest if group.is_lone else group.name, tuple(candidates), group.is_lone)
