"""Calls that can be abandoned: their result, their error, their time limit, and who wakes the one that waits."""

from __future__ import annotations

import threading
import time

import pytest

from confpy.system.abandonable import AbandonableCall, Abandoned, call_within


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
