"""What commands print for people and scripts."""

from __future__ import annotations

import os
import re
import sys

import click

from confpy.errors import ConfpyError


def write(text: str) -> None:
    """Write to stdout, bytes that were ``surrogateescape`` text as they were; raises ``ConfpyError``."""
    try:
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    except OSError as error:
        # What could not be written is still in the buffer, and would be tried again at the end, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise ConfpyError(f"cannot write to stdout: {error.strerror}") from error


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor or changes its colours, and what changes the direction of text."""


def printable(text: str) -> str:
    """Return a text whose control characters are written as escapes: names and files of others go to a terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def is_coloured() -> bool:
    """Whether what is written to stdout is for the eyes of a person: a terminal that shows colours, and may."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not is_plain


def show(text: str) -> None:
    """Write a long text: through the pager on a terminal, else as ``write`` does. Its colours are kept."""
    if sys.stdout.isatty() and text.count("\n") >= os.get_terminal_size(sys.stdout.fileno()).lines - 1:
        click.echo_via_pager(text, color=True)
    else:
        write(text)


def colour_diff(text: str) -> str:
    """Return a unified diff with the colours that git gives it."""
    return "\n".join(map(_coloured, text.split("\n")))


def _coloured(line: str) -> str:
    if line.startswith(("--- ", "+++ ")):
        return click.style(line, bold=True)
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line
