"""A command of the runtime API: the one place where its text is made."""

from __future__ import annotations

from collections.abc import Sequence

from confpy.haproxy.values import Command, Left
from confpy.haproxy.words import is_safe

DONE = ("",)
"""The empty answer."""
MAX_PAYLOAD = 12_000
"""Characters of a payload, at most: a command and its payload have to fit into one buffer, of 16 KiB by default."""


class Unsafe(ValueError):
    """A word or a payload that may not be sent; says why, for people."""


def command(
    *words: str,
    accepts: Sequence[str] = DONE,
    tolerates: Sequence[str] = (),
    leaves: Left | None = None,
    payload: str = "",
    is_secret: bool = False,
) -> Command:
    """Return a command; raises ``Unsafe`` for a word that may not be sent."""
    if not all(map(is_safe, words)):
        raise Unsafe("a word holds a character that is not sent")
    return Command(" ".join(words), tuple(accepts), payload, leaves, tuple(tolerates), is_secret)
