"""``confpy accept``: a person ends the hold of a resource."""

from __future__ import annotations

import os
from contextlib import suppress

from confpy.commands import Call
from confpy.commands.asking import ask, find
from confpy.config.settings import Settings
from confpy.config.sources import load_settings
from confpy.errors import ConfpyError
from confpy.ledger import holds
from confpy.ledger.folder import StateFolder


def run(call: Call) -> int:
    """End it for one resource; raises ``UsageError`` if it is not held."""
    settings, _warnings = load_settings(call.flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    (resource,) = call.arguments
    folder = StateFolder.of(settings, lambda event: call.log.write(event.level, event.event, event.fields))
    is_undone = holds.is_undone(folder, resource)
    reason = holds.accept(folder, resource)
    with suppress(ConfpyError):  # none runs, or it is asked too much at once: it looks by itself, within seconds
        _tell(settings, resource)
    fields = {"resource": resource, "reason": reason, "did": "confpy will deliver it"}
    call.log.write("info", "undo.accepted" if is_undone else "keys.accepted", fields)
    return 0


def _tell(settings: Settings, resource: str) -> None:
    """Have the running confpy look at it now."""
    ask(find(settings, os.environ), "accept", {"resource": resource})
