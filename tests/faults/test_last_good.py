"""A start without the store: what was delivered last makes the targets that are missing, and changes none."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, pass_time, shows
from tests.servers.etcd import Etcd

SECRET = "5ecret"


@pytest.fixture
def installation(tmp_path: Path, etcd: Etcd) -> Installation:
    """Three resources, of which a confpy that has ended delivered the last keys; etcd is down."""
    found = Installation(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
    etcd.put_all({"/app/lost": "1", "/app/other": SECRET, "/other": "x"})
    for name in ("lost", "other"):
        found.add(name)
    with found.start() as confpy:
        for name in ("lost", "other"):
            confpy.says("resource.changed", resource=name) if name == "lost" else shows(tmp_path / name, SECRET + "\n")
    etcd.kill()
    (tmp_path / "lost").unlink()
    return found


def cached(installation: Installation) -> Path:
    (path,) = (installation.folder / "state").rglob("keys.json")
    return path


def test_a_missing_target_is_made_and_an_existing_one_is_left_alone(installation, etcd):
    lost, other = installation.folder / "lost", installation.folder / "other"
    other.write_text("from newer keys\n")
    with installation.start() as confpy:
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


def test_a_new_resource_that_the_kept_keys_say_nothing_of_waits_for_the_store(installation):
    new = installation.add("new")
    with installation.start() as confpy:
        confpy.says("resource.stale", resource="lost")
        pass_time(1)
        assert not new.exists()


def test_one_shot_makes_stale_targets_only_where_it_is_told_to(installation):
    lost = installation.folder / "lost"
    plain = installation.once()
    assert (plain.code, lost.exists()) == (3, False)
    stale = installation.once("-allow-stale")
    assert stale.code == 0, stale.events
    assert stale.find("store.stale")
    assert stale.find("resource.stale", resource="lost")
    assert lost.read_text() == "1\n"


def test_one_shot_with_a_resource_that_is_not_kept_fails_for_it_alone(installation):
    installation.add("new")
    ended = installation.once("-allow-stale")
    assert ended.code == 3
    assert ended.find("store.lost")
    assert (installation.folder / "lost").read_text() == "1\n"


def test_the_kept_keys_are_for_our_eyes_only_and_only_those_that_resources_cover(installation):
    path = cached(installation)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert json.loads(path.read_text())["record"]["keys"] == {"/app/lost": "1", "/app/other": SECRET}


def test_kept_keys_of_another_format_are_set_aside(installation):
    path = cached(installation)
    path.write_text('{"format": 99, "record": {}}')
    with installation.start() as confpy:
        confpy.says("state.quarantined", record="keys")
        confpy.says("store.lost")
    assert not (installation.folder / "lost").exists()


def test_keys_in_doubt_are_not_kept_in_place_of_those_that_were_delivered(tmp_path, etcd):
    installation = Installation(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
    etcd.put_all({"/app/web/a": "1", "/app/web/b": "2"})
    dest = installation.add("web", '{{ ls("/app/web") | join(",") }}\n')
    with installation.start() as confpy:
        shows(dest, "a,b\n")
        confpy.says("resource.changed")  # what was delivered is cached from here on
        etcd.delete("/app/web/", prefix=True)
        confpy.says("keys.suspect")
    assert json.loads(cached(installation).read_text())["record"]["keys"] == {"/app/web/a": "1", "/app/web/b": "2"}


def test_what_is_kept_while_it_runs_survives_a_kill(tmp_path, etcd):
    installation = Installation(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
    etcd.put("/app/web", "1")
    dest = installation.add("web")
    with installation.start() as confpy:
        shows(dest, "1\n")
        etcd.put("/app/web", "2")
        shows(dest, "2\n")
        pass_time(11)
        confpy.process.kill()
    assert json.loads(cached(installation).read_text())["record"]["keys"] == {"/app/web": "2"}


@pytest.mark.parametrize("backend", ["file", "env"])
def test_local_stores_keep_nothing(tmp_path, backend):
    installation = Installation(
        tmp_path, "-backend", backend, *(("-file", str(tmp_path / "keys.yaml")) if backend == "file" else ())
    )
    installation.write("app: {web: x}")
    installation.add("web")
    with installation.start("-interval", "1s") as confpy:
        confpy.says("resource.changed")
    assert not list((tmp_path / "state").rglob("keys.json"))
