"""What must hold while a run goes on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from confpy.agent.batches import AT_ONCE
from confpy.agent.reload_queue import LONGEST, RELOADS_AT_ONCE
from confpy.candidates import Candidate, Group, Report
from confpy.config.resource import Resource
from confpy.errors import TargetTorn
from confpy.events import LogEvent
from confpy.history.records import UNDO
from confpy.messages import Deliver, Delivered, Reload, Reloaded, Restored
from confpy.target.replace import BACKUP_MARK
from tests.sim.kernel import Kernel
from tests.sim.key_invariants import KeyInvariants
from tests.sim.plan import STATE, reload_line, values
from tests.sim.timeline import NEVER, Wrong

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


class Invariants:
    """Looks at what confpy does, and raises ``Wrong``."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._kernel = simulation.machine.kernel
        self.keys = KeyInvariants(simulation)
        self.whole: dict[str, set[bytes | None]] = defaultdict(set)
        """Target → what it may be as a whole."""
        self.checked: set[tuple[str, bytes]] = set()
        self.touched: set[str] = set()
        """Targets that somebody else wrote, removed or linked."""
        self.foreign: set[tuple[str, bytes | None]] = set()
        """Targets as confpy did not make them."""
        self.loaded: dict[str, bytes | None] = {}
        """Target → what its program read last."""
        self.excused: set[str] = set()
        """Targets whose reload may have been lost, and of which confpy said so."""
        self.durable: dict[str, bytes | None] = {}
        """Targets that were reported as new, and that no power cut may undo."""
        self.delivering: list[str] = []
        self.reloading: list[str] = []
        self.backed_up: set[str] = set()
        """Resources of whose targets an older version is there."""
        self.unrecorded = False
        """Some delivery was not in the ledger, and was said not to be."""
        self.commits: Counter[str] = Counter()
        self.successes: Counter[str] = Counter()
        self.rejected: dict[str, tuple[bytes, float]] = {}
        """Resource of no group → the content that its reload rejected, and when it was rolled back."""
        self.tries: dict[str, tuple[int, float]] = {}
        """Reload → how often it ran in vain since something new came, and when last."""
        self.group_states: set[frozenset[tuple[str, bytes | None]]] = set()
        """What the members of the group may be together when nothing is under way."""
        self.torn = False
        """Something could be neither committed nor put back, and was said to be so."""
        self.were_read_only: set[str] = set()
        """Folders that were read-only at some time: what should have gone then may have stayed."""
        self.unsynced = False
        """A folder could not be synced, and that was said."""
        self.newest: dict[str, tuple[int, int]] = {}
        """Key → the newest of its values that a candidate had, of this process."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """All resources with a target, those that were removed meanwhile too, and all items."""
        simulation = self._simulation
        plain = (one for one in (*simulation.resources, *simulation.removed) if one.each is None)
        return (*plain, *simulation.items.seen.values())

    @property
    def _ledger_is_suspect(self) -> bool:
        return self.unrecorded or STATE in self._kernel.suspect

    def forget_process(self) -> None:
        """Another process starts."""
        self.delivering.clear()
        self.reloading.clear()
        self.newest.clear()

    def forget_tries(self) -> None:
        """What was rejected, or failed, may be tried again at once."""
        self.rejected.clear()
        self.tries.clear()

    # --- files -----------------------------------------------------------------------------------------------------

    def note_foreign(self, dest: str) -> None:
        """Somebody else made a target what it is."""
        content = self._kernel.content(dest)
        self.foreign.add((dest, content))
        self.whole[dest].add(content)

    def look_at_targets(self, when: str, *, all_: bool = False) -> None:
        """No file that is renamed is ever partial; one that is written in place is whole after the next start."""
        for dest, contents in self.whole.items():
            in_place = any(one.write == "inplace" for one in self.resources if one.dest == dest)
            if (in_place or self._kernel.follow(dest) in self._kernel.mounts) and not all_:
                continue
            content = self._kernel.content(dest)
            if content is not None and content not in contents:
                raise Wrong(f"{dest} is partial {when}: {content!r}")

    def look_at_power_cut(self, before: Mapping[str, bytes | None]) -> None:
        """No commit that was reported is undone. ``before``: the durable targets before the power went."""
        for dest, content in self.durable.items():
            if before[dest] == content != self._kernel.content(dest):
                raise Wrong(f"{dest} was reported as new, and a power cut undid it")
        self.look_at_targets("after a power cut")

    def look_after_recovery(self) -> None:
        if not (self._ledger_is_suspect or self.torn):
            self.look_at_targets("after a start", all_=True)
            self.look_at_group("after a start")

    def boot(self) -> None:
        """Programs are started, with what is there by now."""
        self._simulation.haproxy.boot()
        for one in self.resources:
            self.loaded[one.dest] = self._kernel.content(one.dest)
            self.excused.discard(one.dest)

    def excuse_owed(self) -> None:
        """What is owed now may be lost: the ledger cannot be written, or not be read."""
        self.unrecorded = True
        for one in self.resources:
            if not self.has_read(one):
                self.excused.add(one.dest)

    def has_read(self, resource: Resource) -> bool:
        """Say whether the program of a resource has what its target says."""
        if resource.reload_haproxy is not None:
            haproxy = self._simulation.haproxy
            return haproxy.is_excused or not [*haproxy.wrong([resource])]
        return self._kernel.content(resource.dest) == self.loaded.get(resource.dest)

    # --- what is logged ----------------------------------------------------------------------------------------------

    def look_at_event(self, event: LogEvent) -> None:
        if event.event == "resource.removed":
            self._simulation.undoing.forget(str(event.fields["resource"]))
        if event.event == "delivery.torn":
            self.torn = True
            known = self.touched or self._simulation.plan.disk_fails or self.unrecorded
            if "is gone" in str(event.fields["error"]) and not known:
                raise Wrong(f"{event.fields['resource']} cannot be mended: its old file is gone")
        if event.event == "state.not_saved" and event.fields["record"] == "ledger":
            self.excuse_owed()
        if event.fields.get("did") == "leaves it so (on_reload_failure)":
            names = str(event.fields["resource"]).split(", ")
            self.excused.update(one.dest for one in self.resources if one.name in names)

    # --- deliveries --------------------------------------------------------------------------------------------------

    def look_at_candidates(self, action: Deliver) -> None:
        """What the agent wants delivered."""
        commands = _commands(action)
        if len(self.delivering) >= AT_ONCE or any(one in self.delivering for one in commands):
            raise Wrong(f"two deliveries share {commands}")
        self.delivering += commands
        networks = self._simulation.networks
        for group in action.groups:
            for one in group.candidates:
                name, dest, content = one.resource.name, one.resource.dest, one.content
                self.whole[dest].add(None if one.gone else content)
                self.durable.pop(dest, None)
                self.keys.look_at_origin(one.resource, content)
                if one.only_missing:
                    self.keys.look_at_cached(one)
                if one.only_missing or one.trigger == UNDO:
                    continue
                self._look_at_rejected(one.resource, content)
                for key, seen in values(content):
                    if (
                        seen < self.newest.get(key, seen)
                        and not networks[self.keys.mounts.point_of(key)].server.incarnation
                    ):
                        raise Wrong(f"{name}: {key} went back from {self.newest[key]} to {seen}")
                    self.newest[key] = max(seen, self.newest.get(key, seen))
                if one.resource.item is None and self._simulation.plan.wrong_answers and not self._ledger_is_suspect:
                    self.keys.look_at_emptied(one, self._kernel.content(dest))
                self.keys.note_candidate(one)
            self._note_state_of(group)

    def _look_at_rejected(self, resource: Resource, content: bytes) -> None:
        """What a reload has rejected is not tried again at once, also by the next start."""
        rejected, at = self.rejected.get(resource.name, (None, 0.0))
        in_place = self._kernel.content(resource.dest)
        now = self._simulation.now
        strange = self.touched or self._ledger_is_suspect or (resource.dest, in_place) in self.foreign
        if rejected == content != in_place and now < at + 0.9 * resource.retry_refused and not strange:
            raise Wrong(f"{resource.name} gets what its reload refused {now - at:.1f} s ago")
        self.rejected.pop(resource.name, None)

    def begin_delivery(self, action: Deliver) -> None:
        for group in action.groups:
            for one in group.candidates:
                self.durable.pop(one.resource.dest, None)
            self._note_state_of(group)  # by now another member may be missing

    def end_delivery(self, action: Deliver, delivered: Delivered, *, alone: bool) -> None:
        """``alone``: no rollback came in between, which puts back what was equal when the delivery looked."""
        for command in _commands(action):
            self.delivering.remove(command)
        sent = {one.resource.name: one for group in action.groups for one in group.candidates}
        for report in delivered.reports:
            one = sent[report.resource]
            error = f" {type(report.error).__name__}" if report.error else ""
            fields = {"resource": report.resource, "error": str(report.error), "content": one.content}
            self._simulation.note(f"delivery {report.outcome}{error}", fields)
            self.torn = self.torn or report.torn
            if report.outcome == "changed":
                self._look_at_commit(one, report)
        whole = alone and not any(one.notes for one in delivered.reports)
        if whole and any(group.name == "g" for group in action.groups):
            self.look_at_group("after its delivery")

    def _look_at_commit(self, candidate: Candidate, report: Report) -> None:
        resource, content, notes = candidate.resource, candidate.content, report.notes
        if (
            resource.check_cmd is not None
            and not candidate.gone
            and (_checked_as(resource.name), content) not in self.checked
        ):
            raise Wrong(f"{resource.name} was committed unchecked")
        if has_backup(self._kernel, resource.name):
            self.backed_up.add(resource.name)
        if resource.reload_cmd is not None:
            self.commits[reload_line(resource)] += 1
            self.tries.pop(reload_line(resource), None)
        for note in notes:
            self._simulation.note(f"notes {note.split(':')[0].split('(')[0]}")
            self.unsynced = self.unsynced or "could not be synced" in note
            self.unrecorded = self.unrecorded or note.startswith("the ledger cannot be written")
        content = None if candidate.gone else content
        if self._kernel.content(resource.dest) == content and not any("could not be synced" in note for note in notes):
            self.durable[resource.dest] = content

    # --- groups ----------------------------------------------------------------------------------------------------

    def _group_state(self) -> frozenset[tuple[str, bytes | None]]:
        return frozenset((one.dest, self._kernel.content(one.dest)) for one in self._simulation.resources if one.group)

    def note_group(self) -> None:
        """What somebody else made of a group's targets is one of the states that it may be in."""
        self.group_states.add(self._group_state())

    def _note_state_of(self, group: Group) -> None:
        """A group becomes what is delivered; from cached keys only those that are missing are made."""
        if group.name == "g":
            pairs = [(one, self._kernel.content(one.resource.dest)) for one in group.candidates]
            self.group_states.add(
                frozenset(
                    (one.resource.dest, was if one.only_missing and was is not None else one.content)
                    for one, was in pairs
                )
            )

    def look_at_group(self, when: str) -> None:
        """A group goes as a whole, with those that are members by then."""
        if not (self.torn or self.unrecorded or self.unsynced):
            state = self._group_state()
            if not state.isdisjoint(self.foreign):  # what somebody else made of a member is left alone
                return
            if not any(state <= one or one <= state for one in self.group_states):
                raise Wrong(f"the group is half new {when}: {sorted(state)}")

    # --- reloads -----------------------------------------------------------------------------------------------------

    def begin_reload(self, action: Reload) -> None:
        """A reload that failed, or took confpy down with it, is tried at growing intervals, also by the next start."""
        key, now = action.key, self._simulation.now
        if key in self.reloading:
            raise Wrong(f"{key} runs twice at once")
        if len(self.reloading) >= RELOADS_AT_ONCE:
            raise Wrong("too many reloads at once")
        times, last = self.tries.get(key, (0, -NEVER))
        least = 0.1 * min(LONGEST, 2.0 ** (times - 1)) if times else 0.0
        if now - last < least - 0.2 and not self._ledger_is_suspect:
            raise Wrong(f"{key} ran {times} times in vain, and is tried again after {now - last:.1f} s")
        self.tries[key] = (times + 1, now)
        self.reloading.append(key)
        self._simulation.haproxy.began = now
        self._simulation.haproxy.is_blind = not self._simulation.process.agent.reloads._targets.is_known

    def end_reload(self, action: Reload, *, succeeded: bool) -> None:
        key = action.key
        self.reloading.remove(key)
        self.successes[key] += succeeded
        if succeeded:
            self.tries.pop(key, None)

    def begin_telling(self, action: Reload) -> dict[str, object]:
        """A running program is to be told of changes; returns what its files are."""
        if action.key in self.reloading:
            raise Wrong(f"{action.key} is told while it is reloaded")
        self.reloading.append(action.key)
        return {dest: self._kernel.identity(dest) for dest in action.dests}

    def end_telling(self, action: Reload, reloaded: Reloaded, files: Mapping[str, object]) -> None:
        """If a running program is said to be as its files say, it is. ``files``: what ``begin_telling`` returned."""
        self.reloading.remove(action.key)
        haproxy = self._simulation.haproxy
        if reloaded.avoided is None:
            self.commits[action.key] += action.by == "look"  # it asks for a reload
            return
        if action.by == "look":
            haproxy.end_look()
        elif files == {dest: self._kernel.identity(dest) for dest in action.dests} and not haproxy.is_excused:
            told = [one for one in self._simulation.resources if one.dest in action.dests]
            for why in haproxy.wrong(told):
                raise Wrong(f"haproxy was told, and is not as its files say: {why}")

    def look_at_what_is_read(self, resource: Resource, content: bytes | None) -> None:
        """No program reads what was not checked."""
        if (
            not (self.torn or self.unrecorded)
            and resource.check_cmd is not None
            and content is not None
            and (_checked_as(resource.name), content) not in self.checked
            and (resource.dest, content) not in self.foreign
        ):
            raise Wrong(f"{resource.name} is read by its program, and was never checked")

    def note_checked(self, contents: Mapping[str, bytes | None]) -> None:
        """A check has seen these, and succeeded: resource → content."""
        self.checked |= {(_checked_as(name), it) for name, it in contents.items() if it is not None}

    def note_read(self, contents: Mapping[str, bytes | None]) -> None:
        """Programs have read these: label of a resource → content."""
        dests = {label(one): one.dest for one in reversed(self.resources)}
        for name, content in contents.items():
            self.loaded[dests[name]] = content
            self.excused.discard(dests[name])

    def begin_rollback(self) -> dict[str, bytes | None]:
        """Return the content of each resource's target."""
        for one in self.resources:
            self.durable.pop(one.dest, None)
        self.tries.clear()  # programs of other members are reloaded, too
        return {one.name: self._kernel.content(one.dest) for one in self._simulation.resources}

    def end_rollback(self, restored: Restored, contents: Mapping[str, bytes | None]) -> None:
        for one in self._simulation.resources:
            if one.name in restored.rejected and not one.group and (rejected := contents[one.name]) is not None:
                self.rejected[one.name] = (rejected, self._simulation.now)
        for report in restored.reports:
            self._simulation.note(f"restored {report.outcome}")
            self.torn = self.torn or isinstance(report.error, TargetTorn)


def _checked_as(name: str) -> str:
    """Return what a check notes of a resource: an item is renamed when no pattern makes its file any more."""
    return "an item" if ":" in name else name


def label(resource: Resource) -> str:
    """Return what tells resources apart, and the targets that an item had one after the other."""
    return resource.name if resource.item is None else resource.dest


def has_backup(kernel: Kernel, name: str) -> bool:
    """Say whether an older version of a resource's target is there."""
    versions = {f".{name}{BACKUP_MARK}{number}" for number in (1, 2)}  # a death may come between two renames
    return any(not versions.isdisjoint(folder.names) for folder in kernel.folders.values())


def _commands(action: Deliver) -> list[str]:
    """Return the commands that no other delivery may run meanwhile."""
    found = (one.resource for group in action.groups for one in group.candidates)
    return sorted({line for one in found for line in (one.check_cmd, reload_line(one)) if line})
