"""Redis as keys: names, strings and hashes, and which notifications are enough."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from confpy.stores.redis.contents import PATTERNS, Contents, Names, Wanted, notifies


@pytest.mark.parametrize(
    ("separator", "name", "key"),
    [
        ("/", "/a/b", "/a/b"), ("/", "a/b", "a/b"), ("/", "/", None), ("/", "", None),
        (":", "a:b", "/a/b"), ("::", "a::b:c", "/a/b:c"), (":", "a/b:c", None), (":", "", None),
    ],
)  # fmt: skip
def test_a_name_stands_for_one_key_and_back(separator, name, key):
    names = Names(separator)
    assert names.key(name) == key
    assert key is None or names.name(key) == name


def test_a_field_is_below_its_hash_and_an_empty_one_is_no_key():
    assert Names("/").field("/a", "b/c") == "/a/b/c"
    assert Names(":").field("/a", "b:c") == "/a/b/c"
    assert (Names("/").field("/a", ""), Names(":").field("/a", ":")) == (None, None)


@pytest.mark.parametrize(("separator", "path", "prefixes"), [
    ("/", "/a", ("/a",)), ("/", "a", ("/a", "a")), (":", "a", ("/a",)), (":", "/", ("/",)), ("/", "", ("/",)),
])  # fmt: skip
def test_a_resource_may_leave_out_the_leading_slash(separator, path, prefixes):
    assert Names(separator).prefixes(path) == prefixes


def test_a_pattern_takes_each_character_for_itself():
    odd = "/a*b?c[d]e\\f-^"
    (pattern,) = Names("/").patterns([odd])
    assert pattern == "/a\\*b\\?c\\[d\\]e\\\\f\\-\\^*"
    assert Names(":").pattern(["/a/b"]) == "a:b*"


def test_many_prefixes_have_one_pattern_that_matches_all_of_them():
    prefixes = [f"/svc/{number}" for number in range(PATTERNS + 1)]
    (pattern,) = Names("/").patterns(prefixes)
    assert pattern == "/svc/*"
    assert all(fnmatchcase(prefix, pattern) for prefix in prefixes)
    assert Names("/").patterns(["/", "/a"]) == ["*", "/a*"]


def test_what_lies_above_a_prefix_matters_too():
    wanted = Wanted(["/a/b/c", "/x"])
    assert [key for key in ("/a", "/a/b", "/a/b/c", "/a/b/c/d", "/x/y", "/", "/b", "/a/c") if key in wanted] == [
        "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/x/y",
    ]  # fmt: skip
    assert (wanted.covers("/a/b"), [*wanted.of("/x/y")]) == (False, ["/x"])


def test_a_string_counts_before_a_field_and_the_field_is_back_when_it_is_gone():
    contents = Contents()
    assert contents.take("/a", {"/a/x": "field", "/a/y": "1"}) == {"/a": None, "/a/x": "field", "/a/y": "1"}
    assert contents.take("/a/x", "string") == {"/a/x": "string"}
    assert contents.take("/a", {"/a/x": "other"}) == {"/a": None, "/a/x": "string", "/a/y": None}
    assert contents.take("/a/x", None) == {"/a/x": "other"}
    assert contents.take("/a", None) == {"/a": None, "/a/x": None}
    assert [*contents] == []


def test_of_two_hashes_the_one_nearer_to_the_root_counts():
    contents = Contents()
    contents.take("/a/b", {"/a/b/c": "near"})
    assert contents.take("/a", {"/a/b/c": "root"})["/a/b/c"] == "root"
    assert contents.take("/a", None)["/a/b/c"] == "near"


@pytest.mark.parametrize(("flags", "enough"), [
    ("AKE", True), ("Kg$hxe", True), ("KA", True), ("", False), ("AE", False), ("Kx", False), ("Kg$hx", False),
])  # fmt: skip
def test_notifications_are_enough_where_every_change_has_one(flags, enough):
    assert notifies(flags) is enough
