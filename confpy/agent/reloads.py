"""The reloads that commits owe: one job per command, never twice at once, tried until it succeeds. Pure.

A pending reload is cleared only by a run that began after its commit. A run that fails clears nothing, and is tried
again when its backoff is over, or at once when there is something new to reload. What an earlier run of confpy still
owed is pending as well, with the failures that it counted: otherwise a reload that takes confpy down with it would
repeat at every start.

Where there is a running program that may be told (``ReloadSpec.runtime``), a reload has two phases. What is owed is
told to it as soon as it is in place, whatever the reload would wait for. Only if that does not do, or cannot be
verified, the reload is made; what is committed until it begins joins it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from confpy.agent.commits import Commit, Inherited, RolledBack
from confpy.agent.pending import Pending, all_inherited, clear, events_of, rolled_back, tell_answer
from confpy.agent.reload_queue import ReloadQueue
from confpy.candidates import Report
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.errors import ConfpyError, ReloadError
from confpy.events import LogEvent, abbreviate
from confpy.frozen import replace
from confpy.messages import Action, Reloaded
from confpy.reload.actions import SignalReload
from confpy.reload.spec import LastRun, PendingReload


class PendingReloads(ReloadQueue):
    """What commits owe, and what follows from how a run ends."""

    def owe(self, commit: Commit, now: float) -> None:
        """Note a commit whose resource has a reload command."""
        resource = commit.resource
        spec = resource.reload_spec
        assert spec is not None
        pending = self._pending.get(spec.key) or self._add(spec, now)
        if pending.is_only_look:
            pending.owed_since = now
        if not pending.owed or pending.is_only_look:
            pending.since = now
            pending.splay = self._random.uniform(0.0, resource.splay)
        pending.mix(resource.name, spec)
        if spec.key in self._targets.failed:
            pending.note_failure()
        before = pending.spec
        pending.spec = replace(
            spec,
            timeout=max(before.timeout, spec.timeout),
            interval=max(before.interval, spec.interval),
            verifier=spec.verifier or before.verifier,
            runtime=spec.runtime or before.runtime,
        )
        pending.owed[resource.name] = commit
        pending.records.add(commit.record)
        self._targets.note(spec.key, commit, now)
        self._retry_at(spec.key, pending, -NEVER)

    def announce(self, key: str, now: float) -> Iterator[LogEvent]:
        """Yield a line where what was just owed waits for long, and that was not logged yet."""
        pending = self._pending[key]
        due = self._due(key, pending)
        if pending.in_flight or due - now < 1.0 or due == pending.told or self._is_final:
            return
        pending.told = due
        why = "splay" if due == pending.since + pending.splay else "min_reload_interval"
        if due == self._targets.quiet_at(key):
            why = "settle"
        wait = {"waits_for": why, "retry_in": round(due - now, 1)}
        yield LogEvent("info", "reload.waiting", {"command": key, "resource": abbreviate(list(pending.owed)), **wait})

    def inherit(self, owed: PendingReload, now: float) -> None:
        """Take what an earlier run still owed, or what a rollback of another reload has put back."""
        spec = owed.spec
        pending = self._pending.get(spec.key) or self._add(spec, now)
        if not pending.owed:
            pending.since = now
        pending.mix(", ".join(owed.resources), spec)
        before = pending.spec
        pending.spec = replace(
            before,
            timeout=max(before.timeout, spec.timeout),
            verifier=spec.verifier or before.verifier,
            runtime=spec.runtime or before.runtime,
        )
        pairs = zip(owed.resources, owed.dests, strict=True)
        pending.owed = {**{name: Inherited(name, dest, spec.on_failure) for name, dest in pairs}, **pending.owed}
        pending.records.update(owed.records)
        self._retry_at(spec.key, pending, -NEVER)

    def know(self, resources: Iterable[Resource]) -> None:
        """Take which resources are run now."""
        is_first, self._targets.is_known = not self._targets.is_known, True
        self._targets.know(resources)
        for key, pending in self._pending.items() if is_first else ():
            self._schedule(key, pending)

    def look(self, now: float) -> None:
        """Compare running programs with their files, where nothing is owed."""
        for spec, owed in self._targets.looks():
            if spec.key not in self._pending:
                pending = self._add(spec, now)
                pending.since, pending.owed = now, dict(owed)
                self._schedule(spec.key, pending)

    def release(self) -> Iterator[Action]:
        """Begin to reload: the program has been started, so that what an earlier run owed to it is done."""
        self.is_held = False
        for key, pending in [*self._pending.items()]:
            if isinstance(pending.spec.action, SignalReload) and pending.spec.action.is_for_child:
                pending.records_in_flight |= pending.records
                yield clear(key, pending)
                pending.owed.clear()
                self._forget_if_cleared(key)

    def take_over(self, runs: Mapping[str, LastRun], now: float, wall: float) -> Iterator[Action]:
        """Go on with the waits of an earlier run, after all that it owed is inherited; yield a line for each.

        ``now``: monotonic seconds; ``wall``: seconds since 1970. After a step back of the wall clock the wait begins
        anew, after a step forward it is over; the count of failures is right in both cases. A one-shot run does not
        wait: whoever starts it wants the reload now.
        """
        for key, run in runs.items():
            began = now - max(0.0, wall - run.at)
            pending = self._pending.get(key)
            if not self._is_final:
                self._began[key] = began
            if pending is None:
                continue
            pending.spec = replace(pending.spec, interval=max(pending.spec.interval, run.interval))
            pending.backoff.attempts = max(0, run.failures - 1)
            if run.failures:  # it has failed, or was cut off
                pending.note_failure()
            wait = pending.backoff.wait() if run.failures else 0.0
            if self._is_final:
                continue
            self._retry_at(key, pending, began + wait)
            if (due := self._due(key, pending)) > now:
                fields = {"command": key, "resource": ", ".join(pending.owed), "attempt": run.failures}
                yield LogEvent("info", "reload.waiting", {**fields, "retry_in": round(due - now, 1)})

    def take(self, reloaded: Reloaded, now: float) -> Iterator[Action]:
        """Take how a reload ended, and yield what follows from it."""
        pending = self._pending[reloaded.key]
        if reloaded.by != "reload":
            yield from self._take_answer(reloaded, pending, now)
            return
        pending.error = reloaded.error
        if pending.back == "done":
            yield from self._take_rollback(reloaded, pending, now)
            return
        if self._stopped and reloaded.error is not None:
            # It was cut short, which says nothing about the files.
            pending.owed = {**pending.in_flight, **pending.owed}
            self._end_run(reloaded.key, pending)
            return
        error = reloaded.error and reloaded.error.at(resource=", ".join(pending.in_flight))
        if error is None:
            yield from self._succeed(reloaded, pending)
            return
        policies = {commit.on_failure for commit in pending.in_flight.values()}
        if reloaded.needed is not None:  # the program has read its files: it does not reject them
            yield from self._retry(reloaded.key, pending, error, now)
        elif policies == {"rollback"} and not pending.owed:
            pending.back = "wanted"
            yield LogEvent(
                "error", "reload.failed", {**error.fields(), "did": "puts the previous files back (rollback)"}
            )
        elif policies == {"keep"}:
            self._targets.failed.add(reloaded.key)
            self._end_run(reloaded.key, pending)
            yield LogEvent("error", "reload.failed", {**error.fields(), "did": "leaves it so (on_reload_failure)"})
            yield clear(reloaded.key, pending)
            self._forget_if_cleared(reloaded.key)
        else:
            yield from self._retry(reloaded.key, pending, error, now)

    def _take_answer(self, reloaded: Reloaded, pending: Pending, now: float) -> Iterator[Action]:
        """Take what the running program has made of what it was told."""
        key = reloaded.key
        yield from tell_answer(reloaded, pending.in_flight)
        yield from self._targets.tell_by_hand(reloaded)
        if reloaded.avoided is not None:
            yield from self._succeed(reloaded, pending)
        else:
            pending.owe_again(self._end_run(key, pending))
            pending.needed = pending.needed or reloaded.needed
            self._schedule(key, pending)
            yield from self.announce(key, now)

    def _succeed(self, reloaded: Reloaded, pending: Pending) -> Iterator[Action]:
        """Take it that the program has what it was reloaded for, or told of."""
        key = reloaded.key
        pending.backoff.reset()
        pending.damping.reset()
        pending.needed_in_flight = None
        if reloaded.by == "reload":
            self._targets.failed.discard(key)
        pending.owed_since = pending.since  # of what was owed since the run began
        cleared = self._end_run(key, pending)
        if not pending.owed:
            self._targets.end_burst(key)
        yield clear(key, pending)
        back = [name for name, one in cleared.items() if isinstance(one, RolledBack)]
        if back:
            yield rolled_back(back, key)
        yield from events_of(cleared.values(), reloaded.took)
        if reloaded.unsure:
            unsure = {"resource": ", ".join(cleared), "command": key, "answer": reloaded.answer}
            hint = "let reload_socket_expect judge the answer, or add verify or a verify_cmd"
            yield LogEvent("warning", "reload.unsure", {**unsure, "hint": hint})
        self._forget_if_cleared(key)

    def _retry(
        self, key: str, pending: Pending, error: ConfpyError, now: float, *, is_back: bool = False
    ) -> Iterator[Action]:
        """Owe again a reload that failed, of the new files or, ``is_back``, of the previous ones, which stay."""
        tried = self._end_run(key, pending)
        pending.note_failure()
        if self._is_final:
            fields: dict[str, object] = {**error.fields(), "did": "the reload stays owed, for the next start"}
            if all_inherited(tried.values()):
                yield LogEvent("warning", "reload.failed", fields)
            else:
                yield LogEvent("error", "reload.failed", fields)
            self._forget_if_cleared(key)
            return
        back = {
            name: RolledBack(name, one.dest) for name, one in tried.items() if is_back and name not in pending.stuck
        }
        pending.owed = {**tried, **back, **pending.owed}
        pending.records |= pending.records_in_flight
        wait = pending.backoff.wait()
        self._retry_at(key, pending, now + wait)
        if pending.damping.admits(error.identity, pending.backoff.attempts, now, content=(is_back, *tried.values())):
            did = "the previous files are back; their reload stays owed" if is_back else "the reload stays owed"
            fields = {**error.fields(), "did": did, "attempt": pending.backoff.attempts, "retry_in": round(wait, 1)}
            yield LogEvent("error", "reload.failed", fields)

    def restored(self, reports: Collection[Report], key: str, now: float) -> Iterator[Action]:
        """Take which previous files are back, and reload these. Where none is, the reload of the new stays owed."""
        pending = self._pending[key]
        back = [report for report in reports if report.error is None]
        pending.records_in_flight.update(report.record for report in back)
        pending.stuck = frozenset(report.resource for report in reports if report.error is not None)
        pending.back = "done" if back else "no"
        self._freed.append(key)
        if not back:
            error = ReloadError("there are no previous files to put back", command=key)
            yield from self._retry(key, pending, error.at(resource=", ".join(pending.in_flight)), now)
            return
        yield self._run(key, pending, now, "reload")

    def _take_rollback(self, reloaded: Reloaded, pending: Pending, now: float) -> Iterator[Action]:
        """Take how the reload of the previous files ended: their program may have read the new ones."""
        pending.back = "no"
        names = ", ".join(pending.in_flight)
        if reloaded.error is not None:
            yield from self._retry(reloaded.key, pending, reloaded.error.at(resource=names), now, is_back=True)
            return
        self._end_run(reloaded.key, pending)
        yield rolled_back([names], reloaded.key)
        yield clear(reloaded.key, pending)
        self._forget_if_cleared(reloaded.key)
