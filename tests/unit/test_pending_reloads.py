"""The reloads that commits owe."""

from __future__ import annotations

import os
import subprocess
from random import Random

import pytest

from confpy.agent.commits import Commit
from confpy.agent.reload_queue import LONGEST, RELOADS_AT_ONCE
from confpy.agent.reloads import PendingReloads
from confpy.agent.resources import ResourceState
from confpy.candidates import Report
from confpy.clock import Backoff, Settle
from confpy.config.resource import Resource
from confpy.errors import ReloadError
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.messages import ClearPending, Reload, Reloaded, Restore
from confpy.reload.actions import CommandReload
from confpy.reload.spec import LastRun, PendingReload, ReloadSpec
from confpy.system.subprocesses import Ran


def owing(*names: str) -> PendingReloads:
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    for name in names:
        resource = Resource(name, "", "t.j2", f"/out/{name}", reload_cmd=CommandReload("reload"))
        reloads.owe(Commit(resource, "change", 1, 5, 0.1), now=0.0)
    return reloads


def test_a_reload_that_is_cut_off_by_the_end_is_reported_as_owed():
    reloads = owing("web", "app")
    assert [type(action) for action in reloads.start(0.0, ())] == [Reload]
    assert reloads.owed() == {"reload": "web, app"}


def lines(actions) -> list[dict[str, object]]:
    return [dict(one.fields) for one in actions if getattr(one, "event", "") == "reload.waiting"]


def test_a_wait_for_deliveries_is_told_once_when_it_has_lasted_a_second_and_until_when():
    reloads = owing("web")
    assert [*reloads.start(0.0, {"reload"})] == []
    assert reloads.wake_at(0.0) == 1.0
    told = lines(reloads.start(1.0, {"reload"}))
    assert told == [{"command": "reload", "resource": "web", "waits_for": "deliveries", "retry_in": 1.0}]
    assert lines(reloads.start(1.5, {"reload"})) == []
    assert [type(action) for action in reloads.start(2.0, {"reload"})] == [Reload], "it is not held up for longer"


def test_a_wait_for_a_delivery_that_is_swapped_in_has_no_end_of_its_own():
    reloads = owing("web")
    assert [*reloads.start(0.0, {"reload"}, {"reload"})] == []
    (told,) = lines(reloads.start(reloads.wake_at(0.0), {"reload"}, {"reload"}))
    assert told == {"command": "reload", "resource": "web", "waits_for": "deliveries"}
    assert [*reloads.start(50.0, {"reload"}, {"reload"})] == []
    reloads.end_deliveries(["reload"])
    assert [type(action) for action in reloads.start(51.0, ())] == [Reload]


def test_a_short_wait_for_deliveries_is_not_told():
    reloads = owing("web")
    assert [*reloads.start(0.0, {"reload"})] == []
    reloads.end_deliveries(["reload"])
    assert lines(reloads.start(0.5, ())) == []


def test_one_that_waits_for_a_free_place_says_so_once():
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    for number in range(RELOADS_AT_ONCE + 1):
        resource = Resource(f"r{number}", "", "t.j2", f"/out/{number}", reload_cmd=CommandReload(f"c{number}"))
        reloads.owe(Commit(resource, "change", 1, 5, 0.1), now=0.0)
    last = f"c{RELOADS_AT_ONCE}"
    expected = {"command": last, "resource": f"r{RELOADS_AT_ONCE}", "waits_for": "other reloads"}
    assert lines(reloads.start(0.0, ())) == [expected]
    assert [key for key, pending, _ in reloads.states() if pending.is_next] == [last]
    assert lines(reloads.start(1.0, ())) == []
    [*reloads.take(Reloaded("c0", None, 0.1), 2.0)]
    (run,) = reloads.start(2.0, ())
    assert run.key == last


def test_nothing_is_owed_after_a_reload_that_succeeded():
    reloads = owing("web")
    (run,) = reloads.start(0.0, ())
    cleared, say = reloads.take(Reloaded(run.key, None, 0.1), 1.0)
    assert (cleared, say.event) == (ClearPending("reload", ()), "resource.changed")
    assert reloads.owed() == {}
    assert not reloads


def test_a_reload_whose_success_is_not_known_is_cleared_and_logged():
    reloads = owing("web")
    (run,) = reloads.start(0.0, ())
    *_, say = reloads.take(Reloaded(run.key, None, 0.1, unsure=True), 1.0)
    assert (say.level, say.event, say.fields["resource"]) == ("warning", "reload.unsure", "web")
    assert not reloads


def test_a_commit_during_a_reload_is_paid_by_the_next_one():
    reloads = owing("web")
    (run,) = reloads.start(0.0, ())
    reloads.owe(
        Commit(Resource("web", "", "t.j2", "/out/web", reload_cmd=CommandReload("reload")), "change", 1, 6, 0.1),
        now=0.5,
    )
    assert list(reloads.start(0.5, ())) == [], "one command is not run twice at once"
    list(reloads.take(Reloaded(run.key, None, 1.0), 1.0))
    assert [type(action) for action in reloads.start(1.0, ())] == [Reload]


def test_a_reload_that_failed_stays_owed():
    reloads = owing("web")
    (run,) = reloads.start(0.0, ())
    list(reloads.take(Reloaded(run.key, ReloadError("the reload exited with 1"), 0.1), 1.0))
    assert reloads.owed() == {"reload": "web"}
    assert 1.0 < reloads.wake_at(1.0) <= 2.0


def owing_each(resources):
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    for resource in resources:
        reloads.owe(Commit(resource, "change", 1, 1, 0.0), 0.0)
    return reloads


def failing(reloads: PendingReloads, now: float, *errors: ReloadError):
    """Let the reload fail once for each of the errors, as soon as it is due; returns the lines."""
    said = []
    for error in errors:
        now = max(now, reloads.wake_at(now))
        (run,) = reloads.start(now, ())
        said += [(say.level, say.event, say.fields) for say in reloads.take(Reloaded(run.key, error, 0.1), now)]
    return said


def exits(code: int, output: str = "") -> ReloadError:
    return Ran(code, 0.1, tail=output).error(ReloadError, "reload", "reload")


def test_another_reason_for_which_a_reload_fails_is_logged():
    said = failing(owing("web"), 1.0, exits(1), exits(1), exits(2), exits(2), exits(1))
    assert [(fields["error"][-1], fields["attempt"]) for _, _, fields in said] == [("1", 1), ("2", 3), ("2", 4)]


def test_the_time_and_the_process_in_the_output_of_a_command_are_no_other_reason():
    said = failing(owing("web"), 1.0, exits(1, "12:00:01 [9] port in use"), exits(1, "12:00:02 [17] port in use"),
                   exits(1, "12:00:04 [23] no such file"))  # fmt: skip
    assert [fields["output"] for _, _, fields in said] == ["12:00:01 [9] port in use", "12:00:04 [23] no such file"]


def test_another_content_that_a_reload_rejects_for_the_same_reason_is_logged():
    reloads = owing("web")
    assert len(failing(reloads, 1.0, exits(1), exits(1))) == 1
    reloads.owe(
        Commit(Resource("web", "", "t.j2", "/out/web", reload_cmd=CommandReload("reload")), "change", 1, 6, 0.1),
        now=60.0,
    )
    ((_, event, fields),) = failing(reloads, 60.0, exits(1))
    assert (event, fields["attempt"]) == ("reload.failed", 3)


def test_a_thousand_reload_commands_do_not_run_all_at_once():
    reloads = owing_each(
        Resource(f"r{n}", "", "t", f"/out/{n}", reload_cmd=CommandReload(f"reload {n}")) for n in range(1000)
    )
    *runs, told = reloads.start(1.0, ())
    running = [action.key for action in runs]
    assert told.fields["command"].startswith("reload 32, reload 33, "), "one line for all that wait"
    begun = set(running)
    assert len(running) == RELOADS_AT_ONCE
    assert not list(reloads.start(1.0, ()))
    assert reloads.wake_at(1.0) == float("inf"), "nothing to wake for until one of them has ended"
    while running:
        list(reloads.take(Reloaded(running.pop(0), None, 0.1), 1.0))
        running += [action.key for action in reloads.start(1.0, ())]
        begun |= set(running)
    assert len(begun) == 1000
    assert not reloads


def test_a_reload_of_thousands_of_resources_can_be_started():
    names = [f"{n:04}-" + "ä" * 60 for n in range(3000)]
    reloads = owing_each(Resource(name, "", "t", f"/out/{name}", reload_cmd=CommandReload("true")) for name in names)
    (reload,) = reloads.start(1.0, ())
    assert isinstance(reload, Reload)
    assert subprocess.run(["true"], env={**os.environ, **reload.environment}, check=True).returncode == 0
    listed = reload.environment["CONFPY_RESOURCE"].split("\n")
    assert listed == names[: len(listed)], "whole names, as many as there is room for"
    assert len(listed) > 400


def test_what_an_earlier_confpy_owed_is_taken_back_where_its_resources_say_so():
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    reloads.inherit(
        PendingReload(
            ReloadSpec("reload", CommandReload("reload"), 5.0, on_failure="rollback"), ("web",), ("/out/web",), (3,)
        ),
        0.0,
    )
    (run,) = reloads.start(0.0, ())
    (_,) = reloads.take(Reloaded(run.key, ReloadError("the reload exited with 1"), 0.1), 1.0)
    assert [*reloads.start(1.0, {"reload"})] == [], "not while one of its targets is being delivered"
    assert reloads.is_restoring("reload")
    assert [*reloads.start(1.0, ())] == [Restore("reload")]
    assert [*reloads.start(1.0, ())] == [], "once"


def test_a_reload_of_the_old_files_that_fails_stays_owed_and_puts_nothing_back_again():
    refused = ReloadError("the reload exited with 1")
    web = Resource("web", "", "t.j2", "/out/web", reload_cmd=CommandReload("reload"), on_reload_failure="rollback")
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    reloads.owe(Commit(web, "change", 1, 5, 0.1, record=3), now=0.0)
    (run,) = reloads.start(0.0, ())
    list(reloads.take(Reloaded(run.key, refused, 0.1), 1.0))
    (_,) = reloads.start(1.0, ())
    (again,) = reloads.restored([Report("web", "changed", record=4)], "reload", 1.1)
    assert isinstance(again, Reload)
    (said,) = reloads.take(Reloaded(run.key, refused, 0.1), 2.0)
    assert said.fields["did"] == "the previous files are back; their reload stays owed"
    (third,) = reloads.start(400.0, ())
    assert isinstance(third, Reload)
    list(reloads.take(Reloaded(run.key, refused, 0.1), 401.0))
    assert not reloads.is_restoring("reload")
    (_,) = reloads.start(900.0, ())
    back, cleared = sorted(
        reloads.take(Reloaded(run.key, None, 0.1), 901.0), key=lambda one: isinstance(one, ClearPending)
    )
    assert cleared == ClearPending("reload", (3, 4))
    assert (back.event, back.fields) == ("reload.rolled_back", {"resource": "web", "command": "reload"})
    assert not reloads


def test_what_an_earlier_run_owed_waits_while_its_target_is_swapped_in_unchecked():
    web = Resource("web", "", "t.j2", "/out/web", check_cmd="check", reload_cmd=CommandReload("reload {{dest}}"))
    state = ResourceState(0, web, Settle(0.0, 0.0), Backoff(Random(1)), View(KeyTree(), ()))
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    reloads.inherit(
        PendingReload(ReloadSpec("reload /out/web", CommandReload("reload /out/web"), 5.0), ("web",), ("/out/web",)),
        0.0,
    )
    assert [one.event for one in reloads.start(9.0, state.commands, state.commands)] == ["reload.waiting"]
    reloads.end_deliveries(state.commands)
    assert [type(action) for action in reloads.start(9.0, ())] == [Reload]


# --- what an earlier confpy tried ------------------------------------------------------------------------------------


def inherited(run: LastRun, *, now: float = 0.0, wall: float = 1000.0, is_final: bool = False):
    """Return the reloads after a start at ``now`` that found this last run, and the lines."""
    reloads = PendingReloads(Random(1), longest_wait=2.0, is_final=is_final)
    reloads.inherit(
        PendingReload(ReloadSpec("reload", CommandReload("reload"), 5.0), ("web",), ("/out/web",), (3,)), now
    )
    return reloads, [*reloads.take_over({"reload": run}, now, wall)]


def test_a_reload_that_failed_before_the_start_waits_as_if_there_had_been_none():
    reloads, (said,) = inherited(LastRun(999.0, failures=10))
    assert [*reloads.start(0.0, ())] == []
    assert 28.0 < reloads.wake_at(0.0) <= 299.0
    assert (said.level, said.event) == ("info", "reload.waiting")
    assert said.fields == {
        "command": "reload",
        "resource": "web",
        "attempt": 10,
        "retry_in": round(reloads.wake_at(0.0), 1),
    }
    (run,) = reloads.start(reloads.wake_at(0.0), ())
    assert run.failures == 10
    (failed,) = reloads.take(Reloaded("reload", exits(1), 0.1), 300.0)
    assert failed.fields["attempt"] == 11


def test_a_reload_whose_wait_is_over_at_the_start_runs_at_once():
    reloads, said = inherited(LastRun(500.0, failures=10))
    assert [type(action) for action in reloads.start(0.0, ())] == [Reload]
    assert said == []


@pytest.mark.parametrize("wall", [-1e8, 0.0, 999.9])
def test_a_clock_that_was_set_back_makes_no_reload_wait_longer_than_its_backoff(wall):
    reloads, _ = inherited(LastRun(1000.0, failures=20), wall=wall)
    assert 0.0 < reloads.wake_at(0.0) <= LONGEST


def test_the_interval_between_reloads_holds_across_a_start():
    reloads, (said,) = inherited(LastRun(990.0, failures=0, interval=60.0))
    assert reloads.wake_at(0.0) == 50.0
    assert said.fields["retry_in"] == 50.0
    reloads = PendingReloads(Random(1), longest_wait=2.0)
    assert [*reloads.take_over({"reload": LastRun(990.0, interval=60.0)}, 0.0, 1000.0)] == [], "nothing is owed yet"
    web = Resource("web", "", "t.j2", "/out/web", reload_cmd=CommandReload("reload"), min_reload_interval=60.0)
    reloads.owe(Commit(web, "change", 1, 5, 0.1), now=1.0)
    assert reloads.wake_at(1.0) == 50.0


def test_a_new_content_is_reloaded_at_once_though_an_earlier_one_had_failed_before_the_start():
    reloads, _ = inherited(LastRun(1000.0, failures=20))
    reloads.owe(
        Commit(Resource("web", "", "t.j2", "/out/web", reload_cmd=CommandReload("reload")), "change", 1, 5, 0.1),
        now=1.0,
    )
    assert [type(action) for action in reloads.start(1.0, ())] == [Reload]


def test_a_one_shot_run_waits_for_no_earlier_failure_and_for_no_interval_and_counts_its_own():
    reloads, said = inherited(LastRun(1000.0, failures=20, interval=60.0), is_final=True)
    (run,) = reloads.start(0.0, ())
    assert (run.failures, run.spec.interval, said) == (20, 60.0, [])


def test_what_has_failed_is_tried_at_once_when_somebody_asks_for_it():
    reloads, _ = inherited(LastRun(1000.0, failures=20))
    reloads.hurry()
    assert [type(action) for action in reloads.start(0.0, ())] == [Reload]
