"""Which keys have changed, and whom that concerns. Pure."""

from __future__ import annotations

from confpy.agent.core import Core
from confpy.agent.resources import ResourceState
from confpy.mirror.result import MirrorResult

MOST_CHANGES = 10_000
"""Changed keys that are counted for the log while a resource cannot be delivered."""


class ChangedKeys:
    """The changes of a step, until its end."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._step = core.step
        self._resources = core.resources
        self._changed: set[str] = set()
        self._inferred: set[str] = set()
        """Of the changed paths, those whose deletion no stream would have named."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._changed)

    def take(self, result: MirrorResult) -> None:
        """Take what the mirror made of a message."""
        self._changed |= result.changed
        if result.unnamed:
            self._inferred |= result.changed

    def mark(self) -> None:
        """Mark whom the changed paths concern. What arrived together counts as one change to each."""
        if not self._changed:
            return
        concerned: dict[str, ResourceState] = {}
        unnamed: dict[tuple[str, str], ResourceState] = {}
        mirror, inferred = self._core.mirror, self._inferred
        for path, state in self._resources.concerned(self._changed):
            concerned[state.name] = state
            if path in inferred:
                unnamed[state.name, mirror.mount_of(path) if mirror.is_several else ""] = state
            if len(state.changes) < MOST_CHANGES:
                state.changes.add(path)
        self._changed, self._inferred = set(), set()
        for (_, mount), state in unnamed.items():
            state.guard.note_unnamed(mount)
        for state in concerned.values():
            if state.tried:
                state.settle.note(self._step.now)
            self._resources.mark(state, "change" if state.tried else "start")
