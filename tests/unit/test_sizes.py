"""A file is one idea that is read in one sitting, and a class has no seam left uncut."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "confpy").rglob("*.py"), *(ROOT / "tests" / "sim").rglob("*.py")])
LONGEST_FILE = 500
LONGEST_CLASS = 350
EXCEPTIONS = {
    "confpy/templates/golang/runtime.py": "the Go runtime: one function after another, as in the docs of Go",
    "confpy/templates/golang/printf.py": "the Go runtime: one verb after another, as Go's fmt lists them",
}
"""File, or file and class, → why it may be longer."""


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_file_and_no_class_is_longer_than_it_may_be(path):
    text = path.read_text(encoding="utf-8")
    if named(path) not in EXCEPTIONS:
        assert len(text.splitlines()) <= LONGEST_FILE
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in classes}
    long = [name for name, length in lengths.items() if length > LONGEST_CLASS]
    assert [name for name in long if f"{named(path)}:{name}" not in EXCEPTIONS] == []


def test_every_exception_is_still_needed():
    files = [name for name in EXCEPTIONS if ":" not in name]
    assert [name for name in files if len((ROOT / name).read_text().splitlines()) <= LONGEST_FILE] == []
