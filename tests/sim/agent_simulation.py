"""The agent with real deliveries, on a disk that never fails: resources in, targets and reloads out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random

from confpy.agent.agent import Agent
from confpy.agent.batches import AT_ONCE
from confpy.agent.config import AgentConfig
from confpy.agent.reload_queue import RELOADS_AT_ONCE
from confpy.config.resource import Loaded, Resource
from confpy.daemon.jobs import Failed, Job, Jobs, Ports
from confpy.delivery.context import Rules
from confpy.errors import TemplateError
from confpy.events import LogEvent
from confpy.keys.view import View
from confpy.ledger.cached_keys import CachedKeys
from confpy.ledger.folder import StateFolder
from confpy.ledger.holds import Holds
from confpy.ledger.ledger import Ledger
from confpy.messages import Action, Deliver, Delivered, Message, Reload, Reloaded, Stop
from confpy.mirror.mirror import Mirror
from confpy.system.placeholders import Command
from confpy.system.subprocesses import Ran, Shell
from confpy.templates.lookup import Lookup
from confpy.templates.results import Needs, Rendered
from confpy.templates.results import World as Facts
from tests.sim.disk import Alone, SimDisk
from tests.sim.kernel import Kernel
from tests.sim.plan import reload_line
from tests.sim.timeline import NEVER, SimulatedThreads
from tests.sim.wakeups import forgotten
from tests.sim.world import World

OUT, STATE = "/out", "/state"
ADDRESS = "lookups"
"""A resource with this template asks for an address."""
PERIOD = 5.0


class Printer:
    """Renders a resource as the list of its keys; asks for its template first, as the real one does."""

    def render(self, resource: Resource, view: View, world: Facts) -> Rendered:
        asked = {Lookup("template", resource.src)}
        if resource.src == ADDRESS:
            asked.add(Lookup("ip", resource.name))
        if not asked <= world.facts.keys():
            raise Needs(frozenset(asked - world.facts.keys()))
        answers = [world.facts[one] for one in sorted(asked, key=lambda one: one.kind)]
        for answer in answers:
            if isinstance(answer, TemplateError):
                error = TemplateError(answer.message)
                error.asked = frozenset(asked)
                raise error
        address = answers[0] if resource.src == ADDRESS else ""
        return Rendered(self.text(view, str(address)), frozenset(asked), False, ())

    def text(self, view: View, address: str = "") -> bytes:
        found = [pair for depth in range(1, 5) for pair in view.gets("/*" * depth)]
        return f"{address}{sorted(found)}".encode()


class _Jobs(Jobs):
    def __init__(self, simulation: AgentSimulation, ports: Ports, rules: Rules) -> None:
        super().__init__(ports, rules)
        self._simulation = simulation

    def deliver(self, action: Deliver) -> Delivered:
        delivered = super().deliver(action)
        self._simulation.end_delivery(action, delivered)
        return delivered

    def reload(self, action: Reload) -> Reloaded:
        self._simulation.reloading.discard(action.key)
        return super().reload(action)


class _Shell(Shell):
    """Checks and reloads fail now and then; a reload that succeeds makes the programs read their targets."""

    def __init__(self, simulation: AgentSimulation) -> None:
        super().__init__()
        self._simulation = simulation

    def run(self, command: Command, environment: Mapping[str, str], timeout: float) -> Ran:  # noqa: ARG002
        simulation = self._simulation
        is_check = str(command).startswith("check")
        if simulation.random.fails(0.2 if is_check else 0.3):
            return Ran(1, 0.1)
        if not is_check:
            read = (one.dest for one in simulation.resources if reload_line(one) == command)
            simulation.loaded.update({dest: simulation.targets[dest] for dest in read if dest in simulation.targets})
        return Ran(0, 0.1)

    def terminate_all(self) -> None:
        super().terminate_all()
        self._simulation.terminated = True


class AgentSimulation(World):
    """The agent, its store, its disk and its shell."""

    def __init__(self, seed: int, resources: tuple[Resource, ...], **config: object) -> None:
        super().__init__(seed)
        self.resources = resources
        self.printer = Printer()
        self.kernel = Kernel(self.random, (OUT, STATE))
        self.loaded: dict[str, bytes] = {}
        """Target → the content that its program has read."""
        self.reloading: set[str] = set()
        self.delivering: set[str] = set()
        self.batches = 0
        self.hangs = False
        """Some deliveries come to no end."""
        self.reloads = 0
        self.commits = 0
        self.address = 1
        """What a name resolves to now."""
        self.by_hand: set[str] = set()
        """Targets that somebody else wrote or removed since they were delivered."""
        self.terminated = False
        """Commands had to be ended."""
        self.ended: int | None = None
        self.lines: list[LogEvent] = []
        self._inbox: list[Message] = []
        self._wakes = NEVER
        settings = AgentConfig(period=PERIOD, **config)
        mirror = Mirror(Random(seed), follows=True, period=PERIOD)
        self.agent = Agent(settings, mirror, self.printer, Random(seed), {})
        self._jobs = _Jobs(self, self._ports(settings), Rules(settings.noop, settings.sync_only))
        self._take(self.agent.start())

    def _ports(self, settings: AgentConfig) -> Ports:
        disk, alone = SimDisk(self.kernel), Alone()
        folder = StateFolder(STATE, self.lines.append, disk)
        late = SimulatedThreads.LATE | {"reload"}
        self._threads = SimulatedThreads(self.timeline, self.random, self.post, late)
        return Ports(
            disk=disk,
            shell=_Shell(self),
            clock=self,
            store=self.network,
            streams=self.network,
            ledger=Ledger.open(None if settings.noop else STATE, disk, alone, wall=self.time),
            cached_keys=CachedKeys(folder, self, alone),
            holds=Holds(folder, alone),
            resolver=self,
            load=lambda: Loaded(self.resources),
            follow=lambda _: None,
            post=self.post,
            start=self._start,
            log=self.lines.append,
            guard=alone,
        )

    @property
    def targets(self) -> dict[str, bytes]:
        """Target → its content."""
        return {f"{OUT}/{name}": inode.content for name, inode in self.kernel.folders[OUT].names.items()}

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now

    def resolve_all(self, lookups: Sequence[Lookup]) -> Iterable[Mapping[Lookup, object]]:
        """As ``Resolves.resolve_all``: some are ready together."""
        facts: dict[Lookup, object] = {}
        for lookup in lookups:
            facts[lookup] = self._resolve(lookup)
            if self.random.fails(0.5):
                yield facts
                facts = {}
        if facts:
            yield facts

    def _resolve(self, lookup: Lookup) -> object:
        if self.random.fails(0.2):
            return TemplateError("no answer")
        return f"code of {lookup.name}" if lookup.kind == "template" else self.address

    def tell(self, message: Message) -> None:
        self._step([message])

    def post(self, message: Message) -> None:
        """As ``Ports.post``: what is posted at one moment is taken in one step."""
        self._inbox.append(message)
        if len(self._inbox) == 1:
            self.timeline.later(0.0, self._receive)

    def _receive(self) -> None:
        messages, self._inbox = self._inbox, []
        self._step(messages)

    def _step(self, messages: Sequence[Message]) -> None:
        if self.ended is None:
            actions = self.agent.step(messages, self.now, self.time())
            assert forgotten(self.agent) == []
            self._take(actions)

    def wakes_at(self) -> float:
        return self._wakes if self.ended is None else NEVER

    def touch(self, dest: str, content: bytes | None) -> None:
        """Write or remove a target, as somebody else."""
        self.by_hand.add(dest)
        if content is None:
            self.kernel.remove(dest)
        else:
            self.kernel.write(dest, content)

    def _take(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert self.ended is None, "it goes on after its end"
            match action:
                case Deliver():
                    self._begin_delivery(action)
                case Reload():
                    assert action.key not in self.reloading, "one command reloads twice at once"
                    self.reloading.add(action.key)
                    assert len(self.reloading) <= RELOADS_AT_ONCE, "too many reloads at once"
                    self.reloads += 1
        self._wakes = self._jobs.carry_out(actions)
        self.ended = next((action.code for action in actions if isinstance(action, Stop)), None)

    def _start(self, name: str, job: Job, failed: Failed) -> None:
        if name.startswith("resolve"):
            self.timeline.later(0.0, job)  # far faster than a delivery
        elif not (name.startswith("deliver") and self.hangs and self.random.random() < 0.3):
            self._threads.start(name, job, failed)

    def _begin_delivery(self, action: Deliver) -> None:
        commands = _checks(action)
        self.batches += 1
        assert self.batches <= AT_ONCE, "too many deliveries at once"
        assert self.delivering.isdisjoint(commands), "two deliveries share a command"
        self.delivering |= commands

    def end_delivery(self, action: Deliver, delivered: Delivered) -> None:
        """What was committed is confpy's again."""
        self.delivering -= _checks(action)
        self.batches -= 1
        dests = {one.resource.name: one.resource.dest for group in action.groups for one in group.candidates}
        for report in delivered.reports:
            if report.outcome == "changed":
                self.commits += 1
                self.by_hand.discard(dests[report.resource])


def _checks(action: Deliver) -> set[str]:
    """Return the commands that no other delivery may run meanwhile."""
    found = (one.resource.check_cmd for group in action.groups for one in group.candidates)
    return {str(command) for command in found if command is not None}
