"""Reload actions as people see them, which is also what their pending reloads are keyed by. Pure."""

from __future__ import annotations

import zlib

from confpy.reload.actions import HttpReload, ReloadBy, SignalReload, SocketReload
from confpy.system.placeholders import command_line, fill_command


def fill(action: ReloadBy, src: str, dest: str) -> ReloadBy:
    """Put paths into a command (``fill_command``); the other actions have no placeholders."""
    if isinstance(action, SignalReload | HttpReload | SocketReload):
        return action
    return fill_command(action, src, dest)


def show(action: ReloadBy) -> str:
    """Return a reload action as one line for people."""
    match action:
        case SignalReload():
            return f"signal {action.signal} to {action.pidfile or action.process}"
        case HttpReload():
            address, mark, query = action.url.partition("?")
            # A token may stand there; the sum tells one query from another.
            return f"{action.method} {address}" + (f"?…{zlib.crc32(query.encode()):08x}" if mark else "")
        case SocketReload():
            return f"{', '.join(map(repr, action.lines))} to unix:{action.path}"
        case _:
            return command_line(action)
