"""What is asked of etcd's gateway, and how its answers are read."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

import pytest

from confpy.errors import AccessDenied, NoApi, StoreError, WatchLost
from confpy.http.body import TooLarge
from confpy.keys.snapshot import Changes, Invalidated
from confpy.stores.etcd import v3_reading as etcd3_reading
from confpy.stores.etcd.v3_permissions import Denied, Grants, to_bytes
from confpy.stores.etcd.v3_reading import PAGE_KEYS, Reading
from confpy.stores.etcd.v3_wire import (
    Compacted,
    LoggedOut,
    StatusRequest,
    Watches,
    error_of,
    to_text,
)

HEADER = {"cluster_id": "77", "member_id": "1", "revision": "9", "raft_term": "2"}


def b64(text):
    return b64encode(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text).decode()


def pair(key, value="v", revision=5):
    return {"key": b64(key), "value": b64(value), "mod_revision": str(revision)}


def answer(*ranges):
    return {"header": HEADER, "succeeded": True, "responses": [{"response_range": found} for found in ranges]}


def found(*pairs, more=False):
    """A range's answer; etcd leaves out what is zero."""
    return {"kvs": list(pairs), "count": str(len(pairs)), **({"more": True} if more else {})} if pairs else {}


def ranges(request):
    """The ranges of a transaction: (first key, end, the rest of the request)."""
    out = []
    for operation in request["success"]:
        fields = dict(operation["request_range"])
        out.append((b64decode(fields.pop("key")), b64decode(fields.pop("range_end", "")), fields))
    return out


@pytest.mark.parametrize("data", [b"/a", "/日本/é".encode(), bytes(range(256)), b""])
def test_any_bytes_survive_as_text(data):
    assert to_bytes(to_text(b64(data))) == data


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_thousand_prefixes_that_lie_far_apart_take_eight_transactions_at_one_revision():
    reading = Reading([f"/{number}/s" for number in range(1000)])
    sizes, revisions = [], []
    while (request := reading.next_request()) is not None:
        sizes.append(len(request["success"]))
        revisions.append({fields.get("revision") for _, _, fields in ranges(request)})
        reading.take(answer(*[found(pair("/x"))] * len(request["success"])), 1000)
    assert sizes == [128] * 7 + [104]
    assert revisions == [{None}] + [{"9"}] * 7


def test_a_prefix_is_itself_and_all_below_it_and_no_neighbour():
    reading = Reading(["/a/b"])
    ((start, end, fields),) = ranges(reading.next_request())
    assert (start, end, fields) == (b"/a/b", b"/a/b0", {"limit": str(PAGE_KEYS)})
    reading.take(answer(found(pair("/a/b", "1"), pair("/a/b-x"), pair("/a/b.y"), pair("/a/b/c", ""))), 400)
    assert reading.next_request() is None
    snapshot = reading.snapshot()
    assert snapshot.listings["/a/b"].keys == {"/a/b": "1", "/a/b/c": ""}
    assert snapshot.listings["/a/b"].revision == 9
    assert snapshot.identity == "77"


def test_the_root_is_every_key():
    reading = Reading(["/"])
    assert ranges(reading.next_request())[0][:2] == (b"\0", b"\0")
    reading.take(answer(found(pair("/a"), pair("b"))), 200)
    assert set(reading.snapshot().listings["/"].keys) == {"/a", "b"}


def test_a_page_goes_on_after_its_last_key_and_holds_the_revision():
    reading = Reading(["/a", "/b"])
    reading.next_request()
    reading.take(answer(found(pair("/a/1"), more=True), found()), 100)
    assert [(start, end, fields["revision"]) for start, end, fields in ranges(reading.next_request())] == [
        (b"/a/1\0", b"/a0", "9")
    ]
    reading.take(answer(found(pair("/a/2"))), 100)
    assert reading.next_request() is None
    assert list(reading.snapshot().listings["/a"].keys) == ["/a/1", "/a/2"]


def test_a_page_that_does_not_go_on_is_no_answer_of_etcd():
    reading = Reading(["/a"])
    reading.next_request()
    reading.take(answer(found(pair("/a/b"), more=True)), 100)
    reading.next_request()
    with pytest.raises(StoreError, match="not as etcd v3 does"):
        reading.take(answer(found(pair("/a/b"), more=True)), 100)


@pytest.mark.parametrize(("size", "fit"), [(300_000, 3), (100, 8)])
def test_a_read_has_a_bound_in_bytes_and_in_keys(monkeypatch, size, fit):
    monkeypatch.setattr(etcd3_reading, "READ_BYTES", 1 << 20)
    reading = Reading(["/a"])

    def turn(page):
        reading.next_request()
        reading.take(answer(found(*(pair(f"/a/{page}/{number:03}") for number in range(1000)), more=True)), size)

    for page in range(fit):
        turn(page)
    with pytest.raises(StoreError, match=r"larger than 1 MB.*below /a:"):
        turn(fit)


def test_of_many_strangers_one_page_is_read_and_the_rest_skipped():
    reading = Reading(["/a"])
    reading.next_request()
    reading.take(answer(found(pair("/a"), pair("/a-1"), pair("/a-2"), more=True)), 100)
    assert ranges(reading.next_request())[0][:2] == (b"/a/", b"/a0")


def test_pages_follow_the_size_of_the_values():
    reading = Reading(["/a"])
    reading.next_request()
    reading.take(answer(found(pair("/a/1"), pair("/a/2"), more=True)), 2 << 20)
    assert ranges(reading.next_request())[0][2]["limit"] == "4"  # 1 MB each


def test_a_page_that_was_too_large_is_asked_again_smaller_until_one_key_remains():
    reading = Reading(["/a", "/b", "/c"], ["/"])
    sizes = []
    while True:
        asked = ranges(reading.next_request())
        limits = [int(fields["limit"]) for _, _, fields in asked if "limit" in fields]
        sizes.append(sum(limits))
        assert (b"\0", b"\0", {"count_only": True}) in asked
        if not reading.shrink():
            break
    assert sizes[0] > sizes[-1] == 1
    while (request := reading.next_request()) is not None:
        reading.take(answer(*[found(pair(start)) for start, _, _ in ranges(request)]), 100)
    assert all(len(listing.keys) == 1 for listing in reading.snapshot().listings.values())


def test_covers_are_counted_in_the_room_that_is_left():
    reading = Reading([f"/s/{number}" for number in range(127)], ["/s", "/t"])
    request = reading.next_request()
    assert len(request["success"]) == 128
    assert ranges(request)[-1] == (b"/s/", b"/s0", {"count_only": True})
    reading.take(answer(*[found()] * 127, {"count": "12"}), 100)
    assert reading.next_request() is None
    assert reading.snapshot().counts == {"/s": 12}


def test_nothing_to_read_asks_nothing():
    assert Reading([]).next_request() is None


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{}", '"x"', '{"header": {}}'),
        '{"header": {"revision": "x", "cluster_id": "1"}, "responses": []}',
        '{"header": {"revision": 1e999, "cluster_id": "1"}, "responses": []}',
    ],
)
def test_an_answer_that_is_none_is_a_store_error(text):
    reading, query = Reading(["/a"]), StatusRequest(["/a"])
    reading.next_request()
    query.next_request()
    with pytest.raises(StoreError, match="not as etcd"):
        reading.take(json.loads(text), len(text))
    with pytest.raises(StoreError, match="not as etcd"):
        query.take(json.loads(text))


def test_another_cluster_in_the_middle_of_a_read_is_an_error():
    reading = Reading(["/a"])
    reading.next_request()
    reading.take(answer(found(pair("/a/1"), more=True)), 100)
    reading.next_request()
    with pytest.raises(StoreError, match="another cluster"):
        reading.take({**answer(found()), "header": {**HEADER, "cluster_id": "78"}}, 100)


# --- asking ----------------------------------------------------------------------------------------------------------


def test_an_ask_counts_what_a_read_would_bring():
    query = StatusRequest(["/a", "/"])
    request = ranges(query.next_request())
    assert [(start, end) for start, end, _ in request] == [(b"/a", b""), (b"/a/", b"/a0"), (b"\0", b"\0")]
    assert all(fields["keys_only"] and fields["limit"] == "1" for _, _, fields in request)
    query.take(
        answer(
            {"count": "1", "kvs": [pair("/a", revision=3)]}, {"count": "4", "kvs": [pair("/a/x", revision=7)]}, found()
        )
    )
    assert query.next_request() is None
    status = query.status()
    assert (status.identity, status.revision) == ("77", 9)
    assert status.newest == {"/a": 7, "/": 0}
    assert status.counts == {"/a": 5, "/": 0}


# --- watching --------------------------------------------------------------------------------------------------------


def line(watch=0, *events, **fields):
    """A line of the stream; like the gateway's, without zero values."""
    result = {"header": HEADER, **({"watch_id": str(watch)} if watch else {}), **fields}
    if events:
        result["events"] = list(events)
    return json.dumps({"result": result}).encode()


def put(key, value, revision):
    return {"kv": pair(key, value, revision)}


def delete(key, revision):
    return {"type": "DELETE", "kv": {"key": b64(key), "mod_revision": str(revision)}}


@pytest.fixture
def watches():
    opened = Watches({"/a": 4, "/b": 9}, "77")
    opened.feed(line(0, created=True))
    assert not opened.established
    opened.feed(line(1, created=True))
    assert opened.established
    return opened


def test_all_watches_go_in_one_body_each_from_behind_its_cursor():
    lines = [json.loads(text)["create_request"] for text in Watches({"/a": 4, "/": 9}).body().splitlines()]
    assert [(b64decode(one["key"]), b64decode(one["range_end"]), one["start_revision"]) for one in lines] == [
        (b"/a", b"/a0", "5"),
        (b"\0", b"\0", "10"),
    ]
    assert all(one["fragment"] is True for one in lines)


def test_what_came_is_one_change_for_each_watch_and_the_last_word_on_each_key(watches):
    watches.feed(line(0, put("/a/x", "1", 5), put("/a/y", "2", 6)))
    watches.feed(line(1, put("/b", "3", 12)))
    watches.feed(line(0, delete("/a/x", 7), put("/a-stranger", "no", 8)))
    assert watches.take() == [
        Changes("/a", 7, {"/a/x": (7, None), "/a/y": (6, "2")}),
        Changes("/b", 12, {"/b": (12, "3")}),
    ]
    assert watches.take() == []


def test_strangers_alone_are_no_change(watches):
    watches.feed(line(0, put("/a-b", "1", 5)))
    assert watches.take() == []


def test_fragments_are_joined_before_anybody_sees_them(watches):
    watches.feed(line(0, put("/a/1", "1", 5), fragment=True))
    watches.feed(line(1, put("/b/1", "2", 10)))
    assert watches.take() == [Changes("/b", 10, {"/b/1": (10, "2")})]
    watches.feed(line(0, put("/a/2", "1", 5)))
    assert watches.take() == [Changes("/a", 5, {"/a/1": (5, "1"), "/a/2": (5, "1")})]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"canceled": True, "compact_revision": "8"}, r"forgotten .* compacted at 8"),
        ({"header": {**HEADER, "cluster_id": "78"}}, "another etcd cluster"),
    ],
)
def test_a_watch_that_cannot_go_on_from_its_cursor_is_lost(watches, fields, match):
    with pytest.raises(WatchLost, match=match):
        watches.feed(line(0, **fields))


def test_a_store_that_is_behind_the_cursor_is_lost():
    with pytest.raises(WatchLost, match="older revision"):
        Watches({"/a": 10}, "77").feed(line(0, created=True))


def test_a_watch_that_is_refused_says_so_and_names_its_prefix():
    refused = line(-1, created=True, canceled=True, cancel_reason="etcdserver: permission denied")
    with pytest.raises(AccessDenied, match="permission denied") as caught:
        Watches({"/a": 10}, "77").feed(refused)
    assert caught.value.where["prefix"] == "/a"


@pytest.mark.parametrize(
    "text",
    [
        '{"error": {"grpc_code": 14, "http_code": 503, "message": "transport is closing"}}',
        '{"error": {"code": 14, "message": "rpc error: code = Unavailable desc = transport is closing"}}',
        '{"error": "transport is closing"}',
    ],
)
def test_an_error_line_is_an_error_that_can_be_resumed_from(watches, text):
    with pytest.raises(StoreError, match="etcd says: transport is closing") as caught:
        watches.feed(text.encode())
    assert not isinstance(caught.value, WatchLost)


def test_events_that_the_gateway_cannot_pass_on_mean_to_read_again(watches):
    error = {"error": {"grpc_code": 8, "message": "grpc: received message larger than max (9 vs. 4194304)"}}
    with pytest.raises(WatchLost, match="larger"):
        watches.feed(json.dumps(error).encode())


@pytest.mark.parametrize("text", [b"<html>", b"[]", b'{"result": 1}', b'{"result": {"header": {}}}', b"\xff"])
def test_a_line_that_is_none_of_etcds_is_an_error(watches, text):
    with pytest.raises(StoreError, match="not as etcd"):
        watches.feed(text)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "text", "kind", "match"),
    [
        (404, b"404 page not found\n", NoApi, "not as etcd v3"),
        (200, b"<html>\n<body>", StoreError, "not as etcd v3"),
        (400, b"Client sent an HTTP request to an HTTPS server.\n", StoreError, "speaks TLS only"),
        (503, b'{"error":"etcdserver: no leader","code":14}', StoreError, "etcd says: no leader"),
        (403, b'{"error":"etcdserver: permission denied","code":7}', Denied, "permission denied"),
        (429, b'{"error":"grpc: received message larger than max (5 vs. 4)","code":8}', TooLarge, "passes on"),
        (400, b'{"code":11,"message":"mvcc: required revision has been compacted"}', Compacted, "history"),
    ],
)  # fmt: skip
def test_a_refusal_is_said_in_one_line(status, text, kind, match):
    error = error_of(status, text)
    assert type(error) is kind
    assert match in str(error)
    assert "\n" not in str(error)


# --- users -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "match"),
    [
        (b'{"error":"etcdserver: invalid auth token","code":16}', LoggedOut, "invalid auth token"),
        (b'{"error":"etcdserver: user name is empty","code":3}', LoggedOut, "user name is empty"),
        (b'{"message":"auth: revision in header is old","code":3}', LoggedOut, "is old"),
        (b'{"code":3,"message":"etcdserver: revision of auth store is old"}', LoggedOut, "is old"),
        (b'{"message":"etcdserver: authentication failed, invalid user ID or password"}', AccessDenied, "wrong"),
    ],
)  # fmt: skip
def test_a_missing_login_is_distinguished_from_a_wrong_one(text, kind, match):
    error = error_of(400, text)
    assert type(error) is kind
    assert match in str(error)


def granted(*ranges, kind="READ"):
    """A user's grants; a range is its first key and its end."""
    return Grants.of(
        "web", ["r"], [{"permType": kind, "key": b64(first), "range_end": b64(end)} for first, end in ranges]
    )


@pytest.mark.parametrize(
    ("ranges", "wanted", "allowed"),
    [
        ([("a", "c")], (b"a", b"c"), True),
        ([("a", "c")], (b"b", b""), True),
        ([("a", "c")], (b"c", b""), False),
        ([("a", "b"), ("b", "c")], (b"a", b"c"), True),
        ([("a", "b"), ("a", "c")], (b"b", b"c"), True),
        ([("a", "b"), ("ba", "c")], (b"a", b"c"), False),
        ([("a", "")], (b"a", b""), True),
        ([("a", "")], (b"a", b"b"), False),
        ([("b", "\0")], (b"x", b"\0"), True),
        ([("b", "\0"), ("a", "c")], (b"a", b"\0"), True),
        ([("a", "c")], (b"a", b"\0"), False),
        ([], (b"a", b""), False),
    ],
)  # fmt: skip
def test_a_range_is_allowed_where_the_grants_together_hold_it(ranges, wanted, allowed):
    assert granted(*ranges).allow(wanted) == allowed
    assert granted(*ranges, kind="READWRITE").allow(wanted) == allowed
    assert not granted(*ranges, kind="WRITE").allow(wanted)


def test_etcd_leaves_out_what_is_read_and_a_range_of_one_key():
    assert Grants.of("web", ["r"], [{"key": b64("/a")}]).readable("/a") == ((b"/a", b""),)


def test_a_read_that_was_refused_goes_on_with_what_is_granted_at_the_same_revision():
    reading = Reading([f"/s/{number:03}/x" for number in range(130)] + ["/t"], ["/", "/s"])
    reading.next_request()
    reading.take(answer(*[found(pair("/x"))] * 128), 100)
    assert len(reading.next_request()["success"]) == 5
    reading.restrict(granted(("/s/", "/s0")))
    asked = ranges(reading.next_request())
    assert [start for start, _, _ in asked] == [b"/s/128/x", b"/s/129/x", b"/s/"]
    assert {fields["revision"] for _, _, fields in asked} == {"9"}
    reading.take(answer(found(), found(), {"count": "130"}), 100)
    assert reading.next_request() is None
    snapshot = reading.snapshot()
    assert [prefix for prefix, listing in snapshot.listings.items() if listing.error] == ["/t"]
    assert snapshot.counts == {"/s": 130}


def test_a_prefix_in_two_watches_is_read_again_when_its_key_changes():
    watches = Watches({"/a": 5, "/b": 5}, grants=granted(("/a", ""), ("/a/", "/a0"), ("/b", "/c")))
    requests = [json.loads(line)["create_request"] for line in watches.body().splitlines()]
    assert [b64decode(request["key"]) for request in requests] == [b"/a", b"/a/", b"/b"]
    for number in range(3):
        assert not watches.established
        watches.feed(json.dumps({"result": {"header": HEADER, "watch_id": str(number), "created": True}}).encode())
    event = {"result": {"header": HEADER, "events": [{"kv": pair("/a", revision=9)}]}}
    watches.feed(json.dumps(event).encode())  # etcd leaves the number 0 out
    event["result"] |= {"watch_id": "1", "events": [{"kv": pair("/a/x", revision=8)}]}
    watches.feed(json.dumps(event).encode())
    assert watches.take() == [Changes("/a", 8, {"/a/x": (8, "v")}), Invalidated()]
    assert watches.take() == []
