"""Files beside the store that programs read as well (``watch_files``), such as certificates. Pure.

A resource whose watched files have other content than when it was last delivered is delivered again, so that it is
checked and its program reloaded, even where its target stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from confpy.config.resource import Resource
from confpy.messages import Remember
from confpy.templates.lookup import Lookup


def lookups(resource: Resource) -> frozenset[Lookup]:
    """Return the questions for what a resource's watched files hold."""
    return frozenset(Lookup("hash", path) for path in resource.watch_files)


class WatchedFiles:
    """Their digests, by target, when it was last delivered."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._unsaved = False

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
            self._unsaved = True

    def save(self) -> list[Remember]:
        """Return what saves the digests for a later start, where there are new ones."""
        if not self._unsaved:
            return []
        self._unsaved = False
        return [Remember(dict(self._known))]
