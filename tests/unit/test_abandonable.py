"""Calls that can be abandoned: their result, their error, their time limit, and who wakes the one that waits."""

from __future__ import annotations

import threading
import time

import pytest

from confpy.system.abandonable import AbandonableCall, Abandoned, CallGroup, call_within


def test_the_result_or_the_error_of_the_call_is_that_of_the_caller():
    assert call_within(5, lambda: "result") == "result"
    with pytest.raises(KeyError, match="none"):
        call_within(5, lambda: {}["none"])


@pytest.mark.parametrize("result", [None, False, ()])
def test_a_result_may_be_nothing(result):
    assert call_within(5, lambda: result) is result


def test_a_call_that_takes_too_long_is_abandoned_and_ends_when_it_can():
    hanging = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        call_within(0.05, lambda: hanging.wait(10))
    assert time.monotonic() - began < 2
    hanging.set()


def test_any_thread_may_abandon_a_call_before_and_while_its_result_is_awaited():
    hanging = threading.Event()
    for pause in (0, 0.05):
        call = AbandonableCall(lambda: hanging.wait(10))
        timer = threading.Timer(pause, call.abandon)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Abandoned):
            call.result(10)
        assert time.monotonic() - began < 2
        call.abandon()
    hanging.set()


def outcomes(calls, seconds=5.0, threads=1, most=4):
    return [one for group in CallGroup(calls).outcomes(seconds, threads, most) for one in group]


def test_quick_calls_of_a_group_share_a_thread_and_come_together():
    used = set()
    groups = list(CallGroup([lambda: used.add(threading.get_ident())] * 500).outcomes(5, 1, 8))
    assert sorted(number for group in groups for number, _ in group) == [*range(500)]
    assert len(used) == 1
    assert len(groups) < 20


def test_an_error_of_one_call_of_a_group_is_its_outcome():
    found = dict(outcomes([lambda: 1, lambda: {}["none"], lambda: None]))
    assert isinstance(found.pop(1), KeyError)
    assert found == {0: 1, 2: None}
    assert outcomes([]) == []


def test_calls_of_a_group_that_hang_are_abandoned_and_let_all_others_pass():
    hanging = threading.Event()
    began = time.monotonic()
    calls = [(lambda: hanging.wait(10)) if number < 6 else (lambda number=number: number) for number in range(20)]
    found = dict(outcomes(calls, seconds=0.3, most=2))
    assert time.monotonic() - began < 5
    assert [number for number, outcome in found.items() if isinstance(outcome, TimeoutError)] == [*range(6)]
    assert all(found[number] == number for number in range(6, 20))
    hanging.set()


def test_where_no_thread_can_be_started_every_call_of_a_group_has_failed(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert all(isinstance(outcome, RuntimeError) for _, outcome in outcomes([lambda: 1] * 3))
