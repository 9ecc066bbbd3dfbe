"""The commands of the simulated machine: checks read candidates, reloads make programs read their targets."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confpy.frozen import replace
from confpy.system.placeholders import Command
from confpy.system.subprocesses import Ran, Shell
from tests.sim.haproxy import RELOAD
from tests.sim.invariants import label
from tests.sim.kernel import Died
from tests.sim.plan import FIT, reload_line
from tests.sim.sites import CHECKED_BADLY, has_bad

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


@dataclass(eq=False)
class Running:
    """A command that runs."""

    ends: float


class SimShell(Shell):
    """The shell of one process: its commands are run by ``Programs``."""

    def __init__(self, programs: Programs) -> None:
        super().__init__()
        self._programs = programs

    def run(self, command: Command, environment: Mapping[str, str], timeout: float) -> Ran:
        assert isinstance(command, str)
        if self._ending is not None:
            return Ran(-signal.SIGTERM, 0.0, stopped=True)
        ran = self._programs.run(command, environment, timeout)
        return replace(ran, stopped=self._ending is not None)

    def terminate_all(self) -> None:
        super().terminate_all()
        self._programs.terminate_all()

    def kill_all(self) -> None:
        super().kill_all()
        self._programs.kill_all()


class Programs:
    """Runs commands by their first word; they fail, hang and take their time."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._kernel = simulation.machine.kernel
        self._timeline = simulation.machine.timeline
        self._running: list[Running] = []

    def forget(self) -> None:
        """The process that ran them is no more."""
        self._running.clear()

    def terminate_all(self) -> None:
        """Some commands end at once, as if a signal had done it or with a code of their own; others do not listen."""
        now = self._timeline.now
        for one in self._running:
            one.ends = self._simulation.random.choice((now, min(one.ends, now + 1.0), one.ends))

    def kill_all(self) -> None:
        for one in self._running:
            one.ends = self._timeline.now

    def run(self, command: str, environment: Mapping[str, str], timeout: float) -> Ran:
        """Run a command to its end, and let others go on meanwhile."""
        random, plan = self._simulation.random, self._simulation.plan
        took = random.choice((0.01, 0.01, 0.1, 0.5, 3.0))
        fails = not random.calm and random.random() < plan.sloppy_commands
        hangs = fails and random.random() < 0.3
        word = command.partition(" ")[0]
        late = word == "reload" and random.random() < 0.5
        seen = self._inputs(word, command, environment)
        rejects = (command == FIT and not self._fit(seen)) or self._has_bad_item(command, environment, seen)
        if word == "reload" and not random.calm and plan.deadly_reloads and plan.later.random() < plan.deadly_reloads:
            self._simulation.note("reload takes confpy down")
            raise Died
        began = self._timeline.now
        killed = self._pass(timeout if hangs else took)
        if late:
            seen = self._inputs(word, command, environment)
        self._simulation.note(
            f"{word} {'is killed' if killed else 'hangs' if hangs else 'fails' if fails else 'succeeds'}"
        )
        if (
            word == "reload"
            and (killed or hangs or fails)
            and self._simulation.plan.haproxy
            and plan.later.random() < 0.3
        ):
            self._reload(command, seen)  # it was taken all the same
        if killed or hangs:
            return Ran(-signal.SIGKILL, self._timeline.now - began, timed_out=hangs and not killed)
        if fails:
            return Ran(1, took)
        if rejects:
            self._simulation.note("check refuses what does not fit")
            return Ran(1, took)
        if word == "check":
            self._simulation.invariants.note_checked(seen)
        elif word == "reload":
            self._reload(command, seen)
        return Ran(0, took)

    def _reload(self, command: str, seen: Mapping[str, bytes | None]) -> None:
        if self._simulation.plan.haproxy and command == RELOAD:
            self._simulation.haproxy.reload()
        else:
            self._simulation.invariants.note_read(seen)

    def _pass(self, seconds: float) -> bool:
        """Let the time of a command pass; returns whether it was ended before."""
        until = self._timeline.now + seconds
        running = Running(until)
        self._running.append(running)
        self._simulation.pass_until(lambda: running.ends)
        self._running.remove(running)
        return running.ends < until

    def _fit(self, seen: Mapping[str, bytes | None]) -> bool:
        found = [seen[one.name] for one in self._simulation.resources if one.check_cmd == FIT]
        versions = {content and content.split(b"\n")[0].split()[-1] for content in found}
        self._simulation.note(f"check sees {len(found)} that have to fit")
        return len(versions) == 1 and None not in versions

    def _has_bad_item(self, command: str, environment: Mapping[str, str], seen: Mapping[str, bytes | None]) -> bool:
        """Say whether a check refuses what it sees of items."""
        if not command.startswith("check") or not self._simulation.plan.items:
            return False
        if command.startswith("check sites") or ":" in environment.get("CONFPY_RESOURCE", ""):
            return any(content is not None and has_bad(content, CHECKED_BADLY) for content in seen.values())
        return False

    def _inputs(self, word: str, command: str, environment: Mapping[str, str]) -> dict[str, bytes | None]:
        """Return what a command reads: resource → content."""
        resources = self._simulation.invariants.resources
        if command == FIT:
            return {one.name: self._kernel.content(one.dest) for one in resources if one.check_cmd == FIT}
        if word == "check" and command == "check all":
            return {one.name: self._kernel.content(one.dest) for one in resources if one.item is None}
        if command.startswith("check sites"):
            # By target: one item may have had several.
            return {f":{one.dest}": self._kernel.content(one.dest) for one in resources if one.check_cmd == command}
        if word == "check" and command.startswith("check all"):
            named = {name: environment.get(f"CONFPY_SRC_{name.upper()}") for name in ("r0", "r1", "r2", "r3")}
            return {name: self._kernel.content(path) for name, path in named.items() if path}
        if word == "check":
            return {environment["CONFPY_RESOURCE"]: self._kernel.content(command.split()[1].strip("'"))}
        if word == "reload":
            readers = [one for one in resources if reload_line(one) == command]
            seen = {label(one): self._kernel.content(one.dest) for one in readers}
            for one in readers:
                self._simulation.invariants.look_at_what_is_read(one, seen[label(one)])
            return seen
        return {}
