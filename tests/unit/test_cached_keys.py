"""What the state folder keeps beside the ledger: who is held back, and the keys of before."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from confpy.clock import SystemClock
from confpy.errors import UsageError
from confpy.ledger.cached_keys import Kept, accept
from confpy.ledger.folder import StateFolder


@pytest.fixture
def folder(tmp_path):
    return StateFolder(str(tmp_path / "state"), tell=lambda say: pytest.fail(str(say)))


@pytest.fixture
def kept(folder):
    return Kept(folder, SystemClock(), nullcontext())


def test_what_is_held_back_can_be_accepted_once_it_is_noted(kept, folder):
    with pytest.raises(UsageError, match="not held back"):
        accept(folder, "sites/web")
    assert not kept.hold("sites/web", "gone")
    assert not kept.hold("sites/web", "")
    assert accept(folder, "sites/web") == "gone"
    assert kept.hold("sites/web", "")
    assert kept.hold("sites/web", "gone"), "also by the next start"


def test_another_reason_wants_another_word(kept, folder):
    kept.hold("web", "gone")
    accept(folder, "web")
    assert not kept.hold("web", "gone, and the store is another one")


def test_a_late_look_brings_back_nothing_that_was_released(kept, folder):
    kept.hold("web", "gone")
    kept.release("web")
    assert not kept.hold("web", "")
    with pytest.raises(UsageError, match="not held back"):
        accept(folder, "web")


def test_a_wrong_name_is_told_the_right_ones(kept, folder):
    kept.hold("web", "gone")
    kept.hold("app", "gone")
    with pytest.raises(UsageError) as error:
        accept(folder, "wep")
    assert error.value.hint == "held back are: app, web"


def test_kept_keys_of_any_bytes_come_back_with_their_age(kept):
    assert kept.recall().keys == {}
    kept.save({"/app/\udcff": "\udcfe"}, ["/app"])
    recalled = kept.recall()
    assert (recalled.keys, recalled.prefixes) == ({"/app/\udcff": "\udcfe"}, ("/app",))
    assert 0 <= recalled.age < 10


def test_who_may_not_read_the_state_is_told_so_and_not_that_nothing_is_held_back(kept, tmp_path):
    kept.hold("web", "gone")
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(UsageError, match="cannot be read"):
        accept(StateFolder(str(tmp_path / "state"), tell=[].append), "web")


def test_a_record_of_another_shape_is_as_good_as_none(kept, folder):
    for record in ({}, {"keys": [], "prefixes": [], "at": 1}, {"keys": {}, "prefixes": [], "at": "now"}):
        folder.write("keys", record)
        assert kept.recall().keys == {}


def test_what_was_kept_of_a_carried_prefix_stays_beside_the_new_keys(kept):
    kept.save({"/app/a": "1", "/app/web/x": "1", "/gone": "1"}, ("/app", "/gone"))
    kept.save({"/app/a": "2", "/app/web/y": "2"}, ("/app",), ("/app/web", "/never"))
    recalled = kept.recall()
    assert recalled.keys == {"/app/a": "2", "/app/web/x": "1"}
    assert recalled.prefixes == ("/app",)
    kept.save({"/b": "3"}, ("/b",), ("/app/web",))
    assert kept.recall().keys == {"/b": "3", "/app/web/x": "1"}
    assert kept.recall().prefixes == ("/app/web", "/b")


def test_keys_of_another_kind_of_store_are_not_recalled(folder):
    etcd, consul = (Kept(folder, SystemClock(), nullcontext(), backend) for backend in ("etcdv3", "consul"))
    etcd.save({"/a": "1"}, ("/a",))
    assert etcd.recall().keys == {"/a": "1"}
    assert consul.recall().keys == {}
    consul.save({"/b": "1"}, ("/b",), ("/a",))
    assert consul.recall().keys == {"/b": "1"}


def test_keys_that_an_earlier_version_kept_are_recalled(kept, folder):
    folder.write("keys", {"at": 1.0, "prefixes": ["/a"], "keys": {"/a": "1"}})
    assert kept.recall().keys == {"/a": "1"}
