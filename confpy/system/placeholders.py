"""Commands as they are written: the placeholders for a candidate and its target, and the line for people. Pure."""

from __future__ import annotations

import re
import shlex
from typing import TypeAlias

Command: TypeAlias = str | tuple[str, ...]
"""A string goes to ``/bin/sh -c``; a tuple is executed as is."""

PLACEHOLDER = re.compile(r"\{\{\s*\.?(src|dest)\s*\}\}")


def read_command(written: Command) -> Command | None:
    """Return a command of TOML: an empty string is none, as in confd; an empty list raises ``ValueError``."""
    if isinstance(written, str):
        return written if written.strip() else None
    if not written or not written[0]:
        raise ValueError
    return written


def fill_command(command: Command, src: str, dest: str) -> Command:
    """Replace ``{{.src}}``, ``{{ src }}``, ``{{.dest}}`` and ``{{dest}}`` by paths; everything else is unchanged.

    In a string the paths are quoted for the shell, in a list they are inserted as they are.
    """
    paths = {"src": src, "dest": dest}
    if isinstance(command, str):
        return PLACEHOLDER.sub(lambda match: shlex.quote(paths[match[1]]), command)
    return tuple(PLACEHOLDER.sub(lambda match: paths[match[1]], word) for word in command)


def names_candidate(command: Command) -> bool:
    """Return whether a check names the file that it reads: by ``{{.src}}`` or a ``CONFPY_SRC`` variable."""
    return "CONFPY_SRC" in command_line(fill_command(command, "$CONFPY_SRC", ""))


def command_line(command: Command) -> str:
    """Return a command as one line for people."""
    return command if isinstance(command, str) else shlex.join(command)
