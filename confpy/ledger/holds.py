"""Which resources are held back since their keys are suspect, and whether an operator has accepted that."""

from __future__ import annotations

from contextlib import AbstractContextManager

from confpy.errors import UsageError
from confpy.ledger.folder import StateFolder, folder_name

HELD = "held-"
"""How the names of their records begin."""


class Holds:
    """The holds of one confdir, for the threads of one confpy. The folder reports what cannot be saved."""

    def __init__(self, folder: StateFolder, guard: AbstractContextManager[object]) -> None:
        """``guard``: keeps apart the threads that use the folder."""
        self._folder = folder
        self._guard = guard
        self._unsaved: dict[str, str] = {}
        """Record → reason of the holds that could not be saved: they are saved once that is possible."""

    def hold(self, resource: str, reason: str) -> bool:
        """Record that a resource's keys are suspect; returns whether an operator has accepted that since.

        Without a reason nothing is recorded: it would outlive a ``release`` that was faster.
        """
        name = HELD + folder_name(resource)
        with self._guard:
            record = self._folder.read(name)
            reason = reason or self._unsaved.get(name, "")
            if reason and (record is None or record.get("reason") != reason):
                self._unsaved[name] = reason
                if self._folder.write(name, {"resource": resource, "reason": reason, "accepted": False}):
                    del self._unsaved[name]
                return False
        return record is not None and bool(record.get("accepted"))

    def release(self, resource: str) -> None:
        """Record that a resource's keys are no longer suspect."""
        name = HELD + folder_name(resource)
        with self._guard:
            self._unsaved.pop(name, None)
            self._folder.remove(name)


def accept(folder: StateFolder, resource: str) -> str:
    """Record that an operator accepts a resource's keys; returns why they were suspect. Raises ``UsageError``."""
    name = HELD + folder_name(resource)
    record = folder.read(name)
    if folder.unusable:
        raise UsageError("the state folder cannot be read", hint="run it as the user that confpy runs as")
    if record is None:
        held = ", ".join(sorted(found["resource"] for one in folder.names(HELD) if (found := folder.read(one))))
        hint = f"held back are: {held}" if held else "nothing is held back; is it the right -confdir?"
        raise UsageError(f"the resource {resource} is not held back", hint=hint)
    if not folder.write(name, {**record, "accepted": True}):
        raise UsageError("that cannot be saved in the state folder", hint="run it as the user that confpy runs as")
    return str(record["reason"])
