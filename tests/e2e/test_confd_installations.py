"""Installations of confd, as they are found, run under confpy as they stand: the same bytes, checks and reloads.

``tests/golden/installations/NAME`` is a confdir, its keys (``keys.json``), and what confd made of them in ``expected``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.running import ROOT, in_path, run_once
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.program import answers
from tests.waiting import wait_until

INSTALLATIONS = ROOT / "tests" / "golden" / "installations"
MANUAL = ROOT / "docs" / "migrating-from-confd.md"
MODES = {
    "flat": {"motd": "644", "haproxy.cfg": "644", "announce.sh": "755"},
    "json": {"nginx.conf": "644", "targets.json": "644"},
    "patroni": {"haproxy.cfg": "644", "pgbouncer.ini": "640"},
}
"""Installation → its targets and their modes."""
WARNED = {"flat": {"verbose", "debug", "confd", "watch"}, "json": set(), "patroni": {"owner", "group"}}
"""Installation → the keys in its files that confpy warns of."""
MACHINES = re.compile(r"/(?=(?:etc|var|run)/)")
"""Where a path of the machine begins that a test keeps in its own folder."""
PATHS = re.compile(r"/(?:etc|var|run)/[\w./-]+")


@dataclass(frozen=True)
class Installation:
    """One of them, moved into a test's folder: other paths and ports, and nothing else changed."""

    source: Path
    folder: Path
    ports: dict[str, str]
    """The ports that it listens on, there and here."""

    @property
    def confdir(self) -> Path:
        return self.folder / "etc" / "confd"

    def move(self, text: str) -> str:
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return MACHINES.sub(f"{self.folder}/", text)

    def install(self) -> None:
        """Write its confdir, and make the folders that its files name, as the machine has them."""
        for path in self.source.rglob("*"):
            if path.is_file() and path.relative_to(self.source).parts[0] != "expected":
                text = path.read_text()
                for named in PATHS.findall(text):
                    (self.folder / named[1:]).parent.mkdir(parents=True, exist_ok=True)
                copy = self.confdir / path.relative_to(self.source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(self.move(text))

    def keys(self) -> dict[str, str]:
        keys: dict[str, str] = json.loads((self.source / "keys.json").read_text())
        return keys

    def expected(self) -> dict[Path, bytes]:
        """Return each target, and what confd wrote to it."""
        root = self.source / "expected"
        files = [path for path in root.rglob("*") if path.is_file()]
        return {self.folder / path.relative_to(root): self.move(path.read_text()).encode() for path in files}


@pytest.fixture(params=MODES)
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    ports = {port: str(free_port()) for port in ("18080", "18081")}
    moved = Installation(INSTALLATIONS / request.param, tmp_path, ports)
    moved.install()
    yield moved
    for pidfile in (tmp_path / "run").glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(pidfile.read_text()), signal.SIGTERM)
    wait_until(lambda: not answers(int(ports["18080"])), what="what the reload started has ended")


def test_an_installation_runs_as_it_stands(installation: Installation, etcd: Etcd) -> None:
    etcd.put_all(installation.keys())
    flags = ["-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(installation.confdir)]
    ended = run_once(*flags, folder=installation.folder)
    assert ended.code == 0, ended.log
    for target, content in installation.expected().items():
        assert target.read_bytes() == content
    modes = {target.name: f"{stat.S_IMODE(target.stat().st_mode):o}" for target in installation.expected()}
    assert modes == MODES[installation.source.name]
    warnings = [one for one in ended.events if one["event"] in {"settings.warning", "resource.warning"}]
    assert {one["key"] for one in warnings} == WARNED[installation.source.name]
    # The reload started the program on it.
    wait_until(lambda: answers(int(installation.ports["18080"])), what="the proxy answers")

    again = run_once(*flags, folder=installation.folder)
    assert (again.code, [one for one in again.events if one["event"] == "resource.changed"]) == (0, [])


def test_what_the_manual_of_migration_says_can_be_typed(tmp_path: Path, etcd: Etcd) -> None:
    """On an installation whose targets are as confd left them: nothing changes, whoever looks."""
    moved = Installation(INSTALLATIONS / "patroni", tmp_path, {})
    moved.install()
    etcd.put_all(moved.keys())
    for target, content in moved.expected().items():
        target.write_bytes(content)
        target.chmod(int(MODES["patroni"][target.name], 8))
    blocks = re.findall(r"^```sh\n(.*?)^```$", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    link = 'ln -s "$(command -v confpy)" /usr/local/bin/confd\n'
    script = moved.move(link + "".join(blocks)).replace("/usr/local/bin", f"{tmp_path}/bin")
    ran = subprocess.run(
        ["/bin/sh", "-eu", "-c", script.replace("http://10.0.0.1:2379", etcd.endpoint)],
        cwd=tmp_path, env=in_path(tmp_path),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    events = {line.split()[2] for line in ran.stderr.splitlines()}
    assert events == {"resource.warning"}, ran.stderr  # an owner that the machine does not have
    assert {target.read_bytes() for target in moved.expected()} == {*moved.expected().values()}
