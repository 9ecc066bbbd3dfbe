"""Waits as values: the bounds of a backoff, and when a burst of changes has settled."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.clock import Backoff, Settle, SystemClock, jittered

SECONDS = st.floats(min_value=0.001, max_value=1e6)


@given(st.integers(), SECONDS, SECONDS, st.integers(min_value=1, max_value=200))
def test_every_wait_is_above_a_tenth_of_its_limit_and_never_above_it(seed, base, cap, failures):
    backoff = Backoff(Random(seed), base, cap)
    limit = min(base, cap)
    for _ in range(failures):
        assert limit * 0.1 <= backoff.wait() <= limit
        limit = min(limit * 2, cap)


def test_ten_thousand_failures_wait_no_longer_than_the_cap():
    backoff = Backoff(Random(1))
    waits = [backoff.wait() for _ in range(10_000)]
    assert backoff.attempts == 10_000
    assert max(waits) <= 60
    assert min(waits[10:]) >= 6
    # Full jitter: they spread over the whole range.
    assert max(waits) > 59
    assert min(waits[10:]) < 7


def test_after_a_success_it_begins_anew():
    backoff = Backoff(Random(1), base=1, cap=60)
    for _ in range(100):
        backoff.wait()
    backoff.reset()
    assert backoff.attempts == 0
    assert backoff.wait() <= 1


def test_two_that_lost_the_same_server_do_not_come_back_in_step():
    one, other = Backoff(Random(1)), Backoff(Random(2))
    assert all(one.wait() != other.wait() for _ in range(100))


@given(SECONDS, st.integers(), st.floats(min_value=0, max_value=1))
def test_jitter_stays_within_its_spread(seconds, seed, spread):
    assert seconds * (1 - spread) <= jittered(seconds, Random(seed), spread) <= seconds * (1 + spread) * (1 + 1e-9)


def test_the_clock_of_the_machine_tells_both_times():
    clock = SystemClock()
    before, after = clock.monotonic(), clock.monotonic()
    assert before <= after
    assert clock.time() > 1_700_000_000


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        # quiet 2 s, longest 10 s; changes come at these moments → the moment from which they are due
        ([], float("-inf")),
        ([100], float("-inf")),  # after quiet: at once
        ([100, 101], 103),  # on its heels: when quiet again
        ([100, 101, 102], 104),
        ([100, 101, 102.9, 104.8], 106.8),
        ([100, 102], float("-inf")),  # two that are quiet apart: each at once
        ([100, 101, *range(102, 120)], 111),  # a stream without end: at most 10 s after the first that waits
        ([100, 100, 100], 102),
    ],
)
def test_when_changes_are_due(changes, due):
    settle = Settle(2.0, 10.0)
    for moment in changes:
        settle.note(moment)
    assert settle.due() == due


@pytest.mark.parametrize(
    ("then", "due"),
    [
        (104, 106),  # still on the heels of 103: not at once again
        (104.9, 106.9),
        (105, float("-inf")),  # quiet since 103
    ],
)
def test_after_a_delivery_a_change_that_follows_closely_waits_again(then, due):
    settle = Settle(2.0, 10.0)
    for moment in (100, 101, 103):
        settle.note(moment)
    settle.done()
    assert settle.due() == float("-inf")
    settle.note(then)
    assert settle.due() == due


def test_without_a_quiet_time_everything_is_due_at_once():
    settle = Settle(0.0, 0.0)
    for moment in (100, 100, 100.001):
        settle.note(moment)
        assert settle.due() <= moment


def test_a_longest_wait_below_the_quiet_time_means_the_quiet_time():
    settle = Settle(5.0, 1.0)
    settle.note(100)
    settle.note(101)
    assert settle.due() == 106


@given(st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=50), SECONDS, SECONDS)
def test_no_change_waits_longer_than_the_longest(gaps, quiet, longest):
    settle, now, waiting = Settle(quiet, longest), 1000.0, None
    for gap in gaps:
        now += gap
        if settle.due() <= now:
            settle.done()
            waiting = None
        settle.note(now)
        waiting = now if waiting is None else waiting
        assert settle.due() <= waiting + 2 * max(quiet, longest)
        assert settle.due() <= now + quiet
