"""``confpy check`` as a job of CI runs it, also against a real store."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.running import ROOT, in_path
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.unit.confdirs import AROUND, PLANTED, write

HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = getattr(run, "environment", None) or in_path(folder)
    run.environment = environment
    return subprocess.run(
        [*shlex.split(HOOKS[0]["entry"]), *arguments],
        env=environment, cwd=folder, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def fresh():
    run.environment = None


def test_the_hook_fails_for_a_mistake_and_passes_without_one(tmp_path: Path) -> None:
    write(tmp_path / "proxies", {**AROUND, **PLANTED["an unknown key"][0]})
    ended = run(tmp_path, "proxies")
    assert (ended.returncode, ended.stderr) == (2, "")
    assert ended.stdout.startswith("proxies/conf.d/bad.toml:6:1: error: unknown key chekc_cmd")
    (tmp_path / "proxies" / "conf.d" / "bad.toml").unlink()
    ended = run(tmp_path, "proxies")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1 resource checked: no mistakes found\n", "")


def test_the_hook_has_the_form_of_pre_commits_manual() -> None:
    (hook,) = HOOKS
    assert set(hook) == {"id", "name", "description", "entry", "language", "files", "pass_filenames"}
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    assert f"id: {hook['id']}" in (ROOT / "docs" / "check.md").read_text()
    for name in ("conf.d/a.toml", "x/conf.d/s/a.toml", "x/templates/b.j2", "confpy.toml", "x/confd.toml"):
        assert re.search(hook["files"], name)
    for name in ("README.md", "src/a.toml"):
        assert not re.search(hook["files"], name)


def test_each_node_of_the_store_is_asked(tmp_path: Path, etcd: Etcd) -> None:
    write(tmp_path, AROUND)
    dead = f"http://127.0.0.1:{free_port()}"
    where = ["-connect", "-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(tmp_path)]
    ended = run(tmp_path, *where, "-json")
    made = json.loads(ended.stdout)
    assert (ended.returncode, made["findings"]) == (0, [])
    assert made["nodes"] == [f"the node {etcd.endpoint} answers"]
    ended = run(tmp_path, *where, "-node", dead)
    assert ended.returncode == 2
    lines = ended.stdout.splitlines()
    assert lines[0].startswith(f"error: the node {dead}: ")
    assert lines[1] == f"the node {etcd.endpoint} answers"


def test_a_file_of_keys_that_is_broken_is_found_when_it_is_asked(tmp_path: Path) -> None:
    write(tmp_path, {**AROUND, "keys.json": "{"})
    where = [".", "-backend", "file", "-file", "keys.json"]
    assert run(tmp_path, *where).returncode == 0
    ended = run(tmp_path, *where, "-connect")
    assert ended.returncode == 2
    assert "keys.json" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
