"""Resources with ``for_each``: which items there are, what of their files is ours, and what is to be removed. Pure.

Such a resource is a plan. Its items are resources of their own, each in no group, so that a bad one stops no other;
they share their commands, so that they go into one batch, with one check in place and one reload. Only the plan is told
of changed keys; it marks the items that these concern. An item waits while its plan is dirty: what the plan holds back
as suspect, no item delivers.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from random import Random
from typing import NamedTuple

from confpy.agent.changed_keys import MOST_CHANGES
from confpy.agent.core import Core
from confpy.agent.drift import Drift
from confpy.agent.fallback import Fallback
from confpy.agent.owned import OwnedFiles
from confpy.agent.rendering import Rendering
from confpy.agent.resources import ResourceState, view_of
from confpy.agent.shrink import Guard, KeyCounts
from confpy.agent.suspect_keys import SuspectKeys
from confpy.agent.undone import Undone
from confpy.candidates import Candidate, Own, OwnedFile, Report
from confpy.clock import Backoff, Settle
from confpy.config.for_each import item_of
from confpy.config.resource import Item, Resource
from confpy.errors import ConfpyError, StoreError, TargetError
from confpy.frozen import define, field, replace
from confpy.keys.each import Matches, fill_name, flaw_of, folded
from confpy.messages import Restored


@define
class _Items:
    """The items of one resource."""

    states: dict[str, ResourceState] = field(default_factory=dict)
    """By item, those that are there, and those that are to be removed."""
    orphans: dict[str, ResourceState] = field(default_factory=dict)
    """By target, files of ours that no item names any more: ``dest`` was edited, or confpy did not run."""
    flaws: dict[str, ConfpyError] = field(default_factory=dict)
    """By item, why no file can be made of it."""
    folds: dict[str, dict[str, None]] = field(default_factory=dict)
    """Folded name → the items that have it."""
    is_empty: bool = False
    """It was logged that there are none."""
    is_whole: bool = True
    """All is to be planned anew, not only what has changed."""


class ItemParts(NamedTuple):
    """The parts of the agent that items need."""

    counts: KeyCounts
    drift: Drift
    fallback: Fallback
    rendering: Rendering
    suspect_keys: SuspectKeys
    undone: Undone


class Items:
    """The items of all resources that have some."""

    def __init__(self, core: Core, parts: ItemParts, owned: Iterable[OwnedFile]) -> None:
        """``owned``: what earlier runs have delivered."""
        self._step = core.step
        self._core = core
        self._resources = core.resources
        self._failures = core.failures
        self._end = core.end
        self._noop = core.config.noop
        self._random: Random = core.random
        self._counts, self._drift, self._fallback, self._rendering, self._suspect_keys, self._undone = parts
        self._all: dict[str, _Items] = {}
        """By resource."""
        self._owned = OwnedFiles()
        for one in owned:
            self._owned.add(one)
        self._dests: dict[str, str] = {}
        """Target → the resource that has it."""

    def __bool__(self) -> bool:
        """Whether there is such a resource."""
        return bool(self._all)

    # --- resources ---------------------------------------------------------------------------------------------------

    def adopt(self, plans: Collection[ResourceState], others: Iterable[ResourceState]) -> list[ResourceState]:
        """Take the resources with ``for_each`` that are run from now on; returns the states of their items.

        ``others``: the resources without it.
        """
        names = {state.name for state in plans}
        for name in self._all.keys() - names:
            items = self._all.pop(name)
            for state in (*items.states.values(), *items.orphans.values()):
                self._forget(state)
        self._dests = {os.path.normpath(state.resource.dest): state.name for state in others} if plans else {}
        states: list[ResourceState] = []
        for plan in plans:
            items = self._all.setdefault(plan.name, _Items())
            if plan.matches is None or plan.matches.each != plan.resource.each:
                self.renew(plan)
            for state in (*items.states.values(), *items.orphans.values()):
                self._dests[os.path.normpath(state.resource.dest)] = state.name
                states.append(state)
        return states

    def renew(self, plan: ResourceState) -> None:
        """Plan all items anew: the resource is new, or its file was edited."""
        resource = plan.resource
        assert resource.each is not None
        plan.matches = Matches(resource.each, resource.shared)
        self._all.setdefault(plan.name, _Items()).is_whole = True

    def states_of(self, plan: ResourceState) -> Mapping[str, ResourceState]:
        """Return the states of a resource's items, by item; those that are to be removed are among them."""
        items = self._all.get(plan.name)
        return items.states if items is not None else {}

    def orphans_of(self, plan: ResourceState) -> Collection[ResourceState]:
        """Return those of the files that no item names any more."""
        items = self._all.get(plan.name)
        return items.orphans.values() if items is not None else ()

    def flaws_of(self, plan: ResourceState) -> Mapping[str, ConfpyError]:
        """Return why no file can be made of some of a resource's items, by item."""
        items = self._all.get(plan.name)
        return items.flaws if items is not None else {}

    # --- the plan ----------------------------------------------------------------------------------------------------

    def plan(self, plan: ResourceState, *, cached: bool) -> None:
        """Find out which items a resource has, and mark those that are to be delivered or removed.

        ``cached``: by the cached keys. It stays dirty where that fails, or where its keys are suspect.
        """
        items, resource, matches = self._all[plan.name], plan.resource, plan.matches
        assert matches is not None
        plan.cached = cached
        view = (self._fallback.view(resource) if cached else None) or plan.view
        is_whole = cached or items.is_whole or len(plan.changes) >= MOST_CHANGES
        changed = () if is_whole else tuple(plan.changes)
        touched = matches.update(view, None if is_whole else changed)
        items.is_whole = is_whole  # until the end, should it fail
        if plan.guard.keys is None and (owned := self._owned.of(plan.name)):
            plan.guard.keys = len(owned)  # a kill took away the count, and the files are there
        if (error := self._refusal(plan, cached=cached)) is not None:
            items.is_whole = True
            self._failures.fail(plan, error)
            return
        if not cached and not self._suspect_keys.admits(plan):
            items.is_whole = True
            return
        by_name: dict[str, set[str]] = {}
        for path in changed:
            by_name.setdefault(matches.each.name_in(path), set()).add(path)
        common = by_name.pop("", set()) if touched.is_all else set()
        if is_whole:
            # What is ours already comes first: of two names that are one file it keeps that.
            dest = resource.dest
            # Those that were there at an attempt that was refused are known by their states alone.
            known = {*touched.names, *items.states, *items.flaws}
            names = sorted(known, key=lambda name: (fill_name(dest, name) not in self._owned, name))
        else:
            names = sorted(touched.names)
        for name in names:
            if name in matches.names:
                self._want(plan, items, name, by_name.get(name, set()) | common)
            elif not cached:
                self._drop(plan, items, name)
        if is_whole and not cached:
            self._drop_orphans(plan, items)
        self._finish(plan, items, cached=cached)

    def _refusal(self, plan: ResourceState, *, cached: bool) -> ConfpyError | None:
        resource = plan.resource
        if not cached and (missing := self._rendering.missing_key(resource)) is not None:
            return missing
        if plan.size > resource.max_items:
            return StoreError(
                f"for_each matches {plan.size} keys, more than max_items ({resource.max_items})",
                hint="the files stay as they are; raise max_items if so many are right",
                resource=plan.name,
                file=resource.file,
            )
        return None

    def _finish(self, plan: ResourceState, items: _Items, *, cached: bool) -> None:
        resource = plan.resource
        items.is_whole = cached
        if cached:
            # An empty answer would take these items as well.
            plan.guard = Guard(plan.size, self._core.mirror.replacements(resource.prefixes), named=False)
            if self._end.is_final:
                self._resources.note_try(plan)
                self._resources.set_error(plan, None)
            return
        if not plan.size and not items.is_empty:
            hint = "no file is made until there is one: are for_each, prefix and the store right?"
            where = {"resource": plan.name, "file": plan.resource.file}
            self._step.log("warning", "items.none", **where, error="for_each matches no key", hint=hint)
        items.is_empty = not plan.size
        plan.guard.trust(plan.size, self._core.mirror.replacements(resource.prefixes), named=True)
        plan.guard.named_in_flight = True
        self._counts.note(resource, plan.size, recorded=False)
        plan.outcome, plan.revision = "unchanged", self._core.mirror.revision(resource.prefixes)
        plan.logged, plan.right_since = False, self._step.now
        plan.damping.reset()
        plan.backoff.reset()
        self._resources.end_plan(plan)

    # --- items -------------------------------------------------------------------------------------------------------

    def _want(self, plan: ResourceState, items: _Items, name: str, changes: set[str]) -> None:
        """Take it that there is an item, which is new, or of which something has changed."""
        resource = item_of(plan.resource, name)
        state = items.states.get(name)
        if (error := self._flaw(plan, items, resource, name)) is not None:
            if name not in items.flaws or items.flaws[name].identity != error.identity:
                self._step.log("error", "resource.failed", **error.fields())
            items.flaws[name] = error
            self._end.add(error)
            return
        items.flaws.pop(name, None)
        if state is None:
            # Of an orphan that is wanted again.
            if (orphan := items.orphans.get(resource.dest)) is not None and not orphan.in_flight:
                self._remove(items, orphan)
            state = items.states[name] = self._new(plan, resource)
            twins = items.folds.setdefault(folded(name), {})
            twins[name] = None
            first = items.states.get(next(iter(twins)))
            state.twin = first.resource.dest if first is not None and first is not state else ""
            self._resources.add(state)
            self._undone.adopt(state)
        elif state.resource != resource:
            self._renew(state, resource)
        state.gone = False
        if len(state.changes) < MOST_CHANGES:
            state.changes |= changes
        self._resources.mark(state, plan.trigger if state.tried else "start")

    def _flaw(self, plan: ResourceState, items: _Items, resource: Resource, name: str) -> ConfpyError | None:
        """Return why no file can be made of an item, None where one can."""
        where = {"key": resource.item.key if resource.item else "", "resource": plan.name}
        if flaw := flaw_of(name, plan.resource.dest):
            hint = "the others are delivered; give the key another name, or let for_each match it no more"
            return TargetError(f"no file can be called after this key: {flaw}", hint=hint, **where)
        owner = self._dests.get(os.path.normpath(resource.dest), resource.name)
        orphan = items.orphans.get(resource.dest)
        if owner != resource.name and not (orphan is not None and orphan.name == owner):
            hint = f"{owner} has it; the others are delivered"
            return TargetError("its file is the target of another resource", hint=hint, **where, target=resource.dest)
        other = self._resources.states.get(resource.name)
        if other is not None and other.plan is None:
            hint = f"rename {other.resource.file}"
            return TargetError(f"a resource is called {resource.name}, as this item is", hint=hint, **where)
        return None

    def _new(self, plan: ResourceState, resource: Resource) -> ResourceState:
        view = view_of(resource, self._core.mirror)
        state = ResourceState(0, resource, Settle(0.0, resource.max_wait), Backoff(self._random), view, plan=plan)
        state.owned = self._owned.get(resource.dest)
        self._dests[os.path.normpath(resource.dest)] = resource.name
        return state

    def _renew(self, state: ResourceState, resource: Resource) -> None:
        """Take it that the file of the resource was edited."""
        self._drift.forget(state)
        if state.resource.dest != resource.dest:
            self._dests.pop(os.path.normpath(state.resource.dest), None)
            self._dests[os.path.normpath(resource.dest)] = resource.name
            state.known, state.owned = None, self._owned.get(resource.dest)
        state.resource = resource
        state.view = view_of(resource, self._core.mirror)
        state.suspicions = frozenset()
        self._rendering.forget_failed(state)

    def _drop(self, plan: ResourceState, items: _Items, name: str) -> None:
        """Take it that an item is no more."""
        items.flaws.pop(name, None)
        state = items.states.get(name)
        if state is None:
            return
        if state.gone:
            self._renew_gone(plan, state)
            return
        if state.owned is None and not state.in_flight:
            if state.known is not None:
                self._log_left(state, "confpy did not write it")
            self._remove(items, state)
            return
        state.gone = True
        self._renew_gone(plan, state)
        self._resources.mark(state, "removed")

    def _renew_gone(self, plan: ResourceState, state: ResourceState) -> None:
        """Have a file removed as the resource is by now: what it read before may be read no more."""
        old = state.resource
        resource = replace(plan.resource, name=old.name, dest=old.dest, item=old.item)
        if resource != old:
            self._renew(state, resource)
            self._resources.mark(state)

    def _drop_orphans(self, plan: ResourceState, items: _Items) -> None:
        """Have those files removed that are ours, and that no item names any more."""
        for state in items.orphans.values():
            self._renew_gone(plan, state)
        for dest in [*self._owned.of(plan.name)]:
            owned = self._owned.get(dest)
            if owned is None or os.path.normpath(dest) in self._dests:
                continue
            name = owned.resource if owned.resource not in self._resources.states else f"{plan.name}:{dest}"
            key = "" if plan.resource.each is None else plan.resource.each.base(owned.item)
            resource = replace(plan.resource, name=name, dest=dest, item=Item(plan.name, owned.item, key))
            state = items.orphans[dest] = self._new(plan, resource)
            state.gone, state.trigger = True, "removed"
            self._resources.add(state)
            self._undone.adopt(state)

    def _remove(self, items: _Items, state: ResourceState) -> None:
        """Run an item no more."""
        resource = state.resource
        assert resource.item is not None
        name = resource.item.name
        if items.states.get(name) is state:
            del items.states[name]
            twins = items.folds.get(folded(name), {})
            twins.pop(name, None)
            if not twins:
                items.folds.pop(folded(name), None)
            for number, twin in enumerate(twins):
                other = items.states[twin]
                other.twin = other.twin if number else ""
                self._resources.mark(other, "change")
        else:
            items.orphans.pop(resource.dest, None)
        self._dests.pop(os.path.normpath(resource.dest), None)
        self._forget(state)
        if self._resources.states.get(state.name) is state:
            self._resources.remove(state)

    def _forget(self, state: ResourceState) -> None:
        self._drift.forget(state)
        self._undone.release(state)
        self._rendering.forget(state)

    def _log_left(self, state: ResourceState, reason: str) -> None:
        where = {"resource": state.name, "target": state.resource.dest}
        self._step.log("warning", "item.left", **where, reason=reason, did="leaves the file, whose key is gone")

    # --- what was delivered ------------------------------------------------------------------------------------------

    def take(self, state: ResourceState, candidate: Candidate, report: Report) -> None:
        """Take the report of an item: what of it is ours, and that its file is removed."""
        item = state.resource.item
        if report.error is not None or item is None or self._noop:
            return
        dest = candidate.resource.dest
        before = self._owned.get(dest)
        may_go_back = candidate.resource.on_reload_failure == "rollback" and candidate.resource.reload_cmd is not None
        if candidate.gone:
            if before is not None:
                self._owned.drop(dest)
                if report.outcome == "unchanged":  # no record of a delivery says so
                    self._step.do(Own((), (dest,)))
            state.owned = None
            if state.gone and not (report.outcome == "changed" and may_go_back):
                self._remove(self._all[item.of], state)
            return
        if report.known is None:
            return
        digest = report.known.digest.hex()
        made = OwnedFile(state.name, item.of, item.name, dest, report.path, digest)
        if report.outcome == "changed":
            self._owned.add(made)
            state.owned = made
        elif before is not None and before.of != item.of and before.digest == digest and before.path == report.path:
            # The resource was renamed.
            self._owned.add(made)
            state.owned = made
            self._step.do(Own((made,)))

    def take_reload(self, names: Iterable[str]) -> None:
        """Take it that the reload of these has succeeded: what was removed is not put back any more."""
        for name in names:
            state = self._resources.states.get(name)
            if state is None or state.resource.item is None or not state.gone:
                continue
            if not (state.dirty or state.in_flight):
                self._remove(self._all[state.resource.item.of], state)

    def take_restored(self, restored: Restored) -> None:
        """Take it that a rollback has put back, or removed, files of items, some of which may be no more."""
        for report in restored.reports:
            state = self._resources.states.get(report.resource)
            if state is not None and state.plan is not None and report.error is None:
                self._owned.drop(state.resource.dest)
                state.owned = None
        for one in restored.owned:
            self._owned.add(one)
            state = self._resources.states.get(one.resource)
            plan = self._resources.states.get(one.of)
            if state is not None and state.resource.dest == one.dest:
                state.owned = one
            elif plan is not None and one.of in self._all:
                # An earlier process has removed it, or it was renamed since: it is to be removed again.
                self._all[one.of].is_whole = True
                self._resources.mark(plan)
