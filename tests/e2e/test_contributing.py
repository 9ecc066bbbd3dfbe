"""The examples of CONTRIBUTING.md do what they promise: applied to a copy of the tree, they are used there."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing

import pytest

from tests.contributing import apply, copy_tree, examples

pytestmark = pytest.mark.timeout(600)  # a copy of the tree, and a run of pytest in it

GENERATORS = ("test_settings_manual", "test_template_docs", "test_resource_manual")
"""What writes the generated parts of the manual."""
THEIR_TESTS = ("tests/stores/test_sqlite.py", "tests/unit/test_reload_touch.py", "tests/unit/test_list.py")
OTHER_TESTS = (
    *(f"tests/unit/{name}.py" for name in GENERATORS),
    "tests/unit/test_cli.py::test_each_command_is_a_module_that_is_loaded_when_it_is_called",
    "tests/unit/test_cli.py::test_the_command_lines_that_help_shows_are_valid",
    "tests/unit/test_confd_words.py::test_every_store_that_is_there_may_be_named_without_a_flag",
    "tests/unit/test_delivery.py::test_a_candidate_that_is_larger_than_max_size_fails_and_the_target_stays",
    "tests/unit/test_imports.py::test_a_file_imports_only_what_its_layer_may",
    "tests/unit/test_manual.py",
    "tests/unit/test_template_registry.py",
)
"""Tests of the tree that what is added has to pass as well."""


def python(tree, *arguments, **variables):
    """Run Python on the copy of the tree."""
    # Neither coverage.py nor pytest-xdist has anything to do there.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**own, "PYTHONPATH": str(tree), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with all examples applied, and the manual generated anew."""
    folder = tmp_path_factory.mktemp("examples") / "tree"
    folder.mkdir()
    copy_tree(folder)
    for example in examples():
        assert apply(example, folder) == "", f"{example.title}: refresh it: python -m tests.contributing FOLDER"
    for name in GENERATORS:
        done = python(folder, "-m", f"tests.unit.{name}")
        assert done.returncode == 0, done.stderr
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def confpy(tree, tmp_path):
    """Run confpy from the copy, with a confdir of resources that ``add`` has written."""

    class Confpy:
        def add(self, name, template, ending="j2", **options):
            for folder in ("conf.d", "templates"):
                (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / "templates" / f"{name}.{ending}").write_text(template)
            options = {"src": f"{name}.{ending}", "dest": f"{tmp_path}/{name}", "keys": ["/"], **options}
            lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
            (tmp_path / "conf.d" / f"{name}.toml").write_text("\n".join(["[template]", *lines, ""]))

        def __call__(self, *arguments, **variables):
            folders = {"CONFPY_CACHE_DIR": f"{tmp_path}/cache", "CONFPY_STATE_DIR": f"{tmp_path}/state"}
            return python(tree, "-m", "confpy", *arguments, CONFPY_CONFDIR=str(tmp_path), **folders, **variables)

    return Confpy()


def test_the_examples_pass_their_own_tests_and_those_of_the_tree(tree, tmp_path):
    done = python(tree, "-m", "pytest", "-q", "-n", "0", f"--basetemp={tmp_path}/tests", *THEIR_TESTS, *OTHER_TESTS)
    assert done.returncode == 0, done.stdout


def test_the_store_delivers_a_file_and_its_setting_is_in_help_and_manual(tree, confpy, tmp_path):
    confpy.add("web", '{{ getv("/app/port") }}')
    with closing(sqlite3.connect(tmp_path / "keys.db")) as database, database:
        database.execute("CREATE TABLE keys (key PRIMARY KEY, value NOT NULL)")
        database.execute("INSERT INTO keys VALUES ('/app/port', '8080')")
    for call in (["-backend", "sqlite"], ["sqlite"]):
        (tmp_path / "web").unlink(missing_ok=True)
        done = confpy("-onetime", *call, "-database", f"{tmp_path}/keys.db")
        assert (done.returncode, (tmp_path / "web").read_text()) == (0, "8080"), done.stderr
    assert "-database PATH" in confpy("help").stdout
    assert "| `-database PATH` | `CONFPY_DATABASE` |" in (tree / "docs" / "settings.md").read_text()


def test_the_function_renders_in_both_languages_and_is_converted(tree, confpy, tmp_path):
    confpy.add("jinja", '{{ crc32("web1") }}')
    confpy.add("go", '{{crc32 "web1"}}', ending="tmpl")
    done = confpy("-onetime", "-backend", "env")
    assert done.returncode == 0, done.stderr
    assert {(tmp_path / name).read_text() for name in ("jinja", "go")} == {str(zlib.crc32(b"web1"))}
    done = confpy("convert", f"{tmp_path}/templates/go.tmpl")
    assert (done.returncode, '{{ crc32("web1") }}' in done.stdout) == (0, True), done
    assert "| `crc32` | – | `crc32(string) int` |" in (tree / "docs" / "template-functions.md").read_text()


def test_the_option_is_read_works_and_is_in_manual_and_schema(tree, confpy, tmp_path):
    confpy.add("fits", "1234", max_size=4)
    confpy.add("large", "12345", max_size=4)
    confpy.add("wrong", "", max_size=-1)
    done = confpy("-onetime", "-backend", "env")
    assert "max_size is not a number from 0 on: -1" in done.stderr
    assert "the rendered file has 5 bytes, max_size is 4" in done.stderr
    assert {name: (tmp_path / name).exists() for name in ("fits", "large")} == {"fits": True, "large": False}
    assert "| `max_size` | integer | no limit |" in (tree / "docs" / "resources.md").read_text()
    schema = json.loads((tree / "docs" / "resource.schema.json").read_text())
    assert schema["properties"]["template"]["properties"]["max_size"]["minimum"] == 0


def test_the_action_runs_is_described_and_comes_back_from_the_ledger(tree, confpy, tmp_path):
    confpy.add("web", "new", reload_touch=f"{tmp_path}/reload")
    done = confpy("-onetime", "-backend", "env")
    assert done.returncode == 7
    assert f'command="touch of {tmp_path}/reload"' in done.stderr
    assert "the file cannot be touched" in done.stderr
    (tmp_path / "reload").touch()
    os.utime(tmp_path / "reload", (1, 1))
    done = confpy("-onetime", "-backend", "env")
    assert (done.returncode, "reload.recovered" in done.stderr) == (0, True), done.stderr
    assert (tmp_path / "reload").stat().st_mtime > 1
    assert "| `reload_touch` |" in (tree / "docs" / "resources.md").read_text()
    assert "reload_touch" in (tree / "docs" / "resource.schema.json").read_text()


def test_the_command_runs_and_is_in_help(confpy, tmp_path):
    confpy.add("web", "")
    assert (confpy("list").stdout, confpy("list").returncode) == (f"web\t{tmp_path}/web\n", 0)
    assert "confpy list list the resources of the confdir" in " ".join(confpy("help").stdout.split())
    assert confpy("help", "list").stdout.startswith("Usage: confpy list [flags]\n")
