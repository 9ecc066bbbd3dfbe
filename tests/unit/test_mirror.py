"""The mirror, one step at a time. Whole runs of it are in tests/sim."""

from __future__ import annotations

from random import Random

import pytest

from confpy.errors import StoreError
from confpy.events import LogEvent
from confpy.keys.snapshot import Changes, Invalidated, Listing, PrefixStatus, Snapshot
from confpy.messages import Changed, Listed, Lost, Opened, Poll, Polled, Read, Unwatch, Watch, Woken
from confpy.mirror.mirror import Mirror

READ_AGAIN = 3
"""The number of what ``follow`` leaves a mirror to ask next: after the read and the stream."""


def follow(*prefixes: str, revision: int = 10) -> tuple[Mirror, Watch]:
    """Return a mirror that has read its prefixes at a revision, and the stream that it wants."""
    mirror = Mirror(Random(1), follows=True, period=60.0)
    (read,) = mirror.want({prefix: (prefix,) for prefix in prefixes}).actions
    assert isinstance(read, Read)
    snapshot = Snapshot({prefix: Listing(revision, {f"{prefix}/k": "old"}) for prefix in prefixes}, "a")
    (watch,) = mirror.step(Listed(read.read, snapshot), 0.0).actions
    assert isinstance(watch, Watch)
    mirror.step(Opened(watch.stream), 0.0)
    return mirror, watch


def changes(prefix: str, revision: int, value: str | None) -> Changes:
    return Changes(prefix, revision, {f"{prefix}/k": (revision, value)})


def test_each_watch_is_resumed_from_its_own_cursor_after_interleaved_changes():
    mirror, watch = follow("/one", "/two")
    mirror.step(Changed(watch.stream, changes("/one", 30, "new")), 1.0)
    mirror.step(Changed(watch.stream, changes("/two", 20, "new")), 1.0)
    mirror.step(Lost(watch.stream, StoreError("reset")), 2.0)
    (again,) = mirror.step(Woken(), mirror.wake_at()).actions
    assert isinstance(again, Watch)
    assert again.cursors == {"/one": 30, "/two": 20}


def test_a_change_that_was_applied_already_is_dropped():
    mirror, watch = follow("/one")
    mirror.step(Changed(watch.stream, changes("/one", 30, "newer")), 1.0)
    turn = mirror.step(Changed(watch.stream, changes("/one", 20, "older")), 1.0)
    assert (turn.changed, mirror.tree.get("/one/k")) == (set(), "newer")


def test_an_answer_that_is_older_than_what_came_meanwhile_does_not_roll_the_tree_back():
    mirror, watch = follow("/one")
    mirror.step(Changed(watch.stream, Invalidated()), 1.0)  # have it read again
    mirror.step(Changed(watch.stream, changes("/one", 30, "newer")), 1.5)
    answer = Snapshot({"/one": Listing(20, {"/one/k": "older", "/one/other": "x"})}, "a")
    mirror.step(Listed(READ_AGAIN, answer), 2.0)
    assert (mirror.tree.get("/one/k"), mirror.tree.get("/one/other")) == ("newer", "x")


def test_new_prefixes_get_a_second_stream_and_the_first_is_closed_when_it_stands():
    mirror, watch = follow("/one")
    (read,) = mirror.want({"one": ("/one",), "two": ("/two",)}).actions
    assert isinstance(read, Read)
    assert read.prefixes == ("/two",)
    (second,) = mirror.step(Listed(read.read, Snapshot({"/two": Listing(12)}, "a")), 1.0).actions
    assert isinstance(second, Watch)
    assert second.cursors == {"/one": 10, "/two": 12}
    assert mirror.step(Opened(second.stream), 2.0).actions == [Unwatch(watch.stream)]


@pytest.mark.parametrize(("number", "others", "watched"), [(63, 0, 63), (64, 0, 1), (64, 64, 1), (64, 65, 64)])
def test_many_prefixes_below_another_are_watched_as_that_one_if_it_has_at_most_as_many_other_keys(
    number, others, watched
):
    prefixes = [f"/app/{one:02}" for one in range(number)]
    mirror = Mirror(Random(1), follows=True, period=60.0)
    (read,) = mirror.want({prefix: (prefix,) for prefix in prefixes}).actions
    assert isinstance(read, Read)
    assert read.counted == (("/app",) if number == 64 else ())
    listings = {prefix: Listing(10, {f"{prefix}/k": "old"}) for prefix in prefixes}
    counts = dict.fromkeys(read.counted, number + others)
    (watch,) = mirror.step(Listed(read.read, Snapshot(listings, "a", counts)), 0.0).actions
    assert isinstance(watch, Watch)
    assert len(watch.cursors) == watched
    if watched == 1:
        mirror.step(Opened(watch.stream), 0.0)
        news = Changes("/app", 12, {"/app/07/k": (11, "new"), "/app/other": (12, "x")})
        assert mirror.step(Changed(watch.stream, news), 1.0).changed == {"/app/07/k"}
        assert (mirror.revision(("/app/07",)), mirror.revision(("/app/08",))) == (12, 12)


def reopen(mirror: Mirror, watch: Watch, now: float) -> tuple[Watch, float]:
    """Break the stream, and let the next one stand; return it, and when that was."""
    mirror.step(Lost(watch.stream, StoreError("reset")), now)
    while True:
        now = mirror.wake_at()
        for action in mirror.step(Woken(), now).actions:
            if isinstance(action, Watch):
                mirror.step(Opened(action.stream), now)
                return action, now


def test_a_stream_that_stood_for_long_is_reopened_as_soon_as_at_first():
    mirror, watch = follow("/one")
    now = 0.0
    for _ in range(8):  # each ends as soon as it stands
        watch, now = reopen(mirror, watch, now)
    _, then = reopen(mirror, watch, now + 31.0)
    assert then <= now + 32.0


def test_nothing_is_wanted_of_time_while_answers_are_awaited():
    mirror = Mirror(Random(1), follows=True, period=60.0)
    mirror.want({"one": ("/one",)})
    assert mirror.wake_at() == float("inf")


def test_a_cover_over_two_prefixes_is_watched_from_the_older_of_their_positions():
    mirror, watch = follow("/s/a")
    (read,) = mirror.want({"s": ("/s/a", "/s/b")}).actions
    mirror.step(Changed(watch.stream, changes("/s/a", 30, "new")), 1.0)
    assert isinstance(read, Read)
    assert (read.prefixes, read.counted) == (("/s/b",), ("/s",))
    answer = Snapshot({"/s/b": Listing(20, {"/s/b/k": "x"})}, "a", {"/s": 2})
    (second,) = mirror.step(Listed(read.read, answer), 2.0).actions
    assert isinstance(second, Watch)
    assert second.cursors == {"/s": 20}


def test_a_store_that_answers_from_before_what_it_said_of_another_prefix_was_restored():
    mirror, watch = follow("/s/a")
    mirror.step(Changed(watch.stream, changes("/s/a", 30, "new")), 1.0)
    (read,) = mirror.want({"s": ("/s",)}).actions
    assert isinstance(read, Read)
    turn = mirror.step(Listed(read.read, Snapshot({"/s": Listing(20, {"/s/a/k": "older"})}, "a")), 2.0)
    assert "its revision went back" in str(turn.actions)
    assert mirror.tree.get("/s/a/k") == "older"


def test_what_a_stream_has_only_begun_to_bring_is_not_missed():
    mirror, watch = follow("/one")
    (ask,) = mirror.step(Woken(), 100.0).actions
    assert isinstance(ask, Poll)
    newer = PrefixStatus("a", 11, {"/one": 11}, {"/one": 1})
    mirror.step(Lost(watch.stream, StoreError("reset")), 100.0)
    assert mirror.step(Polled(ask.poll, newer), 100.0).actions == []
    (again,) = mirror.step(Woken(), 101.5).actions
    assert isinstance(again, Watch)
    mirror.step(Opened(again.stream), 101.9)
    (ask,) = mirror.step(Woken(), 103.0).actions
    assert isinstance(ask, Poll)
    assert mirror.step(Polled(ask.poll, newer), 103.0).actions == []


def test_a_deletion_that_the_stream_did_not_bring_is_found_by_counting():
    mirror, _ = follow("/one")
    (ask,) = mirror.step(Woken(), 100.0).actions
    assert isinstance(ask, Poll)
    gone = PrefixStatus("a", 11, {"/one": 0}, {"/one": 0})
    assert mirror.step(Polled(ask.poll, gone), 100.0).actions == []  # it may be on its way
    (ask,) = mirror.step(Woken(), mirror.wake_at()).actions
    assert isinstance(ask, Poll)
    did = mirror.step(Polled(ask.poll, gone), 103.0).actions
    assert [type(one) for one in did] == [LogEvent, Unwatch, Read]
    assert isinstance(did[0], LogEvent)
    assert did[0].event == "watch.missed"
