"""Many processes over one confdir (cron beside the daemon, two units): each waits for the other, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from confpy.candidates import Candidate, Group
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.ledger.ledger import Ledger
from confpy.messages import Recovered
from confpy.reload.actions import CommandReload
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.sweep import sweep
from tests.run_as_user import Child
from tests.waiting import wait_until

PROCESSES = 20
NAMES = ("a", "b", "c")


class Confdir:
    """A group of three targets, made by whoever comes."""

    def __init__(self, folder: Path) -> None:
        self.out, self.state = folder / "out", folder / "state"
        self.out.mkdir()
        check = f"cat {' '.join(str(self.out / name) for name in NAMES)} | uniq | wc -l | grep -qx 1"
        self.resources = [
            Resource(
                name=name,
                file="",
                src="",
                dest=str(self.out / name),
                group="lb",
                check_cmd=check,
                check_mode="swap",
                reload_cmd=CommandReload(f"echo $$ >> {folder}/reloads"),
            )
            for name in NAMES
        ]

    def run(self, content: bytes) -> list[str]:
        """One confpy from start to end; returns the outcomes."""
        ledger = Ledger.open(str(self.state), Disk())
        ledger.recover()
        sweep(tuple(one.dest for one in self.resources), Disk())
        group = Group("lb", tuple(Candidate(one, content) for one in self.resources))
        reports = deliver((group,), Rules(), Disk(), Shell(), ledger)
        ledger.clear(self.resources[0].reload_cmd.describe(), {report.record for report in reports})
        ledger.close()
        return [report.outcome for report in reports]

    def contents(self) -> set[bytes]:
        return {(self.out / name).read_bytes() for name in NAMES}

    def strays(self) -> list[str]:
        return sorted({*os.listdir(self.out)} - {*NAMES}) + [it for it in os.listdir(self.state) if it[0] == "."]


@pytest.fixture
def confdir(tmp_path: Path) -> Confdir:
    return Confdir(tmp_path)


def test_of_twenty_one_shots_at_once_one_delivers_and_the_others_find_it_done(confdir):
    children = [Child(lambda: confdir.run(b"new\n")) for _ in range(PROCESSES)]
    outcomes = [child.result() for child in children]
    assert sorted(outcomes) == [["changed"] * 3] + [["unchanged"] * 3] * (PROCESSES - 1)
    assert confdir.contents() == {b"new\n"}
    assert confdir.strays() == []


def test_one_shots_beside_a_daemon_that_want_different_files_never_mix_them(confdir):
    def follow() -> list[str]:
        seen = set()
        for turn in range(30):
            seen |= set(confdir.run(b"daemon %d\n" % turn))
        return sorted(seen)

    daemon = Child(follow)
    children = [Child(lambda number=number: confdir.run(b"one-shot %d\n" % number)) for number in range(PROCESSES)]
    assert {outcome for child in children for outcome in child.result()} == {"changed"}
    # Its trial passes only where all three are of one make.
    assert daemon.result() == ["changed"]
    assert len(confdir.contents()) == 1
    assert confdir.strays() == []


def test_processes_that_are_killed_at_any_time_leave_a_whole_group_to_the_next(confdir):
    dice = random.Random(4)
    confdir.run(b"first\n")
    for turn in range(40):
        child = os.fork()
        if child == 0:
            while True:
                confdir.run(b"turn %d %d\n" % (turn, os.urandom(1)[0]))
        before = confdir.contents
        wait_until(lambda: dice.random() < 0.2, what="the dice say so")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ledger = Ledger.open(str(confdir.state), Disk())
        assert isinstance(ledger.recover(), Recovered)
        ledger.close()
        assert len(before()) == 1, f"after kill {turn} the group is mixed"
    assert set(confdir.run(b"last\n")) == {"changed"}
    assert confdir.contents() == {b"last\n"}
    assert confdir.strays() == []
