"""The entries of the history, and the messages and actions that are about them. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping

from confpy.config.resource import Resource
from confpy.errors import ConfpyError
from confpy.frozen import NOTHING, frozen

UNDO, ROLLBACK = "undo", "rollback"
"""Triggers of deliveries that take back earlier ones."""
MOST_KEYS = 20
"""Names of changed keys that an entry has."""


@frozen
class Previous:
    """A target as it was before a delivery, and where its content is kept."""

    path: str
    """The file itself, links followed."""
    digest: str | None
    """SHA-256 of its content, in hexadecimal digits; None: there was no file. Empty: not to be recorded."""
    mode: int = 0
    """Permission bits."""
    uid: int = -1
    gid: int = -1
    kept: str = ""
    """The name of the file in the folder of the history that has its content; empty: none."""
    content: bytes | None = None
    """The content, where it is still to be written there."""


@frozen
class HistoryEntry:
    """One change of one target."""

    at: float
    """Seconds since 1970 UTC."""
    delivery: str
    """The same for all that were delivered together."""
    group: str
    """As ``Group.id``."""
    resource: str
    target: str
    previous: Previous | None
    """None for a target that is a stream."""
    new: str
    """SHA-256 of its new content; empty: not to be recorded."""
    trigger: str = ""
    """What made the resource dirty; ``UNDO``, ``ROLLBACK``: what is in ``undoes`` was taken back."""
    revision: int = 0
    """The store's; 0 if unknown."""
    keys: tuple[str, ...] = ()
    """The keys that had changed: the first ``MOST_KEYS`` of them."""
    more_keys: int = 0
    """How many there were besides."""
    check: str = ""
    """``passed``; empty: it has none, or none was run."""
    took: float = 0.0
    """Seconds."""
    owes: bool = False
    """Its program had to be reloaded."""
    reload: str = ""
    """How that ended: ``succeeded``, ``avoided`` as its running program was told, or why it failed; empty: it has not
    ended."""
    reload_took: float = 0.0
    """Seconds."""
    undoes: tuple[str, ...] = ()
    """The deliveries that it took back."""
    keeps: bool = True
    """Previous contents of the target may be kept."""


@frozen
class ReloadEnd:
    """How the reload of some entries ended."""

    of: tuple[tuple[str, str], ...]
    """The delivery and the resource of each."""
    error: str = ""
    """Why it failed, in one line; empty: it succeeded."""
    took: float = 0.0
    """Seconds."""
    avoided: bool = False
    """The running program was told of the change instead."""


# --- messages and actions -------------------------------------------------------------------------------------------


@frozen
class Undo:
    """A person asks for the file that a target was before its last delivery; ends in an ``Answer``."""

    request: int
    target: str
    """Its path, or the name of its resource."""


@frozen
class Accept:
    """A person has accepted something about a resource, or all of them: look at the records of holds now."""

    resource: str = ""


@frozen
class UndoFound:
    """What ``FindUndo`` has found: the contents that are to be put back, for a whole group."""

    request: int
    previous: Mapping[str, Previous] = NOTHING
    """Resource → what its target is to become, with its content."""
    undoes: tuple[str, ...] = ()
    """The deliveries that this takes back."""
    error: ConfpyError | None = None


@frozen
class WriteHistory:
    """Add these entries to the history, and how reloads of earlier ones ended."""

    entries: tuple[HistoryEntry, ...]
    reloads: tuple[ReloadEnd, ...] = ()
    at_end: bool = False
    """The process ends next: write them before that."""


@frozen
class FindUndo:
    """Find what a group was before the last delivery of one of it, and record that it is held; see ``UndoFound``."""

    request: int
    resource: str
    group: tuple[Resource, ...]
    reason: str
    """Why they are held."""
    unwritten: WriteHistory
    """What is not in the history yet."""


@frozen
class Answer:
    """Answer a person's request."""

    request: int
    error: ConfpyError | None = None
    """Why it failed."""
    resources: tuple[str, ...] = ()
    """Those that were put back."""
