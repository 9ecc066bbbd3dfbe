"""The tree of a store's keys, and what a template sees of it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.errors import KeyMissing, TemplateError
from confpy.keys.glob import compile_glob
from confpy.keys.prefixes import ROOT, PrefixIndex, ancestors, covers, join, minimal, normalise, select
from confpy.keys.tree import KeyTree
from confpy.keys.view import Pair, View
from confpy.stores.etcd.v2_wire import lists

RAW = st.lists(st.sampled_from(["a", "b", "a-", "a0", "", ".", "..", "é", "/"]), max_size=5).map("/".join)
SEGMENT = st.sampled_from(["a", "b", "a-", "a0", "ab"])
PATH = st.lists(SEGMENT, max_size=4).map(lambda parts: "/" + "/".join(parts))
VALUE = st.sampled_from(["", "1", "2"])


def tree_of(*keys: str, **more: str) -> KeyTree:
    tree = KeyTree()
    tree.replace(ROOT, {key: f"value of {key}" for key in keys} | more)
    return tree


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/foo//x/", "/foo/x"), ("stolon/x", "/stolon/x"), ("", "/"), ("/", "/"), ("//", "/"), ("/a/./b", "/a/b"),
        ("/a/../b", "/b"), ("/../x", "/x"), ("..", "/"), ("/.hidden", "/.hidden"), ("/a/..b", "/a/..b"), ("a", "/a"),
    ],
)  # fmt: skip
def test_a_raw_key_has_one_clean_path(raw, path):
    assert normalise(raw) == path


@given(RAW)
def test_the_path_of_a_path_is_itself(raw):
    path = normalise(raw)
    assert normalise(path) == path
    assert path.startswith("/")
    assert "//" not in path
    assert path == "/" or not path.endswith("/")


@pytest.mark.parametrize(
    ("prefix", "key", "joined"),
    [
        ("", "/nginx", "/nginx"), ("/app", "/nginx", "/app/nginx"), ("prod/", "nginx/", "prod/nginx"),
        ("/prod", "/", "/prod"), ("", "/", "/"), ("/", "", "/"), ("", "", "/"), ("/app", "../other", "/other"),
        ("dev", "/web", "/dev/web"), ("/dev/", "/web", "/dev/web"), ("stolon", "x", "stolon/x"), ("", "x", "x"),
        ("stolon", "", "stolon"), ("/a", "..", "/"), ("", "../x", "x"), ("/a", "x//y/./z/", "/a/x/y/z"),
    ],
)  # fmt: skip
def test_a_prefix_and_a_key_are_joined_as_paths(prefix, key, joined):
    assert join(prefix, key) == joined


@pytest.mark.parametrize(
    ("prefix", "key", "covered"),
    [
        ("/", "/a", True), ("/", "a", True), ("/", "/", True), ("/a", "/a", True), ("/a", "/a/b", True),
        ("/a", "/ab", False), ("/a", "/a-b", False), ("/a/b", "/a", False), ("a", "a/b", True), ("a", "/a/b", False),
        ("/a", "/a//b", True), ("/a", "/a/", True), ("/", "", True),
    ],
)  # fmt: skip
def test_a_prefix_covers_itself_and_what_lies_below(prefix, key, covered):
    assert covers(prefix, key) is covered


@given(st.lists(RAW, max_size=8), RAW)
def test_the_minimal_prefixes_cover_what_all_cover_and_none_covers_another(raws, key):
    prefixes = [normalise(raw) for raw in raws]
    abbreviate = minimal(prefixes)
    assert list(abbreviate) == sorted(set(abbreviate))
    assert any(covers(prefix, key) for prefix in abbreviate) == any(covers(prefix, key) for prefix in prefixes)
    assert not any(covers(one, other) for one in abbreviate for other in abbreviate if one != other)


@given(st.sets(PATH, max_size=5), st.dictionaries(RAW, VALUE, max_size=8))
def test_keys_are_shared_out_among_all_prefixes_that_cover_them(prefixes, keys):
    assert select(prefixes, keys) == {
        prefix: {key: value for key, value in keys.items() if covers(prefix, key)} for prefix in prefixes
    }


def test_the_ancestors_of_a_key_are_what_covers_it():
    assert list(ancestors("/a/b/c")) == ["/", "/a", "/a/b", "/a/b/c"]
    assert list(ancestors("a/b")) == ["/", "a", "a/b"]
    assert list(ancestors("/")) == ["/"]


# --- the tree --------------------------------------------------------------------------------------------------------


def seen_of(raws: dict[str, str]) -> dict[str, str]:
    """What templates see of raw keys, the slow way."""
    seen = {}
    for raw in sorted(raws, reverse=True):
        seen[normalise(raw)] = raws[raw]
    return seen | {raw: value for raw, value in raws.items() if raw == normalise(raw)}


STEP = st.one_of(
    st.tuples(st.just("set"), RAW, VALUE),
    st.tuples(st.just("delete"), RAW, st.none()),
    st.tuples(st.just("replace"), PATH, st.dictionaries(RAW, VALUE, max_size=6)),
)


@given(st.lists(STEP, max_size=25), PATH)
def test_the_tree_agrees_with_a_plain_dictionary(steps, prefix):
    tree, raws = KeyTree(), {}
    for step, raw, value in steps:
        before = seen_of(raws)
        if step == "set":
            raws[raw] = value
            changed = tree.set(raw, value)
        elif step == "delete":
            raws.pop(raw, None)
            changed = tree.delete(raw)
        else:
            keys = {key: v for key, v in value.items() if covers(raw, key)}
            raws = {key: v for key, v in raws.items() if not covers(raw, key)} | keys
            changed = tree.replace(raw, keys)
        after = seen_of(raws)
        differing = {path for path in before | after if before.get(path) != after.get(path)}
        assert changed == (differing if step == "replace" else bool(differing))
        assert tree.items("/") == sorted(after.items())
        assert len(tree) == len(after)
    below = [(path, value) for path, value in sorted(seen_of(raws).items()) if covers(prefix, path)]
    assert sorted(tree.items(prefix)) == below
    assert tree.count(prefix) == len(below)
    assert tree.raw_count(prefix) == sum(covers(prefix, raw) for raw in raws)
    assert [tree.get(path) for path, _ in below] == [value for _, value in below]


def test_the_key_spelled_like_its_path_is_seen_and_deleting_it_brings_the_other_back():
    tree = KeyTree()
    assert tree.set("foo/x", "bare")
    assert tree.set("/foo//x", "doubled")
    assert tree.get("/foo/x") == "doubled"
    assert tree.set("/foo/x", "plain")
    assert not tree.set("foo/x", "hidden")
    assert tree.get("/foo/x") == "plain"
    assert tree.delete("/foo/x")
    assert tree.get("/foo/x") == "doubled"
    assert tree.delete("/foo//x")
    assert tree.get("/foo/x") == "hidden"


def test_replacing_many_keys_tells_only_those_that_changed():
    tree = KeyTree()
    keys = {f"/a/{n}": "1" for n in range(1_000)}
    assert tree.replace("/a", keys) == set(keys)
    tree.set("/b", "1")
    assert tree.replace("/a", keys | {"/a/7": "2", "/a/new": "1"}) == {"/a/7", "/a/new"}
    assert tree.replace("/a", {}) == {*keys, "/a/new"}
    assert tree.items("/") == [("/b", "1")]


# --- the view --------------------------------------------------------------------------------------------------------

CONFD = tree_of("/a", "/b/c", "/b/d/e", "/app/db", "/app/db/x", "/app/db/sub/deep", "/app2/y", "/deis//odd")


@pytest.mark.parametrize(
    ("path", "names", "folders"),
    [
        ("", [], []), ("a", [], []), ("app", [], []), (".", [], []), ("/nope", [], []), ("/ap", [], []),
        ("/app/*", [], []), ("/app", ["db"], ["db"]), ("/app/", ["db"], ["db"]),
        ("/app/db", ["db", "sub", "x"], ["sub"]), ("/app/db/", ["sub", "x"], ["sub"]),
        ("/b/d/", ["e"], []), ("/b/c", ["c"], []), ("/b/c/", [], []),
        ("/a", ["a"], []),
        # Where confd lists leaves only, or the wrong level:
        ("/", ["a", "app", "app2", "b", "deis"], ["app", "app2", "b", "deis"]), ("//app", ["db"], ["db"]),
        ("/app//db", ["sub", "x"], ["sub"]), ("/b/./d", ["e"], []), ("/b/x/../d", ["e"], []),
        ("/.", ["a", "app", "app2", "b", "deis"], ["app", "app2", "b", "deis"]),
    ],
)  # fmt: skip
def test_ls_and_lsdir_list_what_lies_one_step_below(path, names, folders):
    view = View(CONFD, ["/"])
    assert view.ls(path) == names
    assert view.lsdir(path) == folders


def test_a_listing_is_not_led_astray_by_names_that_begin_alike():
    view = View(tree_of("/p/a", "/p/a-b/x", "/p/a/y", "/p/a0", "/p/a!/z"), ["/p"])
    assert view.ls("/p") == ["a", "a!", "a-b", "a0"]
    assert view.lsdir("/p") == ["a", "a!", "a-b"]


def test_a_key_at_the_root_is_listed_and_matched():
    view = View(tree_of("/", "/x"), ["/"])
    assert view.ls("/") == ["/", "x"]
    assert [pair.key for pair in view.gets("/*")] == ["/", "/x"]


def test_lookups_take_the_key_as_it_is_written():
    view = View(tree_of("/a/b", "/a/*"), ["/"])
    for key in ("/a/b", "/a/*"):
        assert view.exists(key)
    for key in ("a/b", "/a/b/", "/a//b", "/a", "/", ""):
        assert not view.exists(key)
    assert view.get("/a/b") == Pair("/a/b", "value of /a/b")


def test_the_default_is_for_a_missing_key_only():
    view = View(tree_of(**{"/e": ""}), ["/"])
    assert view.getv("/e", "default") == ""
    assert view.getv("/none", "default", "ignored") == "default"
    assert view.getv("/none", "") == ""


def test_a_missing_key_is_an_error_that_names_it():
    view = View(tree_of("/a"), ["/"])
    for ask in (view.get, view.getv):
        with pytest.raises(KeyMissing) as caught:
            ask("/no/such")
        assert caught.value.where == {"key": "/no/such"}


def test_gets_is_sorted_by_key_and_getvs_by_value_with_repetitions():
    view = View(tree_of(**{"/up/n2": "b", "/up/n10": "c", "/up/n1": "b", "/up/n1/deep": "a", "/upper/x": "d"}), ["/"])
    assert view.gets("/up/*") == [("/up/n1", "b"), ("/up/n10", "c"), ("/up/n2", "b")]
    assert view.getvs("/up/*") == ["b", "b", "c"]
    assert view.gets("/none/*") == []


def test_matches_are_sorted_by_the_whole_key():
    view = View(tree_of("/a/x", "/a-b/x", "/a0/x"), ["/"])
    assert [pair.key for pair in view.gets("/*/x")] == ["/a-b/x", "/a/x", "/a0/x"]
    assert [pair.key for pair in view.gets("/[a]*/x")] == ["/a-b/x", "/a/x", "/a0/x"]


def test_a_malformed_pattern_is_an_error_unless_there_is_no_key_at_all():
    assert View(KeyTree(), ["/"]).gets("/a[") == []
    assert View(tree_of("/b"), ["/a"]).gets("/a[") == []
    with pytest.raises(TemplateError, match="syntax error in pattern"):
        View(tree_of("/b"), ["/"]).gets("/a[")


def test_a_view_sees_its_covers_only():
    view = View(CONFD, ["/app", "/b/d"])
    assert len(view) == 4
    assert view.ls("/") == view.lsdir("/") == ["app", "b"]
    assert view.ls("/b") == ["d"]
    assert not view.exists("/a")
    assert not view.exists("/b/c")
    assert view.getv("/b/d/e")
    assert [pair.key for pair in view.gets("/*/*")] == ["/app/db"]
    assert [pair.key for pair in view.gets("/[^x]*/*/*")] == ["/app/db/x", "/b/d/e"]


def test_a_prefix_is_cut_by_segment_so_that_production_is_not_cut_by_prod():
    tree = tree_of("/prod/web/port", "/prod", "/production/x")
    view = View(tree, ["/prod"], "/prod")
    assert view.gets("/*") == [("/", "value of /prod")]
    assert view.gets("/*/*") == [("/web/port", "value of /prod/web/port")]
    assert view.ls("/") == ["/", "web"]
    assert not view.exists("/uction/x")
    assert len(view) == 2


def test_a_key_that_climbed_out_of_the_prefix_is_seen_uncut():
    view = View(tree_of("/app/x", "/other/y"), ["/app/x", "/other"], "app/")
    assert [view.exists(key) for key in ("/x", "/other/y", "/app/x", "/y")] == [True, True, False, False]
    assert view.ls("/") == ["other", "x"]
    assert [pair.key for pair in view.gets("/*/*")] == ["/other/y"]


def test_a_view_follows_its_tree():
    tree = KeyTree()
    view = View(tree, ["/a"])
    assert len(view) == 0
    tree.set("/a/x", "1")
    assert view.getv("/a/x") == "1"


PATTERN = st.lists(st.sampled_from(["a", "*", "a*", "?", "ab", "[ab]", "[^b]*", "a[^x]b", "\\a", ""]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.sets(PATH, max_size=12), st.lists(PATH, min_size=1, max_size=3), PATTERN, PATH)
def test_a_view_agrees_with_a_look_at_every_key(keys, prefixes, pattern, path):
    tree = tree_of(*keys)
    view = View(tree, prefixes)
    mine = sorted(key for key in keys if any(covers(prefix, key) for prefix in prefixes))
    assert len(view) == len(mine)
    assert [pair.key for pair in view.gets(pattern)] == [k for k in mine if compile_glob(pattern).whole.fullmatch(k)]
    below = [key[len(path.rstrip("/")) + 1 :] for key in mine if covers(path, key) and key != path]
    own = {path.rpartition("/")[2] or "/"} if path in mine else set()
    assert view.ls(path) == sorted(own | {name.partition("/")[0] for name in below})
    assert view.lsdir(path) == sorted({name.partition("/")[0] for name in below if "/" in name})


HIDING = st.lists(st.sampled_from(["a", "b", "_h", "_"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.sets(HIDING, max_size=12), st.lists(HIDING, min_size=1, max_size=3), HIDING)
def test_what_a_store_hides_from_a_prefix_is_seen_by_whom_a_prefix_of_its_own_shows_it(keys, prefixes, path):
    view = View(tree_of(*keys), prefixes, "/", lists)
    mine = sorted(key for key in keys if any(lists(prefix, key) for prefix in prefixes))
    assert len(view) == len(mine)
    assert view.exists(path) == (path in mine)
    for depth in range(5):
        assert [pair.key for pair in view.gets("/*" * depth or "/")] == [
            key for key in mine if compile_glob("/*" * depth or "/").whole.fullmatch(key)
        ]
    below = [key[len(path.rstrip("/")) + 1 :] for key in mine if covers(path, key) and key != path]
    assert view.lsdir(path) == sorted({name.partition("/")[0] for name in below if "/" in name})
    assert set(view.ls(path)) >= {name.partition("/")[0] for name in below}


@given(st.sets(PATH, max_size=12), PATTERN)
def test_a_stripped_view_sees_what_an_unstripped_one_sees_of_the_same_keys(keys, pattern):
    plain = View(tree_of(*keys), ["/"])
    below = KeyTree()
    below.replace("/", {"/deep/er" + (key if key != "/" else ""): f"value of {key}" for key in keys})
    below.set("/deeper", "no")
    stripped = View(below, ["/deep/er"], "/deep/er")
    assert stripped.gets(pattern) == plain.gets(pattern)
    assert stripped.ls("/") == plain.ls("/")
    assert stripped.ls("/a") == plain.ls("/a")


# --- the index -------------------------------------------------------------------------------------------------------


def test_a_path_finds_the_resources_whose_prefixes_cover_it():
    index = PrefixIndex()
    index.add("/", "all")
    index.add("/web", "web")
    index.add("web/", "bare")
    index.add("/web/a", "web")
    index.add("/website", "site")
    assert index.match("/web/a/b") == {"all", "web", "bare"}
    assert index.match("/website") == {"all", "site"}
    assert index.match("/") == {"all"}
    paths = ["/web/a/b", "/website", "/", "/web/a", "/web/a/c", "/x", "/web"]
    assert dict(index.matches(paths)) == {path: index.match(path) for path in paths}


# --- cost ------------------------------------------------------------------------------------------------------------


def seconds(function) -> float:
    """The least of five runs: a busy machine makes only the others longer."""
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        function()
        runs.append(time.perf_counter() - began)
    return min(runs)


def test_a_lookup_costs_what_it_finds_and_not_what_there_is():
    tree = KeyTree()
    tree.replace("/", {f"/s/{n % 100:03}/{n}": "x" for n in range(100_000)})
    tree.replace("/web", {f"/web/{n}": "x" for n in range(10)})
    view = View(tree, ["/"])
    look_at_every_key = seconds(lambda: [path for path, _ in tree.items("/")])
    for lookup in (
        lambda: view.getv("/s/007/7"),
        lambda: view.gets("/web/*"),
        lambda: view.ls("/"),
        lambda: view.ls("/s"),
        lambda: view.gets("/s/*"),
        lambda: view.gets("/s/*/7"),
        lambda: tree.set("/s/050/new", "x") and tree.delete("/s/050/new"),
    ):
        assert seconds(lookup) < look_at_every_key / 4
