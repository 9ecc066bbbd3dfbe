"""Resources with ``for_each`` in a run: which files there should be, and what must hold of them at every moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from confpy.agent.items import item_of
from confpy.config.resource import Resource
from confpy.frozen import replace
from confpy.keys.each import Each
from confpy.keys.prefixes import covers
from confpy.messages import Deliver
from tests.sim.plan import RENAMES, made
from tests.sim.sites import (
    CHECKED_BADLY,
    DESTS,
    NAMES,
    RENDERED_BADLY,
    SITES,
    STRANGERS,
    has_bad,
    patterns,
    with_pattern,
)
from tests.sim.timeline import Wrong

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


class Items:
    """Looks at what becomes of items, and raises ``Wrong``."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._kernel = simulation.machine.kernel
        self._random = simulation.plan.later
        self.seen: dict[str, Resource] = {}
        """By target, all items that were ever to be delivered."""
        self._made: dict[str, set[bytes]] = defaultdict(set)
        """Target → what confpy has ever wanted it to be."""
        self._strangers: dict[str, bytes] = {}
        self._emptied: set[str] = set()
        """Patterns that matched nothing at some time."""
        self._is_repaired = False
        self.has_moved = False
        """A ``dest`` was edited: what a kill left beside the old targets is swept no more."""
        self._edited = False
        """A pattern was edited: what it matched before may go as a whole."""
        if simulation.plan.items:
            self._kernel.removing = self._look_at_removal

    # --- what people do --------------------------------------------------------------------------------------------

    def furnish(self) -> None:
        """Put files of others where those of items will be."""
        for name in STRANGERS:
            path = f"{SITES}/{name}"
            self._strangers[path] = f"{name} of somebody\n".encode()
            self._kernel.write(path, self._strangers[path])

    def edit(self, resource: Resource) -> Resource:
        """Return a resource with ``for_each`` as somebody has edited it."""
        self._simulation.note("for_each edited")
        match self._random.randint(0, 4 if self._simulation.plan.seed >= RENAMES else 3):
            case 4 if not self._simulation.plan.undoes:
                self._simulation.note("for_each renamed")
                return replace(resource, name=f"{resource.name}x")
            case 0 if not self._simulation.plan.undoes:
                self.has_moved = True
                return replace(resource, dest=self._random.choice(DESTS).format(folder=SITES, plan=resource.name[:2]))
            case 1:
                self._edited = True
                return with_pattern(resource, patterns(self._simulation.plan.stores), self._random)
        return replace(
            resource,
            settle=self._random.choice((0.0, 0.1, 1.0)),
            on_reload_failure=self._random.choice(("retry", "rollback", "keep")),
        )

    def repair(self) -> None:
        """Let somebody mend the values of which no good file can be made, and remove names that make none."""
        self._is_repaired = True
        for network in self._simulation.networks.values():
            keys = network.server.keys
            for key in [*keys]:
                if key.rpartition("/")[2] in NAMES[:3]:
                    network.server.delete(key)
                while key in keys and any(has_bad(keys[key][1], kind) for kind in (RENDERED_BADLY, CHECKED_BADLY)):
                    network.server.put(key)
            network.stir()

    # --- what should be --------------------------------------------------------------------------------------------

    @property
    def plans(self) -> list[Resource]:
        """The resources with ``for_each`` that there are now."""
        return [one for one in self._simulation.resources if one.each is not None]

    def wanted(self) -> dict[str, tuple[Resource, Mapping[str, str]]]:
        """Return the items that there should be, by target, each with its keys."""
        return {one.dest: (one, keys) for plan in self.plans for one, keys in self._items(plan)}

    def _items(self, plan: Resource) -> Iterator[tuple[Resource, Mapping[str, str]]]:
        each, mounts = plan.each, self._simulation.invariants.keys.mounts
        assert each is not None
        keys = self._simulation.keys()
        seen = {
            key: value
            for key, value in keys.items()
            if any(covers(one, key) and mounts.point_of(one) == mounts.point_of(key) for one in plan.prefixes)
        }
        for name in dict.fromkeys(each.name_in(key) for key in seen):
            if name and name not in NAMES[:3] and _is_there(each, name, seen):
                own = (each.path(name), *plan.shared)
                yield item_of(plan, name), {key: it for key, it in seen.items() if any(covers(one, key) for one in own)}

    def amiss(self) -> str:
        """Say which good item has another file than it should have, and which file should be gone."""
        wanted = self.wanted()
        for dest, (item, keys) in wanted.items():
            content = made(item, self._simulation.template(item.src), keys)
            if has_bad(content, RENDERED_BADLY) or (item.check_cmd is not None and has_bad(content, CHECKED_BADLY)):
                continue
            if self._kernel.content(dest) != content:
                return f"{dest} is {self._kernel.content(dest)!r} instead of {content!r}"
        states = self._simulation.process.agent.resources.states
        for plan in (states.get(one.name) for one in self.plans if self._is_repaired):
            if plan is not None and plan.matches is not None and not plan.matches.names.isdisjoint(NAMES[:3]):
                return f"{plan.name} still has names of no file"
        for dest, item in self.seen.items():
            state = states.get(item.name)
            if dest not in wanted and state is not None and state.resource.dest == dest and not state.undone:
                return f"{item.name} is still there, and its key is gone"
            if dest not in wanted and self._should_go(item) and self._kernel.content(dest) is not None:
                return f"{dest} is still {self._kernel.content(dest)!r}, and its key is gone"
        return ""

    def _should_go(self, item: Resource) -> bool:
        """Say whether a file whose item is no more is confpy's, and of a resource that there is."""
        assert item.item is not None
        invariants, dest = self._simulation.invariants, item.dest
        inode = self._kernel.find(dest)
        if invariants.unrecorded or invariants.torn or (inode is not None and inode.link is not None):
            return False
        content = self._kernel.content(dest)
        return content in self._made[dest] and any(one.name == item.item.of for one in self.plans)

    def look_at_manifest(self) -> None:
        """At rest the ledger knows what is confpy's: the files of the items that there are."""
        invariants, process = self._simulation.invariants, self._simulation.process
        owned = {one.dest: one for one in process.ledger._book.owned.values()}
        for dest in self.wanted():
            if not (invariants.unrecorded or invariants.torn or dest in invariants.touched) and dest not in owned:
                raise Wrong(f"{dest} is confpy's, and the ledger does not say so")
        states = process.agent.resources.states
        settled = {plan.name for plan in self.plans if states[plan.name].guard.suspicion is None}
        for dest, one in owned.items():
            if dest not in self.wanted() and one.of in settled:
                raise Wrong(f"{dest} is said to be confpy's, and no item has it")

    # --- at every moment -------------------------------------------------------------------------------------------

    def look_for_empty(self, keys: Mapping[str, str]) -> None:
        """Note which patterns match nothing now."""
        for plan in (one for one in (*self.plans, *self._simulation.removed) if one.each is not None):
            if plan.each.text not in self._emptied:
                names = {plan.each.name_in(key) for key in keys}
                if not any(name and _is_there(plan.each, name, keys) for name in names - {*NAMES[:3]}):
                    self._emptied.add(plan.each.text)

    def look_at_candidates(self, action: Deliver) -> None:
        """No wrong answer of a store removes all files of a resource."""
        candidates = [one for group in action.groups for one in group.candidates if one.resource.item is not None]
        for one in candidates:
            self.seen[one.resource.dest] = one.resource
            if not one.gone:
                self._made[one.resource.dest].add(one.content)
        for plan in self.plans:
            state = self._simulation.process.agent.resources.states.get(plan.name)
            if state is not None and state.matches:
                continue  # no answer that leaves some is suspect
            own = [one for one in candidates if one.resource.item.of == plan.name]
            gone = {one.resource.dest for one in own if one.gone}
            there = {dest for dest, it in self.seen.items() if it.item.of == plan.name and self._kernel.content(dest)}
            left = (there - gone) | {one.resource.dest for one in own if not one.gone}
            if len(gone & there) > 1 and not left and plan.each.text not in self._emptied and not self._edited:
                raise Wrong(f"all files of {plan.name} would be removed by a fault")

    def _look_at_removal(self, path: str) -> None:
        """Only what confpy has made is ever removed, and only as it made it."""
        if path in self._strangers:
            raise Wrong(f"{path} is somebody else's, and is removed")
        if path in self.seen and self._kernel.content(path) not in self._made[path]:
            raise Wrong(f"{path} is removed, and was changed by somebody: {self._kernel.content(path)!r}")

    def look_at_strangers(self) -> None:
        """Files of others are as they were."""
        for path, content in self._strangers.items():
            if self._kernel.content(path) != content and path not in self.seen:
                raise Wrong(f"{path} is somebody else's, and became {self._kernel.content(path)!r}")


def _is_there(each: Each, name: str, keys: Mapping[str, str]) -> bool:
    path = each.path(name) + each.tail
    return any(key.startswith(f"{path}/") for key in keys) if each.is_folder else path in keys
