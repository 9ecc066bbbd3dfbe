"""How it went when everything was read and looked at again (SIGHUP, ``confpy reload``): whether it is over. Pure."""

from __future__ import annotations

from typing import NamedTuple

from confpy.agent.rejections import SOON
from confpy.agent.resources import ResourceState
from confpy.agent.status import Parts
from confpy.clock import NEVER
from confpy.errors import ConfpyError, StoreError, UsageError


class Review(NamedTuple):
    """What has come of it so far."""

    is_over: bool
    """Everything was read, and each resource was delivered or has failed."""
    errors: tuple[ConfpyError, ...] = ()
    """What fails now."""
    changed: tuple[str, ...] = ()
    """The resources whose targets were changed since it was asked for."""


def review(parts: Parts, asked_at: float) -> Review:
    """Return what has come of it. ``asked_at``: the monotonic time of the request."""
    return Review(_is_over(parts, asked_at), tuple(_errors(parts)), tuple(_changed(parts, asked_at)))


def _is_over(parts: Parts, asked_at: float) -> bool:
    core = parts.core
    now = core.step.now
    if parts.loading.is_changing or parts.drift.is_asked or parts.batches or parts.reloads.running():
        return False
    if parts.rendering.is_reading_templates:
        return False  # what fails may have been made from older ones
    reads = any(state.resource.prefixes for state in core.resources)
    if reads and core.mirror.is_comparing(now):
        return False
    if any(_is_pending(parts, state, max(now, asked_at + SOON)) for state in core.resources.dirty):
        return False
    return not any(pending.error is None or due <= now for _, pending, due in parts.reloads.states())


def _is_pending(parts: Parts, state: ResourceState, until: float) -> bool:
    """Say whether a dirty resource is tried before that time, without an error by now that lasts longer."""
    resources = parts.core.resources
    group = resources.groups[state.group]
    if any(one.guard.suspicion is not None or one.undone for one in group):
        return False  # held until a person accepts
    if all(one.error is None for one in group):
        # Without the store it cannot be made: that is an error of the store.
        return parts.core.mirror.lost is None
    wait = resources.queue.wait_of(state.group)
    return wait is None or (wait.on is None and wait.until <= until) or (wait.on is not None and wait.until == NEVER)


def _errors(parts: Parts) -> list[ConfpyError]:
    core = parts.core
    found: list[ConfpyError] = list(parts.loading.invalid.values())
    if not (parts.loading.is_done or found):
        found.append(UsageError("there is no resource", file=f"{core.config.confdir}/conf.d"))
    if core.mirror.lost is not None:
        found.append(core.mirror.lost)
    found += [state.error for state in core.resources.failed.values() if state.error is not None]
    for state in core.resources.dirty:
        if (suspicion := state.guard.suspicion) is not None:
            hint = f"run confpy accept {state.name} if they are to be gone"
            found.append(StoreError(suspicion.reason, hint=hint, resource=state.name))
    for command, pending, _ in parts.reloads.states():
        if pending.error is not None:
            names = ", ".join({**pending.in_flight, **pending.owed})
            found.append(pending.error.copy(type(pending.error)).at(command=command, resource=names))
    return found


def _changed(parts: Parts, asked_at: float) -> list[str]:
    states = parts.core.resources
    return [one.name for one in states if one.changed_at is not None and one.changed_at >= asked_at]
