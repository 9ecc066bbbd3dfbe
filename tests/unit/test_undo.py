"""``confpy undo`` over the real jobs: what is put back stays so until a person accepts what the store wants."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest

from confpy.daemon.jobs import Jobs, Ports
from confpy.delivery.context import Rules
from confpy.errors import ConfpyError
from confpy.history.records import Accept, Undo
from confpy.ledger.folder import StateFolder
from confpy.ledger.history import History
from confpy.ledger.holds import Holds, accept
from confpy.ledger.ledger import Ledger
from confpy.reload.actions import CommandReload
from confpy.system.disk import Disk, SystemCalls
from confpy.system.subprocesses import Shell
from tests.unit.test_agent import Answers, Harness, NoRecords
from tests.unit.test_agent import resource as _resource


class Mortal(Disk):
    """A disk on which the process dies at its call of this number."""

    CODE = 9

    def __init__(self) -> None:
        self.calls, self.dies_at = 0, -1

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in SystemCalls.__dict__ and callable(found):
            self.calls += 1
            if self.dies_at >= 0 and self.calls > self.dies_at:
                os._exit(self.CODE)
        return found


class NoKeys(NoRecords):
    """No cached keys."""

    def files(self):
        return {}


class RealJobs(Answers):
    """The daemon's jobs, but for the commands of reloads."""

    def __init__(self, harness, ports) -> None:
        Jobs.__init__(self, ports, Rules())
        self._harness = harness

    deliver, recover, restore, inspect, sweep = Jobs.deliver, Jobs.recover, Jobs.restore, Jobs.inspect, Jobs.sweep
    find_targets = Jobs.find_targets


class Machine(Harness):
    """A confpy over a store that answers at once, with a state folder and targets on disk."""

    def __init__(self, state, *resources, keys=None, **config) -> None:
        super().__init__(*resources, keys=keys, history=True, **config)
        self.disk = Mortal()
        ledger = Ledger.open(str(state), self.disk)
        ledger.history = History(str(state), self.disk, log=self.logged.append)
        self.folder = StateFolder(str(state), self.logged.append, self.disk)
        self.ledger, self.answers = ledger, []
        ports = Ports(
            disk=self.disk, shell=Shell(), clock=self, store=self, streams=self, ledger=ledger,
            cached_keys=NoKeys(self), holds=Holds(self.folder, nullcontext()), resolver=self, load=self._load,
            follow=lambda _: None, post=self._inbox.append, start=self._start, log=self.logged.append,
            guard=nullcontext(), answer=self.answers.append,
        )  # fmt: skip
        self._jobs = RealJobs(self, ports)

    def _start(self, name, job, failed):
        def run():
            try:
                return job()
            except ConfpyError as error:
                return failed(error)

        super()._start(name, run, failed)

    def undo(self, target: str):
        """Ask for an undo, and return its answer, if there is one by now."""
        self.post(Undo(len(self.answers) + 1, target))
        self.until(self.now + 1)
        return self.answers[-1] if self.answers else None

    def accept(self, name: str) -> None:
        accept(self.folder, name)
        self.post(Accept(name))
        self.until(self.now + 1)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def one(tmp_path):
    return resource(tmp_path, "web")


def resource(tmp_path, name: str, **more):
    made = _resource(name, reload_cmd=CommandReload("lb"), **more)
    return type(made)(**{**{field: getattr(made, field) for field in made.__slots__}, "dest": str(tmp_path / name)})


def read(one) -> str:
    with open(one.dest) as file:
        return file.read()


def started(state, *resources, **config) -> Machine:
    """Return a confpy that has delivered "1", then "2"."""
    machine = Machine(state, *resources, **config)
    machine.until(5)
    machine.put(a="2")
    machine.until(10)
    assert "'2'" in read(resources[0])
    return machine


# --- undone ----------------------------------------------------------------------------------------------------------


def test_the_file_before_the_last_delivery_is_put_back_and_its_program_reloaded(state, one):
    machine = started(state, one)
    runs = len(machine.runs)
    answer = machine.undo(one.dest)
    assert (answer.error, answer.resources) == (None, ("web",))
    assert "'1'" in read(one)
    assert len(machine.runs) == runs + 1
    (line,) = machine.events("resource.undone")
    assert line.fields["did"] == "holds it until confpy accept web"


def test_it_stays_so_whatever_the_store_wants_until_a_person_accepts(state, one):
    machine = started(state, one)
    machine.undo("web")
    machine.put(a="3")
    machine.until(1000)
    assert "'1'" in read(one)
    machine.accept("web")
    assert "'3'" in read(one)
    machine.put(a="4")
    machine.until(1100)
    assert "'4'" in read(one)
    assert machine.folder.names("held-") == []


def test_an_acceptance_that_reaches_only_the_state_folder_is_seen_within_seconds(state, one):
    machine = started(state, one)
    machine.undo("web")
    accept(machine.folder, "web")
    machine.until(machine.now + 6)
    assert "'2'" in read(one)


def test_the_hold_survives_a_restart(state, one):
    started(state, one).undo("web")
    again = Machine(state, one, keys={"/app/a": "3"})
    again.until(60)
    assert "'1'" in read(one)
    (held,) = again.events("resource.held")
    assert one.dest in held.fields["reason"]
    again.accept("web")
    assert "'3'" in read(one)


def test_and_so_does_an_acceptance_while_none_runs(state, one):
    machine = started(state, one)
    machine.undo("web")
    accept(machine.folder, "web")
    again = Machine(state, one, keys={"/app/a": "3"})
    again.until(60)
    assert "'3'" in read(one)
    assert again.folder.names("held-") == []


def test_a_one_shot_leaves_it_too_and_says_so(state, one):
    started(state, one).undo("web")
    again = Machine(state, one, keys={"/app/a": "3"}, onetime=True)
    again.until(60)
    assert again.ended == 0
    assert "'1'" in read(one)
    assert again.events("resource.held")


def test_a_second_undo_goes_one_further_back(state, one):
    machine = started(state, one)
    machine.put(a="3")
    machine.until(20)
    machine.undo("web")
    assert "'2'" in read(one)
    machine.undo("web")
    assert "'1'" in read(one)
    answer = machine.undo("web")
    assert "no file before" in answer.error.message
    assert "'1'" in read(one)
    machine.put(a="4")
    machine.until(100)
    assert "'1'" in read(one), "one that fails leaves the hold as it was"


def test_a_group_is_put_back_and_held_as_a_whole(state, tmp_path):
    pair = [resource(tmp_path, name, group="g") for name in ("a", "b")]
    machine = started(state, *pair)
    assert machine.undo(pair[1].dest).error is None
    machine.put(a="3")
    machine.until(100)
    assert ["'1'" in read(one) for one in pair] == [True, True]
    machine.accept("a")
    assert ["'3'" in read(one) for one in pair] == [True, True]


def test_what_is_changed_by_hand_meanwhile_is_left_alone(state, one):
    machine = started(state, one, period=60.0)
    machine.undo("web")
    with open(one.dest, "w") as file:
        file.write("by hand")
    machine.until(1000)
    assert read(one) == "by hand"


def test_an_undo_waits_for_the_delivery_under_way_and_takes_that_back(state, one):
    machine = started(state, one)
    machine.waits = ("deliver",)
    machine.put(a="3")
    assert machine.waiting
    machine.waits = ("resolve",)
    assert machine.undo("web") is None
    machine.finish_jobs()
    machine.until(machine.now + 1)
    assert machine.answers[-1].error is None
    assert "'2'" in read(one)


# --- not undone ------------------------------------------------------------------------------------------------------


def test_what_its_check_rejects_is_not_put_back_and_nothing_is_held(state, tmp_path):
    one = resource(tmp_path, "web", check_cmd=f"! test -e {tmp_path}/broken")
    machine = started(state, one)
    (tmp_path / "broken").touch()
    answer = machine.undo("web")
    assert "the check exited" in answer.error.message
    assert "'2'" in read(one)
    assert machine.folder.names("held-") == []
    (tmp_path / "broken").unlink()
    machine.put(a="3")
    machine.until(200)
    assert "'3'" in read(one)
    assert machine.events("resource.changed")[-1].fields["trigger"] == "change"
    assert machine.undo("web").error is None
    assert "'2'" in read(one)
    machine.accept("web")
    assert machine.undo("web").error is None
    assert machine.undo("web").error is None
    assert "'1'" in read(one), "what failed is not taken for what has been undone"


def test_what_the_store_wants_after_an_undo_that_failed_is_delivered_as_ever(state, tmp_path):
    one = resource(tmp_path, "web", check_cmd=f"! test -e {tmp_path}/broken")
    machine = started(state, one)
    (tmp_path / "broken").touch()
    (tmp_path / "web").unlink()
    assert machine.undo("web").error is not None
    (tmp_path / "broken").unlink()
    machine.until(machine.now + 100)
    assert "'2'" in read(one)
    assert machine.events("resource.changed")[-1].fields["trigger"] != "undo"
    machine.put(a="3")
    machine.until(machine.now + 100)
    assert "'3'" in read(one)


def test_what_was_accepted_while_an_undo_began_that_fails_is_delivered(state, tmp_path):
    one = resource(tmp_path, "web", check_cmd=f"! test -e {tmp_path}/broken")
    machine = started(state, one)
    machine.undo("web")
    (tmp_path / "broken").touch()
    accept(machine.folder, "web")
    machine.post(Accept("web"), Undo(9, "web"))
    machine.until(machine.now + 1)
    assert machine.answers[-1].error is not None
    (tmp_path / "broken").unlink()
    machine.until(machine.now + 100)
    assert "'2'" in read(one)


def test_keys_that_were_suspect_before_an_undo_that_failed_can_be_accepted(state, tmp_path):
    one = resource(tmp_path, "web", check_cmd=f"! test -e {tmp_path}/broken")
    machine = started(state, one, names_deletions=False)
    machine.put(a=None)
    machine.until(machine.now + 1)
    assert machine.folder.names("held-")
    (tmp_path / "broken").touch()
    assert machine.undo("web").error is not None
    (tmp_path / "broken").unlink()
    machine.until(machine.now + 10)
    machine.accept("web")
    machine.until(machine.now + 10)
    assert read(one) == "[]"


def test_an_edit_of_its_keys_while_they_were_suspect_does_not_end_what_was_undone(state, one):
    machine = started(state, one, names_deletions=False)
    machine.put(a=None)
    machine.until(machine.now + 1)
    assert machine.undo("web").error is None
    other = type(one)(**{**{name: getattr(one, name) for name in one.__slots__}, "prefixes": ("/app/b",)})
    machine.edit(other)
    machine.until(machine.now + 10)
    assert "'1'" in read(one)
    assert machine.folder.names("held-"), "also for the next start"


def test_an_undo_finds_what_another_thread_has_still_to_write(state, one):
    machine = started(state, one)
    machine.waits = ("history",)
    machine.put(a="3")
    machine.until(machine.now + 10)
    machine.waits = ()
    assert machine.undo("web").error is None
    assert "'2'" in read(one)


def test_a_reload_that_fails_is_answered_and_stays_owed(state, one):
    machine = started(state, one)
    machine.fails = {"lb"}
    answer = machine.undo("web")
    assert answer.error.message == "it failed"
    machine.fails = set()
    machine.until(400)
    assert machine.events("resource.changed")[-1].fields["trigger"] == "undo"
    assert "'1'" in read(one)


@pytest.mark.parametrize("target", ["/nowhere", "nothing"])
def test_a_target_that_is_none_is_answered(state, one, target):
    assert "no resource has the target" in started(state, one).undo(target).error.message


def test_without_a_previous_content_nothing_is_held(state, one):
    machine = Machine(state, one)
    machine.until(5)
    assert "no file before" in machine.undo("web").error.message
    machine.put(a="2")
    machine.until(100)
    assert "'2'" in read(one)
    assert machine.folder.names("held-") == []


def test_a_resource_that_is_removed_is_held_no_more(state, one):
    machine = started(state, one)
    machine.undo("web")
    machine.edit()
    assert machine.folder.names("held-") == []


def test_a_resource_that_is_removed_while_its_file_is_put_back_is_not_said_to_be_held(state, one):
    machine = started(state, one)
    machine.waits = ("deliver",)
    assert machine.undo("web") is None
    machine.edit()
    machine.finish_jobs()
    machine.until(machine.now + 1)
    assert machine.answers[-1].error.message == "its file is put back, and the resource was removed meanwhile"
    assert "'1'" in read(one)
    assert not machine.events("resource.undone")
    assert machine.folder.names("held-") == []


def test_keys_that_are_suspect_as_well_can_be_accepted_after_it(state, one):
    machine = started(state, one, names_deletions=False)
    machine.undo("web")
    machine.put(a=None)
    machine.until(machine.now + 100)
    machine.accept("web")
    assert machine.events("keys.suspect")
    machine.accept("web")
    assert read(one) == "[]"


# --- the history of it -----------------------------------------------------------------------------------------------


def test_the_history_has_keys_check_reload_and_what_was_taken_back(state, tmp_path):
    one = resource(tmp_path, "web", check_cmd="true")
    machine = started(state, one)
    machine.undo("web")
    machine.until(machine.now + 5)
    first, second, undone = machine.ledger.history.read()
    assert first.previous.digest is None
    assert (second.keys, second.revision, second.trigger) == (("/app/a",), 2, "change")
    assert {entry.check for entry in (first, second, undone)} == {"passed"}
    assert {entry.reload for entry in (first, second, undone)} == {"succeeded"}
    assert (undone.trigger, undone.undoes) == ("undo", (second.delivery,))
    assert undone.new == first.new


def test_the_history_is_written_after_the_reload_was_started(state, one):
    machine = started(state, one)
    kinds = [type(action).__name__ for action in machine.done]
    assert kinds.index("WriteHistory") > kinds.index("Reload")
    moments = machine.steps
    machine.put(a="3")
    assert machine.steps - moments < 6


def test_many_changes_are_one_record_every_few_seconds(state, one):
    machine = started(state, one)
    before = sum(type(action).__name__ == "WriteHistory" for action in machine.done)
    for number in range(50):
        machine.put(a=str(number) + "x")
        machine.until(machine.now + 0.1)
    writes = sum(type(action).__name__ == "WriteHistory" for action in machine.done) - before
    assert writes <= 3
    machine.until(machine.now + 4)
    assert len(machine.ledger.history.read()) == 10


# --- killed ----------------------------------------------------------------------------------------------------------


def killed_in_undo(state, one, dies_at) -> bool:
    """Undo a delivery in a process that dies at this call of the disk; returns whether it died."""
    process = os.fork()
    if not process:
        code = 1
        try:
            machine = started(state, one)
            machine.disk.calls, machine.disk.dies_at = 0, dies_at
            code = 0 if machine.undo("web").error is None else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, Mortal.CODE)
    return code != 0


def test_killed_at_any_call_an_undone_target_is_whole_and_not_overwritten_unasked(tmp_path):
    for dies_at in range(10_000):
        folder = tmp_path / str(dies_at)
        folder.mkdir()
        one = resource(folder, "web")
        was_killed = killed_in_undo(folder / "state", one, dies_at)
        was_undone = "'1'" in read(one)
        assert was_undone or "'2'" in read(one)
        again = Machine(folder / "state", one, keys={"/app/a": "2"})
        again.until(30)
        if was_undone:
            assert "'1'" in read(one), f"killed at call {dies_at}"
        assert again.ledger.history.read()
        if again.folder.names("held-"):
            again.accept("web")
        again.put(a="3")
        again.until(60)
        assert "'3'" in read(one), f"killed at call {dies_at}"
        assert [name for name in os.listdir(folder) if name.startswith(".")] == []
        if not was_killed:
            break
    assert dies_at > 20


# --- as others see it ------------------------------------------------------------------------------------------------


def test_the_status_says_that_it_is_held_and_why(state, one):
    machine = started(state, one)
    machine.undo("web")
    (found,) = machine.agent.status().resources
    assert (found.state, found.cause) == ("held", "undo")
    assert found.why.startswith(
        f"confpy undo has put back the file before the last delivery of {one.dest}; confpy accept"
    )


def test_a_start_with_what_is_held_is_a_start_if_its_target_is_there(state, one):
    started(state, one).undo("web")
    again = Machine(state, one)
    again.until(60)
    assert again.agent.status().is_started
    os.unlink(one.dest)
    last = Machine(state, one)
    last.until(60)
    assert not last.agent.status().is_started
