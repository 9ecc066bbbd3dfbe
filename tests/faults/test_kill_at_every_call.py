"""A delivery is killed (SIGKILL) after each of its system calls, then confpy starts again: nothing is lost or torn."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from confpy.candidates import Candidate, Group, Report
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.delivery.rollback import restore
from confpy.ledger.ledger import Ledger
from confpy.reload.actions import CommandReload
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.sweep import sweep
from tests.faults.disks import mount
from tests.faults.stepping import killed_after
from tests.run_as_user import with_mounts
from tests.waiting import wait_until

OLD, NEW = b"old\n" * 40, b"new and longer\n" * 50
RELOAD = "reload them"


class Place:
    """Targets that confpy makes new, and what it keeps of that."""

    def __init__(self, folder: Path, *resources: Resource, check: str = "", together: bool = False) -> None:
        """``together``: its groups are new together or not at all."""
        self.folder = folder
        self.together = together
        self.mounted: set[str] = set()
        self.out = folder / "out"
        self.out.mkdir(parents=True)
        self.resources = [self._resource(one, check) for one in resources]
        for one in self.resources:
            if not one.name.startswith("missing"):
                Path(one.dest).write_bytes(OLD)

    def _resource(self, one: Resource, check: str) -> Resource:
        values = {name: getattr(one, name) for name in Resource.__slots__}
        return Resource(**{**values, "dest": str(self.out / one.name), "check_cmd": check or None})

    def mount_over(self, name: str) -> None:
        """Make a target what it is in a container: a file that is mounted there."""
        (self.folder / "source").write_bytes(OLD)
        mount("--bind", self.folder / "source", self.out / name)
        self.mounted.add(name)

    @property
    def reloaded(self) -> Path:
        return self.folder / "reloaded"

    def ledger(self) -> Ledger:
        return Ledger.open(str(self.folder / "state"), Disk())

    def deliver(self, ledger: Ledger, content: bytes = NEW) -> tuple[Report, ...]:
        groups: dict[str, list[Candidate]] = {}
        for one in self.resources:
            groups.setdefault(one.group or one.name, []).append(Candidate(one, content, keys=7))
        wanted = tuple(Group(name, tuple(candidates)) for name, candidates in groups.items())
        return deliver(wanted, Rules(), Disk(), Shell(), ledger)

    def reload(self, ledger: Ledger, records: tuple[int, ...]) -> None:
        ledger.runs(RELOAD, 1, 0.0)
        self.reloaded.touch()
        ledger.clear(RELOAD, records)

    def run(self) -> None:
        """One confpy from start to end."""
        ledger = self.ledger()
        for owed in ledger.recover().reloads:
            self.reload(ledger, owed.records)
        self.sweep()
        reports = self.deliver(ledger)
        assert {report.outcome for report in reports} <= {"changed", "unchanged"}, reports
        records = tuple({report.record for report in reports if report.record})
        if records:
            self.reload(ledger, records)
        ledger.close()

    def roll_back(self) -> None:
        """One confpy whose start finds that the reload is owed, and whose rollback it is."""
        ledger = self.ledger()
        ledger.recover()
        assert {report.outcome for report in restore(RELOAD, ledger, Disk()).reports} == {"changed"}

    def contents(self) -> dict[str, bytes | None]:
        paths = {one.name: Path(one.dest) for one in self.resources}
        return {name: path.read_bytes() if path.exists() else None for name, path in paths.items()}

    def sweep(self) -> None:
        sweep(tuple(one.dest for one in self.resources), Disk())

    def is_swept(self) -> bool:
        self.sweep()
        return not self.strays()

    def is_let_go(self) -> bool:
        """Say whether no process holds a ledger."""
        disk = Disk()
        descriptors = [disk.adopt(str(path)) for path in (self.folder / "state").glob("ledger-*")]
        for descriptor in descriptors:
            if descriptor is not None:
                disk.close(descriptor)
        return None not in descriptors

    def strays(self) -> list[str]:
        """What lies beside the targets and in the state folder that should not."""
        expected = {one.name for one in self.resources}
        return [name for name in os.listdir(self.out) if name not in expected] + [
            name for name in os.listdir(self.folder / "state") if name.startswith(".")
        ]

    def after_a_kill(self, *, trial: bool = False, half_new: Collection[str] = ()) -> None:
        """Start again, and see that all is right. ``half_new``: targets that a start before this may have put back."""
        before = self.contents()
        for one in self.resources:
            if one.write != "inplace" and one.name not in self.mounted:
                assert before[one.name] in (NEW, None if one.name.startswith("missing") else OLD), "torn"
        # A check that was just being started holds what its confpy had locked until it is executed.
        wait_until(self.is_let_go, what="the ledger of the dead is free")
        ledger = self.ledger()
        recovered = ledger.recover()
        found = self.contents()
        for name, content in found.items():
            assert content in (NEW, None if name.startswith("missing") else OLD), f"{name} is torn"
        for group in {one.group for one in self.resources if one.group or self.together}:
            members = {found[one.name] == NEW for one in self.resources if one.group == group}
            assert len(members) == 1, "a part of a group is new"
        if not self.reloaded.exists():
            # A program may have read what has been put back since.
            read = {name for name, content in found.items() if content == NEW or content != before[name]}
            owing = {one.name for one in self.resources if one.reload_cmd}
            owed = {name for owed in recovered.reloads for name in owed.resources}
            assert read & owing <= owed, "a reload is lost"
            assert owed <= read | set(half_new), "a reload is owed for nothing"
        if trial and not recovered.reloads and not self.reloaded.exists():
            assert NEW not in found.values(), "what was on trial stayed"
        ledger.close()
        self.run()
        assert set(self.contents().values()) == {NEW}
        wait_until(self.is_swept, what="nothing lies about")
        assert self.reloaded.exists() or not any(one.reload_cmd for one in self.resources)
        again = self.ledger()
        left = again.recover()
        assert (left.reloads, left.notes) == ((), ())
        if any(one.reload_cmd for one in self.resources):
            assert {name: it[-1].keys for name, it in left.counts.items()} == {one.name: 7 for one in self.resources}
        again.close()


def one(name: str, **more) -> Resource:
    return Resource(name=name, file="", src="", dest="", **more)


def three(**more) -> tuple[Resource, ...]:
    return tuple(one(name, group="lb", reload_cmd=CommandReload(RELOAD), **more) for name in ("a", "missing", "c"))


STORIES: dict[str, Callable[[Path], Place]] = {
    "alone": lambda folder: Place(folder, one("a")),
    "alone, with a reload": lambda folder: Place(
        folder, one("a", reload_cmd=CommandReload(RELOAD)), check="true {{src}}"
    ),
    "two that share a reload": lambda folder: Place(
        folder, one("a", reload_cmd=CommandReload(RELOAD)), one("b", reload_cmd=CommandReload(RELOAD))
    ),
    "a group of three": lambda folder: Place(folder, *three()),
    "a group on trial": lambda folder: Place(folder, *three(check_mode="swap"), check="true"),
    "two on trial together": lambda folder: Place(
        folder,
        *(one(name, reload_cmd=CommandReload(RELOAD), check_mode="swap") for name in "ab"),
        check="true",
        together=True,
    ),
    "two on trial, each alone in the end": lambda folder: Place(
        folder,
        *(one(name, reload_cmd=CommandReload(RELOAD), check_mode="swap") for name in "ab"),
        check=f"test -e {folder}/tried || {{ touch {folder}/tried; false; }}",
    ),
    "in place": lambda folder: Place(folder, one("a", reload_cmd=CommandReload(RELOAD), write="inplace")),
    "in place, without a reload": lambda folder: Place(folder, one("a", write="inplace")),
    "a group with one in place": lambda folder: Place(
        folder, *three(), one("d", group="lb", reload_cmd=CommandReload(RELOAD), write="inplace")
    ),
    "with a way back": lambda folder: Place(folder, *three(on_reload_failure="rollback")),
}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: a kill does not ask what was synced, and there are many."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as made:
        yield Path(made)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", STORIES)
def test_a_kill_after_any_system_call_leaves_nothing_torn_lost_or_lying_about(memory, story, record_property):
    tell(record_property, story, _kill_at_every_call(memory, story))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", ["alone", "alone, with a reload", "a group of three"])
def test_a_kill_after_any_system_call_leaves_a_mounted_file_whole_after_the_next_start(memory, story, record_property):
    tell(record_property, f"{story}, mounted", with_mounts(lambda: _kill_at_every_call(memory, story, "a")))


def _kill_at_every_call(memory: Path, story: str, *mounted: str) -> int:
    """Kill a story after each of its system calls, and look at what is left; returns how many calls there were."""
    calls = 0
    while True:
        calls += 1
        folder = memory / str(calls)
        place = STORIES[story](folder)
        for name in mounted:
            place.mount_over(name)
        killed = killed_after(calls, place.run)
        try:
            place.after_a_kill(trial="trial" in story)
        except AssertionError as error:
            raise AssertionError(f"after system call {calls}: {error}") from error
        for name in mounted:
            subprocess.run(["umount", "--lazy", place.out / name], check=True)
        shutil.rmtree(folder)
        if not killed:
            return calls - 1


def tell(record_property: Callable[[str, object], None], story: str, points: int) -> None:
    record_property("crash points", (story, points))
    # Fewer would mean that the kills did not fall into the delivery.
    assert points > 60


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", ["a group on trial", "a group with one in place", "with a way back"])
def test_a_kill_after_any_system_call_of_the_start_that_mends_leaves_nothing_either(memory, story, record_property):
    cut_off = _cut_off(memory / "cut off", story)
    half_new = [name for name, content in cut_off.contents().items() if content == NEW]
    calls = 0
    while True:
        calls += 1
        shutil.rmtree(cut_off.folder)
        shutil.copytree(memory / "as it was", cut_off.folder)
        killed = killed_after(calls, lambda: cut_off.ledger().recover())
        try:
            cut_off.after_a_kill(trial="trial" in story, half_new=half_new)
        except AssertionError as error:
            raise AssertionError(f"after system call {calls} of the start: {error}") from error
        if not killed:
            break
    tell(record_property, f"{story}, the start after it", calls - 1)


def _cut_off(folder: Path, story: str) -> Place:
    """Kill a delivery when some of its targets are new and some are not yet; keep a copy of how it was."""
    calls = 0
    while True:
        calls += 1
        place = STORIES[story](folder)
        assert killed_after(calls, place.run), "no kill fell between two renames"
        contents = [*place.contents().values()]
        if contents.count(NEW) == len(contents) - 1:
            shutil.copytree(folder, folder.parent / "as it was")
            return place
        shutil.rmtree(folder)


def test_a_kill_after_any_system_call_of_a_rollback_leaves_the_old_files_and_the_debt(memory, record_property):
    calls = 0
    while True:
        calls += 1
        folder = memory / str(calls)
        place = Place(folder, *three(on_reload_failure="rollback"))
        ledger = place.ledger()
        for content in (b"first", b"second"):
            (report, *_) = place.deliver(ledger, content)
            assert report.outcome == "changed"
        ledger.close()
        killed = killed_after(calls, place.roll_back)
        again = place.ledger()
        (owed,) = again.recover().reloads
        assert sorted(owed.resources) == ["a", "c", "missing"]
        contents = place.contents()
        before = {"a": OLD, "missing": None, "c": OLD}
        assert contents == before or set(contents.values()) == {b"second"}, f"after system call {calls}"
        if not killed:
            assert contents == before
        if contents == before:
            again.clear(RELOAD, owed.records)
            assert place.strays() == [], f"after system call {calls}"
        again.close()
        shutil.rmtree(folder)
        if not killed:
            break
    tell(record_property, "a rollback", calls - 1)


def test_a_file_that_is_written_at_once_is_whole_after_every_call(tmp_path):
    path, disk = tmp_path / "f", Disk()
    for calls in range(1, 100):
        path.write_bytes(OLD)
        killed = killed_after(calls, lambda: disk.write_file(str(path), NEW, mode=0o644))
        assert path.read_bytes() in (OLD, NEW)
        assert sweep((str(path),), disk) == () or path.read_bytes() == OLD
        assert os.listdir(tmp_path) == ["f"]
        if not killed:
            break
    assert path.read_bytes() == NEW
    assert calls > 8
