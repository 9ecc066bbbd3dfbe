"""Redis: what is its own: hashes, types, separators, databases, users, notifications, and servers not to be read."""

from __future__ import annotations

from contextlib import closing

import pytest

from confpy.config.settings import Settings
from confpy.errors import AccessDenied, StoreError, UsageError, WatchLost
from confpy.stores.redis import store as module
from confpy.stores.redis.store import RedisStore
from tests.servers.ports import free_port
from tests.servers.redis import PASSWORD, Redis
from tests.stores.contract import following
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def server():
    with Redis() as one:
        yield one


@pytest.fixture
def redis(server):
    server.do("FLUSHALL")
    server.do("CONFIG", "SET", "notify-keyspace-events", "AKE")
    return server


def opened(*nodes, **settings):
    settings = {"connect_timeout": 2.0, "read_timeout": 5.0, "watch": True, **settings}
    return closing(RedisStore.open(Settings(nodes=nodes, backend="redis", **settings)))


def keys_of(store, *prefixes):
    return {key: value for one in store.read(prefixes or ("/",)).listings.values() for key, value in one.keys.items()}


def test_fields_of_hashes_are_keys_and_followed_also_above_a_prefix(redis):
    redis.do("HSET", "/a", "x", "1", "b/c", "2")
    redis.do("HSET", "/a/h", "", "empty", "f", b"\xff")
    with opened(redis.endpoint) as store:
        assert keys_of(store, "/a") == {"/a/x": "1", "/a/b/c": "2", "/a/h/f": "\udcff"}
        assert keys_of(store, "/a/b") == {"/a/b/c": "2"}
        with following(store, store.read(["/a/b"])) as seen:
            redis.do("HSET", "/a", "b/d", "3", "y", "4")
            seen.wait_for({"/a/b/c": "2", "/a/b/d": "3"})
            redis.do("HDEL", "/a", "b/c")
            seen.wait_for({"/a/b/d": "3"})
            redis.do("DEL", "/a")
            seen.wait_for({})
            redis.put("/a/b", "now a string")
            seen.wait_for({"/a/b": "now a string"})


def test_keys_of_other_types_are_left_out_and_named_once_for_each_type(redis):
    redis.do("RPUSH", "/a/l", "1")
    redis.do("SADD", "/a/s", "1")
    redis.do("SADD", "/a/s2", "1")
    redis.do("XADD", "/a/x", "*", "f", "1")
    redis.put("/a/k", "1")
    with opened(redis.endpoint) as store:
        first, second = store.read(["/a"]), store.read(["/a"])
        assert first.listings["/a"].keys == {"/a/k": "1"}
        assert {(note.event, note.fields["type"]) for note in first.notes} == {
            ("key.ignored", "list"), ("key.ignored", "set"), ("key.ignored", "stream"),
        }  # fmt: skip
        assert len(first.notes) == 3
        assert second.notes == ()


def test_a_separator_stands_for_the_slash(redis):
    redis.update({"app:web:a": "1", "app:webs": "2", "app/web:b": "left out", "/app/web/c": "left out"})
    redis.do("HSET", "app:web:h", "f:g", "3")
    with opened(redis.endpoint, separator=":") as store:
        assert keys_of(store, *store.prefixes("app/web")) == {"/app/web/a": "1", "/app/web/h/f/g": "3"}
        with following(store, store.read(["/app/web"])) as seen:
            redis.put("app:web:new", "4")
            seen.wait_for({"/app/web/a": "1", "/app/web/h/f/g": "3", "/app/web/new": "4"})


def test_a_key_that_expires_is_gone(redis):
    redis.update({"/a/stays": "1"})
    with opened(redis.endpoint) as store, following(store, store.read(["/a"])) as seen:
        redis.do("SET", "/a/goes", "2", "PX", "300")
        seen.wait_for({"/a/stays": "1", "/a/goes": "2"})
        seen.wait_for({"/a/stays": "1"})


def test_a_database_is_named_by_the_address_or_the_setting_and_others_are_not_followed(redis):
    redis.client.execute_command("SELECT", "0")
    with closing(type(redis.client)(port=redis.port, db=3)) as third:
        third.set("/a/x", "3")
        redis.put("/a/x", "0")
        for nodes, settings in (((f"{redis.endpoint}/3",), {}), ((redis.endpoint,), {"db": 3})):
            with opened(*nodes, **settings) as store, following(store, store.read(["/a"])) as seen:
                redis.put("/a/y", "0")
                third.set("/a/z", "3")
                seen.wait_for({"/a/x": "3", "/a/z": "3"})
                third.delete("/a/z")


def test_a_socket_is_reached_by_its_path(redis):
    redis.put("/a", "1")
    for node in (str(redis.socket), f"unix:{redis.socket}"):
        with opened(node) as store:
            assert keys_of(store, "/a") == {"/a": "1"}
            assert store.node == f"unix://{redis.socket}"


@pytest.mark.parametrize("node", ["http:/x:y", "ftp://h", "h:1/x", "user:secret@h", "h/2147483648", "h:99999"])
def test_what_is_no_address_is_refused_without_traffic(node):
    with pytest.raises(UsageError) as caught:
        RedisStore.open(Settings(nodes=(node,)))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"nodes": ("a/1", "b/2")}, {"nodes": ("a/1",), "db": 2}, {"separator": ""}, {"username": "u"}]
)
def test_settings_that_contradict_each_other_are_refused(settings):
    with pytest.raises(UsageError):
        RedisStore.open(Settings(**settings))


def test_tls_is_spoken_and_an_unknown_certificate_refused(authority):
    certificate, key = authority.issue("localhost", "IP:127.0.0.1")
    port = free_port()
    more = {"tls-port": str(port), "tls-cert-file": str(certificate), "tls-key-file": str(key)}
    more |= {"tls-ca-cert-file": str(authority.ca), "tls-auth-clients": "no"}
    with Redis(**more) as redis:
        redis.put("/a", "1")
        with opened(f"rediss://127.0.0.1:{port}", client_ca_keys=str(authority.ca)) as store:
            assert keys_of(store, "/a") == {"/a": "1"}
        with opened(f"rediss://127.0.0.1:{port}") as store, pytest.raises(StoreError, match="not trusted"):
            store.read(["/a"])
        with opened(redis.endpoint.replace("redis:", "rediss:")) as store, pytest.raises(StoreError) as caught:
            store.read(["/a"])
        assert "http" not in str(caught.value)


# --- users -----------------------------------------------------------------------------------------------------------


def test_passwords_and_users_are_told_apart_in_words_and_never_shown(redis, tmp_path):
    redis.do("CONFIG", "SET", "requirepass", PASSWORD)
    redis.client.connection_pool.connection_kwargs["password"] = PASSWORD
    try:
        redis.allow("reader", "~*", "+@all")
        file = tmp_path / "password"
        file.write_text(f"{PASSWORD}\n")
        for settings in ({"password": PASSWORD}, {"client_key": PASSWORD}, {"password_file": str(file)},
                         {"username": "reader", "password": PASSWORD}):  # fmt: skip
            with opened(redis.endpoint, **settings) as store:
                assert keys_of(store, "/a") == {}
        wrong = {"password": "5ecret"}
        for settings, said in (
            ({}, "it wants a password"),
            (wrong, "user or password is wrong"),
            ({"username": "nobody", **wrong}, "user or password is wrong"),
        ):
            with opened(redis.endpoint, **settings) as store, pytest.raises(StoreError, match=said) as caught:
                store.read(["/a"])
            assert "5ecret" not in str(caught.value)
    finally:
        redis.do("CONFIG", "SET", "requirepass", "")


def test_a_user_without_a_command_is_told_so(redis):
    redis.allow("weak", "~*", "+get")
    with opened(redis.endpoint, username="weak", password=PASSWORD) as store, pytest.raises(StoreError) as caught:
        store.read(["/a"])
    assert "the user lacks a permission" in str(caught.value)


def test_a_key_that_comes_to_be_denied_ends_the_stream_with_its_prefix(redis):
    redis.allow("some", "~/a/*", "allchannels", "+@read", "+@pubsub", "+info", "+config|get", "+select")
    redis.update({"/a/x": "1", "/b/x": "1"})
    with opened(redis.endpoint, username="some", password=PASSWORD) as store:
        listings = store.read(["/a", "/b", "/"]).listings
        assert listings["/a"].keys == {"/a/x": "1"}
        for prefix in ("/b", "/"):
            assert isinstance(listings[prefix].error, AccessDenied)
            assert listings[prefix].error.where["key"] == "/b/x"
        with following(store, store.read(["/c"])) as seen:
            redis.put("/c/x", "1")
            wait_until(lambda: seen.error, what="the stream ends")
        assert isinstance(seen.error, AccessDenied)
        assert (seen.error.prefix, seen.error.where["key"]) == ("/c", "/c/x")


# --- notifications ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["", "Ex", "Kg$"])
def test_without_notifications_it_looks_again_and_says_so_once(redis, monkeypatch, flags):
    monkeypatch.setattr(module, "POLL", 0.1)
    monkeypatch.setattr(module, "SHARE", 1)
    redis.do("CONFIG", "SET", "notify-keyspace-events", flags)
    redis.put("/a/x", "1")
    with opened(redis.endpoint) as store:
        snapshot = store.read(["/a"])
        (note,) = snapshot.notes
        assert (note.event, note.fields["did"]) == ("store.unwatched", "looks every 0.1 s")
        assert store.read(["/a"]).notes == ()
        with following(store, snapshot) as seen:
            redis.update({"/a/x": "2", "/a/y": "1"})
            seen.wait_for({"/a/x": "2", "/a/y": "1"})
            redis.delete("/a/x")
            seen.wait_for({"/a/y": "1"})


def test_where_the_server_does_not_say_it_looks_until_a_notification_comes(redis, monkeypatch):
    monkeypatch.setattr(module, "POLL", 0.3)
    redis.allow("blind", "~*", "allchannels", "+@read", "+@pubsub", "+select")
    with opened(redis.endpoint, username="blind", password=PASSWORD) as store:
        snapshot = store.read(["/a"])
        assert [note.fields["did"] for note in snapshot.notes] == ["looks every 0.3 s until the first one comes"]
        with following(store, snapshot) as seen:
            assert seen.stream._polls
            redis.put("/a/x", "1")
            seen.wait_for({"/a/x": "1"})
            wait_until(lambda: not seen.stream._polls, what="it relies on notifications")
            redis.put("/a/x", "2")
            seen.wait_for({"/a/x": "2"})


def test_what_no_notification_tells_of_is_found_by_the_next_read(redis):
    redis.update({"/a/x": "1", "/a/y": "1"})
    with opened(redis.endpoint) as store, following(store, store.read(["/a"])) as seen:
        redis.do("FLUSHALL")
        assert keys_of(store, "/a") == {}
        seen.wait_for({})  # the stream brings what the read found


def test_a_subscription_that_is_cut_off_ends_the_stream_and_idle_commands_do_not(redis):
    with opened(redis.endpoint) as store, following(store, store.read(["/a"])) as seen:
        redis.put("/a/x", "1")
        seen.wait_for({"/a/x": "1"})
        redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        redis.put("/a/x", "2")
        seen.wait_for({"/a/x": "2"})
        redis.do("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: seen.error, what="the stream ends")
        assert isinstance(seen.error, StoreError)
        with following(store, store.read(["/a"])) as again:
            redis.put("/a/x", "3")
            again.wait_for({"/a/x": "3"})


# --- servers ---------------------------------------------------------------------------------------------------------


def test_another_server_at_the_address_is_another_store_and_a_promoted_replica_is_not():
    with Redis() as first, Redis() as second:
        first.put("/a/x", "1")
        second.do("REPLICAOF", "127.0.0.1", str(first.port))
        wait_until(lambda: second.client.get("/a/x") == b"1", what="the replica has the key")
        with opened(first.endpoint, second.endpoint) as store:
            before = store.read(["/a"])
            first.kill()
            wait_until(lambda: second.do("INFO", "replication")["master_link_status"] != "up", what="the link is lost")
            with pytest.raises(StoreError, match="a replica without a link to its master"):
                store.read(["/a"])
            second.do("REPLICAOF", "NO", "ONE")
            promoted = store.read(["/a"])
            assert (promoted.identity, promoted.listings["/a"].keys) == (before.identity, {"/a/x": "1"})
            assert promoted.listings["/a"].revision == before.listings["/a"].revision
            second.kill()
            first.start()
            with pytest.raises(WatchLost, match="another one"):
                store.watch({"/a": promoted.listings["/a"].revision}, promoted.identity)
            replaced = store.read(["/a"])
            assert replaced.identity not in ("", before.identity)
            assert replaced.listings["/a"].keys == {}


def test_a_cluster_is_refused_in_words():
    # The port of the nodes' own connections is 10,000 above the other one by default, which may be none.
    cluster = Redis(cluster_enabled="yes", cluster_port=str(free_port()))
    with cluster as redis, opened(redis.endpoint) as store, pytest.raises(StoreError) as caught:
        store.read(["/a"])
    assert "a node of a Redis Cluster" in str(caught.value)


def test_what_is_no_redis_is_told_so(etcd):
    with opened(f"127.0.0.1:{etcd.port}") as store, pytest.raises(StoreError, match="redis: "):
        store.read(["/a"])
