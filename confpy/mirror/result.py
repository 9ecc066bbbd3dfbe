"""What one step of the mirror led to. Pure."""

from __future__ import annotations

from confpy.events import Level, LogEvent
from confpy.frozen import define, field
from confpy.messages import Action


@define
class MirrorResult:
    """What one step led to."""

    actions: list[Action] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    """Paths whose value is another one now."""
    learned: bool = False
    """A read ended: prefixes may be ready, or known to be in error, that were not before."""
    mount: str = ""
    """Where the store is mounted, for its log lines; empty: it is the one at ``/``."""
    unnamed: bool = False
    """No stream named what was deleted, if anything was: it was missing from an answer."""

    def log(self, level: Level, event: str, **fields: object) -> None:
        self.actions.append(LogEvent(level, event, {"mount": self.mount, **fields} if self.mount else fields))
