"""The reloads that commits owe: one job per command, never twice at once, tried until it succeeds. Pure.

A pending reload is cleared only by a run that began after its commit. A run that fails clears nothing, and is tried
again when its backoff is over, or at once when there is something new to reload. What an earlier run of confpy still
owed is pending as well, with the failures that it counted: otherwise a reload that takes confpy down with it would
repeat at every start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Literal

from confpy.agent.commits import Commit, Inherited, Owing, RolledBack
from confpy.agent.runqueue import RunQueue, Wait
from confpy.candidates import Report
from confpy.clock import NEVER, Backoff, Damping
from confpy.errors import ConfpyError, ReloadError
from confpy.events import LogEvent, abbreviate
from confpy.frozen import define, field, replace
from confpy.messages import Action, ClearPending, Reload, Reloaded, Restore
from confpy.reload.actions import SignalReload
from confpy.reload.spec import LastRun, PendingReload, ReloadSpec

LONGEST = 300.0
"""Seconds between two tries of a reload that keeps failing, at most."""
RELOADS_AT_ONCE = 32
"""Commands that run beside each other; more wait for one to end."""
LIST_BYTES = 64 << 10
"""What a command's variable lists at most: no command can be started with 128 KiB in one variable."""
TOLD_AFTER = 1.0
"""Seconds after which a wait for deliveries is logged: most are over by then."""


@define
class Pending:
    """One reload that is owed."""

    spec: ReloadSpec
    """The newest, with the longest timeout and interval of all that owe it."""
    backoff: Backoff
    damping: Damping = field(default_factory=Damping)
    splay: float = 0.0
    """Seconds that it waits of its own accord."""
    owed: dict[str, Owing] = field(default_factory=dict)
    """Resource → its newest commit since the last run began."""
    in_flight: dict[str, Owing] = field(default_factory=dict)
    """What the run in flight clears if it succeeds."""
    records: set[int] = field(default_factory=set)
    """The ledger's records of what is owed, including commits that a newer one of their resource has replaced."""
    records_in_flight: set[int] = field(default_factory=set)
    back: Literal["no", "wanted", "in flight", "done"] = "no"
    """How far the rollback of what a failed run had to reload is."""
    told: float = -NEVER  # until when it waits, as it was logged
    is_wait_told: bool = False
    """It was logged that it waits for deliveries, or for one of those that run."""
    stuck: frozenset[str] = frozenset()
    """Resources whose previous files could not be put back."""
    since: float = 0.0
    owed_since: float = 0.0
    """Monotonic time since which one has been owed without a success."""
    error: ConfpyError | None = None
    """Why its last run failed."""
    retry_at: float = -NEVER
    number: int = 0
    """Its place in the order in which they began to be owed."""
    is_next: bool = False
    """It is one of those that run next; between two steps: as soon as there is a free place."""

    def begin(self) -> None:
        """Take it that a run begins."""
        self.is_wait_told = False
        self.in_flight, self.owed = self.owed, {}
        self.records_in_flight, self.records = self.records, set()


class PendingReloads:
    """All reloads that are owed, by command."""

    def __init__(self, random: Random, *, longest_wait: float, is_final: bool = False) -> None:
        """``longest_wait``: seconds for which deliveries of the same command may hold up its reload.

        ``is_final``: a failed reload is not tried again by this run of confpy; what is owed stays in the ledger.
        """
        self._random = random
        self._longest_wait = longest_wait
        self._is_final = is_final
        self._stopped = False
        self.is_held = False
        """The program that confpy runs is still to be started: nothing is reloaded yet, and no commit owes a reload."""
        self._pending: dict[str, Pending] = {}
        self._running: dict[str, Pending] = {}
        """Those with a run in flight, what follows from its failure included."""
        self._queue: RunQueue[str] = RunQueue()
        """When what is owed, and not in flight, is to be run, or looked at again."""
        self._next: list[tuple[int, str]] = []
        """A heap: those that run as soon as there is a free place, by ``number``."""
        self._numbers = count(1)
        self._freed: list[str] = []
        self._began: dict[str, float] = {}
        """Command → when its last run began."""

    def owe(self, commit: Commit, now: float) -> None:
        """Note a commit whose resource has a reload command."""
        resource = commit.resource
        spec = resource.reload_spec
        assert spec is not None
        pending = self._pending.get(spec.key) or self._add(spec, now)
        if not pending.owed:
            pending.since = now
            pending.splay = self._random.uniform(0.0, resource.splay)
        before = pending.spec
        timeout, interval = max(before.timeout, spec.timeout), max(before.interval, spec.interval)
        pending.spec = replace(spec, timeout=timeout, interval=interval, verifier=spec.verifier or before.verifier)
        pending.owed[resource.name] = commit
        pending.records.add(commit.record)
        self._retry_at(spec.key, pending, -NEVER)

    def announce(self, key: str, now: float) -> Iterator[LogEvent]:
        """Yield a line where what was just owed waits for long, and that was not logged yet."""
        pending = self._pending[key]
        due = self._due(key, pending)
        if pending.in_flight or due - now < 1.0 or due == pending.told or self._is_final:
            return
        pending.told = due
        why = "splay" if due == pending.since + pending.splay else "min_reload_interval"
        wait = {"waits_for": why, "retry_in": round(due - now, 1)}
        yield LogEvent("info", "reload.waiting", {"command": key, "resource": abbreviate(list(pending.owed)), **wait})

    def inherit(self, owed: PendingReload, now: float) -> None:
        """Take what an earlier run still owed, or what a rollback of another reload has put back."""
        spec = owed.spec
        pending = self._pending.get(spec.key) or self._add(spec, now)
        if not pending.owed:
            pending.since = now
        timeout = max(pending.spec.timeout, spec.timeout)
        pending.spec = replace(pending.spec, timeout=timeout, verifier=spec.verifier or pending.spec.verifier)
        pairs = zip(owed.resources, owed.dests, strict=True)
        pending.owed = {**{name: Inherited(name, dest, spec.on_failure) for name, dest in pairs}, **pending.owed}
        pending.records.update(owed.records)
        self._retry_at(spec.key, pending, -NEVER)

    def stop(self) -> None:
        """Start no more reloads: what is owed stays so, for the next start."""
        self._stopped = True

    def release(self) -> Iterator[Action]:
        """Begin to reload: the program has been started, so that what an earlier run owed to it is done."""
        self.is_held = False
        for key, pending in [*self._pending.items()]:
            if isinstance(pending.spec.action, SignalReload) and pending.spec.action.is_for_child:
                pending.records_in_flight |= pending.records
                yield _clear(key, pending)
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
            wait = pending.backoff.wait() if run.failures else 0.0
            if self._is_final:
                continue
            self._retry_at(key, pending, began + wait)
            if (due := self._due(key, pending)) > now:
                fields = {"command": key, "resource": ", ".join(pending.owed), "attempt": run.failures}
                yield LogEvent("info", "reload.waiting", {**fields, "retry_in": round(due - now, 1)})

    def hurry(self) -> None:
        """Try at once what has failed: the cause may have been repaired. Intervals between reloads still hold."""
        for key, pending in self._pending.items():
            self._retry_at(key, pending, -NEVER)

    def end_deliveries(self, commands: Iterable[str]) -> None:
        """Take it that no delivery uses these commands any more."""
        for key in commands:
            if (pending := self._pending.get(key)) is not None:
                self._schedule(key, pending)

    def _add(self, spec: ReloadSpec, now: float) -> Pending:
        pending = self._pending[spec.key] = Pending(spec, Backoff(self._random, cap=LONGEST))
        pending.number = next(self._numbers)
        pending.owed_since = now
        return pending

    def _retry_at(self, key: str, pending: Pending, moment: float) -> None:
        pending.retry_at = moment
        self._schedule(key, pending)

    def _schedule(self, key: str, pending: Pending) -> None:
        """Have what is owed looked at when it is due."""
        if pending.owed and not pending.in_flight:
            self._queue.wait(key, Wait(self._due(key, pending)))

    def start(self, now: float, delivering: Collection[str], swapped: Collection[str] = ()) -> Iterator[Action]:
        """Yield the reloads to start; ``delivering`` are the commands of the deliveries in flight.

        ``swapped``: of those, the ones whose targets may be swapped in unchecked: no program may read them.
        """
        for key, pending in self._running.items():
            if pending.back == "wanted" and key not in delivering:
                # A delivery under way may have found unchanged what is about to be put back.
                pending.back = "in flight"
                yield Restore(key)
        if self._stopped or self.is_held:
            return
        woken = sorted(self._queue.take(now), key=lambda key: self._pending[key].number)
        for key in woken:
            pending = self._pending[key]
            if not pending.is_next:
                pending.is_next = True
                heappush(self._next, (pending.number, key))
        while self._next and self._free():
            _, key = heappop(self._next)
            found = self._pending.get(key)
            if found is None or not found.is_next:
                continue  # it was cleared, and may be owed anew
            found.is_next = False
            if not found.owed or found.in_flight:
                continue
            if (wait := self._wait_of(key, found, now, delivering, swapped)) is not None:
                if key in delivering and now >= max(self._due(key, found), found.since + TOLD_AFTER):
                    yield from _tell_wait({key: found}, "deliveries", wait.until - now)
                self._queue.wait(key, wait)
                continue
            self._queue.forget(key)
            found.begin()
            yield self._run(key, found, now)
        if not self._free():
            yield from _tell_wait(_left(self._pending, woken), "other reloads")

    def _wait_of(
        self, key: str, pending: Pending, now: float, delivering: Collection[str], swapped: Collection[str]
    ) -> Wait | None:
        """Return until when one waits that is owed, None where it may run now; the end of a delivery ends its wait."""
        if now < (due := self._due(key, pending)):
            return Wait(due)
        longest = NEVER if key in swapped else pending.since + self._longest_wait
        if key not in delivering or now >= longest:
            return None
        return Wait(min(moment for moment in (pending.since + TOLD_AFTER, longest) if moment > now))

    def _run(self, key: str, pending: Pending, now: float) -> Reload:
        self._began[key] = now
        self._running[key] = pending
        dests = _lines(commit.dest for commit in pending.in_flight.values())
        environment = {"CONFPY_RESOURCE": _lines(pending.in_flight), "CONFPY_DEST": dests, "CONFPY_SRC": dests}
        return Reload(pending.spec, environment, pending.backoff.attempts)

    def _due(self, key: str, pending: Pending) -> float:
        """Return the monotonic time before which it does not run."""
        return max(
            pending.retry_at, pending.since + pending.splay, self._began.get(key, -NEVER) + pending.spec.interval
        )

    def take(self, reloaded: Reloaded, now: float) -> Iterator[Action]:
        """Take how a reload ended, and yield what follows from it."""
        pending = self._pending[reloaded.key]
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
            pending.backoff.reset()
            pending.damping.reset()
            pending.owed_since = pending.since  # of what was owed since the run began
            cleared = self._end_run(reloaded.key, pending)
            yield _clear(reloaded.key, pending)
            back = [name for name, one in cleared.items() if isinstance(one, RolledBack)]
            if back:
                yield _rolled_back(back, reloaded.key)
            changed = (one for one in cleared.values() if not isinstance(one, RolledBack))
            yield from (one.event(reloaded=True, reload_took=reloaded.took) for one in changed)
            if reloaded.unsure:
                unsure = {"resource": ", ".join(cleared), "command": reloaded.key, "answer": reloaded.answer}
                hint = "let reload_socket_expect judge the answer, or add verify or a verify_cmd"
                yield LogEvent("warning", "reload.unsure", {**unsure, "hint": hint})
            self._forget_if_cleared(reloaded.key)
            return
        policies = {commit.on_failure for commit in pending.in_flight.values()}
        if policies == {"rollback"} and not pending.owed:
            pending.back = "wanted"
            yield LogEvent(
                "error", "reload.failed", {**error.fields(), "did": "puts the previous files back (rollback)"}
            )
        elif policies == {"keep"}:
            self._end_run(reloaded.key, pending)
            yield LogEvent("error", "reload.failed", {**error.fields(), "did": "leaves it so (on_reload_failure)"})
            yield _clear(reloaded.key, pending)
            self._forget_if_cleared(reloaded.key)
        else:
            yield from self._retry(reloaded.key, pending, error, now)

    def _retry(
        self, key: str, pending: Pending, error: ConfpyError, now: float, *, is_back: bool = False
    ) -> Iterator[Action]:
        """Owe again a reload that failed, of the new files or, ``is_back``, of the previous ones, which stay."""
        tried = self._end_run(key, pending)
        if self._is_final:
            fields: dict[str, object] = {**error.fields(), "did": "the reload stays owed, for the next start"}
            if _all_inherited(tried.values()):
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
        yield self._run(key, self._pending[key], now)

    def _take_rollback(self, reloaded: Reloaded, pending: Pending, now: float) -> Iterator[Action]:
        """Take how the reload of the previous files ended: their program may have read the new ones."""
        pending.back = "no"
        names = ", ".join(pending.in_flight)
        if reloaded.error is not None:
            yield from self._retry(reloaded.key, pending, reloaded.error.at(resource=names), now, is_back=True)
            return
        self._end_run(reloaded.key, pending)
        yield _rolled_back([names], reloaded.key)
        yield _clear(reloaded.key, pending)
        self._forget_if_cleared(reloaded.key)

    def _end_run(self, key: str, pending: Pending) -> dict[str, Owing]:
        """Take it that the run in flight is over; returns what it was to clear."""
        tried, pending.in_flight = pending.in_flight, {}
        self._running.pop(key, None)
        self._freed.append(key)
        self._schedule(key, pending)
        return tried

    def _forget_if_cleared(self, key: str) -> None:
        pending = self._pending[key]
        if not pending.owed:
            if not pending.spec.interval:
                self._began.pop(key, None)
            self._queue.forget(key)
            del self._pending[key]

    def take_freed(self) -> list[str]:
        """Return the commands that have become free for deliveries since this was asked last."""
        freed, self._freed = self._freed, []
        return freed

    def in_flight(self, key: str) -> frozenset[str]:
        """Return the resources that the run in flight reloads."""
        return frozenset(self._pending[key].in_flight)

    def is_inherited(self, key: str) -> bool:
        """Say whether all that a run reloads was committed by an earlier run of confpy."""
        return _all_inherited(self._pending[key].in_flight.values())

    def is_reloading(self, command: str) -> bool:
        """Say whether a reload is in flight."""
        return command in self._running

    def is_restoring(self, command: str) -> bool:
        """Say whether something of a reload is put back now, or as soon as no delivery of it is under way."""
        pending = self._running.get(command)
        return pending is not None and pending.back in ("wanted", "in flight")

    def running(self) -> bool:
        return bool(self._running)

    def _free(self) -> int:
        """Return how many more reloads may run now."""
        return RELOADS_AT_ONCE - len(self._running)

    def owed(self) -> dict[str, str]:
        """Return what is owed, including what is being reloaded: command → its resources."""
        return {key: ", ".join({**pending.in_flight, **pending.owed}) for key, pending in self._pending.items()}

    def states(self) -> Iterator[tuple[str, Pending, float]]:
        """Yield what is owed: its command, its state, and the monotonic time before which it does not run."""
        for key, pending in self._pending.items():
            yield key, pending, self._due(key, pending)

    def owes(self, resource: str) -> bool:
        """Say whether a reload of a resource is owed, or in flight."""
        return any(resource in pending.owed or resource in pending.in_flight for pending in self._pending.values())

    def __bool__(self) -> bool:
        return bool(self._pending)

    def wake_at(self, now: float) -> float:
        """Return the monotonic time at which a reload that waits may start: the end of another comes as a message."""
        return NEVER if self._stopped or self.is_held or not self._free() else max(now, self._queue.next_at())


def _rolled_back(names: Iterable[str], key: str) -> LogEvent:
    return LogEvent("warning", "reload.rolled_back", {"resource": ", ".join(names), "command": key})


def _left(pending: Mapping[str, Pending], woken: Iterable[str]) -> dict[str, Pending]:
    """Return those of some that found no free place."""
    return {key: one for key in woken if (one := pending.get(key)) is not None and one.is_next}


def _tell_wait(waiting: Mapping[str, Pending], on: str, seconds: float = NEVER) -> Iterator[LogEvent]:
    """Yield a line for what some wait for, once until they run. ``seconds``: at most so long."""
    new = {key: pending for key, pending in waiting.items() if not pending.is_wait_told}
    for pending in new.values():
        pending.is_wait_told = True
    if new:
        until = {"retry_in": round(seconds, 1)} if seconds < NEVER else {}
        names = abbreviate([name for pending in new.values() for name in pending.owed])
        what = {"command": abbreviate(list(new)), "resource": names, "waits_for": on}
        yield LogEvent("info", "reload.waiting", {**what, **until})


def _all_inherited(commits: Iterable[Owing]) -> bool:
    return all(isinstance(commit, Inherited) for commit in commits)


def _clear(key: str, pending: Pending) -> ClearPending:
    cleared, pending.records_in_flight = pending.records_in_flight, set()
    return ClearPending(key, tuple(sorted(cleared - {0})))


def _lines(names: Iterable[str]) -> str:
    """List names, one per line: the first of them where they are too many for a variable."""
    lines = "\n".join(names)
    if len(lines.encode("utf-8", "surrogateescape")) <= LIST_BYTES:
        return lines
    return lines.encode("utf-8", "surrogateescape")[:LIST_BYTES].rpartition(b"\n")[0].decode("utf-8", "surrogateescape")
