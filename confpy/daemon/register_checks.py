"""The check of a registration: a command, a request, or a connection. Each is bounded in time."""

from __future__ import annotations

import socket
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from confpy.config.settings import SECRET_VARIABLES
from confpy.errors import CheckError, ConfpyError, UsageError
from confpy.http.addresses import Node
from confpy.http.once import request_once
from confpy.http.response import Disconnected
from confpy.system.abandonable import call_within
from confpy.system.subprocesses import TAIL, Shell, for_people


class RegistrationCheck(Protocol):
    """Says whether what is registered works."""

    def run(self, timeout: float) -> None:
        """Return if it does, within ``timeout`` seconds; raises ``CheckError``."""

    def close(self, *, kills: bool = False) -> None:
        """End what runs, with TERM or with KILL; nothing is run afterwards. Any thread."""


class CommandCheck:
    """A shell command that exits with 0. At its timeout its process group gets TERM, then KILL."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._shell = Shell(hidden=SECRET_VARIABLES)

    def run(self, timeout: float) -> None:
        ran = self._shell.run(self._command, {}, timeout)
        if ran.failure:
            error = ran.error(CheckError, "check", self._command)
            if ran.timed_out:
                error.hint = "raise -check-timeout if it needs longer"
            raise error

    def close(self, *, kills: bool = False) -> None:
        if kills:
            self._shell.kill_all()
        else:
            self._shell.terminate_all()


class HttpCheck:
    """A GET that is answered with 2xx or 3xx."""

    def __init__(self, url: str) -> None:
        """Raises ``UsageError``."""
        self._url = url
        try:
            parts = urlsplit(url)
            is_url = parts.scheme in {"http", "https"} and bool(parts.hostname or parts.netloc == "unix:")
            is_url = is_url and parts.port != 0 and url.isprintable() and " " not in url
        except ValueError:
            is_url = False
        if not is_url:
            raise UsageError("flag -check-http is not a URL", hint="such as http://127.0.0.1:8080/health")

    def run(self, timeout: float) -> None:
        status, said, body = request_once("GET", self._url, timeout, _describe, TAIL)
        if not 200 <= status < 400:
            where = {"output": output} if (output := for_people(body)) else {}
            reason = for_people(said.encode())[:200]
            raise CheckError(f"the check was answered with {status} {reason}".rstrip(), kind=("HTTP", status), **where)

    def close(self, *, kills: bool = False) -> None:
        pass


class TcpCheck:
    """A connection that is accepted."""

    def __init__(self, address: str) -> None:
        """Raises ``UsageError``."""
        host, colon, port = address.rpartition(":")
        self._host = host.removeprefix("[").removesuffix("]")
        if not (colon and self._host and port.isdecimal() and 0 < int(port[:6]) < 1 << 16):
            raise UsageError("flag -check-tcp is not HOST:PORT", hint="such as 127.0.0.1:8080 or [::1]:8080")
        self._port = int(port)

    def run(self, timeout: float) -> None:
        try:
            # On a thread of its own: the look-up of a name has no limit.
            call_within(timeout, partial(socket.create_connection, (self._host, self._port), timeout)).close()
        except TimeoutError:
            raise _late() from None
        except OSError as error:
            raise CheckError(f"the check cannot connect: {error.strerror or error}") from error

    def close(self, *, kills: bool = False) -> None:
        pass


def _late() -> CheckError:
    return CheckError("the check was not answered within its time", hint="raise -check-timeout if it needs longer")


def _describe(error: BaseException, _: Node) -> ConfpyError:
    if isinstance(error, TimeoutError):
        return _late()
    if isinstance(error, OSError) and not isinstance(error, Disconnected):
        return CheckError(f"the check cannot connect: {error.strerror or error}")
    return CheckError("the check was not answered in HTTP", hint="is it the right port?")
