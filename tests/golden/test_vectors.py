"""What confd printed, confpy prints: every vector, byte for byte, and its errors on the line where confd has them."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from confpy.errors import TemplateError
from tests.golden import check
from tests.rendering import render_in

VECTORS = [json.loads(line) for line in (Path(__file__).parent / "vectors.jsonl").read_text("ascii").splitlines()]
MANUAL = Path(__file__).parents[2] / "docs" / "migrating-from-confd.md"
COMMAND = [sys.executable, "-m", "confpy"]
STORES = {"file-backend", "env-backend", "prefix"}

DIFFERENT = {
    "file-key-integer": b"/ports/8080=web\n",  # confd panics
    "file-key-boolean-word": b"/on=1\n",
    "file-key-null": b"/~=1\n",
    "prefix-resource": b"/=self\n/db/host=h\n/web/port=80\n",  # prefixes end at a slash: /prod is none of /production
    "prefix-global": b"/=self\n/db/host=h\n/web/port=80\n",
    "keys-select-subtrees": b"/a/1=x\n",
    "env-plain-string-prefix": b"/foo=1\n/foo/a=2\n",
    "env-upper-case-prefix-is-not-stripped": b"/foo=1\n",  # a prefix is cut in any case of its letters
}
"""Vectors of the stores → what confpy makes of them on purpose; of templates there is none."""


def named(vectors):
    return [pytest.param(vector, id=vector["id"]) for vector in vectors]


def as_recorded(command, vector, folder):
    """Run a vector through a whole command: it makes what confd made, or fails where confd failed."""
    code, content, _ = check.run(command, vector, str(folder))
    want, error = check.expected(vector, "v0.16.0")
    if vector["id"] in DIFFERENT:
        want, error = DIFFERENT[vector["id"]], None
    assert content == want
    assert (code != 0) == (error is not None)


def render(vector, folder):
    (folder / "t.tmpl").write_bytes(check.get_bytes(vector, "template"))
    keys = dict(vector.get("keys", {}))
    for key, value in vector.get("keys_b64", {}).items():
        keys[key] = base64.b64decode(value).decode("utf-8", "surrogateescape")
    return render_in(folder, "t.tmpl", keys, environ=vector.get("env", {}), engine="auto").content


IN_MEMORY = [vector for vector in VECTORS if vector["area"] not in STORES]
THROUGH_A_STORE = [vector for vector in VECTORS if vector["area"] in STORES]


@pytest.mark.parametrize("vector", named(v for v in IN_MEMORY if "expect_error" not in v))
def test_a_template_renders_to_the_bytes_that_confd_wrote(vector, tmp_path):
    assert render(vector, tmp_path) == check.expected(vector, "v0.16.0")[0]


@pytest.mark.parametrize("vector", named(v for v in IN_MEMORY if "expect_error" in v))
def test_a_template_that_confd_refuses_is_refused_on_the_same_line(vector, tmp_path):
    with pytest.raises(TemplateError) as caught:
        render(vector, tmp_path)
    assert str(caught.value.where["line"]) == vector["error_pos"].partition(":")[0]
    assert ("column" in caught.value.where) == (vector["stage"] == "parse")


@pytest.mark.parametrize("vector", named(THROUGH_A_STORE))
def test_a_run_reads_the_keys_that_confd_read(vector, tmp_path):
    as_recorded(COMMAND, vector, tmp_path)


def test_no_vector_is_left_out():
    assert len(IN_MEMORY) + len(THROUGH_A_STORE) == len(VECTORS) == 628
    assert DIFFERENT.keys() <= {vector["id"] for vector in THROUGH_A_STORE}


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_manual_names_a_vector_that_differs_on_purpose(name):
    _, _, table = MANUAL.read_text().partition("## Intended differences")
    assert f"`{name}`" in table
