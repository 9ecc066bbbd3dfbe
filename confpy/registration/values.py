"""A registered key as values: what a store is asked for, what it answers, and what happens beside it."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from confpy.errors import ConfpyError, StoreError
from confpy.frozen import frozen
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild

Standing: TypeAlias = Literal["held", "free", "taken"]
"""Of a key: ours; not there; somebody else's."""
Operation: TypeAlias = Literal["claim", "refresh", "release"]


@frozen
class Entry:
    """A key as it is to be in the store."""

    key: str
    """With a leading slash."""
    value: bytes
    ttl: float | None = None
    """Seconds after which the store removes it by itself; None: never."""
    tags: tuple[str, ...] = ()
    """Of a service."""

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {len(self.value)} bytes, ttl={self.ttl})"


class Registrar(Protocol):
    """One entry in one store. Every call is bounded in time, and raises ``StoreError``; one is made at a time.

    What is ours is told by what only we have: a lease, a session, an index. Without a TTL it is told by the value.
    """

    @property
    def node(self) -> str:
        """The address of the node that answered last, without a password."""

    def claim(self, *, takes_over: bool) -> Standing:
        """Put the key: with ``takes_over`` whoever has it, else if it is not there. Never returns ``free``."""

    def refresh(self) -> Standing:
        """Renew the TTL of what is ours, and return how the key stands."""

    def release(self) -> Standing:
        """Remove the key if it is ours; returns ``free``, or ``taken``."""

    def remove(self, expected: bytes | None) -> bool:
        """Remove the key whoever has it, or if it has this value; return whether it was removed."""

    def close(self) -> None:
        """Close everything. Any thread, any number of times; unblocks the call under way within 1 s."""


# --- what happens ----------------------------------------------------------------------------------------------------


@frozen
class Answered:
    """The store has answered an operation, or has not."""

    operation: Operation
    standing: Standing = "free"
    error: StoreError | None = None
    node: str = ""


@frozen
class Checked:
    """The check has ended: it passes, or fails for this reason."""

    error: ConfpyError | None = None


@frozen
class Signalled:
    """confpy got a signal."""

    number: int


Message: TypeAlias = Answered | Checked | Signalled | ChildEnded


# --- what is to be done ----------------------------------------------------------------------------------------------


@frozen
class Ask:
    """Have the store do an operation; answered by ``Answered``."""

    operation: Operation
    takes_over: bool = False


@frozen
class Check:
    """Run the check; answered by ``Checked``."""


@frozen
class Notify:
    """Tell the service manager."""

    state: str


@frozen
class Stop:
    """End, with this exit code."""

    code: int


Action: TypeAlias = "Ask | Check | Notify | Stop | StartChild | SignalChild"
