"""What ``confpy why`` renders with tracing is what a plain render gives, for every vector and in both languages."""

from __future__ import annotations

import base64

import pytest

from confpy.templates.lines import Line
from confpy.templates.marking import LineRenderer
from confpy.templates.resolve import Resolver
from confpy.templates.results import Needs, World
from tests.golden import check
from tests.golden.test_convert import converted
from tests.golden.test_vectors import IN_MEMORY, named
from tests.rendering import resource, view_of


def traced(vector, folder, src: str, engine: str) -> tuple[Line, ...]:
    keys = dict(vector.get("keys", {}))
    for key, value in vector.get("keys_b64", {}).items():
        keys[key] = base64.b64decode(value).decode("utf-8", "surrogateescape")
    resolver, facts = Resolver(folder=str(folder), cache_dir=None), {}
    for _ in range(10):
        try:
            world = World(0.0, vector.get("env", {}), facts)
            return LineRenderer().render(resource(src, engine), view_of(keys), world)
        except Needs as needs:
            facts |= {lookup: resolver.resolve(lookup) for lookup in needs.lookups}
    raise AssertionError("ten rounds, and it still needs more")


@pytest.mark.parametrize("language", ["go", "jinja"])
@pytest.mark.parametrize("vector", named(v for v in IN_MEMORY if "expect_error" not in v))
def test_tracing_changes_nothing(vector, language, tmp_path):
    if language == "go":
        (tmp_path / "t.tmpl").write_bytes(check.get_bytes(vector, "template"))
    else:
        (tmp_path / "t.j2").write_bytes(converted(vector).text.encode("utf-8", "surrogateescape"))
    lines = traced(vector, tmp_path, "t.tmpl" if language == "go" else "t.j2", "auto" if language == "go" else "jinja")
    wanted = check.expected(vector, "v0.16.0")[0].decode("utf-8", "surrogateescape").split("\n")
    assert [line.text for line in lines] == (wanted if wanted[-1] else wanted[:-1])
