"""Nothing is forgotten: what can be done now was done, and what waits, waits for something that will come.

The agent finds what is due by what woke it. Here all groups and all reloads are gone through instead, as if there were
no index, after each step.
"""

from __future__ import annotations

from collections.abc import Sequence

from confpy.agent.agent import Agent
from confpy.agent.first_tries import LONGEST
from confpy.agent.passes import STORE, FirstTry, Passes
from confpy.agent.resources import GroupKey, Plan, ResourceState, all_commands, prefixes_of, swaps
from confpy.clock import NEVER
from confpy.errors import StoreError
from confpy.mirror.mirrors import Mirrors
from confpy.templates.lookup import Lookup


def forgotten(agent: Agent) -> list[str]:
    """Return what the step that has just ended has left for nothing to take up again; none of it is to be there."""
    if agent._ended or agent._shutdown.has_begun or not agent._recovered:
        return []
    groups = agent.resources.groups
    found = [
        f"{group.name}: {why}"
        for group, states in groups.items()
        if any(state.dirty for state in states) and (why := _why_forgotten(agent, group, states))
    ]
    return [*found, *_sleeps_too_long(agent), *_forgotten_reloads(agent), *_wrong_indexes(agent)]


def _sleeps_too_long(agent: Agent) -> list[str]:
    """Each store is asked again when it is due, whichever of several it is."""
    mirror, wakes = agent._core.mirror, agent._wake_at()
    due = min(one.wake_at() for one in (mirror._all if isinstance(mirror, Mirrors) else [mirror]))
    return [f"it sleeps until {wakes}, and a store is due at {due}"] if wakes > due else []


def _why_forgotten(agent: Agent, group: GroupKey, states: Sequence[ResourceState]) -> str:
    passes, now = agent._passes, agent._step.now
    wait = agent.resources.queue.wait_of(group)
    if wait is None:
        return "it waits for nothing, and is not in flight"
    if any(state.in_flight for state in states):
        return ""
    if any(state.undone for state in states):
        # Until a person accepts, but for what is to be put back.
        waits = any(state.to_restore is None for state in states) or not _has_all(passes, states)
        return "" if waits else f"it can be put back, and waits for {wait}"
    if isinstance(wait.on, Plan):
        plan = states[0].plan
        return "" if plan is not None and plan.dirty else f"{wait.on} will not come"
    checks = agent.resources.shared_checks(group)
    waits_for_others = passes._first_tries.awaited(checks, now) is not None
    can_be = _is_due(passes, states) or _uses_cached_keys(passes, states)
    if can_be and not waits_for_others:
        return f"it can be rendered, and waits for {wait}"
    at = _due_at(states)
    if not _is_over(passes, states) and now < at < NEVER and _is_due(passes, states, at) and wait.until > at:
        return f"it is due at {at}, and waits for {wait}"
    return _why_never(passes, states, wait.on) if wait.on is not None else ""


def _why_never(passes: Passes, states: Sequence[ResourceState], thing: object) -> str:
    """Say why what a group waits for will not come, empty where it will."""
    if isinstance(thing, Lookup):
        comes = thing in passes._rendering._lookups._asked
    elif isinstance(thing, str):
        comes = thing in passes._batches.busy or passes._reloads.is_reloading(thing)
    elif isinstance(thing, FirstTry):
        comes = passes._step.now < passes._first_tries._since + LONGEST and any(
            thing.check in passes._resources.shared_checks(group)
            and _is_to_come(passes, passes._resources.groups[group])
            for group in passes._first_tries
        )
    else:
        comes = thing is STORE and not all(passes._core.mirror.ready(state.resource.prefixes) for state in states)
    return "" if comes else f"{thing} will not come"


def _is_over(passes: Passes, states: Sequence[ResourceState]) -> bool:
    return passes._end.is_final and any(state.tried for state in states)


def _due_at(states: Sequence[ResourceState]) -> float:
    dirty = [state for state in states if state.dirty]
    return max(min(state.retry_at for state in dirty), *(state.settle.due() for state in dirty))


def _is_due(passes: Passes, states: Sequence[ResourceState], at: float = -NEVER) -> bool:
    """Say whether a group can be rendered from the store's keys now; ``at``: or at that time if nothing changes."""
    now = max(passes._step.now, at)
    dirty = [state for state in states if state.dirty]
    return (
        any(now >= state.retry_at for state in dirty)
        and all(now >= state.settle.due() for state in dirty)
        and not any(state.in_flight for state in states)
        and not _is_over(passes, states)
        and _has_all(passes, states)
        and all(passes._core.mirror.ready(state.resource.prefixes) for state in states)
    )


def _uses_cached_keys(passes: Passes, states: Sequence[ResourceState]) -> bool:
    prefixes = prefixes_of(states)
    return (
        passes.fallback.holds(prefixes)
        and not any(state.cached or state.known is not None or state.gone or state.in_flight for state in states)
        and not passes._end.waits_for_store(passes._step.now)
        and not passes._core.mirror.ready(prefixes)
        and _has_all(passes, states)
    )


def _has_all(passes: Passes, states: Sequence[ResourceState]) -> bool:
    """Say whether a group's look-ups are answered and its commands free."""
    asked = {lookup for state in states for lookup in state.awaited}
    reloads = passes._reloads._pending
    taken = passes._batches.busy | {key for key, one in reloads.items() if one.back in {"wanted", "in flight"}}
    if swaps(states):
        taken |= {key for key, one in reloads.items() if one.in_flight}
    if any(state.resource.reload_haproxy is not None for state in states):
        taken |= {key for key in passes._reloads._running if passes._reloads.is_reloading_by_itself(key)}
    return passes._rendering._lookups._asked.isdisjoint(asked) and taken.isdisjoint(all_commands(states))


def _is_to_come(passes: Passes, states: Sequence[ResourceState]) -> bool:
    if all(state.tried for state in states):
        return False
    if any(state.in_flight or state.error is not None or state.guard.suspicion is not None for state in states):
        return False
    if any(state.undone for state in states):
        return False
    asked = {lookup for state in states for lookup in state.awaited}
    return not passes._rendering._lookups._asked.isdisjoint(asked) or not all(
        passes._core.mirror.ready(state.resource.prefixes) for state in states
    )


def _forgotten_reloads(agent: Agent) -> list[str]:
    reloads, now, busy = agent.reloads, agent._step.now, agent._batches.busy
    in_flight = [key for key, one in reloads._pending.items() if one.in_flight]
    if sorted(in_flight) != sorted(reloads._running):
        return [f"{in_flight} are in flight, and not {list(reloads._running)}"]
    swapped = {command for batch in agent._batches._all.values() if batch.swaps for command in batch.commands}
    found = []
    for key, one in reloads._pending.items():
        if one.back == "wanted" and key not in busy:
            found.append(f"{key} is not rolled back")
        if not one.owed or one.in_flight or not reloads._free() or reloads.is_held:
            continue
        if one.asks and not reloads._targets.is_known:
            continue  # the reading of the resources wakes it
        due, longest = reloads._due(key, one), one.since + reloads._longest_wait
        held_up = key in swapped or (key in busy and now < longest)
        if now >= due and not held_up:
            found.append(f"{key} is not run")
        wait = reloads._queue.wait_of(key)
        if wait is None or (due if now < due else longest if key not in swapped else NEVER) < wait.until:
            found.append(f"{key} waits for {wait}")
    return found


def _wrong_indexes(agent: Agent) -> list[str]:
    """Return which indexes are not what a walk over all resources finds."""
    resources, lookups, batches = agent.resources, agent._rendering._lookups, agent._batches
    users: dict[Lookup, set[str]] = {}
    for state in resources:
        for lookup in state.asked | state.awaited | state.stale:
            users.setdefault(lookup, set()).add(state.name)
    pairs: dict[str, tuple[object, object]] = {
        "untried": (set(resources.untried), {one.name for one in resources if not (one.tried or one.in_flight)}),
        "first_deliveries": ({one for one in resources.first_deliveries if not resources.states[one].in_flight}, set()),
        "failed_by_store": (
            set(resources.failed_by_store),
            {one.name for one in resources if isinstance(one.error, StoreError)},
        ),
        "dirty": ({one.name for one in resources._dirty.values()}, {one.name for one in resources if one.dirty}),
        "swapped": (
            batches._swapped,
            {command for batch in batches._all.values() if batch.swaps for command in batch.commands},
        ),
        "users": ({one: set(lookups.users(one)) for one in lookups.used()}, users),
    }
    return [f"{name}: {found} instead of {right}" for name, (found, right) in pairs.items() if found != right]
