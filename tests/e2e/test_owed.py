"""A reload that is owed is run until it succeeds, and then no more: also by the confpy that comes after."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, Program, pass_time, shows
from tests.waiting import wait_until


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.mark.parametrize("command", ["reload_cmd", "check_cmd"])
def test_a_command_that_fails_twice_is_run_three_times_and_then_no_more(installation, program, command):
    dest = installation.add("a", **{command: program.failing(2)})
    with installation.start("-watch", "-resync", "1s") as confpy:
        confpy.says("resource.changed", resource="a", seconds=30)
        shows(dest, "none\n")
        pass_time(2.5)
    assert program.count == 3


def test_a_reload_is_made_up_for_after_a_kill_between_the_rename_and_it(installation, program):
    dest = installation.add("a", reload_cmd=program.failing(0), splay="'24h'")
    with installation.start() as confpy:
        shows(dest, "none\n")
        confpy.process.kill()
    assert program.count == 0
    with installation.start("-watch", "-resync", "1s") as confpy:
        confpy.says("reload.recovered", resource="a", target=str(dest), reloaded=True)
        pass_time(2.5)
    assert program.count == 1
    assert installation.once().code == 0
    assert program.count == 1, "what was paid is owed no more"


def test_a_reload_that_fails_across_restarts_is_run_until_it_works_and_then_no_more(installation, program):
    installation.add("a", reload_cmd=program.failing(2))
    for runs in (1, 2):
        with installation.start() as confpy:
            wait_until(lambda runs=runs: program.count >= runs, what=f"run {runs} of the reload")
            confpy.process.kill()
    with installation.start("-watch", "-resync", "1s") as confpy:
        confpy.says("reload.recovered", resource="a", seconds=30)
        pass_time(2.5)
    assert program.count == 3


def test_a_reload_that_takes_confpy_down_with_it_is_not_run_at_every_start(installation, program):
    """As the reload of a HAProxy does whose ``program`` confpy is."""
    installation.add("a", reload_cmd=f"'echo x >> {program.runs}; kill -KILL $PPID'")
    runs = 0
    for _ in range(8):
        with installation.start() as confpy:
            wait_until(
                lambda runs=runs: program.count > runs or waits(confpy), what="it reloads, or says that it waits"
            )
            confpy.process.kill()
        if program.count == runs:
            break
        runs = program.count
    assert waits(confpy)["attempt"] == runs < 8


def waits(confpy):
    return next((event for event in confpy.events if event["event"] == "reload.waiting"), None)


def test_the_interval_between_two_reloads_holds_across_a_restart(installation, program):
    installation.write("app: {a: one}")
    dest = installation.add("a", reload_cmd=program.failing(0), min_reload_interval="'1h'")
    with installation.start() as confpy:
        confpy.says("resource.changed", resource="a")
    installation.write("app: {a: two}")
    with installation.start("-watch", "-resync", "1s") as confpy:
        confpy.says("target.committed", resource="a")
        shows(dest, "two\n")
        pass_time(2)
        assert program.count == 1
        confpy.process.kill()
    assert installation.once().find("reload.recovered", resource="a"), "whoever runs it by hand wants it now"
    assert program.count == 2


def test_sighup_runs_a_reload_that_waits(installation, program):
    installation.add("a", reload_cmd=program.closed())
    for _ in range(10):
        installation.once()
    with installation.start() as confpy:
        confpy.says("reload.waiting", resource="a")
        program.open()
        confpy.process.send_signal(signal.SIGHUP)
        confpy.says("reload.recovered", resource="a", seconds=60)


def test_a_check_that_failed_before_a_restart_is_run_after_it(installation, program):
    dest = installation.add("a", check_cmd=program.closed())
    with installation.start() as confpy:
        confpy.says("resource.failed", resource="a")
        confpy.process.kill()
    assert not dest.exists()
    program.open()
    with installation.start() as confpy:
        confpy.says("resource.changed", resource="a")
    shows(dest, "none\n")


def test_a_debt_for_a_file_that_somebody_replaced_is_dropped_and_the_new_delivery_reloads(installation, program):
    dest = installation.add("a", reload_cmd=program.closed())
    assert installation.once().code == 7
    dest.write_text("by hand\n")
    program.open()
    ended = installation.once()
    assert ended.code == 0
    assert ended.find("resource.changed", reloaded=True)
    assert program.count == 2, "one run for the delivery, none for the content that is gone"


def test_one_shot_tries_an_owed_reload_once_more_and_a_loop_around_it_ends(installation, program):
    installation.add("a", reload_cmd=program.closed())
    assert installation.once().code == 7
    for runs in (2, 3):
        again = installation.once()
        assert again.code == 0, again.events
        assert again.find("reload.failed", resource="a")["level"] == "warning"
        assert program.count == runs
    program.open()
    assert installation.once().find("reload.recovered", resource="a")
    assert installation.once().names == ["onetime.done"]
    assert program.count == 4


@pytest.mark.parametrize("flag", ["-sync-only", "-no-reload"])
def test_a_run_that_reloads_nothing_owes_nothing(installation, program, flag):
    dest = installation.add("a", reload_cmd=program.failing(0))
    ended = installation.once(flag)
    assert ended.code == 0
    assert dest.read_text() == "none\n"
    assert installation.once().code == 0
    assert program.count == 0


def test_noop_writes_no_ledger_and_runs_no_debt(installation, program):
    dest = installation.add("a", reload_cmd=program.closed())
    assert installation.once().code == 7
    before = {path: path.read_bytes() for path in installation.ledgers()}
    installation.add("b")
    assert installation.once("-noop").find("resource.would_change", resource="b")
    assert {path: path.read_bytes() for path in installation.ledgers()} == before
    assert (program.count, dest.exists(), (installation.folder / "b").exists()) == (1, True, False)


def test_a_debt_outlives_a_run_that_reloads_nothing(installation, program):
    installation.add("a", reload_cmd=program.closed())
    assert installation.once().code == 7
    assert installation.once("-no-reload").code == 0
    assert program.count == 1
    program.open()
    assert installation.once().find("reload.recovered", resource="a")


def test_without_a_reload_nothing_is_kept(installation):
    installation.add("a")
    assert installation.once().code == 0
    assert not any("debt" in path.read_text() or "begin" in path.read_text() for path in installation.ledgers())


def test_confds_way_is_one_try(installation, program):
    installation.add("a", reload_cmd=program.closed(), reload_retry="'never'")
    with installation.start("-watch", "-resync", "1s") as confpy:
        confpy.says("reload.failed", resource="a", did="leaves it so (on_reload_failure)")
        pass_time(3)
    assert installation.once().code == 0
    assert program.count == 1
