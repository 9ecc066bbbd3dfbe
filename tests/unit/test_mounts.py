"""``[mounts]``: what may stand there, and the settings of each store."""

from __future__ import annotations

import pytest

from confpy.config.sources import load_settings
from confpy.errors import UsageError
from confpy.keys.mounts import Mounts

SECRET = "hunter2"


def load(folder, text, environ=(), **flags):
    (folder / "confpy.toml").write_text(text)
    return load_settings({"confdir": str(folder), **flags}, dict(environ))


def test_a_mount_has_its_stores_settings_and_the_run_has_its_own(tmp_path):
    settings, warnings = load(
        tmp_path,
        'backend = "etcdv3"\nnodes = ["a:1"]\n[mounts]\n'
        '"/secrets" = { backend = "file", file = ["/run/s.yaml"] }\n'
        '"/kv/" = { backend = "consul", node = "b:2", datacenter = "dc2" }\n',
    )
    assert warnings == []
    assert (settings.backend, settings.nodes, settings.files) == ("etcdv3", ("a:1",), ())
    assert list(settings.mounts) == ["/secrets", "/kv"]
    assert settings.mounts["/secrets"].files == ("/run/s.yaml",)
    assert (settings.mounts["/kv"].nodes, settings.mounts["/kv"].datacenter) == (("b:2",), "dc2")


@pytest.mark.parametrize(
    ("mounts", "message", "hint"),
    [
        ('"secrets" = { backend = "env" }', "the mount 'secrets' is relative", 'write "/secrets"'),
        ('"/" = { backend = "env" }', "nothing can be mounted at /", "backend names the store"),
        ('"/a" = { backend = "env" }\n"/a/" = { backend = "file" }', "two stores are mounted at /a", "of its own"),
        ('"/a//b" = { backend = "env" }', "the mount '/a//b' is no plain path", 'write "/a/b"'),
        ('"/a/../b" = { backend = "env" }', "the mount '/a/../b' is no plain path", 'write "/b"'),
        ('"/a" = { backend = "consull" }', "unknown store 'consull'", "did you mean consul?"),
        ('"/a" = { backend = "mysql" }', "unknown store 'mysql'", "choose one of"),
        ('"/a" = { file = ["/x"] }', "the store has no backend", "backend ="),
        ('"/a" = "env"', "the mount /a is no table", "backend ="),
        ('"/a" = { backend = "consul", datacentre = "x" }', "unknown setting datacentre", "did you mean datacenter?"),
        ('"/a" = { backend = "consul", nodes = 3 }', "nodes is not ", ""),
    ],
)
def test_a_mount_that_is_none_is_an_error_that_says_what_to_write(tmp_path, mounts, message, hint):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, f"[mounts]\n{mounts}\n")
    error = caught.value
    assert error.message.startswith(message)
    assert hint in error.hint
    assert error.where["file"] == str(tmp_path / "confpy.toml")
    assert str(error.where["key"]).startswith("mounts.")


def test_a_setting_that_is_not_of_a_store_is_ignored_with_a_warning(tmp_path):
    _, warnings = load(tmp_path, '[mounts]\n"/a" = { backend = "env", interval = 3, role_id = "x" }\n')
    assert [(one.message, one.where["key"]) for one in warnings] == [
        ("interval is no setting of a store, ignored", "mounts./a.interval"),
        ("role_id has no meaning here, ignored", "mounts./a.role_id"),
    ]


def test_what_logs_in_to_confpys_store_is_not_sent_to_another_server(tmp_path):
    given = {"CONFPY_PASSWORD": SECRET, "CONFPY_AUTH_TOKEN": SECRET, "CONSUL_HTTP_TOKEN": SECRET}
    settings, _ = load(
        tmp_path,
        'backend = "consul"\nnodes = ["a:1"]\nusername = "me"\nbasic_auth = true\nclient_key = "/k"\n[mounts]\n'
        '"/other" = { backend = "consul", nodes = ["b:1"] }\n'
        '"/etcd" = { backend = "etcdv3" }\n',
        given,
    )
    assert settings.auth_token == SECRET
    for one in settings.mounts.values():
        assert (one.password, one.auth_token, one.username, one.client_key) == (None, None, None, None)
        assert (one.nodes, one.basic_auth) in {(("b:1",), False), ((), False)}


def test_the_same_server_is_logged_in_to_as_confpys_store_is(tmp_path):
    settings, _ = load(
        tmp_path,
        'backend = "consul"\nnodes = ["a:1"]\n[mounts]\n"/far" = { backend = "consul", datacenter = "dc2" }\n',
        {"CONSUL_HTTP_TOKEN": SECRET},
    )
    far = settings.mounts["/far"]
    assert (far.nodes, far.auth_token, far.datacenter, settings.datacenter) == (("a:1",), SECRET, "dc2", None)


def test_consuls_catalogue_is_asked_of_the_consul_that_confpy_reads_its_keys_from(tmp_path):
    settings, _ = load(
        tmp_path, 'backend = "consul"\nnodes = ["a:1"]\n[mounts]\n"/catalog" = { backend = "consul-catalog" }\n'
    )
    assert settings.mounts["/catalog"].nodes == ("a:1",)


def test_the_variables_of_a_mounted_stores_own_tools_count_where_confpys_store_is_of_another_kind(tmp_path):
    settings, _ = load(
        tmp_path,
        'backend = "etcdv3"\n[mounts]\n"/kv" = { backend = "consul" }\n',
        {"CONSUL_HTTP_ADDR": "c:8500", "CONSUL_HTTP_TOKEN": SECRET, "ETCDCTL_ENDPOINTS": "e:2379"},
    )
    assert (settings.mounts["/kv"].nodes, settings.mounts["/kv"].auth_token) == (("c:8500",), SECRET)
    assert settings.nodes == ("e:2379",)


def test_no_secret_of_a_mounted_store_is_shown(tmp_path):
    settings, _ = load(
        tmp_path, f'[mounts]\n"/kv" = {{ backend = "consul", auth_token = "{SECRET}", password = "{SECRET}" }}\n'
    )
    assert SECRET not in repr(settings)


def test_the_longest_mount_wins():
    mounts = Mounts(["/a", "/a/b", "/c"])
    found = [mounts.point_of(path) for path in ("/", "/a", "/a/x", "/a/b", "/a/b/c", "/ab", "/c/d", "a/x")]
    assert found == ["", "/a", "/a", "/a/b", "/a/b", "", "/c", ""]
    assert mounts.below("/") == ("/a", "/a/b", "/c")
    assert mounts.below("/a") == ("/a/b",)
    assert mounts.split(["/a/x", "/z", "/a/b", "/a/y"]) == {"/a": ["/a/x", "/a/y"], "": ["/z"], "/a/b": ["/a/b"]}
