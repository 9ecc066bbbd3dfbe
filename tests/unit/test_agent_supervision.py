"""The agent with a program that it runs: what the first delivery reloads, and how confpy ends with the program."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from confpy.messages import Kill, Terminate
from confpy.reload.actions import SignalReload
from confpy.reload.spec import PendingReload, ReloadSpec
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild
from tests.unit.test_agent import CommandReload, Harness, Recovered, resource

RELOADS = {"reload_cmd": CommandReload("reload"), "reload_cmd_timeout": 10.0}


class Supervising(Harness):
    """An agent that runs a program, which ends when the test says so."""

    def __init__(self, *resources, **more):
        super().__init__(*resources, supervises=True, **{"child_stop_timeout": 8.0, "stop_timeout": 8.0, **more})
        self.waits = ("resolve", "exec")
        self._jobs._ports.child = SimpleNamespace(signal=lambda _: None, run=lambda: None)

    def of(self, kind):
        return [action for action in self.done if isinstance(action, kind)]

    def child_ends(self, code):
        self.post(ChildEnded(code))
        self.until(self.now)


def test_the_program_starts_after_the_first_delivery_whose_reload_is_not_run():
    harness = Supervising(resource("a", **RELOADS))
    harness.until(10.0)
    assert (harness.of(StartChild), harness.runs) == ([StartChild()], [])
    (changed,) = harness.events("resource.changed")
    assert changed.fields["reloaded"] is False
    harness.put(a="2")
    harness.until(20.0)
    assert [name for _, name in harness.runs] == ["reload"]
    assert harness.of(StartChild) == [StartChild()]


def test_the_program_does_not_start_on_a_target_that_is_missing():
    harness = Supervising(resource("a"))
    harness.checks = False
    harness.until(100.0)
    assert harness.of(StartChild) == []
    harness.checks = True
    harness.until(300.0)
    assert harness.of(StartChild) == [StartChild()]


def test_what_an_earlier_run_owed_to_the_program_is_done_by_its_start_and_other_reloads_run_then():
    to_child, other = SignalReload("HUP"), CommandReload("other")
    owed = [
        PendingReload(ReloadSpec(action.describe(), action, 10.0), ("a",), ("/out/a",), (number,))
        for number, action in enumerate((to_child, other), 1)
    ]
    harness = Supervising(resource("a"))
    harness.recovered = Recovered(reloads=tuple(owed))
    harness.until(10.0)
    assert [name for _, name in harness.runs] == ["other"]
    assert harness.agent.reloads.owed() == {}


@pytest.mark.parametrize(("ended", "code"), [(0, 0), (-15, 0), (3, 3), (-9, 137)])
def test_asked_to_stop_it_waits_for_the_program_and_ends_as_it_did(ended, code):
    harness = Supervising(resource("a"))
    harness.until(10.0)
    harness.signal(signal.SIGTERM)
    harness.until(12.0)
    assert (harness.of(SignalChild), harness.ended) == ([SignalChild(15)], None)
    harness.child_ends(ended)
    assert harness.ended == code


def test_a_program_may_drain_longer_than_commands_may_take_and_nothing_spins_meanwhile():
    harness = Supervising(resource("a"), child_stop_timeout=600.0, child_stop_signal=int(signal.SIGUSR1))
    harness.until(10.0)
    harness.signal(signal.SIGTERM)
    steps = harness.steps
    harness.until(590.0)
    assert harness.steps - steps < 30
    assert harness.of(SignalChild) == [SignalChild(10)]
    assert harness.ended is None
    harness.until(609.0)
    assert harness.of(SignalChild) == [SignalChild(10), SignalChild(15)]
    harness.until(611.0)
    assert harness.of(SignalChild)[-1] == SignalChild(9)
    harness.child_ends(-9)
    assert harness.ended == 137


@pytest.mark.parametrize("code", [0, 7, -11])
def test_a_program_that_ends_unasked_ends_it_at_once(code):
    harness = Supervising(resource("a"))
    harness.until(10.0)
    harness.child_ends(code)
    assert harness.ended == (code if code >= 0 else 128 - code)


def test_a_reload_in_hand_is_cut_short_when_the_program_ends_and_stays_owed():
    harness = Supervising(resource("a", **RELOADS))
    harness.hangs = {"reload"}
    harness.until(10.0)
    harness.put(a="2")
    harness.until(20.0)
    harness.post(ChildEnded(5))
    harness.until(30.0)
    assert [kind for _, kind in harness.ends] == [Terminate, Kill]
    assert harness.ended == 5
    assert harness.events("reload.owed")


def test_hup_is_confpys_own_and_what_is_forwarded_stops_nobody():
    harness = Supervising(resource("a"), forwarded=frozenset({int(signal.SIGUSR2)}))
    harness.until(10.0)
    harness.signal(signal.SIGHUP, signal.SIGUSR2)
    harness.until(20.0)
    assert (harness.of(SignalChild), harness.ended) == ([SignalChild(12)], None)
