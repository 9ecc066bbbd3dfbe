"""Whether keys that seem to have vanished are believed. Pure.

An empty answer is what a store gives that lost its data, elects a leader, or was set up anew: it must not empty a good
file. A deletion that a stream names is another matter, and the last of a service's containers may go that way at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from confpy.clock import NEVER
from confpy.model import Resource


class Doubt(NamedTuple):
    """Why a resource's keys are not believed."""

    reason: str
    confirm_at: float
    """Monotonic time of the read that will be believed; infinite where only a person may say so."""
    since: float
    keys: int
    """How many keys were left."""


@dataclass(slots=True)
class Guard:
    """What one resource's keys were when it was last delivered, and what is doubted since."""

    keys: int | None = None
    """How many they were; None: nobody knows."""
    store: int = 0
    """Which store they came from: the mirror counts how often it was replaced."""
    named: bool = True
    """All that went since then was named by a stream, not missing from an answer."""
    doubt: Doubt | None = None

    def judge(self, rules: Resource, keys: int, store: int, now: float, read_at: float) -> Literal["yes", "hold"]:
        """Say whether ``keys`` keys are believed; ``read_at``: when the newest full read was begun."""
        reason = self._reason(rules, keys)
        # A store that was set up anew is as empty tomorrow: another read would say nothing.
        replaced = bool(self.keys and not keys and store != self.store)
        if replaced and reason:
            reason += ", and the store is another one"
        if not reason or rules.on_shrink == "render":
            self.doubt = None
            return "yes"
        if self.doubt is None or self.doubt.reason != reason:
            # A tree that goes on shrinking is not doubted for longer; that it is empty by now is another matter.
            since = self.doubt.since if self.doubt and (keys or not self.doubt.keys) else now
            waits = replaced or rules.on_shrink == "keep"
            self.doubt = Doubt(reason, NEVER if waits else since + rules.shrink_grace, since, keys)
        return "yes" if read_at >= self.doubt.confirm_at else "hold"

    def believe(self, keys: int, store: int, *, named: bool) -> None:
        """Take what was delivered as what is known."""
        self.keys, self.store, self.named, self.doubt = keys, store, named, None

    def _reason(self, rules: Resource, keys: int) -> str:
        before = self.keys or 0
        if before and not keys and not (self.named and before == 1):
            return f"all of its {before} keys are gone" if before > 1 else "its only key is gone"
        if keys < rules.min_keys:
            return f"it has {keys} keys, fewer than min_keys ({rules.min_keys})"
        if rules.max_shrink is not None and before - keys > before * rules.max_shrink:
            return f"{before - keys} of its {before} keys are gone, more than max_shrink ({rules.max_shrink:g})"
        return ""
