"""One reload: its action, and the verifier that finds out whether the program has taken its new files."""

from __future__ import annotations

import time

from confpy.errors import ConfpyError, ReloadError
from confpy.messages import Reload, Reloaded
from confpy.reload.context import Context
from confpy.system.subprocesses import Shell

SHOWN = 200
"""Characters that are logged of an answer of unknown meaning."""


def reload(action: Reload, shell: Shell) -> Reloaded:
    """Run the action, then verify it; returns how it ended, and raises nothing for what fails."""
    began = time.monotonic()
    unsure: str | None = None
    error: ConfpyError | None = None
    verifier = action.verify
    watched = verifier is not None and verifier.watches
    context = Context(action.environment, action.timeout, shell, is_watched=watched)
    try:
        verify = verifier.begin(context) if verifier is not None else None
        unsure = action.command.run(context)
        if verify is not None:
            verify()
    except ReloadError as failure:
        error = failure.at(command=action.command.describe())
    is_unsure = unsure is not None and verifier is None and error is None
    return Reloaded(action.key, error, time.monotonic() - began, is_unsure, (unsure or "")[:SHOWN])
