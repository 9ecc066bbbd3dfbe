"""The one user of subprocess: check and reload commands, bounded in time and output."""

from __future__ import annotations

import contextlib
import os
import select
import signal as signals
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from confpy.errors import ConfpyError
from confpy.model import Command
from confpy.placeholders import show

if TYPE_CHECKING:
    import subprocess

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of a shell for a command that it could not run."""
GRACE = 5.0
"""Seconds between TERM and KILL for a command that ran out of time."""
TAIL = 4096
"""Bytes of output that a failed command shows."""
OUTPUT_BOUND = 64 << 20
"""Bytes of output kept in memory while a command runs; beyond it only the end is kept."""
LOOK = 0.05
"""Seconds between two looks at how much a command has written: short, since it may write gigabytes in one."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    """Its exit code; negative: the signal that ended it; 126 and 127 as a shell has them."""
    took: float
    """Seconds."""
    timed_out: bool = False
    tail: str = ""
    """The end of what it wrote, control characters taken out."""

    @property
    def failure(self) -> str:
        """Say in a few words how it failed, empty where it did not."""
        if self.timed_out:
            return f"did not end within its time, killed after {self.took:.1f} s"
        if self.code < 0:
            try:
                return f"was ended by {signals.Signals(-self.code).name}"
            except ValueError:  # most real-time signals have no name
                return f"was ended by signal {-self.code}"
        return f"exited with {self.code}" if self.code else ""

    def error(self, kind: type[ConfpyError], role: str, command: Command) -> ConfpyError:
        """Return the error of a command that failed as a resource's ``role``: check or reload."""
        hint = ""
        if self.timed_out:
            hint = f"raise {role}_cmd_timeout if it needs longer"
        elif self.code == NOT_FOUND:
            hint = "is the program installed, and on the PATH?"
        elif self.code == NOT_EXECUTABLE:
            hint = "may confpy's user execute it?"
        where = {"output": self.tail} if self.tail else {}
        return kind(f"the {role} {self.failure}", hint=hint, command=show(command), **where)


class Shell:
    """Runs commands, each in a process group of its own, and can kill those that run."""

    def __init__(self) -> None:
        self._groups: set[int] = set()

    def run(self, command: Command, environment: Mapping[str, str], timeout: float) -> Ran:
        """Run a command to its end, or for ``timeout`` seconds: then TERM, and KILL after ``GRACE``, to its group.

        ``environment`` is added to ours. A child that stays in the background holds nothing up. Raises nothing: what
        cannot even be begun (no descriptor left, no memory) is a command that could not be executed.
        """
        began = time.monotonic()
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else command
        try:
            return self._run(argv, environment, timeout, began)
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            return Ran(code, time.monotonic() - began, tail=f"{argv[0]}: {error.strerror}")

    def _run(self, argv: Sequence[str], environment: Mapping[str, str], timeout: float, began: float) -> Ran:
        import subprocess

        with _output() as output:
            process = subprocess.Popen(
                argv,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            self._groups.add(process.pid)
            try:
                timed_out = not _wait(process, timeout, output)
                if timed_out:
                    _kill_group(process.pid, signals.SIGTERM)
                    _wait(process, GRACE, output)
                    # Also where the leader has ended: it may have left children that ignored the TERM.
                    _kill_group(process.pid, signals.SIGKILL)
                    # One that became another user (sudo), or hangs in the kernel, outlives even that.
                    _wait(process, GRACE, output)
            finally:
                self._groups.discard(process.pid)
            # Reaped only now: until then its number can belong to no other group.
            ended = process.poll()
            code = -signals.SIGKILL if ended is None else ended
            return Ran(code, time.monotonic() - began, timed_out, _tail(output))

    def kill_all(self) -> None:
        """Kill the groups of all commands that run."""
        for group in tuple(self._groups):
            _kill_group(group, signals.SIGKILL)


@contextlib.contextmanager
def _output() -> Iterator[IO[bytes]]:
    """Give a place for a command's output: a file, never a pipe, which a daemonizing child would hold open.

    In memory, so that a read-only or full disk hinders no reload. Sealed at the end: what a child in the background
    writes later fails softly (EPERM) instead of piling up for months.
    """
    with _file() as file:
        yield file
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
                os.ftruncate(file.fileno(), 0)


def _file() -> IO[bytes]:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # some kernels forbid it (vm.memfd_noexec=2)
            return open(os.memfd_create("confpy-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "rb+", buffering=0)
    import tempfile

    return tempfile.TemporaryFile(buffering=0)


def _wait(process: subprocess.Popen[bytes], timeout: float, output: IO[bytes]) -> bool:
    """Wait for the command itself (not for its children). False where it runs on after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # no pidfd (an old kernel): subprocess polls, some milliseconds late
        import subprocess

        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
        return process.returncode is not None
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if ended.poll(max(0.0, min(left, LOOK)) * 1000):
                return True
            if left <= 0:
                return False
            _bound(output)
    finally:
        os.close(descriptor)


def _bound(output: IO[bytes]) -> None:
    """Drop what a command that floods its output has written, but for the end."""
    descriptor = output.fileno()
    status = os.fstat(descriptor)
    if status.st_blocks * 512 > OUTPUT_BOUND:
        start = max(0, status.st_size - TAIL)
        end = os.pread(descriptor, TAIL, start)
        # The command goes on writing where it was: what is before has become a hole, which takes no room.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, end, start)


def _kill_group(group: int, number: signals.Signals) -> None:
    # Gone already, or a child that changed its user (sudo): both are as good as it gets.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _tail(output: IO[bytes]) -> str:
    size = os.fstat(output.fileno()).st_size
    start = max(0, size - TAIL)
    text = os.pread(output.fileno(), TAIL, start).decode("utf-8", "replace")
    return "".join(char for char in text if char.isprintable() or char in "\n\t").strip()
