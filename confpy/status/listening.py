"""The socket at which the status is served."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Any

from confpy.config.address import Address
from confpy.errors import UsageError

BACKLOG = 1024


class Listener:
    """A socket that listens. Closing it removes its file."""

    def __init__(self, address: Address) -> None:
        """Raises ``UsageError`` where one cannot listen there."""
        self.address = address
        self._file: tuple[int, int] | None = None
        try:
            self.socket = self._listen_at_path(address.path) if address.path else _listen_at_port(address)
        except OSError as error:
            has_number = error.errno is not None and error.errno > 0  # create_server makes its own text
            reason = (os.strerror(error.errno or 0) if has_number else error.strerror or str(error)).lower()
            raise UsageError(f"cannot listen at {address}: {reason}", hint=_hint(error)) from None
        self.socket.setblocking(False)

    def close(self) -> None:
        self.socket.close()
        with contextlib.suppress(OSError):
            if self._file is not None and self._file == _identity(self.address.path):
                os.unlink(self.address.path)

    def _listen_at_path(self, path: str) -> socket.socket:
        """Listen at a path that only our own user and root can connect to; a socket that nobody listens at is replaced.

        Nobody can connect before the mode is set: nothing listens by then.
        """
        _reject_used(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        beside = f"{path}.{os.getpid()}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            listener.bind(beside)
            os.chmod(beside, 0o600)
            listener.listen(BACKLOG)
            os.rename(beside, path)
            self._file = _identity(path)
        except BaseException as error:
            listener.close()
            with contextlib.suppress(OSError):
                os.unlink(beside)
            if isinstance(error, OSError) and error.errno is None:  # longer than the 108 bytes of the kernel
                raise OSError(0, "the path is too long") from None
            raise
        return listener


def _listen_at_port(address: Address) -> socket.socket:
    if not address.host:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        with contextlib.suppress(OSError):
            return socket.create_server(("", address.port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
        return socket.create_server(("", address.port), backlog=BACKLOG)  # the kernel's IPv6 is off
    found: list[Any] = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, where = found[0]
    return socket.create_server(where, family=family, backlog=BACKLOG)


def _reject_used(path: str) -> None:
    """Raise ``OSError`` for a path with a file that is no socket, or at which somebody listens."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(0, "there is a file that is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            with contextlib.suppress(ConnectionRefusedError):
                probe.connect(path)
                raise OSError(0, "another process listens there")


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _hint(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "a port below 1024 and a folder of root's need privileges: choose another one"
    return "choose another one" if error.errno else "choose another path"
