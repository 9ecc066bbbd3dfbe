"""The README and the examples' READMEs tell the truth: their commands run."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from confpy.cli import spell
from confpy.commands.flags import parse
from tests.e2e.running import ROOT, in_path

README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_, _, TOUR = README.partition("\n## A first file\n")
TOUR, _, _ = TOUR.partition("\n## ")
DEMO = runpy.run_path(str(ROOT / "scripts" / "demo_svg.py"))


def test_the_tour_says_what_it_shows(tmp_path: Path) -> None:
    blocks = BLOCK.findall(TOUR)
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
    blocks = [text for kind, text in BLOCK.findall(TOUR) if kind == "sh"]
    entered = next(number for number, text in enumerate(blocks) if "cd tour" in text)
    assert not [text for text in blocks[entered:] if re.search(r"examples/|scripts/|/etc/", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_confpy_have_flags_that_exist(page: Path) -> None:
    blocks = "".join(text for kind, text in BLOCK.findall(page.read_text()) if kind == "sh")
    for line in re.findall(r"^confpy (.*?)(?: &| \| .*)?$", blocks, re.MULTILINE):
        assert parse(spell(shlex.split(line, comments=True)).flags) is not None


def test_the_scripts_that_it_names_are_there_and_can_be_run() -> None:
    scripts = set(re.findall(r"(?:\./)?(scripts/\w+|\.ci/run)", README))
    assert scripts >= {"scripts/demo", "scripts/test", "scripts/lint", ".ci/run"}
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)


def test_the_first_screen_has_the_two_commands_the_picture_and_three_ways_to_install_it() -> None:
    screen, _, _ = README.partition("\n## A first file\n")
    assert len(screen.splitlines()) < 30
    places = [
        screen.index(part)
        for part in ("./scripts/demo", "./scripts/test", "docs/images/demo.svg", "pipx install", ".deb", ".pyz")
    ]
    assert places == sorted(places)


def test_the_picture_shows_what_the_demo_prints() -> None:
    drawn = [line.text or "" for line in ET.parse(DEMO["PICTURE"]).iter("{http://www.w3.org/2000/svg}text")]
    printed = [line.text for line in DEMO["shortened"](DEMO["steady"](DEMO["record"]()))]
    assert [text for text in drawn if text] == [text for text in printed if text], "run: scripts/docs svg"
