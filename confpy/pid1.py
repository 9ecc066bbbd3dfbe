"""What confpy is beside itself as PID 1 of a container: a parent that forwards signals and reaps orphans."""

from __future__ import annotations

import os
import signal

OWN = {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
}
"""Signals that speak of the parent's own mistakes, and of its terminal."""
AWAITED = signal.valid_signals() - OWN


def stand_by() -> int | None:
    """Fork, before there is any thread: None in the child, which is to be confpy.

    In the parent return the child's exit code when it has ended; 128 and its number where a signal ended it. Until
    then all signals go on to the child, and all orphans of the container are reaped. The child's own children are not
    touched: their exit codes are its own.
    """
    # For PID 1 the kernel drops signals that have no handler, but not those that are blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        # In a session of its own, so that a terminal's ^C reaches it once: forwarded.
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    while True:
        number = signal.sigwaitinfo(AWAITED).si_signo
        if number != signal.SIGCHLD:
            os.kill(child, number)
        elif (code := _reap(child)) is not None:
            return code


def _reap(child: int) -> int | None:
    """Reap all that have ended: one signal may stand for many. Return the exit code of ``child``, if it is one."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if not ended:
            return None
