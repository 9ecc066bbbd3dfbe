"""What ``confpy convert`` writes renders, as plain Jinja, to what confd printed, and fails where confd fails."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from confpy.convert.writing import write
from confpy.errors import TemplateError
from confpy.templates.golang.parser import GoSyntaxError
from tests.golden import check
from tests.golden.test_vectors import IN_MEMORY, THROUGH_A_STORE, as_recorded, named
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


@pytest.mark.parametrize("vector", named(THROUGH_A_STORE))
def test_a_run_on_a_converted_confdir_makes_what_a_run_on_the_original_makes(vector, tmp_path):
    as_recorded([sys.executable, str(Path(__file__).with_name("converting.py"))], vector, tmp_path)


def test_no_vector_is_left_out():
    stages = [vector.get("stage") for vector in IN_MEMORY]
    assert stages.count(None) + stages.count("exec") + stages.count("parse") + len(THROUGH_A_STORE) == 628


# --- whole installations ---------------------------------------------------------------------------------------------

INSTALLATIONS = Path(__file__).parent / "installations"


def content_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def confpy(*arguments):
    command = [sys.executable, "-m", "confpy", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", ["flat", "json", "patroni"])
def test_an_installation_becomes_the_confdir_that_lies_beside_it(name, tmp_path):
    folder = INSTALLATIONS / name
    keys = ["-backend", "file", "-file", folder / "keys.json"]
    done = confpy("convert", folder, tmp_path / "confpy", "-verify", *keys)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(": the same bytes") == len(list((folder / "conf.d").rglob("*.toml")))
    assert content_of(tmp_path / "confpy") == content_of(folder / "converted")


@pytest.mark.parametrize("name", ["flat", "json", "patroni"])
def test_a_converted_installation_makes_the_targets_that_confd_made(name, tmp_path):
    folder = INSTALLATIONS / name
    expected = content_of(folder / "expected")
    for path in expected:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    keys = ["-backend", "file", "-file", folder / "keys.json", "-state-dir", tmp_path / "state"]
    done = confpy("-onetime", "-sync-only", "-root", tmp_path, "-confdir", folder / "converted", *keys)
    assert done.returncode == 0, done.stderr
    assert {path: (tmp_path / path).read_bytes() for path in expected} == expected
