"""One reload: its action, and the verifier that finds out whether the program has taken its new files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from confpy.errors import ConfpyError, ReloadError
from confpy.reload.context import Context
from confpy.reload.spec import ReloadResult, ReloadSpec
from confpy.system.subprocesses import Shell

if TYPE_CHECKING:
    from confpy.system.child import Child

SHOWN = 200
"""Characters that are logged of an answer of unknown meaning."""


def reload(spec: ReloadSpec, environment: Mapping[str, str], shell: Shell, child: Child | None = None) -> ReloadResult:
    """Run the action, then the verifier. Raises nothing for what fails: the result has the error.

    ``environment``: variables of the commands. ``child``: the program that confpy supervises.
    """
    began = time.monotonic()
    unsure: str | None = None
    error: ConfpyError | None = None
    watched = spec.verifier is not None and spec.verifier.watches
    context = Context(environment, spec.timeout, shell, is_watched=watched, child=child)
    try:
        verify = spec.verifier.begin(context) if spec.verifier is not None else None
        unsure = spec.action.run(context)
        if verify is not None:
            verify()
    except ReloadError as failure:
        error = failure.at(command=spec.key)
    is_unsure = unsure is not None and spec.verifier is None and error is None
    return ReloadResult(error, time.monotonic() - began, is_unsure, (unsure or "")[:SHOWN])
