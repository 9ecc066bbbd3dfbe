"""A program of a master and a worker that notes which signals reach them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.waiting import wait_until

PROGRAM = """\
import os, signal, sys
record = sys.argv[1]
def hear(number, _):
    with open(record, "a") as file:
        file.write(f"{os.getpid()} {signal.Signals(number).name}\\n")
signal.signal(signal.SIGHUP, hear)
signal.signal(signal.SIGUSR2, hear)
if os.fork() == 0:
    open(record + ".worker", "w").close()
else:
    open(record + ".ready", "w").close()
while True:
    signal.pause()
"""


class SignalRecorder:
    """A program with a worker, both called ``name``, that notes the signals that they get."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.record = folder / name
        self.record.touch()
        program = folder / f"{name}.bin"
        program.mkdir()
        (program / name).symlink_to(sys.executable)
        self._process = subprocess.Popen([program / name, "-c", PROGRAM, self.record], start_new_session=True)
        self.number = self._process.pid
        for ready in (f"{name}.worker", f"{name}.ready"):
            wait_until((folder / ready).exists, what=f"{ready} is there")

    def signal_handlers(self) -> list[str]:
        return self.record.read_text().splitlines()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self.number, signal.SIGKILL)
        self._process.wait()
