"""Consul's answers: which queries cover which prefixes, and what the indexes mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.errors import AccessDenied, StoreError, WatchLost
from confpy.stores.consul import wire as consul_wire
from confpy.stores.consul.wire import (
    Answer,
    BlockingQuery,
    Reported,
    contradicts,
    cover,
    differing,
    error_of,
    is_fresh,
    to_text,
)

SERVICES = [f"/svc/{number:04}" for number in range(1000)]
PREFIXES = st.lists(
    st.lists(st.text("ab-é", min_size=1, max_size=3), min_size=0, max_size=4).map(lambda names: "/" + "/".join(names)),
    min_size=1,
    max_size=60,
    unique=True,
)


# --- which queries ---------------------------------------------------------------------------------------------------


def test_a_small_number_of_prefixes_is_read_one_by_one():
    chosen = cover(["/a/b", "/c", "/d/e"], {})
    assert chosen.queries == {"a/b": ("/a/b",), "c": ("/c",), "d/e": ("/d/e",)}
    assert cover([], {}).queries == {}


def test_the_root_is_the_empty_string_and_brings_everything():
    assert cover(["/"], {}).queries == {"": ("/",)}
    assert cover(["/", "/a"], {}).queries == {"": ("/", "/a")}


def test_a_thousand_prefixes_are_covered_by_sixteen_queries_of_equal_weight():
    chosen = cover(SERVICES, dict.fromkeys(SERVICES, 20))
    assert 8 <= len(chosen.queries) <= 16
    assert {len(below) for below in chosen.queries.values()} == {100}
    assert chosen.queries["svc/00"] == tuple(SERVICES[:100])


def test_where_most_keys_are_the_queries_are_narrow():
    prefixes = [f"/big/{number}" for number in range(8)] + [f"/small/{number}" for number in range(12)]
    chosen = cover(prefixes, {prefix: 100 for prefix in prefixes if prefix.startswith("/big")})
    assert {query for query in chosen.queries if query.startswith("big")} == {f"big/{number}" for number in range(8)}
    assert chosen.queries["small/"] == tuple(sorted(prefixes[8:]))


@given(PREFIXES, st.data())
def test_every_prefix_has_one_query_that_brings_it_and_never_more_than_sixteen_are_open(prefixes, data):
    weights = {prefix: data.draw(st.integers(0, 1000)) for prefix in prefixes}
    chosen = cover(prefixes, weights)
    assert len(chosen.queries) <= 16
    assert chosen.denied == ()
    assert sorted(prefix for below in chosen.queries.values() for prefix in below) == sorted(prefixes)
    assert all(prefix[1:].startswith(query) for query, below in chosen.queries.items() for prefix in below)


@given(PREFIXES, st.data())
def test_what_may_not_be_listed_is_never_asked_for(prefixes, data):
    parts = sorted({prefix[1:end] for prefix in prefixes for end in range(1, len(prefix) + 1)})
    denied = set(data.draw(st.lists(st.sampled_from(parts), unique=True)))
    chosen = cover(prefixes, {}, denied)
    assert denied.isdisjoint(chosen.queries)
    asked = [prefix for below in chosen.queries.values() for prefix in below]
    assert sorted([*asked, *chosen.denied]) == sorted(prefixes)


def test_no_query_ends_in_what_a_url_takes_for_a_step():
    names = [f"/a/{dots}{name}" for dots in (".", "..") for name in "bcdefghijk"]
    assert cover(names, {}).queries == {"a/": tuple(sorted(names))}
    assert set(cover([*names, "/b"], {}).queries) == {"a/", "b"}


def test_a_prefix_that_may_not_be_listed_is_asked_for_with_its_slash_and_then_given_up():
    assert cover(["/a", "/b"], {}, {"a"}).queries == {"a/": ("/a",), "b": ("/b",)}
    given_up = cover(["/a", "/b"], {}, {"a", "a/"})
    assert (given_up.queries, given_up.denied) == ({"b": ("/b",)}, ("/a",))


# --- what differs ----------------------------------------------------------------------------------------------------

NAMES = st.text('ab/\\"}{,[]', max_size=6) | st.sampled_from(['},{"LockIndex":', "},{", '"LockIndex":0'])
ITEMS = st.dictionaries(NAMES, st.integers(1, 30), max_size=8)


def body(keys):
    items = [{"LockIndex": 0, "Key": key, "Value": "MQ==", "ModifyIndex": at} for key, at in sorted(keys.items())]
    return json.dumps(items, separators=(",", ":")).encode()


def parsed(part):
    return {item["Key"]: item["ModifyIndex"] for item in json.loads(part)}


@given(ITEMS, ITEMS, ITEMS)
def test_an_answer_is_the_one_before_with_what_differs(both, before, after):
    before, after = both | before, both | after
    gone, new = map(parsed, differing(body(before), body(after)))
    assert {key: at for key, at in before.items() if key not in gone} | new == after


def test_one_key_of_many_that_changes_is_almost_all_that_differs():
    before = {f"svc/{number:04}": number + 1 for number in range(2000)}
    gone, new = differing(body(before), body(before | {"svc/1000": 5000}))
    assert parsed(new) == {"svc/1000": 5000}
    assert parsed(gone) == {"svc/1000": 1001}
    assert differing(b"", body(before)) == (b"", body(before))


# --- what is new -----------------------------------------------------------------------------------------------------


def blocking(known=(), index=0):
    return BlockingQuery("a", ["/a"], dict(known), index)


def news(follower, at, keys):
    return {key: one for changes in follower.take(Answer(at, keys)) for key, one in changes.keys.items()}


def test_an_answer_brings_what_was_put_and_what_is_gone():
    follower = blocking({"/a/x": 3, "/a/y": 4, "/a/z": 5}, 5)
    assert news(follower, 9, {"/a/x": (3, b"1"), "/a/y": (8, b"2"), "/a/new": (7, None)}) == {
        "/a/y": (8, "2"),
        "/a/new": (7, ""),
        "/a/z": (9, None),
    }
    assert follower.index == 9


def test_the_same_index_and_the_same_keys_are_no_news():
    follower = blocking({"/a/x": 3}, 3)
    assert follower.take(Answer(3, {"/a/x": (3, b"1")})) == []


def test_an_index_that_moves_for_keys_of_others_is_no_news():
    follower = blocking({"/a/x": 3}, 3)
    assert follower.take(Answer(50, {"/a/x": (3, b"1"), "/ab/x": (50, b"1")})) == []
    assert follower.take(Answer(60, {"/a/x": (3, b"1")})) == []
    assert follower.index == 60


def test_an_index_that_goes_back_over_the_same_keys_is_followed_down():
    follower = blocking({"/a/x": 3}, 50)
    assert follower.take(Answer(10, {"/a/x": (3, b"1")})) == []
    assert follower.index == 10
    assert news(follower, 51, {"/a/x": (51, b"2")}) == {"/a/x": (51, "2")}


@given(st.lists(ITEMS, min_size=1, max_size=6))
def test_an_answer_that_is_compared_with_the_one_before_brings_the_same_news_as_a_whole_one(answers):
    whole, compared, keys = blocking(), blocking(), {}
    for turn, found in enumerate(answers, 1):
        # Every other key is as it was.
        keys = {
            f"/a/{key}": keys.get(f"/a/{key}" if at % 2 else "", (turn * 100 + at, b"1")) for key, at in found.items()
        }
        text = body({key: modified for key, (modified, _) in keys.items()})
        answer = Answer(turn * 1000, keys, None, text)
        if compared.last:
            gone, new = (parsed(part) for part in differing(compared.last, text))
            answer = Answer(turn * 1000, {key: keys[key] for key in new}, gone.keys(), text)
        assert compared.take(answer) == whole.take(Answer(turn * 1000, keys))


def test_an_answer_that_is_too_large_to_be_stored_is_not_compared_with(monkeypatch):
    monkeypatch.setattr("confpy.stores.consul.wire.COMPARED_BYTES", 10)
    follower = blocking()
    follower.take(Answer(3, {"/a/x": (3, b"1")}, None, b"[" + b" " * 10 + b"]"))
    assert follower.last == b""


@pytest.mark.parametrize("keys", [{}, {"/a/x": (2, b"old")}, {"/a/x": (3, b"1"), "/a/y": (9, b"")}])
def test_an_index_that_goes_back_over_other_keys_means_to_read_again(keys):
    with pytest.raises(WatchLost, match="went back"):
        blocking({"/a/x": 3}, 50).take(Answer(10, keys))


def test_a_query_that_ends_early_with_nothing_new_is_asked_once_without_waiting():
    follower = blocking({"/a/x": 3}, 3)
    same = Answer(3, {"/a/x": (3, b"1")})
    assert (follower.take(same, early=True), follower.since) == ([], 0)
    assert (follower.take(same), follower.since) == ([], 3)
    assert (follower.take(Answer(7, same.keys), early=True), follower.since) == ([], 7)
    follower.take(Answer(7, same.keys), early=True)
    with pytest.raises(WatchLost, match="went back"):
        follower.take(Answer(2, {"/a/x": (2, b"0")}))


def test_a_key_whose_own_index_goes_back_means_to_read_again():
    with pytest.raises(WatchLost, match="went back"):
        blocking({"/a/x": 30}, 30).take(Answer(70, {"/a/x": (20, b"old"), "/a/y": (70, b"")}))


def test_a_late_stream_gets_deletions_that_were_reported_to_another():
    reported = Reported(10, {"/a/x": 3, "/a/y": 4})
    reported.record(12, {"/a/x": (12, None), "/a/y": (11, "new")})
    assert reported.at(12) == {"/a/y": 11}
    assert reported.at(10) == {"/a/x": 0}
    follower = blocking(reported.at(10))
    assert news(follower, 12, {"/a/y": (11, b"new")}) == {"/a/x": (12, None), "/a/y": (11, "new")}


def test_a_read_that_is_older_than_what_a_stream_reported_takes_nothing_of_it_back():
    reported = Reported(10, {"/a/x": 3, "/a/y": 4})
    reported.record(20, {"/a/x": (20, None), "/a/new": (15, "1")})
    reported.read(12, {"/a/x": 3, "/a/y": 4})
    assert (reported.revision, reported.keys) == (20, {"/a/y": 4, "/a/new": 15})


def test_deletions_beyond_memory_mean_to_read_again(monkeypatch):
    monkeypatch.setattr(consul_wire, "REMEMBERED", 2)
    reported = Reported(10, {})
    reported.record(20, {f"/a/{number}": (20, None) for number in range(3)})
    assert reported.at(20) == {}
    with pytest.raises(WatchLost, match="deletions after index 10"):
        reported.at(10)


@pytest.mark.parametrize(
    ("at", "keys", "back"),
    [(10, {"/a/x": 3}, False), (12, {"/a/x": 11, "/a/y": 12}, False), (9, {"/a/x": 3}, True), (12, {}, True)],
)
def test_an_answer_contradicts_what_it_lacks_or_what_is_newer(at, keys, back):
    answer = Answer(at, {key: (modified, b"") for key, modified in keys.items()})
    assert contradicts(answer, [Reported(10, {"/a/x": 3}), Reported(5, {})]) is back


@pytest.mark.parametrize(
    ("known", "silence", "fresh"),
    [("true", "0", True), ("true", "2000", True), ("true", "2001", False), ("false", "0", False), ("true", "", False)],
)
def test_only_a_server_that_heard_its_leader_a_moment_ago_is_believed(known, silence, fresh):
    assert is_fresh({"X-Consul-KnownLeader": known, "X-Consul-LastContact": silence}) is fresh
    assert not is_fresh({})


# --- values and refusals ---------------------------------------------------------------------------------------------


def test_values_are_any_bytes_and_placeholders_are_empty():
    assert to_text(bytes(range(256))).encode("utf-8", "surrogateescape") == bytes(range(256))
    assert to_text(None) == ""


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, "Permission denied", "may list the prefix"),
        (403, "ACL not found", "auth_token"),
        (401, "", "basic_auth"),
        (500, "No path to datacenter", "datacenter"),
        (500, "No cluster leader", "No cluster leader"),
        (400, "Client sent an HTTP request to an HTTPS server.", "https://"),
        (302, "", "not as Consul does"),
        (502, "<html><title>502 Bad Gateway</title></html>", "502"),
    ],
)
def test_what_consul_refuses_is_said_with_what_to_do(status, body, said):
    error = error_of(status, body.encode())
    assert said in str(error)
    assert isinstance(error, StoreError)
    assert isinstance(error, AccessDenied) == (body == "Permission denied")


def test_a_consul_that_took_the_place_of_another_is_known_by_its_index_after_the_stream_broke():
    blocking = BlockingQuery("app/", ["/app"], {"/app/a": 90}, 0, cursor=113)
    with pytest.raises(WatchLost, match="replaced"):
        blocking.take(Answer(15, {}))
    blocking = BlockingQuery("app/", ["/app"], {"/app/a": 90}, 0, cursor=113)
    assert blocking.take(Answer(90, {"/app/a": (90, b"1")})) == [], "an index alone goes back when tombstones go"
    assert len(blocking.take(Answer(114, {}))) == 1
