"""The drawing of the architecture is the one that the source makes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "scripts" / "draw_layers.py"))
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_drawing_shows_what_imports_what():
    assert TOOL["put"](PAGE, TOOL["drawing"](ROOT / "confpy")) == PAGE, "run scripts/draw_layers.py"


def test_an_arrow_that_a_longer_way_stands_for_is_left_out():
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert TOOL["reduced"](graph) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_table_has_every_folder_and_root_module():
    table = {
        name for row in re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }
    found = {f"{path.name}/" for path in (ROOT / "confpy").iterdir() if (path / "__init__.py").exists()}
    found |= {path.name for path in (ROOT / "confpy").glob("*.py") if not path.name.startswith("__")}
    assert found <= table


@pytest.mark.parametrize("text", ["no markers", "<!-- drawn by scripts/draw_layers.py -->\nhalf"])
def test_a_page_without_a_place_for_it_is_refused(text):
    with pytest.raises(ValueError, match="no place"):
        TOOL["put"](text, "x")
