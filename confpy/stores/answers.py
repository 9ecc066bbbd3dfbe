"""Answers that a store would not give: what parsing one may raise, and how it is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confpy.errors import StoreError

UNEXPECTED = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What parsing an answer may raise if it is not one of the store's: numbers without end, lists in lists."""


@contextmanager
def parsing(error: Callable[[], StoreError]) -> Iterator[None]:
    """Raise ``error()`` if the block meets an answer that it cannot parse."""
    try:
        yield
    except UNEXPECTED:
        # Not its cause, which may hold the whole answer.
        raise error() from None


def tls_only() -> StoreError:
    """Return the error for a server that answers on a port for TLS: Go's and nginx's do, with status 400."""
    return StoreError("it speaks TLS only", hint="write https:// instead of http://")
