"""What a delivery takes, groups of candidates, and what it returns: a report per resource. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from confpy.config.resource import Resource
from confpy.errors import ConfpyError
from confpy.frozen import NOTHING, frozen
from confpy.history.records import Previous


@frozen
class OwnedFile:
    """A file that was made of an item (``for_each``): only such are ever removed, and only as they were delivered."""

    resource: str
    """The item, as resources are named."""
    of: str
    """The resource that it is an item of."""
    item: str
    """The item's name."""
    dest: str
    path: str
    """The file itself, links followed."""
    digest: str
    """SHA-256 of the content, in hexadecimal digits."""


@frozen
class Own:
    """Record what of the targets was made of an item, where no delivery of it says so."""

    files: tuple[OwnedFile, ...]
    dests: tuple[str, ...] = ()
    """Targets that are ours no more."""


@frozen
class Candidate:
    """Content to deliver as a resource's target."""

    resource: Resource
    content: bytes
    keys: int = 0
    """How many keys the resource has in the store."""
    first_keys: bool = False
    """It has some, and none are known to the ledger: that it had any must not be lost once the target is new."""
    first_parts: tuple[tuple[str, int, tuple[str, ...]], ...] = ()
    """The same of stores, where the resource reads several: what the ledger calls one, its keys, and what is read."""
    sizes: Mapping[str, int] = NOTHING
    """How many keys it has of each store, by mount, where it reads several."""
    only_missing: bool = False
    """It was rendered from cached keys: it creates a missing target, and changes none that exists."""
    torn: bool = False
    """Its group was left half new: the current content was not checked, even if it is the same."""
    delivered: bytes = b""
    """The digest of what this process delivered last: what was written to a stream cannot be read back."""
    files: str = ""
    """The digest of its watched files."""
    renewed: bool = False
    """They have changed: its target is checked and its program reloaded, even if the content is the same."""
    revision: int = 0
    """The store's revision that the content was rendered from; 0 if unknown."""
    trigger: str = "start"
    """What made the resource dirty."""
    changes: int = 0
    """How many keys had changed."""
    gone: bool = False
    """The item is no more: the target is to be removed, where it is as it was delivered. ``content`` is empty."""
    owned: OwnedFile | None = None
    """What was delivered of this item, where that is known."""
    twin: str = ""
    """A target in the same folder whose name differs in case only: it may be the same file."""

    @property
    def again(self) -> str:
        """Why it is delivered even if the target is as it should be; empty: it is not."""
        return "torn" if self.torn else "watch_files" if self.renewed else ""


@frozen
class Group:
    """Candidates that are delivered together or not at all: one of each of its resources."""

    name: str
    """The group's; of a resource that is in none, its target."""
    candidates: tuple[Candidate, ...]
    is_lone: bool = False
    """It is one resource that is in no group."""

    @property
    def id(self) -> str:
        """What the ledger calls it, also after a restart: a group may have the name of a target."""
        return f"target {self.name}" if self.is_lone else f"group {self.name}"


FileStamp: TypeAlias = bytes
"""Identity and times of a target: equal stamps mean that it is unchanged, and need not be read again."""


@frozen
class DeliveredState:
    """A target when confpy last delivered or compared it."""

    digest: bytes
    stamp: FileStamp | None
    """None if there was no file (noop)."""


Outcome: TypeAlias = Literal["unchanged", "changed", "would change", "failed", "held"]
"""``held``: it is not at fault, but another of its group failed."""


@frozen
class Report:
    """The result of a delivery for one resource."""

    resource: str
    outcome: Outcome
    error: ConfpyError | None = None
    known: DeliveredState | None = None
    notes: tuple[str, ...] = ()
    """Warnings that did not stop it (an owner that could not be set, a target written in place)."""
    record: int = 0
    """The ledger's record of the commit; 0: none."""
    torn: bool = False
    """Its group was neither committed nor put back."""
    differs: tuple[str, ...] = ()
    """What would change (noop): ``missing``, ``content``, ``mode``, ``owner``."""
    unchecked: str = ""
    """The check that was not run, as it needs the file in its place (noop)."""
    took: float = 0.0
    """Seconds."""
    old: str = ""
    """The digest of what its target was, in hexadecimal digits, where it has changed; empty: there was no file."""
    previous: Previous | None = None
    """What a target was that has changed, where a history is kept; None for a stream."""
    path: str = ""
    """The file itself, links followed, of an item that was delivered or compared."""
