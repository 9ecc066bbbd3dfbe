"""The program that confpy runs and supervises (``-exec``): what is asked of it, and how it ended. Pure."""

from __future__ import annotations

from confpy.frozen import frozen


@frozen
class StartChild:
    """Start the program of ``-exec``; answered by ``ChildEnded`` when it has ended, or could not be started."""


@frozen
class SignalChild:
    """Send it a signal; a KILL goes to its whole process group."""

    number: int


@frozen
class ChildEnded:
    """The program of ``-exec`` has ended, or could not be started."""

    code: int
    """Its exit code; negative: the signal that ended it; 126 and 127 as a shell has them."""
    reason: int = 0
    """The ``errno`` with which it could not be started; 0 if it was started."""
