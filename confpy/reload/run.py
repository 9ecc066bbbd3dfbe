"""One reload: what tells a program of its new files, and what verifies that it took them."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from confpy.errors import ConfpyError, ReloadError
from confpy.messages import Reload, Reloaded
from confpy.reload.actions import HttpReload, SignalReload, SocketReload, VerifyProgram
from confpy.reload.describe import show
from confpy.reload.processes import signal_processes
from confpy.system.placeholders import Command
from confpy.system.subprocesses import TAIL, Shell, for_people

if TYPE_CHECKING:
    from confpy.reload import haproxy

Bounded: TypeAlias = Callable[[Callable[[], Any], float], Any]
"""Calls a function for so many seconds at most; raises ``TimeoutError`` where it takes longer."""

SHOWN = 200
"""Characters that are logged of an answer which nobody understands."""
RELOAD = "reload"
"""What HAProxy's master is told; before 2.7 it gives no answer."""


def reload(action: Reload, shell: Shell, bounded: Bounded = lambda call, _seconds: call()) -> Reloaded:
    """Do what the action says, then verify it; returns how it ended, and raises nothing for what fails."""
    began = time.monotonic()
    unsure: str | None = None
    error: ConfpyError | None = None
    taken: Callable[[float], None] | None = None
    try:
        if isinstance(action.verify, VerifyProgram):
            from confpy.reload import verify

            taken = verify.begin(action.verify, action.timeout)
        match action.command:
            case SignalReload():
                signal_processes(action.command)
            case HttpReload():
                _request(action.command, action.timeout, bounded)
            case SocketReload():
                unsure = _say(action.command, action.timeout, asks=taken is None)
            case command:
                _run("reload", command, action, shell)
        if taken is not None:
            taken(action.timeout)
        elif action.verify is not None and not isinstance(action.verify, VerifyProgram):
            _run("verify", action.verify, action, shell)
    except ReloadError as failure:
        error = failure.at(command=show(action.command))
    is_unsure = unsure is not None and action.verify is None and error is None
    return Reloaded(action.key, error, time.monotonic() - began, is_unsure, (unsure or "")[:SHOWN])


def _run(role: str, command: Command, action: Reload, shell: Shell) -> None:
    ran = shell.run(command, action.environment, action.timeout)
    if ran.failure:
        raise ran.error(ReloadError, role, command)


def _request(by: HttpReload, timeout: float, bounded: Bounded) -> None:
    """Make a request, of ``timeout`` seconds as a whole; raises ``ReloadError`` where the answer is no 2xx."""
    import http.client
    from urllib.parse import urlsplit

    from confpy.reload.haproxy import LONGEST_SILENCE, connect

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


def _say(by: SocketReload, timeout: float, *, asks: bool) -> str | None:
    """Say the lines; returns an answer of which nobody knows what it tells, None where all have succeeded.

    ``asks``: where HAProxy's master gives no answer to its reload, ask it how that ended. Raises ``ReloadError``.
    """
    from confpy.reload import haproxy

    until = time.monotonic() + timeout
    unsure: str | None = None
    for number, line in enumerate(by.lines, 1):
        asks_master = asks and line == RELOAD and not by.expect
        before = _master(by.path, until) if asks_master else None
        try:
            said = haproxy.say(by.path, line, _left(until))
        except OSError as error:
            raise _failed(error) from None
        which = f"line {number} of the reload" if by.more else "the reload"
        output = {"output": said[-TAIL:]} if said else {}
        if by.expect:
            if not re.search(by.expect, said):
                hint = "the regular expression in reload_socket_expect is not found in the answer"
                raise ReloadError(f"{which} was not answered as expected", hint=hint, **output)
            continue
        told = haproxy.judge(line, said)
        if told == "refused":
            raise ReloadError(f"{which} was refused", **output)
        if told == "unknown" and before is not None and not said:
            haproxy.await_reload(by.path, before, _left(until))
        elif told == "unknown" and unsure is None:
            unsure = said
    return unsure


def _master(path: str, until: float) -> haproxy.Master | None:
    """Return how HAProxy's master is before it reloads, None where somebody else answers, or nobody."""
    from confpy.reload import haproxy

    try:
        return haproxy.look(path, min(_left(until), haproxy.LONGEST_LOOK))
    except OSError:
        return None


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)


def _failed(error: OSError) -> ReloadError:
    if isinstance(error, TimeoutError):
        hint = "raise reload_cmd_timeout if it needs longer"
        return ReloadError("the reload was not answered within its time", hint=hint)
    return ReloadError(f"the reload could not be sent: {error.strerror or error}", hint="is the program running?")
