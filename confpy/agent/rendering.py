"""From keys to candidates: a group is rendered as soon as what its templates ask of the world is known. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from confpy.agent.core import Core
from confpy.agent.fallback import Fallback
from confpy.agent.lookups import Lookups
from confpy.agent.resources import ResourceState
from confpy.agent.shrink import first_parts
from confpy.agent.suspect_keys import SuspectKeys
from confpy.agent.watched_files import WatchedFiles
from confpy.agent.watched_files import lookups as watched_lookups
from confpy.candidates import Candidate
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.errors import ConfpyError, StoreError, TemplateError, bug
from confpy.events import abbreviate
from confpy.keys.mounts import shown
from confpy.keys.view import View
from confpy.messages import Resolved
from confpy.templates.lookup import Lookup, describe
from confpy.templates.results import Compiled, Needs, Rendered, World, template_lookup

MOST_LOOKUPS = 5000
"""Look-ups that one render may need: one that asks for something else each time would never end."""
MOST_SUSPICIONS = 20
"""Warnings that are logged of one resource about questions that can bring nothing."""
FILES = {"file", "hash"}
"""The kinds of look-ups that are about watched files."""


class Renders(Protocol):
    """What the agent needs of ``confpy.templates.renderer.Renderer``."""

    def render(self, resource: Resource, view: View, world: World) -> Rendered: ...


class Rendering:
    """Renders groups of resources, without I/O: what they ask of the world is looked up between two tries."""

    def __init__(
        self,
        core: Core,
        renderer: Renders,
        environ: Mapping[str, str],
        *,
        suspect_keys: SuspectKeys,
        fallback: Fallback,
        watched: WatchedFiles,
    ) -> None:
        self._config = core.config
        self._step = core.step
        self._core = core
        self._resources = core.resources
        self._failures = core.failures
        self._renderer = renderer
        self._environ = environ
        self._suspect_keys = suspect_keys
        self._fallback = fallback
        self._watched = watched
        self._lookups = Lookups()
        self._totals = core.totals

    # --- what templates ask of the world -----------------------------------------------------------------------------

    def world(self) -> World:
        """Return what is known of the world now."""
        return World(self._step.wall, self._environ, self._lookups.facts)

    def awaited(self, states: Sequence[ResourceState]) -> Lookup | None:
        """Return a look-up under way that one of a group waits for, None where there is none.

        The last one's first: where they are answered in order, the group is not looked at for each.
        """
        found = (self._lookups.under_way(state.awaited) for state in reversed(states) if state.awaited)
        return next((lookup for lookup in found if lookup is not None), None)

    def describe(self, states: Sequence[ResourceState], lookup: Lookup) -> str:
        """Name a look-up of a group for people, without what may be a value."""
        named = {template_lookup(one.src, one.engine, one.delimiters) for one in (state.resource for state in states)}
        asked = {one for state in states for one in (*state.awaited, *state.asked) if one.kind == "template"}
        for found in map(self._lookups.facts.get, asked):
            named |= found.needs if isinstance(found, Compiled) else frozenset()
        return describe(lookup, named.__contains__)

    def is_literal(self, lookup: Lookup) -> bool:
        """Say whether a look-up stands in a template word for word, or in a resource. It looks at all templates."""
        sources = (template_lookup(one.resource.src).name for one in self._resources)
        if lookup.kind in FILES or any(lookup.name == name for name in sources):
            return True
        facts = self._lookups.facts.values()
        return any(isinstance(one, Compiled) and lookup in one.needs for one in facts)

    @property
    def is_reading_templates(self) -> bool:
        """Whether templates are being read that were asked for, some of which may have been edited."""
        return self._lookups.is_asking("template")

    def ask(self, lookups: set[Lookup]) -> None:
        self._step.actions += self._lookups.ask(lookups)

    def ask_again(self) -> None:
        """Ask the world again, for those who asked it; what nobody uses is forgotten."""
        self._lookups.forget_unused()
        self.ask({lookup for state in self._resources for lookup in state.asked if lookup.kind != "template"})

    def ask_first(self) -> None:
        """Ask for the templates of resources that were not rendered yet, so that they come while the keys are read."""
        facts = self._lookups.facts
        new = (one.resource for one in self._resources if not (one.asked or one.awaited or one.stale))
        lookups = {template_lookup(one.src, one.engine, one.delimiters) for one in new}
        self.ask({lookup for lookup in lookups if lookup not in facts})

    def ask_templates(self) -> None:
        """Ask for all templates that are used; what is not used now may have changed by the time that it is."""
        self._lookups.forget_unused()
        self.ask({lookup for lookup in self._lookups.used() if lookup.kind == "template"})

    def ask_files(self) -> None:
        """Ask again for the files of resources that watch some."""
        states = self._resources.with_watched_files.values()
        self.ask({one for state in states for one in (*state.asked, *state.stale) if one.kind in FILES})

    def take(self, resolved: Resolved) -> None:
        """Take answers: a resource is dirty where one that it asked for has changed."""
        moved, events = self._lookups.take(resolved, self._step.now)
        self._step.actions += events
        for lookup in resolved.facts:
            self._resources.queue.wake_for(lookup)
        for name in {name for lookup in moved for name in self._lookups.users(lookup)}:
            state = self._resources.states[name]
            if touched := moved & state.asked:
                kinds = {lookup.kind for lookup in touched}
                why = "template" if "template" in kinds else "file" if kinds & FILES else "world"
                self._resources.mark(state, state.trigger if state.dirty else why)

    def forget_failed(self, state: ResourceState) -> None:
        """Forget what an unfinished render of a resource has met: its file was edited."""
        self._lookups.use(state, state.asked)

    def forget(self, state: ResourceState) -> None:
        """Forget what a resource asked for that was removed."""
        self._lookups.use(state, frozenset())

    # --- rendering ---------------------------------------------------------------------------------------------------

    def render(
        self, states: Sequence[ResourceState], world: World, needed: set[Lookup], *, cached: bool
    ) -> list[Candidate] | None:
        """Return the candidates of a group, or None where one of them cannot be made now.

        ``cached``: from cached keys. Look-ups that are needed for it are added to ``needed``.
        """
        if not cached and not self._admits_keys(states):
            return None
        for state in states:
            state.cached = cached
        candidates = []
        for number, state in enumerate(states):
            try:
                content = self._render_one(state, world, cached=cached)
            except Needs as needs:
                self._await(states, state, needs, needed)
                self._await_first_needs(states[number + 1 :], world, needed, cached=cached)
                return None
            except ConfpyError as error:
                self._failures.fail_group(states, state, error)
                return None
            except Exception as error:  # noqa: BLE001 - a bug in confpy stops this group and no other
                self._failures.fail_group(states, state, bug(error))
                return None
            self._totals.renders += 1
            candidates.append(self._candidate(state, content, world, cached=cached))
        return candidates

    def _await(self, states: Sequence[ResourceState], state: ResourceState, needs: Needs, needed: set[Lookup]) -> None:
        """Let a group wait for what the render of one of it needs."""
        self._lookups.wait(state, needs.lookups)
        needed |= needs.lookups
        for one in states:
            one.cached = False
        if len(state.awaited) > MOST_LOOKUPS:
            self._lookups.use(state, state.asked)
            error = TemplateError(f"the template asks for more than {MOST_LOOKUPS} names, paths or templates")
            self._failures.fail_group(states, state, error)

    def _await_first_needs(
        self, states: Sequence[ResourceState], world: World, needed: set[Lookup], *, cached: bool
    ) -> None:
        """Let the rest of a group that waits ask, too, where it was never rendered: not each after the one before.

        Whatever else comes of it is left to the render that is made when all is known.
        """
        for state in states:
            if state.asked or state.awaited:
                continue
            try:
                self._render_one(state, world, cached=cached)
            except Needs as needs:
                if len(needs.lookups) <= MOST_LOOKUPS:
                    self._lookups.wait(state, needs.lookups)
                    needed |= needs.lookups
            except Exception:  # noqa: BLE001 - it will be raised again
                self._lookups.use(state, state.asked)

    def _candidate(self, state: ResourceState, content: bytes, world: World, *, cached: bool) -> Candidate:
        resource = state.resource
        files = self._watched.digest(resource, world.facts)
        renewed = self._config.reloads and not cached and self._watched.are_renewed(resource, files)
        view = self._view(state, cached=cached)
        keys = len(view)
        return Candidate(
            resource,
            content,
            keys=keys,
            first_keys=bool(keys) and state.plan is None and not state.guard.keys and self._config.may_lose_keys,
            first_parts=self._first_parts(state) if state.guard.sizes and not cached else (),
            sizes=view.sizes() if cached and self._core.mirror.is_several else state.guard.sizes,
            only_missing=cached,
            torn=state.torn,
            delivered=state.known.digest if state.known is not None else b"",
            files=files,
            renewed=renewed,
            # Taken now: what comes while the delivery is under way is not in its content.
            revision=0 if cached else self._core.mirror.revision(resource.prefixes),
            trigger=state.trigger,
            changes=len(state.changes),
            gone=state.gone,
            owned=state.owned,
            twin=state.twin,
        )

    def _first_parts(self, state: ResourceState) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
        if state.plan is not None or not self._config.may_lose_keys:
            return ()
        resource = state.resource
        return tuple(first_parts(resource, state.guard, self._core.mirror.parts(resource.reads)))

    def _render_one(self, state: ResourceState, world: World, *, cached: bool) -> bytes:
        """Return a resource's content; raises ``Needs`` and ``ConfpyError``."""
        resource = state.resource
        if state.gone:
            # Not before those can be made that take its place: all of them go into one delivery.
            if (source := template_lookup(resource.src, resource.engine, resource.delimiters)) not in world.facts:
                raise Needs(frozenset({source}))
            self._lookups.use(state, frozenset())
            return b""
        if not cached and (missing := self.missing_key(resource)) is not None:
            raise missing
        if state.stale:
            self._lookups.use(state, state.asked, awaited=state.stale)
            raise Needs(state.awaited)
        try:
            rendered = self._renderer.render(resource, self._view(state, cached=cached), world)
        except TemplateError as error:
            self._lookups.use(state, state.asked, stale=error.asked)
            raise
        watched = watched_lookups(resource)
        # Not as a difference of sets: that would go through all facts.
        if unknown := frozenset(lookup for lookup in watched if lookup not in world.facts):
            raise Needs(unknown)
        self._lookups.use(state, rendered.asked | watched)
        state.timely = rendered.timely
        self._log_skipped(state, rendered)
        if rendered.outside and resource.prefixes:
            raise _outside(rendered.outside)
        self._log_suspicions(state, rendered)
        return rendered.content

    def _view(self, state: ResourceState, *, cached: bool) -> View:
        """Return the keys of a resource: those of the store, or cached ones."""
        return (self._fallback.view(state.resource) if cached else None) or state.view

    def _admits_keys(self, states: Sequence[ResourceState]) -> bool:
        """Say whether a group may be rendered with the keys that it has; where not, it waits as a whole."""
        suspect = [
            state
            for state in states
            # What an item has is admitted, or not, by its plan.
            if state.plan is None and self.missing_key(state.resource) is None and not self._suspect_keys.admits(state)
        ]
        moment = min((one.retry_at for one in suspect), default=NEVER)
        for state in states if suspect else ():
            if state.dirty:
                self._resources.retry(state, moment)
        return not suspect

    def missing_key(self, resource: Resource) -> StoreError | None:
        """Return why the resource fails where a key that it asks for is not in the store, else None."""
        prefixes, texts, given = resource.prefixes, resource.text_prefixes, resource.on_missing
        path = self._core.mirror.lacking(prefixes, texts, given, self._config.on_missing)
        if path is None:
            return None
        hint = 'put it there, or write on_missing = "empty"'
        return StoreError("the key is not in the store", hint=hint, key=shown(path), resource=resource.name)

    def _log_skipped(self, state: ResourceState, rendered: Rendered) -> None:
        for one in rendered.left_out:
            if one not in state.skipped:
                self._step.log("warning", "value.skipped", resource=state.name, key=one.key, reason=one.reason)
        state.skipped = frozenset(rendered.left_out)

    def _log_suspicions(self, state: ResourceState, rendered: Rendered) -> None:
        """Log once what the template asks for in vain, up to a bound: what it computes may differ each time."""
        for one in rendered.suspicions:
            if one not in state.suspicions and len(state.suspicions) < MOST_SUSPICIONS:
                state.suspicions |= {one}
                where = {"resource": state.name, "template": state.resource.src}
                self._step.log("warning", "template.suspicious", **where, asked=one.asked, hint=one.hint)


def _outside(lists: Sequence[str]) -> TemplateError:
    """Return the error of a template that lists only what its resource does not ask for: its file would be empty."""
    hint = "that is not below any of the resource's keys: see keys and prefix in its file"
    return TemplateError(f"what the template lists can only be empty: {abbreviate(lists)}", hint=hint)
