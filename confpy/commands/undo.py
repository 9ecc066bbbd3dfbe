"""``confpy undo``: the file before the last delivery of a target takes its place again, and its resource is held."""

from __future__ import annotations

import os
from typing import Any

from confpy.commands import Call
from confpy.commands.asking import NoDaemon, ask, find
from confpy.commands.stdout import printable, write
from confpy.config.settings import Settings
from confpy.config.sources import load_settings
from confpy.errors import ConfpyError
from confpy.status.protocol import LONGEST_WAIT

MARGIN = 10.0
"""Seconds that the answer may take beside the wait."""


def run(call: Call) -> int:
    """Have the running confpy do it, or do it where none runs; raises ``ConfpyError`` for what fails."""
    settings, _warnings = load_settings(call.flags, os.environ)
    call.log.configure(settings.log_level, settings.log_format)
    (target,) = call.arguments
    target = os.path.abspath(target) if "/" in target and os.path.exists(target) else target
    try:
        path = find(settings, os.environ)
    except NoDaemon:
        return _undo_alone(call, settings, target)
    seconds = min(settings.timeout, LONGEST_WAIT)
    found = ask(path, "undo", {"target": target, "wait": seconds}, seconds=seconds + MARGIN)
    try:
        return _report(target, seconds, found)
    except (KeyError, TypeError, AttributeError):
        raise ConfpyError("what answers on the control socket is no confpy") from None


def _undo_alone(call: Call, settings: Settings, target: str) -> int:
    from confpy.daemon.undo import undo

    done = undo(settings, target, lambda event: call.log.write(event.level, event.event, event.fields))
    _print(target, done)
    return 0


def _report(target: str, seconds: float, found: Any) -> int:
    if not found["is_over"]:
        hint = "confpy status says what it waits for"
        raise ConfpyError(f"the undo, or the reload after it, has not ended in {seconds:g} s", hint=hint, target=target)
    _print(target, tuple(map(str, found["resources"])))
    return 0


def _print(target: str, done: tuple[str, ...]) -> None:
    what = f"put back: {', '.join(done)}" if done else "the targets were as before their last delivery already"
    name = done[0] if done else target
    write(printable(f"{what}; held until confpy accept {name}") + "\n")
