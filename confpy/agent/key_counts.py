"""How many keys resources had when they were last delivered, for the ledger to know. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from confpy.agent.shrink import Guard, reads_the_same
from confpy.config.resource import Resource
from confpy.messages import Candidate, Count, Counted, Recovered


class Counts:
    """What is known by now, and what the ledger has been told of it."""

    def __init__(self, backend: str = "", *, compares: bool = True) -> None:
        """``backend``: the store's kind. ``compares``: it may answer with less than there is."""
        self._backend = backend
        self._compares = compares
        self._known: dict[str, dict[str, Counted]] = {}
        """Resource → backend → its count, the last delivery's last."""
        self._in_ledger: set[str] = set()
        """Resources that the ledger has counts of."""
        self._untold: dict[str, Counted] = {}
        """Those that no record of a delivery tells of."""
        self._identity = ""
        """The store that they came from, as the ledger has it."""
        self._revision = 0
        """And how far it was."""

    def take_over(self, recovered: Recovered) -> None:
        """Take what an earlier confpy noted."""
        for name, counts in recovered.counts.items():
            # What an earlier version noted without its store is taken for a count of this one.
            self._known[name] = {counted.backend or self._backend: counted for counted in counts}
        self._in_ledger = set(self._known)
        self._identity, self._revision = recovered.identity, recovered.revision

    def guard(self, resource: Resource, store: int) -> Guard:
        """Return the guard of a resource that this process has not delivered. ``store``: as in ``Guard``."""
        known = self._known.get(resource.name, {})
        counted = known.get(self._backend)
        last = next(reversed(known.values()), None)
        same = counted is not None and reads_the_same(counted, resource)
        keys = counted.keys if counted is not None and same and self._compares else None
        if last is counted:
            # Of the same kind of store: what the guard has to name is what was edited.
            last = None if counted is None or same else Counted(counted.keys, "", counted.prefixes, counted.strip)
        # Of what went while nobody looked, no stream has said so.
        return Guard(keys, store, named=False, made_from=last)

    def note(self, candidate: Candidate, *, recorded: bool) -> None:
        """Note a delivery; ``recorded``: its record tells the ledger of it."""
        resource = candidate.resource
        known = self._known.setdefault(resource.name, {})
        counted = Counted(candidate.keys, self._backend, resource.reads, resource.strip)
        if next(reversed(known.values()), None) == counted:
            return
        known.pop(self._backend, None)
        known[self._backend] = counted
        # What is never compared is noted only to outdate what another store left.
        if not recorded and (self._compares or resource.name in self._in_ledger):
            self._untold[resource.name] = counted

    def tell(self, identity: str, revision: Callable[[], int], *, at_end: bool = False) -> Iterator[Count]:
        """Yield what the ledger does not know yet, and which store it is; ``at_end``: also how far that is.

        ``revision`` is asked for where it is needed only: it costs a look at all resources.
        """
        if not (self._compares or self._untold):
            return
        if self._untold or identity != self._identity or at_end or not self._revision:
            newest = revision()
            if self._untold or identity != self._identity or newest > (self._revision if at_end else 0):
                yield Count(self._untold, identity, newest)
                self._untold, self._identity, self._revision = {}, identity, newest
