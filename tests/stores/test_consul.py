"""Consul's KV against a real server: what it asks, what it follows, and how it fails."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, contextmanager
from functools import partial

import pytest

from confpy.errors import AccessDenied, StoreError, WatchLost
from confpy.stores.consul.store import SUSPECT_FOR
from tests.servers.consul import MASTER, Consul
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.servers.web import Backend
from tests.stores.contract import following
from tests.waiting import wait_until

SERVICES = [f"/svc/{number:04}" for number in range(1000)]
BINARY = bytes(range(256))


@pytest.fixture
def consul_store(consul_store):
    """Opens stores that watch; those that poll say so."""
    return partial(consul_store, watch=True)


def lists(proxy):
    """The requests for values, each with its string prefix."""
    return [request.split("?")[0] for request in list(proxy.requests) if "recurse=1" in request]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_thousand_prefixes_are_at_most_sixteen_reads_and_sixteen_queries(consul, consul_proxy, consul_store):
    consul.transact({f"{service[1:]}/a": service for service in SERVICES})
    store = consul_store(consul_proxy.endpoint)
    snapshot = store.read(SERVICES)
    assert all(dict(snapshot.listings[service].keys) == {f"{service}/a": service} for service in SERVICES)
    assert len(lists(consul_proxy)) <= 16
    before = len(lists(consul_proxy))
    with following(store, snapshot) as seen:
        wait_until(lambda: len(lists(consul_proxy)) - before >= 10, what="the queries are open")
        assert consul_proxy.open_connections() <= 16
        consul.transact({f"{service[1:]}/a": "new" for service in SERVICES})
        seen.wait_for({f"{service}/a": "new" for service in SERVICES})
        assert consul_proxy.open_connections() <= 16
    assert len(set(lists(consul_proxy))) <= 16


def test_an_ask_after_a_read_is_small_and_says_whether_a_read_is_due(consul, consul_proxy, consul_store):
    consul.transact({f"a/{number}": "x" * 500 for number in range(1000)})
    store = consul_store(consul_proxy.endpoint)
    assert store.poll(["/a"]) is None
    snapshot = store.read(["/a", "/none"])
    before = consul_proxy.bytes_down
    status = store.poll(["/a", "/none"])
    assert consul_proxy.bytes_down - before < 20_000
    assert status.counts == {"/a": 1000, "/none": 0}
    assert status.newest == {"/a": snapshot.listings["/a"].revision, "/none": 0}
    consul.put("a/1", "new")
    assert store.poll(["/a"]) is None


def test_a_folders_placeholder_is_an_empty_key_and_values_are_any_bytes(consul, consul_store):
    consul.put("a/", "")
    consul.put("a/raw", BINARY)
    consul.transact({"a//b": "1"})
    store = consul_store(consul.endpoint)
    keys = store.read(["/a"]).listings["/a"].keys
    assert keys["/a/"] == ""
    assert keys["/a//b"] == "1"
    assert keys["/a/raw"] == BINARY.decode("utf-8", "surrogateescape")


def test_keys_of_any_spelling_are_asked_for_as_they_are(consul, consul_store):
    names = [
        f"odd/{name}/{number:02}" for name in ("?q=1", "#x", "%41", "a b", "+", ".dot", "..dots") for number in range(9)
    ]
    consul.transact(dict.fromkeys(names, "v"))
    store = consul_store(consul.endpoint)
    listings = store.read([f"/{name}" for name in names]).listings
    assert all(dict(listings[f"/{name}"].keys) == {f"/{name}": "v"} for name in names)


def test_a_key_that_consul_cannot_hold_is_a_missing_tree(consul, consul_store):
    assert dict(consul_store(consul.endpoint).read(["/k/\udcff"]).listings["/k/\udcff"].keys) == {}


def test_an_unknown_datacenter_is_named_with_what_to_do(consul, consul_store):
    with pytest.raises(StoreError, match=r"does not know the datacenter.*datacenter"):
        consul_store(consul.endpoint, datacenter="mars").read(["/a"])
    assert consul_store(consul.endpoint, datacenter="dc1").read(["/a"]).listings["/a"].error is None


def test_another_kind_of_server_is_said_to_be_one(etcd, consul_store):
    with pytest.raises(StoreError, match="not as Consul does"):
        consul_store(etcd.endpoint).read(["/a"])


def test_an_answer_that_nobody_could_take_apart_is_not_consul_s(consul_store):
    with Backend("[" * 200_000) as server, pytest.raises(StoreError, match="not as Consul does"):
        consul_store(server.address).read(["/a"])


def test_a_node_that_is_down_is_passed_over(consul, consul_store):
    store = consul_store("127.0.0.1:1", consul.endpoint)
    for _ in range(4):
        snapshot = store.read(["/a"])
        with following(store, snapshot):
            pass


def test_an_answer_that_is_too_large_is_asked_for_in_parts(consul, consul_proxy, consul_store, monkeypatch):
    monkeypatch.setattr("confpy.stores.consul.api.ANSWER_BYTES", 100_000)
    names = [f"svc/{number:02}" for number in range(40)]
    consul.transact({f"{name}/x": "x" * 10_000 for name in names})
    store = consul_store(consul_proxy.endpoint)
    snapshot = store.read([f"/{name}" for name in names])
    assert all(len(listing.keys[f"{prefix}/x"]) == 10_000 for prefix, listing in snapshot.listings.items())
    store.read([f"/{name}" for name in names])
    before = len(lists(consul_proxy))
    store.read([f"/{name}" for name in names])
    assert len(lists(consul_proxy)) - before <= 40
    with following(store, snapshot) as seen:
        consul.put("svc/07/x", "new")
        seen.wait_for({f"/{name}/x": "new" if name == "svc/07" else "x" * 10_000 for name in names})


def test_a_prefix_that_is_too_large_fails_alone(consul, consul_store, monkeypatch):
    monkeypatch.setattr("confpy.stores.consul.api.ANSWER_BYTES", 100_000)
    consul.transact({f"large/{number}": "x" * 10_000 for number in range(20)} | {"small/x": "1"})
    store = consul_store(consul.endpoint)
    listings = store.read(["/large", "/small"]).listings
    assert listings["/small"].keys == {"/small/x": "1"}
    assert isinstance(listings["/large"].error, AccessDenied)
    assert "larger than" in str(listings["/large"].error)
    assert listings["/large"].error.where["prefix"] == "/large"


def test_a_prefix_that_grows_too_large_while_it_is_followed_means_to_read_again(consul, consul_store, monkeypatch):
    monkeypatch.setattr("confpy.stores.consul.api.ANSWER_BYTES", 100_000)
    consul.put("a/x", "1")
    store = consul_store(consul.endpoint)
    with following(store, store.read(["/a"])) as seen:
        consul.transact({f"a/{number}": "x" * 10_000 for number in range(20)})
        wait_until(lambda: seen.error is not None, what="the stream has failed")
        assert isinstance(seen.error, WatchLost)
    assert isinstance(store.read(["/a"]).listings["/a"].error, AccessDenied)


# --- polling ---------------------------------------------------------------------------------------------------------


def modes(proxy, since=0):
    """Who was to answer each of the requests."""
    found = list(proxy.requests)[since:]
    return ["stale" if "stale=1" in one else "sure" if "consistent=1" in one else "leader" for one in found]


def test_a_poll_asks_any_server_and_the_leader_before_anything_shrinks(consul, consul_proxy, consul_store):
    consul.transact({"a/x": "1", "a/y": "1"})
    store = consul_store(consul_proxy.endpoint, watch=False)
    store.read(["/a"])
    assert store.poll(["/a"]) is not None
    consul.put("a/x", "2")
    assert store.poll(["/a"]) is None
    assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "2", "/a/y": "1"}
    assert modes(consul_proxy) == ["sure", "stale", "stale", "stale"]
    before = len(consul_proxy.requests)
    consul.delete("a/y")
    assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "2"}
    consul.delete("a/x")
    assert dict(store.read(["/a"]).listings["/a"].keys) == {}
    assert modes(consul_proxy, before) == ["stale", "sure"] * 2


def test_a_poll_believes_no_index_that_went_back_without_the_leader(consul, consul_proxy, consul_store):
    consul.put("a/x", "old")
    snapshot = consul.snapshot()
    store = consul_store(consul_proxy.endpoint, watch=False)
    consul.put("a/x", "new")
    store.read(["/a"])
    consul.restore_snapshot(snapshot)
    assert store.poll(["/a"]) is None
    assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "old"}
    assert modes(consul_proxy) == ["sure", "stale", "sure", "stale", "sure"]


def test_a_watch_and_a_single_run_ask_the_leader_alone(consul, consul_proxy, consul_store):
    consul.put("a/x", "1")
    once = consul_store(consul_proxy.endpoint, watch=False, onetime=True)
    once.read(["/a"])
    once.read(["/a"])
    store = consul_store(consul_proxy.endpoint)
    with following(store, store.read(["/a"])) as seen:
        store.poll(["/a"])
        consul.put("a/x", "2")
        seen.wait_for({"/a/x": "2"})
    assert set(modes(consul_proxy)) == {"leader"}


# --- following -------------------------------------------------------------------------------------------------------


def test_keys_of_others_cost_at_most_a_query_a_second_and_bring_no_changes(consul, consul_proxy, consul_store):
    consul.put("a/x", "1")
    store = consul_store(consul_proxy.endpoint)
    done = threading.Event()

    def churn():
        number = 0
        while not done.is_set():
            number += 1
            consul.put(f"a-neighbour/{number % 5}", str(number))

    with following(store, store.read(["/a", "/none"])) as seen:
        writer = threading.Thread(target=churn)
        before, began = len(lists(consul_proxy)), time.monotonic()
        writer.start()
        wait_until(lambda: time.monotonic() - began > 4, what="four seconds pass")
        asked = len(lists(consul_proxy)) - before
        done.set()
        writer.join()
        assert 2 <= asked <= 2 * 6
        assert seen.changes == []
        consul.put("a/x", "2")
        seen.wait_for({"/a/x": "2"})


def test_a_change_arrives_without_delay(consul, consul_store):
    consul.transact({f"a/{number}": "1" for number in range(20)})
    store = consul_store(consul.endpoint)
    with following(store, store.read(["/a"])) as seen:
        times = []
        for number in range(20):
            count = len(seen.changes)
            began = time.monotonic()
            consul.put("a/1", f"new {number}")
            wait_until(lambda count=count: len(seen.changes) > count, what="it is reported")
            times.append(time.monotonic() - began)
    assert sorted(times)[10] < 0.1


def test_a_server_restored_to_an_older_state_means_to_read_again(consul, consul_store):
    consul.put("a/x", "old")
    consul.put("a/unchanged", "1")
    backup = consul.backup()
    store = consul_store(consul.endpoint)
    for number in range(50):
        consul.put("a/x", str(number))
    snapshot = store.read(["/a"])
    revision = snapshot.listings["/a"].revision
    consul.restore(backup)
    stream = store.watch({"/a": revision}, snapshot.identity)
    with closing(stream), pytest.raises(WatchLost, match="went back"):
        list(stream)
    listing = store.read(["/a"]).listings["/a"]
    assert listing.keys == {"/a/x": "old", "/a/unchanged": "1"}
    assert listing.revision < revision
    with following(store, store.read(["/a"])) as seen:
        consul.put("a/x", "new")
        seen.wait_for({"/a/x": "new", "/a/unchanged": "1"})


def test_a_snapshot_restored_under_an_open_query_means_to_read_again(consul, consul_store):
    consul.put("a/x", "old")
    snapshot = consul.snapshot()
    store = consul_store(consul.endpoint)
    for number in range(50):
        consul.put("a/x", str(number))
    with following(store, store.read(["/a"])) as seen:
        consul.restore_snapshot(snapshot)
        wait_until(lambda: seen.error is not None, what="the stream has failed")
        assert isinstance(seen.error, WatchLost)
    assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "old"}


def test_a_restart_ends_the_stream_and_a_new_one_goes_on_from_the_cursor(consul, consul_store):
    consul.transact({"a/x": "1", "a/gone": "1"})
    store = consul_store(consul.endpoint)
    snapshot = store.read(["/a"])
    with following(store, snapshot) as seen:
        consul.restart()
        wait_until(lambda: seen.error is not None, what="the stream has ended")
        assert isinstance(seen.error, StoreError)
        assert not isinstance(seen.error, WatchLost)
    consul.transact({"a/x": "2", "a/gone": None})
    with following(store, snapshot) as seen:
        seen.wait_for({"/a/x": "2"})


def test_a_cursor_that_was_never_reported_means_to_read_first(consul, consul_store):
    with pytest.raises(WatchLost):
        consul_store(consul.endpoint).watch({"/a": 5})


# --- who may ---------------------------------------------------------------------------------------------------------


@contextmanager
def guarded(**options):
    with Consul(acl=True, **options) as server:
        yield server


def test_a_token_opens_what_its_policy_says(consul_store, tmp_path):
    with guarded() as consul:
        consul.transact({"a/x": "1", "b/x": "2"})
        file = tmp_path / "token"
        file.write_text(consul.grant('key_prefix "a" { policy = "read" }') + "\n")
        store = consul_store(consul.endpoint, auth_token_file=str(file))
        assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "1"}
        file.write_text(MASTER)
        assert store.read(["/b"]).listings["/b"].keys == {"/b/x": "2"}


def test_a_tree_that_is_empty_under_a_new_token_is_not_believed_for_a_while(consul_store, tmp_path, monkeypatch):
    with guarded() as consul:
        consul.transact({"a/x": "1", "b/x": "2"})
        file = tmp_path / "token"
        file.write_text(consul.grant('key_prefix "" { policy = "read" }'))
        store = consul_store(consul.endpoint, auth_token_file=str(file))
        before = store.read(["/a", "/b"])
        file.write_text(consul.grant('key_prefix "b" { policy = "read" }'))
        with pytest.raises(WatchLost, match="token changed"):
            store.watch({prefix: listing.revision for prefix, listing in before.listings.items()})
        listings = store.read(["/a", "/b"]).listings
        assert isinstance(listings["/a"].error, AccessDenied)
        assert listings["/b"].keys == {"/b/x": "2"}
        assert store.poll(["/a", "/b"]) is None
        assert isinstance(store.read(["/a"]).listings["/a"].error, AccessDenied)
        later = time.monotonic() + SUSPECT_FOR
        monkeypatch.setattr("confpy.stores.consul.store.time.monotonic", lambda: later)
        again = store.read(["/a", "/b"]).listings
        assert (again["/a"].error, dict(again["/a"].keys)) == (None, {})


def test_a_token_that_changes_ends_the_stream_of_the_one_before_at_the_next_read(consul_store, tmp_path):
    with guarded() as consul:
        consul.put("a/x", "1")
        file = tmp_path / "token"
        file.write_text(consul.grant('key_prefix "" { policy = "read" }'))
        store = consul_store(consul.endpoint, auth_token_file=str(file))
        snapshot = store.read(["/a"])
        with following(store, snapshot) as seen:
            assert store.poll(["/a"]) is not None
            file.write_text(MASTER)
            assert store.poll(["/a"]) is None
            assert seen.error is None
            store.read(["/a"])
            wait_until(lambda: seen.error is not None, what="the stream has ended")
            assert not isinstance(seen.error, WatchLost)
            assert "token changed" in str(seen.error)
        with following(store, snapshot) as seen:
            consul.put("a/x", "2")
            seen.wait_for({"/a/x": "2"})


def test_consuls_own_variable_does_not_beat_what_was_said(consul_store, monkeypatch):
    with guarded() as consul:
        consul.put("a/x", "1")
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", "nonsense")
        monkeypatch.setenv("CONSUL_HTTP_ADDR", "127.0.0.1")
        assert consul_store(consul.endpoint, auth_token=MASTER).read(["/a"]).listings["/a"].keys == {"/a/x": "1"}


def test_an_unknown_token_fails_the_read_and_is_not_shown(consul_store):
    secret = "12345678-aaaa-bbbb-cccc-000000000009"
    with guarded() as consul, pytest.raises(StoreError, match="does not know the token") as caught:
        consul_store(consul.endpoint, auth_token=secret).read(["/a"])
    assert secret not in str(caught.value)


def test_a_prefix_that_may_not_be_listed_fails_alone(consul_store):
    with guarded(lists=True) as consul:
        names = [f"svc/{number:02}" for number in range(40)]
        consul.transact({f"{name}/x": "1" for name in names})
        allowed = [name for name in names if name < "svc/20"] + ["svc/33"]
        rules = "\n".join(f'key_prefix "{name}" {{ policy = "list" }}' for name in allowed)
        store = consul_store(consul.endpoint, auth_token=consul.grant(rules))
        listings = store.read([f"/{name}" for name in names]).listings
        assert sorted(prefix for prefix, one in listings.items() if one.error is None) == sorted(
            f"/{name}" for name in allowed
        )
        assert all(
            isinstance(one.error, AccessDenied) and one.error.where["prefix"] == prefix
            for prefix, one in listings.items()
            if one.error is not None
        )
        with following(store, store.read([f"/{name}" for name in allowed])) as seen:
            consul.put("svc/33/x", "2")
            seen.wait_for({f"/{name}/x": "2" if name == "svc/33" else "1" for name in allowed})


def test_a_prefix_that_was_refused_is_really_asked_for_again(consul_store):
    with guarded(lists=True) as consul:
        consul.transact({"a/x": "1", "b/x": "1"})
        rules = 'key_prefix "b" { policy = "list" }'
        token = consul.grant(rules)
        store = consul_store(consul.endpoint, auth_token=token)
        snapshot = store.read(["/a", "/b"])
        assert isinstance(snapshot.listings["/a"].error, AccessDenied)
        with pytest.raises(AccessDenied) as caught:
            store.watch({"/a": 1, "/b": snapshot.listings["/b"].revision})
        assert caught.value.where["prefix"] == "/a"
        consul.allow(token, rules + 'key_prefix "a" { policy = "list" }')
        wait_until(
            lambda: dict(store.read(["/a"]).listings["/a"].keys) == {"/a/x": "1"},
            seconds=40,
            what="the token may list it",
        )


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_a_proxy_before_consul_wants_a_password(consul, consul_store, tmp_path, password):
    port = free_port()
    config = tmp_path / "nginx.conf"
    (tmp_path / "users").write_text("confpy:{PLAIN}right\n")
    config.write_text(
        f"user root; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{port}; location / {{\n"
        f"  auth_basic Consul; auth_basic_user_file {tmp_path}/users;\n"
        f"  proxy_pass {consul.endpoint}; proxy_read_timeout 400s; }} }} }}\n"
    )
    (tmp_path / "password").write_text(password)
    consul.put("a/x", "1")
    login = {"basic_auth": True, "username": "confpy", "password_file": str(tmp_path / "password")}
    with Nginx(config, port=port):
        store = consul_store(f"http://127.0.0.1:{port}", **login)
        if password == "right":
            with following(store, store.read(["/a"])) as seen:
                consul.put("a/x", "2")
                seen.wait_for({"/a/x": "2"})
        for wrong in (consul_store(f"http://127.0.0.1:{port}"), *([store] if password == "wrong" else [])):
            with pytest.raises(StoreError, match="wants a login, or another one") as caught:
                wrong.read(["/a"])
            assert caught.value.where["node"] == f"http://127.0.0.1:{port}"
            assert password not in str(caught.value)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_reset_stream_fails_and_the_next_one_brings_what_was_missed(consul, consul_proxy, consul_store):
    consul.put("a/x", "1")
    store = consul_store(consul_proxy.endpoint)
    snapshot = store.read(["/a"])
    with following(store, snapshot) as seen:
        wait_until(lambda: "index=" in "".join(consul_proxy.requests), what="the query is open")
        consul_proxy.reset()
        wait_until(lambda: seen.error is not None, what="the stream has failed")
    consul.put("a/x", "2")
    with following(store, snapshot) as seen:
        seen.wait_for({"/a/x": "2"})


@pytest.mark.parametrize("fault", ["black_hole", "drip"])
def test_a_server_that_does_not_answer_is_given_up_in_time(consul, consul_proxy, consul_store, fault):
    consul.put("a/x", "x" * 1000)
    store = consul_store(consul_proxy.endpoint, read_timeout=1.0)
    getattr(consul_proxy, fault)(*([1] if fault == "drip" else []))
    for call in (lambda: store.read(["/a"]), lambda: store.poll(["/a"])):
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer within 1 s"):
            call()
        assert time.monotonic() - began < 2


def test_a_blocking_query_that_drips_ends_with_its_deadline(consul, consul_proxy, consul_store, monkeypatch):
    monkeypatch.setattr("confpy.stores.consul.stream.WAIT", 1.0)
    consul.put("a/x", "x" * 1000)
    store = consul_store(consul_proxy.endpoint, read_timeout=1.0)
    with following(store, store.read(["/a"])) as seen:
        consul_proxy.drip(1)
        began = time.monotonic()
        wait_until(lambda: seen.error is not None, what="the stream has failed")
        assert time.monotonic() - began < 5
        assert "no answer within" in str(seen.error)


@pytest.mark.parametrize("when", ["waiting", "black hole"])
def test_closing_cuts_every_wait_within_a_second(consul, consul_proxy, consul_store, when):
    consul.transact({f"{service[1:]}/a": "1" for service in SERVICES[:100]})
    store = consul_store(consul_proxy.endpoint)
    snapshot = store.read(SERVICES[:100])
    with following(store, snapshot) as seen:
        wait_until(lambda: consul_proxy.open_connections() >= 10, what="the queries are open")
        if when == "black hole":
            consul_proxy.black_hole()
        began = time.monotonic()
        store.close()
        seen.thread.join(5)
        assert not seen.thread.is_alive()
        wait_until(lambda: not consul_threads(), what="the store's threads have ended")
        assert time.monotonic() - began < 1


def consul_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("confpy-consul")]


def test_nothing_of_a_stream_stays_behind(consul, consul_store):
    consul.put("a/x", "1")
    store = consul_store(consul.endpoint)
    snapshot = store.read(["/a", "/b"])
    cursors = {prefix: listing.revision for prefix, listing in snapshot.listings.items()}
    store.watch(cursors).close()
    wait_until(lambda: not consul_threads(), what="the first stream's threads have ended")
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        store.watch(cursors).close()
    wait_until(lambda: threading.active_count() <= threads, what="the threads have ended")
    assert len(os.listdir("/proc/self/fd")) <= files


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_https_is_spoken_with_the_named_ca_and_the_clients_certificate(authority, consul_store):
    port = free_port()
    shown = authority.shown(authority.issue("both", "IP:127.0.0.1"))
    ca, cert, key = shown.values()
    with Consul(https=port, ca_file=ca, cert_file=cert, key_file=key, verify_incoming_https=True) as consul:
        consul.put("a/x", "1")
        store = consul_store(f"127.0.0.1:{port}", scheme="https", **shown)
        with following(store, store.read(["/a"])) as seen:
            consul.put("a/x", "2")
            seen.wait_for({"/a/x": "2"})
        with pytest.raises(StoreError, match="not trusted"):
            consul_store(f"https://127.0.0.1:{port}", client_cert=cert, client_key=key).read(["/a"])
        with pytest.raises(StoreError, match=r"certificate|broken"):
            consul_store(f"https://127.0.0.1:{port}", client_ca_keys=ca).read(["/a"])
        with pytest.raises(StoreError, match="https://"):
            consul_store(f"http://127.0.0.1:{port}").read(["/a"])
        with pytest.raises(StoreError, match="http://"):
            consul_store(f"https://127.0.0.1:{consul.port}", client_ca_keys=ca).read(["/a"])
