"""Stores of other distributions: found by name, never in place of confpy's own, and their failures told as theirs."""

from __future__ import annotations

import sys

import pytest

from confpy.config.settings import Settings
from confpy.errors import StoreError, UsageError
from confpy.stores import open_store
from confpy.stores.env import EnvStore
from confpy.stores.outside import known

GOOD = """
from confpy.keys.capabilities import Capabilities
from confpy.keys.snapshot import Listing, Snapshot

class Good:
    capabilities = Capabilities()
    node = "here"
    @classmethod
    def open(cls, settings): return cls()
    def prefixes(self, path): return (path,)
    def read(self, prefixes, counted=()): return Snapshot({one: Listing(0, {one: "1"}) for one in prefixes})
    def poll(self, prefixes): return None
    def watch(self, cursors, identity=""): return Stream()
    def close(self): pass

class Stream:
    def __iter__(self): yield 7
    def close(self): pass

class Raises(Good):
    def read(self, prefixes, counted=()): raise KeyError("5ecret")
    def close(self): raise RuntimeError("5ecret")

class NoSnapshot(Good):
    def read(self, prefixes, counted=()): return {}

class DoesNotOpen(Good):
    @classmethod
    def open(cls, settings): return 1 / 0

class NoStore:
    pass
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a distribution with entry points, and a module, without pip."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution, module, source, **points):
        folder = tmp_path / f"{distribution}-1.5.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (folder / "entry_points.txt").write_text(f"[confpy.stores]\n{lines}")
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def test_a_store_is_found_by_the_name_of_its_entry_point(installed):
    installed("good-store", "good_module", GOOD, good="good_module:Good")
    store = open_store("good", Settings())
    assert store.read(["/a"]).listings["/a"].keys == {"/a": "1"}
    assert (store.node, store.poll(["/a"]), store.prefixes("/b")) == ("here", None, ("/b",))
    assert known()[-1] == "good"


def test_a_store_of_confpys_own_cannot_be_replaced_and_no_distribution_is_looked_at_for_it(installed, monkeypatch):
    installed("bad-store", "bad_module", GOOD, env="bad_module:Good")
    monkeypatch.setattr("importlib.metadata.entry_points", None)
    assert isinstance(open_store("env", Settings()), EnvStore)


def test_an_unknown_store_is_named_with_all_that_there_are(installed):
    installed("good-store", "good_module", GOOD, good="good_module:Good")
    with pytest.raises(UsageError, match="unknown store 'goood'") as caught:
        open_store("goood", Settings())
    assert caught.value.hint.startswith("choose one of consul, ")
    assert caught.value.hint.endswith(", good")


@pytest.mark.parametrize(
    ("source", "value", "said"),
    [
        ("import nothing_of_the_kind", "m:S", "the store 's' cannot be loaded: no module 'nothing_of_the_kind'"),
        ("from confpy import nothing", "m:S", "the store 's' cannot be loaded: an import fails"),
        ("1 / 0", "m:S", "the store 's' cannot be loaded: ZeroDivisionError"),
        ("", "m:S", "the store 's' cannot be loaded: AttributeError"),
        (GOOD, "m:NoStore", "the store 's' is none: it lacks capabilities, open, prefixes, read, poll, watch, close"),
        (GOOD, "m:DoesNotOpen", "the store 's' failed to open: ZeroDivisionError at m.py:"),
    ],
    ids=["a module", "a name", "an error", "an attribute", "no store", "open"],
)
def test_a_store_that_cannot_be_used_ends_the_start_and_says_whose_it_is(installed, source, value, said):
    installed("their-store", "m", source, s=value)
    with pytest.raises(UsageError) as caught:
        open_store("s", Settings())
    assert caught.value.message.startswith(said)
    assert caught.value.hint == "it is part of their-store 1.5, not of confpy: report it there"


def test_two_distributions_with_a_store_of_one_name_are_an_error(installed):
    installed("one", "m1", GOOD, s="m1:Good")
    installed("two", "m2", GOOD, s="m2:Good")
    with pytest.raises(UsageError, match="more than one distribution has a store 's'") as caught:
        open_store("s", Settings())
    assert caught.value.hint == "uninstall all but one of one 1.5, two 1.5"


def test_what_it_raises_is_its_failure_and_shows_no_value(installed):
    installed("their-store", "m", GOOD, s="m:Raises")
    store = open_store("s", Settings())
    for call in (lambda: store.read(["/a"]), store.close):
        with pytest.raises(StoreError, match=r"the store 's' failed to \w+: \w+Error at m.py:\d+") as caught:
            call()
        assert "5ecret" not in str(caught.value)
        assert "their-store 1.5" in caught.value.hint
    with pytest.raises(StoreError, match="failed to follow: TypeError"):
        list(store.watch({"/a": 1}))


def test_a_read_that_brings_no_snapshot_is_its_failure(installed):
    installed("their-store", "m", GOOD, s="m:NoSnapshot")
    with pytest.raises(StoreError, match="it returned no snapshot of all prefixes"):
        open_store("s", Settings()).read(["/a"])


@pytest.mark.parametrize("option", ["alone", "=x", " =x"])
def test_an_option_without_a_name_is_an_error(installed, option):
    installed("good-store", "good_module", GOOD, good="good_module:Good")
    with pytest.raises(UsageError, match="NAME=VALUE"):
        open_store("good", Settings(store_options=(option,)))
