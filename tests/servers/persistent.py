"""What every real server with data in a folder of its own goes through in tests."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class PersistentServer(ABC):
    """A server process and its temporary folder: started, wounded, brought back, and gone without a trace."""

    name = "server"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"confpy-{self.name}-"))
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)  # for scripts that end in an exception

    @abstractmethod
    def start(self) -> None:
        """Start it (again) on what its folder holds; return when it answers."""

    def run(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Start its process, with what it says going to the log in its folder."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )

    def alive(self) -> None:
        """Fail, with the end of its log, where it has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended:\n" + (self.folder / "log").read_text(errors="replace")[-4000:])

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it and remove its folder. Any number of times."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def restart(self) -> None:
        """Kill it and start it again on the same data."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop it with SIGSTOP: its sockets stay open, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        # A thread that is running stops some time after the signal: until the last one has, there are answers.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def backup(self) -> Path:
        """Return a copy of its data as it is now, for ``restore``."""
        copy = Path(tempfile.mkdtemp(prefix="backup-", dir=self.folder))
        self.freeze()
        try:
            shutil.copytree(self.folder / "data", copy, dirs_exist_ok=True)
        finally:
            self.thaw()
        return copy

    def restore(self, backup: Path) -> None:
        """Go back to ``backup``: the same server, with an older history."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        shutil.copytree(backup, self.folder / "data")
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
