"""What a running confpy answers on its control socket: a table of requests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from confpy.agent.review import Review
from confpy.errors import ConfpyError, UsageError, exit_code
from confpy.events import LogEvent
from confpy.messages import Message, Signalled
from confpy.status import places
from confpy.status.control import ControlSocket
from confpy.status.model import Status, as_json
from confpy.status.protocol import LONGEST_WAIT, NOT_WELL, Arguments, Request

T = TypeVar("T")
SECONDS = 5.0
"""In which the owner thread is to answer."""
POLL = 0.1
"""Seconds from one look at how a reload goes to the next."""
MOST_FAILURES = 100
"""Failures that an answer lists."""


class Owner(Protocol):
    """The daemon, as other threads see it."""

    def ask(self, ask: Callable[[], T], seconds: float) -> T: ...

    def post(self, message: Message) -> None: ...

    def status(self) -> Status: ...

    def review(self, asked_at: float) -> Review: ...

    def monotonic(self) -> float: ...


def open_control(
    owner: Owner,
    confdir: str,
    state: str,
    log: Callable[[LogEvent], None],
    more: Mapping[str, Request] | None = None,
) -> ControlSocket | None:
    """Listen on the control socket; None where there is no place for it, which is a line of the log.

    ``state``: the state folder of the confdir. ``more``: further requests.
    """
    name = places.socket_name(confdir)
    try:
        return ControlSocket.open_in(places.folders(os.environ, state), name, {**requests(owner), **(more or {})})
    except (ConfpyError, OSError) as error:
        reason = error.message if isinstance(error, ConfpyError) else str(error)
        log(LogEvent("debug", "control.unavailable", {"error": reason, "did": "cannot be asked for its status"}))
    return None


def requests(owner: Owner) -> dict[str, Request]:
    """Return the requests that every daemon answers."""
    return {
        "status": Request(lambda arguments: _status(owner, arguments), changes=False),
        "reload": Request(lambda arguments: _reload(owner, arguments)),
    }


def _status(owner: Owner, arguments: Arguments) -> object:
    """Answer ``status``. ``brief``: only what tells one confpy from another."""
    if arguments.get("brief") is True:
        status = owner.ask(owner.status, SECONDS)
        return {"version": status.version, "pid": status.pid, "confdir": status.confdir, "backend": status.backend}
    return as_json(owner.ask(owner.status, SECONDS))


def _reload(owner: Owner, arguments: Arguments) -> object:
    """Answer ``reload``. ``wait``: seconds for which to wait until everything was tried; without it, not at all."""
    seconds = arguments.get("wait", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_WAIT:
        raise UsageError(f"wait is not a number of seconds from 0 to {LONGEST_WAIT:g}")

    def begin() -> float:
        owner.post(Signalled(signal.SIGHUP))
        return owner.monotonic()

    asked_at = owner.ask(begin, SECONDS)
    if not seconds:
        return {"is_over": False, "code": 0, "failures": [], "changed": [], "took": 0.0}
    deadline = time.monotonic() + seconds
    while True:
        found = owner.ask(lambda: owner.review(asked_at), SECONDS)
        if found.is_over or time.monotonic() >= deadline:
            break
        time.sleep(POLL)
    failures = [error.fields() for error in found.errors[:MOST_FAILURES]]
    took = round(seconds - (deadline - time.monotonic()), 3)
    code = exit_code(found.errors) if found.is_over else NOT_WELL
    return {"is_over": found.is_over, "code": code, "failures": failures, "changed": list(found.changed), "took": took}
