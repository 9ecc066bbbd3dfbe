"""What the runtime API is used with: the sockets, the record of what HAProxy has taken, the clocks. Seams."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from confpy.errors import ConfpyError
from confpy.frozen import frozen
from confpy.haproxy.values import ReloadNeeded
from confpy.reload.taken import TakenFolder
from confpy.system.disk import Disk

if TYPE_CHECKING:
    from confpy.haproxy.values import Command


class Doubt(ConfpyError):
    """The runtime API cannot be used, or an answer of it is not known to be good: HAProxy is reloaded instead."""

    def needed(self) -> ReloadNeeded:
        """Return it as the reason of a reload, with what to do about it."""
        return ReloadNeeded(self.message + (f" ({self.hint})" if self.hint else ""))


class Talks(Protocol):
    """Admin sockets of HAProxy."""

    def exchange(
        self, socket: str, commands: Sequence[Command], seconds: float, users: Collection[int] | None = None
    ) -> list[str]:
        """Send commands over one connection; return their answers, each without the line ends around it.

        ``socket``: as in ``RuntimeTarget``; ``seconds``: for the whole exchange; ``users``: the commands hold a
        key, and only root, confpy's user and one of these may be at the other end. Raises ``OSError`` and ``Doubt``.
        """


@frozen
class RuntimePorts:
    """All that the runtime API is used with."""

    disk: Disk
    talks: Talks
    taken: TakenFolder
    seconds: Callable[[], float]
    """A clock that nobody sets and that goes on while the machine sleeps: ``CLOCK_BOOTTIME``."""
    wall: Callable[[], float]
    """Seconds since 1970, of the clock that sets the times of files."""
    sleep: Callable[[float], None]
    locked: Callable[[Iterable[str], float], AbstractContextManager[frozenset[str]]]
    """As ``Ledger.locked``: several confpys do not change one HAProxy at once."""
