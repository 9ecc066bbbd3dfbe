"""Starts processes: check and reload commands, bounded in time and output."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal as signals
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import IO

from confpy.errors import ConfpyError
from confpy.frozen import frozen
from confpy.system.forking import spawning
from confpy.system.placeholders import Command, command_line

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of a shell for a command that it could not run."""
GRACE = 5.0
"""Seconds between TERM and KILL for a command that ran out of time."""
TAIL = 4096
"""Bytes of output that a failed command shows."""
OUTPUT_BOUND = 64 << 20
"""Bytes of output that are stored in memory while a command runs; beyond that only the end of it."""
MANAGERS = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
"""Variables with which a service manager speaks to confpy alone: what a command says there would be taken as ours."""
LOOK = 0.05
"""Seconds between two looks at how much a command has written: short, since it may write gigabytes meanwhile."""
STEP = 0.005
"""Seconds between two looks at whether a command has ended, on a kernel that does not notify."""
HINTS = {
    NOT_FOUND: "is the program installed and on the PATH, and for a script the interpreter that its first line names?",
    NOT_EXECUTABLE: "by convention 126 means that a program was found and could not be executed: see the output",
}
"""For the exit codes of a shell, and of what imitates it, that could not run a command."""
REASONS = {
    errno.ENOENT: HINTS[NOT_FOUND],
    errno.EACCES: "may confpy's user execute it (its mode, its folders, a file system that is mounted noexec)?",
    errno.ENOEXEC: 'it has no "#!" line, or was built for another machine',
    errno.ETXTBSY: "another process has it open for writing",
    errno.E2BIG: "the command and its environment are too long for the system",
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, TasksMax, pids.max)",
    errno.ENOMEM: "give it memory",
}
"""For the errors of a program that cannot be started."""


@frozen
class Ran:
    """How a command ended."""

    code: int
    """Its exit code; negative: the signal that ended it; 126 and 127 as a shell has them."""
    took: float
    """Seconds."""
    timed_out: bool = False
    stopped: bool = False
    """It was ended, or not started, because confpy stops: whatever its exit code is, its work is not done."""
    tail: str = ""
    """The end of what it wrote, without control characters."""
    reason: int = 0
    """The ``errno`` with which it could not be started; 0 if it was started."""

    @property
    def failure(self) -> str:
        """How it failed, as a part of a sentence; empty if it did not."""
        if self.timed_out:
            return f"did not end within its time, killed after {self.took:.1f} s"
        if self.stopped:
            return "was cut short: confpy stops"
        if self.code < 0:
            try:
                return f"was ended by {signals.Signals(-self.code).name}"
            except ValueError:  # most real-time signals have no name
                return f"was ended by signal {-self.code}"
        return f"exited with {self.code}" if self.code else ""

    def error(self, cls: type[ConfpyError], role: str, command: Command) -> ConfpyError:
        """Return the error of a command that failed as a resource's ``role``: check, reload or verify."""
        hint = ""
        if self.timed_out:
            hint = f"raise {'check' if role == 'check' else 'reload'}_cmd_timeout if it needs longer"
        elif self.reason:
            hint = REASONS.get(self.reason, "")
        else:
            hint = HINTS.get(self.code, "")
        where = {"output": self.tail} if self.tail else {}
        kind = (role, self.timed_out, self.stopped, None if self.timed_out else self.code)
        return cls(f"the {role} {self.failure}", hint=hint, kind=kind, command=command_line(command), **where)


class Shell:
    """Runs commands, each in a process group of its own, and can end those that run."""

    def __init__(self, hidden: Collection[str] = ()) -> None:
        """``hidden``: environment variables that no command sees."""
        self._hidden = hidden
        self._groups: set[int] = set()
        self._ending: signals.Signals | None = None
        """The signal that was sent to the groups because confpy stops."""
        self._unkillable: list[int] = []

    def run(self, command: Command, environment: Mapping[str, str], timeout: float) -> Ran:
        """Run a command to its end, or for ``timeout`` seconds: then TERM, and KILL after ``GRACE``, to its group.

        ``environment`` is added to confpy's own. A child that stays in the background is not waited for. Raises
        nothing: what cannot be started (no descriptor left, no memory) is a command that could not be executed.
        """
        began = time.monotonic()
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else command
        try:
            return self._run(argv, {**visible(self._hidden), **environment}, timeout, began)
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            tail = f"{argv[0]}: {error.strerror}"
            return Ran(code, time.monotonic() - began, tail=tail, reason=error.errno or 0)

    def _run(self, argv: tuple[str, ...], environment: Mapping[str, str], timeout: float, began: float) -> Ran:
        self._reap_late()
        if self._ending is not None:
            return Ran(-signals.SIGTERM, 0.0, stopped=True)
        with _output() as output:
            process = _spawn(argv, environment, output.fileno())
            self._groups.add(process)
            if self._ending is not None:  # while it was being started
                _kill_group(process, self._ending)
            try:
                timed_out = not _wait(process, timeout, output)
                if timed_out:
                    _kill_group(process, signals.SIGTERM)
                    _wait(process, GRACE, output)
                stopped = self._ending is not None
                if timed_out or stopped:
                    # Even if the leader has ended: it may have left children that ignored the TERM.
                    _kill_group(process, signals.SIGKILL)
                    # A process of another user (sudo), or one that hangs in the kernel, survives even that.
                    _wait(process, GRACE, output)
            finally:
                self._groups.discard(process)
            # Reaped only now: until then no other group can get its number.
            code = _reap(process)
            if code is None:
                self._unkillable.append(process)
                code = -signals.SIGKILL
            return Ran(code, time.monotonic() - began, timed_out, stopped, _tail(output))

    def _reap_late(self) -> None:
        """Reap processes that survived a KILL and have ended since. For any number of threads."""
        for _ in tuple(self._unkillable):
            with contextlib.suppress(IndexError):
                process = self._unkillable.pop()
                if _reap(process) is None:
                    self._unkillable.insert(0, process)

    @property
    def is_ending(self) -> bool:
        """Whether confpy stops: no command is started any more."""
        return self._ending is not None

    def terminate_all(self) -> None:
        """Send TERM to all commands that run or are being started. None is started afterwards."""
        self._end_all(signals.SIGTERM)

    def kill_all(self) -> None:
        """Send KILL to them and their groups. None is started afterwards."""
        self._end_all(signals.SIGKILL)

    def _end_all(self, number: signals.Signals) -> None:
        self._ending = number
        for group in tuple(self._groups):
            _kill_group(group, number)


def visible(hidden: Collection[str]) -> dict[str, str]:
    """Return confpy's environment without these variables, and without those of its service manager."""
    return {name: value for name, value in os.environ.items() if name not in hidden and name not in MANAGERS}


def _spawn(argv: tuple[str, ...], environment: Mapping[str, str], output: int) -> int:
    """Start a program in a session of its own; returns its process id, raises ``OSError``.

    It gets an empty signal mask and default dispositions, whatever confpy was started with and its threads block: by
    ``posix_spawn``, which runs no Python code between fork and exec.
    """
    close_on_exec()
    files: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        # Output first: its descriptor is 0 if confpy was started without a standard input.
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    ]
    with spawning():
        return os.posix_spawnp(
            argv[0],
            argv,
            environment,
            file_actions=files,
            setsid=True,
            setsigmask=(),
            setsigdef=signals.valid_signals(),
        )


def close_on_exec() -> None:
    """Let no child inherit open files, beside the standard ones: those that Python did not open would be inherited.

    They are not closed in the child: ``posix_spawn`` rejects a descriptor above the limit of this process, which may be
    lower than that of the one that opened it.
    """
    with contextlib.suppress(OSError):  # no /proc
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed since, as is the folder that was listed
                if int(name) > 2:
                    os.set_inheritable(int(name), False)


def _reap(process: int) -> int | None:
    """Return the exit code of a child, None if it runs; negative: the signal that ended it."""
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


@contextlib.contextmanager
def _output() -> Iterator[IO[bytes]]:
    """Yield a file for a command's output; not a pipe, which a child that becomes a daemon would hold open.

    It is in memory, so that a read-only or full disk stops no reload, and is sealed at the end: what a child in the
    background writes later fails (EPERM) instead of growing for months.
    """
    with _file() as file:
        yield file
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
                os.ftruncate(file.fileno(), 0)


def _file() -> IO[bytes]:
    if sys.platform == "linux":
        # Some kernels forbid it (vm.memfd_noexec=2); a Python that was built for a glibc before 2.27 does not know it.
        with contextlib.suppress(OSError, AttributeError):
            return open(os.memfd_create("confpy-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "rb+", buffering=0)
    import tempfile

    return tempfile.TemporaryFile(buffering=0)


def _wait(process: int, timeout: float, output: IO[bytes]) -> bool:
    """Wait for the command itself, not for its children; False if it still runs after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    with _ending(process) as ended:
        while True:
            left = deadline - time.monotonic()
            if ended(max(0.0, min(left, LOOK))):
                return True
            if left <= 0:
                return False
            _bound(output)


@contextlib.contextmanager
def _ending(process: int) -> Iterator[Callable[[float], object]]:
    """Yield a function that waits so many seconds for a child to end, and returns whether it has. It is not reaped."""
    try:
        descriptor = os.pidfd_open(process)
    except (AttributeError, OSError):  # an old kernel, or no descriptor left: noticed some milliseconds late

        def look(seconds: float) -> object:
            time.sleep(min(seconds, STEP))
            return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)

        yield look
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        yield lambda seconds: poll.poll(seconds * 1000)
    finally:
        os.close(descriptor)


def _bound(output: IO[bytes]) -> None:
    """Drop what a command has written beyond the bound, except for the end."""
    descriptor = output.fileno()
    status = os.fstat(descriptor)
    if status.st_blocks * 512 > OUTPUT_BOUND:
        start = max(0, status.st_size - TAIL)
        end = os.pread(descriptor, TAIL, start)
        # The command goes on writing where it was: what precedes that is a hole, which takes no space.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, end, start)


def _kill_group(group: int, number: signals.Signals) -> None:
    # It has ended, or changed its user (sudo): nothing more can be done.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _tail(output: IO[bytes]) -> str:
    size = os.fstat(output.fileno()).st_size
    return for_people(os.pread(output.fileno(), TAIL, max(0, size - TAIL)))


def for_people(output: bytes) -> str:
    """Return a program's output without control characters."""
    text = output.decode("utf-8", "replace")
    return "".join(char for char in text if char.isprintable() or char in "\n\t").strip()
