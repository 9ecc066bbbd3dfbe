"""Every example of the manuals is true, every function has one, and the table of all functions is the registry's.

``python -m tests.unit.test_template_docs`` writes the table anew.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from confpy.config.resource import Item
from confpy.errors import TemplateError
from confpy.templates.lookup import Lookup
from confpy.templates.registry import FUNCTIONS
from tests.generated import with_part
from tests.rendering import text

PEM = "pem\n"
FACTS = {
    Lookup("srv", "_http._tcp.none.invalid"): TemplateError("no such name"),
    Lookup("file", "/watched"): PEM,
    Lookup("hash", "/watched"): sha256(PEM.encode()).hexdigest(),
}


class Manual:
    """The examples of a manual, for the keys that stand in it."""

    def __init__(self, name: str, engine: str) -> None:
        self.text = (Path(__file__).parents[2] / "docs" / name).read_text(encoding="utf-8")
        self.blocks = re.findall(rf"```{engine}( [^\n]+)?\n(.*?)```\n\n```text\n(.*?)```", self.text, re.DOTALL)
        self.lines = re.findall(r"`(\{[{%][^`]*)` → (?:`([^`]*)`|error: ([^.,\n`]+))", self.text)
        self._engine = engine

    def given(self, what: str) -> dict[str, str]:
        found = re.search(rf"```json {what}\n(.*?)```", self.text, re.DOTALL)
        return json.loads(found[1]) if found else {}

    def render(self, template: str, delimiters: str = "") -> str:
        keys, environ = self.given("keys"), self.given("environment")
        more = {"facts": FACTS, "now": 1_700_000_000.0, "engine": self._engine, "watch_files": ("/watched",)}
        more["item"] = Item("services", "web", "/services/web")
        return text(template, keys, environ=environ, delimiters=tuple(delimiters.split()), **more)


ORIGINS = {"confd": "confd", "fork": "confd's fork", "go": "Go", "confpy": "confpy"}


def table():
    lines = ["| In Jinja | Other names | In Go templates | First in |", "|---|---|---|---|"]
    for row in sorted(FUNCTIONS, key=lambda row: (row.name or row.go_name).lower()):
        aliases = ", ".join(f"`{name}`" for name in row.aliases)
        cells = (f"`{row.name}`" if row.name else "–", aliases or "–", f"`{row.go}`" if row.go else "–")
        lines.append(f"| {' | '.join(cells)} | {ORIGINS[row.origin]} |")
    return "\n".join(lines)


def regenerated(text):
    return with_part(text, "table", table())


JINJA, GO = Manual("template-functions.md", "jinja"), Manual("go-templates.md", "go")


@pytest.mark.parametrize(
    ("manual", "delimiters", "template", "result"),
    [(manual, *block) for manual in (JINJA, GO) for block in manual.blocks],
)
def test_the_blocks_of_the_manuals_are_true(manual, delimiters, template, result):
    assert manual.render(template, delimiters) == result


@pytest.mark.parametrize(
    ("manual", "template", "result", "error"), [(manual, *line) for manual in (JINJA, GO) for line in manual.lines]
)
def test_the_examples_of_the_manuals_are_true(manual, template, result, error):
    if error:
        with pytest.raises(TemplateError, match=re.escape(error)):
            manual.render(template)
    else:
        assert manual.render(template) == result


@pytest.mark.parametrize("names", [row.names for row in FUNCTIONS if row.name], ids=lambda names: names[0])
def test_every_function_is_in_the_manual_with_an_example(names):
    for name in names[1:] or names:
        assert re.search(rf"`{name}[(`]", JINJA.text), f"{name} is not described"
    examples = "\n".join([*(example[0] for example in JINJA.lines), *(block[1] for block in JINJA.blocks)])
    assert any(re.search(rf"\b{one}\b", examples) for one in names), f"{names[0]} has no example"


@pytest.mark.parametrize(
    "name", sorted(row.go_name for row in FUNCTIONS if row.go and row.origin in {"fork", "confpy"})
)
def test_every_function_that_is_added_to_those_of_go_has_an_example(name):
    assert any(re.search(rf"\b{name}\b", template) for template, *_ in GO.lines) or name == "lookupIfaceIPV6"


def test_the_manual_has_the_table_of_all_functions():
    assert JINJA.text == regenerated(JINJA.text), "run: python -m tests.unit.test_template_docs"


if __name__ == "__main__":
    PAGE = Path(__file__).parents[2] / "docs" / "template-functions.md"
    PAGE.write_text(regenerated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
