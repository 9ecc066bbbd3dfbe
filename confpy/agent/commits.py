"""What owes a reload: commits of this process, those of an earlier one, files that were put back. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from confpy.config.resource import Resource
from confpy.events import LogEvent
from confpy.frozen import NOTHING, frozen
from confpy.reload.spec import OnFailure


@frozen
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
    record: int = 0
    """Its record in the ledger; 0: none."""
    origin: Mapping[str, object] = NOTHING
    """What a line says further of where it comes from: keys, digests, check."""

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def dest(self) -> str:
        return self.resource.dest

    @property
    def on_failure(self) -> OnFailure:
        return self.resource.on_reload_failure

    def event(self, *, reloaded: bool, reload_took: float = 0.0) -> LogEvent:
        """Return the line for a change whose reload has succeeded, or that needs none."""
        ended = {"took": round(self.took + reload_took, 3), "reloaded": reloaded}
        return LogEvent("info", "resource.changed", {**self._fields(), **ended})

    def committed_event(self) -> LogEvent:
        """Return the line for a file that is in place, and whose reload is still to come."""
        return LogEvent("info", "target.committed", self._fields())

    def _fields(self) -> dict[str, object]:
        return {
            "resource": self.resource.name,
            "target": self.resource.dest,
            "trigger": self.trigger,
            "revision": self.revision,
            "keys": self.keys,
            **self.origin,
        }


@frozen
class RolledBack:
    """A previous file that is back in place, and whose reload has failed once and is still owed."""

    name: str
    dest: str
    on_failure: OnFailure = "retry"


@frozen
class Inherited:
    """A commit of an earlier run, whose reload is still owed."""

    name: str
    dest: str
    on_failure: OnFailure = "retry"

    def event(self, *, reloaded: bool, reload_took: float = 0.0) -> LogEvent:
        """Return the line for its reload."""
        fields = {"resource": self.name, "target": self.dest, "took": round(reload_took, 3), "reloaded": reloaded}
        return LogEvent("info", "reload.recovered", fields)


@frozen
class Unowed:
    """A target with which the running program is compared, although no reload of it is owed."""

    name: str
    dest: str
    on_failure: OnFailure = "retry"


Owing: TypeAlias = Commit | Inherited | RolledBack | Unowed
