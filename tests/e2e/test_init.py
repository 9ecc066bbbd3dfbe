"""``confpy init`` writes a pair with which a proxy starts, and overwrites nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.examples import EXAMPLES, Example
from tests.e2e.running import environment, run_once
from tests.servers.ports import free_port

KEYS = 'services: {web: {port: %d, backends: {a: "127.0.0.1:8001", bad: "127.0.0.1:99999"}}}\n'


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "confpy", "init", *arguments],
        env=environment(folder), cwd=folder, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_proxy_checks_and_serves_what_is_made_of_the_pair(tmp_path: Path, example: Example) -> None:
    ended = init(tmp_path, example.name, "new/confdir")
    assert (ended.returncode, ended.stderr) == (0, "")
    made = tmp_path / "new" / "confdir"
    cases = len([*made.glob("tests/*.keys.yaml")])
    assert cases >= 3
    assert ended.stdout.count("wrote new/confdir/") == 2 + 2 * cases  # a resource, a template, and two files for each
    checked = subprocess.run(
        [sys.executable, "-m", "confpy", "check", str(made)], check=False, capture_output=True, text=True, timeout=60
    )
    assert checked.stdout == "1 resource checked: no mistakes found\n"
    tested = subprocess.run(
        [sys.executable, "-m", "confpy", "test", str(made)], check=False, capture_output=True, text=True, timeout=60
    )
    assert tested.stdout.endswith(f"{cases} cases, 0 failed\n")
    port = free_port()
    (tmp_path / "keys.yaml").write_text(KEYS % port)
    confdir = example.move(tmp_path, source=made)
    where = ("-confdir", str(confdir), "-backend", "file", "-file", str(tmp_path / "keys.yaml"))
    ended = run_once("-no-reload", *where, folder=tmp_path, more=example.environment(tmp_path))
    assert ended.code == 0, ended.log
    config = example.target(tmp_path).read_text()
    assert "127.0.0.1:8001" in config
    assert "127.0.0.1:99999" not in config
    with example.serve(tmp_path, port):
        pass  # it has answered on its port


def test_nothing_is_overwritten_and_nothing_is_written_beside_a_file_that_exists(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    mine = tmp_path / "templates" / "haproxy.cfg.j2"
    mine.symlink_to("/nowhere")
    ended = init(tmp_path, "haproxy", ".")
    assert ended.returncode == 2
    assert "nothing was written" in ended.stderr
    assert "templates/haproxy.cfg.j2" in ended.stderr
    assert not (tmp_path / "conf.d").exists()
    assert mine.is_symlink()
    mine.unlink()
    assert init(tmp_path, "haproxy", ".").returncode == 0
    assert init(tmp_path, "haproxy", ".").returncode == 2
    assert init(tmp_path, "nginx", ".").returncode == 0, "another program may stand beside it"


def test_an_unknown_program_and_a_folder_that_cannot_be_made_are_said(tmp_path: Path) -> None:
    ended = init(tmp_path, "lighttpd", ".")
    assert ended.returncode == 2
    assert "apache, haproxy, nginx" in ended.stderr
    (tmp_path / "file").write_text("")
    ended = init(tmp_path, "nginx", "file/below")
    assert ended.returncode == 6
    assert "Traceback" not in ended.stderr


def test_the_examples_are_these_files(tmp_path: Path) -> None:
    for example in EXAMPLES:
        for kind in ("conf.d", "templates", "tests"):
            link = Path(__file__).parents[2] / "examples" / example.name / kind
            assert os.readlink(link) == f"../../confpy/examples/{example.name}/{kind}"
