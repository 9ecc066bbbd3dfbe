"""Which resources are held: their keys are suspect, or an operator has undone a delivery; and what was accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

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
            if record is not None and _is_undone(record):
                return bool(record.get("accepted"))  # it is held anyway, and longer than its keys may be suspect
            reason = reason or self._unsaved.get(name, "")
            if reason and (record is None or record.get("reason") != reason):
                self._unsaved[name] = reason
                if self._folder.write(name, {"resource": resource, "reason": reason, "accepted": False}):
                    del self._unsaved[name]
                return False
        return record is not None and bool(record.get("accepted"))

    def hold_undone(self, resources: Sequence[str], reason: str) -> bool:
        """Record that resources stay as an operator has put them back; returns whether that is on disk, of all."""
        with self._guard:
            record = {"reason": reason, "accepted": False, "undone": list(resources)}
            return all(self._folder.write(HELD + folder_name(name), {"resource": name, **record}) for name in resources)

    def undone(self) -> dict[str, str]:
        """Return why resources are held that an operator has put back; the records of accepted ones are removed."""
        with self._guard:
            names = self._folder.names(HELD)
            records = [(name, record) for name in names if _is_undone(record := self._folder.read(name) or {})]
            accepted = {one for _, record in records if record.get("accepted") for one in record["undone"]}
            for name, record in records:
                if record["resource"] in accepted:
                    self._folder.remove(name)
            return {it["resource"]: str(it.get("reason")) for _, it in records if it["resource"] not in accepted}

    def release(self, resource: str) -> None:
        """Record that a resource is no longer held."""
        name = HELD + folder_name(resource)
        with self._guard:
            self._unsaved.pop(name, None)
            self._folder.remove(name)


def _is_undone(record: Mapping[str, Any]) -> bool:
    undone = record.get("undone")
    return isinstance(record.get("resource"), str) and isinstance(undone, list) and set(map(type, undone)) == {str}


def is_undone(folder: StateFolder, resource: str) -> bool:
    """Return whether a resource is held since an operator has put it back."""
    return _is_undone(folder.read(HELD + folder_name(resource)) or {})


def accept(folder: StateFolder, resource: str) -> str:
    """Record that an operator accepts what holds a resource back; returns what that was. Raises ``UsageError``."""
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
