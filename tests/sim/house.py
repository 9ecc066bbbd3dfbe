"""The whole mind on a simulated store, disk and shell: resources in, targets and reloads out."""

from __future__ import annotations

import hashlib
from random import Random

from confpy.agent.agent import Agent
from confpy.agent.batches import AT_ONCE
from confpy.agent.config import AgentConfig
from confpy.agent.reloads import RELOADS_AT_ONCE
from confpy.config.resource import Loaded, Resource
from confpy.errors import CheckError, ReloadError, TemplateError
from confpy.events import LogEvent
from confpy.keys.view import View
from confpy.messages import (
    Accepted,
    Action,
    Candidate,
    ClearPending,
    Count,
    Deliver,
    Delivered,
    DeliveredState,
    FileStamp,
    Group,
    Hold,
    Inspect,
    Inspected,
    Kill,
    Load,
    Message,
    Recall,
    Recalled,
    Recover,
    Recovered,
    Release,
    Reload,
    Reloaded,
    Report,
    Resolve,
    Resolved,
    Save,
    Stop,
    Sweep,
    Swept,
    Terminate,
    WakeAt,
)
from confpy.templates.lookup import Lookup
from confpy.templates.results import Needs, Rendered
from confpy.templates.results import World as Facts
from tests.sim.world import World

ADDRESS = "lookups"
"""A resource with this template asks for an address."""


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


class House(World):
    """The agent, its store, its disk and its shell."""

    def __init__(self, seed: int, resources: tuple[Resource, ...], **config: object) -> None:
        super().__init__(seed, period=5.0)
        self.resources = resources
        self.printer = Printer()
        self.config = AgentConfig(period=5.0, **config)
        self.agent = Agent(self.config, self.mirror, self.printer, Random(seed), {})
        self.targets: dict[str, bytes] = {}
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
        self._touched = 0
        self._wakes = float("inf")
        self._stamps: dict[str, FileStamp] = {}
        for action in self.agent.start():
            self._carry_out(action)

    def tell(self, message: Message) -> None:
        if self.ended is None:
            self._wakes = float("inf")
            for action in self.agent.step((message,), self.now, 1e9 + self.now):
                self._carry_out(action)

    def wakes_at(self) -> float:
        return self._wakes if self.ended is None else float("inf")

    def touch(self, dest: str, content: bytes | None) -> None:
        """Somebody else writes or removes a target."""
        self.by_hand.add(dest)
        if content is None:
            self.targets.pop(dest, None)
            self._stamps.pop(dest, None)
        else:
            self._write(dest, content)

    def _write(self, dest: str, content: bytes) -> None:
        self._touched += 1
        self.targets[dest] = content
        self._stamps[dest] = FileStamp(1, self._touched, len(content), 0, 0)

    def _carry_out(self, action: Action) -> None:
        soon = self.random.uniform(0.001, 0.3)
        match action:
            case WakeAt():
                self._wakes = action.moment
            case Load():
                self._answer(soon, Loaded(self.resources))
            case Sweep():
                self._answer(soon, Swept(()))
            case Resolve():
                answers = {
                    one: TemplateError("no answer")
                    if self.random.fails(0.2)
                    else f"code of {one.name}"
                    if one.kind == "template"
                    else self.address
                    for one in action.lookups
                }
                self._answer(soon, Resolved(action.resolve, answers))
            case Deliver():
                commands = {one.resource.check_cmd for group in action.groups for one in group.candidates} - {None}
                self.batches += 1
                assert self.batches <= AT_ONCE, "too many deliveries at once"
                assert self.delivering.isdisjoint(commands), "two deliveries share a command"
                self.delivering |= commands
                hangs = self.hangs and self.random.random() < 0.3
                self.timeline.later(1000.0 if hangs else soon, lambda: self._deliver(action, commands))
            case Reload():
                assert action.key not in self.reloading, "one command reloads twice at once"
                self.reloading.add(action.key)
                assert len(self.reloading) <= RELOADS_AT_ONCE, "too many reloads at once"
                assert self.ended is None, "it goes on after its end"
                self.reloads += 1
                seen = {
                    one.dest: self.targets.get(one.dest) for one in self.resources if one.reload_cmd == action.command
                }
                self.timeline.later(soon, lambda: self._reload(action, seen))
            case Inspect():
                self.timeline.later(soon, lambda: self.tell(self._inspect(action)))
            case Recover():
                self._answer(soon, Recovered())
            case Hold():
                self._answer(soon, Accepted(action.resource, accepted=False))
            case Recall():
                self._answer(soon, Recalled({}))
            case ClearPending() | Count() | Release() | Save() | Kill():
                pass
            case Terminate():
                self.terminated = True
            case Stop():
                self.ended = action.code
            case LogEvent():
                self.lines.append(action)
            case _:
                super()._carry_out(action)

    def _answer(self, seconds: float, message: Message) -> None:
        self.timeline.later(seconds, lambda: self.tell(message))

    def _deliver(self, action: Deliver, commands: set[str | None]) -> None:
        self.delivering -= commands
        self.batches -= 1
        reports = (report for group in action.groups for report in self._deliver_group(group))
        self.tell(Delivered(action.batch, tuple(reports)))

    def _reload(self, action: Reload, seen: dict[str, bytes | None]) -> None:
        self.reloading.discard(action.key)
        if self.random.fails(0.3):
            self.tell(Reloaded(action.key, ReloadError("the reload exited with 1"), 0.1))
        else:
            self.loaded.update({dest: content for dest, content in seen.items() if content is not None})
            self.tell(Reloaded(action.key, None, 0.1))

    def _deliver_group(self, group: Group) -> list[Report]:
        refused = {one.resource.name for one in group.candidates if self.random.fails(0.2)}
        changed = [one for one in group.candidates if self.targets.get(one.resource.dest) != one.content]
        if not changed:
            refused = set()
        if refused and not self.config.noop:
            error = CheckError("the check exited with 1")
            return [
                Report(one.resource.name, "failed", error)
                if one.resource.name in refused
                else Report(one.resource.name, "held", error)
                for one in group.candidates
            ]
        return [self._deliver_one(one) for one in group.candidates]

    def _deliver_one(self, candidate: Candidate) -> Report:
        resource, content = candidate.resource, candidate.content
        known = hashlib.sha256(content).digest()
        if candidate.only_missing and resource.dest in self.targets:
            return Report(resource.name, "unchanged")
        if self.targets.get(resource.dest) == content:
            return Report(resource.name, "unchanged", known=DeliveredState(known, self._stamps[resource.dest]))
        if self.config.noop:
            return Report(resource.name, "would change")
        self.commits += 1
        self.by_hand.discard(resource.dest)
        self._write(resource.dest, content)
        return Report(resource.name, "changed", known=DeliveredState(known, self._stamps[resource.dest]))

    def _inspect(self, action: Inspect) -> Inspected:
        drifted = {}
        for resource, known in action.targets:
            if resource.dest not in self.targets:
                drifted[resource.name] = "missing"
            elif self._stamps[resource.dest] != known.stamp:
                drifted[resource.name] = "content"
        return Inspected(drifted, {})
