"""People who undo deliveries, accept what the store wants, and ask out of turn; and what must hold of what is held."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from confpy.errors import UsageError
from confpy.history.records import UNDO, Accept, Answer, FindUndo, Undo
from confpy.ledger.folder import StateFolder
from confpy.ledger.holds import HELD, accept
from confpy.messages import Asked, Deliver, Delivered, Message, Restored
from confpy.status.model import ResourceStatus
from tests.sim.disk import SimDisk
from tests.sim.plan import RENAMES, STATE
from tests.sim.timeline import Wrong

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


class Undoing:
    """Acts for people, and raises ``Wrong`` where what they have put back does not stay."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._random = simulation.plan.later
        self._kernel = simulation.machine.kernel
        self.held: dict[str, bytes | None] = {}
        """Resource → what its target has been since it was put back. It outlives the process."""
        self._accepted: set[str] = set()
        """Resources that were accepted since their holds were recorded."""
        self._asked: dict[int, str] = {}
        """The requests that this process has not answered."""
        self._number = 0
        self._restores = 0
        """Rollbacks under way."""
        self._before: dict[str, bytes | None] = {}
        """Resource → what its target was before the delivery under way."""
        self._versions: dict[str, list[bytes | None]] = defaultdict(list)
        """Resource of no group → what its target was before each delivery of this process that was not undone."""

    def forget_process(self) -> None:
        """Another process starts: what was not in the history yet is lost."""
        self._asked.clear()
        self._before.clear()
        self._restores = 0
        self._versions.clear()

    # --- what people do --------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Do one thing."""
        dice = self._random.random()
        resources = [one for one in self._simulation.resources if one.each is None]
        if self._simulation.plan.seed >= RENAMES:
            resources += [item for item, _ in self._simulation.items.wanted().values()]
        if not resources:
            return
        one = self._random.choice(resources)
        if dice < 0.55:
            self._number += 1
            self._asked[self._number] = one.name
            self._simulation.note("a person undoes", {"resource": one.name})
            self._say(Undo(self._number, self._random.choice((one.name, one.dest))))
        elif dice < 0.8:
            self._accept(one.name)
        else:
            self._simulation.note("somebody asks whether the store is there")
            self._say(Asked())

    def _say(self, message: Message) -> None:
        simulation = self._simulation
        if not simulation.process.disk.dead:
            simulation.machine.timeline.later(0.001, lambda: simulation.tell(message))

    def _accept(self, name: str) -> None:
        """Accept one that is held, if there is one."""
        folder = StateFolder(STATE, self._simulation.log, SimDisk(self._kernel))
        fuse, self._kernel.fuse = self._kernel.fuse, 0  # that of confpy, not of whoever accepts
        try:
            self._accept_in(folder, name)
        finally:
            self._kernel.fuse = fuse

    def _accept_in(self, folder: StateFolder, name: str) -> None:
        for one in folder.names(HELD):
            record = folder.read(one)
            if record is not None and record["resource"] == name and record.get("undone") and not record["accepted"]:
                try:
                    accept(folder, name)
                except UsageError:  # the disk is full, or cannot be synced: it may have been written
                    self.note_acceptance(record)
                    return
                self._simulation.note("a person accepts what was held")
                self.note_acceptance(record)
                if self._random.random() < 0.5:
                    self._say(Accept(name))

    def note_acceptance(self, record: Mapping[str, Any]) -> None:
        """A person has accepted what a record says."""
        for name in record.get("undone", ()):
            self.forget(name)
            self._accepted.add(name)
            # Something else was put in place: what its reload rejected before is tried when it is wanted again.
            self._simulation.invariants.rejected.pop(name, None)

    def forget(self, name: str) -> None:
        """One is held no more, nor are its items."""
        for held in [one for one in self.held if one == name or one.startswith(f"{name}:")]:
            del self.held[held]

    def note_edit(self) -> None:
        """Somebody has changed a target: it stays so."""
        for name in self.held:
            self.held[name] = self._content(name)

    # --- what confpy does ------------------------------------------------------------------------------------------

    def take_answer(self, answer: Answer) -> None:
        """Take what has come of a request."""
        name = self._asked.pop(answer.request)
        how = "fails" if answer.error is not None else "succeeds"
        fields = {"resource": name, "changed": answer.resources, "error": str(answer.error)}
        self._simulation.note(f"undo {how}", fields)

    def is_asked(self) -> bool:
        """Say whether a request has had no answer."""
        return bool(self._simulation.process.agent._undone._requests)

    def take_found(self, action: FindUndo) -> None:
        """Take it that a hold is on disk now: what was accepted before is not any more."""
        self._accepted.difference_update(one.name for one in action.group)

    def look_at_candidates(self, action: Deliver) -> None:
        """Look at what is about to be delivered: nothing that is held, but what is to be put back."""
        for group in action.groups:
            for one in group.candidates:
                if one.trigger != UNDO and one.resource.name in self.held and STATE not in self._kernel.suspect:
                    raise Wrong(f"{one.resource.name} is held, and would be delivered")

    def begin_delivery(self, action: Deliver) -> None:
        for group in action.groups:
            for one in group.candidates:
                name = one.resource.name
                self._before[name] = self._kernel.content(one.resource.dest)

    def end_delivery(self, action: Deliver, delivered: Delivered) -> None:
        errors = {report.resource: report for report in delivered.reports}
        for group in action.groups:
            is_put_back = not any(errors[one.resource.name].error for one in group.candidates)
            for one in group.candidates:
                name = one.resource.name
                content, before = self._kernel.content(one.resource.dest), self._before.pop(name, None)
                if one.trigger != UNDO:
                    if errors[name].outcome == "changed":
                        self._versions[name].append(before)
                elif is_put_back:
                    self._simulation.note("put back")
                    if errors[name].outcome == "changed":
                        self._look_at_what_is_back(name, one.content, is_lone=group.is_lone)
                    else:
                        self._versions.pop(name, None)  # it was like that already: nothing is recorded
                    is_there = name in self._simulation.process.agent.resources.states
                    if name not in self._accepted and is_there:
                        self.held[name] = content

    def _look_at_what_is_back(self, name: str, content: bytes, *, is_lone: bool) -> None:
        """What is put back is what the target was before the last delivery that was not undone."""
        versions = self._versions[name]
        if versions and is_lone and not self._simulation.plan.disk_fails:
            before = versions.pop()
            if content != before:
                raise Wrong(f"{name} was put back as {content!r} instead of {before!r}")

    def begin_rollback(self) -> None:
        self._restores += 1

    def end_rollback(self, restored: Restored) -> None:
        """Previous files are back, since a reload failed."""
        self._restores -= 1
        for report in restored.reports:
            self._versions.pop(report.resource, None)
            if report.resource in self.held:
                self.held[report.resource] = self._content(report.resource)

    def look_at_targets(self) -> None:
        """A process has died: what it had put back is as it was left."""
        for name, content in self.held.items():
            now = self._content(name)
            # A start may have ended a rollback, and have died before it said so.
            is_under_way = self._restores or name in self._before or not self._simulation.process.agent._recovered
            if not (is_under_way or content == now or self._is_torn_by_hand(name)):
                raise Wrong(f"{name} is held, and became {now!r}")
            self.held[name] = now

    def _is_torn_by_hand(self, name: str) -> bool:
        """Say whether somebody may have written to a target in place, and a power cut have left that in part."""
        invariants = self._simulation.invariants
        touched = {one.name for one in invariants.resources if one.dest in invariants.touched}
        return name in touched and self._simulation.seen["power cut"] > 0

    def look_at_status(self, one: ResourceStatus) -> None:
        """What is held is shown as held, and is on disk as such."""
        if one.name not in self.held or STATE in self._kernel.suspect:
            return
        if (one.state, one.cause) != ("held", "undo") and one.cause != "delivery":
            raise Wrong(f"{one.name} is held, and is shown as {one.state} for {one.cause}")
        if self._kernel.find(f"{STATE}/{HELD}{one.name}.json") is None:
            raise Wrong(f"{one.name} is held, and the next start would not know it")

    def _content(self, name: str) -> bytes | None:
        dest = next(one.dest for one in self._simulation.invariants.resources if one.name == name)
        return self._kernel.content(dest)
