"""The README and the examples' READMEs tell the truth: their commands run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from confpy.cli import spell
from confpy.commands.flags import parse
from tests.e2e.running import ROOT, in_path

README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ELSEWHERE = ("./scripts/", "sudo apt-get install pipx")
"""How the blocks begin that are no part of the tour: scripts, and the installation."""


def test_the_tour_says_what_it_shows(tmp_path: Path) -> None:
    blocks = [(kind, text) for kind, text in BLOCK.findall(README) if not text.startswith(ELSEWHERE)]
    assert [kind for kind, _ in blocks] == ["sh", "text", "sh", "text"]
    # One shell for all of it, as a reader has. It says after each block where the next one begins.
    script = "\necho ---\n".join(text for kind, text in blocks if kind == "sh")
    ran = subprocess.run(
        ["/bin/sh", "-eu", "-c", script],
        cwd=tmp_path, env=in_path(tmp_path),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("---\n") == [text for kind, text in blocks if kind == "text"]
    assert "value.skipped resource=web key=/web/backends/b" in ran.stderr


def test_after_the_tour_nothing_is_run_that_needs_another_folder_or_writes_outside_of_it() -> None:
    _, tour = README.split("## A tour")
    blocks = [text for kind, text in BLOCK.findall(tour.partition("\n## ")[0]) if kind == "sh"]
    entered = next(number for number, text in enumerate(blocks) if "cd tour" in text)
    assert not [text for text in blocks[entered:] if re.search(r"examples/|scripts/|/etc/", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_confpy_have_flags_that_exist(page: Path) -> None:
    blocks = "".join(text for kind, text in BLOCK.findall(page.read_text()) if kind == "sh")
    for line in re.findall(r"^confpy (.*?)(?: &)?$", blocks, re.MULTILINE):
        assert parse(spell(shlex.split(line, comments=True)).flags) is not None


def test_the_scripts_that_it_names_are_there_and_can_be_run() -> None:
    scripts = set(re.findall(r"(?:\./)?(scripts/\w+|\.ci/run)", README))
    assert scripts >= {"scripts/demo", "scripts/test", "scripts/lint", ".ci/run"}
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)
