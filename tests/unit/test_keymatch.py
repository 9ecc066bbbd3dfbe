"""Keys as beginnings of text: when a template asks for that, what is read then, and what the template sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.config.load import load_resources
from confpy.config.resource import Resource
from confpy.config.settings import Settings
from confpy.keys.prefixes import begins, text_parent
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.stores.env import EnvStore
from confpy.templates.keymatch import asked_beyond, by_text, match_keys
from confpy.templates.lookup import Lookup

KEYS = ["/app/awesome"]


def asked(source, keys=KEYS, name="a.tmpl", engine="auto"):
    return asked_beyond(keys, source, Lookup("template", name, engine), "/t/a")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('{{range getvs "/app/awesome*"}}{{end}}', "/app/awesome*"),
        ('{{getv "/app/awesome1"}}', "/app/awesome1"),
        ('{{getv "/app/awesome1" "default"}}', "/app/awesome1"),
        ('{{with get "/app/awesome-x/y"}}{{.Value}}{{end}}', "/app/awesome-x/y"),
        ("{{if exists `/app/awesome.x`}}{{end}}", "/app/awesome.x"),
        ('{{range ls "/app/awesome1"}}{{end}}', "/app/awesome1"),
        ('{{range lsdir "/app/awesome_/"}}{{end}}', "/app/awesome_/"),
        ('{{range gets "/app/awesome?/*"}}{{end}}', "/app/awesome?/*"),
        ('{{range gets "/app/awesome[12]"}}{{end}}', "/app/awesome[12]"),
        ('{{"/app/awesome1" | getv}}', "/app/awesome1"),
        ('{{getv ("/app/awesome1")}}', "/app/awesome1"),
        ('{{define "x"}}{{toUpper (getv "/app/awesome1")}}{{end}}{{template "x"}}', "/app/awesome1"),
        ('{{template "x" (getv "/app/awesome1")}}{{define "x"}}{{end}}', "/app/awesome1"),
        ('{{range seq 1 2}}{{getv (printf "/app/awesome%d/x" .)}}{{end}}', "/app/awesome0/x"),
        ('{{$n := "x"}}{{getv (printf "/app/awesome-%s" $n)}}', "/app/awesome-"),
        ('{{$n := "x"}}{{getv (print "/app/awesome-" $n "/x")}}', "/app/awesome-"),
        ('{{printf "/app/awesome%d" 1 | getv}}', "/app/awesome0"),
        # Within the key, or as far as that is known.
        ('{{getv "/app/awesome"}}{{range gets "/app/awesome/*"}}{{end}}', ""),
        ('{{range gets "/app/*"}}{{end}}{{range gets "/app/a*"}}{{end}}{{getv "/app/awe"}}', ""),
        ('{{$n := "/x"}}{{getv (printf "/app/awesome%s" $n)}}{{getv (print "/app/awesome" $n)}}', ""),
        # What is no path.
        ('{{getv "/app/awesome" "/app/awesome1"}}{{"/app/awesome1"}}{{base "/app/awesome1"}}', ""),
        ('/app/awesome1 {{/* getv "/app/awesome1" */}}', ""),
        # In no language.
        ('{{getv "/app/awesome1"', ""),
    ],
)
def test_a_template_asks_for_more_where_a_literal_path_goes_on_within_a_key(source, found):
    assert asked(source) == found


def test_what_another_key_covers_needs_no_more():
    assert asked('{{getv "/app/awesome1"}}', ["/app/awesome", "/app/awesome1"]) == ""
    assert asked('{{range gets "/app/awesome*"}}{{end}}', ["/app/awesome", "/app"]) == ""
    assert asked('{{range gets "/app/awesome*"}}{{end}}', ["/app/awesome", "/app/awesome1"]) == "/app/awesome*"
    assert asked('{{getv "/x"}}', ["/"]) == ""


def test_jinja_is_read_by_segments_whatever_it_looks_like():
    assert asked('{{ getv("/app/awesome1") }}', name="a.j2") == ""
    assert asked('{{getv "/app/awesome1"}}', engine="jinja") == ""
    assert asked('{% if true %}{{ getv ("/app/awesome1") }}{% endif %}', name="a") == ""
    assert asked('{{getv "/app/awesome1"}} {% x', name="a") == "/app/awesome1"


def test_delimiters_of_the_template_count():
    lookup = Lookup("template", "a", "go", ("[[", "]]"))
    assert asked_beyond(KEYS, '{{getv "/app/awesome1"}}', lookup, "/t/a") == ""
    assert asked_beyond(KEYS, '[[getv "/app/awesome1"]]', lookup, "/t/a") == "/app/awesome1"


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strip", "prefixes", "reads", "texts"),
    [
        ("/p", ("/p/app/awesome",), ("/p/app",), ("/p/app/awesome",)),
        ("/", ("/a", "/b/c"), ("/", "/b"), ("/a", "/b/c")),
        ("/p", ("/p",), ("/p",), ("/p/",)),
        ("/", ("/",), ("/",), ("/",)),
        ("/p", ("/other",), ("/",), ("/other",)),
        ("/", ("/app/x", "app/x"), ("/app", "app"), ("/app/x",)),
        ("/", ("/x", "x"), ("/",), ("/x",)),
    ],
)
def test_the_folder_of_each_key_is_read_and_a_key_without_a_segment_as_it_is(strip, prefixes, reads, texts):
    found = by_text(Resource("r", "", "a", "/a", strip=strip, prefixes=prefixes))
    assert (found.prefixes, found.text_prefixes) == (reads, texts)


@pytest.fixture
def load(tmp_path):
    """Loads the one resource of a confdir, of which these lines and this template are."""

    def loaded(lines, template, *, by_text=True, prefixes_of=lambda path: (path,), **settings):
        for name, text in (
            ("conf.d/a.toml", f'[template]\nsrc = "a.tmpl"\ndest = "/a"\n{lines}'),
            ("templates/a.tmpl", template),
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        found = load_resources(str(tmp_path), Settings(**settings), prefixes_of)
        found = match_keys(found, f"{tmp_path}/templates", in_text_store=by_text)
        assert [str(error) for error in found.all_errors] == []
        return found

    return loaded


LINES = 'prefix = "/services/haproxy"\nkeys = ["/app/awesome"]\n'
TEMPLATE = '{{range getvs "/app/awesome*"}}{{.}};{{end}}'


def test_a_public_installation_is_read_as_confd_reads_it_and_that_is_said_once(load):
    loaded = load(LINES, TEMPLATE)
    (resource,), (note,) = loaded.resources, loaded.notes
    assert resource.prefixes == ("/services/haproxy/app",)
    assert resource.text_prefixes == ("/services/haproxy/app/awesome",)
    assert (note.level, note.event, note.fields["asks"]) == ("info", "keys.text_prefixes", "/app/awesome*")


def test_whole_segments_stay_the_rule(load):
    segment = ("/services/haproxy/app/awesome",)
    for lines, template, in_text_store in [
        (LINES, '{{range getvs "/app/awesome/*"}}{{.}};{{end}}', True),
        (LINES, TEMPLATE, False),
        (LINES + 'keys_match = "segment"\n', TEMPLATE, True),
        (LINES + 'engine = "jinja"\n', TEMPLATE, True),
    ]:
        loaded = load(lines, template, by_text=in_text_store)
        assert [(one.prefixes, one.text_prefixes) for one in loaded.resources] == [(segment, ())]
        assert loaded.notes == ()


def test_text_is_decided_by_hand_for_every_store_and_language(load):
    loaded = load(LINES + 'keys_match = "text"\nengine = "jinja"\n', "x", by_text=False)
    assert loaded.resources[0].text_prefixes == ("/services/haproxy/app/awesome",)
    assert loaded.notes == ()


def test_the_prefix_of_the_settings_and_the_way_of_the_environment_count(load):
    (resource,) = load(LINES, TEMPLATE, prefix="/p").resources
    assert resource.text_prefixes == ("/p/app/awesome",)
    env = EnvStore({})
    (resource,) = load('keys = ["/My_App"]\n', '{{getv "/my/application"}}', prefixes_of=env.prefixes).resources
    assert (resource.prefixes, resource.text_prefixes) == (("/my",), ("/my/app",))


def test_a_template_that_cannot_be_read_is_reported_by_whoever_renders_it(load, tmp_path):
    load(LINES, "x")
    (tmp_path / "templates" / "a.tmpl").unlink()
    loaded = load_resources(str(tmp_path), Settings(), lambda path: (path,))
    loaded = match_keys(loaded, f"{tmp_path}/templates", in_text_store=True)
    assert (len(loaded.resources), loaded.all_errors) == (1, ())


# --- what is seen ----------------------------------------------------------------------------------------------------

TREE = {
    "/p/app/awesome": "0", "/p/app/awesome1": "1", "/p/app/awesome2/x": "2", "/p/app/awesome2/y/z": "3",
    "/p/app/other": "no", "/p/app/awe": "no", "/p/awesome": "no", "/p/app/x/awesome": "no",
}  # fmt: skip


def tree_of(keys):
    tree = KeyTree()
    for key, value in keys.items():
        tree.set(key, value)
    return tree


def test_a_view_shows_what_begins_with_a_text_and_nothing_beside_it():
    view = View(tree_of(TREE), ("/p/app",), "/p", texts=("/p/app/awesome",))
    assert len(view) == 4
    assert view.getvs("/app/awesome*") == ["0", "1"]
    assert [pair.key for pair in view.gets("/app/awesome*/*")] == ["/app/awesome2/x"]
    assert [pair.key for pair in view.gets("/*/*")] == ["/app/awesome", "/app/awesome1"]
    assert [pair.key for pair in view.gets("/app[^x]a*")] == ["/app/awesome", "/app/awesome1"]
    assert view.ls("/app") == ["awesome", "awesome1", "awesome2"]
    assert view.lsdir("/app") == ["awesome2"]
    assert view.ls("/app/awesome2") == ["x", "y"]
    assert (view.ls("/"), view.exists("/app/other"), view.exists("/app/awe")) == (["app"], False, False)
    assert view.shows("/p/app/awesome9")
    assert not view.shows("/p/app/other")


SEGMENT = st.text("ab", min_size=1, max_size=2)
PATH = st.lists(SEGMENT, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.dictionaries(PATH, st.just("v"), max_size=12), st.sets(PATH, min_size=1, max_size=3))
def test_every_function_sees_exactly_what_begins_with_the_texts(keys, texts):
    view = View(tree_of(keys), [text_parent(text) for text in texts], texts=texts)
    seen = {key: value for key, value in keys.items() if any(begins(text, key) for text in texts)}
    only = View(tree_of(seen), ["/"])
    assert len(view) == len(seen)
    for pattern in ("/*", "/*/*", "/*/*/*", "/a*", "/a*/b*", "/[^x]*", "/a[^x]b"):
        assert view.gets(pattern) == only.gets(pattern)
    for path in ("/", *{head for key in keys for head in (key, text_parent(key))}):
        assert (view.ls(path), view.lsdir(path)) == (only.ls(path), only.lsdir(path))
