"""One machine, which outlives the processes that run on it, and one of those processes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from confpy.agent.agent import Agent
from confpy.agent.config import AgentConfig
from confpy.config.resource import Loaded
from confpy.config.settings import Settings
from confpy.daemon.jobs import Jobs, Ports
from confpy.daemon.mirrors import make_mirror
from confpy.delivery.context import Rules
from confpy.history.records import FindUndo, UndoFound
from confpy.ledger.cached_keys import CachedKeys
from confpy.ledger.folder import StateFolder
from confpy.ledger.history import History
from confpy.ledger.holds import Holds
from confpy.ledger.ledger import Ledger
from confpy.messages import Deliver, Delivered, Recovered, Reload, Reloaded, Restore, Restored
from confpy.reload.runtime_ports import RuntimePorts
from confpy.reload.taken import TakenFolder
from confpy.stores.tree import Stores
from tests.sim.disk import Alone, SimDisk
from tests.sim.kernel import Died, Kernel
from tests.sim.network import Networks
from tests.sim.plan import BACKEND, FOLDERS, STATE, TAKEN, Printer
from tests.sim.programs import SimShell
from tests.sim.timeline import NEVER, Chance, SimulatedThreads, Timeline

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


class Machine:
    """Its clocks, its disk and its power."""

    def __init__(self, random: Chance, note: Callable[[str], None]) -> None:
        self.timeline = Timeline()
        self.kernel = Kernel(random, FOLDERS)
        self.has_booted = True
        """The programs run; they do not when the power has come back only now."""
        self._random = random
        self._note = note
        self._wall_offset = 1e9

    def monotonic(self) -> float:
        """As ``Clock`` has it."""
        return self.timeline.now

    def time(self) -> float:
        """As ``Clock`` has it: this one may jump."""
        return self._wall_offset + self.timeline.now

    def light_fuse(self) -> None:
        """Let the process die at one of its next calls to the disk."""
        self._note("fuse")
        self.kernel.fuse = self._random.randint(1, 30)

    def pass_downtime(self) -> bool:
        """Let the time until the next start pass; returns whether the wall clock was set meanwhile."""
        kernel = self.kernel
        kernel.suspect = set(kernel.read_only) | (set(FOLDERS) if kernel.full else set())
        self.timeline.now += self._random.choice((0.1, 1.0, 40.0))
        if self._random.random() >= 0.1:
            return False
        self._note("the wall clock jumps")
        self._wall_offset += self._random.choice((-1e8, -100.0, 100.0))
        return True

    def mend(self) -> None:
        """Let no call to the disk fail any more."""
        self.kernel.full, self.kernel.failing, self.kernel.fuse = False, 0.0, 0
        self.kernel.read_only.clear()


class Process:
    """One confpy: what is lost when it dies."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        plan = simulation.plan
        self.ended: int | None = None
        """Its exit code."""
        self.wakes = NEVER
        self.steps = False
        """Its owner is at work: no job goes on meanwhile."""
        self.alone = Alone()
        self.disk = SimDisk(simulation.machine.kernel, simulation.pause, simulation.wait)
        self.shell = SimShell(simulation.programs)
        self.ledger: Ledger | None = None
        self._runtime_ports: RuntimePorts | None = None
        random = Random(plan.seed * 1000 + number)
        networks = simulation.networks
        self.stores = Stores(networks[""], {mount: one for mount, one in networks.items() if mount})
        for mount, network in networks.items():
            network.adapter = (self.stores.mounted[mount] if mount else self.stores.main) if plan.mounts else None
        mounts = {mount: Settings(backend=BACKEND) for mount in self.stores.mounted}
        settings = Settings(backend=BACKEND, watch=True, mounts=mounts)
        mirror = make_mirror(settings, self.stores, random, plan.period)
        config = AgentConfig(
            period=plan.period,
            saves_keys=plan.saves,
            backend=BACKEND,
            history=plan.undoes,
            mounted=dict.fromkeys(mounts, (BACKEND, ())),
        )
        self.agent = Agent(config, mirror, Printer(), random, {})
        self._simulation = simulation

    def open(self) -> None:
        """Open its files; it may die meanwhile."""
        simulation, machine = self._simulation, self._simulation.machine
        self.ledger = Ledger.open(STATE, self.disk, self.alone, backend=BACKEND, wall=machine.time)
        self.ledger.fewest_stamps = 1
        if simulation.plan.undoes and self.ledger.folder:
            self.ledger.history = History(STATE, self.disk, guard=self.alone, log=simulation.log)
        folder = StateFolder(STATE, simulation.log, self.disk)
        ports = Ports(
            disk=self.disk,
            shell=self.shell,
            clock=machine,
            store=self.stores.main,
            streams=Networks(simulation.networks),
            mounted=self.stores.mounted,
            ledger=self.ledger,
            cached_keys=CachedKeys(folder, machine, self.alone),
            holds=Holds(folder, self.alone),
            resolver=simulation,
            load=lambda: Loaded(simulation.resources),
            follow=lambda _: None,
            post=simulation.tell,
            start=SimulatedThreads(machine.timeline, simulation.random, simulation.tell).start,
            log=simulation.log,
            guard=self.alone,
            answer=simulation.undoing.take_answer,
            runtime=self._runtime,
        )
        self.jobs = ObservedJobs(simulation, ports)

    def _runtime(self) -> RuntimePorts:
        """As ``Ports.runtime``."""
        if self._runtime_ports is None:
            machine, simulation = self._simulation.machine, self._simulation
            self._runtime_ports = RuntimePorts(
                disk=self.disk,
                talks=simulation.haproxy,
                taken=TakenFolder(TAKEN if self.ledger.folder else "", self.disk),
                seconds=machine.monotonic,
                wall=machine.time,
                sleep=simulation.wait,
                locked=self.ledger.locked,
            )
        return self._runtime_ports

    def stop(self, code: int) -> None:
        """End as a daemon does; raises ``Died``."""
        self.ended = code
        self.jobs.save()
        self.ledger.close()
        self.disk.dead = True
        raise Died("stop")


class ObservedJobs(Jobs):
    """The daemon's jobs; what goes in and comes out is looked at."""

    def __init__(self, simulation: Simulation, ports: Ports) -> None:
        super().__init__(ports, Rules())
        self._simulation = simulation
        self._invariants = simulation.invariants
        self._undoing = simulation.undoing

    def recover(self) -> Recovered:
        recovered = super().recover()
        self._simulation.note("recovered", {"owed": len(recovered.reloads)})
        if any(note.event == "delivery.torn" for note in recovered.notes):
            self._invariants.torn = True
        self._simulation.boot_late()
        self._invariants.look_after_recovery()
        return recovered

    def deliver(self, action: Deliver) -> Delivered:
        self._invariants.begin_delivery(action)
        self._undoing.begin_delivery(action)
        rollbacks = self._simulation.seen["rolls back"]
        delivered = super().deliver(action)
        self._invariants.end_delivery(action, delivered, alone=rollbacks == self._simulation.seen["rolls back"])
        self._undoing.end_delivery(action, delivered)
        return delivered

    def restore(self, action: Restore) -> Restored:
        contents = self._invariants.begin_rollback()
        self._simulation.note("rolls back")
        self._undoing.begin_rollback()
        restored = super().restore(action)
        self._invariants.end_rollback(restored, contents)
        self._undoing.end_rollback(restored)
        return restored

    def find_undo(self, action: FindUndo) -> UndoFound:
        found = super().find_undo(action)
        self._undoing.take_found(action)
        return found

    def reload(self, action: Reload) -> Reloaded:
        if action.by != "reload":
            return self._tell(action)
        self._invariants.begin_reload(action)
        reloaded = super().reload(action)
        self._invariants.end_reload(action, succeeded=reloaded.error is None and reloaded.needed is None)
        if reloaded.needed is not None:
            self._simulation.note("haproxy is not repaired after a reload", {"why": reloaded.needed.why})
        return reloaded

    def _tell(self, action: Reload) -> Reloaded:
        files = self._invariants.begin_telling(action)
        told = super().reload(action)
        self._invariants.end_telling(action, told, files)
        if told.needed is not None:
            self._simulation.note(f"{action.by}: needed", {"why": told.needed.why})
        elif told.avoided is not None:
            self._simulation.note(
                f"{action.by}: {'sent' if told.avoided.plan else 'equal'}", {"plan": told.avoided.plan}
            )
        return told
