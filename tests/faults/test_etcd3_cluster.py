"""The etcd v3 store on a cluster of three: members die, and members are cut off."""

from __future__ import annotations

import pytest

from confpy.errors import StoreError, WatchLost
from tests.servers.etcd import Etcd, EtcdSaysNo, cluster
from tests.waiting import wait_until


@pytest.fixture
def members():
    with cluster(Etcd) as three:
        yield three


def put(member, key, value):
    """Return the revision of the write, or None where the cluster can not take it."""
    try:
        return member.put(key, value)
    except EtcdSaysNo:
        return None


def test_reads_and_streams_move_to_a_member_that_lives(members, etcd_store):
    store = etcd_store(*(member.endpoint for member in members))
    snapshot = store.read(["/a"])
    cursor = snapshot.listings["/a"].revision
    stream = store.watch({"/a": cursor}, snapshot.identity)
    (watched,) = (member for member in members if member.endpoint == stream._stream.node.url)
    watched.kill()
    with pytest.raises(StoreError) as caught:
        next(iter(stream))
    assert not isinstance(caught.value, WatchLost)
    living = next(member for member in members if member is not watched)
    revision = wait_until(lambda: put(living, "/a/x", "1"), what="the two that live have a leader")
    assert next(iter(store.watch({"/a": cursor}, snapshot.identity))).revision == revision
    assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "1"}


def test_a_member_without_its_cluster_ends_the_stream_instead_of_being_silent(members, etcd_store):
    store = etcd_store(members[0].endpoint)
    stream = store.watch({"/a": members[0].revision()})
    for member in members[1:]:
        member.kill()
    with pytest.raises(StoreError, match=r"closed the stream|no leader") as caught:
        next(iter(stream))
    assert not isinstance(caught.value, WatchLost)
    with pytest.raises(StoreError):
        store.read(["/a"])
