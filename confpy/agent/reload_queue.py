"""Which reloads are owed, which of them run now, and until when the others wait. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from heapq import heappop, heappush
from itertools import count
from random import Random

from confpy.agent.commits import Owing
from confpy.agent.pending import Pending, all_inherited, in_lines, left_over, tell_wait
from confpy.agent.runqueue import RunQueue, Wait
from confpy.agent.runtime_targets import RuntimeTargets
from confpy.clock import NEVER, Backoff
from confpy.messages import Action, By, Reload, Restore
from confpy.reload.spec import ReloadSpec

LONGEST = 300.0
"""Seconds between two tries of a reload that keeps failing, at most."""
RELOADS_AT_ONCE = 32
"""Commands that run beside each other; more wait for one to end."""
TOLD_AFTER = 1.0
"""Seconds after which a wait for deliveries is logged: most are over by then."""


class ReloadQueue:
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
        self._targets = RuntimeTargets()

    def stop(self) -> None:
        """Start no more reloads: what is owed stays so, for the next start."""
        self._stopped = True

    def hurry(self) -> None:
        """Try at once what has failed: the cause may have been repaired. Intervals between reloads still hold."""
        for key, pending in self._pending.items():
            self._retry_at(key, pending, -NEVER)

    def end_deliveries(self, commands: Iterable[str]) -> None:
        """Take it that no delivery uses these commands any more."""
        for key in commands:
            if (pending := self._pending.get(key)) is not None:
                self._schedule(key, pending)

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
                    yield from tell_wait({key: found}, "deliveries", wait.until - now)
                self._queue.wait(key, wait)
                continue
            self._queue.forget(key)
            by = found.by
            found.begin(by)
            yield self._run(key, found, now, by)
        if not self._free():
            yield from tell_wait(left_over(self._pending, woken), "other reloads")

    def _wait_of(
        self, key: str, pending: Pending, now: float, delivering: Collection[str], swapped: Collection[str]
    ) -> Wait | None:
        """Return until when one waits that is owed, None where it may run now; the end of a delivery ends its wait."""
        if now < (due := self._due(key, pending)):
            return Wait(due)
        if pending.asks and not self._targets.is_known:
            return Wait()  # the reading of the resources wakes it
        longest = NEVER if key in swapped else pending.since + self._longest_wait
        if key not in delivering or now >= longest:
            return None
        return Wait(min(moment for moment in (pending.since + TOLD_AFTER, longest) if moment > now))

    def _due(self, key: str, pending: Pending) -> float:
        """Return the monotonic time before which it does not run. A running program is told at once."""
        if pending.asks:
            return -NEVER
        began, quiet_at = self._began.get(key, -NEVER), self._targets.quiet_at(key)
        return max(pending.retry_at, pending.since + pending.splay, began + pending.spec.interval, quiet_at)

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

    def _run(self, key: str, pending: Pending, now: float, by: By) -> Reload:
        pending.is_reload_in_flight = by == "reload"
        if by == "reload":
            self._began[key] = now
            self._targets.end_burst(key)
        self._running[key] = pending
        paths = in_lines(commit.dest for commit in pending.in_flight.values())
        environment = {"CONFPY_RESOURCE": in_lines(pending.in_flight), "CONFPY_DEST": paths, "CONFPY_SRC": paths}
        spec, dests = self._targets.complete(pending.spec, by)
        return Reload(spec, environment, pending.backoff.attempts, by, dests)

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
        return all_inherited(self._pending[key].in_flight.values())

    def is_reloading(self, command: str) -> bool:
        """Say whether a reload is in flight."""
        return command in self._running

    def is_reloading_by_itself(self, command: str) -> bool:
        """Say whether a reload is in flight that makes the program read its files."""
        pending = self._running.get(command)
        return pending is not None and pending.is_reload_in_flight

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
        return {key: ", ".join({**pending.in_flight, **pending.owed}) for key, pending, _ in self.states()}

    def states(self) -> Iterator[tuple[str, Pending, float]]:
        """Yield what is owed: its command, its state, and the monotonic time before which it does not run."""
        for key, pending in self._pending.items():
            if not pending.is_only_look:
                yield key, pending, self._due(key, pending)

    @property
    def knows_resources(self) -> bool:
        """As ``RuntimeTargets.is_known``."""
        return self._targets.is_known

    def quiet_at(self, key: str) -> float:
        """As ``RuntimeTargets``."""
        return self._targets.quiet_at(key)

    def owes(self, resource: str) -> bool:
        """Say whether a reload of a resource is owed, or in flight."""
        return any(resource in pending.owed or resource in pending.in_flight for _, pending, _ in self.states())

    def __bool__(self) -> bool:
        return bool(self._pending)

    def wake_at(self, now: float) -> float:
        """Return the monotonic time at which a reload that waits may start: the end of another comes as a message."""
        return NEVER if self._stopped or self.is_held or not self._free() else max(now, self._queue.next_at())
