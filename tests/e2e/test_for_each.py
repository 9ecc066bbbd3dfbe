"""One file per key, by the real confpy: virtual hosts of a real nginx come and go, and no file of others is touched."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from tests.e2e.running import Confpy, run_once
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.waiting import wait_until

HOSTS = 500


class Hosts:
    """An nginx whose virtual hosts are items, and whose keys are a file."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.keys = folder / "keys.json"
        self.sites = folder / "sites"
        self.sites.mkdir()
        (self.sites / "theirs.conf").write_text("# not confpy's\n")
        (folder / "confdir" / "conf.d").mkdir(parents=True)
        (folder / "confdir" / "templates").mkdir()
        (folder / "confdir" / "templates" / "host.j2").write_text(
            f"server {{ listen 127.0.0.1:{self.port}; server_name {{{{ item.name }}}};\n"
            "  location / { return 200 {{ item.value }}; } }\n"
        )
        self.config = folder / "nginx.conf"
        self.config.write_text(
            f"pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
            "http { access_log off; server_names_hash_max_size 4096; server_names_hash_bucket_size 128;\n"
            f"  server {{ listen 127.0.0.1:{self.port} default_server; location / {{ return 404 none; }} }}\n"
            f"  include {self.sites}/*.conf; }}\n"
        )
        self.nginx = find("nginx")
        self.write(**more)
        self.put({})

    def write(self, **more: str) -> None:
        options = {
            "src": "host.j2",
            "dest": f"{self.sites}/{{{{ name }}}}.conf",
            "for_each": "/vhosts/*",
            "check_cmd": f"echo x >> {self.folder}/checks; {self.nginx} -t -q -c {self.config}",
            "check_mode": "swap",
            "reload_cmd": f"echo x >> {self.folder}/reloads; kill -HUP $(cat {self.folder}/nginx.pid)",
            **more,
        }
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
        (self.folder / "confdir" / "conf.d" / "hosts.toml").write_text(f"[template]\n{lines}")

    def put(self, hosts: dict[str, str]) -> None:
        """Change the keys, in one step as an editor does."""
        new = self.keys.with_suffix(".new")
        new.write_text(json.dumps({"vhosts": hosts, "version": "1"}))
        new.rename(self.keys)

    def stamp(self) -> tuple[int, int, int]:
        """What changes when somebody touches the file that is not confpy's."""
        status = (self.sites / "theirs.conf").stat()
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns

    @property
    def flags(self) -> tuple[str, ...]:
        return ("-backend", "file", "-file", str(self.keys), "-confdir", str(self.folder / "confdir"))

    def names(self) -> set[str]:
        return {path.stem for path in self.sites.iterdir()} - {"theirs"}

    def count(self, what: str) -> int:
        path = self.folder / what
        return len(path.read_text().splitlines()) if path.exists() else 0

    def answer(self, host: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/", headers={"Host": host})
            return connection.getresponse().read().decode()
        finally:
            connection.close()


@pytest.fixture
def hosts(tmp_path) -> Hosts:
    return Hosts(tmp_path)


@pytest.mark.timeout(400)  # on a busy machine, each check of all hosts takes a second
def test_five_hundred_virtual_hosts_come_and_go_in_nginx_and_a_bad_one_stops_no_other(hosts):
    theirs = hosts.stamp()
    with Nginx(hosts.config, port=hosts.port):
        wanted = {f"h{number}": f"first{number}" for number in range(HOSTS)}
        hosts.put(wanted)
        with Confpy("-watch", *hosts.flags, folder=hosts.folder) as confpy:
            confpy.says("confpy.ready", seconds=120.0)
            assert hosts.names() == wanted.keys()
            assert hosts.count("checks") == 1
            wait_until(lambda: hosts.answer("h499") == "first499", what="nginx has the last of them", seconds=120)
            assert hosts.count("reloads") == 1
            # Some go, one changes, some come; one is bad.
            inodes = {name: (hosts.sites / f"{name}.conf").stat().st_ino for name in wanted}
            for number in range(100):
                del wanted[f"h{number}"]
            good = {**wanted, "h200": "second", **{f"n{number}": "new" for number in range(50)}}
            hosts.put({**good, "h300": "bad; }", "n7": "bad; }"})
            wait_until(lambda: hosts.answer("n49") == "new", what="nginx has what is new", seconds=120)
            wait_until(lambda: hosts.names() == good.keys() - {"n7"}, what="what is gone is removed", seconds=120)
            wait_until(lambda: hosts.answer("h200") == "second", what="nginx has what has changed", seconds=120)
            assert hosts.answer("h300") == "first300"
            # Old workers of nginx may answer for some moments.
            wait_until(lambda: hosts.answer("h0") == "none", what="nginx has what is gone no more", seconds=120)
            same = good.keys() & wanted.keys() - {"h200"}
            assert {name: (hosts.sites / f"{name}.conf").stat().st_ino for name in same} == {
                name: inodes[name] for name in same
            }
            hosts.put(good)
            wait_until(
                lambda: hosts.answer("n7") == "new", what="what was bad is delivered when it is mended", seconds=120
            )
    assert hosts.stamp() == theirs


def test_a_one_shot_removes_what_is_gone_says_so_before_and_has_the_exit_code_of_what_failed(hosts):
    hosts.write(check_cmd="! grep -q bad {{.src}}", check_mode="staged", reload_cmd="true")
    hosts.put({"a": "1", "b": "1"})
    assert run_once(*hosts.flags, folder=hosts.folder).code == 0
    hosts.put({"b": "2", "c": "bad", "..d": "1"})
    planned = run_once("-noop", *hosts.flags, folder=hosts.folder)
    gone = planned.find("resource.would_change", resource="hosts:a")
    assert gone["differs"] == "to be removed"
    assert hosts.names() == {"a", "b"}
    ended = run_once(*hosts.flags, folder=hosts.folder)
    assert (ended.code, hosts.names()) == (5, {"b"})
    hosts.put({"b": "2", "..d": "1"})
    ended = run_once(*hosts.flags, folder=hosts.folder)
    assert ended.code == 6
    assert ended.find("resource.failed")["key"] == "/vhosts/..d"


def test_a_pattern_that_matches_nothing_is_said_and_makes_no_file(hosts):
    ended = run_once(*hosts.flags, folder=hosts.folder)
    assert (ended.code, hosts.names()) == (0, set())
    assert ended.find("items.none")["resource"] == "hosts"


def test_a_dest_without_the_name_is_refused_with_its_line(hosts):
    hosts.write(dest=f"{hosts.sites}/all.conf")
    ended = run_once(*hosts.flags, folder=hosts.folder)
    assert ended.code == 2
    invalid = ended.find("resource.invalid")
    assert (invalid["key"], invalid["line"]) == ("dest", 3)
