"""The one that starts processes: check and reload commands, bounded in time and output."""

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
"""Bytes of output kept in memory while a command runs; beyond it only the end is kept."""
LOOK = 0.05
"""Seconds between two looks at how much a command has written: short, since it may write gigabytes in one."""

STEP = 0.005
"""Seconds between two looks at whether it has ended, where the kernel does not tell."""
HINTS = {
    NOT_FOUND: "is the program installed and on the PATH, and for a script the interpreter that its first line names?",
    NOT_EXECUTABLE: "by convention 126 means that a program was found and could not be executed: see the output",
}
"""For the exit codes by which a shell, and what imitates it, says that it could not run a command."""
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
"""For what the system says where it cannot start a program."""


@frozen
class Ran:
    """How a command ended."""

    code: int
    """Its exit code; negative: the signal that ended it; 126 and 127 as a shell has them."""
    took: float
    """Seconds."""
    timed_out: bool = False
    stopped: bool = False
    """It was ended, or not even begun, because confpy stops: whatever its exit code is, it did not do its work."""
    tail: str = ""
    """The end of what it wrote, control characters taken out."""
    reason: int = 0
    """The ``errno`` for which it could not be started; 0 where it was."""

    @property
    def failure(self) -> str:
        """Say in a few words how it failed, empty where it did not."""
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

    def error(self, kind: type[ConfpyError], role: str, command: Command) -> ConfpyError:
        """Return the error of a command that failed as a resource's ``role``: check, reload or verify."""
        hint = ""
        if self.timed_out:
            hint = f"raise {'check' if role == 'check' else 'reload'}_cmd_timeout if it needs longer"
        elif self.reason:
            hint = REASONS.get(self.reason, "")
        else:
            hint = HINTS.get(self.code, "")
        where = {"output": self.tail} if self.tail else {}
        return kind(f"the {role} {self.failure}", hint=hint, command=command_line(command), **where)


class Shell:
    """Runs commands, each in a process group of its own, and can end those that run."""

    def __init__(self, hidden: Collection[str] = ()) -> None:
        """``hidden``: variables of ours that no command sees."""
        self._hidden = hidden
        self._groups: set[int] = set()
        self._ending: signals.Signals | None = None
        """What the groups were sent, because confpy stops."""
        self._undying: list[int] = []

    def run(self, command: Command, environment: Mapping[str, str], timeout: float) -> Ran:
        """Run a command to its end, or for ``timeout`` seconds: then TERM, and KILL after ``GRACE``, to its group.

        ``environment`` is added to ours. A child that stays in the background holds nothing up. Raises nothing: what
        cannot even be begun (no descriptor left, no memory) is a command that could not be executed.
        """
        began = time.monotonic()
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else command
        ours = {name: value for name, value in os.environ.items() if name not in self._hidden}
        try:
            return self._run(argv, {**ours, **environment}, timeout, began)
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            tail = f"{argv[0]}: {error.strerror}"
            return Ran(code, time.monotonic() - began, tail=tail, reason=error.errno or 0)

    def _run(self, argv: tuple[str, ...], environment: Mapping[str, str], timeout: float, began: float) -> Ran:
        self._bury()
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
                    # Also where the leader has ended: it may have left children that ignored the TERM.
                    _kill_group(process, signals.SIGKILL)
                    # One that became another user (sudo), or hangs in the kernel, outlives even that.
                    _wait(process, GRACE, output)
            finally:
                self._groups.discard(process)
            # Reaped only now: until then its number can belong to no other group.
            code = _reap(process)
            if code is None:
                self._undying.append(process)
                code = -signals.SIGKILL
            return Ran(code, time.monotonic() - began, timed_out, stopped, _tail(output))

    def _bury(self) -> None:
        """Reap those that outlived their killing and have ended since. Several threads may."""
        for _ in tuple(self._undying):
            with contextlib.suppress(IndexError):
                process = self._undying.pop()
                if _reap(process) is None:
                    self._undying.insert(0, process)

    def terminate_all(self) -> None:
        """Ask all commands that run, and those that are being started, to end: TERM. None is started any more."""
        self._end_all(signals.SIGTERM)

    def kill_all(self) -> None:
        """Kill them, with all of their groups. None is started any more."""
        self._end_all(signals.SIGKILL)

    def _end_all(self, number: signals.Signals) -> None:
        self._ending = number
        for group in tuple(self._groups):
            _kill_group(group, number)


def _spawn(argv: tuple[str, ...], environment: Mapping[str, str], output: int) -> int:
    """Start a program in a session of its own, and return its number; raises ``OSError``.

    It gets an empty signal mask and default dispositions, whatever we were started with or a thread of ours blocks: by
    ``posix_spawn``, which needs no code of ours between fork and exec.
    """
    _keep_files()
    files: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        # Output first: where we were started without a standard input, its descriptor is 0.
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


def _keep_files() -> None:
    """Let no child get our open files, beside the standard ones: those that are not Python's would be passed on.

    Not closed in the child: ``posix_spawn`` refuses a descriptor above our limit, which may be lower than that of who
    opened it.
    """
    with contextlib.suppress(OSError):  # no /proc
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed since, as is the folder that was listed
                if int(name) > 2:
                    os.set_inheritable(int(name), False)


def _reap(process: int) -> int | None:
    """Return the exit code of a child, None where it runs; negative: the signal that ended it."""
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


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


def _wait(process: int, timeout: float, output: IO[bytes]) -> bool:
    """Wait for the command itself (not for its children). False where it runs on after ``timeout`` seconds."""
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
    """Give what waits for a child's end, for so many seconds, and says whether it came. The child is not reaped."""
    try:
        descriptor = os.pidfd_open(process)
    except (AttributeError, OSError):  # an old kernel, or no descriptor left: looked at, some milliseconds late

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
    return for_people(os.pread(output.fileno(), TAIL, max(0, size - TAIL)))


def for_people(output: bytes) -> str:
    """Return what a program said, with its control characters taken out."""
    text = output.decode("utf-8", "replace")
    return "".join(char for char in text if char.isprintable() or char in "\n\t").strip()
