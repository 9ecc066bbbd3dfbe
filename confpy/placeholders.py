"""Commands as they are written: the paths that stand for a candidate and its target, and the line people see. Pure."""

from __future__ import annotations

import re
import shlex
import zlib
from typing import overload

from confpy.model import Command, HttpReload, ReloadBy, Resource, SignalReload, SocketReload

PLACEHOLDER = re.compile(r"\{\{\s*\.?(src|dest)\s*\}\}")


@overload
def fill(command: Command, src: str, dest: str) -> Command: ...
@overload
def fill(command: ReloadBy, src: str, dest: str) -> ReloadBy: ...
def fill(command: ReloadBy, src: str, dest: str) -> ReloadBy:
    """Put paths where a command says ``{{.src}}``, ``{{ src }}``, ``{{.dest}}`` or ``{{dest}}``; all else stays.

    In a string the paths are quoted for the shell, in a list they stand as they are.
    """
    if isinstance(command, SignalReload | HttpReload | SocketReload):
        return command
    paths = {"src": src, "dest": dest}
    if isinstance(command, str):
        return PLACEHOLDER.sub(lambda match: shlex.quote(paths[match[1]]), command)
    return tuple(PLACEHOLDER.sub(lambda match: paths[match[1]], word) for word in command)


def reload_of(resource: Resource) -> ReloadBy | None:
    """Return what a change of a resource wants to be run: ``show`` of it is what its debt is known by."""
    # The candidate is the target by then: both names mean the same file.
    return None if resource.reload_cmd is None else fill(resource.reload_cmd, resource.dest, resource.dest)


def names_candidate(command: Command) -> bool:
    """Say whether a check says itself which file it looks at: by ``{{.src}}`` or a ``CONFPY_SRC`` variable."""
    return "CONFPY_SRC" in show(fill(command, "$CONFPY_SRC", ""))


def check_in_place(resource: Resource) -> str:
    """Return the check that a resource runs over files in their places, the same for all that have it; empty: none."""
    if resource.check_cmd is None or resource.check_mode != "swap":
        return ""
    # In its place the candidate is the target: a check that names it so is the same as one that names no candidate.
    command = fill(resource.check_cmd, resource.dest, resource.dest)
    return "" if names_candidate(command) else show(command)


def show(command: ReloadBy) -> str:
    """Return a command as one line for people."""
    match command:
        case SignalReload():
            return f"signal {command.signal} to {command.pidfile or command.process}"
        case HttpReload():
            address, mark, query = command.url.partition("?")
            # A token may stand there; the sum tells one query from another.
            return f"{command.method} {address}" + (f"?…{zlib.crc32(query.encode()):08x}" if mark else "")
        case SocketReload():
            return f"{', '.join(map(repr, command.lines))} to unix:{command.path}"
        case str():
            return command
        case _:
            return shlex.join(command)
