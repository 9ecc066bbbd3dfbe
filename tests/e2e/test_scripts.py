"""What the scripts say before they change a machine, and how a run of tests ends where the machine allows little."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.running import ROOT
from tests.servers.program import find

STUBS = {
    # A Python as Debian has it without python3-venv, and without confpy's libraries.
    "python3": f"""case "$*" in *ensurepip*|*click*) exit 1 ;; esac; exec {sys.executable} "$@\"""",
    "id": "echo 1000",
    "sudo": 'echo "sudo: it would install $*" >&2; exit 1',
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "stubs").mkdir()
    for name, text in STUBS.items():
        (tmp_path / "stubs" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "stubs" / name).chmod(0o755)
    return tmp_path


def says(checkout: Path, script: str) -> list[str]:
    ended = subprocess.run(
        [checkout / "scripts" / script],
        env={**os.environ, "PATH": f"{checkout / 'stubs'}:{os.environ['PATH']}"},
        cwd=checkout, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode != 0
    return ended.stderr.splitlines()


def test_the_demo_says_that_it_installs_a_package_before_it_does(checkout):
    said = says(checkout, "demo")
    installs = next(number for number, line in enumerate(said) if line.startswith("sudo: it would install"))
    assert any("python3-venv" in line and "will be installed" in line for line in said[:installs])


def test_the_tests_say_what_they_install_and_how_long_they_take_before_they_begin(checkout):
    said = says(checkout, "test")
    installs = next(number for number, line in enumerate(said) if line.startswith("sudo: it would install"))
    before = "\n".join(said[:installs])
    assert "Debian packages are missing and will be installed by apt-get: " in before
    assert "python3-venv" in before
    assert "will be installed into .venv" in before
    assert "all tests take about" in before


FAILING = """\
import pytest
from tests.run_as_user import with_mounts
@pytest.mark.parametrize("number", range(300))
def test_a_promise(number):
    print("output\\n" * 100)
    assert number < 0
@pytest.mark.parametrize("number", range(20))
def test_a_mount(number):
    with_mounts(lambda: None)
def test_a_good_one():
    pass
"""


def run_tests(folder: Path, *words: str, ci: bool = False) -> tuple[int, str]:
    (folder / "test_failing.py").write_text(FAILING)
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "true"} if ci else {})
    setting = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "tests.conftest"]
    ended = subprocess.run(
        [*words, sys.executable, "-m", "pytest", *setting, "-n", "0", str(folder / "test_failing.py")],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout


def test_a_run_that_fails_ends_in_a_short_list(tmp_path):
    code, output = run_tests(tmp_path)
    assert code == 1
    lines = output.splitlines()
    assert len(lines) < 200
    assert sum(line.startswith("FAILED ") for line in lines) == 40
    assert "… and 260 more failed" in lines
    assert "300 failed" in lines[-1]
    assert any("assert 0 < 0" in line for line in lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a capability away")
@pytest.mark.parametrize("ci", [False, True])
def test_where_mounts_are_not_allowed_one_line_says_so_and_only_ci_insists_on_them(tmp_path, ci):
    less = [find("setpriv"), "--bounding-set", "-sys_admin", "--inh-caps", "-all"]
    _, output = run_tests(tmp_path, *less, ci=ci)
    lines = output.splitlines()
    assert sum(line.startswith("mounts are not allowed here (") for line in lines) == 1
    if ci:
        assert "320 failed, 1 passed" in lines[-1]
    else:
        assert "300 failed, 1 passed, 20 skipped" in lines[-1]
        assert sum(line.startswith("SKIPPED [20]") and "mounts are not allowed here" in line for line in lines) == 1
