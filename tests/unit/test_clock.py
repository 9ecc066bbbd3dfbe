"""Waits as values: the bounds of a backoff, and when a burst of changes has settled."""

from __future__ import annotations

import gc
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.clock import Backoff, Damping, Settle, SystemClock, jittered

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


# --- which failures are logged ---------------------------------------------------------------------------------------


def logged(failures) -> list[int]:
    """Return which of the failures (seconds, reason, content) are logged, counted from 1."""
    damping = Damping()
    return [
        number
        for number, (now, reason, content) in enumerate(failures, 1)
        if damping.admits(reason, number, now, content)
    ]


def test_what_fails_in_one_way_is_logged_at_the_attempts_1_4_16_and_64():
    assert logged((float(number), "no", None) for number in range(100)) == [1, 4, 16, 64]


def test_another_reason_is_logged_once_and_so_is_each_of_two_that_alternate():
    assert logged((float(number), ("no", "never")[number % 2], None) for number in range(20)) == [1, 2, 4, 16]


def test_the_content_of_a_failure_is_not_held():
    damping, content = Damping(), b"a large file"
    damping.admits("no", 1, 0.0, content)
    assert not [held for held in gc.get_referents(damping) if isinstance(held, bytes)]


def test_another_content_is_logged_though_it_fails_for_the_same_reason():
    assert logged((float(number), "no", number // 5) for number in range(12)) == [1, 4, 6, 11]


def test_a_failure_is_logged_at_least_once_an_hour():
    times = [300.0 * number for number in range(400)]
    found = [times[number - 1] for number in logged((now, "no", None) for now in times)]
    assert max(later - earlier for earlier, later in pairwise(found)) == 3600.0


def test_a_success_starts_anew():
    damping = Damping()
    assert damping.admits("no", 1, 0.0)
    assert not damping.admits("no", 2, 1.0)
    damping.reset()
    assert damping.admits("no", 2, 2.0)


def test_reasons_that_differ_each_time_are_not_all_remembered():
    assert len(logged((float(number), number, None) for number in range(1000))) == 1000
    damping = Damping()
    for number in range(1000):
        damping.admits(number, number, 0.0)
    assert len(damping._reasons) <= Damping.MOST_REASONS
