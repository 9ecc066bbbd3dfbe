"""Which resources are run: those of the newest reading of ``conf.d``, and what that says of those of before. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confpy.agent.core import Core
from confpy.agent.drift import Drift
from confpy.agent.passes import Passes
from confpy.agent.rendering import Rendering
from confpy.agent.resources import ResourceState, view_of
from confpy.agent.shrink import KeyCounts
from confpy.agent.suspect_keys import SuspectKeys
from confpy.agent.undone import Undone
from confpy.clock import Backoff, Settle
from confpy.config.resource import Loaded, Resource
from confpy.keys.view import View
from confpy.messages import Follow

if TYPE_CHECKING:
    from confpy.agent.items import Items


class Adoption:
    """Takes resources in, takes edits, and lets go of those that were removed."""

    def __init__(
        self,
        core: Core,
        *,
        counts: KeyCounts,
        drift: Drift,
        passes: Passes,
        rendering: Rendering,
        suspect_keys: SuspectKeys,
        undone: Undone,
    ) -> None:
        self._step = core.step
        self._end = core.end
        self._core = core
        self._random = core.random
        self._resources = core.resources
        self._counts = counts
        self._drift = drift
        self._fallback = passes.fallback
        self._items = passes.items
        self._passes = passes
        self._rendering = rendering
        self._suspect_keys = suspect_keys
        self._undone = undone
        self._followed: tuple[str, ...] = ()
        """The files whose changes are reported."""

    def _get_items(self) -> Items:
        if self._items.now is None:
            from confpy.agent.items import ItemParts, Items  # most runs have none

            parts = (self._counts, self._drift, self._fallback, self._rendering, self._suspect_keys, self._undone)
            self._items.now = Items(self._core, ItemParts(*parts), self._items.owned)
        return self._items.now

    def adopt(self, loaded: Loaded, *, is_first: bool) -> None:
        """Run these resources from now on; those whose file has become invalid go on as they were."""
        self._core.add_stores(loaded.resources)
        before = {name: state for name, state in self._resources.states.items() if state.plan is None}
        self._suspect_keys.note_lines(loaded.lines)
        wanted = {resource.name: resource for resource in loaded.resources}
        invalid = loaded.errors.keys() - wanted.keys()
        wanted |= {name: one.resource for name, one in before.items() if name in invalid}
        states: list[ResourceState] = []
        edited: list[ResourceState] = []
        for name, resource in wanted.items():
            state = before.pop(name, None)
            if state is None:
                state = self._new_state(resource)
                if not is_first:
                    self._step.log("info", "resource.added", resource=name)
            elif state.resource != resource:
                self._renew(state, resource)
                edited.append(state)
            states.append(state)
        plans = [state for state in states if state.resource.each is not None]
        of_items: list[ResourceState] = []
        if plans or self._items.now:
            of_items = self._get_items().adopt(plans, (state for state in states if state.resource.each is None))
        self._resources.adopt([*states, *of_items])
        self._passes.forget_first_tries()
        for state in edited:
            self._resources.mark(state, "edit")
        followed = tuple(sorted({path for state in states for path in state.resource.watch_files}))
        if followed != self._followed and self._end.follows_files:
            self._followed = followed
            self._step.do(Follow(followed))
        for name, state in before.items():
            self._step.log("info", "resource.removed", resource=name, did="left its target unchanged")
            self._drift.forget(state)
            self._suspect_keys.release(state)
            self._undone.release(state)
            self._rendering.forget(state)

    def _new_state(self, resource: Resource) -> ResourceState:
        settle, backoff = settle_of(resource), Backoff(self._random)
        mirror = self._core.mirror
        guard = self._counts.guard(resource, mirror.replacements(resource.prefixes), mirror.parts(resource.reads))
        state = ResourceState(0, resource, settle, backoff, self._view(resource), guard=guard)
        self._undone.adopt(state)
        return state

    def _renew(self, state: ResourceState, resource: Resource) -> None:
        """Take it that a resource's file was edited: everything about it may differ."""
        self._step.log("info", "resource.edited", resource=resource.name)
        self._drift.forget(state)
        if state.resource.dest != resource.dest:
            state.known = None
        if set(state.resource.reads) != set(resource.reads):
            self._suspect_keys.release(state)
            parts = self._core.mirror.parts
            guard = state.guard.after_edit(state.resource, resource, parts(state.resource.reads), parts(resource.reads))
            state.guard, state.accepted = guard, False
        if (state.resource.each is None) != (resource.each is None):
            # What it was delivered as is another kind of thing.
            state.matches, state.known = None, None
            state.guard = self._counts.guard(resource, self._core.mirror.replacements(resource.prefixes))
        state.resource = resource
        if resource.each is not None:
            self._get_items().renew(state)
        state.view = self._view(resource)
        state.settle = settle_of(resource)
        state.suspicions = frozenset()
        self._rendering.forget_failed(state)

    def _view(self, resource: Resource) -> View:
        return view_of(resource, self._core.mirror)


def settle_of(resource: Resource) -> Settle:
    """Return when changes of a resource are delivered: at once, where its running program may be told of them.

    Then what waits is the reload, if one is needed.
    """
    quiet = 0.0 if resource.reload_haproxy is not None else resource.settle
    return Settle(quiet, resource.max_wait)
