"""One file per key: the patterns of ``for_each``, the names of items, and what matches as keys come and go."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies

from confpy.keys.each import LONGEST_NAME, Matches, fill_name, flaw_of, folded, parse_each
from confpy.keys.tree import KeyTree
from confpy.keys.view import View

DEST = "/etc/nginx/conf.d/{{ name }}.conf"


def view_of(keys, *prefixes):
    tree = KeyTree()
    for key, value in keys.items():
        tree.set(key, value)
    return tree, View(tree, prefixes or ("/",), "/")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/vhosts/*", {"a", "b-1"}),
        ("/vhosts/*/", {"b-1", "c"}),
        ("/vhosts/*/tls", {"c"}),
        ("/vhosts/*/tls/", set()),
        ("/vhosts/b-*", {"b-1"}),
        ("/vhosts/[ac]", {"a"}),
        ("/none/*", set()),
        ("/*", {"top"}),
        ("/*/", {"vhosts"}),
    ],
)
def test_a_pattern_finds_keys_or_folders_by_one_segment(pattern, found):
    keys = {"/vhosts/a": "1", "/vhosts/b-1": "2", "/vhosts/b-1/port": "3", "/vhosts/c/tls": "4", "/top": "5"}
    assert set(parse_each(pattern).find(view_of(keys)[1])) == found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("vhosts/*", "it begins with no slash: write /vhosts/*"),
        ("/vhosts", "no segment of it has a wildcard"),
        ("/vhosts/", "no segment of it has a wildcard"),
        ("/a/*/b/*", "more than one segment of it has wildcards"),
        ("/a//*", "it has an empty segment"),
        ("/a/[", "syntax error in pattern"),
        ("/a/[^a]", "a class of characters in it may match a slash"),
        ("/", "it has an empty segment"),
    ],
)
def test_a_pattern_that_is_not_supported_is_an_error_that_says_why(pattern, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_each(pattern)


@pytest.mark.parametrize(
    ("name", "flaw"),
    [
        ("a.example.org", ""),
        ("größe", ""),
        ("a b", ""),
        ("..", "it names no file"),
        (".", "it names no file"),
        ("", "it names no file"),
        (".htaccess", "it begins with a dot: the file would be hidden"),
        ("a\0b", "it has a control character"),
        ("a\nb", "it has a control character"),
        ("a\u2028b", "it has a control character"),
        ("a/b", "it has a slash"),
        ("../x", "it begins with a dot: the file would be hidden"),
        ("x" * (LONGEST_NAME - 5), ""),
        ("x" * (LONGEST_NAME - 4), f"the name of the file would have {LONGEST_NAME + 1} bytes, {LONGEST_NAME} at most"),
        ("ä" * 120, f"the name of the file would have 245 bytes, {LONGEST_NAME} at most"),
        ("\udcff", ""),
        ("\ud800", "it has a control character"),
    ],
)
def test_a_name_that_could_leave_the_folder_or_makes_no_file_is_refused(name, flaw):
    assert flaw_of(name, DEST) == flaw


@given(strategies.text())
def test_a_name_that_is_accepted_is_a_file_right_in_the_folder(name):
    if not flaw_of(name, DEST):
        dest = fill_name(DEST, name)
        assert dest == f"/etc/nginx/conf.d/{name}.conf"
        assert dest.count("/") == DEST.count("/")
        assert "\0" not in dest


def test_names_that_differ_in_case_or_in_how_they_are_composed_are_found_to_be_alike():
    assert folded("Example.ORG") == folded("example.org") != folded("example.com")
    assert folded("é") == folded("E\u0301")


NAMES = strategies.sampled_from(["a", "b", "c", "web-1"])
CHANGES = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["/vhosts/{}", "/vhosts/{}/port", "/vhosts/{}/tls/key", "/global/{}", "/vhosts"]),
        NAMES,
        strategies.sampled_from(["1", None]),
    ),
    max_size=12,
)


@given(CHANGES, strategies.sampled_from(["/vhosts/*", "/vhosts/*/", "/vhosts/*/tls/", "/vhosts/web-*"]))
def test_after_any_changes_the_items_are_those_that_a_fresh_look_finds(changes, pattern):
    tree, view = view_of({})
    each = parse_each(pattern)
    matches = Matches(each)
    matches.update(view, None)
    for key, name, value in changes:
        path = key.format(name)
        if value is None:
            tree.delete(path)
        else:
            tree.set(path, value)
        before = set(matches.names)
        touched = matches.update(view, [path])
        assert matches.names == set(each.find(view))
        assert before ^ matches.names <= set(touched.names)
        assert len(matches) == len(matches.names)


def test_a_change_concerns_its_own_item_alone_and_one_of_shared_keys_all_of_them():
    tree, view = view_of({"/vhosts/a": "1", "/vhosts/b": "1", "/global/x": "1"})
    matches = Matches(parse_each("/vhosts/*"), ["/global"])
    assert set(matches.update(view, None).names) == {"a", "b"}
    tree.set("/vhosts/a", "2")
    assert set(matches.update(view, ["/vhosts/a"]).names) == {"a"}
    assert set(matches.update(view, ["/global/x"]).names) == {"a", "b"}
    assert set(matches.update(view, ["/other"]).names) == set()
