"""What other programs and people do: they change keys, targets, templates and resources, and send signals."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from confpy.config.resource import Resource
from confpy.frozen import replace
from confpy.ledger.folder import StateFolder
from confpy.ledger.holds import HELD, accept
from confpy.messages import Edited
from tests.sim.disk import SimDisk
from tests.sim.haproxy import foreign
from tests.sim.network import FaultyNetwork
from tests.sim.plan import ELSEWHERE, FOLDERS, MOUNTED, OUT, STATE
from tests.sim.sites import SITES

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


class People:
    """Does one thing after another to a run."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._random = simulation.random
        self._plan = simulation.plan
        self._kernel = simulation.machine.kernel
        self._invariants = simulation.invariants
        self._note = simulation.note

    def furnish(self, resource: Resource) -> None:
        """Make what stands where a resource's target will be: a file, a link, a mount, or nothing."""
        random, kernel, dest = self._random, self._kernel, resource.dest
        if dest.startswith(MOUNTED):
            kernel.write(dest, self._foreign(resource, "mounted"))
            kernel.mounts.add(dest)
        elif random.random() < 0.15:
            kernel.link(dest, f"{ELSEWHERE}/{resource.name}")
            kernel.write(dest, self._foreign(resource, "linked"))
        elif random.random() < 0.5:
            kernel.write(dest, self._foreign(resource, "old"))
        self._invariants.note_foreign(dest)
        self._invariants.loaded[dest] = kernel.content(dest)

    @staticmethod
    def _foreign(resource: Resource, text: str) -> bytes:
        return f"{text}\n".encode() if resource.reload_haproxy is None else foreign(text)

    def disturb(self) -> None:
        """Do one thing."""
        if self._plan.undoes and self._plan.later.random() < 0.3:
            self._simulation.undoing.act()
            return
        if self._plan.haproxy and self._plan.later.random() < 0.15:
            self._simulation.haproxy.disturb()
            return
        if self._plan.mounts and self._plan.later.random() < 0.08:
            self._disturb_whole_store()
            return
        dice = self._random.random() * 100
        if dice < 50:
            self._disturb_store(dice)
        elif dice < 60:
            self._edit_target()
        elif dice < 66:
            self._edit_configuration()
        elif dice < 76:
            if self._plan.disk_fails:
                self._disturb_disk()
        elif dice < 94:
            if self._plan.dies:
                self._kill(between_steps=dice >= 90)
        elif dice < 96:
            self._note("SIGTERM")
            self._simulation.signal(signal.SIGTERM)
        elif dice < 97:
            self.hang_up("SIGHUP")

    def _kill(self, *, between_steps: bool) -> None:
        if between_steps:
            self._simulation.process.disk.dead = True
            self._simulation.die("between two steps")
        else:
            self._simulation.machine.light_fuse()

    def hang_up(self, what: str) -> None:
        """Say that what was rejected, or failed, may be tried again."""
        self._note(what)
        self._invariants.forget_tries()
        self._simulation.signal(signal.SIGHUP)

    def accept(self) -> None:
        """Look at what is held back, and accept it."""
        folder = StateFolder(STATE, self._simulation.log, SimDisk(self._kernel))
        for one in folder.names(HELD):
            record = folder.read(one)
            if record is not None and not record["accepted"]:
                self._note("a person accepts")
                accept(folder, str(record["resource"]))
                self._simulation.undoing.note_acceptance(record)

    def _choose_store(self) -> FaultyNetwork:
        networks = [*self._simulation.networks.values()]
        return networks[0] if len(networks) == 1 else self._random.choice(networks)

    def _disturb_whole_store(self) -> None:
        """Let a store go away for long, or come back."""
        network = self._choose_store()
        if network.plan.leaves:
            network.leave(self._random.choice((0.0, 3.0, 40.0, 400.0)))
            network.stir()

    def _disturb_store(self, dice: float) -> None:
        random, network = self._random, self._choose_store()
        server, plan = network.server, network.plan
        key = random.choice(plan.keys)
        if dice < 34:
            server.put(key)
            self._note("put")
        elif dice < 41:
            if not (plan.wrong_answers and key == plan.always):
                server.delete(key)
                self._note("delete")
        elif dice < 43:
            server.drop(random.choice(plan.folders))
            self._note("drop")
        elif dice < 44:
            server.compacted = random.randint(server.compacted, server.revision)
            self._note("compact")
        elif dice < 45:
            if network.stalls:
                network.streams.clear()
                self._note("streams vanish")
        elif dice < 46.5:
            self._break_streams(network)
        elif dice < 48:
            server.denied ^= {random.choice(plan.denials)}
            self._note("rights change")
        elif plan.restores:
            server.restore(random, other_identity=random.random() < 0.5)
            self._invariants.newest.clear()
            self._note("store comes back from a backup")
        network.stir()

    def _break_streams(self, network: FaultyNetwork) -> None:
        """End all streams of a store, often with changes on them that have only come in part."""
        random = self._random
        if random.random() < 0.7:
            for _ in range(4):
                network.server.put(random.choice(network.plan.keys))
            network.stir()
            self._simulation.run(random.choice((0.01, 0.03, 0.06)))
        network.cut_streams()
        self._note("streams break")

    def _edit_target(self) -> None:
        """Write, remove or link a target."""
        random, kernel = self._random, self._kernel
        if not self._invariants.resources:
            return
        one = random.choice(self._invariants.resources)
        mounted = one.dest in kernel.mounts
        self._invariants.durable.pop(one.dest, None)
        self._invariants.touched.add(one.dest)
        match random.randint(0, 4):
            case 0 if not mounted:
                kernel.remove(one.dest)
                self._note("target removed")
            case 1 if not mounted:
                kernel.remove(one.dest)
                kernel.link(one.dest, f"{ELSEWHERE}/{one.name.replace('/', '_')}")
                self._invariants.excused.add(one.dest)  # it may lead to what confpy wants there: nothing changes then
                self._note("target linked")
            case _:
                kernel.write(one.dest, self._foreign(one, f"by hand {kernel.tick()}"))
                self._note("target written by hand")
        self._invariants.note_foreign(one.dest)
        self._invariants.note_group()
        self._simulation.undoing.note_edit()

    def _edit_configuration(self) -> None:
        random, simulation = self._random, self._simulation
        match random.randint(0, 3):
            case 0:
                simulation.template_version += 1
                self._note("template edited")
            case 1 if len(simulation.resources) > 1:
                gone = random.choice(simulation.resources)
                simulation.removed.append(gone)
                simulation.resources = tuple(one for one in simulation.resources if one is not gone)
                self._simulation.undoing.forget(gone.name)
                self._note("resource removed")
            case 2 if simulation.removed:
                simulation.resources += (simulation.removed.pop(),)
                self._note("resource added")
            case _:
                was = random.choice(simulation.resources)
                changed = simulation.items.edit(was) if was.each is not None else self._edited(was)
                simulation.resources = tuple(changed if one is was else one for one in simulation.resources)
                self._note("resource edited")
        self._invariants.note_group()
        if not simulation.process.disk.dead:
            simulation.machine.timeline.later(0.01, lambda: simulation.tell(Edited()))

    def _edited(self, resource: Resource) -> Resource:
        return replace(
            resource,
            prefixes=self._random.choice(self._plan.reads),
            settle=self._random.choice((0.0, 0.1, 1.0)),
            on_reload_failure=self._random.choice(("retry", "rollback", "keep")),
            backup=self._random.choice((0, 2)),
        )

    def _disturb_disk(self) -> None:
        random, kernel = self._random, self._kernel
        match random.randint(0, 3):
            case 0:
                kernel.full = not kernel.full
                self._note("disk full" if kernel.full else "room again")
                kernel.suspect |= set(FOLDERS)
            case 1:
                folder = random.choice(
                    (OUT, ELSEWHERE, MOUNTED, MOUNTED, STATE, *((SITES,) if self._plan.items else ()))
                )
                kernel.read_only ^= {folder}
                self._invariants.were_read_only.add(folder)
                kernel.suspect.add(folder)
                self._note(f"{folder} {'read-only' if folder in kernel.read_only else 'writable again'}")
            case _:
                kernel.failing = random.choice((0.0, 0.05))
                self._note("syncs fail" if kernel.failing else "syncs succeed")
