"""The status of a resource with ``for_each``: one row for all of its items. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from confpy.events import abbreviate
from confpy.frozen import replace
from confpy.status.model import ResourceStatus, State

SEVERITY = {state: number for number, state in enumerate(get_args(State))}
MOST_FAILING = 20
"""Items that a row names."""


def with_items(
    plan: ResourceStatus, items: Sequence[ResourceStatus], flaws: Mapping[str, Mapping[str, str | int]]
) -> ResourceStatus:
    """Return the row of a resource, as bad as the worst of its items.

    ``plan``: its own, which says which items there are. ``flaws``: by item, why no file can be made of it.
    """
    failing = [one.name for one in items if one.state == "failed"] + [f"{plan.name}:{name}" for name in flaws]
    found = replace(
        plan,
        items=len(items) + len(flaws),
        failing=tuple(sorted(failing)[:MOST_FAILING]),
        changed_at=max((one.changed_at for one in items), default=0.0),
        loaded_at=max((one.loaded_at for one in items), default=plan.loaded_at),
        revision=max(plan.revision, *(one.revision for one in items)) if items else plan.revision,
        reload=next((one.reload for one in items if one.reload), ""),
    )
    if plan.state != "current":
        return found
    worst = max(items, key=lambda one: SEVERITY[one.state], default=plan)
    alike = [one for one in items if one.state == worst.state]
    if flaws and worst.state != "failed":
        error = next(iter(flaws.values()))
        why = f"{len(flaws)} of {found.items} items make no file: {abbreviate([*flaws])}: {error.get('error')}"
        return replace(found, state="failed", why=why, error=error, since=plan.since)
    if worst.state == "current":
        return found
    count = f"{len(alike)} of {found.items} items"
    return replace(
        found,
        state=worst.state,
        cause=worst.cause,
        why=f"{count}: {abbreviate([one.name for one in alike])}: {worst.why}",
        since=min(one.since for one in alike),
        error=worst.error,
        next_at=min((one.next_at for one in alike if one.next_at), default=0.0),
    )
