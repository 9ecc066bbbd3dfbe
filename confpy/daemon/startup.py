"""Signals that arrive while confpy starts are blocked, so that they stay pending until there are handlers."""

from __future__ import annotations

# The part of the module ``signal`` that is written in C. The rest takes milliseconds to import, in which a signal would
# end the process, or be lost if it is PID 1.
import _signal as signal  # type: ignore[import-not-found]  # no stub has it

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS}
TERMINAL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
HELD: set[int] = signal.valid_signals() - FAULTS - TERMINAL
"""All signals but those of the process's own faults, and those with which its terminal suspends it."""


def hold_signals() -> None:
    """Block them, before anything slow is imported. Children that are forked from here on inherit that."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release_signals() -> None:
    """Unblock them; those that are pending are delivered."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
