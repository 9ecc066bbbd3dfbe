"""A whole confpy on a real etcd that keeps something back: hidden names of v2, and what a user may not see."""

from __future__ import annotations

import json

from tests.e2e.running import Confpy, run_once
from tests.servers.consul import Consul
from tests.waiting import wait_until


class Installation:
    """A confpy with one resource for each list of keys, which prints what it sees to ``<name>.out``."""

    def __init__(self, folder, endpoint, *flags, backend="etcdv2", **keys):
        self.folder = folder
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "templates" / "t.j2").write_text(
            '{% for depth in range(1, 5) %}{% for key, value in gets("/*" * depth) %}{{ key }}={{ value }}\n'
            "{% endfor %}{% endfor %}"
        )
        for name, prefixes in keys.items():
            (folder / "conf.d" / f"{name}.toml").write_text(
                f'[template]\nsrc = "t.j2"\ndest = "{folder}/{name}.out"\nkeys = {json.dumps(prefixes)}\n'
            )
        self.flags = ("-backend", backend, "-node", endpoint, "-confdir", str(folder), *flags)

    def watching(self, resync="300s"):
        return Confpy("-watch", *self.flags, "-resync", resync, folder=self.folder)

    def text(self, name):
        file = self.folder / f"{name}.out"
        return file.read_text() if file.exists() else None

    def shows(self, name, *lines, seconds=30):
        text = "".join(f"{line}\n" for line in lines)
        wait_until(
            lambda: self.text(name) == text, seconds=seconds, what=f"{lines} in {name}.out, not {self.text(name)}"
        )


def test_hidden_keys_that_are_asked_for_are_followed_beside_what_lies_above_them(tmp_path, etcd2):
    etcd2.set("/a/x", "1")
    etcd2.set("/a/_h/y", "2")
    etcd2.set("/a/_other/z", "3")
    installation = Installation(tmp_path, etcd2.endpoint, both=["/a", "/a/_h"], hidden=["/a/_h"], above=["/a"])
    with installation.watching():
        installation.shows("above", "/a/x=1")
        installation.shows("hidden", "/a/_h/y=2")
        installation.shows("both", "/a/x=1", "/a/_h/y=2")
        etcd2.set("/a/_h/y", "4")
        installation.shows("hidden", "/a/_h/y=4")
        installation.shows("both", "/a/x=1", "/a/_h/y=4")
        etcd2.set("/a/x", "5")
        installation.shows("both", "/a/x=5", "/a/_h/y=4")
        installation.shows("above", "/a/x=5")
        etcd2.remove("/a/_h", recursive=True)
        etcd2.set("/a/_h/n", "6")
        installation.shows("both", "/a/x=5", "/a/_h/n=6")
        installation.shows("hidden", "/a/_h/n=6")


def test_a_refused_prefix_stops_who_reads_it_and_is_followed_when_it_is_given(tmp_path, etcd2):
    etcd2.set("/open/x", "1")
    etcd2.set("/shut/y", "2")
    etcd2.guard("/open")
    installation = Installation(tmp_path, etcd2.endpoint, open=["/open"], one=["/shut"], two=["/shut", "/open"])
    ended = run_once(*installation.flags, folder=tmp_path)
    assert ended.code == 3
    errors = [event["event"] for event in ended.events if event["level"] == "error"]
    assert errors == ["prefix.denied", "onetime.failed"]
    installation.shows("open", "/open/x=1")
    assert (installation.text("one"), installation.text("two")) == (None, None)
    with installation.watching() as confpy:
        refused = confpy.says("prefix.denied")
        assert (refused["prefix"], refused["resource"]) == ("/shut", "one, two")
        etcd2.set("/open/x", "3")
        installation.shows("open", "/open/x=3")
        grant = {"role": "guest", "grant": {"kv": {"read": ["/shut", "/shut/*"]}}}
        etcd2._send("PUT", "/auth/roles/guest", json.dumps(grant), "application/json")
        installation.shows("one", "/shut/y=2")
        installation.shows("two", "/open/x=3", "/shut/y=2")
        confpy.says("prefix.recovered", prefix="/shut")
        etcd2.set("/shut/y", "4")
        installation.shows("one", "/shut/y=4")


def test_a_prefix_that_etcd_v3_takes_from_a_role_is_known_at_the_next_resync(tmp_path, etcd):
    etcd.put_all({"/allowed/x": "1", "/taken/y": "2"})
    etcd.add_user("web", "secret", ("/allowed", "/allowed0"), ("/taken", "/taken0"))
    etcd.enable_auth()
    (tmp_path / "password").write_text("secret")
    login = ("-username", "web", "-password-file", str(tmp_path / "password"))
    installation = Installation(
        tmp_path, etcd.endpoint, *login, backend="etcdv3", allowed=["/allowed"], taken=["/taken"]
    )
    with installation.watching(resync="4s") as confpy:
        installation.shows("allowed", "/allowed/x=1")
        installation.shows("taken", "/taken/y=2")
        etcd.revoke("web", "/taken", "/taken0")
        refused = confpy.says("prefix.denied", seconds=16)  # not the full read: that is 40 seconds away
        assert (refused["prefix"], refused["resource"]) == ("/taken", "taken")
        assert "the user web" in refused["error"]
        etcd.put("/allowed/x", "3")
        installation.shows("allowed", "/allowed/x=3")
        installation.shows("taken", "/taken/y=2")


def test_a_prefix_that_an_etcd_v3_role_is_granted_is_back_within_30_seconds(tmp_path, etcd):
    etcd.put_all({"/open/x": "1", "/shut/y": "2"})
    etcd.add_user("web", "secret", ("/open", "/open0"))
    etcd.enable_auth()
    (tmp_path / "password").write_text("secret")
    login = ("-username", "web", "-password-file", str(tmp_path / "password"))
    installation = Installation(tmp_path, etcd.endpoint, *login, backend="etcdv3", open=["/open"], shut=["/shut"])
    with installation.watching() as confpy:
        confpy.says("prefix.denied", prefix="/shut")
        etcd.grant("web", "/shut", "/shut0")
        installation.shows("shut", "/shut/y=2")


def test_a_prefix_that_a_consul_token_may_list_again_is_back_within_30_seconds(tmp_path):
    with Consul(acl=True, lists=True) as consul:
        consul.transact({"open/x": "1", "shut/y": "2"})
        rules = 'key_prefix "open" { policy = "list" }'
        token = consul.grant(rules)
        (tmp_path / "token").write_text(token)
        login = ("-auth-token-file", str(tmp_path / "token"))
        installation = Installation(tmp_path, consul.endpoint, *login, backend="consul", open=["/open"], shut=["/shut"])
        with installation.watching() as confpy:
            confpy.says("prefix.denied", prefix="/shut")
            consul.allow(token, rules + 'key_prefix "shut" { policy = "list" }')
            installation.shows("shut", "/shut/y=2", seconds=60)  # Consul itself may take a while
