"""confpy on the name ``etcd``, as its users run it: it finds out which API it reads, and keeps to it."""

from __future__ import annotations

import pytest

from tests.e2e.running import Confpy, run_once
from tests.waiting import wait_until


class Installation:
    """A confdir with one resource over ``/app``, which prints its keys."""

    def __init__(self, folder, node, extra=""):
        self.folder = folder
        self.target = folder / "out"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "templates" / "t.j2").write_text(
            '{% for key, value in gets("/app/*") %}{{ key }}={{ value }}\n{% endfor %}'
        )
        (folder / "conf.d" / "app.toml").write_text(
            f'[template]\nsrc = "t.j2"\ndest = "{self.target}"\nkeys = ["/app"]\n{extra}'
        )
        self.flags = ("-node", node, "-confdir", str(folder))

    def once(self, *flags):
        return run_once(*self.flags, *flags, folder=self.folder)

    def watch(self):
        return Confpy("-watch", *self.flags, "-resync", "300s", folder=self.folder)

    def shows(self, *lines):
        wait_until(
            lambda: self.target.exists() and self.target.read_text().splitlines() == list(lines),
            what=f"{lines} in the target",
        )


def warnings(confpy):
    return [event for event in confpy.events if event["level"] != "info"]


@pytest.mark.parametrize("api", ["etcdv2", "etcdv3"])
def test_a_daemon_that_waits_for_keys_follows_the_api_by_which_they_come(etcd2, tmp_path, api):
    write = etcd2.set if api == "etcdv2" else etcd2.put
    installation = Installation(tmp_path, etcd2.endpoint)
    with installation.watch() as confpy:
        confpy.says("store.undecided")
        confpy.says("resource.failed", key="/app")
        write("/app/a", "1")
        confpy.says("store.chosen", store=api, level="info")
        installation.shows("/app/a=1")
        write("/app/b", "2")
        installation.shows("/app/a=1", "/app/b=2")
        assert {event["event"] for event in warnings(confpy)} == {"resource.failed"}
    assert installation.once().names == ["onetime.done"], "an earlier start has chosen"


def test_a_tree_that_goes_is_what_it_is_to_the_chosen_store(etcd2, tmp_path):
    installation = Installation(tmp_path, etcd2.endpoint)
    etcd2.put("/app/a", "1")
    with installation.watch():
        installation.shows("/app/a=1")
        etcd2.delete("/app/a")
        installation.shows()


def test_one_shot_decides_in_its_one_read_or_fails_as_for_a_missing_key(etcd2, tmp_path):
    installation = Installation(tmp_path, etcd2.endpoint)
    ended = installation.once()
    assert ended.code == 3
    assert ended.find("store.undecided")
    assert ended.find("resource.failed")["key"] == "/app"
    assert not installation.target.exists()
    etcd2.put("/app/a", "3")
    etcd2.set("/app/a", "2")
    ended = installation.once()
    assert (ended.code, ended.find("store.chosen")["level"]) == (0, "warning")
    assert "etcdv3" in ended.find("store.chosen")["hint"]
    installation.shows("/app/a=2")
    assert installation.once("-backend", "etcdv3").code == 0
    installation.shows("/app/a=3")


def test_one_shot_renders_empty_what_may_be_missing_while_nothing_is_decided(etcd2, tmp_path):
    installation = Installation(tmp_path, etcd2.endpoint, 'on_missing = "empty"\n')
    assert installation.once().code == 0
    installation.shows()


@pytest.mark.parametrize(("api", "damaged"), [("etcdv2", 1), ("etcdv3", 0)])
def test_a_value_that_etcd_v2_could_not_store_is_reported_and_its_like_in_v3_is_not(etcd2, tmp_path, api, damaged):
    write = etcd2.set if api == "etcdv2" else etcd2.put
    installation = Installation(tmp_path, etcd2.endpoint)
    write("/app/a", "\N{REPLACEMENT CHARACTER}")
    ended = installation.once()
    assert (ended.code, ended.find("store.chosen")["store"]) == (0, api)
    assert sum(event["event"] == "value.damaged" for event in ended.events) == damaged


def test_a_state_folder_that_cannot_be_written_is_logged_once_and_stops_nothing(etcd2, tmp_path):
    (tmp_path / "state").write_text("in the way")
    installation = Installation(tmp_path, etcd2.endpoint)
    etcd2.put("/app/a", "1")
    ended = installation.once()
    assert ended.code == 0
    assert ended.find("state.not_saved")["record"] == "etcd"
    installation.shows("/app/a=1")


def test_a_later_start_keeps_the_choice_and_warns_where_it_would_be_another(etcd2, tmp_path):
    installation = Installation(tmp_path, etcd2.endpoint)
    etcd2.put("/app/a", "3")
    assert installation.once().code == 0
    etcd2.set("/app/a", "2")
    with installation.watch() as confpy:
        written = confpy.says("store.chosen", level="warning", store="etcdv3")
        assert "etcdv2" in written["hint"]
        etcd2.put("/app/b", "3")
        installation.shows("/app/a=3", "/app/b=3")
