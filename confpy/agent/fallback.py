"""Cached keys, the last known good ones: when they are saved, and what is made of them without the store. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from confpy.agent.core import Core
from confpy.agent.resources import ResourceState, paths
from confpy.candidates import Report
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.events import LogEvent
from confpy.frozen import replace
from confpy.keys.prefixes import ROOT
from confpy.keys.tree import KeyTree
from confpy.keys.view import Source, View
from confpy.messages import Recall, Recalled, Save
from confpy.mirror.mirror import Mirror

if TYPE_CHECKING:
    from confpy.mirror.mirrors import Mirrors

SAVE_INTERVAL = 10.0
"""Seconds from one saving of the delivered keys to the next, at least."""
SAVE_KEYS = 1000
"""Keys up to which that interval holds: with ten times as many it is ten times as long."""


class Saving:
    """When the delivered keys are saved next."""

    def __init__(self) -> None:
        self.is_wanted = False
        """Keys were delivered since."""
        self.at = NEVER
        self._last = -NEVER

    def want(self, now: float, keys: int) -> None:
        """Note a delivery, of a tree with so many keys."""
        self.is_wanted = True
        self.at = min(self.at, max(now, self._last + SAVE_INTERVAL * max(1.0, keys / SAVE_KEYS)))

    def save(
        self, mirror: Mirror | Mirrors, delivered: Iterable[Resource], others: Iterable[Resource], now: float
    ) -> Save:
        """Return what saves the keys of what was delivered, and leaves unchanged what is saved of the others."""
        self.is_wanted, self._last = False, now
        prefixes = mirror.cached_prefixes(path for resource in delivered for path in paths(resource))
        keys = {raw: value for path in prefixes for raw, value in mirror.cached_items(path)}
        return Save(keys, prefixes, mirror.cached_prefixes(path for resource in others for path in paths(resource)))


class Fallback:
    """The cached keys, while the store cannot be read."""

    def __init__(self, core: Core) -> None:
        self._step = core.step
        self._core = core
        self._resources = core.resources
        self._end = core.end
        self._is_requested = False
        self._trees: dict[str, KeyTree] = {}
        """By where the store is mounted; none where none are known."""
        self._prefixes: frozenset[str] = frozenset()
        self._saving = Saving()
        self.is_awaited = False
        """They were asked for and are not here yet."""

    # --- reading them ------------------------------------------------------------------------------------------------

    def request(self) -> None:
        """Ask for the cached keys, once."""
        if self._end.uses_cached_keys and not self._is_requested:
            self._is_requested = self.is_awaited = True
            self._step.do(Recall())

    def take(self, recalled: Recalled) -> None:
        self.is_awaited = False
        if not recalled.keys:
            return
        of_stores: dict[str, dict[str, str]] = {"": {}}
        for key, value in recalled.keys.items():
            of_stores.setdefault(self._core.mirror.mount_of(key), {})[key] = value
        for mount, keys in of_stores.items():
            self._trees[mount] = KeyTree()
            self._trees[mount].replace(ROOT, keys)
        self._prefixes = frozenset(recalled.prefixes)
        did = "makes missing targets from the cached keys"
        fields = {"keys": len(recalled.keys), "age": round(recalled.age), "did": did}
        self._step.do(LogEvent("warning", "store.stale", fields))

    def holds(self, prefixes: Sequence[str]) -> bool:
        """Say whether all keys of these prefixes are cached, but for those of stores that are there."""
        if not (prefixes and self._prefixes):
            return False
        mirror = self._core.mirror
        return all(mirror.is_cached(prefix, self._prefixes) or mirror.is_live(prefix) for prefix in prefixes)

    @property
    def is_known(self) -> bool:
        """Whether there are any."""
        return bool(self._trees)

    def view(self, resource: Resource) -> View | None:
        """Return what a resource sees of the cached keys, None where there are none.

        Of several stores, those that are there bring theirs as they are now.
        """
        if not self._trees:
            return None
        sources = self._core.mirror.sources(resource.seen, resource.text_prefixes)
        return View.over([self._cached(source) for source in sources], resource.strip, resource.base)

    def _cached(self, source: Source) -> Source:
        """Return the cached keys of a store in place of its own, unless it is there and another one is not."""
        if all(map(self._core.mirror.is_live, source.prefixes)):
            return source
        return source._replace(tree=self._trees.get(source.mount) or KeyTree(), spells=str)

    def take_delivery(self, state: ResourceState, report: Report) -> None:
        """Take that a target was made from cached keys: it still wants those of the store."""
        if self._end.is_final:
            self._resources.note_try(state)
            self._resources.set_error(state, None)
        self._resources.mark(state)
        if report.outcome == "changed":
            self._step.log("warning", "resource.stale", resource=state.name, target=state.resource.dest)

    # --- saving them -------------------------------------------------------------------------------------------------

    @property
    def saves_at(self) -> float:
        """The monotonic time of the next saving."""
        return self._saving.at

    def note_delivery(self) -> None:
        """Keys of the store were delivered."""
        if self._end.saves_keys:
            self._saving.want(self._step.now, self._core.mirror.size())

    def save_if_due(self) -> None:
        if self._step.now >= self._saving.at:
            self._save()

    def save_at_end(self) -> None:
        if self._saving.is_wanted:
            self._save(at_end=True)

    def _save(self, *, at_end: bool = False) -> None:
        self._saving.at = NEVER
        delivered: list[Resource] = []
        others: list[Resource] = []
        for state in (one for one in self._resources if one.plan is None):  # a plan stands for its items
            (delivered if _is_delivered(state) else others).append(state.resource)
        if delivered:
            save = self._saving.save(self._core.mirror, delivered, others, self._step.now)
            self._step.do(replace(save, at_end=at_end))


def _is_delivered(state: ResourceState) -> bool:
    """Say whether the keys that a resource has now are those that it was delivered with."""
    waits = state.dirty or state.in_flight or state.guard.suspicion is not None
    return state.tried and state.error is None and not waits
