"""``confpy`` without a command: a run, once or as a daemon."""

from __future__ import annotations

import os

from confpy.commands import Call
from confpy.config.settings import CONFDIRS, Settings
from confpy.config.sources import load_settings
from confpy.errors import UsageError


def run(call: Call) -> int:
    """Deliver once, or until a signal; raises ``ConfpyError`` if it cannot start."""
    settings, warnings = load_settings(call.flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    _reject(settings)
    from confpy.daemon.daemon import run as deliver

    return deliver(settings, warnings)


def _reject(settings: Settings) -> None:
    """Raise ``UsageError`` for settings that make no sense for a daemon."""
    if settings.onetime:
        return
    if settings.report:
        raise UsageError(f"{settings.origin('report')}: only a one-shot makes a report", hint="add -onetime")
    if settings.origin("confdir") == "default" and not os.path.isdir(settings.confdir):
        hint = (
            "confpy init haproxy DIR writes one to start from;"
            " confpy -confdir DIR -backend STORE -watch follows a store; confpy help shows more"
        )
        raise UsageError(f"there is no confdir: none is named, and there is no {' and no '.join(CONFDIRS)}", hint=hint)
