"""``confpy version`` says what a report of a bug needs."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from confpy import __version__, cli
from confpy.commands import version

ROOT = Path(__file__).parents[2]


def test_json_tells_of_the_installation_python_the_platform_and_each_library(capfd):
    assert cli.main(["version", "--json"]) == 0
    about = json.loads(capfd.readouterr().out)
    assert (about["name"], about["version"], about["installed_as"]) == ("confpy", __version__, "checkout")
    assert (about["path"], about["executable"]) == (str(ROOT / "confpy"), sys.executable)
    assert (about["python"], about["platform"]) == (platform.python_version(), platform.platform())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert about["libraries"].keys() == {text.partition(">=")[0] for text in project["dependencies"]}
    assert all(found[0].isdigit() for found in about["libraries"].values())
    assert "test" in about["extras"]


def test_all_is_the_same_for_people(capfd):
    assert cli.main(["version", "-all"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:3] == [f"confpy {__version__}", "revision: unknown", f"installed as: checkout, in {ROOT}/confpy"]
    names = ["Python", "platform", "libraries", "compiled from C", "extras"]
    assert [line.partition(":")[0] for line in lines[3:]] == names


@pytest.mark.parametrize(
    ("beside", "build", "expected"),
    [
        ("", '{"installed_as": "deb", "revision": "0123abc"}', ("deb", "0123abc")),
        (f"confpy-{__version__}.dist-info/METADATA", '{"revision": "0123abc"}', ("wheel", "0123abc")),
        (f"confpy-{__version__}.dist-info/METADATA", "", ("wheel", None)),
        ("", "", ("folder", None)),
    ],
)
def test_an_installation_is_known_by_what_its_build_says_else_by_what_is_beside_it(tmp_path, beside, build, expected):
    shutil.copytree(ROOT / "confpy", tmp_path / "confpy", ignore=shutil.ignore_patterns("__pycache__"))
    if build:
        (tmp_path / "confpy" / version.BUILD).write_text(build)
    if beside:
        (tmp_path / beside).parent.mkdir()
        (tmp_path / beside).write_text("Metadata-Version: 2.1\nName: confpy\nVersion: 0\n")
    # Isolated from what is installed here, but with its libraries.
    code = f"import sys; sys.path[:] = [{str(tmp_path)!r}, *sys.path]; from confpy.cli import main; main(sys.argv[1:])"
    ended = subprocess.run(
        [sys.executable, "-I", "-c", code, "version", "-json"], capture_output=True, text=True, timeout=60, check=False
    )
    about = json.loads(ended.stdout)
    assert (about["installed_as"], about["revision"], about["path"]) == (*expected, str(tmp_path / "confpy"))


def test_a_library_that_is_missing_is_said_to_be(monkeypatch, capfd):
    monkeypatch.setattr(version, "_requirements", lambda _folder: [("no-such-library", ""), ("no-such-tool", "test")])
    assert version.describe()["libraries"] == {"no-such-library": None}
    assert version.describe()["extras"] == []
    assert cli.main(["version", "-all"]) == 0
    assert "libraries: no-such-library missing\n" in capfd.readouterr().out
