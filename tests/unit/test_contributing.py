"""CONTRIBUTING.md: its examples apply to the tree, and what it says to run is there."""

from __future__ import annotations

import re

from tests.contributing import PAGE, ROOT, apply, copy_tree, examples
from tests.sim.mutants import MUTANTS

TEXT = PAGE.read_text(encoding="utf-8")


def test_each_example_applies_on_top_of_those_before_it(tmp_path):
    found = examples()
    assert len(found) == 5
    copy_tree(tmp_path, {name for example in found for name in example.files})
    refusals = {example.title: refusal for example in found if (refusal := apply(example, tmp_path))}
    assert refusals == {}, "refresh them: python -m tests.contributing FOLDER"


def test_the_planted_bug_that_it_names_is_one_of_the_simulators():
    assert set(re.findall(r'--plant "([^"]+)"', TEXT)) <= MUTANTS.keys()


def test_the_scripts_modules_and_files_that_it_names_exist():
    prose = re.sub(r"^```diff\n.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    files = set(re.findall(r"`((?:scripts|tests|confpy|docs|\.ci)/[\w./-]+)", prose))
    assert "scripts/bench" in files
    assert {name for name in files if not (ROOT / name).exists()} == set()
    modules = set(re.findall(r"python -m (tests[\w.]+)", TEXT))
    assert "tests.sim.run" in modules
    assert {name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()} == set()


def test_the_one_test_that_it_runs_is_there():
    ((file, name),) = re.findall(r"-m pytest (\S+) -k (\w+)", TEXT)
    assert re.search(rf"^def test_\w*{name}", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
