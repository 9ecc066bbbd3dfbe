"""Signals that come while confpy starts up are blocked, so that they stay pending until something can take them."""

from __future__ import annotations

# The part of the module ``signal`` that is written in C: the rest takes milliseconds to import, in which signals that
# come would end the process, or be lost to PID 1.
import _signal as signal  # type: ignore[import-not-found]  # no stub has it

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS}
TERMINAL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
HELD: set[int] = signal.valid_signals() - FAULTS - TERMINAL
"""All signals but those of the process's own faults, and those by which its terminal suspends it."""


def hold_signals() -> None:
    """Block them, before anything slow is imported. A child that is forked from here on has them blocked, too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release_signals() -> None:
    """Let them do what they do by default, those that are pending first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
