"""Files beside the store that programs read as well (``watch_files``), such as certificates. Pure.

A resource whose watched files have other content than when it was last delivered is delivered again, so that it is
checked and its program reloaded, even where its target stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.messages import Remember
from confpy.templates.lookup import Lookup

SAVE_SECONDS = 1e-4
"""Seconds for each digest that is known from one saving to the next, at least: all of them are written each time."""


def lookups(resource: Resource) -> frozenset[Lookup]:
    """Return the questions for what a resource's watched files hold."""
    return frozenset(Lookup("hash", path) for path in resource.watch_files)


class WatchedFiles:
    """Their digests, by target, when it was last delivered."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._saved_at = -NEVER
        self.save_at = NEVER
        """The monotonic time of the next saving."""

    def take_over(self, known: Mapping[str, str]) -> None:
        """Take what an earlier run has saved."""
        self._known = dict(known)

    def digest(self, resource: Resource, facts: Mapping[Lookup, object]) -> str:
        """Return a digest of the contents of a resource's files; empty where it watches none.

        A file that cannot be read has an error for an answer: it is as if it were empty.
        """
        if not resource.watch_files:
            return ""
        answers = (facts.get(Lookup("hash", path)) for path in resource.watch_files)
        return sha256("\n".join(one if isinstance(one, str) else "-" for one in answers).encode()).hexdigest()

    def are_renewed(self, resource: Resource, digest: str) -> bool:
        """Say whether its program has to be reloaded: the files are not those that it was delivered with last."""
        known = self._known.get(resource.dest, digest)
        return resource.reload_cmd is not None and known != digest

    def note(self, resource: Resource, digest: str) -> None:
        """Note that a resource was delivered with these files."""
        if digest and self._known.get(resource.dest) != digest:
            self._known[resource.dest] = digest
            self.save_at = self._saved_at + SAVE_SECONDS * len(self._known)

    def save(self, now: float, *, at_end: bool = False) -> list[Remember]:
        """Return what saves the digests for a later start, where there are new ones and it is time to.

        ``at_end``: it is the last chance.
        """
        if self.save_at == NEVER or (now < self.save_at and not at_end):
            return []
        self._saved_at, self.save_at = now, NEVER
        return [Remember(dict(self._known))]
