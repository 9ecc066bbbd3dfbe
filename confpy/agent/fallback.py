"""The keys of before: which are kept, and what a start without the store makes of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from confpy.agent.resources import paths, view_of
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.events import LogEvent
from confpy.keys.prefixes import ROOT, Lists, covers, minimal
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.messages import Recalled, Save

SAVE_EVERY = 10.0
"""Seconds from one saving of the delivered keys to the next, at least."""
SAVE_KEYS = 1000
"""Keys up to which that is often enough: ten thousand are not written as often as ten."""


class Fallback:
    """The keys that an earlier confpy delivered, while the store cannot be read."""

    def __init__(self, lists: Lists | None) -> None:
        """``lists``: as ``View`` takes it."""
        self.state: Literal["unknown", "asked", "known"] = "unknown"
        self._lists = lists
        self._tree: KeyTree | None = None
        self._prefixes: tuple[str, ...] = ()

    def take(self, recalled: Recalled) -> list[LogEvent]:
        """Take what was kept; returns what to say of it."""
        self.state = "known"
        if not recalled.keys:
            return []
        self._tree = KeyTree()
        self._tree.replace(ROOT, recalled.keys)
        self._prefixes = recalled.prefixes
        did = "makes targets that are missing from the keys of before"
        fields = {"keys": len(recalled.keys), "age": round(recalled.age), "did": did}
        return [LogEvent("warning", "store.stale", fields)]

    def holds(self, prefixes: Sequence[str]) -> bool:
        """Say whether these are all kept."""
        return bool(prefixes) and all(any(covers(kept, prefix) for kept in self._prefixes) for prefix in prefixes)

    def view(self, resource: Resource) -> View | None:
        """Return what a resource saw then, None where nothing is kept."""
        if self._tree is None:
            return None
        return view_of(resource, self._tree, self._lists)


class Saving:
    """When the delivered keys are to be kept again."""

    def __init__(self) -> None:
        self.wanted = False
        """Some were delivered since."""
        self.at = NEVER
        self._last = -NEVER

    def want(self, now: float, keys: int) -> None:
        """Note a delivery, of a tree with so many keys."""
        self.wanted = True
        self.at = min(self.at, max(now, self._last + SAVE_EVERY * max(1.0, keys / SAVE_KEYS)))

    def save(self, tree: KeyTree, delivered: Iterable[Resource], others: Iterable[Resource], now: float) -> Save:
        """Return what keeps the keys of what was delivered as it is now, and leaves what is kept of the others."""
        self.wanted, self._last = False, now
        prefixes = minimal(path for resource in delivered for path in paths(resource))
        keys: Mapping[str, str] = {raw: value for path in prefixes for raw, value in tree.items(path)}
        return Save(keys, prefixes, minimal(path for resource in others for path in paths(resource)))
