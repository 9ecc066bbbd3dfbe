"""One tree of keys over several real stores: a template with keys of all is right, whichever of them is away."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import Confpy, run_once
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd
from tests.waiting import wait_until

TEMPLATE = """\
{% for server in gets("/services/web/*") %}server {{ server.value }}
{% endfor %}
{%- for flag in gets("/flags/*") %}flag {{ flag.key }}={{ flag.value }}
{% endfor %}
{%- if exists("/secrets/db") %}password {{ getv("/secrets/db") }}
{% endif %}"""


class Confdir:
    """One template over etcd at ``/``, Consul's catalogue at ``/services`` and a file at ``/secrets``."""

    def __init__(self, folder: Path, etcd: Etcd, consul: Consul, *, more: str = "") -> None:
        self.folder = folder
        self.secrets = folder / "secrets.yaml"
        self.target = folder / "out.conf"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "templates" / "t.j2").write_text(TEMPLATE)
        (folder / "conf.d" / "web.toml").write_text(
            f'[template]\nsrc = "t.j2"\ndest = "{self.target}"\nmode = "0600"\n'
            f'keys = ["/services", "/flags", "/secrets"]\nshrink_grace = "1s"\n{more}'
        )
        (folder / "confpy.toml").write_text(
            textwrap.dedent(f"""\
            backend = "etcdv3"
            nodes = ["{etcd.endpoint}"]

            [mounts]
            "/services" = {{ backend = "consul-catalog", nodes = ["{consul.endpoint}"], service_value = "address" }}
            "/secrets" = {{ backend = "file", file = ["{self.secrets}"] }}
            """)
        )

    @property
    def flags(self) -> tuple[str, ...]:
        return "-confdir", str(self.folder), "-resync", "2s"

    def text(self) -> str:
        return self.target.read_text() if self.target.exists() else ""

    def shows(self, *lines: str) -> None:
        wanted = "".join(f"{line}\n" for line in lines)
        wait_until(lambda: self.text() == wanted, seconds=60, what=f"{lines} in {self.text()!r}")


def register(consul: Consul, instance: str, number: int) -> None:
    consul.register("web", instance, Address=f"10.0.0.{number}", Port=80)


@pytest.fixture
def confdir(tmp_path: Path, etcd: Etcd, consul: Consul) -> Confdir:
    etcd.put("/flags/dark", "on")
    register(consul, "a", 1)
    found = Confdir(tmp_path, etcd, consul)
    found.secrets.write_text("db: hunter2\n")
    return found


@pytest.fixture
def running(confdir: Confdir) -> Iterator[Confpy]:
    with Confpy("-watch", *confdir.flags, folder=confdir.folder) as confpy:
        confdir.shows("server 10.0.0.1:80", "flag /flags/dark=on", "password hunter2")
        yield confpy
    assert not [event for event in confpy.events if "a bug in confpy" in str(event)]
    assert "hunter" not in str(confpy.events)


def test_each_store_is_killed_in_turn_and_the_file_stays_right(confdir, running, etcd, consul):
    etcd.kill()
    running.says("store.lost", seconds=60)
    register(consul, "b", 2)
    servers = ("server 10.0.0.1:80", "server 10.0.0.2:80")
    confdir.shows(*servers, "flag /flags/dark=on", "password hunter2")
    etcd.start()
    running.says("store.recovered", seconds=60)
    consul.kill()
    running.says("store.lost", seconds=60, mount="/services")
    etcd.put("/flags/dark", "off")
    confdir.shows(*servers, "flag /flags/dark=off", "password hunter2")
    consul.start()
    running.says("store.recovered", seconds=60, mount="/services")
    confdir.secrets.rename(confdir.folder / "away.yaml")
    running.says("store.lost", seconds=60, mount="/secrets")
    consul.deregister("a")
    etcd.put("/flags/dark", "on")
    confdir.shows("server 10.0.0.2:80", "flag /flags/dark=on", "password hunter2")
    confdir.secrets.write_text("db: hunter3\n")
    confdir.shows("server 10.0.0.2:80", "flag /flags/dark=on", "password hunter3")


def test_a_one_shot_over_a_store_that_is_away_ends_with_its_code_and_delivers_what_does_not_read_it(confdir, consul):
    (confdir.folder / "conf.d" / "other.toml").write_text(
        f'[template]\nsrc = "o.j2"\ndest = "{confdir.folder}/other"\nkeys = ["/flags"]\n'
    )
    (confdir.folder / "templates" / "o.j2").write_text('{{ getv("/flags/dark") }}')
    consul.kill()
    ended = run_once(*confdir.flags, folder=confdir.folder)
    assert ended.code == 3
    assert (confdir.folder / "other").read_text() == "on"
    assert not confdir.target.exists()
    assert ended.find("store.lost", mount="/services")


def test_a_daemon_starts_without_one_of_its_stores_and_delivers_when_that_comes(confdir, consul):
    consul.kill()
    with Confpy("-watch", *confdir.flags, folder=confdir.folder) as confpy:
        confpy.says("store.lost", seconds=60, mount="/services")
        assert not confdir.target.exists()
        consul.start()
        confdir.shows("server 10.0.0.1:80", "flag /flags/dark=on", "password hunter2")
