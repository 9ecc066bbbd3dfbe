"""What others may see of a status: no content, and nothing that may hold some. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from confpy.frozen import replace
from confpy.status.model import Cause, ResourceStatus, Status

Fields = Mapping[str, str | int]

PLACES = frozenset({
    "error", "hint", "resource", "group", "file", "line", "column", "template", "target", "key", "keys", "prefix",
    "node", "process", "attempt", "did",
})  # fmt: skip
"""The fields of an error that everybody may see: names and numbers. The rest may hold content, as what a check has
printed, or a secret, as a command."""


def without_secrets(status: Status) -> Status:
    """Return a status without what the commands of sensitive resources printed: it may be of their content."""
    if not any(one.sensitive and one.error for one in status.resources):
        return status
    return replace(status, resources=tuple(map(_hide_output, status.resources)))


def for_everybody(status: Status) -> Status:
    """Return a status with names, states, counts and hashes alone: who asks over TCP may be anybody.

    Commands, which may hold tokens, become the numbers of their reloads. The hash of a target that not everybody may
    read is left out: a short secret is found by its hash.
    """
    numbers = {one.command: f"#{number}" for number, one in enumerate(status.reloads, 1)}
    resources = tuple(
        replace(
            one,
            reload=numbers.get(one.reload, "#0") if one.reload else "",
            digest=one.digest if one.is_public else "",
            why=_SENTENCES.get(one.cause, one.why),
            error=_places(one.error, one.cause),
        )
        for one in status.resources
    )
    stores = tuple(replace(one, error=_places(one.error)) for one in status.stores)
    reloads = tuple(
        replace(
            one,
            command=numbers[one.command],
            waits_for=_SENTENCES.get(one.cause, one.waits_for) if one.waits_for else "",
            error=_places(one.error),
        )
        for one in status.reloads
    )
    return replace(status, resources=resources, stores=stores, reloads=reloads)


_SENTENCES: Mapping[Cause, str] = {
    "command": "a command that it needs is in use",
    "first try": "a resource that shares its check has had no try yet",
    "lookup": "its template asks for something outside of the store, and the answer is awaited",
    "reload": "its program has not loaded it yet",
    "invalid file": "its file is invalid",
}
"""Cause → what everybody may read of it: the sentence of the status may name a command, a value or a setting."""


def _places(error: Fields | None, cause: Cause = "") -> Fields | None:
    if error is None:
        return None
    found = {name: value for name, value in error.items() if name in PLACES}
    return {**found, "error": _SENTENCES[cause]} if cause in _SENTENCES else found


def _hide_output(one: ResourceStatus) -> ResourceStatus:
    if not one.sensitive or not one.error or "output" not in one.error:
        return one
    return replace(one, error={**one.error, "output": "not shown: the resource is sensitive"})
