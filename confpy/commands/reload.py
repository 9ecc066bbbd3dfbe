"""``confpy reload``: the running confpy reads and looks at everything again, as at SIGHUP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from confpy.commands import Call
from confpy.commands.asking import ask, find
from confpy.commands.stdout import printable, write
from confpy.config.sources import load_settings
from confpy.errors import ConfpyError
from confpy.status.protocol import LONGEST_WAIT

MARGIN = 10.0
"""Seconds that the answer may take beside the wait."""


def run(call: Call) -> int:
    """Ask for it, and with ``-wait`` say how it went: 0, or the code, 2 to 7, of what fails."""
    settings, _ = load_settings(call.flags, os.environ)
    path = find(settings, os.environ)
    if "wait" not in call.switches:
        ask(path, "reload")
        write("asked for; confpy reload -wait says how it went\n")
        return 0
    seconds = min(settings.timeout, LONGEST_WAIT)
    found = ask(path, "reload", {"wait": seconds}, seconds=seconds + MARGIN)
    try:
        return _report(found)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConfpyError("what answers on the control socket is no confpy") from None


def _report(found: Mapping[str, Any]) -> int:
    code, changed = int(found["code"]), list(found["changed"])
    for failure in found["failures"]:
        where = " ".join(f"{name}={value}" for name, value in failure.items() if name not in {"error", "hint"})
        hint = f"; {failure['hint']}" if "hint" in failure else ""
        _complain(f"failed: {failure['error']} ({where}){hint}")
    if not found["is_over"]:
        _complain(f"not over after {found['took']} s: confpy status says what it waits for")
    elif not code:
        names = f": {', '.join(map(str, changed))}" if changed else ""
        write(printable(f"done in {found['took']} s, {len(changed)} changed{names}") + "\n")
    return code


def _complain(text: str) -> None:
    click.echo(printable(" ".join(text.split())), err=True)
