"""Which files were made of items (``for_each``), by this process and earlier ones: nothing else is removed. Pure."""

from __future__ import annotations

from collections.abc import Collection

from confpy.candidates import OwnedFile


class OwnedFiles:
    """What of the targets is ours, as the ledger has it."""

    def __init__(self) -> None:
        self._by_dest: dict[str, OwnedFile] = {}
        self._dests: dict[str, dict[str, None]] = {}
        """Resource with ``for_each`` → the targets that are its items'."""

    def __contains__(self, dest: str) -> bool:
        return dest in self._by_dest

    def get(self, dest: str) -> OwnedFile | None:
        """Return what is ours at a target."""
        return self._by_dest.get(dest)

    def of(self, resource: str) -> Collection[str]:
        """Return the targets that were made by a resource with ``for_each``."""
        return self._dests.get(resource, {}).keys()

    def add(self, one: OwnedFile) -> None:
        self.drop(one.dest)
        self._by_dest[one.dest] = one
        self._dests.setdefault(one.of, {})[one.dest] = None

    def drop(self, dest: str) -> OwnedFile | None:
        """Forget a target; returns what was ours there."""
        one = self._by_dest.pop(dest, None)
        if one is not None:
            del self._dests[one.of][dest]
        return one
