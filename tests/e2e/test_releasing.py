"""docs/releasing.md is walked as far as a machine can, in a copy of the checkout."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from tests.e2e.running import ROOT
from tests.pages import blocks

PAGE = ROOT / "docs" / "releasing.md"
VERSION = "9.8.7"


@pytest.mark.timeout(400)  # it builds all packages, twice
def test_each_step_of_the_checklist_can_be_done(tmp_path):
    copy = tmp_path / "checkout"
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(copy)]
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True, timeout=30,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
            (copy / name).chmod((ROOT / name).stat().st_mode)
    changelog = copy / "CHANGELOG.md"  # there is something new, as before each version
    entry = "## Unreleased\n\n### Fixed\n\n- It.\n\n## "
    changelog.write_text(changelog.read_text().replace("## Unreleased\n\n## ", entry, 1))
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Before"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    # No virtual environment is made for the copy: its scripts would spend a minute on that.
    python = shlex.quote(sys.executable)
    # First the page's own folder: the checkout may lie below it.
    stands_for = {"/tmp": str(tmp_path), ".venv/bin/python": python, "scripts/package": f"{python} packaging/build.py"}
    user = {f"GIT_{role}_{what}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    variables = {**os.environ, **user, "VERSION": VERSION, "PYTHONPATH": str(copy)}
    steps = [block for block in blocks(PAGE) if not block.unrun]
    assert len(steps) == 5
    for step in steps:
        script = step.text
        for name, stand_in in stands_for.items():
            script = script.replace(name, stand_in)
        ended = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=copy, env=variables, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{step.place}\n{ended.stdout}{ended.stderr}"
    assert len([*(copy / "dist").iterdir()]) == 4
