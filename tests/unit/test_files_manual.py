"""docs/files.md names the files of the state folder, all of them and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from confpy.config.settings import CACHE_DIR, CONFDIRS, STATE_DIR
from confpy.ledger.expiry import STATE, SWEPT

MANUAL = (Path(__file__).parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
_, _, STATES = MANUAL.partition("\n## State\n")
STATES, _, _ = STATES.partition("\n## ")
NAMES = [name.rstrip("/") for name in re.findall(r"^\| `([^`]+)` \|", STATES, re.MULTILINE)]
EVERY = {
    "targets.lock", "confdir", "stamps", "history", "haproxy", "keys.json", "etcd.json", "files.json", "held-web.json",
    "keys.json.set-aside", ".keys.json.stage", "ledger-0123abcd.log", "ledger-0123abcd.v2",
    "ledger-0123abcd.log.set-aside",
}  # fmt: skip
"""One name for each alternative of the pattern with which confpy knows its own files."""


def pattern(name: str) -> str:
    """Return a pattern for a name of the manual."""
    text = re.escape(name).replace("XXXXXXXX", "[0-9a-f]{8}").replace("NAME", ".+")
    return re.sub(r"\.vN$", r".v[0-9]+", text)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_file_of_a_state_folder_is_in_the_manual(name):
    assert re.fullmatch(STATE, name), "confpy does not know it itself"
    assert any(re.fullmatch(pattern(one), name) for one in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_the_manual_is_one_of_a_state_folder(name):
    example = name.replace("XXXXXXXX", "0123abcd").replace("NAME.set-aside", "keys.json.set-aside")
    assert re.fullmatch(STATE, example.replace("NAME", "web").replace(".vN", ".v2"))


def test_every_alternative_of_the_pattern_has_an_example():
    parts = re.split(r"\|(?![^(]*\))", STATE)
    stray = [part for part in parts if not any(re.fullmatch(part, name) for name in EVERY) and "confpy-" not in part]
    assert stray == []


def test_the_usual_places_are_those_of_the_settings():
    for path in (*CONFDIRS, STATE_DIR, CACHE_DIR, SWEPT):
        assert f"`{path}`" in MANUAL
