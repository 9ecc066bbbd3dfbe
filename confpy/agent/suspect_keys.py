"""Resources whose keys are suspect: what is logged, when the store is read again, and who may confirm them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from confpy.agent.core import Core
from confpy.agent.reminders import Reminders
from confpy.agent.resources import ResourceState
from confpy.agent.shrink import ShrinkSuspicion
from confpy.clock import NEVER
from confpy.errors import StoreError
from confpy.frozen import NOTHING
from confpy.messages import Accepted, Hold, Release

ACCEPTANCE_INTERVAL = 2.0
"""Seconds from one look whether a person accepted that keys are gone to the next."""


class SuspectKeys:
    """Holds back resources whose keys are suspect."""

    def __init__(self, core: Core) -> None:
        self._config = core.config
        self._step = core.step
        self._core = core
        self._resources = core.resources
        self._failures = core.failures
        self._end = core.end
        self._reminders = Reminders()
        self._lines: dict[str, Mapping[str, int]] = {}
        """Resource → the lines of ``keys`` and ``prefix`` in its file."""
        self._with_keys: ResourceState | None = None
        """One that has a key in this store."""
        self._without_keys = 0
        """The last step in which none had one."""

    def note_lines(self, lines: Mapping[str, Mapping[str, int]]) -> None:
        """Take where the files of resources set ``keys`` and ``prefix``."""
        self._lines = {**self._lines, **lines}

    def admits(self, state: ResourceState) -> bool:
        """Say whether a resource may be rendered with the keys that it has; if not, have them confirmed."""
        guard, mirror, now, keys = state.guard, self._core.mirror, self._step.now, state.size
        before = guard.suspicion
        others = mirror.size() > 0 and (guard.made_from is None or self._some_have_keys())
        resource = state.resource
        parts = mirror.parts(resource.reads) if mirror.is_several else NOTHING
        guard.sizes = state.view.sizes() if parts else NOTHING
        store, read_at = mirror.replacements(resource.prefixes), mirror.read_at(resource.prefixes)
        admitted = guard.admits(resource, keys, store, now, read_at, others=others, parts=parts, sizes=guard.sizes)
        if admitted or state.accepted:
            self._end_suspicion(state, before, keys)
            return True
        assert guard.suspicion is not None
        self._hold(state, guard.suspicion, is_new=guard.suspicion != before)
        return False

    def _some_have_keys(self) -> bool:
        """Say whether the store has a key for some resource: asked only after another kind of store.

        The answer is the one of the last time where that resource still has a key, or where this step gave it.
        """
        with_keys, step = self._with_keys, self._step.number
        if with_keys is not None and len(with_keys.view):
            return True
        if self._without_keys != step:
            self._with_keys = next((one for one in self._resources if len(one.view)), None)
            self._without_keys = step if self._with_keys is None else 0
        return self._with_keys is not None

    def _end_suspicion(self, state: ResourceState, before: ShrinkSuspicion | None, keys: int) -> None:
        """Log why keys that were suspect ``before`` are rendered now."""
        name = state.name
        if state.guard.suspicion is not None:
            why = "a person accepted it" if state.accepted else "another read says so, too"
            self._step.log("warning", "keys.confirmed", resource=name, keys=keys, reason=why)
            mirror, guard = self._core.mirror, state.guard
            store, parts = mirror.replacements(state.resource.prefixes), mirror.parts(state.resource.reads)
            guard.trust(keys, store, named=True, parts=parts, sizes=guard.sizes)
        elif before is not None and state.resource.on_shrink == "render" and keys <= before.keys:
            self._step.log("warning", "keys.confirmed", resource=name, keys=keys, reason='on_shrink = "render"')
        elif before is not None:
            self._step.log("info", "keys.returned", resource=name, keys=keys)
        if before is not None:
            self._step.do(Release(name))
            self._reminders.end(name)
            state.accepted = False

    def _hold(self, state: ResourceState, suspicion: ShrinkSuspicion, *, is_new: bool) -> None:
        now = self._step.now
        if is_new:
            self._reminders.begin(state.name, now)
        repeated = 0 if is_new else self._reminders.is_due(state.name, now)
        if is_new or repeated:
            more = {"repeated": repeated} if repeated else {}
            fields: dict[str, object] = {"reason": suspicion.reason, "did": self._describe_wait(state, suspicion)}
            self._step.log(
                "error", "keys.suspect", resource=state.name, **fields, **self._advise(state, suspicion), **more
            )
        self._step.do(Hold(state.name, suspicion.reason if is_new else ""))
        confirm_at = suspicion.confirm_at
        if now >= confirm_at:
            self._step.actions += self._core.mirror.reread(now, suspicion.reads or state.resource.prefixes).actions
        again_at = min(now + ACCEPTANCE_INTERVAL, confirm_at if confirm_at > now else NEVER)
        self._resources.retry(state, again_at)

    def release(self, state: ResourceState) -> None:
        """Take it that a resource was removed, or reads other keys now."""
        # Of one that is undone as well, the record says that.
        if state.guard.suspicion is not None and not state.undone:
            self._step.do(Release(state.name))

    def look(self, resource: str) -> None:
        """Look now whether a person has accepted that the keys of a resource are gone."""
        state = self._resources.states.get(resource)
        if state is not None and state.guard.suspicion is not None:
            self._step.do(Hold(resource, ""))

    def take_acceptance(self, accepted: Accepted) -> None:
        """Take whether a person accepted that the keys are gone."""
        state = self._resources.states.get(accepted.resource)
        suspicion = state.guard.suspicion if state is not None else None
        if state is None or suspicion is None:
            return
        state.accepted = accepted.accepted
        group = self._resources.groups[state.group]
        if state.accepted:
            for one in group:
                self._resources.retry(one, -NEVER)
        elif self._end.ends_before(suspicion.confirm_at) and not state.tried:
            advice = self._advise(state, suspicion)
            hint = str(advice.pop("hint"))
            error = StoreError(f"{suspicion.reason}: that is not believed", hint=hint, **advice)
            self._failures.fail_group(group, state, error)

    def _describe_wait(self, state: ResourceState, suspicion: ShrinkSuspicion) -> str:
        """Return for the log what happens to a resource meanwhile."""
        # Where no count is known, nothing may ever have been delivered.
        did = "delivers nothing" if state.guard.keys is None and not suspicion.edited else "keeps the target"
        if self._end.ends_before(suspicion.confirm_at):
            limit = self._config.timeout
            short = f": shrink_grace is {state.resource.shrink_grace:g} s, -timeout {limit:g} s"
            return f"{did}, and fails" + (short if suspicion.confirm_at < NEVER else "")
        if suspicion.confirm_at < NEVER:
            return f"{did}; reads again in {max(0.0, suspicion.confirm_at - self._step.now):.0f} s"
        return did

    def _advise(self, state: ResourceState, suspicion: ShrinkSuspicion) -> dict[str, str | int]:
        """Return for the log what to do about it, and where what was edited is."""
        resource, edited = state.resource, suspicion.edited
        accept = f"run confpy accept {resource.name}{self._end.again}"
        if not edited:
            return {"hint": f"{accept}, if they are to be gone"}
        where: dict[str, str | int] = {}
        if edited == "backend":
            wrong = "is it the right store (-backend, -node)?"
        elif edited == "prefix" and self._config.prefix:
            wrong = f"is -prefix right ({self._config.prefix})?"
        else:
            wrong = f"is {edited} right?"
            lines = self._lines.get(resource.name, {})
            where = {"file": resource.file, "key": edited}
            where |= {"line": lines[edited]} if edited in lines else {}
        hint = f'{wrong} If the keys are to be gone, {accept}, or write on_shrink = "render"'
        return {**where, "hint": hint}
