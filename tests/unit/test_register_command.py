"""What ``confpy register`` refuses, before anything is put or run."""

from __future__ import annotations

import json

import pytest

from confpy.cli import main
from confpy.config.settings import Settings
from confpy.errors import UsageError
from confpy.registration.values import Entry
from confpy.stores.consul.registrar import ConsulRegistrar
from confpy.stores.registering import open_registrar


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["/a/b"], "there is no value for /a/b"),
        (["/a/b", "1", "-value-file", "x"], "the value is given twice"),
        (["/a/b", "-value-file", "missing"], "the value cannot be read: No such file or directory"),
        (["/a/", "1"], "'/a/' is not a key"),
        (["/", "1"], "'/' is not a key"),
        (["/a//b", "1"], "'/a//b' is not a key"),
        (["/a\nb", "1"], "the key has a control character"),
        (["/a/b", "1", "-ttl", "0.5s"], "flag -ttl: it is a second or more"),
        (["/a/b", "1", "-ttl", "x"], 'flag -ttl is not a duration above zero, such as 30, "500ms" or "1m30s": \'x\''),
        (["/a/b", "1", "-check", "true", "-check-tcp", "a:1"], "flags -check and -check-tcp are given"),
        (["/a/b", "1", "-check", " "], "flag -check is empty"),
        (["/a/b", "1", "-check-tcp", "a"], "flag -check-tcp is not HOST:PORT"),
        (["/a/b", "1", "-check-http", "a"], "flag -check-http is not a URL"),
        (["/a/b", "1", "-backend", "env"], "a key cannot be registered in the store 'env'"),
        (["/a/b", "1", "-as-service"], "a service cannot be registered in the store 'etcdv3'"),
        (["/a/b", "-value-file", "large"], "the value has 1,572,865 bytes"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_put_or_run(flags, error, tmp_path, monkeypatch, capfd):
    (tmp_path / "large").write_bytes(b"x" * ((3 << 19) + 1))
    backend = [] if "-backend" in flags else ["-backend", "etcdv3", "-node", "127.0.0.1:1"]
    monkeypatch.chdir(tmp_path)
    code = main(["-log-format", "json", "register", *flags, *backend, "--", "touch", str(tmp_path / "ran")])
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert (code, line["event"], line["error"]) == (2, "confpy.failed", error)
    assert not (tmp_path / "ran").exists()


def test_a_key_below_a_mount_is_one_of_the_store_that_is_mounted_there():
    mounted = Settings(backend="consul", nodes=("127.0.0.1:8500",))
    settings = Settings(backend="etcdv3", mounts={"/shared": mounted})
    registrar = open_registrar(settings, Entry("/shared/web/a", b"1", 15.0))
    assert isinstance(registrar, ConsulRegistrar)
    assert registrar._key == "web/a"
    registrar.close()
    with pytest.raises(UsageError, match="where a store is mounted"):
        open_registrar(settings, Entry("/shared", b"1", 15.0))
