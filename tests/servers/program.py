"""A server program in the foreground: started, waited for until its port answers, stopped, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.waiting import wait_until


def find(program: str) -> str:
    """Return where ``program`` is; fail with what to do where it is not."""
    found = shutil.which(program)
    assert found is not None, f"{program} is not installed; scripts/test installs it"
    return found


def answers(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Program:
    """``command`` as a process of its own group, serving on ``port``, its output in ``log``; ``more``: variables."""

    def __init__(self, command: Sequence[str], *, port: int, log: Path, more: Mapping[str, str] | None = None) -> None:
        self.port = port
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **(more or {})},
            )

    def started(self) -> Self:
        """Return when the port answers; fail with the log where the program ended instead."""
        try:
            wait_until(lambda: self.process.poll() is not None or answers(self.port), what=f"port {self.port} answers")
            assert self.process.poll() is None, f"{self.process.args!r} ended:\n{self.log.read_text(errors='replace')}"
        except AssertionError:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it with its children; KILL whoever is left after 5 s."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.started()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
