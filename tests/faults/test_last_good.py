"""A start without the store: what was delivered last makes the targets that are missing, and changes none."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.e2e.house import House, pass_time, shows
from tests.servers.etcd import Etcd

SECRET = "5ecret"


@pytest.fixture
def house(tmp_path: Path, etcd: Etcd) -> House:
    """Three resources, of which a confpy that has ended delivered the last keys; etcd is down."""
    found = House(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
    etcd.put_all({"/app/lost": "1", "/app/kept": SECRET, "/other": "x"})
    for name in ("lost", "kept"):
        found.add(name)
    with found.start() as confpy:
        for name in ("lost", "kept"):
            confpy.says("resource.changed", resource=name) if name == "lost" else shows(tmp_path / name, SECRET + "\n")
    etcd.kill()
    (tmp_path / "lost").unlink()
    return found


def kept(house: House) -> Path:
    (path,) = (house.folder / "state").rglob("keys.json")
    return path


def test_a_missing_target_is_made_and_an_existing_one_is_left_alone(house, etcd):
    lost, other = house.folder / "lost", house.folder / "kept"
    other.write_text("from newer keys\n")
    with house.start() as confpy:
        recalled = confpy.says("store.stale")
        assert 0 <= recalled["age"] < 60
        assert recalled["keys"] == 2
        confpy.says("resource.stale", resource="lost", target=str(lost))
        shows(lost, "1\n")
        pass_time(2)
        assert other.read_text() == "from newer keys\n"
        etcd.start()
        etcd.put("/app/lost", "2")
        shows(lost, "2\n", seconds=60)
        shows(other, SECRET + "\n", seconds=60)
        assert SECRET not in str(confpy.events)


def test_a_new_resource_that_the_kept_keys_say_nothing_of_waits_for_the_store(house):
    new = house.add("new")
    with house.start() as confpy:
        confpy.says("resource.stale", resource="lost")
        pass_time(1)
        assert not new.exists()


def test_one_shot_makes_stale_targets_only_where_it_is_told_to(house):
    lost = house.folder / "lost"
    plain = house.once()
    assert (plain.code, lost.exists()) == (3, False)
    stale = house.once("-allow-stale")
    assert stale.code == 0, stale.events
    assert stale.find("store.stale")
    assert stale.find("resource.stale", resource="lost")
    assert lost.read_text() == "1\n"


def test_one_shot_with_a_resource_that_is_not_kept_fails_for_it_alone(house):
    house.add("new")
    ended = house.once("-allow-stale")
    assert ended.code == 3
    assert ended.find("store.lost")
    assert (house.folder / "lost").read_text() == "1\n"


def test_the_kept_keys_are_for_our_eyes_only_and_only_those_that_resources_cover(house):
    path = kept(house)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert json.loads(path.read_text())["record"]["keys"] == {"/app/lost": "1", "/app/kept": SECRET}


def test_kept_keys_of_another_format_are_set_aside(house):
    path = kept(house)
    path.write_text('{"format": 99, "record": {}}')
    with house.start() as confpy:
        confpy.says("state.quarantined", record="keys")
        confpy.says("store.lost")
    assert not (house.folder / "lost").exists()


def test_keys_in_doubt_are_not_kept_in_place_of_those_that_were_delivered(tmp_path, etcd):
    house = House(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
    etcd.put_all({"/app/web/a": "1", "/app/web/b": "2"})
    dest = house.add("web", '{{ ls("/app/web") | join(",") }}\n')
    with house.start() as confpy:
        shows(dest, "a,b\n")
        confpy.says("resource.changed")  # what was delivered is kept from here on
        etcd.delete("/app/web/", prefix=True)
        confpy.says("keys.suspect")
    assert json.loads(kept(house).read_text())["record"]["keys"] == {"/app/web/a": "1", "/app/web/b": "2"}


def test_what_is_kept_while_it_runs_survives_a_kill(tmp_path, etcd):
    house = House(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
    etcd.put("/app/web", "1")
    dest = house.add("web")
    with house.start() as confpy:
        shows(dest, "1\n")
        etcd.put("/app/web", "2")
        shows(dest, "2\n")
        pass_time(11)
        confpy.process.kill()
    assert json.loads(kept(house).read_text())["record"]["keys"] == {"/app/web": "2"}


@pytest.mark.parametrize("backend", ["file", "env"])
def test_local_stores_keep_nothing(tmp_path, backend):
    house = House(tmp_path, "-backend", backend, *(("-file", str(tmp_path / "keys.yaml")) if backend == "file" else ()))
    house.write("app: {web: x}")
    house.add("web")
    with house.start("-interval", "1s") as confpy:
        confpy.says("resource.changed")
    assert not list((tmp_path / "state").rglob("keys.json"))
