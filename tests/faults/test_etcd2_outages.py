"""A whole confpy on a real etcd v2, and what happens to it: the next change arrives, and nothing good is emptied."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from confpy.errors import StoreError
from tests.e2e.running import Confpy, run_once
from tests.servers.etcd import Etcd2, EtcdSaysNo, cluster
from tests.servers.proxy import FaultProxy
from tests.waiting import wait_until


class Installation:
    """A confpy over ``/app``, which prints its keys; its reload command leaves a line in ``reloads``."""

    def __init__(self, folder, *nodes, resync="300s", extra=""):
        self.folder = folder
        self.target = folder / "out"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "templates" / "t.j2").write_text(
            '{% for key, value in gets("/*/*") + gets("/*/*/*") %}{{ key }}={{ value }}\n{% endfor %}'
        )
        (folder / "conf.d" / "app.toml").write_text(
            f'[template]\nsrc = "t.j2"\ndest = "{self.target}"\nkeys = ["/app"]\n'
            f"reload_cmd = \"echo reloaded >> '{folder}/reloads'\"\n{extra}"
        )
        named = [part for node in nodes for part in ("-node", node)]
        self.flags = ("-backend", "etcdv2", *named, "-confdir", str(folder))
        self.confpy = None
        self.resync = resync

    def __enter__(self):
        self.confpy = Confpy("-watch", *self.flags, "-resync", self.resync, folder=self.folder)
        return self

    def __exit__(self, *_):
        self.confpy.stop()
        assert not [event for event in self.confpy.events if "a bug in confpy" in str(event)]

    def lines(self):
        return self.target.read_text().splitlines() if self.target.exists() else None

    def shows(self, *lines, seconds=60):
        wait_until(
            lambda: self.lines() == list(lines), seconds=seconds, what=f"{lines} in the target, not {self.lines()}"
        )

    def reloads(self):
        file = self.folder / "reloads"
        return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_backend_with_a_ttl_is_there_until_it_expires(tmp_path, etcd2):
    etcd2.set("/app/web/a", "10.0.0.1:80")
    with Installation(tmp_path, etcd2.endpoint) as installation:
        installation.shows("/app/web/a=10.0.0.1:80")
        etcd2.set("/app/web/a", "10.0.0.1:80", ttl=3)  # not before confpy runs, which may take longer than that
        installation.shows()  # the folder is there, and empty


def test_a_heartbeat_reloads_nothing(tmp_path, etcd2):
    etcd2.set("/app/a", "1", ttl=60)
    with Installation(tmp_path, etcd2.endpoint) as installation:
        installation.shows("/app/a=1")
        wait_until(lambda: installation.reloads() == 1, what="the first reload")
        for _ in range(50):
            etcd2.set("/app/a", "1", ttl=60)
        etcd2.set("/app/b", "2")
        installation.shows("/app/a=1", "/app/b=2")
        wait_until(lambda: installation.reloads() == 2, what="the second reload")
        for _ in range(2):
            installation.confpy.says("resource.changed")
        assert len([event for event in installation.confpy.events if event["event"] == "resource.changed"]) == 2


def test_a_tree_that_is_removed_leaves_the_target_until_it_is_there_again(tmp_path, etcd2):
    etcd2.set("/app/sub/a", "1")
    with Installation(tmp_path, etcd2.endpoint) as installation:
        installation.shows("/app/sub/a=1")
        etcd2.remove("/app", recursive=True)
        installation.confpy.says("resource.failed", key="/app")
        installation.shows("/app/sub/a=1")
        etcd2.make("/app")
        installation.shows()
        etcd2.set("/app/b", "2")
        installation.shows("/app/b=2")


def test_a_tree_that_is_removed_empties_the_target_where_that_is_wanted(tmp_path, etcd2):
    etcd2.set("/app/a", "1")
    with Installation(tmp_path, etcd2.endpoint, extra='on_missing = "empty"\nshrink_grace = "1s"\n') as installation:
        installation.shows("/app/a=1")
        etcd2.remove("/app", recursive=True)
        installation.shows()  # at once, or after the grace: who wrote the file may not have reported it yet


def test_one_shot_fails_where_the_tree_is_missing_and_keeps_the_target(tmp_path, etcd2):
    installation = Installation(tmp_path, etcd2.endpoint)
    installation.target.write_text("old\n")
    ended = run_once(*installation.flags, folder=tmp_path)
    assert ended.code == 3
    assert ended.find("resource.failed")["key"] == "/app"
    installation.shows("old")


def test_a_value_that_was_not_utf8_is_reported_without_it(tmp_path, etcd2):
    etcd2.set("/app/a", "\udcff")
    installation = Installation(tmp_path, etcd2.endpoint)
    ended = run_once(*installation.flags, folder=tmp_path)
    assert ended.code == 0
    assert ended.find("value.damaged")["key"] == "/app/a"


def test_a_change_after_a_kill_and_a_restart_arrives(tmp_path, etcd2):
    etcd2.set("/app/a", "1")
    with Installation(tmp_path, etcd2.endpoint) as installation:
        installation.shows("/app/a=1")
        etcd2.kill()
        installation.confpy.says("watch.lost")
        etcd2.start()
        etcd2.set("/app/b", "2")
        installation.shows("/app/a=1", "/app/b=2")


def test_more_changes_than_etcd_remembers_while_nobody_waits_lose_nothing(tmp_path, etcd2):
    etcd2.set("/app/a", "1")
    with FaultProxy(etcd2.port) as proxy, Installation(tmp_path, proxy.endpoint) as installation:
        installation.shows("/app/a=1")
        proxy.refuse()
        proxy.reset()
        installation.confpy.says("watch.lost")
        etcd2.set("/app/b", "2")
        for number in range(1_100):
            etcd2.set("/other", str(number))
        proxy.heal()
        installation.shows("/app/a=1", "/app/b=2")
        etcd2.remove("/app/a")
        installation.shows("/app/b=2")


def test_a_wait_that_falls_silent_is_late_by_no_more_than_a_resync(tmp_path, etcd2):
    etcd2.set("/app/a", "1")
    with (
        FaultProxy(etcd2.port) as proxy,
        Installation(tmp_path, proxy.endpoint, etcd2.endpoint, resync="2s") as installation,
    ):
        installation.shows("/app/a=1")
        proxy.black_hole()
        etcd2.set("/app/b", "2")
        installation.shows("/app/a=1", "/app/b=2", seconds=60)


@pytest.fixture
def members():
    with cluster(Etcd2) as three:
        yield three


def written(member, key, value):
    """Whether the cluster took it."""
    try:
        return member.set(key, value)
    except (EtcdSaysNo, OSError):
        return 0


def test_every_change_arrives_while_members_of_a_cluster_come_and_go(tmp_path, members):
    members[0].set("/app/n", "start")
    with Installation(tmp_path, *(member.endpoint for member in members), resync="5s") as installation:
        installation.shows("/app/n=start")
        for number, member in enumerate(members):
            member.kill()
            write = partial(written, members[number - 1], "/app/n", str(number))
            wait_until(write, seconds=30, what="the two that live have a leader")
            installation.shows(f"/app/n={number}")
            member.start()
        for member in members[1:]:
            member.kill()
        installation.shows("/app/n=2")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Etcd2.start, members[1:]))
        wait_until(lambda: written(members[0], "/app/n", "end"), seconds=30, what="the cluster is back")
        installation.shows("/app/n=end")


def test_a_member_that_is_stopped_under_a_wait_makes_changes_late_by_no_more_than_a_resync(tmp_path, members):
    with ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(member.port)) for member in members]
        members[0].set("/app/n", "1")
        with Installation(tmp_path, *(proxy.endpoint for proxy in proxies), resync="2s") as installation:
            installation.shows("/app/n=1")

            def waited_on():
                return next((at for at, one in enumerate(proxies) if "wait=true" in "".join(one.requests)), None)

            wait_until(lambda: waited_on() is not None, what="a wait")
            silent = waited_on()
            members[silent].freeze()
            try:
                write = partial(written, members[silent - 1], "/app/n", "2")
                wait_until(write, seconds=30, what="the two that live have a leader")
                installation.shows("/app/n=2", seconds=60)
            finally:
                members[silent].thaw()
            # Another key: a write of the first that a leader held while it was frozen is made when it goes on.
            write = partial(written, members[silent - 1], "/app/o", "3")
            wait_until(write, seconds=30, what="the cluster takes a write")
            installation.shows("/app/n=2", "/app/o=3", seconds=60)


def test_a_member_without_its_cluster_does_not_answer_from_the_past(members, etcd2_store):
    members[0].set("/app/n", "1")
    alone, *others = members
    with FaultProxy(alone.port) as proxy:
        store = etcd2_store(proxy.endpoint, read_timeout=15.0)
        assert store.read(["/app"]).listings["/app"].keys == {"/app/n": "1"}
        for other in others:
            other.freeze()
        try:
            with pytest.raises(StoreError):
                store.read(["/app"])
        finally:
            for other in others:
                other.thaw()
        wait_until(lambda: read_or_none(store) == {"/app/n": "1"}, seconds=30, what="the cluster answers again")


def read_or_none(store):
    try:
        return store.read(["/app"]).listings["/app"].keys
    except StoreError:
        return None
