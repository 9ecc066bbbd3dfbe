"""One step of the agent: when it is, and the actions that it leads to. Pure."""

from __future__ import annotations

from confpy.events import Level, LogEvent
from confpy.messages import Action


class Step:
    """The time of the step under way and its actions so far; the parts of the agent share it."""

    __slots__ = ("actions", "began", "now", "number", "wall")

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.number = 0
        """How many there were, with this one."""
        self.began: tuple[float, float] | None = None
        """The times of the first step, as ``now`` and ``wall``."""
        self.now = 0.0
        """Monotonic seconds."""
        self.wall = 0.0
        """Seconds since 1970 UTC."""

    def begin(self, now: float, wall: float) -> None:
        """Forget the actions of the step before."""
        self.number += 1
        self.now, self.wall, self.actions = now, wall, []
        if self.began is None:
            self.began = now, wall

    def do(self, action: Action) -> None:
        self.actions.append(action)

    def log(self, level: Level, event: str, **fields: object) -> None:
        self.actions.append(LogEvent(level, event, fields))
