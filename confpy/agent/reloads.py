"""The reloads that commits owe: one job by command, never twice at once, tried until it succeeds. Pure.

A debt is paid only by a run that began after its commit. A run that fails pays nothing, and is tried again when its
backoff is over, or at once when there is something new to reload. What an earlier confpy left unpaid is owed, too, with
the failures that it has counted: a reload that takes confpy down with it would else repeat at every start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias

from confpy.clock import NEVER, Backoff, Damping
from confpy.config.resource import Resource, reload_of
from confpy.errors import ConfpyError, ReloadError
from confpy.events import LogEvent
from confpy.frozen import frozen
from confpy.messages import Action, ClearPending, LastRun, Owed, Reload, Reloaded, Report, Restore
from confpy.reload.actions import ReloadAction, Verifier

LONGEST = 300.0
"""Seconds between two tries of a reload that keeps failing, at most."""
RELOADS_AT_ONCE = 32
"""Commands that run beside each other; more wait for one to end."""
LIST_BYTES = 64 << 10
"""What a command's variable lists at most: no command can be started with 128 KiB in one variable."""


@frozen
class Commit:
    """One change of a target."""

    resource: Resource
    trigger: str
    """What made the resource dirty."""
    keys: int
    """How many keys had changed."""
    revision: int
    took: float
    """Seconds."""
    record: int = 0
    """Where it stands in the ledger; 0: nowhere."""

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def dest(self) -> str:
        return self.resource.dest

    @property
    def on_failure(self) -> Literal["retry", "rollback", "keep"]:
        return self.resource.on_reload_failure

    def tell(self, *, reloaded: bool, reload_took: float = 0.0) -> LogEvent:
        """Return the one line that tells of it."""
        ended = {"took": round(self.took + reload_took, 3), "reloaded": reloaded}
        return LogEvent("info", "resource.changed", {**self._fields(), **ended})

    def committed(self) -> LogEvent:
        """Return the line for a file that is in place, and whose reload is still to come."""
        return LogEvent("info", "target.committed", self._fields())

    def _fields(self) -> dict[str, object]:
        return {
            "resource": self.resource.name,
            "target": self.resource.dest,
            "trigger": self.trigger,
            "revision": self.revision,
            "keys": self.keys,
        }


@frozen
class Returned:
    """A file from before that is back, whose reload has failed once and is still owed."""

    name: str
    dest: str
    on_failure: Literal["retry", "rollback", "keep"] = "retry"


@frozen
class Inherited:
    """A commit of an earlier confpy, whose reload is still owed."""

    name: str
    dest: str
    on_failure: Literal["retry", "rollback", "keep"] = "retry"

    def tell(self, *, reloaded: bool, reload_took: float = 0.0) -> LogEvent:
        """Return the one line that tells of its reload."""
        fields = {"resource": self.name, "target": self.dest, "took": round(reload_took, 3), "reloaded": reloaded}
        return LogEvent("info", "reload.recovered", fields)


_Owing: TypeAlias = Commit | Inherited | Returned


@dataclass(slots=True)
class _Debt:
    command: ReloadAction
    backoff: Backoff
    damping: Damping = field(default_factory=Damping)
    timeout: float = 0.0
    verify: Verifier | None = None
    interval: float = 0.0
    """Seconds from the start of one run to that of the next, at least."""
    splay: float = 0.0
    """Seconds that this debt waits of its own accord."""
    owed: dict[str, _Owing] = field(default_factory=dict)
    """Resource → its newest commit since the last run began."""
    paying: dict[str, _Owing] = field(default_factory=dict)
    """What the run in flight will have paid."""
    records: set[int] = field(default_factory=set)
    """Where in the ledger what is owed stands: also commits that a newer one of their resource took the place of."""
    paying_records: set[int] = field(default_factory=set)
    back: Literal["no", "wanted", "on its way", "done"] = "no"
    """How far the old files are put back while this is being paid."""
    stuck: frozenset[str] = frozenset()
    """Resources whose old files could not be put back."""
    since: float = 0.0
    retry_at: float = -NEVER


class PendingReloads:
    """All that is owed."""

    def __init__(self, random: Random, *, longest_wait: float, once: bool = False) -> None:
        """``longest_wait``: seconds for which deliveries of the same command may hold up its reload.

        ``once``: a failure is final for this run of confpy; what is owed stays in the ledger.
        """
        self._random = random
        self._longest_wait = longest_wait
        self._once = once
        self._stopped = False
        self._debts: dict[str, _Debt] = {}
        self._began: dict[str, float] = {}
        """Command → when its last run began."""

    def owe(self, commit: Commit, now: float) -> None:
        """Note a commit whose resource has a reload command."""
        resource = commit.resource
        command = reload_of(resource)
        assert command is not None
        key = command.describe()
        debt = self._debts.get(key)
        if debt is None:
            debt = self._debts[key] = _Debt(command, self._backoff())
        if not debt.owed:
            debt.since = now
            debt.splay = self._random.uniform(0.0, resource.splay)
        debt.command = command
        debt.timeout = max(debt.timeout, resource.reload_cmd_timeout)
        debt.verify = resource.verify_cmd or debt.verify
        debt.interval = max(debt.interval, resource.min_reload_interval)
        debt.owed[resource.name] = commit
        debt.records.add(commit.record)
        debt.retry_at = -NEVER

    def inherit(self, owed: Owed, now: float) -> None:
        """Take over what an earlier confpy left unpaid, or what a rollback of another reload has put back."""
        debt = self._debts.setdefault(owed.key, _Debt(owed.command, self._backoff()))
        if not debt.owed:
            debt.since = now
        debt.timeout = max(debt.timeout, owed.timeout)
        debt.verify = owed.verify or debt.verify
        pairs = zip(owed.resources, owed.dests, strict=True)
        debt.owed = {**{name: Inherited(name, dest, owed.on_failure) for name, dest in pairs}, **debt.owed}
        debt.records.update(owed.records)
        debt.retry_at = -NEVER

    def stop(self) -> None:
        """Start no more reloads: what is owed stays so, for the next start."""
        self._stopped = True

    def take_over(self, runs: Mapping[str, LastRun], now: float, wall: float) -> Iterator[Action]:
        """Go on with the waits of an earlier confpy, after all that it owed is inherited; yield a line for each.

        ``now``: monotonic seconds; ``wall``: seconds since 1970. After a step back of the wall clock the wait begins
        anew, after a step forward it is over; the count of failures is right in both cases. A one-shot run waits for
        nothing: whoever starts it wants the reload now.
        """
        for key, run in runs.items():
            began = now - max(0.0, wall - run.at)
            debt = self._debts.get(key)
            if not self._once:
                self._began[key] = began
            if debt is None:
                continue
            debt.interval = max(debt.interval, run.interval)
            debt.backoff.attempts = max(0, run.failures - 1)
            wait = debt.backoff.wait() if run.failures else 0.0
            if self._once:
                continue
            debt.retry_at = began + wait
            if (due := self._due(key, debt)) > now:
                fields = {"command": key, "resource": ", ".join(debt.owed), "attempt": run.failures}
                yield LogEvent("info", "reload.waiting", {**fields, "retry_in": round(due - now, 1)})

    def hurry(self) -> None:
        """Try what has failed at once: somebody may have mended the reason. Intervals between reloads hold."""
        for debt in self._debts.values():
            debt.retry_at = -NEVER

    def _backoff(self) -> Backoff:
        return Backoff(self._random, cap=LONGEST)

    def pay(self, now: float, delivering: Collection[str], trying: Collection[str] = ()) -> Iterator[Action]:
        """Yield the reloads to start; ``delivering`` are the commands of the deliveries in flight.

        ``trying``: of those, the ones whose targets may be there on trial: no program shall read them.
        """
        room = self._room()
        for key, debt in self._debts.items():
            if debt.back == "wanted" and key not in delivering:
                # A delivery that is under way may have found as it wants what is about to be put back.
                debt.back = "on its way"
                yield Restore(key)
            if self._stopped or not debt.owed or debt.paying or now < self._due(key, debt) or not room:
                continue
            if key in trying or (key in delivering and now < debt.since + self._longest_wait):
                continue
            debt.paying, debt.owed = debt.owed, {}
            debt.paying_records, debt.records = debt.records, set()
            room -= 1
            yield self._run(key, debt, now)

    def _run(self, key: str, debt: _Debt, now: float) -> Reload:
        self._began[key] = now
        dests = _lines(commit.dest for commit in debt.paying.values())
        environment = {"CONFPY_RESOURCE": _lines(debt.paying), "CONFPY_DEST": dests, "CONFPY_SRC": dests}
        return Reload(key, debt.command, debt.timeout, environment, debt.verify, debt.backoff.attempts, debt.interval)

    def _due(self, key: str, debt: _Debt) -> float:
        """Return the monotonic time before which it does not run."""
        return max(debt.retry_at, debt.since + debt.splay, self._began.get(key, -NEVER) + debt.interval)

    def take(self, reloaded: Reloaded, now: float) -> Iterator[Action]:
        """Take how a reload ended, and yield what follows from it."""
        debt = self._debts[reloaded.key]
        if debt.back == "done":
            yield from self._take_return(reloaded, debt, now)
            return
        if self._stopped and reloaded.error is not None:
            # It was cut short, which says nothing of the files.
            debt.owed, debt.paying = {**debt.paying, **debt.owed}, {}
            return
        error = reloaded.error and reloaded.error.at(resource=", ".join(debt.paying))
        if error is None:
            debt.backoff.reset()
            debt.damping.reset()
            paid, debt.paying = debt.paying, {}
            yield _acquit(reloaded.key, debt)
            back = [name for name, one in paid.items() if isinstance(one, Returned)]
            if back:
                yield _rolled_back(back, reloaded.key)
            told = (one for one in paid.values() if not isinstance(one, Returned))
            yield from (one.tell(reloaded=True, reload_took=reloaded.took) for one in told)
            if reloaded.unsure:
                unsure = {"resource": ", ".join(paid), "command": reloaded.key, "answer": reloaded.answer}
                hint = "let reload_socket_expect judge the answer, or add verify or a verify_cmd"
                yield LogEvent("warning", "reload.unsure", {**unsure, "hint": hint})
            self._forget_if_paid(reloaded.key)
            return
        policies = {commit.on_failure for commit in debt.paying.values()}
        if policies == {"rollback"} and not debt.owed:
            debt.back = "wanted"
            yield LogEvent("error", "reload.failed", {**error.fields(), "did": "puts the old files back (rollback)"})
        elif policies == {"keep"}:
            debt.paying = {}
            yield LogEvent("error", "reload.failed", {**error.fields(), "did": "left it so (on_reload_failure)"})
            yield _acquit(reloaded.key, debt)
            self._forget_if_paid(reloaded.key)
        else:
            yield from self._retry(reloaded.key, debt, error, now)

    def _retry(
        self, key: str, debt: _Debt, error: ConfpyError, now: float, *, is_back: bool = False
    ) -> Iterator[Action]:
        """Owe a reload that failed, of the new files or, ``is_back``, of the old ones: these are not put back again."""
        tried, debt.paying = debt.paying, {}
        if self._once:
            fields: dict[str, object] = {**error.fields(), "did": "the reload stays owed, for the next start"}
            if _all_inherited(tried.values()):
                yield LogEvent("warning", "reload.failed", fields)
            else:
                yield LogEvent("error", "reload.failed", fields)
            self._forget_if_paid(key)
            return
        back = {name: Returned(name, one.dest) for name, one in tried.items() if is_back and name not in debt.stuck}
        debt.owed = {**tried, **back, **debt.owed}
        debt.records |= debt.paying_records
        wait = debt.backoff.wait()
        debt.retry_at = now + wait
        if debt.damping.admits(error.reason, debt.backoff.attempts, now, content=(is_back, *tried.values())):
            did = "the old files are back; their reload stays owed" if is_back else "the reload stays owed"
            fields = {**error.fields(), "did": did, "attempt": debt.backoff.attempts, "retry_in": round(wait, 1)}
            yield LogEvent("error", "reload.failed", fields)

    def restored(self, reports: Collection[Report], key: str, now: float) -> Iterator[Action]:
        """The files from before are back, as far as the reports say: tell their program. Else the new stay owed."""
        debt = self._debts[key]
        back = [report for report in reports if report.error is None]
        debt.paying_records.update(report.record for report in back)
        debt.stuck = frozenset(report.resource for report in reports if report.error is not None)
        debt.back = "done" if back else "no"
        if not back:
            error = ReloadError("no old files are kept that could be put back", command=key)
            yield from self._retry(key, debt, error.at(resource=", ".join(debt.paying)), now)
            return
        yield self._run(key, self._debts[key], now)

    def _take_return(self, reloaded: Reloaded, debt: _Debt, now: float) -> Iterator[Action]:
        """Take how the reload of the old files ended: their program may have read the new ones."""
        debt.back = "no"
        names = ", ".join(debt.paying)
        if reloaded.error is not None:
            yield from self._retry(reloaded.key, debt, reloaded.error.at(resource=names), now, is_back=True)
            return
        debt.paying = {}
        yield _rolled_back([names], reloaded.key)
        yield _acquit(reloaded.key, debt)
        self._forget_if_paid(reloaded.key)

    def _forget_if_paid(self, key: str) -> None:
        debt = self._debts[key]
        if not debt.owed:
            if not debt.interval:
                self._began.pop(key, None)
            del self._debts[key]

    def paying(self, key: str) -> frozenset[str]:
        """Return the resources that the run in flight pays for."""
        return frozenset(self._debts[key].paying)

    def is_inherited(self, key: str) -> bool:
        """Say whether all that a run pays was committed by an earlier confpy."""
        return _all_inherited(self._debts[key].paying.values())

    def reloading(self) -> set[str]:
        """Return the commands of the reloads in flight."""
        return {key for key, debt in self._debts.items() if debt.paying}

    def restoring(self) -> set[str]:
        """Return the commands of what is put back now, or as soon as nobody delivers it."""
        return {key for key, debt in self._debts.items() if debt.back in ("wanted", "on its way")}

    def running(self) -> bool:
        return self._room() < RELOADS_AT_ONCE

    def _room(self) -> int:
        """Return how many more reloads may run now."""
        return RELOADS_AT_ONCE - sum(bool(debt.paying) for debt in self._debts.values())

    def owed(self) -> dict[str, str]:
        """Return what is owed, also where a run is at it, which may not come to its end: command → its resources."""
        return {key: ", ".join({**debt.paying, **debt.owed}) for key, debt in self._debts.items()}

    def owes(self, resource: str) -> bool:
        """Say whether a reload is owed for a resource, or is on its way."""
        return any(resource in debt.owed or resource in debt.paying for debt in self._debts.values())

    def __bool__(self) -> bool:
        return bool(self._debts)

    def wake_at(self, now: float) -> float:
        """Return the monotonic time at which a reload that waits may start."""
        waiting = [(key, debt) for key, debt in self._debts.items() if debt.owed and not debt.paying]
        if self._stopped or not waiting or not self._room():
            return NEVER
        dues = ((self._due(key, debt), debt.since + self._longest_wait) for key, debt in waiting)
        # One that is due and does not run is held up by a delivery: its end comes as a message.
        return min(due if due > now else longest if longest > now else NEVER for due, longest in dues)


def _rolled_back(names: Iterable[str], key: str) -> LogEvent:
    return LogEvent("warning", "reload.rolled_back", {"resource": ", ".join(names), "command": key})


def _all_inherited(commits: Iterable[_Owing]) -> bool:
    return all(isinstance(commit, Inherited) for commit in commits)


def _acquit(key: str, debt: _Debt) -> ClearPending:
    paid, debt.paying_records = debt.paying_records, set()
    return ClearPending(key, tuple(sorted(paid - {0})))


def _lines(names: Iterable[str]) -> str:
    """List names, one a line: the first of them where they are too many for a variable."""
    lines = "\n".join(names)
    if len(lines.encode("utf-8", "surrogateescape")) <= LIST_BYTES:
        return lines
    return lines.encode("utf-8", "surrogateescape")[:LIST_BYTES].rpartition(b"\n")[0].decode("utf-8", "surrogateescape")
