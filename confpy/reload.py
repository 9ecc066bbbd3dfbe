"""One reload: what tells a program of its new files, and what verifies that it took them."""

from __future__ import annotations

import time

from confpy.command import Shell
from confpy.errors import ConfpyError, ReloadError
from confpy.model import Command, HttpReload, Reload, Reloaded, SignalReload, SocketReload
from confpy.placeholders import show


def reload(action: Reload, shell: Shell) -> Reloaded:
    """Do what the action says, then verify it; returns how it ended, and raises nothing for what fails."""
    began = time.monotonic()
    error: ConfpyError | None = None
    if isinstance(action.command, SignalReload | HttpReload | SocketReload):
        error = ReloadError("the reload is no command", command=show(action.command))
    else:
        error = _run("reload", action.command, action, shell)
    if error is None and action.verify is not None:
        error = _run("verify", action.verify, action, shell)
    return Reloaded(action.key, error, time.monotonic() - began)


def _run(role: str, command: Command, action: Reload, shell: Shell) -> ConfpyError | None:
    ran = shell.run(command, action.environment, action.timeout)
    return ran.error(ReloadError, role, command) if ran.failure else None
