"""What is asked of etcd v2, and how its answers are read."""

from __future__ import annotations

import json

import pytest

from confpy.errors import AccessDenied, NoApi, StoreError, WatchLost
from confpy.keys.snapshot import Changes
from confpy.stores.etcd.v2_wire import READ_HEADS, WATCH_HEADS, LongPoll, Reading, error_of, heads, lists, url_path

HEADERS = {"X-Etcd-Cluster-Id": "c1", "X-Etcd-Index": "9"}


def leaf(key, value="v"):
    return {"key": key, "value": value, "modifiedIndex": 5, "createdIndex": 5}


def folder(key, *nodes):
    return {"key": key, "dir": True, "nodes": list(nodes), "modifiedIndex": 4, "createdIndex": 4}


def got(node):
    return json.dumps({"action": "get", "node": node}).encode()


def error(code, message="Some words", cause="/a"):
    return json.dumps({"errorCode": code, "message": message, "cause": cause, "index": 9}).encode()


# --- covering many prefixes ------------------------------------------------------------------------------------------


def test_a_small_number_of_prefixes_is_read_unchanged():
    assert heads(["/b", "/a/x", "/a"], 16) == ("/a", "/b")


def test_many_prefixes_are_asked_for_by_their_nearest_folders():
    services = [f"/services/{number}/web" for number in range(1000)]
    assert heads([*services, "/config/app"], WATCH_HEADS) == ("/config", "/services")
    assert heads(services, WATCH_HEADS) == ("/services",)
    assert len(heads([f"/{number}/x" for number in range(READ_HEADS)], READ_HEADS)) == READ_HEADS
    assert heads([f"/{number}" for number in range(17)], 16) == ("/",)


def test_a_folder_that_was_refused_is_not_asked_for_but_what_is_below_it():
    prefixes = [f"/a/{number}" for number in range(20)] + ["/b/x/y"]
    assert heads(prefixes, 16, {"/a", "/"}) == tuple(sorted(prefixes))


def test_nothing_is_asked_for_from_above_a_hidden_name():
    prefixes = ["/a/_hidden/x", "/a/_hidden/y", "/a/z", "/_top/x"]
    assert heads(prefixes, 3) == ("/_top/x", "/a/_hidden", "/a/z")
    assert heads(prefixes, 1) == ("/_top/x", "/a/_hidden", "/a/z"), "above them it would not be fewer"
    assert heads(["/a", "/a/_hidden"], 16) == ("/a", "/a/_hidden")
    assert lists("/a/_hidden", "/a/_hidden/x")
    assert not lists("/a/_hidden", "/a/_hidden/x/_y")
    assert not lists("/", "/_top")


@pytest.mark.parametrize(
    ("key", "path"), [("/", "/"), ("/ż ó/x?y", "/%C5%BC%20%C3%B3/x%3Fy"), ("/a\udcff", "/a%FF"), ("/a%2f", "/a%252f")]
)
def test_a_key_is_written_into_an_url(key, path):
    assert url_path(key, wait="true") == f"/v2/keys{path}?wait=true"


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_read_brings_leaves_and_empty_folders_per_prefix():
    reading = Reading(["/a", "/b", "/a/x"], set())
    assert reading.next_path() == "/a"
    reading.take(200, HEADERS, got(folder("/a", folder("/a/x", leaf("/a/x/1", "")), folder("/a/e"))))
    assert reading.next_path() == "/b"
    reading.take(200, HEADERS | {"X-Etcd-Index": "12"}, got(leaf("/b", "own")))
    assert reading.next_path() is None
    snapshot = reading.snapshot()
    assert snapshot.identity == "c1"
    assert {prefix: dict(one.keys) for prefix, one in snapshot.listings.items()} == {
        "/a": {"/a/x/1": ""},
        "/b": {"/b": "own"},
        "/a/x": {"/a/x/1": ""},
    }
    assert [one.revision for one in snapshot.listings.values()] == [9, 12, 9]
    assert [set(one.folders) for one in snapshot.listings.values()] == [{"/a/e"}, set(), set()]


def test_a_prefix_that_is_not_there_has_neither_keys_nor_folders_and_no_error():
    reading = Reading(["/none", "/"], set())
    reading.take(200, HEADERS, got({"dir": True}))
    listings = reading.snapshot().listings
    assert (listings["/none"].keys, listings["/none"].folders, listings["/none"].error) == ({}, set(), None)
    assert listings["/"].folders == {"/"}
    alone = Reading(["/none"], set())
    alone.take(404, HEADERS, error(100, "Key not found", "/none"))
    assert alone.snapshot().listings["/none"].revision == 9
    assert alone.snapshot().listings["/none"].error is None


def test_a_refused_prefix_is_the_error_of_its_listing():
    reading = Reading(["/a", "/b"], set())
    reading.take(401, HEADERS, error(110))
    reading.take(200, HEADERS, got(folder("/b", leaf("/b/1"))))
    listings = reading.snapshot().listings
    assert isinstance(listings["/a"].error, AccessDenied)
    assert listings["/b"].keys == {"/b/1": "v"}


def test_a_refused_folder_is_split_into_what_was_wanted_and_remembered():
    prefixes = [f"/s/{number:03}" for number in range(READ_HEADS + 1)]
    refused: set[str] = set()
    reading = Reading(prefixes, refused)
    assert reading.next_path() == "/s"
    reading.take(403, {}, b"no")
    asked = []
    while (path := reading.next_path()) is not None:
        asked.append(path)
        reading.take(200, HEADERS, got(folder(path, leaf(f"{path}/k"))))
    assert asked == prefixes
    assert refused == {"/s"}
    assert all(len(one.keys) == 1 for one in reading.snapshot().listings.values())


def test_another_cluster_in_the_middle_of_a_read_is_an_error():
    reading = Reading(["/a", "/b"], set())
    reading.take(200, HEADERS, got(leaf("/a")))
    with pytest.raises(StoreError, match="another cluster"):
        reading.take(200, HEADERS | {"X-Etcd-Cluster-Id": "c2"}, got(leaf("/b")))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"node": []}', b'{"node": {"key": "/a"}}', b"<html>", b"\xff"])
def test_an_answer_that_is_none_is_a_store_error(text):
    with pytest.raises(StoreError, match="not as etcd v2"):
        Reading(["/a"], set()).take(200, HEADERS, text)
    with pytest.raises(StoreError, match="not as etcd v2"):
        Reading(["/a"], set()).take(200, {}, got(leaf("/a")))
    with pytest.raises(StoreError, match="not as etcd v2"):
        LongPoll("/a", {"/a": 1}).feed(text)


@pytest.mark.parametrize(
    ("status", "text", "kind", "says"),
    [
        (400, error(401, "The event in requested index is outdated and cleared"), WatchLost, "forgotten"),
        (401, error(110, "The request requires user authentication"), AccessDenied, "requires user"),
        (403, b"<html>", AccessDenied, "HTTP 403"),
        (500, error(300, "Raft Internal Error", "etcdserver: request timed out"), StoreError, "request timed out"),
        (404, b"404 page not found\n", NoApi, "--enable-v2"),
        (400, b"Client sent an HTTP request to an HTTPS server.\n", StoreError, "https://"),
        (502, b"<html>", StoreError, "not as etcd v2"),
    ],
)
def test_a_refusal_says_what_it_is(status, text, kind, says):
    said = error_of(status, text)
    assert type(said) is kind
    assert says in str(said)


# --- waiting ---------------------------------------------------------------------------------------------------------


def event(action, key, revision, *, value=None, before=None, is_folder=False):
    node = {"key": key, "modifiedIndex": revision, "createdIndex": 1}
    node |= {"dir": True} if is_folder else {"value": value} if value is not None else {}
    return json.dumps({"action": action, "node": node} | ({"prevNode": before} if before else {})).encode()


def reported(waiting, *events):
    for one in events:
        waiting.feed(one)
    return waiting.take()


def test_each_wait_begins_after_the_last_event():
    waiting = LongPoll("/a", {"/a/x": 7, "/a/y": 5})
    assert waiting.next_path() == "/v2/keys/a?wait=true&recursive=true&waitIndex=6"
    waiting.feed(event("set", "/a/z", 20, value="not wanted"))
    assert waiting.next_path().endswith("waitIndex=21")
    assert not waiting
    assert waiting.take() == []


def test_what_a_prefix_has_seen_is_not_reported_again():
    waiting = LongPoll("/a", {"/a/x": 7, "/a/y": 5})
    assert reported(waiting, event("set", "/a/x", 7, value="1"), event("set", "/a/y", 6, value="2")) == [
        Changes("/a/y", 6, {"/a/y": (6, "2")})
    ]


@pytest.mark.parametrize("action", ["set", "create", "update", "compareAndSwap"])
def test_a_value_is_reported(action):
    waiting = LongPoll("/a", {"/a": 5})
    assert reported(waiting, event(action, "/a/x", 6, value="")) == [Changes("/a", 6, {"/a/x": (6, "")})]


@pytest.mark.parametrize("action", ["delete", "expire", "compareAndDelete"])
def test_a_key_that_went_leaves_its_folder(action):
    waiting = LongPoll("/", {"/a": 5, "/b/k": 5})
    changes = reported(
        waiting, event(action, "/a/x", 6, before=leaf("/a/x")), event(action, "/b/k", 7, before=leaf("/b/k"))
    )
    assert changes == [
        Changes("/a", 6, {"/a/x": (6, None)}, folders={"/a": 6}),
        Changes("/b/k", 7, {"/b/k": (7, None)}),
    ]


@pytest.mark.parametrize("action", ["delete", "expire"])
def test_a_folder_that_went_takes_all_below_it_also_from_above_the_prefix(action):
    waiting = LongPoll("/a", {"/a/b": 5, "/a/bc": 5, "/a/c/d/e": 5})
    gone = event(action, "/a/b/x", 6, before=folder("/a/b/x"), is_folder=True)
    assert reported(waiting, gone) == [Changes("/a/b", 6, {}, deleted={"/a/b/x": 6}, folders={"/a/b": 6})]
    gone = event(action, "/a/c", 7, before=folder("/a/c"), is_folder=True)
    assert reported(waiting, gone) == [Changes("/a/c/d/e", 7, {}, deleted={"/a/c/d/e": 7})]
    gone = event(action, "/a/b", 8, before=folder("/a/b"), is_folder=True)
    assert reported(waiting, gone) == [Changes("/a/b", 8, {}, deleted={"/a/b": 8})]


def test_what_came_before_a_folder_went_is_forgotten_and_what_came_after_stays():
    waiting = LongPoll("/a", {"/a": 5})
    assert reported(
        waiting,
        event("set", "/a/x/1", 6, value="old"),
        event("set", "/a/y", 7, value="stays"),
        event("delete", "/a/x", 8, before=folder("/a/x"), is_folder=True),
        event("set", "/a/x/2", 9, value="new"),
    ) == [Changes("/a", 9, {"/a/y": (7, "stays"), "/a/x/2": (9, "new")}, deleted={"/a/x": 8}, folders={"/a": 8})]


def test_a_leaf_that_becomes_a_folder_is_no_key_any_more():
    waiting = LongPoll("/a", {"/a": 5})
    became = event("set", "/a/x", 6, before=leaf("/a/x"), is_folder=True)
    assert reported(waiting, became) == [Changes("/a", 6, {"/a/x": (6, None)}, folders={"/a/x": 6})]
    refreshed = event("update", "/a/x", 7, before=folder("/a/x"), is_folder=True)
    assert reported(waiting, refreshed) == [Changes("/a", 7, {}, folders={"/a/x": 7})]


def test_hidden_keys_are_reported_only_to_those_who_read_them():
    waiting = LongPoll("/", {"/a": 5, "/a/_h": 5})
    assert reported(waiting, event("set", "/a/_h/x", 6, value="1"), event("set", "/a/_other", 7, value="1")) == [
        Changes("/a/_h", 6, {"/a/_h/x": (6, "1")})
    ]
    assert reported(waiting, event("delete", "/a/_x", 8, before=folder("/a/_x"), is_folder=True))[0].deleted == {}


def test_an_index_that_does_not_count_here_means_to_read_again():
    waiting = LongPoll("/a", {"/a": 9}, "c1")
    waiting.begin(HEADERS)
    with pytest.raises(WatchLost, match="backup"):
        waiting.begin(HEADERS | {"X-Etcd-Index": "8"})
    with pytest.raises(WatchLost, match="another etcd cluster"):
        waiting.begin(HEADERS | {"X-Etcd-Cluster-Id": "c2"})
