"""The two phases of a reload: the running program is told of what is committed, and reloaded if that does not do."""

from __future__ import annotations

from random import Random

import pytest

from confpy.agent.commits import Commit
from confpy.agent.deliveries import judge
from confpy.agent.reloads import PendingReloads
from confpy.candidates import Report
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.errors import ReloadError
from confpy.events import LogEvent
from confpy.haproxy.values import Avoided, ReloadNeeded
from confpy.messages import ClearPending, Reload, Reloaded, Restore
from confpy.reload.actions import CommandReload
from confpy.reload.runtime_target import RuntimeTarget
from confpy.reload.spec import LastRun, PendingReload, ReloadSpec

SOCKET = RuntimeTarget(("unix:/run/h.sock",))
DONE, NEEDED = Avoided("+1 -0 ~0"), ReloadNeeded("bind changed", "/out/web", 42)


def resource(name: str = "web", **options) -> Resource:
    options = {"reload_cmd": CommandReload("reload"), "reload_haproxy": SOCKET, "settle": 0.0, "splay": 0.0, **options}
    return Resource(name, "", "t.j2", f"/out/{name}", **options)


def commit(name: str = "web", *, record: int = 1, trigger: str = "change", **options) -> Commit:
    return Commit(resource(name, **options), trigger, 1, 5, 0.1, record)


def reloads_of(*resources: Resource, **options) -> PendingReloads:
    reloads = PendingReloads(Random(1), longest_wait=2.0, **options)
    reloads.know(resources or [resource()])
    return reloads


def told(actions) -> list[str]:
    """Return the actions, each in a word or two."""
    found = []
    for one in actions:
        match one:
            case Reload():
                found.append(one.by)
            case ClearPending():
                found.append(f"clear {','.join(map(str, one.records))}")
            case LogEvent():
                found.append(one.event)
            case Restore():
                found.append("restore")
    return found


class Steps:
    """Reloads, one event after another; ``ends`` answers the run in flight."""

    def __init__(self, reloads: PendingReloads) -> None:
        self.reloads = reloads
        self.runs: list[Reload] = []

    def starts(self, now: float, delivering=()) -> list[str]:
        actions = [*self.reloads.start(now, delivering)]
        self.runs += [one for one in actions if isinstance(one, Reload)]
        return told(actions)

    def owes(self, now: float, one: Commit | None = None) -> list[str]:
        self.reloads.owe(one or commit(), now)
        return self.starts(now)

    def ends(self, now: float, error: ReloadError | None = None, *, avoided=None, needed=None) -> list[str]:
        run = self.runs[-1]
        ended = judge(Reloaded(run.key, error, 0.1, by=run.by, avoided=avoided, needed=needed))
        found = [*self.reloads.take(ended, now), *self.reloads.start(now, ())]
        self.runs += [one for one in found if isinstance(one, Reload)]
        return told(found)


# --- the first phase -------------------------------------------------------------------------------------------------


def test_a_change_that_the_running_program_takes_clears_what_is_owed():
    steps = Steps(reloads_of())
    assert steps.owes(0.0) == ["runtime"]
    assert steps.runs[0].dests == ("/out/web",)
    assert steps.ends(0.1, avoided=DONE) == ["reload.avoided", "clear 1", "resource.changed"]
    assert not steps.reloads


@pytest.mark.parametrize(
    ("options", "reloads_at"),
    [({"min_reload_interval": 60.0}, 60.1), ({"splay": 30.0}, None), ({"settle": 0.5}, 1.6)],
    ids=str,
)
def test_nothing_that_a_reload_waits_for_holds_up_what_the_running_program_is_told(options, reloads_at):
    steps = Steps(reloads_of())
    steps.owes(0.0, commit(**options))
    steps.ends(0.1, needed=NEEDED)
    while steps.runs[-1].by != "reload":
        steps.starts(steps.reloads.wake_at(0.1))
    steps.ends(0.1)
    assert steps.owes(1.0, commit(**options)) == ["runtime"]
    steps.ends(1.05, avoided=DONE)
    assert steps.owes(1.1, commit(**options)) == ["runtime"], "however soon it follows"
    said = steps.ends(1.2, needed=NEEDED)
    assert "reload" not in said, "the reload waits"
    at = steps.reloads.wake_at(1.2)
    assert at > 1.2 if reloads_at is None else at == pytest.approx(reloads_at, abs=0.1)
    assert steps.starts(at) == ["reload"]


def test_the_first_delivery_waits_for_no_settle():
    steps = Steps(reloads_of())
    for name in ("web", "api"):
        steps.reloads.owe(commit(name, trigger="start", settle=5.0), 0.0)
    assert steps.starts(0.0) == ["runtime"]
    assert steps.ends(0.1, needed=NEEDED) == ["reload.needed", "reload"]


def test_a_reload_waits_for_commits_to_be_quiet_and_no_longer_than_max_wait():
    steps = Steps(reloads_of())
    steps.owes(0.0, commit(settle=1.0, max_wait=3.0))
    said = steps.ends(0.1, needed=NEEDED)
    assert said[-1] == "reload", "one after quiet is due at once"
    steps.ends(0.2)
    steps.owes(0.5, commit(settle=1.0, max_wait=3.0))
    assert steps.ends(0.5, needed=NEEDED) == ["reload.needed", "reload.waiting"]
    for tenth in range(6, 35, 5):
        assert steps.owes(tenth / 10, commit(settle=1.0, max_wait=3.0)) == [], "it joins what waits"
    assert steps.reloads.wake_at(3.4) == 3.5
    assert steps.starts(3.5) == ["reload"]


def test_nothing_is_told_while_a_delivery_of_the_same_command_is_under_way():
    steps = Steps(reloads_of())
    steps.reloads.owe(commit(), 0.0)
    assert steps.starts(0.0, {"reload"}) == []
    steps.reloads.end_deliveries(["reload"])
    assert steps.starts(0.1) == ["runtime"]


def test_a_failure_to_ask_is_no_failed_reload():
    steps = Steps(reloads_of())
    steps.owes(0.0)
    said = steps.ends(0.1, ReloadError("no socket"))
    assert said == ["reload.needed", "reload"]
    ((_, pending, _),) = steps.reloads.states()
    assert (pending.backoff.attempts, pending.error) == (0, None)


# --- the second ------------------------------------------------------------------------------------------------------


def test_what_needs_a_reload_is_told_with_file_and_line():
    reloads = reloads_of()
    reloads.owe(commit(), 0.0)
    (run,) = reloads.start(0.0, ())
    (line,) = reloads.take(Reloaded(run.key, None, 0.1, by="runtime", needed=NEEDED), 0.1)
    where = {"why": "bind changed", "file": "/out/web", "line": 42}
    assert (line.level, line.event, line.fields) == (
        "info",
        "reload.needed",
        {"command": "reload", "resource": "web", **where},
    )


def test_commits_join_a_reload_until_it_begins_and_are_told_again_after_it():
    steps = Steps(reloads_of())
    steps.owes(0.0, commit(record=1))
    steps.reloads.owe(commit(record=2), 0.05)
    assert steps.starts(0.05) == [], "one at a time"
    assert steps.ends(0.1, needed=NEEDED) == ["reload.needed", "reload"]
    steps.reloads.owe(commit(record=3), 0.15)
    assert steps.ends(0.2) == ["clear 1,2", "resource.changed", "runtime"]
    assert steps.ends(0.3, avoided=DONE) == ["reload.avoided", "clear 3", "resource.changed"]


def test_a_reload_that_failed_is_tried_again_without_asking_the_program():
    steps = Steps(reloads_of())
    steps.owes(0.0)
    steps.ends(0.1, needed=NEEDED)
    assert steps.ends(0.2, ReloadError("exited with 1")) == ["reload.failed"]
    assert steps.owes(0.3) == ["reload"], "and a new commit joins it"
    steps.ends(0.4)
    assert steps.owes(0.5) == ["runtime"], "until it has succeeded"


def test_a_new_program_that_does_not_do_what_its_files_say_is_reloaded_again_later():
    steps = Steps(reloads_of())
    steps.owes(0.0)
    steps.ends(0.1, needed=NEEDED)
    assert steps.ends(0.2, needed=ReloadNeeded("b/x differs")) == ["reload.failed"]
    ((_, pending, due),) = steps.reloads.states()
    assert pending.backoff.attempts == 1
    assert 0.2 < due <= 1.2
    assert steps.starts(due) == ["reload"]
    assert "clear 1" in steps.ends(due)


@pytest.mark.parametrize("policy", ["rollback", "keep"])
def test_that_is_no_file_that_the_program_rejects(policy):
    steps = Steps(reloads_of())
    steps.owes(0.0, commit(on_reload_failure=policy))
    steps.ends(0.1, needed=NEEDED)
    assert steps.ends(0.2, needed=ReloadNeeded("b/x differs")) == ["reload.failed"]
    ((_, pending, _),) = steps.reloads.states()
    assert (list(pending.owed), pending.back) == (["web"], "no")


# --- several resources -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("web", "plain"), ("plain", "web")])
def test_one_that_names_no_socket_makes_the_common_reload_needed(order):
    options = {"web": {}, "plain": {"reload_haproxy": None}}
    steps = Steps(reloads_of())
    for name in order:
        steps.reloads.owe(commit(name, **options[name]), 0.0)
    assert steps.starts(0.0) == ["reload"]
    ((_, pending, _),) = steps.reloads.states()
    assert pending.needed_in_flight is not None
    assert "plain is reloaded by the same command" in pending.needed_in_flight.why
    steps.ends(0.1)
    assert steps.owes(0.2) == ["runtime"]


def test_two_that_name_different_sockets_are_reloaded():
    steps = Steps(reloads_of())
    steps.reloads.owe(commit("web"), 0.0)
    steps.reloads.owe(commit("api", reload_haproxy=RuntimeTarget(("unix:/run/other.sock",))), 0.0)
    assert steps.starts(0.0) == ["reload"]


def test_a_program_is_told_with_all_its_files_and_not_only_those_that_changed():
    steps = Steps(reloads_of(resource("web"), resource("map"), resource("other", reload_haproxy=None)))
    steps.owes(0.0)
    assert steps.runs[0].dests == ("/out/web", "/out/map")
    assert steps.runs[0].environment["CONFPY_DEST"] == "/out/web"


def test_a_reload_by_one_that_names_no_socket_concerns_the_program_of_the_others():
    """Else the next plan would go to the worker that it is about to replace."""
    other = RuntimeTarget(("unix:/run/other.sock",))
    steps = Steps(reloads_of(resource("web"), resource("api", reload_haproxy=other)))
    steps.owes(0.0, commit("plain", reload_haproxy=None))
    (run,) = steps.runs
    assert run.by == "reload"
    assert run.spec.runtime == RuntimeTarget((*SOCKET.sockets, *other.sockets))
    assert run.dests == ("/out/web", "/out/api")


# --- starts, looks, rollback, stop -----------------------------------------------------------------------------------


def inherited(reloads: PendingReloads, runtime: RuntimeTarget | None = SOCKET) -> None:
    spec = ReloadSpec("reload", CommandReload("reload"), 5.0, runtime=runtime)
    reloads.inherit(PendingReload(spec, ("web",), ("/out/web",), (3,)), 0.0)


def test_what_an_earlier_run_owed_is_told_once_the_resources_are_known():
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    inherited(reloads)
    steps = Steps(reloads)
    assert steps.starts(0.0) == []
    assert reloads.wake_at(0.0) == NEVER
    reloads.know([resource()])
    assert steps.starts(0.1) == ["runtime"]
    assert steps.ends(0.2, avoided=DONE) == ["reload.avoided", "clear 3", "reload.recovered"]


def test_what_an_earlier_run_owed_by_a_reload_alone_is_reloaded_whatever_joins_it():
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    inherited(reloads, None)
    reloads.owe(commit(), 0.1)
    assert Steps(reloads).starts(0.1) == ["reload"]


def test_what_a_reload_of_an_earlier_run_did_not_end_is_reloaded_when_its_backoff_is_over():
    reloads = reloads_of()
    inherited(reloads)
    (line,) = reloads.take_over({"reload": LastRun(1000.0, failures=10)}, 0.0, 1000.0)
    assert line.event == "reload.waiting"
    steps = Steps(reloads)
    assert steps.starts(0.0) == []
    assert reloads.wake_at(0.1) > 28.0
    assert steps.starts(300.0) == ["reload"]


def test_a_look_owes_nothing_and_says_only_what_it_repaired():
    steps = Steps(reloads_of())
    steps.reloads.look(0.0)
    assert steps.starts(0.0) == ["look"]
    assert (steps.reloads.owed(), steps.reloads.owes("web"), [*steps.reloads.states()]) == ({}, False, [])
    assert steps.ends(0.1, avoided=Avoided("")) == ["clear "]
    assert not steps.reloads
    steps.reloads.look(1.0)
    steps.starts(1.0)
    assert steps.ends(1.1, avoided=DONE) == ["runtime.repaired", "clear "]


def test_what_somebody_set_by_hand_is_told_once():
    steps = Steps(reloads_of())
    said = []
    for by_hand in (("b/x",), ("b/x",), (), ("b/x",)):
        steps.owes(0.0)
        said.append("runtime.set_by_hand" in steps.ends(0.1, avoided=Avoided("", by_hand=by_hand)))
    assert said == [True, False, False, True]


def test_a_look_that_finds_what_only_a_reload_mends_owes_it():
    steps = Steps(reloads_of())
    steps.reloads.look(0.0)
    steps.starts(0.0)
    assert steps.ends(0.1, needed=NEEDED) == ["reload.needed", "reload"]
    assert steps.reloads.owed() == {"reload": "web"}
    assert steps.ends(0.2) == ["clear "]
    assert not steps.reloads


def test_a_commit_joins_a_look_that_has_not_begun_and_waits_for_one_that_has():
    steps = Steps(reloads_of())
    steps.reloads.look(0.0)
    assert steps.owes(0.0) == ["runtime"]
    steps.ends(0.1, avoided=DONE)
    steps.reloads.look(1.0)
    steps.starts(1.0)
    assert steps.owes(1.1) == []
    assert steps.reloads.owed() == {"reload": "web"}
    assert steps.ends(1.2, avoided=Avoided("")) == ["clear ", "runtime"]


def test_there_is_no_look_at_what_is_owed_anyway():
    steps = Steps(reloads_of())
    steps.owes(0.0)
    steps.reloads.look(0.1)
    assert steps.ends(0.2, avoided=DONE)[1:] == ["clear 1", "resource.changed"]
    assert not steps.reloads


def test_previous_files_are_reloaded_and_not_told():
    """Whether the reload that failed has started a worker, which takes over later, is not known."""
    steps = Steps(reloads_of())
    steps.owes(0.0, commit(on_reload_failure="rollback"))
    steps.ends(0.1, needed=NEEDED)
    assert steps.ends(0.2, ReloadError("exited with 1")) == ["reload.failed", "restore"]
    steps.runs += steps.reloads.restored([Report("web", "changed", record=9)], "reload", 0.3)
    assert steps.runs[-1].by == "reload"
    assert steps.ends(0.5) == ["reload.rolled_back", "clear 1,9"]
    assert not steps.reloads


def test_after_a_reload_that_failed_and_was_left_so_the_next_change_is_reloaded():
    steps = Steps(reloads_of())
    steps.owes(0.0, commit(on_reload_failure="keep"))
    steps.ends(0.1, needed=NEEDED)
    assert steps.ends(0.2, ReloadError("exited with 1")) == ["reload.failed", "clear 1"]
    assert steps.owes(1.0) == ["reload"]
    steps.ends(1.1)
    assert steps.owes(2.0) == ["runtime"]


def test_what_is_needed_when_confpy_stops_stays_owed():
    steps = Steps(reloads_of())
    steps.owes(0.0)
    steps.reloads.stop()
    assert steps.ends(0.1, needed=NEEDED) == ["reload.needed"]
    assert steps.reloads.owed() == {"reload": "web"}


def test_a_one_shot_tells_the_program_and_reloads_it_at_once_where_that_does_not_do():
    steps = Steps(reloads_of(is_final=True))
    steps.owes(0.0, commit(trigger="start", settle=5.0))
    assert steps.ends(0.1, needed=NEEDED) == ["reload.needed", "reload"]
    assert steps.ends(0.2, ReloadError("exited with 1")) == ["reload.failed"]
    assert not steps.reloads
