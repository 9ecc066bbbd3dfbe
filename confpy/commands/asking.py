"""What a command asks a running confpy over its control socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from confpy.config.settings import STATE_DIR, Settings
from confpy.errors import ConfpyError, UsageError
from confpy.ledger.folder import StateFolder
from confpy.status import places
from confpy.status.control import peer_of, read_line
from confpy.status.protocol import ANSWER_BYTES, NO_DAEMON, Arguments, read_answer, write_request

SECONDS = 10.0
"""In which an answer is to come: the running confpy gives its owner thread half of that."""

BUSY = 0.05
"""Seconds from one try to connect to the next, where too many wait to be accepted."""


class NoDaemon(ConfpyError):
    """No confpy answers."""

    exit_code = NO_DAEMON


def find(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return the path of the socket of the confpy that is meant: that of the confdir, else the only one that runs.

    Raises ``NoDaemon``, and ``UsageError`` where several run and no confdir was named.
    """
    if settings.origin("confdir") != "default":
        state = StateFolder.of(settings, lambda _: None).path
        name = places.socket_name(settings.confdir)
        candidates = [os.path.join(folder, name) for folder in places.folders(environ, state)]
        running = [path for path in candidates if _reaches(path)]
        if not running:
            raise _none(candidates, f"no confpy with the confdir {settings.confdir} answers")
        return running[0]
    running = [path for path in places.sockets(environ, settings.state_dir or STATE_DIR) if _reaches(path)]
    if len(running) > 1:
        confdirs = " or ".join(f"-confdir {one}" for one in sorted(_confdir(path) for path in running))
        raise UsageError(f"{len(running)} confpy run: say which", hint=confdirs)
    if not running:
        raise _none(places.sockets(environ, settings.state_dir or STATE_DIR), "no confpy answers")
    return running[0]


def ask(path: str, request: str, arguments: Arguments | None = None, *, seconds: float = SECONDS) -> Any:
    """Return the answer of the confpy that listens at a path; raises ``NoDaemon`` and ``Refused``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            _connect(connection, path, seconds)
            if peer_of(connection) not in {0, os.geteuid(), os.lstat(path).st_uid}:
                raise NoDaemon("what listens there is not the confpy that made the socket", file=path)
            connection.sendall(write_request(request, arguments or {}))
            line = read_line(connection, ANSWER_BYTES, seconds)
        except OSError as error:
            raise _unreachable(path, error) from error
    if line is None:
        raise NoDaemon(f"confpy has not answered in {seconds:g} s", file=path)
    return read_answer(line)


def _connect(connection: socket.socket, path: str, seconds: float) -> None:
    """Connect, when there is room among those that wait to be accepted: the kernel does not wait for that."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.connect(path)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(BUSY)
        else:
            return


def _reaches(path: str) -> bool:
    """Say whether somebody listens at a path; raises ``NoDaemon`` where that may not be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.connect(path)
        except PermissionError as error:
            raise _unreachable(path, error) from error
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _confdir(path: str) -> str:
    try:
        return str(ask(path, "status", {"brief": True})["confdir"])
    except (ConfpyError, KeyError, TypeError):
        return f"(no answer at {path})"


def _none(candidates: list[str], message: str) -> NoDaemon:
    looked = ", ".join(candidates[:4]) or places.RUNTIME
    return NoDaemon(message, hint=f"is it running, and are you its user or root? Looked at {looked}")


def _unreachable(path: str, error: OSError) -> NoDaemon:
    hint = "only root and the user that confpy runs as may ask it" if isinstance(error, PermissionError) else ""
    return NoDaemon(f"confpy cannot be asked: {error.strerror or error}", hint=hint, file=path)
