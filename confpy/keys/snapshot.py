"""What a store returns: snapshots of prefixes, changes of them, and the cheap status of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Literal

from confpy.errors import StoreError
from confpy.events import LogEvent
from confpy.frozen import NOTHING, frozen


@frozen
class Listing:
    """One prefix at one revision."""

    revision: int
    """Changes after it come by watching from ``revision + 1``; 0 where the store counts nothing."""
    keys: Mapping[str, str] = NOTHING
    """Raw key → value, all those at or below the prefix (by path segment)."""
    error: StoreError | None = None
    """Why this prefix, and only this one, could not be read. ``keys`` is then empty and means nothing."""
    folders: AbstractSet[str] = frozenset()
    """Paths at or below it that are there without a key: what tells an empty tree from a missing one."""


@frozen
class Snapshot:
    """What one read brought, per prefix."""

    listings: Mapping[str, Listing]
    identity: str = ""
    """Which store this is (etcd: the cluster's id); another one means that revisions do not compare."""
    counts: Mapping[str, int] = NOTHING
    """How many keys lie below each of the covers that the read was asked to count."""
    on_missing: Literal["error", "empty"] | None = None
    """What a missing tree is to resources that do not say, where only the read showed which store this is."""
    binary: bool | None = None
    """Whether values may be any bytes, where only the read showed it."""
    notes: tuple[LogEvent, ...] = ()
    """What the store wants logged."""


@frozen
class PrefixStatus:
    """The cheap answer to "has anything changed since?"."""

    identity: str
    revision: int
    """The store's newest revision, of any key."""
    newest: Mapping[str, int]
    """Per prefix: the newest revision of a key that still exists, 0 where there is none. Denied ones are left out."""
    counts: Mapping[str, int]
    """Per prefix: how many raw keys it has; with ``newest`` it betrays a lost deletion."""


@frozen
class Changes:
    """What one watch delivered at once: keys at or below ``prefix`` as of ``revision``."""

    prefix: str
    """The watch it came from: order holds only among the changes of one watch."""
    revision: int
    """The newest revision in it; the cursor of this watch afterwards."""
    keys: Mapping[str, tuple[int, str | None]]
    """Raw key → (its revision, its value or None where it was deleted), the last word on each key."""
    deleted: Mapping[str, int] = NOTHING
    """Path → revision in which it was deleted with all below it. ``keys`` and ``folders`` are from after that."""
    folders: Mapping[str, int] = NOTHING
    """Path → revision as of which it is there, even if it has no key."""
    notes: tuple[LogEvent, ...] = ()
    """What the store wants logged."""


@frozen
class Invalidated:
    """Something changed below the prefixes, the store cannot say what: read again."""
