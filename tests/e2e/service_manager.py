"""A stand-in for systemd: the notification socket, and what a unit file says of starting and stopping a service."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import unit_files
from tests.waiting import wait_until


class NotifySocket:
    """The socket of ``NOTIFY_SOCKET``: what a service has sent, one datagram each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.datagrams: list[str] = []
        self.heard_at = 0.0
        """When something came last: monotonic."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._listener = threading.Thread(target=self._listen, name="notify socket")
        self._listener.start()

    def _listen(self) -> None:
        while datagram := self._socket.recv(4096):
            self.datagrams.append(datagram.decode())
            self.heard_at = time.monotonic()

    @property
    def states(self) -> list[str]:
        """The first variable of each datagram that says more than words and signs of life."""
        firsts = [datagram.partition("\n")[0] for datagram in self.datagrams]
        return [first for first in firsts if not first.startswith(("STATUS", "WATCHDOG", "EXTEND"))]

    def hears(self, text: str, *, times: int = 1) -> str:
        """Wait until so many datagrams contain this text; return the last of them."""

        def find() -> list[str]:
            found = [datagram for datagram in self.datagrams if text in datagram]
            return found if len(found) >= times else []

        return wait_until(find, what=f"{text} {times} times in {self.datagrams[-4:]}")[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self.path))
        self._listener.join()
        self._socket.close()


def read_unit(text: str) -> dict[str, list[str]]:
    """Return the settings of a unit file, of all sections, with all values that each is given."""
    found: dict[str, list[str]] = {}
    for settings in unit_files.read(text).values():
        for name, value in settings:
            found.setdefault(name, []).append(value)
    return found


class Service:
    """A service that was started as its unit says, and is stopped as systemd.kill(5) says.

    A control group is told by ``INVOCATION_ID``, which systemd sets as well and all processes of the service inherit.
    """

    def __init__(
        self, unit: Mapping[str, Sequence[str]], command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """``command``: what is run in place of the first word of ``ExecStart``."""
        self._mode = [*unit.get("KillMode", []), "control-group"][0]
        self._signal = signal.Signals[[*unit.get("KillSignal", []), "SIGTERM"][0]]
        self._timeout = float([*unit.get("TimeoutStopSec", []), "90"][0])
        self._id = uuid.uuid4().hex
        _, *words = shlex.split(unit["ExecStart"][0])
        self.process = subprocess.Popen(
            [*command, *words], env={**environment, "INVOCATION_ID": self._id}, stdin=subprocess.DEVNULL
        )

    def members(self) -> set[int]:
        """Return the processes of its control group that live."""
        return {int(folder.name) for folder in Path("/proc").glob("[0-9]*") if self._is_member(folder)}

    def _is_member(self, folder: Path) -> bool:
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            return state not in "ZX" and f"INVOCATION_ID={self._id}".encode() in (folder / "environ").read_bytes()
        except OSError:
            return False

    def stop(self) -> int:
        """Stop it; return the exit code of its main process."""
        others = self.members() - {self.process.pid}
        self.process.send_signal(self._signal)
        if self._mode == "control-group":
            _send(others, self._signal)
        try:
            code = self.process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self._mode in {"control-group", "mixed"}:
            _send(self.members(), signal.SIGKILL)
        return code


def _send(processes: set[int], number: int) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue
