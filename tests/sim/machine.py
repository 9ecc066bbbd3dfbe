"""One machine, which outlives the processes that run on it, and one of those processes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from confpy.agent.agent import Agent
from confpy.agent.config import AgentConfig
from confpy.events import LogEvent
from confpy.ledger.cached_keys import Kept
from confpy.ledger.folder import StateFolder
from confpy.ledger.ledger import Ledger
from confpy.mirror.mirror import Mirror
from confpy.system.subprocesses import Shell
from tests.sim.disk import Alone, SimDisk
from tests.sim.kernel import Kernel
from tests.sim.plan import BACKEND, FOLDERS, STATE, Plan, Printer
from tests.sim.timeline import NEVER, Chance, Timeline


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

    def __init__(self, machine: Machine, plan: Plan, number: int) -> None:
        self.alone = Alone()
        self.ended: int | None = None
        """Its exit code."""
        self.wakes = NEVER
        self.steps = False
        """Its owner is at work: no job goes on meanwhile."""
        random = Random(plan.seed * 1000 + number)
        self.mirror = Mirror(random, follows=True, period=plan.period)
        config = AgentConfig(
            period=plan.period, saves_keys=plan.saves, names_deletions=plan.names_deletions, backend=BACKEND
        )
        self.agent = Agent(config, self.mirror, Printer(), random, {})
        self.ledger: Ledger | None = None
        self._machine = machine

    def open(self, disk: SimDisk, shell: Shell, say: Callable[[LogEvent], None]) -> None:
        """Open its files; it may die meanwhile."""
        self.disk = disk
        self.shell = shell
        self.ledger = Ledger.open(STATE, disk, self.alone, backend=BACKEND, wall=self._machine.time)
        self.kept = Kept(StateFolder(STATE, say, disk), self._machine, self.alone)
