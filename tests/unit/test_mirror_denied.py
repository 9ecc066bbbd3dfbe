"""What the mirror asks next, and what it logs, where the store denies a prefix."""

from __future__ import annotations

from random import Random

from confpy.errors import AccessDenied, StoreError
from confpy.events import LogEvent
from confpy.keys.snapshot import Changes, Invalidated, Listing, PrefixStatus, Snapshot
from confpy.messages import Changed, Listed, Lost, Opened, Poll, Polled, Read, Watch, Woken
from confpy.mirror.mirror import Mirror
from confpy.mirror.result import MirrorResult
from confpy.stores.etcd import v3 as etcd3

PERIOD = 60.0


def no(prefix: str, message: str = "permission denied") -> AccessDenied:
    return AccessDenied(message, prefix=prefix, user="web")


def answer(mirror: Mirror, read: Read, now: float, *denied: str, revision: int = 10, **counts: int) -> MirrorResult:
    """Answer a read: deny what is denied, give each other prefix one key."""
    listings = {
        prefix: Listing(0, error=no(prefix)) if prefix in denied else Listing(revision, {f"{prefix}/k": str(revision)})
        for prefix in read.prefixes
    }
    return mirror.step(Listed(read.read, Snapshot(listings, "a", {f"/{name}": n for name, n in counts.items()})), now)


def only(turn: MirrorResult, kind: type) -> list:
    return [action for action in turn.actions if isinstance(action, kind)]


def said(turn: MirrorResult, *names: str) -> list[dict]:
    return [dict(say.fields) for say in only(turn, LogEvent) if not names or say.event in names]


def following(*denied: str, **resources: tuple[str, ...]) -> tuple[Mirror, Watch]:
    """Return a mirror that has read, and its stream that stands."""
    mirror = Mirror(Random(1), follows=True, period=PERIOD)
    (read,) = only(mirror.want(resources), Read)
    (watch,) = only(answer(mirror, read, 0.0, *denied), Watch)
    mirror.step(Opened(watch.stream), 0.0)
    return mirror, watch


def wake(mirror: Mirror) -> tuple[MirrorResult, float]:
    now = mirror.wake_at()
    return mirror.step(Woken(), now), now


def test_a_denied_prefix_is_left_out_of_the_stream_and_read_alone():
    mirror, watch = following("/shut", open=("/open",), both=("/open", "/shut"))
    assert set(watch.cursors) == {"/open"}
    assert mirror.ready(("/open",))
    assert not mirror.ready(("/open", "/shut"))
    turn, now = wake(mirror)
    assert 0.1 <= now <= 1.0
    (read,) = turn.actions
    assert read.prefixes == ("/shut",)
    assert answer(mirror, read, now, "/shut").actions == [], "it was logged"


def test_a_denial_is_logged_with_its_user_and_who_reads_it_and_so_is_its_end():
    mirror = Mirror(Random(1), follows=True, period=PERIOD)
    (read,) = only(mirror.want({"a": ("/shut",), "b": ("/shut", "/too"), "c": ("/open",)}), Read)
    (line,) = said(answer(mirror, read, 0.0, "/shut", "/too"))
    assert line.pop("retry_in") <= 1.0
    assert line == {
        "error": "permission denied",
        "prefix": "/shut, /too",
        "user": "web",
        "resource": "a, b",
        "did": "goes on without it",
        "attempt": 1,
    }
    turn, now = wake(mirror)
    (read,) = only(turn, Read)
    turn = answer(mirror, read, now)
    assert said(turn) == [{"prefix": "/shut, /too", "resource": "a, b", "after": round(now, 1)}]
    assert turn.learned
    assert turn.changed == {"/shut/k", "/too/k"}
    (watch,) = only(turn, Watch)
    assert set(watch.cursors) == {"/open", "/shut", "/too"}


def test_another_reason_is_logged_and_the_same_one_at_growing_intervals():
    mirror, _ = following("/shut", open=("/open",), shut=("/shut",))
    logged = []
    for attempt in range(2, 30):
        while True:
            turn, now = wake(mirror)
            if reads := only(turn, Read):
                break
            for ask in only(turn, Poll):
                mirror.step(Polled(ask.poll, None, StoreError("away")), now)
        if reads[0].prefixes != ("/shut",):
            answer(mirror, reads[0], now)
            continue
        refusal = no("/shut", "permission denied" if attempt < 20 else "no such user")
        turn = mirror.step(Listed(reads[0].read, Snapshot({"/shut": Listing(0, error=refusal)}, "a")), now)
        logged += [(attempt, line["error"]) for line in said(turn, "prefix.denied")]
    assert [error for _, error in logged] == ["permission denied"] * 2 + ["no such user"]


def test_a_prefix_that_is_granted_again_is_back_within_30_seconds_however_long_it_was_denied():
    mirror, _ = following("/shut", open=("/open",), shut=("/shut",))
    gaps = [0.0]
    denied_at = 0.0
    while len(gaps) < 50:
        turn, now = wake(mirror)
        for ask in only(turn, Poll):
            mirror.step(Polled(ask.poll, None, StoreError("away")), now)
        for read in only(turn, Read):
            if read.prefixes == ("/shut",):
                gaps.append(now - denied_at)
                denied_at = now
            answer(mirror, read, now, "/shut")
    assert max(gaps) + etcd3.DENIED_FOR <= 25.0  # which leaves the store five seconds to answer


def test_what_lies_below_a_denied_prefix_is_read_by_itself():
    mirror = Mirror(Random(1), follows=True, period=PERIOD)
    (read,) = only(mirror.want({"wide": ("/a",), "narrow": ("/a/b",)}), Read)
    assert read.prefixes == ("/a",)
    (read,) = only(answer(mirror, read, 0.0, "/a"), Read)
    assert read.prefixes == ("/a/b",)
    answer(mirror, read, 0.0)
    assert mirror.ready(("/a/b",))
    assert not mirror.ready(("/a",))


def test_a_wide_prefix_that_is_given_again_does_not_roll_back_what_was_followed_below_it():
    mirror = Mirror(Random(1), follows=True, period=PERIOD)
    (read,) = only(mirror.want({"wide": ("/a",), "narrow": ("/a/b",)}), Read)
    (read,) = only(answer(mirror, read, 0.0, "/a"), Read)
    (watch,) = only(answer(mirror, read, 0.0), Watch)
    mirror.step(Opened(watch.stream), 0.0)
    turn, now = wake(mirror)
    (read,) = only(turn, Read)
    mirror.step(Changed(watch.stream, Changes("/a/b", 20, {"/a/b/k": (20, "20")})), now)
    older = Snapshot({"/a": Listing(15, {"/a/b/k": "15", "/a/c": "15"})}, "a")
    (second,) = only(mirror.step(Listed(read.read, older), now), Watch)
    assert dict(mirror.tree.items("/")) == {"/a/b/k": "20", "/a/c": "15"}
    assert second.cursors == {"/a": 15}
    mirror.step(Opened(second.stream), now)
    between = Changes("/a", 18, {"/a/b/k": (18, "18"), "/a/c": (17, "17")}, deleted={"/a/b": 16})
    assert mirror.step(Changed(second.stream, between), now).changed == {"/a/c"}
    assert dict(mirror.tree.items("/")) == {"/a/b/k": "20", "/a/c": "17"}


def test_the_previous_stream_does_not_run_ahead_of_a_wide_prefix_that_was_just_read():
    mirror = Mirror(Random(1), follows=True, period=PERIOD)
    (read,) = only(mirror.want({"wide": ("/a",), "narrow": ("/a/b",)}), Read)
    (read,) = only(answer(mirror, read, 0.0, "/a"), Read)
    (first,) = only(answer(mirror, read, 0.0), Watch)
    mirror.step(Opened(first.stream), 0.0)
    turn, now = wake(mirror)
    (read,) = only(turn, Read)
    (second,) = only(answer(mirror, read, now, revision=15), Watch)
    mirror.step(Changed(first.stream, Changes("/a/b", 20, {"/a/b/k": (20, "20")})), now)
    mirror.step(Opened(second.stream), now)
    mirror.step(Changed(second.stream, Changes("/a", 17, {"/a/b/k": (17, "17")})), now)
    assert mirror.tree.get("/a/b/k") == "20"


def test_a_stream_that_is_denied_a_wide_prefix_has_what_lies_below_it_read():
    mirror, watch = following(wide=("/a",), narrow=("/a/b",))
    (read,) = only(mirror.step(Lost(watch.stream, no("/a")), 5.0), Read)
    assert read.prefixes == ("/a/b",)


def test_a_stream_that_is_denied_one_prefix_is_opened_at_once_without_it():
    mirror, watch = following(one=("/one",), two=("/two",))
    turn = mirror.step(Lost(watch.stream, no("/two")), 5.0)
    assert [line["prefix"] for line in said(turn, "prefix.denied")] == ["/two"]
    assert not said(turn, "watch.lost")
    (again,) = only(turn, Watch)
    assert again.cursors == {"/one": 10}
    assert turn.learned
    assert not only(turn, Read)
    assert mirror.tree.get("/two/k") == "10", "what was stays"


def test_a_common_parent_that_is_denied_is_used_no_more_and_stops_no_other():
    mirror = Mirror(Random(1), follows=True, period=PERIOD)
    (read,) = only(mirror.want({"s": ("/s/a", "/s/b")}), Read)
    (watch,) = only(answer(mirror, read, 0.0, s=2), Watch)
    assert set(watch.cursors) == {"/s"}
    turn = mirror.step(Lost(watch.stream, no("/s")), 0.0)
    (again,) = turn.actions
    assert set(again.cursors) == {"/s/a", "/s/b"}
    mirror.step(Opened(again.stream), 0.0)
    mirror.step(Lost(again.stream, StoreError("reset")), 1.0)
    (later,) = wake(mirror)[0].actions
    assert set(later.cursors) == {"/s/a", "/s/b"}
    assert mirror.ready(("/s/a", "/s/b"))


def test_a_denial_that_names_no_watched_prefix_is_a_lost_stream_and_waits():
    mirror, watch = following(one=("/one",))
    turn = mirror.step(Lost(watch.stream, no("/other")), 5.0)
    assert [line["error"] for line in said(turn, "watch.lost")] == ["permission denied"]
    assert not only(turn, Watch)
    assert mirror.wake_at() > 5.0


def test_a_poll_that_is_denied_one_prefix_is_made_at_once_without_it():
    mirror, _ = following(one=("/one",), two=("/two",))
    turn = mirror.step(Woken(), 100.0)
    (ask,) = only(turn, Poll)
    turn = mirror.step(Polled(ask.poll, None, no("/two")), 100.0)
    (again,) = only(turn, Poll)
    assert again.prefixes == ("/one",)
    assert said(turn, "prefix.denied")
    assert not said(turn, "store.lost")


def test_a_prefix_of_which_a_poll_says_nothing_is_read_and_found_to_be_denied():
    mirror, _ = following(one=("/one",), two=("/two",))
    (ask,) = only(mirror.step(Woken(), 100.0), Poll)
    status = PrefixStatus("a", 10, {"/one": 10}, {"/one": 1})
    (read,) = only(mirror.step(Polled(ask.poll, status), 100.0), Read)
    assert read.prefixes == ("/two",)
    turn = answer(mirror, read, 100.1, "/two")
    assert [line["prefix"] for line in said(turn, "prefix.denied")] == ["/two"]
    assert mirror.error(("/two",)) is not None
    assert mirror.ready(("/one",))
    assert mirror.wake_at() < 102.0, "it is asked for again"


def test_what_is_wanted_anew_while_a_denied_prefix_is_read_is_read_soon_though_that_fails():
    mirror, _ = following("/shut", open=("/open",), shut=("/shut",))
    turn, now = wake(mirror)
    (alone,) = only(turn, Read)
    assert mirror.want({"new": ("/new",)}).actions == []
    mirror.step(Listed(alone.read, None, StoreError("no route")), now)
    turn, at = wake(mirror)
    assert at < now + 5.0
    assert [read.prefixes for read in only(turn, Read)] == [("/new",)]


def test_reading_what_is_denied_does_not_put_off_the_resync():
    mirror, _ = following("/shut", open=("/open",), shut=("/shut",))
    now = 0.0
    while now < PERIOD * 1.2:
        turn, now = wake(mirror)
        if only(turn, Poll):
            return
        for read in only(turn, Read):
            assert read.prefixes == ("/shut",)
            answer(mirror, read, now, "/shut")
    raise AssertionError("no ask")


def test_reading_what_is_denied_does_not_replace_a_full_read():
    mirror, watch = following("/shut", open=("/open",), shut=("/shut",))
    turn, now = wake(mirror)
    (alone,) = only(turn, Read)
    mirror.step(Lost(watch.stream, StoreError("compacted"), relist=True), now)
    turn = answer(mirror, alone, now, "/shut")
    reads = only(turn, Read)
    while not reads:
        turn, now = wake(mirror)
        reads = [read for read in only(turn, Read) if read.prefixes != ("/shut",)]
        for read in only(turn, Read):
            if read not in reads:
                answer(mirror, read, now, "/shut")
    assert reads[0].prefixes == ("/open",)


def test_a_prefix_that_comes_and_goes_is_asked_for_no_more_often_for_it():
    mirror, watch = following(one=("/one",), two=("/two",))
    now, waits = 0.0, []
    for _ in range(8):
        (watch,) = only(mirror.step(Lost(watch.stream, no("/two")), now), Watch)
        mirror.step(Opened(watch.stream), now)
        lost = now
        while True:
            turn, now = wake(mirror)
            for ask in only(turn, Poll):
                mirror.step(Polled(ask.poll, None, StoreError("away")), now)
            if alone := [read for read in only(turn, Read) if read.prefixes == ("/two",)]:
                break
            for read in only(turn, Read):
                answer(mirror, read, now)
        waits.append(now - lost)
        (watch,) = only(answer(mirror, alone[0], now), Watch)
        mirror.step(Opened(watch.stream), now)
    assert max(waits[4:]) > 2.0


def test_a_store_that_denies_everything_is_read_for_that_and_has_no_stream():
    mirror, watch = following(one=("/one",))
    turn = mirror.step(Lost(watch.stream, no("/one")), 0.0)
    assert not only(turn, Watch)
    turn, now = wake(mirror)
    (read,) = turn.actions
    assert read.prefixes == ("/one",)
    assert only(mirror.step(Listed(read.read, None, StoreError("away")), now), LogEvent)
    turn, now = wake(mirror)
    (read,) = turn.actions
    assert only(answer(mirror, read, now), Watch)
    assert mirror.ready(("/one",))


def test_prefixes_that_no_resource_wants_any_more_are_denied_no_more():
    mirror, _ = following("/shut", open=("/open",), shut=("/shut",))
    mirror.want({"open": ("/open",)})
    assert mirror.error(("/shut",)) is None
    assert mirror.wake_at() > 10.0


def test_many_names_are_counted():
    resources = {f"r{number}": ("/shut",) for number in range(50)}
    mirror = Mirror(Random(1), follows=True, period=PERIOD)
    (read,) = only(mirror.want(resources), Read)
    (line,) = said(answer(mirror, read, 0.0, "/shut"))
    assert str(line["resource"]).count(",") == 9
    assert str(line["resource"]).endswith(" and 40 more")


def test_what_is_denied_is_read_at_once_when_something_has_changed():
    """A file that was wrong is a file that was mended: nobody waits for the backoff."""
    mirror, watch = following("/shut", open=("/open",), shut=("/shut",))
    turn, now = wake(mirror)
    answer(mirror, only(turn, Read)[0], now, "/shut")
    assert mirror.wake_at() > now
    (read,) = only(mirror.step(Changed(watch.stream, Invalidated()), now), Read)
    (read,) = only(answer(mirror, read, now), Read)
    assert read.prefixes == ("/shut",)
    assert "prefix.recovered" in [say.event for say in only(answer(mirror, read, now), LogEvent)]
