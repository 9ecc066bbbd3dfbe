"""What follows from the reports of a delivery, of a reload and of a rollback. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from confpy.agent.batches import Batches
from confpy.agent.commits import Commit
from confpy.agent.core import Core, ItemsOnDemand
from confpy.agent.fallback import Fallback
from confpy.agent.history import DeliveryHistory
from confpy.agent.rejections import Rejections
from confpy.agent.reloads import PendingReloads
from confpy.agent.resources import GroupKey, ResourceState
from confpy.agent.shrink import Guard, KeyCounts
from confpy.agent.undone import Undone
from confpy.agent.watched_files import WatchedFiles
from confpy.candidates import Candidate, Report
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.errors import CheckError, ReloadError
from confpy.events import MOST_NAMES, abbreviate, first_names
from confpy.frozen import NOTHING, replace
from confpy.history.records import UNDO
from confpy.keys.mounts import shown
from confpy.messages import ClearPending, Delivered, Reject, Reloaded, Restored
from confpy.reload.spec import Rejection

if TYPE_CHECKING:
    from confpy.agent.items import Items

DIGITS = 16
"""Of the SHA-256 of a target that a line shows."""
LONGEST_NAME = 200
"""Characters of a key's name that a line shows."""


def judge(reloaded: Reloaded) -> Reloaded:
    """Return what the end of a run means.

    That a running program could not be told of a change is no failure: it needs the reload. That it does not have its
    files after that is one.
    """
    error, needed = reloaded.error, reloaded.needed
    if reloaded.by != "reload":
        from confpy.haproxy.values import ReloadNeeded  # most runs have no such program

        return reloaded if error is None else replace(reloaded, error=None, needed=ReloadNeeded(error.message))
    if error is None and needed is not None:
        where: dict[str, Any] = {name: it for name, it in (("file", needed.file), ("line", needed.line)) if it}
        message = f"it was reloaded, but does not do what its files say: {needed.why}"
        return replace(reloaded, error=ReloadError(message, command=reloaded.key, **where))
    return reloaded


class Deliveries:
    """Takes the reports of what was delivered, reloaded and put back."""

    def __init__(
        self,
        core: Core,
        *,
        fallback: Fallback,
        batches: Batches,
        reloads: PendingReloads,
        rejections: Rejections,
        counts: KeyCounts,
        watched: WatchedFiles,
        history: DeliveryHistory,
        items: ItemsOnDemand[Items],
        undone: Undone,
    ) -> None:
        self._config = core.config
        self._totals = core.totals
        self._step = core.step
        self._core = core
        self._resources = core.resources
        self._failures = core.failures
        self._end = core.end
        self._batches = batches
        self._reloads = reloads
        self._rejections = rejections
        self._counts = counts
        self._watched = watched
        self._fallback = fallback
        self._history = history
        self._items = items
        self._undone = undone
        self._unread: dict[str, set[str]] = {}
        """Reload → the resources with which it has failed since it last succeeded."""

    # --- deliveries --------------------------------------------------------------------------------------------------

    def take(self, delivered: Delivered, *, saves: bool) -> None:
        """Take the reports of a batch. ``saves``: the keys of now are those that were delivered."""
        batch = self._batches.end(delivered.batch)
        sent = {one.resource.name: one for group in batch.groups for one in group.candidates}
        failed: dict[GroupKey, ResourceState] = {}
        held: list[ResourceState] = []
        if self._history.is_kept:
            self._history.note(delivered, batch.groups)
        for report in delivered.reports:
            if report.outcome != "changed":
                self._counts.take_failure(sent[report.resource])
            state = self._resources.states.get(report.resource)
            if state is None:  # its file was removed meanwhile: its program is notified of the change all the same
                self._take_of_removed(sent[report.resource], report)
            elif self._take_report(state, sent[report.resource], report) == "held":
                held.append(state)
            elif report.error is not None:
                failed[state.group] = state
            elif (items := self._items.now) is not None and state.plan is not None:
                items.take(state, sent[report.resource], report)
        for state in held:
            self._hold(state, failed.get(state.group, state))
        if undone := [name for name, one in sent.items() if one.trigger == UNDO]:
            self._undone.take(delivered.reports, undone)
        self._log_unchecked(delivered.reports)
        self._try_again_together(failed.values())
        self.count()
        self._step.actions += self._watched.save(self._step.now)
        if saves:
            self._fallback.save_if_due()
        self._step.actions += self._batches.send()

    def _take_report(self, state: ResourceState, candidate: Candidate, report: Report) -> str:
        """Take the report of one resource; returns its outcome."""
        self._resources.land(state)
        if report.error is not None or candidate.only_missing or candidate.trigger == UNDO:
            state.changes |= state.changes_in_flight  # not delivered yet
        keys, state.changes_in_flight = state.changes_in_flight, set()
        state.outcome = report.outcome
        state.torn = report.torn or (state.torn and report.error is not None)
        for note in report.notes:
            self._step.log("warning", "target.warning", resource=report.resource, warning=note)
        if report.outcome != "held" and report.error is not None:
            is_newer = state.dirty
            self._failures.fail(state, report.error, content=candidate.content)
            if is_newer:  # it changed meanwhile: what failed is not what it wants now
                self._resources.retry(state, -NEVER)
        elif report.outcome != "held":
            self._succeed(state, report, candidate, keys)
        return report.outcome

    def _hold(self, state: ResourceState, culprit: ResourceState) -> None:
        """Keep dirty what was not delivered since another one of its group failed."""
        is_newer = state.dirty
        self._resources.mark(state)
        self._failures.hold_back(state, culprit)
        if is_newer:
            self._resources.retry(state, -NEVER)

    def _log_unchecked(self, reports: Iterable[Report]) -> None:
        unchecked: dict[str, list[str]] = {}
        for report in reports:
            if report.unchecked and report.resource in self._resources.states:
                unchecked.setdefault(report.unchecked, []).append(report.resource)
        for command, names in unchecked.items():
            reason = "not checked: it needs the file in its place"
            self._step.log("warning", "check.skipped", command=command, resource=abbreviate(names), reason=reason)

    def _try_again_together(self, failed: Iterable[ResourceState]) -> None:
        """Let groups that failed a check that they share be due at one time: together they may pass."""
        rejected = [state for state in failed if isinstance(state.error, CheckError)]
        checks = {check for state in rejected for check in self._resources.shared_checks(state.group)}
        if not checks:
            return
        alike = {
            state.group: state.retry_at
            for state in self._resources.failed.values()
            if state.dirty and isinstance(state.error, CheckError)
            if not checks.isdisjoint(self._resources.shared_checks(state.group))
        }
        moment = min(alike.values(), default=NEVER)
        for state in (state for group in alike for state in self._resources.groups[group]):
            self._resources.retry(state, min(state.retry_at, moment))

    def _take_of_removed(self, candidate: Candidate, report: Report) -> None:
        resource = candidate.resource
        if report.outcome == "changed":
            self._counts.note(resource, candidate.keys, recorded=_has_count(candidate, report))
            if resource.reload_cmd is not None and self._config.reloads and not self._reloads.is_held:
                self._owe(Commit(resource, "removed", 0, candidate.revision, report.took, report.record))

    def _succeed(self, state: ResourceState, report: Report, candidate: Candidate, keys: Collection[str] = ()) -> None:
        resource = candidate.resource
        if report.outcome == "changed":
            state.changed_at = self._step.now
            self._totals.commits += 1
            if resource.reload_cmd is None or not self._config.reloads:
                state.loaded_at = self._step.now
        if candidate.only_missing:
            self._fallback.take_delivery(state, report)
            if report.outcome == "changed":  # an empty answer would take these keys from it as well
                self._trust(state, candidate, recorded=bool(report.record))
        elif candidate.trigger == UNDO:
            self._take_undone(state, report)
        else:
            self._take_success(state, report, candidate)
        cause = (candidate.trigger, candidate.changes, candidate.revision)
        origin = self._origin(resource, report, keys) if report.outcome == "changed" else NOTHING
        commit = Commit(resource, *cause, report.took, report.record, origin)
        if report.outcome == "would change":
            where = {"resource": resource.name, "target": resource.dest, "differs": ", ".join(report.differs)}
            self._step.log("warning", "resource.would_change", **where)
        elif report.outcome != "changed":
            self._step.log("debug", "resource.unchanged", resource=resource.name)
        elif resource.reload_cmd is None or not self._config.reloads:
            self._step.do(commit.event(reloaded=False))
        elif self._reloads.is_held:
            self._step.do(commit.event(reloaded=False))
            if commit.record and resource.reload_spec is not None:
                self._step.do(ClearPending(resource.reload_spec.key, (commit.record,)))
        else:
            self._owe(commit)

    def _origin(self, resource: Resource, report: Report, keys: Collection[str]) -> dict[str, object]:
        """Return for the line of a commit what it comes from. Of a sensitive resource there is no digest."""
        found: dict[str, object] = {}
        if keys:
            names = first_names(keys, MOST_NAMES)
            more = len(keys) - len(names)
            named = ", ".join([shown(name)[:LONGEST_NAME] for name in names])
            found["changed"] = f"{named} and {more} more" if more else named
        if report.known is not None and not resource.sensitive:
            found |= {"old": report.old[:DIGITS]} if report.old else {}
            found["new"] = report.known.digest.hex()[:DIGITS]
        if report.known is None and report.path:
            found["removed"] = True
        if resource.output_format is not None or (resource.check_cmd is not None and not self._config.sync_only):
            found["check"] = "passed"
        return found

    def _take_success(self, state: ResourceState, report: Report, candidate: Candidate) -> None:
        """Take it that a target is as the store wants it."""
        resource = candidate.resource
        if state.logged and report.outcome == "unchanged":
            self._step.log("info", "resource.recovered", resource=report.resource)
        self._resources.note_try(state)
        self._resources.set_error(state, None)
        state.revision, state.right_since = candidate.revision, self._step.now
        state.logged = False
        state.damping.reset()
        state.known = report.known if state.resource.dest == resource.dest else None
        self._trust(state, candidate, recorded=_has_count(candidate, report))
        if self._config.reloads and not self._config.noop:
            self._watched.note(resource, candidate.files)
        self._fallback.note_delivery()
        self._end_rejection(resource, report)
        if resource.name not in self._rejections:
            state.backoff.reset()

    def _trust(self, state: ResourceState, candidate: Candidate, *, recorded: bool) -> None:
        """Measure the next keys of a resource by those that its target was made from."""
        mirror, made, now, guard = self._core.mirror, candidate.resource, state.resource, state.guard
        store = mirror.replacements(made.prefixes)
        parts = mirror.parts(made.reads) if mirror.is_several else NOTHING
        self._counts.note(made, candidate.keys, recorded=recorded, parts=parts, sizes=candidate.sizes)
        if state.matches is not None:
            return  # it was edited meanwhile: what counts are its items
        is_edited = made is not now and set(made.reads) != set(now.reads)
        if is_edited or candidate.only_missing:
            guard = state.guard = Guard(None, store, named=False)
        # What came meanwhile has been noted, and may still be suspect.
        guard.trust(candidate.keys, store, named=guard.named_in_flight, parts=parts, sizes=candidate.sizes)
        if candidate.only_missing:
            guard.note_cached()
        if is_edited:
            state.guard = guard.after_edit(made, now, parts, mirror.parts(now.reads))

    def _take_undone(self, state: ResourceState, report: Report) -> None:
        """Take it that a target is what it was before; what the store wants is still to be delivered."""
        self._resources.note_try(state)
        self._resources.set_error(state, None)
        state.logged = False
        state.damping.reset()
        state.backoff.reset()
        state.known = report.known

    def _owe(self, commit: Commit) -> None:
        """Take a commit whose reload is still to come."""
        self._step.do(commit.committed_event())
        self._reloads.owe(commit, self._step.now)
        spec = commit.resource.reload_spec
        assert spec is not None
        self._step.actions += self._reloads.announce(spec.key, self._step.now)

    def count(self, *, at_end: bool = False) -> None:
        """Have the ledger note the counts of keys that no record of a delivery has, and which store they are from."""
        if not self._config.noop:
            for store, identity, newest in self._core.mirror.states():
                self._step.actions += self._counts.unsaved(identity, newest, store, at_end=at_end)

    # --- reloads and rollbacks ---------------------------------------------------------------------------------------

    def take_reload(self, reloaded: Reloaded) -> None:
        reloaded = judge(reloaded)
        if reloaded.by == "look" or (reloaded.by == "runtime" and reloaded.avoided is None):
            self._step.actions += self._reloads.take(reloaded, self._step.now)
            return
        names = self._reloads.in_flight(reloaded.key)
        states = self._resources.states
        if any(states[name].resource.sensitive for name in names & states.keys()):
            reloaded = replace(reloaded, error=reloaded.error and reloaded.error.hide_output(), answer="")
        elif not names <= states.keys():
            # Owed by an earlier run, it may end before the resources are read.
            why = "whether the resource is sensitive is not known"
            reloaded = replace(reloaded, error=reloaded.error and reloaded.error.hide_output(why), answer="")
        if reloaded.error is None:
            # The program has read all its files, also those of which an earlier reload had failed, and was given up.
            names_read = names | self._unread.pop(reloaded.key, set())
            for name in names_read & self._resources.states.keys():
                state = self._resources.states[name]
                state.unread, state.loaded_at = None, self._step.now
                state.reload_avoided = reloaded.avoided is not None
        elif not self._reloads.is_inherited(reloaded.key):
            self._end.add(reloaded.error)
            self._unread.setdefault(reloaded.key, set()).update(names)
            for name in names & self._resources.states.keys():
                self._resources.states[name].unread = reloaded.error
        self._history.note_reload(reloaded, names)
        self._undone.take_reload(names, reloaded.error)
        if reloaded.avoided is not None:
            self._totals.avoided += 1
        elif reloaded.error is None:
            self._totals.reloads += 1
        else:
            self._totals.failed_reloads += 1
        if reloaded.error is None and self._rejections:
            self._end_rejections(names)
        if reloaded.error is None and (items := self._items.now):
            items.take_reload(names)
        self._step.actions += self._reloads.take(reloaded, self._step.now)

    def _end_rejections(self, names: frozenset[str]) -> None:
        """Take it that the reload of these has succeeded: what was rejected of their groups is accepted."""
        states, groups = self._resources.states, self._resources.groups
        members = {one.name for name in names & states.keys() for one in groups[states[name].group]}
        accepted = self._rejections.accept(names | members)
        # The ledger forgets by itself only what owed this reload; of others in the group it has to be told.
        if others := sorted(set(accepted) - names):
            self._step.do(Reject(dict.fromkeys(others)))

    def take_rollback(self, restored: Restored) -> None:
        """Take it that the previous files are back: what the store wants is tried again later, as after a failure."""
        rejections: dict[str, Rejection | None] = {}
        self._history.note_rollback(restored)
        for report in restored.reports:
            name = report.resource
            state = self._resources.states.get(name)
            if rejected := restored.rejected.get(name):
                resource = None if state is None else state.resource
                rejections[name] = self._rejections.add(name, resource, rejected, self._step.now, self._step.wall)
            if state is None:
                continue
            if report.error is None:
                state.known = report.known
            error = ReloadError("the reload rejected it: the previous file is back", resource=report.resource)
            self._failures.fail(state, report.error or error, quiet=report.error is None)
        if self._items.now is not None:
            self._items.now.take_restored(restored)
        else:
            self._items.owned += restored.owned
        if rejections:
            self._step.do(Reject(rejections))
        for owed in restored.owed:
            self._reloads.inherit(owed, self._step.now)
        self._step.actions += self._reloads.restored(restored.reports, restored.key, self._step.now)

    def _end_rejection(self, resource: Resource, report: Report) -> None:
        """Take what is in place now: other content than what was rejected, or that one swapped in again."""
        if resource.name in self._rejections and (report.known is not None or report.path):
            owes = report.outcome == "changed" or self._reloads.owes(resource.name)
            digest = report.known.digest.hex() if report.known is not None else ""
            if self._rejections.commit(resource.name, digest, owes=owes):
                self._step.do(Reject({resource.name: None}))


def _has_count(candidate: Candidate, report: Report) -> bool:
    """Say whether the ledger has had the count of keys of a delivery since before the target was new."""
    return bool(report.record) or (candidate.first_keys and report.outcome == "changed")
