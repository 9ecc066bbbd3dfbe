"""What the mirror logs of a stream that breaks off and of its return."""

from __future__ import annotations

from random import Random

from confpy.errors import AccessDenied, StoreError
from confpy.events import LogEvent
from confpy.keys.snapshot import Listing, PrefixStatus, Snapshot
from confpy.messages import Asked, Listed, Lost, Opened, Poll, Polled, Read, Watch, Woken
from confpy.mirror.mirror import Mirror
from confpy.mirror.result import MirrorResult


def said(turn: MirrorResult) -> list[str]:
    return [action.event for action in turn.actions if isinstance(action, LogEvent)]


def opening(turn: MirrorResult) -> int:
    (stream,) = [action.stream for action in turn.actions if isinstance(action, Watch)]
    return stream


def test_a_stream_that_broke_off_is_logged_once_when_it_is_open_again():
    mirror = Mirror(Random(1), follows=True, period=60.0, once=False)
    (read,) = [action for action in mirror.want({"a": ("/a",)}).actions if isinstance(action, Read)]
    stream = opening(mirror.step(Listed(read.read, Snapshot({"/a": Listing(5, {})})), 0.0))
    assert said(mirror.step(Opened(stream), 0.0)) == [], "a first stream is no news"
    assert said(mirror.step(Lost(stream, StoreError("gone"), False), 10.0)) == ["watch.lost"]
    stream = opening(mirror.step(Woken(), 12.0))
    assert said(mirror.step(Lost(stream, StoreError("refused"), False), 12.0)) == [], "the previous line holds"
    stream = opening(mirror.step(Woken(), 15.0))
    turn = mirror.step(Opened(stream), 15.0)
    assert [(say.event, say.fields) for say in turn.actions if isinstance(say, LogEvent)] == [
        ("watch.recovered", {"after": 5.0})
    ]
    assert said(mirror.step(Woken(), 16.0)) == []


def test_a_read_that_was_put_off_comes_at_once_when_a_poll_finds_that_the_store_answers():
    mirror = Mirror(Random(1), follows=False, period=60.0)
    (read,) = mirror.want({"a": ("/a",)}).actions
    mirror.step(Listed(read.read, Snapshot({"/a": Listing(5, {})}, "s")), 0.0)
    (poll,) = mirror.step(Asked(), 1.0).actions
    assert isinstance(poll, Poll)
    (read,) = (one for one in mirror.want({"a": ("/a",), "b": ("/b",)}).actions if isinstance(one, Read))
    mirror.step(Listed(read.read, None, StoreError("no route")), 2.0)
    assert mirror.wake_at() > 2.0
    turn = mirror.step(Polled(poll.poll, PrefixStatus("s", 5, {"/a": 5}, {"/a": 0})), 2.0)
    assert said(turn) == ["store.recovered"]
    assert [one.prefixes for one in turn.actions if isinstance(one, Read)] == [("/a", "/b")]


def test_a_store_whose_message_has_another_number_each_time_is_logged_at_growing_intervals():
    mirror = Mirror(Random(1), follows=True, period=60.0)
    result, now, logged = mirror.want({"a": ("/a",)}), 0.0, []
    for attempt in range(1, 70):
        (read,) = [action for action in result.actions if isinstance(action, Read)]
        error = StoreError(f"etcd says: raft index {attempt} is not applied, member {attempt:016x}", node="a:2379")
        logged += [attempt] * (said(mirror.step(Listed(read.read, None, error), now)) == ["store.lost"])
        now = mirror.wake_at()
        result = mirror.step(Woken(), now)
    assert logged == [1, 4, 16, 64]


def test_a_prefix_that_is_denied_with_another_number_each_time_is_logged_at_growing_intervals():
    mirror = Mirror(Random(1), follows=False, period=1e9)
    result, now, logged = mirror.want({"a": ("/a",)}), 0.0, []
    for attempt in range(1, 20):
        (read,) = [action for action in result.actions if isinstance(action, Read)]
        denied = AccessDenied(f"etcd refuses: request {attempt} has no permission", prefix="/a")
        answer = mirror.step(Listed(read.read, Snapshot({"/a": Listing(0, error=denied)})), now)
        logged += [attempt] * ("prefix.denied" in said(answer))
        now = mirror.wake_at()
        result = mirror.step(Woken(), now)
    assert logged == [1, 4, 16]
