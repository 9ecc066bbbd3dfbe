"""What confpy says of itself (``Agent.status``) is true, at every moment of a run and at its end.

What is under way is known here from the actions and the messages that went by, and not from what the agent notes.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING

from confpy.agent.config import AgentConfig
from confpy.agent.resources import Plan, ResourceState, all_commands
from confpy.config.resource import commands_of
from confpy.messages import (
    Action,
    Deliver,
    Delivered,
    Listed,
    Message,
    Read,
    Reload,
    Reloaded,
    Resolve,
    Resolved,
    Restore,
    Restored,
)
from confpy.status.model import ReloadStatus, ResourceStatus, Status, is_well, troubles
from tests.sim.plan import reload_line
from tests.sim.timeline import Wrong

if TYPE_CHECKING:
    from confpy.agent.agent import Agent
    from tests.sim.simulation import Simulation

LOOKS = 0.1
"""The chance that somebody asks after a step."""
READY_TIMEOUT = AgentConfig().ready_timeout
ROUNDED = 0.001
"""Seconds that a moment may be off."""


class UnderWay:
    """The jobs of one process that have not answered yet."""

    def __init__(self) -> None:
        self.deliveries: dict[int, Deliver] = {}
        self.reloads: set[str] = set()
        self.restores: set[str] = set()
        self.reads: set[int] = set()
        self.lookups: set[object] = set()

    def begin(self, actions: Iterable[Action]) -> None:
        """Take what a step wants done."""
        for action in actions:
            match action:
                case Deliver():
                    self.deliveries[action.batch] = action
                case Reload():
                    self.reloads.add(action.key)
                case Restore():
                    self.restores.add(action.key)
                case Read():
                    self.reads.add(action.read)
                case Resolve():
                    self.lookups.update(action.lookups)

    def end(self, message: Message) -> None:
        """Take what came of a job."""
        match message:
            case Delivered():
                self.deliveries.pop(message.batch, None)
            case Reloaded():
                self.reloads.discard(message.key)
            case Restored():
                self.restores.discard(message.key)
            case Listed():
                self.reads.discard(message.read)
            case Resolved():
                self.lookups.difference_update(message.facts)

    def delivers(self, names: Iterable[str]) -> bool:
        """Say whether one of these resources is being delivered."""
        sent = {one.resource.name for it in self.deliveries.values() for group in it.groups for one in group.candidates}
        return not sent.isdisjoint(names)

    def uses(self, commands: Iterable[str]) -> bool:
        """Say whether one of these commands is in use."""
        resources = [it.resource for one in self.deliveries.values() for group in one.groups for it in group.candidates]
        used = {command for one in resources for command in commands_of(one) or ("",)}
        return not (used | self.reloads | self.restores).isdisjoint(commands)


class Health:
    """Asks for the status now and then, and raises ``Wrong`` where it is not true."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._random = Random(f"{simulation.plan.seed} asks for the status")  # no run is another one by being asked
        self._was_started = self._is_ready = False
        self._began = 0.0
        self.under_way = UnderWay()

    def forget_process(self) -> None:
        """Another process starts."""
        self._was_started = self._is_ready = False
        self._began = self._simulation.now
        self.under_way = UnderWay()

    def look_now_and_then(self) -> None:
        """Ask for the status at some moments, after a step."""
        agent = self._simulation.process.agent
        if not self._is_ready and agent._started.at is not None:
            self._is_ready = True
            self._look_at_start(agent)
        if self._random.random() < LOOKS:
            self.look()

    def look(self) -> Status:
        """Ask for the status, and compare it with what is under way."""
        agent = self._simulation.process.agent
        status = agent.status()
        if self._was_started and not status.is_started:
            raise Wrong("the status says that it has not started, and it had")
        self._was_started = status.is_started
        if not (agent.is_stopping or agent._ended):
            for one in status.resources:
                if one.name in agent.resources.states and (why := self._doubt(agent, status, one)):
                    raise Wrong(f"{one.name} is {one.state} for {one.cause} ({one.why}), but {why}")
                self._simulation.undoing.look_at_status(one)
            for reload in status.reloads:
                if why := self._doubt_reload(agent, status, reload):
                    raise Wrong(f"the reload {reload.command} is owed for {reload.cause}, but {why}")
            self._look_at_programs(status)
        return status

    def _look_at_start(self, agent: Agent) -> None:
        """It has not started before each store has answered that something is read from, or has had its time."""
        if self._simulation.now >= self._began + READY_TIMEOUT:
            return
        networks, mounts = self._simulation.networks, self._simulation.invariants.keys.mounts
        for state in agent.resources:
            error = agent.mirror.error(state.resource.prefixes)
            if (
                (state.tried and state.error is None)
                or state.undone
                or state.cached
                or (error is not None and not agent.mirror.is_loss(error))
            ):
                continue
            for mount in mounts.split(state.resource.prefixes):
                if not networks[mount].answers:
                    raise Wrong(f"it has started, and {state.name} has had no answer of {mount or '/'}")

    def _doubt(self, agent: Agent, status: Status, one: ResourceStatus) -> str:
        """Return why what a resource is said to wait for is not so, empty where it is.

        Of one with ``for_each`` it is that of an item, or its own.
        """
        state = agent.resources.states[one.name]
        items = [it for it in agent.resources if it.plan is state] if state.matches is not None else []
        doubts = [self._doubt_of(it, agent, status, one) for it in (state, *items)]
        return "" if "" in doubts else doubts[0]

    def _doubt_of(self, state: ResourceState, agent: Agent, status: Status, one: ResourceStatus) -> str:
        """Return why that is not so of one of them."""
        group = agent.resources.groups[state.group]
        names = [it.name for it in group]
        under_way = self.under_way
        if isinstance(getattr(agent.resources.queue.wait_of(state.group), "on", None), Plan):
            state = state.plan or state
            group = [state]
        mounts = {agent.mirror.mount_of(prefix) for it in group for prefix in it.resource.prefixes}
        stores = [store for store in status.stores if store.mount in mounts]
        if (one.cause == "delivery") != under_way.delivers([state.name]):
            return f"deliveries are under way of {list(under_way.deliveries)}"
        match one.cause:
            case "lookup" if not any(state.awaited & under_way.lookups for state in group):
                return "no look-up is under way"
            case "command" if not under_way.uses(all_commands(group)):
                return "no command of it is in use"
            case "group" if not (under_way.delivers(names) or any(_is_amiss(it) for it in group)):
                return "nothing is the matter with its group"
            case "read" if not (under_way.reads or any(status.now < store.next_at for store in stores)):
                return "nothing is read"
            case "store away" | "cached keys" if all(
                store.is_up and not store.denied for store in stores
            ) and self._is_read(agent, state):
                return "the store was read, and answers"
            case "prefix denied" if not any(store.denied for store in stores):
                return "the store denies nothing"
            case "settle" | "drift" | "backoff" | "min_reload_interval" | "splay" if not one.next_at:
                return "it waits until no moment"
            case "settle" if one.next_at < status.now - ROUNDED:
                return f"it was due {status.now - one.next_at:.3f} s ago"
            case "pass":
                return "the step has ended"
            case "first try" if not any(_shares(agent, state, it) for it in agent.resources if not it.tried):
                return "all that share its check were tried"
            case "undo" if not any(it.undone for it in group):
                return "nobody has undone anything"
        return ""

    @staticmethod
    def _is_read(agent: Agent, state: ResourceState) -> bool:
        return agent.mirror.ready(state.resource.prefixes)

    def _doubt_reload(self, agent: Agent, status: Status, reload: ReloadStatus) -> str:
        under_way = self.under_way
        if reload.is_running != (reload.command in under_way.reloads):
            return f"{sorted(under_way.reloads)} run"
        if reload.cause == "rollback" and not under_way.restores and not under_way.deliveries:
            return "nothing is put back, or waited for"
        if reload.cause == "reload after deliveries" and not under_way.deliveries:
            return "nothing is delivered"
        if (
            reload.cause in {"reload retry", "splay", "min_reload_interval", "settle"}
            and reload.next_at < status.now - ROUNDED
        ):
            return f"it was due {status.now - reload.next_at:.3f} s ago"
        if reload.cause == "reload" and not (reload.is_running or agent.reloads.is_held):
            return "it is not started"
        return ""

    def _look_at_programs(self, status: Status) -> None:
        """What was reported as new, and was not read by its program yet, is not said to be current."""
        invariants, kernel = self._simulation.invariants, self._simulation.machine.kernel
        if invariants.torn or invariants.unrecorded:
            return
        states = {one.target: one.state for one in status.resources}
        for resource in self._simulation.resources:
            dest = resource.dest
            if resource.reload_cmd is None or dest in invariants.excused:
                continue
            content = kernel.content(dest)
            is_new = dest in invariants.durable and invariants.durable[dest] == content
            if is_new and not invariants.has_read(resource) and states.get(dest) == "current":
                raise Wrong(f"{resource.name} is said to be current, and its program has not read it")

    def amiss(self) -> str:
        """Say what the status shows as not well though all is; empty where it shows that all is well."""
        status = self.look()
        invariants = self._simulation.invariants
        # One of those with this reload is enough: a run that its verify_cmd refuses is none for the others, either.
        reloads = {reload_line(one) for one in invariants.resources if one.dest in invariants.excused}
        excused = [one for one in invariants.resources if reload_line(one) in reloads]
        names = {name for one in excused for name in (one.name, one.item.of if one.item is not None else one.name)}
        # A reload of others that is called the same, and is another one as it tells HAProxy, may have had them read.
        told = {reload_line(one) for one in invariants.resources if one.reload_haproxy is not None}
        plain = (one for one in invariants.resources if one.reload_haproxy is None and reload_line(one) in told)
        names |= {one.name for one in plain if one.on_reload_failure == "keep"}
        if left := {one.name: one.why for one in status.resources if one.state != "current"}:
            # The last reload of these has failed, and is not tried again.
            if not left.keys() <= names:
                return f"the status says of what is well: {left}"
        elif not is_well(status, late=0.0):
            return f"the status says: {[*troubles(status, late=0.0)]}"
        return ""

    def look_at_trouble(self) -> None:
        """While a reload is owed, not all is said to be well."""
        if is_well(self.look(), late=-1.0):
            raise Wrong("the status says that all is well, and a reload is owed")


def _is_amiss(state: ResourceState) -> bool:
    return bool(state.error is not None or state.guard.suspicion is not None or state.undone or state.in_flight)


def _shares(agent: Agent, state: ResourceState, other: ResourceState) -> bool:
    shared = agent.resources.shared_checks
    return state is not other and not set(shared(state.group)).isdisjoint(shared(other.group))
