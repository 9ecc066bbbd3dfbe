"""The control socket of a running confpy: 0600, in a folder that only root and its user may write to.

One thread sleeps in ``accept``; a connection has a thread of its own while it lasts. Connections, bytes and time are
bounded. The place of a daemon that was killed is taken over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping

from confpy.errors import ConfpyError
from confpy.status import places
from confpy.status.protocol import REQUEST_BYTES, Request, answer_line
from confpy.system.disk import Disk
from confpy.system.ownership import require_private

AT_ONCE = 8
"""Connections at the same time; others wait to be accepted."""
SECONDS = 5.0
"""In which a request is to be sent, and in which a part of the answer is to be read."""
PAUSE = 1.0
"""Seconds after a connection that could not be accepted: there is no descriptor left."""


class ControlSocket:
    """Listens, and answers requests, until ``close``."""

    def __init__(self, path: str, listener: socket.socket, requests: Mapping[str, Request]) -> None:
        """``open_in`` makes one."""
        self.path = path
        self._listener = listener
        self._requests = requests
        self._inode = os.lstat(path).st_ino
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._closed = False
        try:
            threading.Thread(target=self._accept, name="confpy-control", daemon=True).start()
        except RuntimeError:
            self.close()
            raise ConfpyError("no thread can be started for the control socket") from None

    @classmethod
    def open_in(
        cls, folders: Iterable[str], name: str, requests: Mapping[str, Request], disk: Disk | None = None
    ) -> ControlSocket:
        """Listen in the first of the folders where that is possible; raises ``ConfpyError`` where there is none."""
        reasons = []
        for folder in folders:
            try:
                path = os.path.join(_private(folder, disk or Disk()), name)
                return cls(path, _listen(path), requests)
            except InUse:
                raise
            except (OSError, ConfpyError) as error:
                reasons.append(f"{folder}: {error.strerror if isinstance(error, OSError) else error}")
        raise ConfpyError("there is no place for the control socket: " + "; ".join(reasons))

    def close(self) -> None:
        """Listen no more, and remove the socket; requests under way end with the process."""
        self._closed = True
        with contextlib.suppress(OSError):
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            self._room.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                self._room.release()
                if not self._closed:
                    time.sleep(PAUSE)
                continue
            try:
                threading.Thread(target=self._serve, args=(connection,), name="confpy-answer", daemon=True).start()
            except RuntimeError:  # no thread can be started
                connection.close()
                self._room.release()
                time.sleep(PAUSE)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                if (line := read_line(connection, REQUEST_BYTES, SECONDS)) is not None:
                    is_trusted = peer_of(connection) in {0, os.geteuid()}
                    connection.settimeout(SECONDS)
                    connection.sendall(answer_line(line, self._requests, is_trusted=is_trusted))
        finally:
            self._room.release()


class InUse(ConfpyError):
    """Another confpy answers there."""


def read_line(connection: socket.socket, most: int, seconds: float) -> bytes | None:
    """Return one line without its end; None where the peer ends before it, or sends too much or too slowly."""
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    size = 0
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            part = connection.recv(64 << 10)
        except TimeoutError:
            return None
        if not part:
            return None
        line, end, _ = part.partition(b"\n")
        parts.append(line)
        size += len(line)
        if size > most:
            return None
        if end:
            return b"".join(parts)
    return None


def peer_of(connection: socket.socket) -> int:
    """Return the user on the other end, as the kernel knows it (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)


def _private(folder: str, disk: Disk) -> str:
    """Return the path of a folder, which is made if it is missing; raises ``OSError`` if others may write there."""
    if disk.stat(folder) is None:
        os.mkdir(folder, 0o755 if folder == places.RUNTIME else 0o700)
    return require_private(folder, disk, volumes=True)


def _listen(path: str) -> socket.socket:
    """Return a socket that listens at a path, in place of one that nobody listens on any more."""
    if len(os.fsencode(path)) > places.LONGEST:
        raise ConfpyError(f"its path would be longer than {places.LONGEST} bytes")
    if answers(path):
        raise InUse("another confpy with this confdir answers there", file=path)
    # Bound beside its place, then renamed: a stale one is replaced in one step.
    stage = os.path.join(os.path.dirname(path), f".{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # What bind makes has the mode of the descriptor (unix_bind in Linux): nobody else may connect, ever.
        os.fchmod(listener.fileno(), 0o600)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stage)
        listener.bind(stage)
        listener.listen(AT_ONCE)
        os.rename(stage, path)
    except OSError:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(stage)
        raise
    return listener


def answers(path: str) -> bool:
    """Say whether a process listens at a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True
