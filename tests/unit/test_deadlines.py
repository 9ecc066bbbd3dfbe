"""Deadlines: who waits too long is called, once, by one thread that ends with the last of them."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing

import pytest

from confpy.http.deadlines import Deadlines
from tests.waiting import wait_until


@pytest.fixture
def deadlines():
    with closing(Deadlines()) as made:
        yield made


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "confpy-deadlines"]


def test_who_waits_too_long_is_called_in_time_and_once(deadlines):
    called = []
    began = time.monotonic()
    with deadlines.within(0.05, lambda: called.append(time.monotonic() - began)):
        wait_until(lambda: called, what="the call")
    assert 0.05 <= called[0] < 2
    assert len(called) == 1


def test_a_nearer_deadline_is_not_held_up_by_one_that_is_far(deadlines):
    called = threading.Event()
    with deadlines.within(600, pytest.fail), deadlines.within(0.05, called.set):
        assert called.wait(5)


def test_nobody_is_called_after_the_block(deadlines):
    last = threading.Event()
    for _ in range(100):
        with deadlines.within(0.01, pytest.fail):
            pass
    with deadlines.within(0.05, last.set):
        assert last.wait(5)


def test_many_deadlines_are_one_thread_that_ends_when_nothing_is_waited_for(deadlines):
    with ExitStack() as stack:
        for number in range(100):
            stack.enter_context(deadlines.within(0.3 + number / 1000, lambda: None))
        assert len(threads()) == 1
    wait_until(lambda: not threads(), what="the thread ends by itself")
    called = threading.Event()
    with deadlines.within(0.01, called.set):
        assert called.wait(5)


def test_closing_ends_the_thread_and_nobody_is_called(deadlines):
    with deadlines.within(600, pytest.fail):
        assert len(threads()) == 1
        deadlines.close()
        deadlines.close()
        wait_until(lambda: not threads(), what="the thread ends")
        with deadlines.within(0.01, pytest.fail):
            assert threads() == []
