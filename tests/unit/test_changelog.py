"""CHANGELOG.md keeps the format of Keep a Changelog, and the script that reads it says where it does not."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from confpy import __version__

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("changelog", ROOT / "packaging" / "changelog.py")
changelog = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(changelog)


def test_the_changelog_is_in_its_format():
    found = changelog.sections((ROOT / "CHANGELOG.md").read_text())
    assert next(iter(found)) == "Unreleased"


def test_the_version_is_in_one_place_and_the_manual_names_the_files_of_this_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "confpy.__version__"}
    files = re.findall(r"confpy[-_]([\d.]+\d)(?=-py3|\.tar|_all)", (ROOT / "docs" / "installing.md").read_text())
    assert set(files) == {__version__}


RELEASED = "# Changelog\n\n## Unreleased\n\n### Added\n\n- a\n\n## 0.2.0 - 2026-11-29\n\n### Fixed\n\n- b\n"


def test_each_version_has_its_section():
    older = "\n## 0.1.0 - 2026-01-01\n\n### Added\n\n- c\n"
    found = changelog.sections(RELEASED + older)
    assert found == {"Unreleased": "### Added\n\n- a", "0.2.0": "### Fixed\n\n- b", "0.1.0": "### Added\n\n- c"}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (RELEASED.replace(" - 2026-11-29", ""), "neither '## VERSION - DATE' nor"),
        (RELEASED.replace("0.2.0", "v0.2.0"), "neither '## VERSION - DATE' nor"),
        (RELEASED + "\n## Unreleased\n", "neither '## VERSION - DATE' nor"),
        (RELEASED.replace("Added", "New"), "no kind 'New' of changes"),
        (RELEASED + "\n### Added\n\n- c\n", "in this order, each once"),
        (RELEASED + "\n### Fixed\n\n- c\n", "in this order, each once"),
        (RELEASED + "\n### Security\n", "0.2.0: nothing is said to be Security"),
        (RELEASED + "\n## 0.2.0 - 2026-11-29\n\n### Fixed\n\n- c\n", "0.2.0 has two sections"),
        (RELEASED + "\n## 0.10.0 - 2026-11-29\n\n### Fixed\n\n- c\n", "the newest version is not the first"),
    ],
)
def test_a_mistake_in_the_format_is_named(text, mistake):
    with pytest.raises(ValueError, match=mistake):
        changelog.sections(text)
