"""What templates asked of the world, and the answers so far. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from confpy.errors import ConfpyError
from confpy.events import LogEvent
from confpy.messages import Resolve, Resolved
from confpy.templates.lookup import Lookup
from confpy.templates.results import Compiled


class Lookups:
    """Look-ups under way, and their answers."""

    def __init__(self) -> None:
        self.facts: dict[Lookup, object] = {}
        """Lookup → its answer, or the error that it ended in."""
        self._asked: set[Lookup] = set()
        self._number = 0

    def ask(self, lookups: AbstractSet[Lookup]) -> list[Resolve]:
        """Return what asks for those that are not under way already."""
        new = tuple(sorted(lookups - self._asked, key=lambda lookup: (lookup.kind, lookup.name)))
        if not new:
            return []
        self._number += 1
        self._asked.update(new)
        return [Resolve(self._number, new)]

    def awaits(self, lookups: AbstractSet[Lookup]) -> bool:
        """Say whether one of them is under way."""
        return not self._asked.isdisjoint(lookups)

    def keep(self, used: AbstractSet[Lookup]) -> None:
        """Forget the answers that are not in use."""
        self.facts = {lookup: answer for lookup, answer in self.facts.items() if lookup in used}

    def take(
        self, resolved: Resolved, readers: Callable[[Lookup], Iterable[str]]
    ) -> tuple[set[Lookup], list[LogEvent]]:
        """Take answers; returns those that differ from the previous ones, and log events.

        An error replaces only an error, or a template: a previous address is worth more than none. ``readers`` names
        the resources that asked.
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
                if stays or not isinstance(before, ConfpyError) or before.kind != answer.kind:
                    did = "keeps the previous answer" if stays else "the template sees no answer"
                    fields = answer.at(resource=", ".join(sorted(readers(lookup)))).fields()
                    events.append(LogEvent("warning", "lookup.failed", {**fields, "did": did}))
                if stays:
                    continue
            if lookup in self.facts and before != answer:
                moved.add(lookup)
            self.facts[lookup] = answer
        return moved, events


def _describe(template: Compiled) -> list[LogEvent]:
    return [
        LogEvent("debug", "template.read", {"template": template.name, "engine": template.engine}),
        *(
            LogEvent("warning", "template.suspicious", {"template": template.name, "line": line, "warning": warning})
            for line, warning in template.warnings
        ),
    ]
