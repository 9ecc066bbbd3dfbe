"""What ``confpy convert`` writes renders, as plain Jinja, to what confd printed, and fails where confd fails."""

from __future__ import annotations

import base64

import pytest

from confpy.convert.writing import write
from confpy.errors import TemplateError
from confpy.templates.golang.parser import GoSyntaxError
from tests.golden import check
from tests.golden.test_vectors import IN_MEMORY, named
from tests.rendering import render_in


def converted(vector):
    return write(check.get_bytes(vector, "template").decode("utf-8", "surrogateescape"), "t.tmpl")


def render(vector, folder):
    (folder / "t.j2").write_bytes(converted(vector).text.encode("utf-8", "surrogateescape"))
    keys = dict(vector.get("keys", {}))
    for key, value in vector.get("keys_b64", {}).items():
        keys[key] = base64.b64decode(value).decode("utf-8", "surrogateescape")
    return render_in(folder, "t.j2", keys, environ=vector.get("env", {}), engine="jinja").content


@pytest.mark.parametrize("vector", named(v for v in IN_MEMORY if "expect_error" not in v))
def test_a_converted_template_renders_to_the_bytes_that_confd_wrote(vector, tmp_path):
    assert render(vector, tmp_path) == check.expected(vector, "v0.16.0")[0]


@pytest.mark.parametrize("vector", named(v for v in IN_MEMORY if v.get("stage") == "exec"))
def test_a_template_that_confd_cannot_render_fails_on_the_same_line(vector, tmp_path):
    with pytest.raises(TemplateError) as caught:
        render(vector, tmp_path)
    assert str(caught.value.where["line"]) == vector["error_pos"].partition(":")[0]


@pytest.mark.parametrize("vector", named(v for v in IN_MEMORY if v.get("stage") == "parse"))
def test_a_template_that_confd_cannot_read_is_not_converted(vector):
    with pytest.raises(GoSyntaxError) as caught:
        converted(vector)
    assert str(caught.value.line) == vector["error_pos"].partition(":")[0]
