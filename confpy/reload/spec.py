"""How a program is reloaded: the action, its verifier, what a failure leads to; what earlier runs left. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from confpy.errors import ConfpyError
from confpy.frozen import frozen
from confpy.reload.actions import ACTIONS, VERIFIERS, ReloadAction, Verifier
from confpy.reload.kinds import UnknownKindError, from_json, to_json
from confpy.reload.runtime_target import RuntimeTarget

OnFailure: TypeAlias = Literal["retry", "rollback", "keep"]
"""What follows a failed reload: another try, the previous files and their reload, or nothing."""


@frozen
class ReloadSpec:
    """How a program is reloaded: what a resource asks for, what the ledger stores, and what is run."""

    key: str
    """The action as people see it. Reloads of one key are one reload, whichever resources owe it."""
    action: ReloadAction
    timeout: float
    """Seconds, for the action and for the verifier; ``clock.LONGEST``: no limit."""
    verifier: Verifier | None = None
    """What has to succeed after the action."""
    on_failure: OnFailure = "retry"
    interval: float = 0.0
    """Seconds from the start of one run to that of the next, at least. The ledger has it with the last run."""
    runtime: RuntimeTarget | None = None
    """The running programs that may do what their files say without the action."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it, without the interval."""
        written: dict[str, Any] = {"key": self.key, "action": to_json(self.action), "timeout": self.timeout}
        if self.verifier is not None:
            written["verifier"] = to_json(self.verifier)
        if self.runtime is not None:
            written["runtime"] = to_json(self.runtime)
        return written if self.on_failure == "retry" else {**written, "on_failure": self.on_failure}


@frozen
class UnknownReload:
    """A reload that the ledger holds and this confpy does not know: it stays owed, for a newer one."""

    key: str
    written: Mapping[str, Any]
    """Its JSON."""
    problem: str

    def to_json(self) -> dict[str, Any]:
        return dict(self.written)


RUNTIMES = {RuntimeTarget.kind: RuntimeTarget}
FIELDS = {"key", "action", "timeout", "verifier", "on_failure", "runtime"}


def read_spec(written: Mapping[str, Any]) -> ReloadSpec | UnknownReload:
    """Return what ``to_json`` has written; raises ``LookupError`` or ``TypeError`` for what has no key."""
    key = str(written["key"])
    try:
        if more := written.keys() - FIELDS:
            raise UnknownKindError(f"the field {min(more)!r} is not known")
        action = from_json(written.get("action"), ACTIONS)
        verifier = from_json(written["verifier"], VERIFIERS) if "verifier" in written else None
        if (on_failure := written.get("on_failure", "retry")) not in {"retry", "rollback", "keep"}:
            raise UnknownKindError(f"on_failure is {on_failure!r}")
        runtime = from_json(written["runtime"], RUNTIMES) if "runtime" in written else None
        return ReloadSpec(key, action, float(written.get("timeout", 0.0)), verifier, on_failure, runtime=runtime)
    except (TypeError, ValueError) as error:
        return UnknownReload(key, written, str(error))


@frozen
class ReloadResult:
    """How a reload ended."""

    error: ConfpyError | None
    """None: the action and the verifier have succeeded."""
    took: float
    """Seconds."""
    unsure: bool = False
    """The reload was sent, but the answer does not show whether it succeeded."""
    answer: str = ""
    """That answer."""


@frozen
class Avoided:
    """A change that was made in the running program, and verified there: it needs no reload."""

    plan: str
    """How many servers, entries and certificates were added, removed and changed: ``+2 -1 ~1``; empty: none."""
    kept: tuple[str, ...] = ()
    """What somebody set in the running program by hand, that the files do not speak of, and that was left so."""


@frozen
class PendingReload:
    """A reload that is owed for the content that its targets have, whichever run of confpy delivered it."""

    spec: ReloadSpec
    resources: tuple[str, ...]
    dests: tuple[str, ...]
    """Of each resource its target."""
    records: tuple[int, ...] = ()
    """The ledger's records that owe it."""


@frozen
class LastRun:
    """The last run of a reload, as the ledger has it for the next start."""

    at: float
    """When it began, in seconds since 1970."""
    failures: int = 0
    """How many runs in a row did not succeed, one that was cut off included."""
    interval: float = 0.0
    """Seconds from its start to that of the next run, at least."""


@frozen
class Rejection:
    """A content that a reload rejected, and that was replaced by the previous one."""

    digest: str
    """SHA-256 of the content, in hexadecimal digits."""
    path: str
    """The target, links followed."""
    back: str | None
    """The digest of what was put back; None: no file."""
    by: str
    """Identifies the target and the commands that the content had to pass; empty: unknown."""
    at: float
    """When it was last rejected, in seconds since 1970."""
    times: int = 1
    """How often it was rejected."""
