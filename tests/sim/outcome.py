"""What must hold once the faults are over."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING

from confpy.agent.resources import ResourceState
from confpy.keys.prefixes import covers
from confpy.system.filenames import staged_for
from confpy.target.replace import OLD_MARK
from tests.sim.invariants import has_backup
from tests.sim.plan import ELSEWHERE, FIT, FOLDERS, STATE, made, names
from tests.sim.sites import SITES
from tests.sim.timeline import Wrong

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

LEDGER_END = 2048
"""Bytes of a ledger in which nothing is open, of a process that had nothing to do."""


class Outcome:
    """Looks at what confpy has made of its store and its machine."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._kernel = simulation.machine.kernel
        self._invariants = simulation.invariants

    def expected(self) -> dict[str, bytes]:
        """Return what the targets should be: dest → content."""
        keys = self._simulation.keys()
        return {
            one.dest: made(
                one,
                self._simulation.template(one.src),
                {key: value for key, value in keys.items() if any(covers(prefix, key) for prefix in one.prefixes)},
            )
            for one in self._simulation.resources
            if one.each is None
        }

    def amiss(self) -> str:
        """Say what is not as it should be by now, empty where all is."""
        process = self._simulation.process
        agent, ledger = process.agent, process.ledger
        if not agent.loading.is_done:
            return "it has only begun"
        for dest, content in self.expected().items():
            if self._kernel.content(dest) != content:
                return f"{dest} is {self._kernel.content(dest)!r} instead of {content!r}"
        if wrong := self._simulation.items.amiss():
            return wrong
        for one in (*self._simulation.resources, *(item for item, _ in self._simulation.items.wanted().values())):
            if one.reload_cmd is None or one.dest in self._invariants.excused or self._invariants.torn:
                continue
            if one.reload_haproxy is not None:
                for why in self._simulation.haproxy.wrong([one]):
                    return f"haproxy is not as its files say: {why}"
            elif self._invariants.loaded.get(one.dest) != self._kernel.content(one.dest):
                return f"the program of {one.dest} has read {self._invariants.loaded.get(one.dest)!r} last"
        told = any(one.reload_haproxy is not None for one in self._simulation.resources)
        if told and self._simulation.haproxy.is_new:
            return "haproxy was started, and confpy has not looked at it since"
        if torn := [name for name, state in agent.resources.states.items() if state.torn]:
            return f"{torn} are still to be checked"
        if agent.reloads.owed():
            self._simulation.health.look_at_trouble()
            return f"reloads are owed: {agent.reloads.owed()}"
        # One that is torn for good stays open until its target is taken up again.
        if open_ := [one for one in ledger._book.records.values() if one.done or not self._invariants.torn]:
            return f"the ledger still holds {open_}"
        if self._simulation.undoing.is_asked():
            return "an undo has had no answer"
        return self._simulation.health.amiss()

    def amiss_without(self, mount: str) -> str:
        """Say which target is not as it should be though it does not need the store at this mount, which is away."""
        agent = self._simulation.process.agent
        if self._simulation.process.disk.dead or not agent.loading.is_done:
            return "it has only begun"
        mounts, expected = self._invariants.keys.mounts, self.expected()
        for group in agent.resources.groups.values():
            prefixes = [prefix for state in group for prefix in state.resource.prefixes]
            needs = mount in mounts.split(prefixes)
            if (needs and not agent.mirror.ready(prefixes)) or any(_is_held_up(state) for state in group):
                continue
            for one in (state.resource for state in group if state.plan is None and state.matches is None):
                content, wanted = self._kernel.content(one.dest) or b"", expected.get(one.dest, b"")
                has, right = (
                    [line for line in it.split(b"\n") if self._is_of(line, mount)] for it in (content, wanted)
                )
                if has != right:
                    return f"{one.dest} is {content!r} instead of {wanted!r}"
        return ""

    def _is_of(self, line: bytes, mount: str) -> bool:
        """Say whether a line has a key of another store than the one at this mount."""
        return any(self._invariants.keys.mounts.point_of(key) != mount for key in names(line))

    def look_at_counts(self, starts: int, rollbacks: int) -> None:
        """No reload ran more often than there was a reason."""
        for key, count in self._invariants.successes.items():
            if count > self._invariants.commits[key] + starts + rollbacks * 2:
                raise Wrong(f"{key} ran {count} times for {self._invariants.commits[key]} commits and {starts} starts")

    def look_at_what_is_left(self, *, unsure: bool) -> None:
        """No candidate, no old file, and only one short ledger."""
        seen = self._simulation.seen
        folders = [*FOLDERS, *({SITES} & self._kernel.folders.keys())]
        names = {f"{folder}/{name}" for folder in folders for name in self._kernel.folders[folder].names}
        # What was removed is swept no more; what is torn for good keeps the old files.
        gone = {
            one.name
            for one in (*self._simulation.removed, *(self._simulation.resources if self._invariants.torn else ()))
        }
        if self._invariants.torn:
            gone |= {dest.rpartition("/")[2] for dest in self._simulation.items.seen}
        for path in sorted(names):
            folder, _, name = path.rpartition("/")
            staged = staged_for(name.removesuffix(OLD_MARK))
            old = name.endswith(OLD_MARK)
            is_swept = not any(one.each is not None for one in self._simulation.removed)
            if folder == SITES and (self._simulation.items.has_moved or not is_swept):
                continue
            if folder == ELSEWHERE and (seen["target removed"] or seen["target linked"]):
                continue  # no link leads there any more, or did not when it was swept
            # A power cut may bring back what was removed from a folder that could not be synced.
            stays = self._invariants.unrecorded or folder in self._invariants.were_read_only or seen["syncs fail"]
            if staged is not None and staged not in gone and not (old and stays):
                raise Wrong(f"{path} was left behind")
        lost = [name for name in sorted(self._invariants.backed_up) if not has_backup(self._kernel, name)]
        if lost and not self._invariants.unsynced:
            raise Wrong(f"no older version of {lost} is left")
        self._look_at_ledgers([path for path in names if path.startswith(f"{STATE}/ledger-")], unsure=unsure)
        for one in self._invariants.resources:
            inode = self._kernel.find(self._kernel.follow(one.dest))
            if inode is not None and not stat.S_ISREG(inode.mode):
                raise Wrong(f"{one.dest} is no file any more")

    def _look_at_ledgers(self, ledgers: Iterable[str], *, unsure: bool) -> None:
        sizes = [len(self._kernel.content(path) or b"") for path in ledgers]
        owned = 1024 * len(self._simulation.items.seen)
        if len(sizes) > 1 or (sum(sizes) > LEDGER_END + owned and not unsure):
            raise Wrong(f"{len(sizes)} ledgers of {sum(sizes)} bytes are left")


def _is_held_up(state: ResourceState) -> bool:
    """Say whether something else than a store may hold up a resource."""
    return bool(state.undone or state.guard.suspicion or state.torn or state.resource.check_cmd == FIT)
