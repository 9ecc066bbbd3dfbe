"""Nodes out of DNS, all the way: a real name server, a real etcd, and a confpy whose record does not exist."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing

import pytest

from confpy.config.settings import Settings
from confpy.errors import StoreError
from confpy.stores import open_store
from tests.servers.dns import Dns
from tests.servers.etcd import Etcd


def test_a_cluster_that_moves_is_found_again_by_its_record(monkeypatch):
    with Dns() as dns, Etcd() as first, Etcd() as second:
        monkeypatch.setattr("dns.resolver.Resolver", dns.resolver)
        first.put("/a", "here")
        second.put("/a", "there")
        record = "_etcdv3._tcp.example.com."
        dns.records[record] = [f"1 0 {first.port} localhost.", f"2 0 {second.port} localhost."]
        settings = Settings(backend="etcdv3", srv_domain="example.com", connect_timeout=2.0, read_timeout=5.0)
        with closing(open_store("etcdv3", settings)) as store:
            assert dns.asked == []
            assert store.read(["/a"]).listings["/a"].keys == {"/a": "here"}
            first.kill()
            assert store.read(["/a"]).listings["/a"].keys == {"/a": "there"}
            second.kill()
            first.start()
            dns.records[record] = [f"1 0 {first.port} localhost."]
            with closing(open_store("etcdv3", settings)) as fresh:
                assert fresh.read(["/a"]).listings["/a"].keys == {"/a": "here"}
            asked = len(dns.asked)
            first.kill()
            with pytest.raises(StoreError, match="none of 2 nodes"):
                store.read(["/a"])
            first.start()
            assert store.read(["/a"]).listings["/a"].keys == {"/a": "here"}
            assert len(dns.asked) == asked + 1


def test_a_record_that_nobody_knows_is_one_line_and_the_exit_code_of_stores(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text(f'[template]\nsrc = "a"\ndest = "{tmp_path}/target"\nkeys = ["/a"]\n')
    (tmp_path / "templates" / "a").write_text("x")
    record = "_etcd._tcp.nowhere.invalid."
    command = [sys.executable, "-m", "confpy", "-onetime", "-backend", "etcdv3", "-srv-record", record]
    command += ["-confdir", str(tmp_path), "-state-dir", str(tmp_path / "state"), "-connect-timeout", "2s"]
    environment = {"PATH": os.environ["PATH"], "CONFPY_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in done.stderr.splitlines() if record in line]
    assert done.returncode == 3
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "target").exists()
