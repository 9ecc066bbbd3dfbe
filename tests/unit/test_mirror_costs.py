"""What the mirror does for one message, in lines of Python run: it must not grow with what there is.

A loop runs its lines once per turn, a comprehension too, so that one over all prefixes shows at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random

import pytest

from confpy.errors import AccessDenied, StoreError
from confpy.keys.snapshot import Changes, Listing, PrefixStatus, Snapshot
from confpy.messages import Changed, Listed, Opened, Poll, Polled, Read, Watch, Woken
from confpy.mirror.mirror import Mirror

FEW, MANY = 20, 10_000


def lines(run: Callable[..., object], *arguments: object) -> int:
    """Return how many lines of the mirror and of the keys a call runs."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if "/confpy/mirror/" not in frame.f_code.co_filename and "/confpy/keys/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(*arguments)
    finally:
        sys.settrace(before)
    return count


def name(number: int) -> str:
    return f"/svc/{number:05}"


def follow(prefixes: int, *, denied: int = 0, cover: bool = False) -> tuple[Mirror, int]:
    """Return a mirror of many prefixes, the last of which are denied, and its stream; ``cover``: watched as one."""
    mirror = Mirror(Random(1), follows=True, period=600.0)
    resources = {name(number): (name(number),) for number in range(prefixes)}
    if cover:
        resources["first and last"] = (name(0), name(prefixes - 1))
    (read,) = mirror.want(resources).actions
    assert isinstance(read, Read)
    listings = {name(number): Listing(10, {f"{name(number)}/k": "old"}) for number in range(prefixes)}
    listings |= {name(number): Listing(0, error=AccessDenied("no")) for number in range(prefixes - denied, prefixes)}
    result = mirror.step(
        Listed(read.read, Snapshot(listings, "a", dict.fromkeys(read.counted, prefixes * (1 if cover else 3)))), 0.0
    )
    (watch,) = (action for action in result.actions if isinstance(action, Watch))
    assert (len(watch.cursors) == 1) == cover
    mirror.step(Opened(watch.stream), 0.0)
    return mirror, watch.stream


def change(mirror: Mirror, stream: int, revision: int, watched: str = "") -> None:
    """Let one key change, and ask what the agent asks after it."""
    prefix = name(7)
    changes = Changes(watched or prefix, revision, {f"{prefix}/k": (revision, str(revision))})
    assert mirror.step(Changed(stream, changes), 0.0).changed == {f"{prefix}/k"}
    assert mirror.ready((prefix,))
    assert mirror.error((prefix,)) is None
    assert mirror.missing((prefix,)) is None
    assert mirror.revision((prefix,)) == revision
    mirror.wake_at()
    mirror.step(Woken(), 0.0)


@pytest.mark.parametrize("cover", [False, True], ids=["watched one by one", "watched as one"])
def test_a_change_costs_the_same_among_few_and_among_many_prefixes(cover):
    costs = []
    for prefixes in (FEW, MANY):
        mirror, stream = follow(prefixes, cover=cover)
        watched = "/svc" if cover else ""
        costs.append([lines(change, mirror, stream, at, watched) for at in (20, 21, 22)])
    assert costs[0] == costs[1]
    assert max(costs[1]) < 250


def test_a_change_costs_the_same_while_few_and_while_many_prefixes_are_denied():
    costs = []
    for denied in (FEW, MANY):
        mirror, stream = follow(denied + 10, denied=denied)
        costs.append(lines(change, mirror, stream, 20))
    assert costs[0] == costs[1]


@pytest.mark.parametrize("answer", ["denied again", "granted"])
def test_a_denied_prefix_that_is_read_alone_costs_the_same_among_few_and_among_many(answer):
    costs = []
    for prefixes in (FEW, MANY):
        mirror, _ = follow(prefixes, denied=1)
        (read,) = mirror.step(Woken(), mirror.wake_at()).actions
        assert isinstance(read, Read)
        assert read.prefixes == (name(prefixes - 1),)
        listing = Listing(0, error=AccessDenied("no")) if answer == "denied again" else Listing(12)
        answered = Listed(read.read, Snapshot({name(prefixes - 1): listing}, "a"))
        costs.append(lines(mirror.step, answered, mirror.read_at(()) + 3.0))
    if answer == "denied again":
        assert costs[0] == costs[1]
    else:
        # It is followed from now on: another stream is opened, for all.
        assert costs[1] > costs[0]


def test_a_start_costs_the_same_for_each_prefix_among_few_and_among_many():
    few, many = lines(follow, FEW) / FEW, lines(follow, MANY) / MANY
    assert many <= few * 1.1


def test_a_poll_of_a_store_at_rest_costs_the_same_among_few_and_among_many():
    costs = []
    for prefixes in (FEW, MANY):
        mirror, _ = follow(prefixes)
        names = [name(number) for number in range(prefixes)]
        status = PrefixStatus("a", 10, dict.fromkeys(names, 10), dict.fromkeys(names, 1))
        found = []
        for now in (0.0, 1.0):
            mirror.resync(now)
            (poll,) = (one for one in mirror.step(Woken(), now).actions if isinstance(one, Poll))
            found.append(lines(mirror.step, Polled(poll.poll, status), now))
        costs.append(found)
    assert costs[0][1] == costs[1][1] < costs[0][0] < costs[1][0]


def test_a_read_that_fails_and_a_lost_store_cost_the_same_among_few_and_among_many():
    costs = []
    for prefixes in (FEW, MANY):
        mirror, _ = follow(prefixes)
        (read,) = mirror.reread(1.0).actions
        assert isinstance(read, Read)
        failed = Listed(read.read, None, StoreError("away"))
        costs.append(lines(mirror.step, failed, 2.0))
    assert costs[0] == costs[1]
