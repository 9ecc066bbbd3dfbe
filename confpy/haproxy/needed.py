"""Why a change cannot be made in the running HAProxy. Pure."""

from __future__ import annotations

from confpy.frozen import frozen


@frozen
class ReloadNeeded:
    """Only a reload brings HAProxy to what its files say."""

    why: str
    """For people: ``bind changed``."""
    file: str = ""
    """The file that asks for it; empty: none does by itself."""
    line: int = 0
    """The line of it, from 1; 0: no single line does."""
