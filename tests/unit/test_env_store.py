"""How names of variables become keys: checked against the real confd."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from confpy.keys.prefixes import join
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.stores.env import EnvStore

VECTORS = Path(__file__).parent.parent / "golden" / "vectors.jsonl"
DIFFERING = {
    "env-plain-string-prefix": {"/foo": "1", "/foo/a": "2"},  # a prefix ends where a segment ends: no FOOBAR
    "env-upper-case-prefix-is-not-stripped": {"/foo": "1"},  # it is stripped
}
"""Where confpy means to differ: see docs/stores/env.md."""


def recorded():
    for line in VECTORS.read_text().split("\n"):
        if line and (vector := json.loads(line))["area"] == "env-backend":
            yield pytest.param(vector, id=vector["id"])


def seen(environment, keys, prefix=""):
    """What a template of a resource with these keys and this prefix sees."""
    store = EnvStore(environment)
    prefixes = [asked for key in keys for asked in store.prefixes(join(prefix, key))]
    tree = KeyTree()
    for asked, listing in store.read(prefixes).listings.items():
        tree.replace(asked, listing.keys)
    view = View(tree, prefixes, *store.prefixes(prefix))
    return {pair.key: pair.value for depth in range(1, 6) for pair in view.gets("/*" * depth)}


@pytest.mark.parametrize("vector", list(recorded()))
def test_a_template_sees_the_keys_of_confd(vector):
    assert seen(vector["env"], vector["resource_keys"], vector["prefix"]) == DIFFERING.get(
        vector["id"], vector["pairs"]
    )


ENVIRONMENT = {
    "FOO": "1", "FOO_BAR": "2", "FOO__BAR2": "dbl", "FOOBAR": "3", "FOO_BAR_BAZ": "4", "foo_low": "5",
    "MIXEDCASE_X": "6", "FOO_TRAIL_": "tr", "FOO-X": "dash", "DASH-ED": "7", "EMPTY": "", "FOO_EMPTY": "",
}  # fmt: skip


def test_a_key_brings_the_variables_below_it_but_none_that_only_begin_like_it():
    assert seen(ENVIRONMENT, ["/foo", "/MixedCase/x", "/dash-ed"]) == {
        "/foo": "1", "/foo/bar": "2", "/foo/bar2": "dbl", "/foo/bar/baz": "4", "/foo/trail": "tr", "/foo/empty": "",
        "/mixedcase/x": "6", "/dash-ed": "7",
    }  # fmt: skip


@pytest.mark.parametrize("prefix", ["/my_app", "my_app/", "/My_App", "/my/app"])
def test_a_prefix_is_stripped_however_it_is_written(prefix):
    assert seen({"MY_APP_PORT": "80", "MY_APPLE": "no"}, ["/"], prefix) == {"/port": "80"}


def test_of_two_names_with_one_key_the_one_in_capitals_and_without_empty_segments_wins():
    environment = {"a_b": "small", "A_B": "capital", "A__B": "two", "_A_B": "before", "A_B_": "after"}
    assert seen(environment, ["/"]) == {"/a/b": "capital"}
    assert seen(dict(reversed(environment.items())), ["/"]) == {"/a/b": "capital"}


def test_confpy_s_own_secrets_are_no_keys():
    environment = {"CONFPY_PASSWORD": "secret", "CONFPY_AUTH_TOKEN": "secret", "CONFPY_INTERVAL": "5"}
    assert seen(environment, ["/"]) == {"/confpy/interval": "5"}


def test_a_change_of_the_environment_of_this_process_is_seen(monkeypatch):
    monkeypatch.setenv("CONFPYTEST_X", "1")
    assert EnvStore().read(["/confpytest"]).listings["/confpytest"].keys == {"/confpytest/x": "1"}


@pytest.mark.parametrize(("given", "keys"), [({}, {}), ({"LC_CTYPE": "C.UTF-8"}, {"/lc/ctype": "C.UTF-8"})])
def test_a_variable_that_python_sets_for_itself_is_no_key(given, keys):
    program = "from confpy.stores.env import EnvStore; print(EnvStore().read(['/lc']).listings['/lc'].keys)"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), **given}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(keys)


@pytest.mark.usefixtures("unmeasured")
def test_the_store_loads_nothing_heavy():
    program = (
        "import sys, confpy.stores.env, confpy.keys.view\n"
        "heavy = {'asyncio', 'json', 'requests', 'socket', 'ssl', 'watchdog', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
