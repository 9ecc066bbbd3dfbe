"""What the state folder has of the last delivered keys."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from confpy.clock import SystemClock
from confpy.ledger.cached_keys import CachedKeys
from confpy.ledger.folder import StateFolder


@pytest.fixture
def folder(tmp_path):
    return StateFolder(str(tmp_path / "state"), log=lambda say: pytest.fail(str(say)))


@pytest.fixture
def cached(folder):
    return CachedKeys(folder, SystemClock(), nullcontext())


def test_cached_keys_of_any_bytes_come_back_with_their_age(cached):
    assert cached.recall().keys == {}
    cached.save({"/app/\udcff": "\udcfe"}, ["/app"])
    recalled = cached.recall()
    assert (recalled.keys, recalled.prefixes) == ({"/app/\udcff": "\udcfe"}, ("/app",))
    assert 0 <= recalled.age < 10


def test_a_record_of_another_shape_is_as_good_as_none(cached, folder):
    for record in ({}, {"keys": [], "prefixes": [], "at": 1}, {"keys": {}, "prefixes": [], "at": "now"}):
        folder.write("keys", record)
        assert cached.recall().keys == {}


def test_what_is_cached_of_a_carried_prefix_stays_beside_the_new_keys(cached):
    cached.save({"/app/a": "1", "/app/web/x": "1", "/gone": "1"}, ("/app", "/gone"))
    cached.save({"/app/a": "2", "/app/web/y": "2"}, ("/app",), ("/app/web", "/never"))
    recalled = cached.recall()
    assert recalled.keys == {"/app/a": "2", "/app/web/x": "1"}
    assert recalled.prefixes == ("/app",)
    cached.save({"/b": "3"}, ("/b",), ("/app/web",))
    assert cached.recall().keys == {"/b": "3", "/app/web/x": "1"}
    assert cached.recall().prefixes == ("/app/web", "/b")


def test_keys_of_another_kind_of_store_are_not_recalled(folder):
    etcd, consul = (CachedKeys(folder, SystemClock(), nullcontext(), backend) for backend in ("etcdv3", "consul"))
    etcd.save({"/a": "1"}, ("/a",))
    assert etcd.recall().keys == {"/a": "1"}
    assert consul.recall().keys == {}
    consul.save({"/b": "1"}, ("/b",), ("/a",))
    assert consul.recall().keys == {"/b": "1"}


def test_keys_that_an_earlier_version_cached_are_recalled(cached, folder):
    folder.write("keys", {"at": 1.0, "prefixes": ["/a"], "keys": {"/a": "1"}})
    assert cached.recall().keys == {"/a": "1"}
