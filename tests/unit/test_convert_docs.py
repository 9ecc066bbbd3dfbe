"""What the manual shows of a conversion is what is written."""

from __future__ import annotations

import re
from pathlib import Path

from confpy.convert.writing import write

MANUAL = (Path(__file__).parents[2] / "docs" / "converting.md").read_text(encoding="utf-8")


def test_the_example_of_the_manual_is_converted_to_what_it_shows():
    (source,) = re.findall(r"```go\n(.*?)```", MANUAL, re.DOTALL)
    (shown,) = re.findall(r"```jinja\n(.*?)```", MANUAL, re.DOTALL)
    assert write(source, "t.tmpl") == (shown, [])
