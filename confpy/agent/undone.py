"""Resources whose previous files a person has put back (``confpy undo``), held until a person accepts the new. Pure.

A group is held as a whole. The hold is on disk before the previous files are in place, and survives restarts: else the
next start would deliver what was just taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from confpy.agent.core import Core
from confpy.agent.history import DeliveryHistory
from confpy.agent.resources import ResourceState
from confpy.candidates import Candidate, OwnedFile, Report
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.errors import ConfpyError, UsageError
from confpy.frozen import define, replace
from confpy.history.records import UNDO, Answer, FindUndo, Previous, Undo, UndoFound
from confpy.messages import Accepted, Hold, Release

LOOK_INTERVAL = 5.0
"""Seconds from one look whether a person has accepted what is held to the next, in case nobody says so."""


@define
class _Request:
    """An undo that a person has asked for."""

    number: int
    state: ResourceState
    reason: str
    previous_reasons: dict[str, str]
    """Resource → why it was held before."""
    is_found: bool = False
    """It is known what is to be put back."""
    reloading: set[str] | None = None
    """The resources whose programs have still to be reloaded; None: nothing is in place yet."""
    done: tuple[str, ...] = ()
    """The resources that were put back."""
    asked: bool = False
    is_accepted: bool = False
    """A person has accepted meanwhile what was held before."""


class Undone:
    """Holds what was undone, and sees to what is to be."""

    def __init__(self, core: Core, history: DeliveryHistory) -> None:
        self._config = core.config
        self._step = core.step
        self._resources = core.resources
        self._end = core.end
        self._history = history
        self._requests: list[_Request] = []
        self._earlier: dict[str, str] = {}
        """What an earlier run has left."""
        self._held: dict[str, ResourceState] = {}
        self._logged: set[str] = set()
        self._looks_at = NEVER

    # --- what is held ------------------------------------------------------------------------------------------------

    def take_over(self, undone: Mapping[str, str]) -> None:
        """Take what an earlier run has left."""
        self._earlier = dict(undone)

    def adopt(self, state: ResourceState) -> None:
        """Hold a resource that is run from now on, if an earlier run has."""
        if reason := self._earlier.pop(state.name, ""):
            self._hold(state, reason)

    def release(self, state: ResourceState) -> None:
        """Take it that a resource was removed."""
        for request in [one for one in self._requests if one.is_found and one.reloading is None]:
            if state.name in request.previous_reasons and not state.in_flight:
                self._fail(request, UsageError("the resources of its group were edited meanwhile", hint="try again"))
        if state.undone:
            self._free(state)

    def holds(self, states: Sequence[ResourceState]) -> bool:
        """Say whether a group is held."""
        return bool(self._held) and any(state.undone for state in states)

    def note_held(self, states: Sequence[ResourceState]) -> None:
        """Take it that nothing of a group is delivered now, and log that once."""
        for state in states:
            if state.undone and state.name not in self._logged:
                self._logged.add(state.name)
                did = "leaves the target as it was put back"
                hint = f"confpy accept {state.name} delivers what the store wants{self._end.again}"
                where = {"resource": state.name, "target": state.resource.dest, "reason": state.undone}
                self._step.log("warning", "resource.held", **where, did=did, hint=hint)
            state.outcome = "held"
            if self._end.is_final:
                self._resources.note_try(state)

    def _hold(self, state: ResourceState, reason: str) -> None:
        if not state.undone:
            state.undone_at = self._step.now
        state.undone = reason
        self._held[state.name] = state
        if not self._end.is_final:
            self._looks_at = min(self._looks_at, self._step.now + LOOK_INTERVAL)

    def _free(self, state: ResourceState) -> None:
        state.undone, state.to_restore = "", None
        self._held.pop(state.name, None)
        self._logged.discard(state.name)
        self._step.do(Release(state.name))

    # --- an undo -----------------------------------------------------------------------------------------------------

    def begin(self, undo: Undo, *, stops: bool) -> None:
        """Take a request. ``stops``: confpy ends."""
        found = [one for one in self._resources if undo.target in (one.name, one.resource.dest)]
        if error := self._refusal(undo, found, stops=stops):
            self._step.do(Answer(undo.request, error))
            return
        (state,) = found
        reason = reason_of(state.resource)
        group = self._resources.groups[state.group]
        request = _Request(undo.request, state, reason, {one.name: one.undone for one in group})
        self._requests.append(request)
        for one in group:
            # From now on: nothing else may be delivered before it is known what is to be put back.
            self._hold(one, reason)
        self._resources.queue.wake(state.group)  # nobody waits any more for its first try

    def _refusal(self, undo: Undo, found: Sequence[ResourceState], *, stops: bool) -> ConfpyError | None:
        """Return why a request cannot be served, None where it can."""
        if stops:
            return UsageError("confpy is about to stop", hint="try again when it is down: then nothing is asked")
        if self._config.noop or not self._history.is_kept:
            return UsageError(
                "confpy keeps no history", hint="it runs with -noop or -history 0, or without a state folder"
            )
        if not found:
            return UsageError(f"no resource has the target {undo.target}", hint="confpy history lists all of them")
        if found[0].matches is not None:
            hint = f"name one of them, as {found[0].name}:NAME: confpy history lists them"
            return UsageError(f"{found[0].name} makes one file per key", hint=hint)
        if len(found) > 1:
            return UsageError(f"several resources have the target {undo.target}", hint="name one of them")
        if any(request.state.group == found[0].group for request in self._requests):
            return UsageError(f"an undo of {undo.target} is under way", hint="wait until it has ended")
        return None

    def act(self) -> None:
        """Look for what is to be put back, once nothing of its group is being delivered."""
        for request in self._requests:
            group = self._resources.groups.get(request.state.group, [])
            if not request.asked and not any(state.in_flight for state in group):
                request.asked = True
                resources = tuple(state.resource for state in group)
                unwritten = self._history.take()
                self._step.do(FindUndo(request.number, request.state.name, resources, request.reason, unwritten))

    def take_found(self, found: UndoFound) -> None:
        """Take what is to be put back."""
        request = next((one for one in self._requests if one.number == found.request), None)
        if request is None:
            return
        group = self._resources.groups.get(request.state.group, [])
        error = found.error
        if error is None and {state.name for state in group} != found.previous.keys():
            error = UsageError("the resources of its group were edited meanwhile", hint="try again")
        if error is not None:
            self._fail(request, error)
            return
        request.is_found = True
        self._history.note_undo(found.undoes, found.previous)
        for state in group:
            state.to_restore = found.previous[state.name]
            # With its own trigger still: if this fails, what the store wants is delivered next.
            self._resources.mark(state)

    def candidates(self, states: Sequence[ResourceState]) -> list[Candidate] | None:
        """Return the previous contents of a group that are to be put back now, None where there are none."""
        if not self._held:
            return None
        found = [_candidate(state, state.to_restore) for state in states if state.to_restore is not None]
        return found if len(found) == len(states) else None

    def take(self, reports: Collection[Report], undone: Collection[str]) -> None:
        """Take the reports of a delivery that has put back previous contents, or has failed to."""
        by_name = {report.resource: report for report in reports if report.resource in undone}
        for request in [one for one in self._requests if one.is_found and one.state.name in by_name]:
            group = [one for one in self._resources.groups.get(request.state.group, []) if one.name in by_name]
            for state in group:
                state.to_restore = None
            error = next((by_name[one.name].error for one in group if by_name[one.name].error is not None), None)
            if error is not None:
                self._fail(request, error)
                continue
            if not group:
                where = {"resource": request.state.name, "target": request.state.resource.dest}
                hint = "it is delivered like any other if it comes back"
                message = "its file is put back, and the resource was removed meanwhile"
                self._requests.remove(request)
                self._step.do(Answer(request.number, UsageError(message, hint=hint, **where)))
                continue
            changed = [one for one in group if by_name[one.name].outcome == "changed"]
            request.done = tuple(one.name for one in changed)
            names = ", ".join(one.name for one in group)
            did = f"holds it until confpy accept {request.state.name}"
            self._step.log("warning", "resource.undone", resource=names, target=request.state.resource.dest, did=did)
            self._logged.update(one.name for one in group)
            reloads = self._config.reloads
            request.reloading = {one.name for one in changed if reloads and one.resource.reload_cmd is not None}
            self._end_if_done(request)

    def take_reload(self, names: Collection[str], error: ConfpyError | None) -> None:
        """Take how the reload of these ended."""
        for request in [one for one in self._requests if one.reloading and not one.reloading.isdisjoint(names)]:
            assert request.reloading is not None
            if error is not None:
                self._requests.remove(request)
                self._step.do(Answer(request.number, error, request.done))
                continue
            request.reloading.difference_update(names)
            self._end_if_done(request)

    def _end_if_done(self, request: _Request) -> None:
        if not request.reloading:
            self._requests.remove(request)
            self._step.do(Answer(request.number, None, request.done))

    def _fail(self, request: _Request, error: ConfpyError) -> None:
        """Take it that nothing was put back: the group is as free as it was before."""
        self._requests.remove(request)
        group = self._resources.groups.get(request.state.group, [])
        if request.is_found:
            self._history.note_undo((), [state.name for state in group])
        for state in group:
            state.to_restore = None
            if reason := request.previous_reasons.get(state.name, ""):
                state.undone = reason
            else:
                self._free(state)
                state.guard.suspicion = None  # its record is gone, too: it is logged, and recorded, anew
            if state.dirty:
                self._resources.retry(state, -NEVER)
        if request.is_accepted:
            self._accept(group)
        self._step.do(Answer(request.number, error))

    # --- accepted ----------------------------------------------------------------------------------------------------

    @property
    def looks_at(self) -> float:
        """Monotonic time of the next look whether somebody has accepted what is held."""
        return self._looks_at

    def look_if_due(self, *, is_asked: bool = False) -> None:
        """Look whether somebody has accepted what is held. ``is_asked``: a person says so."""
        if self._step.now < self._looks_at and not is_asked:
            return
        busy = {name for request in self._requests for name in request.previous_reasons}
        for name in self._held:
            if name not in busy:
                self._step.do(Hold(name, ""))
        waits = self._held and not self._end.is_final
        self._looks_at = self._step.now + LOOK_INTERVAL if waits else NEVER

    def take_acceptance(self, accepted: Accepted) -> None:
        """Take whether a person has accepted what the store wants."""
        state = self._resources.states.get(accepted.resource)
        if state is None or not state.undone or not accepted.accepted:
            return
        group = self._resources.groups[state.group]
        if request := next((one for one in self._requests if one.state.group == state.group), None):
            # It was asked for later, and is what counts unless it fails.
            request.is_accepted = any(request.previous_reasons.values())
            return
        self._accept(group)

    def _accept(self, group: Sequence[ResourceState]) -> None:
        names = ", ".join(one.name for one in group)
        self._step.log("info", "undo.accepted", resource=names, did="delivers what the store wants")
        for one in group:
            self._free(one)
            # Whatever is suspect about its keys is logged, and recorded, anew.
            one.guard.suspicion = None
            self._resources.mark(one, "accept")


def reason_of(resource: Resource) -> str:
    """Return why the group of a resource is held, for people."""
    return f"confpy undo has put back the file before the last delivery of {resource.dest}"


def _candidate(state: ResourceState, previous: Previous) -> Candidate:
    # The number of keys that what is vanished is measured by stays what it was.
    keys = state.guard.keys if state.guard.keys is not None else len(state.view)
    delivered = state.known.digest if state.known is not None else b""
    return undo_candidate(state.resource, previous, keys, delivered, state.owned)


def undo_candidate(
    resource: Resource, previous: Previous, keys: int, delivered: bytes, owned: OwnedFile | None = None
) -> Candidate:
    """Return what puts back a previous content, with the mode and the owner that its resource sets.

    ``owned``: what is confpy's of an item by now; a rollback of the undo puts that back.
    """
    content = previous.content
    assert content is not None
    if previous.mode and (resource.mode is not None or resource.uid is not None or resource.gid is not None):
        mode = previous.mode if resource.mode is not None else None
        uid = previous.uid if resource.uid is not None else None
        gid = previous.gid if resource.gid is not None else None
        resource = replace(resource, mode=mode, uid=uid, gid=gid)
    return Candidate(resource, content, keys=keys, delivered=delivered, trigger=UNDO, owned=owned)
