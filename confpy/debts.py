"""The reloads that commits owe: one job by command, never twice at once, tried until it succeeds. Pure.

A debt is paid only by a run that began after its commit. A run that fails pays nothing, and is tried again when its
backoff is over, or at once when there is something new to reload.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from confpy.clock import Backoff, rarely
from confpy.model import Action, Reload, ReloadBy, Reloaded, Resource, Say
from confpy.placeholders import fill, show

LONGEST = 300.0
"""Seconds between two tries of a reload that keeps failing, at most."""
RELOADS_AT_ONCE = 32
"""Commands that run beside each other; more wait for one to end."""
LIST_BYTES = 64 << 10
"""What a command's variable lists at most: no command can be started with 128 KiB in one variable."""


@dataclass(frozen=True, slots=True)
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

    def tell(self, *, reloaded: bool, reload_took: float = 0.0) -> Say:
        """Return the one line that tells of it."""
        fields = {
            "resource": self.resource.name,
            "target": self.resource.dest,
            "trigger": self.trigger,
            "revision": self.revision,
            "keys": self.keys,
            "took": round(self.took + reload_took, 3),
            "reloaded": reloaded,
        }
        return Say("info", "resource.changed", fields)


@dataclass(slots=True)
class _Debt:
    command: ReloadBy
    written: ReloadBy
    """The command as its resources have it."""
    backoff: Backoff
    timeout: float = 0.0
    owed: dict[str, Commit] = field(default_factory=dict)
    """Resource → its newest commit since the last run began."""
    paying: dict[str, Commit] = field(default_factory=dict)
    """What the run in flight will have paid."""
    since: float = 0.0
    retry_at: float = float("-inf")


class Debts:
    """All that is owed."""

    def __init__(self, random: Random, *, longest_wait: float) -> None:
        """``longest_wait``: seconds for which deliveries of the same command may hold up its reload."""
        self._random = random
        self._longest_wait = longest_wait
        self._debts: dict[str, _Debt] = {}

    def owe(self, commit: Commit, now: float) -> None:
        """Note a commit whose resource has a reload command."""
        resource = commit.resource
        assert resource.reload_cmd is not None
        # The candidate is the target by now: both names mean the same file.
        command = fill(resource.reload_cmd, resource.dest, resource.dest)
        debt = self._debts.get(show(command))
        if debt is None:
            backoff = Backoff(self._random, cap=LONGEST)
            debt = self._debts[show(command)] = _Debt(command, resource.reload_cmd, backoff)
        if not debt.owed:
            debt.since = now
        debt.timeout = max(debt.timeout, resource.reload_cmd_timeout)
        debt.owed[resource.name] = commit
        debt.retry_at = float("-inf")

    def pay(self, now: float, delivering: Collection[str]) -> Iterator[Action]:
        """Yield the reloads to start; ``delivering`` are the commands of the deliveries in flight."""
        room = self._room()
        for key, debt in self._debts.items():
            if not debt.owed or debt.paying or now < debt.retry_at or not room:
                continue
            if show(debt.written) in delivering and now < debt.since + self._longest_wait:
                continue
            debt.paying, debt.owed = debt.owed, {}
            room -= 1
            dests = _lines(commit.resource.dest for commit in debt.paying.values())
            environment = {"CONFPY_RESOURCE": _lines(debt.paying), "CONFPY_DEST": dests, "CONFPY_SRC": dests}
            yield Reload(key, debt.command, debt.timeout, environment)

    def take(self, reloaded: Reloaded, now: float, *, once: bool) -> Iterator[Action]:
        """Take how a reload ended, and yield what to say of it; ``once``: a failure is final."""
        debt = self._debts[reloaded.key]
        tried, debt.paying = debt.paying, {}
        error = reloaded.error and reloaded.error.at(resource=", ".join(tried))
        if error is None:
            debt.backoff.reset()
            yield from (commit.tell(reloaded=True, reload_took=reloaded.took) for commit in tried.values())
        elif once:
            yield Say("error", "reload.failed", error.fields())
        else:
            debt.owed = {**tried, **debt.owed}
            wait = debt.backoff.wait()
            debt.retry_at = now + wait
            if rarely(debt.backoff.attempts):
                fields = {**error.fields(), "did": "the reload stays owed", "retry_in": round(wait, 1)}
                yield Say("error", "reload.failed", fields)
        if not debt.owed:
            del self._debts[reloaded.key]

    def running(self) -> bool:
        return self._room() < RELOADS_AT_ONCE

    def _room(self) -> int:
        """Return how many more reloads may run now."""
        return RELOADS_AT_ONCE - sum(bool(debt.paying) for debt in self._debts.values())

    def owed(self) -> dict[str, str]:
        """Return what is owed, also where a run is at it, which may not come to its end: command → its resources."""
        return {key: ", ".join({**debt.paying, **debt.owed}) for key, debt in self._debts.items()}

    def __bool__(self) -> bool:
        return bool(self._debts)

    def wake_at(self) -> float:
        """Return the monotonic time at which a reload that waits may start."""
        if not self._room():
            return float("inf")
        return min(
            (
                max(debt.retry_at, debt.since + self._longest_wait)
                for debt in self._debts.values()
                if debt.owed and not debt.paying
            ),
            default=float("inf"),
        )


def _lines(names: Iterable[str]) -> str:
    """List names, one a line: the first of them where they are too many for a variable."""
    lines = "\n".join(names)
    if len(lines.encode("utf-8", "surrogateescape")) <= LIST_BYTES:
        return lines
    return lines.encode("utf-8", "surrogateescape")[:LIST_BYTES].rpartition(b"\n")[0].decode("utf-8", "surrogateescape")
