"""Targets that something else changed: when they are looked at, and how often they are restored. Pure."""

from __future__ import annotations

from confpy.agent.core import Core
from confpy.agent.reminders import Reminders
from confpy.agent.resources import ResourceState
from confpy.candidates import DeliveredState
from confpy.clock import NEVER, jittered
from confpy.messages import Inspect, Inspected

FREE_RESTORES = 3
"""Restores of the same drift in a row that wait for nothing."""
SHORTEST, LONGEST = 60.0, 3600.0
"""Seconds. The first wait is twice the shorter, or twice the period of the looks if that is longer; none is longer."""


class _Restored:
    # No dataclass: to make one costs a start half a millisecond.
    __slots__ = ("drift", "is_left", "not_before", "times")

    def __init__(self, drift: str) -> None:
        self.drift = drift
        self.times = 0
        self.not_before = -NEVER
        self.is_left = False
        """The last look found it, and it was not restored."""


class Restores:
    """How often the targets were restored whose last look found drift, by resource."""

    def __init__(self, period: float) -> None:
        """``period``: seconds from one look to the next."""
        self._shortest = max(SHORTEST, period)
        self._all: dict[str, _Restored] = {}

    def may_restore(self, resource: str, drift: str, now: float) -> bool:
        """Say whether a drifted target is restored now, and count it if so."""
        found = self._all.get(resource)
        if found is None or found.drift != drift:
            found = self._all[resource] = _Restored(drift)
        found.is_left = now < found.not_before
        if found.is_left:
            return False
        found.times += 1
        if found.times >= FREE_RESTORES:
            found.not_before = now + min(LONGEST, self._shortest * 2.0 ** min(found.times - FREE_RESTORES + 1, 16))
        return True

    def is_new_fight(self, resource: str) -> bool:
        """Say whether the restore that was counted last is the one from which on they wait."""
        return self._all[resource].times == FREE_RESTORES

    def wait(self, resource: str, now: float) -> float:
        """Return the seconds until it may be restored again."""
        return self._all[resource].not_before - now

    def end(self, right: frozenset[str]) -> None:
        """Forget those that a look found to be right."""
        for resource in right & self._all.keys():
            del self._all[resource]

    def forget(self, resource: str) -> None:
        """Forget a resource that was edited or removed."""
        self._all.pop(resource, None)

    def contested(self) -> dict[str, tuple[str, float]]:
        """Return the drift that waits to be restored, and until what monotonic time, by resource."""
        return {name: (one.drift, one.not_before) for name, one in self._all.items() if one.is_left}

    def allow_all(self) -> None:
        """Let the next look restore everything: a person asked for it."""
        for one in self._all.values():
            one.not_before = -NEVER

    def __bool__(self) -> bool:
        return bool(self._all)


class Drift:
    """The looks at all targets, and what follows from what they find."""

    def __init__(self, core: Core) -> None:
        self._period = core.config.period
        self._noop = core.config.noop
        self._step = core.step
        self._resources = core.resources
        self._random = core.random
        self.look_at = NEVER
        """Monotonic time of the next look."""
        self._is_requested = False
        """A look at every target was asked for."""
        self._is_looking = False
        self._inspected: frozenset[str] = frozenset()
        """Resources whose targets are being looked at."""
        self._restores = Restores(self._period)
        self._reminders = Reminders()

    def schedule(self) -> None:
        """Look again when the period is over."""
        self.look_at = self._step.now + jittered(self._period, self._random)

    def request(self) -> None:
        """Look at every target, and restore what has drifted: a person asked for it."""
        self._is_requested = True
        self._restores.allow_all()

    def forget(self, state: ResourceState) -> None:
        """Take it that a resource was edited or removed."""
        self._restores.forget(state.name)
        self._reminders.end(state.name)

    def contested(self) -> dict[str, tuple[str, float]]:
        """As ``Restores``."""
        return self._restores.contested()

    @property
    def is_asked(self) -> bool:
        """Whether a look that was asked for has not ended yet."""
        return self._is_requested or self._is_looking

    def is_due(self, *, delivering: bool) -> bool:
        """Say whether to look now. A look that was asked for waits for what is being written or looked at."""
        is_requested = self._is_requested and not (delivering or self._is_looking)
        return self._step.now >= self.look_at or is_requested

    def look(self, *, delivering: bool) -> list[ResourceState]:
        """Look at every target that is neither about to be written nor being so; returns these resources."""
        self.schedule()
        self._is_requested = self._is_requested and (delivering or self._is_looking)
        # What a person has put back stays so, whatever is done to it.
        idle = [one for one in self._resources if not (one.dirty or one.in_flight or one.undone)]
        targets = tuple((state.resource, state.known) for state in idle if state.known is not None)
        if targets and not self._is_looking and not self._noop:
            self._is_looking = True
            self._inspected = frozenset(resource.name for resource, _ in targets)
            self._step.do(Inspect(targets))
        return idle

    def take(self, inspected: Inspected, *, is_edited: bool) -> None:
        """Take what a look found. ``is_edited``: another configuration is about to be read.

        By that configuration it is judged: the target may be gone because its resource is.
        """
        self._is_looking = False
        self._is_requested = self._is_requested or bool(inspected.drifted and is_edited)
        for name, stamp in inspected.stamps.items():
            state = self._resources.states.get(name)
            if state is None:
                continue
            state.drift = ""
            if state.known is not None:
                state.known = DeliveredState(state.known.digest, stamp)
        self._restores.end(self._inspected - inspected.drifted.keys())
        for name, drift in inspected.drifted.items() if not is_edited else ():
            state = self._resources.states.get(name)
            if state is not None and not state.dirty and not state.in_flight:
                self._take_one(state, drift)

    def _take_one(self, state: ResourceState, drift: str) -> None:
        warns = state.resource.on_drift == "warn"
        if not warns and not self._restores.may_restore(state.name, drift, self._step.now):
            return
        is_new = not warns or state.drift != drift
        if is_new:
            self._reminders.begin(state.name, self._step.now)
        repeated = 0 if is_new else self._reminders.is_due(state.name, self._step.now)
        if is_new or repeated:
            more = {"repeated": repeated} if repeated else {}
            did = "leaves it (on_drift)" if warns else "delivers it again"
            where = {"resource": state.name, "target": state.resource.dest, "template": state.resource.src}
            self._step.log("warning", "target.drifted", **where, drift=drift, did=did, **more)
        state.drift = drift
        if not warns:
            self._warn_of_fight(state, drift)
            self._resources.mark(state, "drift")

    def _warn_of_fight(self, state: ResourceState, drift: str) -> None:
        """Warn, once, that some other program makes the same change after each restore."""
        if not self._restores.is_new_fight(state.name):
            return
        wait = self._restores.wait(state.name, self._step.now)
        did = f"will restore it again in {wait:.0f} s at the earliest, then less often, at least hourly"
        hint = 'on_drift = "warn" leaves it as that program wants it'
        if drift != "missing":
            hint += "; write_once = true makes it where it is missing, and never touches it again"
        fields = {"resource": state.name, "target": state.resource.dest, "drift": drift, "restored": FREE_RESTORES}
        self._step.log("warning", "target.contested", **fields, did=did, hint=hint)
