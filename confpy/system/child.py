"""The program that confpy runs and supervises (``-exec``): started, signalled, waited for; or put in confpy's place."""

from __future__ import annotations

import contextlib
import os
import signal as signals
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from confpy.clock import NEVER
from confpy.errors import ConfpyError
from confpy.frozen import frozen
from confpy.system.forking import spawning
from confpy.system.subprocesses import NOT_EXECUTABLE, NOT_FOUND, close_on_exec, visible

LOOK = 0.02
"""Seconds between two looks at whether the program handles a signal."""
BLOCKED = 1.0
"""Seconds for which a signal that is blocked may get a handler. Then the program waits for it in another way."""
REPORT = 3
"""The descriptor on which a start that fails is reported."""
TRAMPOLINE = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
report, parent, number, foreground, coerced = map(int, sys.argv[1:6])
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, number, 0, 0, 0)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != parent:
    os._exit(1)
if foreground:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC), os.getpgrp())
    except OSError:
        pass
signal.pthread_sigmask(signal.SIG_SETMASK, ())
if coerced:
    os.environ.pop("LC_CTYPE", None)
os.set_inheritable(report, False)
try:
    os.execvp(sys.argv[6], sys.argv[6:])
except OSError as error:
    os.write(report, str(error.errno).encode())
os._exit(127)
"""
"""What runs between the fork and the program: a process of its own, since Python must not run in a fork of threads.

It asks the kernel for a signal when confpy dies (``PR_SET_PDEATHSIG``), and takes the terminal.
"""


@frozen
class ChildExit:
    """How the program ended, or why it did not start."""

    code: int
    """Its exit code; negative: the signal that ended it; 126 and 127 as a shell has them."""
    reason: int = 0
    """The ``errno`` with which it could not be started; 0 if it was started."""


class Child:
    """One program. Any thread may signal it; one thread calls ``run``."""

    def __init__(self, argv: Sequence[str], hidden: Collection[str], dies_by: str) -> None:
        """``hidden``: variables that it does not get. ``dies_by``: the signal that it gets if confpy is killed."""
        self._argv = argv
        self._hidden = hidden
        self._dies_by = signals.Signals[f"SIG{dies_by}"]
        self._guard = threading.Lock()
        self._process: int | None = None
        self._runs = threading.Event()
        """Set when the program itself runs, and when it has ended."""
        self._ended = False
        self._early: list[int] = []
        """Signals that came before there was a process."""

    def run(self) -> ChildExit:
        """Start the program, and wait until it has ended. Raises nothing.

        The thread must stay until then: the kernel signals the program when the thread that started it is gone.
        """
        try:
            process, report = self._start()
        except OSError as error:
            return self._failed(error.errno or 0)
        with open(report, "rb") as reader:
            with self._guard:
                self._process = process
                for number in self._early:
                    os.kill(process, number)
            reason = int(reader.read() or 0)  # its end is the program's beginning
        self._runs.set()
        code = self._wait(process)
        return self._failed(reason) if reason else ChildExit(code)

    def _failed(self, reason: int) -> ChildExit:
        self._ended = True
        self._runs.set()
        return ChildExit(NOT_FOUND if reason == 2 else NOT_EXECUTABLE, reason)

    def _start(self) -> tuple[int, int]:
        """Start the program in a process group of its own; returns its number, and a descriptor to read a failure from.

        It inherits stdin, stdout and stderr as they are. Raises ``OSError``.
        """
        environment = visible(self._hidden)
        coerced = "LC_CTYPE" not in environment  # Python itself would add it (PEP 538)
        takes_terminal = self._has_terminal = holds_terminal()
        settings = (REPORT, os.getpid(), self._dies_by, takes_terminal, coerced)
        # Isolated: neither the environment nor the working directory can put code of theirs into it.
        command = [sys.executable, "-ISBc", TRAMPOLINE, *(str(int(one)) for one in settings), *self._argv]
        reader, writer = os.pipe()
        try:
            close_on_exec()
            with spawning():
                process = os.posix_spawn(
                    sys.executable,
                    command,
                    environment,
                    file_actions=[(os.POSIX_SPAWN_DUP2, writer, REPORT)],
                    setpgroup=0,
                    setsigmask=(),
                    setsigdef=signals.valid_signals(),
                )
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return process, reader

    def _wait(self, process: int) -> int:
        """Wait for the end of the program; what it leaves in its process group is asked to end."""
        while True:
            found = os.waitid(os.P_PID, process, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            if found is None or found.si_code != os.CLD_STOPPED:
                break
            os.waitid(os.P_PID, process, os.WSTOPPED | os.WNOHANG)
            if self._has_terminal:
                suspend_with(process)
        with self._guard:
            self._ended = True
            # Before it is reaped: until then no other group can get its number.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process, signals.SIGTERM)
            _, status = os.waitpid(process, 0)
        return os.waitstatus_to_exitcode(status)

    def signal(self, number: int) -> None:
        """Send a signal to the program, as soon as there is one, and a KILL to its process group; raises nothing."""
        with self._guard:
            if self._ended:
                return
            if self._process is None:
                self._early.append(number)
                return
            send = os.killpg if number == signals.SIGKILL else os.kill
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self._process, number)

    def reload(self, name: str, timeout: float, failure: type[ConfpyError]) -> None:
        """Send a signal such as ``HUP`` when the program handles it: one that is just starting would be ended by it.

        Waits for that for ``timeout`` seconds at most; raises ``failure``. A signal that is only blocked stays pending
        for a program that asks for it (``signalfd``); but one that executes itself anew, such as HAProxy's
        master in a reload, has it blocked until it has its handlers again, and may discard what came before. So a
        handler is waited for, for a while.
        """
        number = signals.Signals[f"SIG{name}"]
        deadline = time.monotonic() + timeout
        self._runs.wait(timeout)
        blocked_until = NEVER
        while not self._ended:
            found = "default" if self._process is None else disposition(self._process, number)
            now = time.monotonic()
            blocked_until = min(blocked_until, now + BLOCKED) if found == "blocked" else NEVER
            if found == "handled" or (found == "blocked" and now >= min(blocked_until, deadline)):
                break
            if now >= deadline:
                hint = "name the signal with which it reads its files anew"
                raise failure(f"the program of -exec does not handle SIG{name}, which would end it", hint=hint)
            time.sleep(LOOK)
        if self._ended:
            raise failure("the program of -exec has ended")
        self.signal(number)


def disposition(process: int, number: int) -> Literal["handled", "blocked", "default"]:
    """Return what a process does with a signal: it handles it, or has it pending, or neither."""
    try:
        with open(f"/proc/{process}/status") as file:
            masks = {line[:7]: int(line.split()[1], 16) for line in file if line.startswith(("SigBlk:", "SigCgt:"))}
    except (OSError, ValueError):
        return "handled"  # there is no way to know
    if masks.get("SigCgt:", 0) >> (number - 1) & 1:
        return "handled"
    return "blocked" if masks.get("SigBlk:", 0) >> (number - 1) & 1 else "default"


def holds_terminal() -> bool:
    """Return whether confpy, or the PID 1 that it was forked from, is in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        foreground = os.tcgetpgrp(terminal)
        return foreground == os.getpgrp() or (os.getppid() == 1 and foreground == os.getpgid(1))
    except OSError:
        return False
    finally:
        os.close(terminal)


def suspend_with(process: int) -> None:
    """Take it that the terminal has suspended the program (^Z): a shell behind confpy gets the terminal back."""
    with contextlib.suppress(OSError):
        if os.getppid() != 1:  # below PID 1 there is no shell that could go on with it
            _hand_terminal(os.getpgrp())
            os.kill(os.getpid(), signals.SIGSTOP)
        _hand_terminal(process)
        os.killpg(process, signals.SIGCONT)


def _hand_terminal(group: int) -> None:
    """Put a process group into the foreground of the terminal; raises ``OSError``."""
    mask = signals.pthread_sigmask(signals.SIG_BLOCK, {signals.SIGTTOU})
    terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        os.close(terminal)
        signals.pthread_sigmask(signals.SIG_SETMASK, mask)


def replace_process(argv: Sequence[str], hidden: Collection[str], environ: Mapping[str, str]) -> int:
    """Execute a program in confpy's place; returns the ``errno`` with which it could not be.

    It gets an empty signal mask, default dispositions, and no open file of confpy's beside stdin, stdout and stderr;
    a service manager's sockets (``LISTEN_FDS``) go on to it, since it has the process number that they are for.
    """
    sockets = 0
    if environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS", "").isdecimal():
        sockets = int(environ["LISTEN_FDS"])
    close_on_exec()
    for descriptor in range(3, 3 + sockets):
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, True)
    for number in signals.valid_signals() - {signals.SIGKILL, signals.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signals.signal(number, signals.SIG_DFL)
    mask = signals.pthread_sigmask(signals.SIG_SETMASK, ())
    try:
        os.execvpe(argv[0], [*argv], {name: value for name, value in environ.items() if name not in hidden})  # noqa: S606
    except OSError as error:
        signals.pthread_sigmask(signals.SIG_SETMASK, mask)
        return error.errno or NOT_EXECUTABLE
