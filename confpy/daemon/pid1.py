"""confpy as PID 1 of a container: a parent that forwards signals and reaps orphans, beside the child that is confpy."""

from __future__ import annotations

import os
import signal

from confpy.daemon.startup import HELD


def stand_by() -> int | None:
    """Fork, before there is any thread. Returns None in the child, which goes on as confpy.

    In the parent, returns the child's exit code when it has ended; 128 plus the number of the signal that ended it.
    Until then all signals are forwarded to the child, and all orphans of the container are reaped. The child's own
    children are not touched: it needs their exit codes itself.

    ``startup.hold_signals`` was called before. For PID 1 the kernel drops signals that have no handler, but not those
    that are blocked; in the child they stay pending until it has handlers for them.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    terminal = _has_terminal()
    child = os.fork()
    if not child:
        # In a group of its own, so that ^C at a terminal reaches it once: forwarded. The session stays that of the
        # terminal: a program that confpy runs (-exec) may be in its foreground, and confpy writes to it all the same.
        if terminal:
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        else:
            os.setsid()
        return None
    while True:
        number = signal.sigwaitinfo(HELD).si_signo
        if number == signal.SIGCHLD:
            if (code := _reap(child)) is not None:
                return code
        else:
            os.kill(child, forwarded(number, terminal=terminal))


def forwarded(number: int, *, terminal: bool) -> int:
    """Return the signal to forward for one that PID 1 received. Pure.

    WINCH is the stop signal of Apache's image; at a terminal it means that the window was resized.
    """
    return signal.SIGTERM if number == signal.SIGWINCH and not terminal else number


def _has_terminal() -> bool:
    """Return whether there is a controlling terminal: only then can its file be opened."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _reap(child: int) -> int | None:
    """Reap all that have ended: one signal may stand for many. Returns the exit code of ``child``, if it has ended."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if not ended:
            return None
