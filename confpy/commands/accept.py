"""``confpy accept``: somebody confirms that the vanished keys of a resource are gone."""

from __future__ import annotations

import os

from confpy.commands import Call
from confpy.config.sources import load_settings
from confpy.ledger import holds
from confpy.ledger.folder import StateFolder


def run(call: Call) -> int:
    """Confirm it for one resource; raises ``UsageError`` if none of its keys is suspect."""
    settings, _warnings = load_settings(call.flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    (resource,) = call.arguments
    folder = StateFolder.of(settings, lambda event: call.log.write(event.level, event.event, event.fields))
    reason = holds.accept(folder, resource)
    call.log.write("info", "keys.accepted", {"resource": resource, "reason": reason, "did": "confpy will deliver it"})
    return 0
