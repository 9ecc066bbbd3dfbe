"""ZooKeeper: what is its own: folders, ephemeral nodes, ACLs, paths in addresses, sessions that end."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from confpy.config.settings import Settings
from confpy.errors import AccessDenied, StoreError, UsageError
from confpy.stores.zookeeper.client import connect
from confpy.stores.zookeeper.store import ZooKeeperStore
from tests.servers.proxy import FaultProxy
from tests.servers.zookeeper import ZooKeeper
from tests.stores.contract import following
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def server():
    with ZooKeeper() as one:
        yield one


@pytest.fixture
def zookeeper(server):
    server.clear()
    return server


def opened(*nodes, **settings):
    settings = {"connect_timeout": 2.0, "read_timeout": 5.0, "watch": True, **settings}
    return closing(ZooKeeperStore.open(Settings(nodes=nodes, backend="zookeeper", **settings)))


def keys_of(store, *prefixes):
    return {key: value for one in store.read(prefixes or ("/",)).listings.values() for key, value in one.keys.items()}


def test_a_node_may_be_a_key_and_have_children_and_one_that_had_children_is_a_folder(zookeeper):
    zookeeper.update({"/a": "own", "/a/b/c": "1", "/a/empty": "", "/f/x": "1"})
    with opened(zookeeper.endpoint) as store:
        assert keys_of(store) == {"/a": "own", "/a/b/c": "1", "/a/empty": "", "/f/x": "1"}
        with following(store, store.read(["/"])) as seen:
            zookeeper.update({"/a/b/c": None, "/f/x": None, "/a/empty/below": "2"})
            seen.wait_for({"/a": "own", "/a/empty/below": "2"})
            zookeeper.put("/a/b", "a key now")
            seen.wait_for({"/a": "own", "/a/empty/below": "2", "/a/b": "a key now"})


def test_zookeepers_own_nodes_are_no_part_of_the_root(zookeeper):
    with opened(zookeeper.endpoint) as store:
        assert keys_of(store, "/") == {}
        assert "/zookeeper/quota" in keys_of(store, "/zookeeper")
        assert not store.capabilities.lists("/", "/zookeeper/quota")
        assert store.capabilities.lists("/zookeeper", "/zookeeper/quota")


def test_deep_trees_that_are_made_and_removed_at_once_are_followed(zookeeper):
    with opened(zookeeper.endpoint) as store, following(store, store.read(["/a/b"])) as seen:
        for _ in range(5):
            zookeeper.update({"/a/b/c/d/e": "1", "/a/b/c/f": "2", "/a/other": "3"})
            seen.wait_for({"/a/b/c/d/e": "1", "/a/b/c/f": "2"})
            zookeeper.at.delete("/a", recursive=True)
            seen.wait_for({})


def test_an_ephemeral_node_is_gone_with_its_session(zookeeper):
    zookeeper.put("/svc/stays", "1")
    other = KazooClient(f"127.0.0.1:{zookeeper.port}")
    other.start(30)
    with opened(zookeeper.endpoint) as store, following(store, store.read(["/svc"])) as seen:
        other.create("/svc/a", b"here", ephemeral=True)
        seen.wait_for({"/svc/stays": "1", "/svc/a": "here"})
        other.stop()
        other.close()
        seen.wait_for({"/svc/stays": "1"})


def test_all_keys_are_below_a_path_that_the_address_has(zookeeper):
    zookeeper.update({"/root/a": "1", "/a": "2"})
    with opened("127.0.0.1:1", f"127.0.0.1:{zookeeper.port}/root") as store:
        assert keys_of(store) == {"/a": "1"}
        with following(store, store.read(["/"])) as seen:
            zookeeper.put("/root/b", "3")
            seen.wait_for({"/a": "1", "/b": "3"})
        assert store.node == zookeeper.endpoint


@pytest.mark.parametrize(
    "settings",
    [
        {"nodes": ("ftp://h",)}, {"nodes": ("user:5ecret@h",)}, {"nodes": ("h:99999",)}, {"username": "u"},
        {"nodes": ("h/a", "h2/b")}, {"password": "5ecret"},
        {"nodes": ("zookeeper+tls://h",), "client_ca_keys": "/none"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_without_traffic(settings):
    with pytest.raises(UsageError) as caught:
        ZooKeeperStore.open(Settings(**settings)).close()
    assert "5ecret" not in str(caught.value)


# --- ACLs ------------------------------------------------------------------------------------------------------------


def test_a_node_that_may_not_be_read_denies_the_prefixes_that_bring_it_and_names_it(zookeeper):
    zookeeper.update({"/a/x": "1", "/b/shut/y": "2", "/b/z": "3"})
    zookeeper.at.add_auth("digest", "owner:5ecret")
    zookeeper.at.set_acls("/b/shut", [make_digest_acl("owner", "5ecret", all=True)])
    with opened(zookeeper.endpoint) as store:
        listings = store.read(["/a", "/b", "/b/z"]).listings
        assert (listings["/a"].keys, listings["/b/z"].keys) == ({"/a/x": "1"}, {"/b/z": "3"})
        assert isinstance(listings["/b"].error, AccessDenied)
        assert listings["/b"].error.where == {"key": "/b/shut", "prefix": "/b", "node": zookeeper.endpoint}
        with pytest.raises(AccessDenied):
            store.watch({"/b": listings["/b"].revision})
    with opened(zookeeper.endpoint, username="owner", password="5ecret") as store:
        assert keys_of(store, "/b") == {"/b/shut/y": "2", "/b/z": "3"}
    with opened(zookeeper.endpoint, username="owner", password="wrong") as store:
        assert isinstance(store.read(["/b"]).listings["/b"].error, AccessDenied)


def test_a_node_that_comes_to_be_denied_ends_the_stream_with_its_prefix(zookeeper):
    zookeeper.put("/a/x", "1")
    zookeeper.at.add_auth("digest", "owner:5ecret")
    with opened(zookeeper.endpoint) as store, following(store, store.read(["/a"])) as seen:
        zookeeper.at.create("/a/shut", b"2", acl=[make_digest_acl("owner", "5ecret", all=True)])
        wait_until(lambda: seen.error, what="the stream ends")
        assert isinstance(seen.error, AccessDenied)
        assert (seen.error.prefix, seen.error.where["key"]) == ("/a", "/a/shut")


# --- sessions --------------------------------------------------------------------------------------------------------


def test_a_daemon_keeps_one_session_and_others_one_for_each_read(zookeeper):
    with opened(zookeeper.endpoint) as store:
        store.read(["/"])
        session = store.session()
        store.read(["/"])
        assert store.session() is session
    with opened(zookeeper.endpoint, watch=False) as store:
        store.read(["/"])
        assert not store._session.is_alive


def test_a_connection_that_breaks_ends_the_stream_and_the_next_one_goes_on(zookeeper):
    zookeeper.put("/a/x", "1")
    with FaultProxy(zookeeper.port) as proxy, opened(f"127.0.0.1:{proxy.port}") as store:
        with following(store, store.read(["/a"])) as seen:
            proxy.reset()
            wait_until(lambda: seen.error, what="the stream ends")
            assert isinstance(seen.error, StoreError)
        zookeeper.update({"/a/x": None, "/a/y": "2"})
        with following(store, store.read(["/a"])) as again:
            again.wait_for({"/a/y": "2"})
            zookeeper.put("/a/y", "3")
            again.wait_for({"/a/y": "3"})


def test_a_poll_is_one_request_where_a_stream_follows_and_otherwise_only_a_read_can_tell(zookeeper):
    zookeeper.update({"/a/x": "1", "/b/y": "2"})
    with opened(zookeeper.endpoint) as store:
        snapshot = store.read(["/a", "/b"])
        assert store.poll(["/a"]) is None
        with following(store, snapshot) as seen:
            status = store.poll(["/a", "/b", "/a/x"])
            assert status.counts == {"/a": 1, "/b": 1, "/a/x": 1}
            assert status.newest["/a"] <= snapshot.listings["/a"].revision <= status.revision
            assert store.poll(["/c"]) is None
            seen.stream.close()
            assert store.poll(["/a"]) is None


def test_a_new_and_empty_ensemble_is_further_back_than_the_one_before():
    with ZooKeeper() as zookeeper:
        zookeeper.update({f"/a/{number}": "1" for number in range(100)})
        with opened(zookeeper.endpoint) as store:
            before = store.read(["/a"]).listings["/a"]
            zookeeper.replace()
            after = store.read(["/a"]).listings["/a"]
            assert (len(before.keys), after.keys) == (100, {})
            assert after.revision < before.revision


def test_a_session_that_reconnects_keeps_what_is_ephemeral_over_a_restart_of_the_server():
    with ZooKeeper() as zookeeper:
        client = connect(Settings(nodes=(zookeeper.endpoint,), connect_timeout=2.0, read_timeout=20.0))
        session = client.session(seconds=30, reconnects=True)
        try:
            session.kazoo.create("/here", b"1", ephemeral=True)
            first = session.connection
            zookeeper.restart()
            wait_until(lambda: session.connection is not first and session.is_alive, seconds=60, what="it is back")
            assert zookeeper.at.get("/here")[1].ephemeralOwner == session.kazoo.client_id[0]
        finally:
            session.close()
            client.close()
        wait_until(lambda: zookeeper.at.exists("/here") is None, what="it is gone with the session")


def test_nothing_is_written_to_stderr_and_no_thread_stays(zookeeper, capfd):
    before = {thread.name for thread in threading.enumerate()}
    with FaultProxy(zookeeper.port) as proxy, opened(f"127.0.0.1:{proxy.port}") as store:
        snapshot = store.read(["/"])
        with following(store, snapshot) as seen:
            proxy.refuse()
            wait_until(lambda: seen.error, what="the loss is seen")
            with pytest.raises(StoreError, match="zookeeper: "):
                store.read(["/"])
    wait_until(
        lambda: not [one for one in threading.enumerate() if "confpy" in one.name and one.name not in before],
        what="all threads have ended",
    )
    assert capfd.readouterr() == ("", "")


def test_what_is_no_zookeeper_is_told_so_in_time(etcd):
    with opened(f"127.0.0.1:{etcd.port}", read_timeout=1.0) as store, pytest.raises(StoreError) as caught:
        store.read(["/a"])
    assert str(caught.value).startswith("zookeeper: ")
