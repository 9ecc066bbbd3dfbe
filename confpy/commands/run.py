"""``confpy`` without a command: a run, once or as a daemon."""

from __future__ import annotations

import os
from collections.abc import Sequence

from confpy.commands import Call
from confpy.config.settings import CONFDIRS, Settings
from confpy.config.sources import load_settings
from confpy.errors import ConfpyError, UsageError
from confpy.frozen import replace


def run(call: Call) -> int:
    """Deliver once, or until a signal; raises ``ConfpyError`` if it cannot start."""
    flags = call.flags
    if call.program is not None:
        import shlex

        # One word is a whole command, as in a variable: people quote it.
        flags = {**flags, "exec": shlex.join(call.program) if len(call.program) > 1 else call.program[0]}
    settings, warnings = load_settings(flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    if "template" in call.options:
        return _run_templates(call, settings, warnings)
    if "key" in call.options:
        raise UsageError("flag -key: it is for -template", hint="a resource of a confdir names its keys itself")
    _reject(settings)
    from confpy.daemon.daemon import run as deliver

    return deliver(settings, warnings)


def _run_templates(call: Call, settings: Settings, warnings: Sequence[ConfpyError]) -> int:
    """Deliver the templates of the command line; raises ``ConfpyError`` if it cannot start."""
    if "confdir" in call.flags:
        hint = "a confdir has its own templates: leave out one of the two"
        raise UsageError("flags -template and -confdir are given", hint=hint)
    from confpy.daemon.daemon import run as deliver
    from confpy.daemon.made_confdir import made_confdir, parse_template, remove

    templates = [parse_template(text) for text in call.options["template"].split("\0")]
    keys = [key for key in call.options.get("key", "").split("\0") if key]
    with made_confdir(templates, keys) as confdir:
        state, cache = (os.path.join(confdir, name) for name in ("state", "cache"))
        origins = {**settings.origins, "confdir": "flag -template"}
        settings = replace(settings, confdir=confdir, state_dir=state, cache_dir=cache, origins=origins)
        _reject(settings)
        return deliver(settings, warnings, before_program=lambda: remove(confdir))


def _reject(settings: Settings) -> None:
    """Raise ``UsageError`` for settings that make no sense together."""
    if settings.exec and settings.noop:
        hint = "without -noop it runs on the new files, without -exec nothing is run"
        raise UsageError(f"{settings.origin('exec')}: with -noop there are no new files to run it on", hint=hint)
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
