"""The program of ``-exec``: supervised by a daemon, put in the place of a one-shot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from confpy.config.settings import SECRET_VARIABLES, Settings
from confpy.log import Log
from confpy.stores.env import added_by_python

if TYPE_CHECKING:
    from confpy.system.child import Child


def supervised(settings: Settings) -> Child | None:
    """Return the program that a daemon supervises; None for a one-shot."""
    if not settings.exec or settings.onetime:
        return None
    from confpy.system.child import Child

    # What ends confpy without a chance to end the program: a KILL, or the kernel when it is out of memory.
    return Child(settings.exec, SECRET_VARIABLES | added_by_python(), dies_by=settings.exec_stop_signal or "TERM")


def execute(settings: Settings, log: Log) -> int:
    """Put the program in confpy's place. Returns the exit code of a shell if that is not possible."""
    from confpy.system.child import replace_process
    from confpy.system.subprocesses import NOT_EXECUTABLE, NOT_FOUND

    assert settings.exec is not None
    log.write("info", "exec.started", {"program": settings.exec[0], "did": "takes the place of confpy"})
    reason = replace_process(settings.exec, SECRET_VARIABLES | added_by_python(), os.environ)
    fields = {"error": f"the program cannot be started: {os.strerror(reason)}", "program": settings.exec[0]}
    log.write("error", "exec.failed", {**fields, "hint": "is it installed, on the PATH, and executable for our user?"})
    return NOT_FOUND if reason == 2 else NOT_EXECUTABLE
