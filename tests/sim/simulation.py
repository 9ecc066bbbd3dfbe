"""Whole runs of confpy: all of it real but clock, store, disk and shell, driven by one seed.

Agent, mirror, deliveries, ledger, recovery, rollback and the state folder are the real ones. A run goes through
faults of every kind, and through deaths at any call to the disk; then the faults are over, and everything has to be
right. What must hold at every moment is looked at as it happens.

Jobs run on one stack instead of on threads: where a command takes its time, and now and then between two calls to the
disk, the others go on, on top of it. So batches, reloads, recovery and the owner do interleave, but the one that was
interrupted last goes on first.
"""

from __future__ import annotations

import os
import signal
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from unittest import mock

from confpy.config.resource import Resource
from confpy.events import LogEvent
from confpy.messages import Action, Deliver, Message, Signalled, Stop
from confpy.templates.lookup import Lookup
from tests.sim.haproxy import Haproxy
from tests.sim.health import Health
from tests.sim.invariants import Invariants
from tests.sim.items import Items
from tests.sim.kernel import Died, Folder
from tests.sim.machine import Machine, Process
from tests.sim.network import FaultyNetwork
from tests.sim.outcome import Outcome
from tests.sim.people import People
from tests.sim.plan import HISTORY, STATE, TAKEN, Plan
from tests.sim.programs import Programs
from tests.sim.sites import SITES
from tests.sim.timeline import Chance, Wrong
from tests.sim.undoing import Undoing
from tests.sim.wakeups import forgotten

LONG = 700.0
"""Seconds in which all is right once the faults are over: a reload is tried again within 300, a resync reads in full
within 660, and one whose store came back from a backup, and has overtaken itself, shows only then."""
SHOWN = ("dest", "prefixes", "group", "check_cmd", "reload_cmd", "verify_cmd", "on_reload_failure", "write", "backup")
"""What is shown of the resources."""


class Simulation:
    """One confpy after another on one machine."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self.seen: Counter[str] = Counter()
        """What happened, and how often."""
        self.digest = 0
        """Of all that happened, in its order: equal for two runs that were the same."""
        self.random = Chance(seed)
        self.machine = Machine(self.random, self.note)
        if verbose:
            self.machine.kernel.tell = self._show
        self.plan = Plan(seed, self.random)
        if self.plan.undoes:
            self.machine.kernel.folders[HISTORY] = Folder()
        if self.plan.items:
            self.machine.kernel.folders[SITES] = Folder()
        if self.plan.haproxy:
            self.machine.kernel.folders[TAKEN] = Folder()
            self.machine.kernel.wall = lambda: self.machine.time() - LONG
        self.resources = self.plan.resources
        self.removed: list[Resource] = []
        self.template_version = 1
        self.starts = 0
        self._steps = 0
        self.networks = {one.mount: FaultyNetwork(self, one) for one in self.plan.stores}
        """By mount."""
        self.network = self.networks[""]
        self.server = self.network.server
        self.haproxy = Haproxy(self)
        self.invariants = Invariants(self)
        self.health = Health(self)
        self.items = Items(self)
        self.undoing = Undoing(self)
        self.outcome = Outcome(self)
        self.programs = Programs(self)
        self.people = People(self)
        for network in self.networks.values():
            for key in network.plan.keys:
                if key == network.plan.always or self.random.random() < 0.7:
                    network.server.put(key)
            if network.plan.leaves and self.random.random() < 0.3:
                network.leave(self.random.choice((1.0, 20.0, 300.0)))
        for one in self.resources:
            if one.each is None:
                self.people.furnish(one)
        if self.plan.items:
            self.items.furnish()
        for one in self.resources:
            self.note(one.name, {name: getattr(one, name) for name in SHOWN})
        self.invariants.note_group()
        for mount in self.networks:
            self.invariants.keys.look_for_empty(mount)
        self.haproxy.boot()
        self.machine.kernel.wall = self.machine.time  # all that is there is older
        self.start()

    @property
    def now(self) -> float:
        return self.machine.timeline.now

    def note(self, what: str, fields: Mapping[str, object] | None = None) -> None:
        """Note what happened; the fields are only shown."""
        self.seen[what] += 1
        self.digest = zlib.crc32(f"{self.now:.6f} {what}".encode(), self.digest)
        if self.verbose:
            self._show(f"{what} {dict(fields) if fields else ''}")

    def _show(self, line: str) -> None:
        print(f"{self.now:10.3f} {line}")  # noqa: T201

    def log(self, event: LogEvent) -> None:
        """Take what is logged."""
        self.note(f"says {event.event}", event.fields)
        self.invariants.look_at_event(event)

    def keys(self) -> dict[str, str]:
        """Return the keys of all stores in the one tree."""
        return {key: value for network in self.networks.values() for key, value in network.tree().items()}

    def template(self, name: str) -> str:
        """Return a template's text."""
        return f"{name} v{self.template_version}"

    def resolve_all(self, lookups: Sequence[Lookup]) -> Iterable[Mapping[Lookup, object]]:
        """As ``Resolves.resolve_all``: only templates are asked for."""
        yield {lookup: self.template(lookup.name) for lookup in lookups}

    # --- processes -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start confpy on what is there; raises ``Died``."""
        self.starts += 1
        self.machine.timeline.clear()
        for network in self.networks.values():
            network.forget_process()
        self.programs.forget()
        self.invariants.forget_process()
        self.health.forget_process()
        self.undoing.forget_process()
        process = self.process = Process(self, self.starts)
        process.open()
        self.note("start")
        if process.ledger.warning is not None:
            self.note("ledger cannot be written")
            self.invariants.unrecorded = True
        self._take(process.agent.start)

    def die(self, how: str) -> None:
        """End the process, and perhaps the machine's power."""
        kernel, process, invariants = self.machine.kernel, self.process, self.invariants
        process.disk.dead = True
        kernel.fuse = 0
        self.note(f"died: {how}")
        kernel.end_process()
        self.items.look_at_strangers()
        self.undoing.look_at_targets()
        if STATE in kernel.suspect or (process.ledger is not None and not process.ledger.folder):
            invariants.excuse_owed()
        invariants.look_at_targets("after a death")
        if how != "stopped" and self.random.random() < 0.45:
            self._cut_power()
        if self.machine.pass_downtime():
            invariants.forget_tries()

    def _cut_power(self) -> None:
        self.note("power cut")
        self.invariants.tries.clear()  # the note of a run is not synced
        kernel = self.machine.kernel
        before = {dest: kernel.content(dest) for dest in self.invariants.durable}
        kernel.cut_power()
        self.haproxy.cut_power()
        self.invariants.look_at_power_cut(before)
        self.machine.has_booted = False
        if self.random.random() < 0.5:
            self._boot()

    def boot_late(self) -> None:
        """Programs that were not started before confpy are started."""
        if not self.machine.has_booted:
            self._boot()

    def _boot(self) -> None:
        self.machine.has_booted = True
        self.invariants.boot()

    # --- time ------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass; a process that dies on the way is started again, sooner or later."""
        end = self.now + seconds
        while True:
            try:
                if self.process.disk.dead:
                    self.start()
                self.pass_until(lambda: end)
            except Died:
                disk = self.process.disk
                self.die("stopped" if self.process.ended is not None else f"before {disk.last}")
                if not self.random.calm and self.random.random() < 0.3:
                    self.machine.light_fuse()  # the next start is cut off, too
            else:
                return

    def pass_until(self, end: Callable[[], float]) -> None:
        """Let time pass for the process that runs; raises ``Died``."""
        self.machine.timeline.run(self, end)

    def wait(self, seconds: float) -> None:
        """Let others go on in the middle of a job."""
        if self.machine.timeline.stacked and not self.process.steps and not self.process.alone.held:
            end = self.now + seconds
            self.pass_until(lambda: end)

    def pause(self) -> None:
        """Let others go on between two calls to the disk, now and then."""
        if (
            self.machine.timeline.stacked
            and not self.process.steps
            and not self.process.alone.held
            and self.random.random() < 0.02
        ):
            self.wait(self.random.choice((0.0, 0.01, 0.3)))

    def wakes_at(self) -> float:
        return self.process.wakes

    def tell(self, message: Message) -> None:
        """Hand a message to the agent, and carry out what it wants; raises ``Died``."""
        process = self.process
        if process.ended is None:
            self.health.under_way.end(message)
            self._take(lambda: process.agent.step((message,), self.now, self.machine.time()))

    def _take(self, step: Callable[[], Sequence[Action]]) -> None:
        process = self.process
        steps, process.steps = process.steps, True
        actions = step()
        self._steps += 1
        # What is forgotten stays so for a while: with several stores every third look is enough.
        if not (self.plan.mounts and self._steps % 3) and (left := forgotten(process.agent)):
            raise Wrong(f"left for nothing to take up: {left}")
        self.health.under_way.begin(actions)
        self.health.look_now_and_then()
        for action in actions:
            if isinstance(action, Deliver):
                self.invariants.look_at_candidates(action)
                self.undoing.look_at_candidates(action)
                self.items.look_at_candidates(action)
        process.wakes = process.jobs.carry_out(actions)
        for action in actions:
            if isinstance(action, Stop):
                process.stop(action.code)
        process.steps = steps

    # --- the end ---------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        if not self.process.disk.dead:
            try:
                self.tell(Signalled(number))
            except Died:
                self.die("stopped")

    def finish(self) -> None:
        """Let the faults be over; raises ``Wrong`` where all is not right then, and stays so."""
        self.random.calm = True
        self.machine.mend()
        for network in self.networks.values():
            network.server.denied.clear()
            network.stir()
        self.note("the faults are over")
        if self.plan.mounts and self.plan.later.random() < 0.3:
            self._settle_without(self.plan.later.choice([*self.networks.values()]))
        if self.plan.items:
            self._settle_with_bad_items()
        self._settle()
        invariants = self.invariants
        done = invariants.successes.total(), invariants.commits.total()
        self.run(self.plan.period * 1.2 + 5.0)
        if wrong := self.outcome.amiss():
            raise Wrong(f"later: {wrong}")
        if done != (invariants.successes.total(), invariants.commits.total()):
            raise Wrong("it delivers or reloads though nothing changes")
        if not (self.plan.stalls or self.plan.wrong_answers or self.plan.restores) and self.seen["says watch.missed"]:
            raise Wrong("a stream lost changes")
        self.outcome.look_at_counts(self.starts, self.seen["rolls back"])
        # What was paid could not be noted: it is paid twice.
        unsure = invariants.unrecorded or invariants.torn or STATE in self.machine.kernel.suspect
        if not unsure:
            self.items.look_at_manifest()
        self._stop()
        self._start_again(unsure=unsure)
        self.outcome.look_at_what_is_left(unsure=unsure)

    def _settle_without(self, network: FaultyNetwork) -> None:
        """Let time pass until all is right that does not need this store, which stays away for that time."""
        network.stay_away()
        end = self.now + LONG
        while wrong := self.outcome.amiss_without(network.plan.mount):
            if self.now >= end:
                raise Wrong(f"while {network.plan.mount or '/'} is away: {wrong}")
            self.run(20.0)
            self._see_to_failed_reloads()
        network.come_back()

    def _settle_with_bad_items(self) -> None:
        """Let time pass until all is right that bad items, and names of no file, do not concern; then mend those."""
        began = self.now
        # A kill in a trial that no ledger has leaves a bad file in place: all checks fail until it is mended.
        while (wrong := self.items.amiss()) and not self.invariants.unrecorded:
            if self.now >= began + LONG:
                raise Wrong(f"while some items are bad: {wrong}")
            self.run(20.0)
            self._see_to_failed_reloads()
            if self.now > began + 100:
                self.people.accept()
        self.items.repair()

    def _settle(self) -> None:
        """Let time pass until all is right."""
        began = self.now
        end = self.now + LONG * (2 if self.plan.restores else 1)
        while self.now < end:
            self.run(5.0 if self.now < began + 60 else 60.0)
            self._see_to_failed_reloads()
            if self.now > began + 100:  # by now no answer is wrong, and none is suspect
                self.people.accept()
            if not self.outcome.amiss() and (not self.plan.wrong_answers or self.now > began + 100):
                break
        if wrong := self.outcome.amiss():
            raise Wrong(wrong)

    def _see_to_failed_reloads(self) -> None:
        if self.process.agent.rejections:
            self.people.hang_up("a person repairs a program, and sends SIGHUP")

    def _stop(self) -> None:
        """Stop as a service is stopped."""
        end = self.now + 10
        try:
            self.tell(Signalled(signal.SIGTERM))
            self.pass_until(lambda: end)
        except Died:
            pass
        if self.process.ended not in {0, 128 + signal.SIGTERM}:
            raise Wrong(f"it ended with {self.process.ended}")
        self.die("stopped")

    def _start_again(self, *, unsure: bool) -> None:
        """Start where all is right: nothing is delivered, nothing is reloaded."""
        invariants = self.invariants
        before = invariants.successes.total(), invariants.commits.total()
        self.run(10.0)
        if unsure and self.outcome.amiss():  # a ledger that could not be read then is read now, and speaks of long ago
            self.people.accept()
            self._see_to_failed_reloads()
            self.run(100.0)
        if wrong := self.outcome.amiss():
            raise Wrong(f"after another start: {wrong}")
        if before != (invariants.successes.total(), invariants.commits.total()) and not unsure:
            raise Wrong("a start delivers or reloads though nothing has changed")
        self._stop()


def live(seed: int, *, verbose: bool = False) -> Simulation:
    """Simulate one run to its end; raises ``Wrong`` for a promise that was broken."""
    tokens = Random(seed)
    with mock.patch.object(os, "urandom", tokens.randbytes):
        simulation = Simulation(seed, verbose=verbose)
        for _ in range(simulation.random.randint(4, 16)):
            simulation.people.disturb()
            simulation.run(simulation.random.choice((0.0, 0.02, 0.2, 0.5, 2.0, 20.0)))
        simulation.finish()
        simulation.seen.update(simulation.machine.kernel.faults)
    return simulation
