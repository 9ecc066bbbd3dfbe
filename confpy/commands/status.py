"""``confpy status``: how the running confpy is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import click

from confpy.commands import Call
from confpy.commands.asking import ask, find
from confpy.commands.status_text import Cell, Line, plain, status_lines
from confpy.commands.stdout import colour_diff, is_coloured, printable, write
from confpy.config.sources import load_settings
from confpy.errors import ConfpyError
from confpy.status.protocol import NOT_WELL, Refused

INTERVAL = 1.0
"""Seconds from one look to the next (``-watch``)."""
CLEAR = "\x1b[H\x1b[J"
"""The cursor to the top left, and all below it cleared."""


def run(call: Call) -> int:
    """Show the status; 0: well, 11: not well, 12: no confpy answers."""
    settings, _ = load_settings(call.flags, os.environ)
    path = find(settings, os.environ)
    if "watch" in call.switches:
        return _watch(call, path)
    status = ask(path, "status")
    _print(status, as_json="json" in call.switches)
    if "diff" in call.switches and "json" not in call.switches:
        from confpy.commands.status_diff import diffs

        text = "\n".join(diffs(_read(status), settings)) + "\n"
        write(colour_diff(text) if is_coloured() else text)
    return 0 if _read(status)["is_well"] else NOT_WELL


def _watch(call: Call, path: str) -> int:
    """Show it again and again: on a terminal in one place, else whenever something has changed."""
    as_json, last = "json" in call.switches, None
    while True:
        try:
            status = ask(path, "status")
        except ConfpyError as error:
            if last is None or not isinstance(error, Refused):
                raise
            click.echo(printable(str(error)), err=True)
        else:
            told = {key: value for key, value in _read(status).items() if key != "now"}
            if is_coloured() and not as_json:
                write(CLEAR)
                _print(status, as_json=False)
            elif told != last:
                _print(status, as_json=as_json)
            last = told
        time.sleep(INTERVAL)


def _print(status: object, *, as_json: bool) -> None:
    if as_json:
        write(json.dumps(status, indent=None) + "\n")
        return
    lines = list(_lines(_read(status)))
    write("".join(map(_coloured, lines)) if is_coloured() else plain(lines))


def _lines(status: Mapping[str, Any]) -> Iterable[Line]:
    """Return the lines; raises ``ConfpyError`` where another version speaks that this one does not understand."""
    try:
        return list(status_lines(status))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        hint = "confpy status -json shows it as it is; this confpy and the one that runs may be of different versions"
        raise ConfpyError("the status is not as this confpy knows it", hint=hint) from error


def _read(status: object) -> Mapping[str, Any]:
    if not isinstance(status, dict) or "is_well" not in status:
        raise ConfpyError("what answers on the control socket is no confpy")
    return status


def _coloured(line: Line) -> str:
    return "".join(map(_styled, line)).rstrip() + "\n"


def _styled(cell: Cell) -> str:
    if cell.colour == "bold":
        return click.style(cell.text, bold=True)
    return click.style(cell.text, fg=cell.colour) if cell.colour else cell.text
