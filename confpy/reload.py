"""One reload: what tells a program of its new files, and what verifies that it took them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from confpy.command import TAIL, Shell, for_people
from confpy.errors import ConfpyError, ReloadError
from confpy.model import Command, HttpReload, Reload, Reloaded, SignalReload, SocketReload, VerifyProgram
from confpy.placeholders import show
from confpy.processes import signal_processes

Bounded: TypeAlias = Callable[[Callable[[], Any], float], Any]
"""Calls a function for so many seconds at most; raises ``TimeoutError`` where it takes longer."""

SUCCESS, REFUSALS = "Success=1", ("Success=0", "Unknown command", "Permission denied")
"""How HAProxy's master begins its answer (management guide, "Master CLI"); before 2.7 it says nothing."""


def reload(action: Reload, shell: Shell, bounded: Bounded = lambda call, _seconds: call()) -> Reloaded:
    """Do what the action says, then verify it; returns how it ended, and raises nothing for what fails."""
    began = time.monotonic()
    unsure = False
    error: ConfpyError | None = None
    taken: Callable[[float], None] | None = None
    try:
        if isinstance(action.verify, VerifyProgram):
            from confpy import verify

            taken = verify.begin(action.verify, action.timeout)
        match action.command:
            case SignalReload():
                signal_processes(action.command)
            case HttpReload():
                _request(action.command, action.timeout, bounded)
            case SocketReload():
                unsure = not _say(action.command, action.timeout) and action.verify is None
            case command:
                _run("reload", command, action, shell)
        if taken is not None:
            taken(action.timeout)
        elif action.verify is not None and not isinstance(action.verify, VerifyProgram):
            _run("verify", action.verify, action, shell)
    except ReloadError as failure:
        error = failure.at(command=show(action.command))
    return Reloaded(action.key, error, time.monotonic() - began, unsure)


def _run(role: str, command: Command, action: Reload, shell: Shell) -> None:
    ran = shell.run(command, action.environment, action.timeout)
    if ran.failure:
        raise ran.error(ReloadError, role, command)


def _request(by: HttpReload, timeout: float, bounded: Bounded) -> None:
    """Make a request, of ``timeout`` seconds as a whole; raises ``ReloadError`` where the answer is no 2xx."""
    import http.client
    from urllib.parse import urlsplit

    from confpy.haproxy import LONGEST_SILENCE, connect

    url = urlsplit(by.url)
    file, _, path = url.path.partition(":") if url.netloc == "unix:" else ("", "", url.path)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind("localhost" if file else url.hostname or "", url.port, timeout=min(timeout, LONGEST_SILENCE))
    line: socket.socket | None = None

    def exchange() -> tuple[int, bytes, bytes]:
        nonlocal line
        with contextlib.closing(connection):
            if file:
                connection.sock = connect(file, timeout)
            else:
                connection.connect()
            line = connection.sock
            target = f"{path or '/'}?{url.query}" if url.query else path or "/"
            connection.request(by.method, target, headers={"User-Agent": "confpy", "Connection": "close"})
            with connection.getresponse() as answer:
                good = 200 <= answer.status < 300
                return answer.status, answer.reason.encode(), b"" if good else answer.read(TAIL)

    try:
        status, reason, output = bounded(exchange, timeout)
    except http.client.HTTPException:
        raise ReloadError("the reload was not answered in HTTP", hint="is it the right port?") from None
    except OSError as error:
        if line is not None:
            # A server that sends a byte now and then would keep the exchange for ever.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(line, socket.SHUT_RDWR)
        raise _failed(error) from None
    if not 200 <= status < 300:
        where = {"output": said} if (said := for_people(output)) else {}
        raise ReloadError(f"the reload was answered with {status} {for_people(reason)[:200]}".rstrip(), **where)


def _say(by: SocketReload, timeout: float) -> bool:
    """Say a line; returns whether the answer told of success. Raises ``ReloadError`` where it told of a failure."""
    from confpy.haproxy import say

    try:
        said = say(by.path, by.line, timeout)
    except OSError as error:
        raise _failed(error) from None
    if said.startswith(REFUSALS):
        raise ReloadError("the reload was refused", output=said[-TAIL:])
    return said.startswith(SUCCESS)


def _failed(error: OSError) -> ReloadError:
    if isinstance(error, TimeoutError):
        hint = "raise reload_cmd_timeout if it needs longer"
        return ReloadError("the reload was not answered within its time", hint=hint)
    return ReloadError(f"the reload could not be sent: {error.strerror or error}", hint="is the program running?")
