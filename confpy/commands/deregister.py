"""``confpy deregister``: removes a key from the store."""

from __future__ import annotations

import os

from confpy.commands import Call
from confpy.commands.entry import key_of, value_of
from confpy.config.sources import load_settings
from confpy.registration.values import Entry


def run(call: Call) -> int:
    """Remove the key, or only if it has the value that is given; raises ``ConfpyError``."""
    settings, _warnings = load_settings(call.flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    value = value_of(call, needed=False)
    entry = Entry(key_of(call.arguments[0]), value or b"")

    from confpy.daemon.registering import once
    from confpy.daemon.startup import release_signals
    from confpy.stores.registering import open_registrar

    release_signals()
    registrar = open_registrar(settings, entry, as_service="as-service" in call.switches)
    try:
        is_removed = once(lambda: registrar.remove(value), settings, call.log)
    finally:
        registrar.close()
    fields = {"key": entry.key, "node": registrar.node}
    if is_removed:
        call.log.write("info", "registration.removed", fields)
    else:
        reason = "there is no such key" + (" with this value" if value is not None else "")
        call.log.write("info", "registration.absent", {**fields, "reason": reason})
    return 0
