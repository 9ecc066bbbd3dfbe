"""Every example of the manual is true, and every function has one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from confpy.errors import TemplateError
from confpy.model import Lookup
from confpy.templates.engine import ALIASES, ASKING, PURE
from tests.rendering import text

MANUAL = (Path(__file__).parents[2] / "docs" / "template-functions.md").read_text(encoding="utf-8")
KEYS = json.loads(re.search(r"```json keys\n(.*?)```", MANUAL, re.DOTALL)[1])
ENVIRONMENT = json.loads(re.search(r"```json environment\n(.*?)```", MANUAL, re.DOTALL)[1])
FACTS = {Lookup("srv", "_http._tcp.none.invalid"): TemplateError("no such name")}

BLOCKS = re.findall(r"```jinja\n(.*?)```\n\n```text\n(.*?)```", MANUAL, re.DOTALL)
LINES = re.findall(r"`(\{[{%][^`]*)` → (?:`([^`]*)`|error: ([^.,\n`]+))", MANUAL)


def render(template: str) -> str:
    return text(template, KEYS, environ=ENVIRONMENT, facts=FACTS, now=1_700_000_000.0)


@pytest.mark.parametrize(("template", "result"), BLOCKS)
def test_the_blocks_of_the_manual_are_true(template, result):
    assert render(template) == result


@pytest.mark.parametrize(("template", "result", "error"), LINES)
def test_the_examples_of_the_manual_are_true(template, result, error):
    if error:
        with pytest.raises(TemplateError, match=re.escape(error)):
            render(template)
    else:
        assert render(template) == result


@pytest.mark.parametrize("name", sorted({*PURE, *ASKING, *ALIASES}))
def test_every_function_is_in_the_manual_with_an_example(name):
    assert re.search(rf"`{name}[(`]", MANUAL) or name in ALIASES.values(), f"{name} is not described"
    names = {name, ALIASES.get(name), *(confd for confd, ours in ALIASES.items() if ours == name)} - {None}
    examples = "\n".join(example[0] for example in [*LINES, *BLOCKS])
    assert any(re.search(rf"\b{one}\b", examples) for one in names), f"{name} has no example"
