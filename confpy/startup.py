"""Signals that come while confpy starts up are blocked, so that they stay pending until something can take them."""

from __future__ import annotations

import signal

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS}
TERMINAL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
HELD = signal.valid_signals() - FAULTS - TERMINAL
"""All signals but those of the process's own faults, and those by which its terminal suspends it."""


def hold_signals() -> None:
    """Block them, before anything slow is imported. A child that is forked from here on has them blocked, too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release_signals() -> None:
    """Let them do what they do by default, those that are pending first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
