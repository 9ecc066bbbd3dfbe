"""How all resources, the store and the owed reloads are: the ``Status`` of the agent. Pure.

Made on request, by a walk over all resources; a step pays nothing for it but a few times that it notes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from confpy.agent.passes import STORE, FirstTry
from confpy.agent.pending import Pending
from confpy.agent.reload_queue import RELOADS_AT_ONCE
from confpy.agent.resources import Plan, ResourceState
from confpy.clock import NEVER
from confpy.errors import AccessDenied, ConfpyError, StoreError
from confpy.events import abbreviate
from confpy.frozen import fields
from confpy.status.items import with_items
from confpy.status.model import Cause, ReloadStatus, ResourceStatus, State, Status, StoreStatus, Totals
from confpy.templates.lookup import Lookup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confpy.agent.batches import Batches
    from confpy.agent.core import Core
    from confpy.agent.drift import Drift
    from confpy.agent.fallback import Fallback
    from confpy.agent.items import Items
    from confpy.agent.loading import Loading
    from confpy.agent.rejections import Rejections
    from confpy.agent.reloads import PendingReloads
    from confpy.agent.rendering import Rendering
    from confpy.agent.started import Started


class Parts(NamedTuple):
    """The parts of the agent that are asked."""

    core: Core
    loading: Loading
    batches: Batches
    reloads: PendingReloads
    rejections: Rejections
    drift: Drift
    fallback: Fallback
    rendering: Rendering
    items: Items | None


class _Reason(NamedTuple):
    """What a resource waits for."""

    state: State
    cause: Cause
    why: str
    since: float
    """Monotonic seconds."""
    until: float = NEVER


def make_status(parts: Parts, started: Started, *, is_stopping: bool) -> Status:
    """Return how all is now; the daemon adds what belongs to its process."""
    return _Snapshot(parts, is_stopping=is_stopping).status(started)


def _why_needed(pending: Pending) -> str:
    """Return why the running program could not be told of what is owed, and is reloaded; empty: it may be, or is none.

    The file and the line that ask for it are named.
    """
    if (needed := pending.needed_in_flight or pending.needed) is None:
        return ""
    place = ":".join(str(one) for one in (needed.file, needed.line) if one)
    return f"{place}: {needed.why}" if place else needed.why


class _Snapshot:
    """The status at one moment."""

    def __init__(self, parts: Parts, *, is_stopping: bool) -> None:
        self._parts = parts
        self._is_stopping = is_stopping
        self._config = parts.core.config
        self._resources = parts.core.resources
        self._mirror = parts.core.mirror
        self._step = parts.core.step
        self._contested = parts.drift.contested()
        self._reloads = {one.command: one for one in self._describe_reloads()}
        self._owed = {
            name: self._reloads[command]
            for command, pending, _ in parts.reloads.states()
            for name in (*pending.in_flight, *pending.owed)
        }

    def status(self, started: Started) -> Status:
        config = self._config
        _, began_at = self._step.began or (self._step.now, self._step.wall)
        return Status(
            version="",
            pid=0,
            confdir=config.confdir,
            backend=config.backend,
            mode=config.mode,
            since=began_at,
            now=self._step.wall,
            is_started=started.at is not None,
            resources=(*self._describe_all(), *self._invalid()),
            stores=tuple(self._stores()),
            reloads=tuple(self._reloads.values()),
            is_stopping=self._is_stopping,
            totals=Totals(**fields(self._parts.core.totals)),
            started_at=self._wall(started.at),
            missing=started.missing,
        )

    def _wall(self, moment: float | None) -> float:
        """Return a monotonic time as seconds since 1970; 0 where it is none, or will not come."""
        if moment is None or abs(moment) == NEVER:
            return 0.0
        return round(self._step.wall + moment - self._step.now, 3)

    # --- resources ---------------------------------------------------------------------------------------------------

    def _describe_all(self) -> Iterator[ResourceStatus]:
        """Yield the row of each resource; those with ``for_each`` have one for all of their items."""
        items = self._parts.items
        for state in (one for one in self._resources if one.plan is None):
            row = self._describe(state)
            if items is not None and state.matches is not None:
                rows = [*map(self._describe, (*items.states_of(state).values(), *items.orphans_of(state)))]
                flaws = {name: error.fields() for name, error in items.flaws_of(state).items()}
                row = with_items(row, rows, flaws)
            yield row

    def _owner(self, name: str) -> str:
        """Return what the status calls a resource: an item has the row of the resource that it is of."""
        state = self._resources.states.get(name)
        if state is not None:
            return name if state.plan is None else state.plan.name
        plan = self._resources.states.get(name.partition(":")[0])
        return name if plan is None or plan.matches is None else plan.name

    def _describe(self, state: ResourceState) -> ResourceStatus:
        resource = state.resource
        reason = self._reason(state)
        owed = self._owed.get(state.name)
        error = state.error or self._parts.loading.invalid.get(state.name)
        fields = error.fields() if error is not None and reason.state != "current" else None
        sensitive = resource.sensitive
        return ResourceStatus(
            name=state.name,
            target=resource.dest,
            group=resource.group,
            state=reason.state,
            cause=reason.cause,
            why=reason.why,
            since=self._wall(reason.since),
            changed_at=self._wall(state.changed_at),
            loaded_at=self._wall(self._loaded_at(state, reason)),
            revision=state.revision,
            digest="" if state.known is None or sensitive else state.known.digest.hex(),
            reload="" if owed is None else owed.command,
            error=owed.error if reason.state == "owed" and owed is not None else fields,
            next_at=self._wall(reason.until),
            sensitive=sensitive,
            is_public=bool((resource.mode or 0) & 0o004),
        )

    @staticmethod
    def _loaded_at(state: ResourceState, reason: _Reason) -> float | None:
        """Return when a resource was last as it should be; one that was so at the start, since then."""
        return state.right_since if state.loaded_at is None and reason.state == "current" else state.loaded_at

    def _reason(self, state: ResourceState) -> _Reason:
        """Return how a resource is, and what it waits for."""
        if state.in_flight:
            until = state.sent_at + (state.resource.check_cmd_timeout if state.resource.check_cmd else 0.0)
            if state.error is not None and not isinstance(state.error, StoreError):
                # Until this try has succeeded, it is as wrong as before it.
                why = f"{state.error.message}; it is being tried again"
                return _Reason("failed", "delivery", why, state.failed_since, until)
            return _Reason("delivering", "delivery", "it is being delivered", state.sent_at, until)
        if state.undone:
            why = f"{state.undone}; confpy accept {state.name} delivers what the store wants"
            return _Reason("held", "undo", why, state.undone_at)
        if state.dirty:
            return self._reason_of_dirty(state)
        if (owed := self._owed.get(state.name)) is not None:
            why = owed.waits_for or f"its reload runs: {owed.command}"
            if owed.error is not None:
                why = f"its reload failed: {owed.error.get('error')}; {why}"
            elif owed.needed:
                why = f"{why}; a reload is needed: {owed.needed}"
            since = self._step.now - (self._step.wall - owed.since)
            until = owed.next_at - self._step.wall + self._step.now if owed.next_at else NEVER
            return _Reason("owed", owed.cause, why, since, until)
        if state.unread is not None:
            why = f"its reload failed, and is not tried again (on_reload_failure): {state.unread.message}"
            return _Reason("failed", "reload retry", why, state.right_since)
        if state.name in self._contested:
            drift, until = self._contested[state.name]
            why = f"something else changes its target again and again ({drift}); it is restored later"
            return _Reason("drifted", "drift", why, state.right_since, until)
        if state.drift:
            why = f'something else changed its target ({state.drift}); on_drift = "warn" leaves it so'
            return _Reason("drifted", "on_drift", why, state.right_since)
        if (invalid := self._parts.loading.invalid.get(state.name)) is not None:
            why = f"its file is invalid, and it goes on as it was: {invalid.message}"
            return _Reason("failed", "invalid file", why, self._parts.loading.invalid_since)
        if state.outcome == "would change":
            return _Reason("held", "noop", "its target would change; -noop writes nothing", state.right_since)
        return _Reason("current", "", "", state.right_since)

    def _reason_of_dirty(self, state: ResourceState) -> _Reason:
        wait = self._resources.queue.wait_of(state.group)
        until = state.retry_at if wait is None or wait.until == NEVER else wait.until
        suspicion = state.guard.suspicion
        if suspicion is not None:
            ends = suspicion.confirm_at
            then = "reads again then" if ends < NEVER else f"run confpy accept {state.name} if they are to be gone"
            return _Reason("held", "keys suspect", f"{suspicion.reason}; {then}", suspicion.since, ends)
        if state.name in self._parts.rejections and state.error is not None:
            return _Reason("held", "rejected content", state.error.message, state.failed_since, until)
        is_made = state.outcome in {"changed", "unchanged"}
        if state.cached and is_made and (state.error is None or isinstance(state.error, StoreError)):
            return self._reason_of_stale(state)
        if state.error is not None:
            cause, why, until = self._cause_of_error(state, state.error, until)
            return _Reason("failed", cause, why, state.failed_since, until)
        if (culprit := self._culprit(state)) is not None:
            assert culprit.error is not None
            why = f"{culprit.name}, of its group {state.group.name}, failed: {culprit.error.message}"
            return _Reason("held", "group", why, culprit.failed_since, until)
        cause, why, ends = self._cause(state)
        return _Reason("waiting", cause, why, state.wrong_since, ends)

    def _reason_of_stale(self, state: ResourceState) -> _Reason:
        since = state.sent_at or state.wrong_since
        if not self._mirror.ready(state.resource.prefixes):
            why = "it was made from cached keys, and waits for those of the store"
            return _Reason("stale", "cached keys", why, since)
        cause, why, until = self._cause(state)
        return _Reason("stale", cause, f"it was made from cached keys; {why}", since, until)

    def _cause_of_error(self, state: ResourceState, error: ConfpyError, until: float) -> tuple[Cause, str, float]:
        """Return what a resource that failed waits for, and until when. ``until``: of its backoff."""
        message = error.message
        if isinstance(error, StoreError):
            now = self._mirror.error(state.resource.prefixes)
            if isinstance(now, AccessDenied):
                return "prefix denied", message, until
            if now is not None:
                return "store away", message, until
            if "key" in error.where:
                return "missing key", message, until
        if until > self._step.now:
            return "backoff", f"{message}; it is tried again", until
        # The backoff is over, a change has ended it, or the store answers again.
        cause, why, until = self._cause(state)
        return cause, f"{message}; {why}", until

    def _culprit(self, state: ResourceState) -> ResourceState | None:
        """Return the one of its group that failed, so that this one waits; None where there is none."""
        group = self._resources.groups[state.group]
        return next((one for one in group if one.error is not None and one.dirty), None)

    def _cause(self, state: ResourceState) -> tuple[Cause, str, float]:
        """Return what a resource waits for that has not failed, and until when."""
        group = self._resources.groups[state.group]
        wait = self._resources.queue.wait_of(state.group)
        if wait is None:
            then = "confpy stops: it is left to the next start" if self._is_stopping else "it is delivered next"
            return "pass", then, NEVER
        on = wait.on
        if isinstance(on, Lookup):
            what = self._parts.rendering.describe(group, on)
            return "lookup", f"its template asks for {what}, and the answer is awaited", NEVER
        if on is STORE:
            return self._cause_of_store(group)
        if isinstance(on, Plan):
            return "read", f"which files {on.name} makes is found out first", NEVER
        if isinstance(on, FirstTry):
            why = f"a resource that shares its check has had no try yet: {on.check}"
            return "first try", why, NEVER
        if isinstance(on, str):
            return "command", f"{self._user_of(on)}: {on or 'resources without commands are delivered together'}", NEVER
        if isinstance(on, Plan) and state.plan is not None:
            found = self._reason_of_dirty(state.plan)
            return found.cause, f"{state.plan.name}, whose item it is, waits: {found.why}", found.until
        if any(one.in_flight for one in group):
            return "group", f"others of its group {state.group.name} are being delivered", NEVER
        if (undone := next((one for one in group if one.undone), None)) is not None:
            return "group", f"{undone.name}, of its group, is held: {undone.undone}", NEVER
        held = next((one for one in group if one.guard.suspicion is not None), None)
        if held is not None and held.guard.suspicion is not None:
            return "group", f"{held.name}, of its group, is held: {held.guard.suspicion.reason}", wait.until
        if wait.until < NEVER:
            return "settle", "its keys change, and it waits until they are quiet", wait.until
        return "pass", "it had its one try", NEVER

    def _cause_of_store(self, group: Sequence[ResourceState]) -> tuple[Cause, str, float]:
        prefixes = [prefix for one in group for prefix in one.resource.prefixes if not self._mirror.ready((prefix,))]
        lost = self._mirror.error(prefixes)
        if lost is not None and self._mirror.is_loss(lost):
            return "store away", f"its keys were not read yet: {lost.message}", self._mirror.wake_at()
        # They were denied while it was being delivered: that has succeeded since, and failed nothing.
        denials = (self._mirror.error(one.resource.prefixes) for one in group)
        if (denial := next(filter(None, denials), None)) is not None:
            return "prefix denied", denial.message, NEVER
        return "read", f"the first read of its keys is awaited: {abbreviate(prefixes)}", NEVER

    def _user_of(self, command: str) -> str:
        if self._parts.reloads.is_restoring(command):
            return "the previous files of a command are being put back"
        if command in self._parts.batches.busy:
            return "a command is in use by another delivery"
        return "a command is in use by a reload"

    def _invalid(self) -> Iterator[ResourceStatus]:
        """Yield the resources that are not run, since their files are invalid."""
        loading = self._parts.loading
        since = self._wall(loading.invalid_since)
        for name, error in loading.invalid.items():
            if name not in self._resources.states:
                file = str(error.where.get("file", "conf.d"))
                yield ResourceStatus(
                    name or file, "", "", "failed", "invalid file", error.message, since, error=error.fields()
                )

    # --- the store ---------------------------------------------------------------------------------------------------

    def _stores(self) -> Iterator[StoreStatus]:
        for mount, found, revision in self._mirror.statuses(self._step.now):
            name, nodes = self._config.backend, self._config.nodes
            if mount:
                name, nodes = self._config.mounted.get(mount) or self._mirror.who(mount)
            # One that nothing is read from any more is not tried again, and is missed by nobody.
            error = found.error if found.has_readers else None
            yield StoreStatus(
                name=name,
                nodes=nodes,
                is_up=error is None and (found.answered_at is not None or not found.has_readers),
                revision=revision,
                answered_at=self._wall(found.answered_at),
                stream=found.stream,
                error=None if error is None else error.fields(),
                next_at=self._wall(found.next_at),
                denied=found.denied,
                period=self._config.period,
                mount=mount,
            )

    # --- reloads -----------------------------------------------------------------------------------------------------

    def _describe_reloads(self) -> Iterator[ReloadStatus]:
        for command, pending, due in self._parts.reloads.states():
            cause, waits_for, next_at = self._wait_of_reload(command, pending, due)
            yield ReloadStatus(
                command=command,
                resources=tuple(dict.fromkeys(map(self._owner, {**pending.in_flight, **pending.owed}))),
                since=self._wall(pending.owed_since),
                attempts=pending.backoff.attempts,
                is_running=bool(pending.in_flight) and pending.back in {"no", "done"},
                waits_for=waits_for,
                cause=cause,
                next_at=self._wall(next_at),
                error=None if pending.error is None else pending.error.fields(),
                needed=_why_needed(pending),
            )

    def _wait_of_reload(self, command: str, pending: Pending, due: float) -> tuple[Cause, str, float]:
        """Return what a reload waits for, as ``ReloadStatus``; the time is monotonic."""
        if pending.in_flight:
            if pending.back in {"wanted", "in flight"}:
                return "rollback", "the previous files are being put back", NEVER
            return "reload", "", NEVER
        if due > self._step.now:
            if due == pending.retry_at:
                return "reload retry", f"it has failed {pending.backoff.attempts} times and is tried again", due
            if due == pending.since + pending.splay:
                return "splay", "it waits for a random time (splay)", due
            if due == self._parts.reloads.quiet_at(command):
                return "settle", "its targets change, and it waits until they are quiet", due
            return "min_reload_interval", "the last run was less than min_reload_interval ago", due
        if pending.asks and not self._parts.reloads.knows_resources:
            return "pass", "the resources are read first", NEVER
        if command in self._parts.batches.busy:
            return "reload after deliveries", "a delivery of the same command is under way", NEVER
        if pending.is_next:
            return "reload", f"{RELOADS_AT_ONCE} others run, and it waits for one of them to end", NEVER
        return "reload", "it starts next", NEVER
