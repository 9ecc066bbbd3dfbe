"""What must hold of the keys of each store, while it lies, fails, or is away."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from confpy.candidates import Candidate
from confpy.config.resource import Resource
from confpy.keys.mounts import Mounts
from confpy.keys.prefixes import covers
from tests.sim.plan import names, values
from tests.sim.timeline import Wrong

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


class KeyInvariants:
    """Looks at the keys that candidates are made from, and raises ``Wrong``."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.mounts = Mounts(one.mount for one in simulation.plan.stores if one.mount)
        prefixes = tuple({prefix for some in simulation.plan.reads for prefix in some})
        self._prefixes: dict[str, list[str]] = defaultdict(list, self.mounts.split(prefixes))
        """What is read, by mount."""
        self.emptied: set[str] = set()
        """Prefixes that had no key at some time."""
        self._made_from: dict[tuple[str, bytes | None], tuple[str, ...]] = {}
        """Resource and content → the prefixes that it was made from."""

    def look_at_emptied(self, candidate: Candidate, content: bytes | None) -> None:
        """No store's wrong answer takes the keys from a file that it brings."""
        prefixes, name = candidate.resource.prefixes, candidate.resource.name
        before = Counter(map(self.mounts.point_of, names(content or b"")))
        if not candidate.keys and before.total() > 1 and not self.emptied.issuperset(prefixes):
            raise Wrong(f"{name} would be emptied by a fault")
        has = set(map(self.mounts.point_of, names(candidate.content)))
        made_from = self.mounts.split(self._made_from.get((name, content), prefixes))
        for mount, group in self.mounts.split(prefixes).items():
            if mount not in made_from or (len(made_from) == 1 and made_from[mount] != group):
                continue  # there is no count of it
            # The last one may go by its name, whatever a wrong answer has hidden.
            if mount not in has and before[mount] > 1 and not self.emptied.issuperset(group):
                raise Wrong(f"{name} would lose all keys of {mount or '/'} by a fault")

    def note_candidate(self, candidate: Candidate) -> None:
        """Note what a content was made from: it is that of the target again after a rollback."""
        self._made_from[candidate.resource.name, candidate.content] = candidate.resource.prefixes

    def look_at_origin(self, resource: Resource, content: bytes) -> None:
        """Nothing is delivered that the store mounted there never had."""
        for key, (incarnation, revision) in values(content):
            mount = self.mounts.point_of(key)
            if (key[len(mount) :], f"{incarnation}:{revision}") not in self._simulation.networks[mount].server.given:
                raise Wrong(f"{resource.name}: {key} never was {incarnation}:{revision}")

    def look_at_cached(self, candidate: Candidate) -> None:
        """Cached keys take the place of those of the stores that are away, and of no others."""
        mirror, has = self._simulation.process.agent.mirror, set(names(candidate.content))
        for mount, prefixes in self.mounts.split(candidate.resource.seen).items():
            if self._simulation.plan.mounts and mirror.ready(prefixes):
                tree = mirror.sources(prefixes)[0].tree
                live = {key for prefix in prefixes for key, _ in tree.items(prefix)}
                if live != {key for key in has if self.mounts.point_of(key) == mount}:
                    raise Wrong(f"{candidate.resource.name} gets {has} instead of {live} of {mount or '/'}")

    def look_for_empty(self, mount: str) -> None:
        """Note which prefixes of the store there have no key now."""
        keys = self._simulation.networks[mount].tree()
        for prefix in self._prefixes[mount]:
            if prefix not in self.emptied and not any(covers(prefix, key) for key in keys):
                self.emptied.add(prefix)
        if self._simulation.plan.items:
            self._simulation.items.look_for_empty(self._simulation.keys())
