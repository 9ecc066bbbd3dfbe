"""docs/settings.md: its tables are made from the table of settings, its examples load.

``python -m tests.unit.test_settings_manual`` writes the tables anew.
"""

from __future__ import annotations

import re
import tomllib
from itertools import groupby
from pathlib import Path

from confpy.config.settings import OPTIONS
from confpy.config.sources import load_settings
from tests.generated import with_part

MANUAL = Path(__file__).parents[2] / "docs" / "settings.md"


def tables():
    lines = []
    for group, options in groupby(OPTIONS, lambda option: option.group):
        lines += [
            f"### {group}",
            "",
            "| Flag | Variable | In the file | Default | What it does |",
            "|---|---|---|---|---|",
        ]
        for option in options:
            value = f" {option.kind.metavar}".rstrip().replace("|", "\\|")
            cells = (
                f"`-{option.flag}{value}`",
                ", ".join(f"`{variable}`" for variable in option.variables),
                f"`{option.keys[0]}`" if option.keys else "–",
                option.shown_default or ("false" if option.default is False else "–"),
                option.help,
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines[:-1])


def regenerated(text):
    return with_part(text, "tables", tables())


def test_the_manual_shows_the_table_of_settings():
    text = MANUAL.read_text()
    assert text == regenerated(text), "run: python -m tests.unit.test_settings_manual"


def test_every_example_of_the_manual_loads_without_a_warning(tmp_path):
    examples = re.findall(r"^```toml\n(.*?)^```", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        path = tmp_path / "confpy.toml"
        path.write_text(example)
        settings, warnings = load_settings({"config_file": str(path)}, {})
        assert warnings == []
        given = {name for name, origin in settings.origins.items() if origin == f"file {path}"}
        assert len(given) == len(tomllib.loads(example))


if __name__ == "__main__":
    MANUAL.write_text(regenerated(MANUAL.read_text()))
