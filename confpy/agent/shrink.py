"""Whether keys that seem to have vanished are believed. Pure.

An empty answer is what a store gives that lost its data, elects a leader, or was set up anew: it must not empty a good
file. A deletion that a stream names is another matter, and the last of a service's containers may go that way at once.

Counts compare only for the same prefixes in the same kind of store. Whoever edits ``keys`` or ``prefix``, or runs
confpy on another kind of store, may get fewer keys; but no key at all is more likely a mistake in what was edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.messages import Counted

NAMED = 3
"""Prefixes that a reason names; it counts the others."""


class ShrinkSuspicion(NamedTuple):
    """Why a resource's keys are not believed."""

    reason: str
    confirm_at: float
    """Monotonic time of the read that will be believed; infinite where only a person may say so."""
    since: float
    keys: int
    """How many keys were left."""
    edited: Literal["", "keys", "prefix", "backend"] = ""
    """What a person changed since the target was made, where that is why."""


@dataclass(slots=True)
class Guard:
    """What one resource's keys were when it was last delivered, and what is doubted since."""

    keys: int | None = None
    """How many they were; None: nobody knows, for these prefixes in this store."""
    store: int = 0
    """Which store they came from: the mirror counts how often it was replaced."""
    named: bool = True
    """All that went since then was named by a stream, not missing from an answer."""
    named_in_flight: bool = True
    """The same of what went since the candidate was rendered that is being delivered."""
    doubt: ShrinkSuspicion | None = None
    made_from: Counted | None = None
    """What the target was made from: other prefixes, or another kind of store, which ``backend`` names."""

    def judge(
        self, rules: Resource, keys: int, store: int, now: float, read_at: float, *, others: bool = True
    ) -> Literal["yes", "hold"]:
        """Say whether ``keys`` keys are believed; ``read_at``: when the newest full read was begun.

        ``others``: the store has a key for some resource.
        """
        edited = self._edited(rules, keys, others=others)
        reason = self._edit(rules, edited) if edited else self._reason(rules, keys)
        # A store that was set up anew is as empty tomorrow: another read would say nothing.
        replaced = bool(self.keys and not keys and store != self.store and not edited)
        if replaced and reason:
            reason += ", and the store is another one"
        if not reason or rules.on_shrink == "render":
            self.doubt = None
            return "yes"
        if self.doubt is None or self.doubt.reason != reason:
            # A tree that goes on shrinking is not doubted for longer; that it is empty by now is another matter.
            since = self.doubt.since if self.doubt and (keys or not self.doubt.keys) else now
            waits = replaced or edited or rules.on_shrink == "keep"
            self.doubt = ShrinkSuspicion(reason, NEVER if waits else since + rules.shrink_grace, since, keys, edited)
        return "yes" if read_at >= self.doubt.confirm_at else "hold"

    def believe(self, keys: int, store: int, *, named: bool) -> None:
        """Take what was delivered as what is known."""
        self.keys, self.store, self.named, self.doubt, self.made_from = keys, store, named, None, None

    def after_edit(self, old: Resource, new: Resource) -> Guard:
        """Return the guard of a resource whose prefixes were edited."""
        made_from = self.made_from if self.keys is None else Counted(self.keys, "", old.reads, old.strip)
        if made_from is not None and not made_from.backend and reads_the_same(made_from, new):
            return Guard(made_from.keys, self.store, named=False)
        return Guard(None, self.store, named=False, made_from=made_from)

    def _edited(self, rules: Resource, keys: int, *, others: bool) -> Literal["", "keys", "prefix", "backend"]:
        """Say what was edited, where no key at all may come of that."""
        made_from = self.made_from
        if keys or made_from is None or not made_from.keys:
            return ""
        if made_from.backend:
            return "" if others else "backend"
        return "keys" if made_from.strip == rules.strip else "prefix"

    def _edit(self, rules: Resource, edited: str) -> str:
        assert self.made_from is not None
        count = "1 key" if self.made_from.keys == 1 else f"{self.made_from.keys} keys"
        if edited == "backend":
            former = self.made_from.backend
            return f"this store has no key for any resource, and the target was made from {count} of {former}"
        now = f"there is no key at or below {_names(rules.reads)}" if rules.reads else "keys names nothing to read"
        return f"{now}, and the target was made from {count} at or below {_names(self.made_from.prefixes or ())}"

    def _reason(self, rules: Resource, keys: int) -> str:
        before = self.keys or 0
        if before and not keys and not (self.named and before == 1):
            return f"all of its {before} keys are gone" if before > 1 else "its only key is gone"
        if keys < rules.min_keys:
            return f"it has {keys} keys, fewer than min_keys ({rules.min_keys})"
        if rules.max_shrink is not None and before - keys > before * rules.max_shrink:
            return f"{before - keys} of its {before} keys are gone, more than max_shrink ({rules.max_shrink:g})"
        return ""


def reads_the_same(counted: Counted, resource: Resource) -> bool:
    """Say whether a count is one of the prefixes that a resource reads now."""
    return counted.prefixes is None or set(counted.prefixes) == set(resource.reads)


def _names(prefixes: Sequence[str]) -> str:
    more = len(prefixes) - NAMED
    return ", ".join(prefixes[:NAMED]) + (f" and {more} more" if more > 0 else "")
