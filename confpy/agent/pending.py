"""One reload that is owed, and the lines about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Literal

from confpy.agent.commits import Commit, Inherited, Owing, Unowed
from confpy.clock import NEVER, Backoff, Damping
from confpy.errors import ConfpyError
from confpy.events import LogEvent, abbreviate
from confpy.frozen import define, field
from confpy.messages import By, ClearPending, Reloaded
from confpy.reload.spec import ReloadSpec

if TYPE_CHECKING:
    from confpy.haproxy.values import ReloadNeeded

LIST_BYTES = 64 << 10
"""What a command's variable lists at most: no command can be started with 128 KiB in one variable."""


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
    since_in_flight: float = 0.0
    """``since`` of what the run in flight clears."""
    owed_since: float = 0.0
    """Monotonic time since which one has been owed without a success."""
    error: ConfpyError | None = None
    """Why its last run failed."""
    retry_at: float = -NEVER
    number: int = 0
    """Its place in the order in which they began to be owed."""
    is_next: bool = False
    """It is one of those that run next; between two steps: as soon as there is a free place."""
    needed: ReloadNeeded | None = None
    """Why what is owed takes the reload itself, where the running program could have been told of it."""
    needed_in_flight: ReloadNeeded | None = None
    is_reload_in_flight: bool = False
    """The run in flight is the reload itself."""

    @property
    def asks(self) -> bool:
        """Whether the running program is told of what is owed, before it is reloaded for it."""
        return self.spec.runtime is not None and self.needed is None

    @property
    def by(self) -> By:
        """How the next run is made."""
        if not self.asks:
            return "reload"
        return "look" if all(isinstance(one, Unowed) for one in self.owed.values()) else "runtime"

    @property
    def is_only_look(self) -> bool:
        """Whether nothing is owed: the running program is only compared with its files."""
        if self.spec.runtime is None or self.needed is not None or self.needed_in_flight is not None:
            return False
        return all(isinstance(one, Unowed) for one in chain(self.owed.values(), self.in_flight.values()))

    def mix(self, name: str, spec: ReloadSpec) -> None:
        """Take it that this resource owes it, too, by this specification, which is not merged yet."""
        runtime = self.spec.runtime
        if runtime is None and spec.runtime is None:
            return
        if spec.runtime is None or (self.owed and spec.runtime != runtime):
            from confpy.haproxy.values import ReloadNeeded  # most runs have no such program

            who = name if spec.runtime is None else abbreviate(list(self.owed))
            needed = ReloadNeeded(f"{who} is reloaded by the same command and has no reload_haproxy, or another one")
            self.needed = self.needed or needed

    def begin(self, by: By) -> None:
        """Take it that a run begins."""
        self.is_wait_told = False
        self.in_flight, self.owed = self.owed, {}
        self.records_in_flight, self.records = self.records, set()
        self.since_in_flight = self.since
        if by == "reload":
            self.needed_in_flight, self.needed = self.needed, None

    def note_failure(self) -> None:
        """Take it that the last reload has not succeeded: a program that it has started may be about to take over."""
        if self.spec.runtime is not None:
            from confpy.haproxy.values import ReloadNeeded

            self.needed = self.needed or self.needed_in_flight or ReloadNeeded("the last reload has not succeeded")

    def owe_again(self, tried: Mapping[str, Owing]) -> None:
        """Owe what a run did not clear, which is over."""
        self.owed = {**tried, **self.owed}
        self.records |= self.records_in_flight
        self.records_in_flight = set()
        self.since = min(self.since, self.since_in_flight)


def rolled_back(names: Iterable[str], key: str) -> LogEvent:
    return LogEvent("warning", "reload.rolled_back", {"resource": ", ".join(names), "command": key})


def left_over(pending: Mapping[str, Pending], woken: Iterable[str]) -> dict[str, Pending]:
    """Return those of some that found no free place."""
    return {key: one for key in woken if (one := pending.get(key)) is not None and one.is_next}


def tell_wait(waiting: Mapping[str, Pending], on: str, seconds: float = NEVER) -> Iterator[LogEvent]:
    """Yield a line for what some wait for, once until they run. ``seconds``: at most so long."""
    new = {key: pending for key, pending in waiting.items() if not pending.is_wait_told}
    for pending in new.values():
        pending.is_wait_told = True
    if new:
        until = {"retry_in": round(seconds, 1)} if seconds < NEVER else {}
        names = abbreviate([name for pending in new.values() for name in pending.owed])
        what = {"command": abbreviate(list(new)), "resource": names, "waits_for": on}
        yield LogEvent("info", "reload.waiting", {**what, **until})


def tell_answer(reloaded: Reloaded, names: Iterable[str]) -> Iterator[LogEvent]:
    """Yield the line for what the running program has taken, or could not; none for a look that found all right.

    ``names``: resources of the run.
    """
    what: dict[str, object] = {"command": reloaded.key, "resource": abbreviate(list(names))}
    if (needed := reloaded.needed) is not None:
        where = {"file": needed.file, "line": needed.line, "hint": needed.hint}
        known = {name: value for name, value in where.items() if value}
        yield LogEvent("info", "reload.needed", {**what, "why": needed.why, **known})
    elif (avoided := reloaded.avoided) is not None:
        left = {"left": abbreviate(avoided.left)} if avoided.left else {}
        how = {**what, "plan": avoided.plan, **left, "took": round(reloaded.took, 4)}
        if reloaded.by == "runtime":
            yield LogEvent("info", "reload.avoided", how)
        elif avoided.plan:
            yield LogEvent("warning", "runtime.repaired", how)


def all_inherited(commits: Iterable[Owing]) -> bool:
    return all(isinstance(commit, Inherited) for commit in commits)


def events_of(cleared: Iterable[Owing], took: float) -> Iterator[LogEvent]:
    """Yield a line for each change that its program has now. ``took``: seconds of the reload."""
    for one in cleared:
        if isinstance(one, Commit | Inherited):
            yield one.event(reloaded=True, reload_took=took)


def clear(key: str, pending: Pending) -> ClearPending:
    cleared, pending.records_in_flight = pending.records_in_flight, set()
    return ClearPending(key, tuple(sorted(cleared - {0})))


def in_lines(names: Iterable[str]) -> str:
    """List names, one per line: the first of them where they are too many for a variable."""
    lines = "\n".join(names)
    if len(lines.encode("utf-8", "surrogateescape")) <= LIST_BYTES:
        return lines
    return lines.encode("utf-8", "surrogateescape")[:LIST_BYTES].rpartition(b"\n")[0].decode("utf-8", "surrogateescape")
