"""Which files were made of items (``for_each``), by this process and earlier ones: nothing else is removed. Pure."""

from __future__ import annotations

from collections.abc import Collection

from confpy.candidates import OwnedFile, Report


class OwnedFiles:
    """What of the targets is ours, as the ledger has it."""

    def __init__(self) -> None:
        self._by_dest: dict[str, OwnedFile] = {}
        self._dests: dict[str, dict[str, None]] = {}
        """Resource with ``for_each`` → the targets that are its items'."""
        self._earlier: dict[str, OwnedFile | None] = {}
        """Target → what was ours before the deliveries that a failed reload may take back."""

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

    def note_before(self, dest: str) -> None:
        """Keep in mind what is ours of a target that was just changed: its reload may fail."""
        self._earlier.setdefault(dest, self._by_dest.get(dest))

    def note_reload(self, dest: str) -> None:
        """Take it that the reload of a target has succeeded: nothing of it is taken back any more."""
        self._earlier.pop(dest, None)

    def take_restored(self, dest: str, report: Report) -> OwnedFile | None:
        """Take it that a rollback has put a target back, or has removed it; returns what of it is ours by now."""
        earlier = self._earlier.pop(dest, None)
        self.drop(dest)
        if report.known is None or earlier is None or earlier.digest != report.known.digest.hex():
            return None
        self.add(earlier)
        return earlier
