"""What templates asked of the world, and the answers so far. Pure."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from confpy.agent.resources import ResourceState
from confpy.clock import Damping
from confpy.errors import ConfpyError
from confpy.events import LogEvent
from confpy.messages import Resolve, Resolved
from confpy.templates.lookup import Lookup
from confpy.templates.results import Compiled

NOTHING: frozenset[Lookup] = frozenset()


class Lookups:
    """Look-ups under way, their answers, and who uses them."""

    def __init__(self) -> None:
        self.facts: dict[Lookup, object] = {}
        """Lookup → its answer, or the error that it ended in."""
        self._asked: set[Lookup] = set()
        self._users: dict[Lookup, str | set[str]] = {}
        """Lookup → the resources that use it; most are used by one alone, which needs no set."""
        self._failing: dict[Lookup, tuple[int, Damping]] = {}
        """Those that failed last time: how often in a row."""
        self._number = 0

    def ask(self, lookups: AbstractSet[Lookup]) -> list[Resolve]:
        """Return what asks for those that are not under way already."""
        new = tuple(sorted(lookups - self._asked, key=lambda lookup: (lookup.kind, lookup.name)))
        if not new:
            return []
        self._number += 1
        self._asked.update(new)
        return [Resolve(self._number, new)]

    def is_asking(self, kind: str) -> bool:
        """Say whether one of a kind is under way."""
        return any(lookup.kind == kind for lookup in self._asked)

    def under_way(self, lookups: AbstractSet[Lookup]) -> Lookup | None:
        """Return one of them that is under way, None where none is."""
        return next(iter(self._asked & lookups), None)

    def use(
        self,
        state: ResourceState,
        asked: frozenset[Lookup],
        *,
        awaited: frozenset[Lookup] = NOTHING,
        stale: frozenset[Lookup] = NOTHING,
    ) -> None:
        """Take what a resource uses from now on: see ``ResourceState``."""
        if asked == state.asked and not (awaited or stale or state.awaited or state.stale):
            return
        before = state.asked | state.awaited | state.stale
        state.asked, state.awaited, state.stale = asked, awaited, stale
        after = asked | awaited | stale
        for lookup in after - before:
            self._add_user(lookup, state.name)
        for lookup in before - after:
            self._remove_user(lookup, state.name)

    def wait(self, state: ResourceState, lookups: frozenset[Lookup]) -> None:
        """Take what the render of a resource waits for, beside what it has waited for."""
        for lookup in lookups - state.awaited:
            self._add_user(lookup, state.name)
        state.awaited |= lookups

    def users(self, lookup: Lookup) -> Collection[str]:
        """Return the resources that use a look-up."""
        found = self._users.get(lookup, ())
        return (found,) if isinstance(found, str) else found

    def used(self) -> AbstractSet[Lookup]:
        """Return the look-ups that some resource uses."""
        return self._users.keys()

    def forget_unused(self) -> None:
        """Forget the answers that are not in use."""
        self.facts = {lookup: answer for lookup, answer in self.facts.items() if lookup in self._users}
        self._failing = {lookup: one for lookup, one in self._failing.items() if lookup in self._users}

    def take(self, resolved: Resolved, now: float) -> tuple[set[Lookup], list[LogEvent]]:
        """Take answers; returns those that differ from the previous ones, and log events.

        An error replaces only an error, or a template: a previous address is worth more than none.
        """
        self._asked.difference_update(resolved.facts)
        moved: set[Lookup] = set()
        events: list[LogEvent] = []
        for lookup, answer in resolved.facts.items():
            before = self.facts.get(lookup)
            if isinstance(answer, Compiled) and answer != before:
                events += _describe(answer)
            if isinstance(answer, ConfpyError) and lookup.kind != "template":
                stays = before is not None and not isinstance(before, ConfpyError)
                attempts, damping = self._failing.get(lookup) or (0, Damping())
                attempts += 1
                self._failing[lookup] = attempts, damping
                if damping.admits(answer.kind, attempts, now):
                    did = "keeps the previous answer" if stays else "the template sees no answer"
                    fields = answer.at(resource=", ".join(sorted(self.users(lookup)))).fields()
                    events.append(LogEvent("warning", "lookup.failed", {**fields, "did": did, "attempt": attempts}))
                if stays:
                    continue
            else:
                self._failing.pop(lookup, None)
            if lookup in self.facts and before != answer:
                moved.add(lookup)
            self.facts[lookup] = answer
        return moved, events

    def _add_user(self, lookup: Lookup, name: str) -> None:
        users = self._users.get(lookup)
        if users is None:
            self._users[lookup] = name
        elif isinstance(users, set):
            users.add(name)
        elif users != name:
            self._users[lookup] = {users, name}

    def _remove_user(self, lookup: Lookup, name: str) -> None:
        users = self._users[lookup]
        if isinstance(users, set):
            users.discard(name)
        if not users or users == name:
            del self._users[lookup]


def _describe(template: Compiled) -> list[LogEvent]:
    return [
        LogEvent("debug", "template.read", {"template": template.name, "engine": template.engine}),
        *(
            LogEvent("warning", "template.suspicious", {"template": template.name, "line": line, "warning": warning})
            for line, warning in template.warnings
        ),
    ]
