"""The rows of the function registry: what is derived from them agrees with what exists."""

from __future__ import annotations

from collections import Counter

import pytest

from confpy.templates.context import RenderContext
from confpy.templates.golang.environment import PURE
from confpy.templates.golang.signatures import FUNCTIONS as SIGNATURES
from confpy.templates.golang.signatures import parse
from confpy.templates.registry import FUNCTIONS, known_lookups


def test_no_name_stands_in_two_rows():
    names = Counter(name for row in FUNCTIONS for name in row.names)
    names_in_go = Counter(row.go_name for row in FUNCTIONS if row.go)
    assert [name for found in (names, names_in_go) for name, count in found.items() if count > 1] == []


def test_what_asks_the_store_or_the_world_is_a_method_of_the_render_context():
    context = [row.name for row in FUNCTIONS if row.name and row.call is None]
    assert [name for name in context if not callable(getattr(RenderContext(), name, None))] == []


@pytest.mark.parametrize("row", [row for row in FUNCTIONS if row.go], ids=lambda row: row.go_name)
def test_a_signature_is_read_as_it_is_written(row):
    name, signature = parse(row.go)
    parameters = [*signature.parameters, *([f"...{signature.rest}"] if signature.rest else [])]
    assert f"{name}({', '.join(parameters)}) {signature.result}" == row.go
    assert SIGNATURES[name] == signature


def test_what_is_no_signature_is_refused():
    with pytest.raises(ValueError, match="no signature"):
        parse("getv")


def test_what_go_templates_call_under_the_name_of_a_row_exists():
    assert {row.go_name for row in FUNCTIONS if row.runtime} <= PURE.keys()


def test_lookups_of_literal_arguments_are_known_by_every_name_of_a_function():
    for name in ("lookup_ip", "lookupIP"):
        assert [one.kind for one in known_lookups(name, ["web.example.com"])] == ["ip"]
        assert [*known_lookups(name, ["10.0.0.1"])] == []
    assert [*known_lookups("lookupSRV", ["http", "tcp"])] == []
    assert [*known_lookups("getv", ["/a"])] == []
