"""How many keys resources had when they were last delivered, for the ledger to know. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from confpy.model import Candidate, Count, Recovered


class Counts:
    """What is known by now, and what the ledger has been told of it."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._untold: dict[str, int] = {}
        """Those that no record of a delivery tells of."""
        self._identity = ""
        """The store that they came from, as the ledger has it."""
        self._revision = 0
        """And how far it was."""

    def take_over(self, recovered: Recovered) -> None:
        """Take what an earlier confpy noted."""
        self.known = dict(recovered.counts)
        self._identity, self._revision = recovered.identity, recovered.revision

    def note(self, candidate: Candidate, *, recorded: bool) -> None:
        """Note a delivery; ``recorded``: its record tells the ledger of it."""
        name = candidate.resource.name
        if self.known.get(name) != candidate.keys:
            self.known[name] = candidate.keys
            if not recorded:
                self._untold[name] = candidate.keys

    def tell(self, identity: str, revision: Callable[[], int], *, at_end: bool = False) -> Iterator[Count]:
        """Yield what the ledger does not know yet, and which store it is; ``at_end``: also how far that is.

        ``revision`` is asked for where it is needed only: it costs a look at all resources.
        """
        if self._untold or identity != self._identity or at_end or not self._revision:
            newest = revision()
            if self._untold or identity != self._identity or newest > (self._revision if at_end else 0):
                yield Count(self._untold, identity, newest)
                self._untold, self._identity, self._revision = {}, identity, newest
