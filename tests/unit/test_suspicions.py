"""Questions to the store that bring nothing because of their form: said once, with what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from confpy.config.resource import Resource
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.stores.env import EnvStore
from confpy.templates.renderer import Renderer
from confpy.templates.resolve import Resolver
from confpy.templates.results import Needs, Rendered, World
from confpy.templates.suspicions import MOST, OUTSIDE, all_outside, suspicions
from tests.rendering import rendered

KEYS = {"/h/a": "1", "/h/b": "2", "/list/0": "x", "/list/1": "y"}


def asked(template: str, **more) -> list[tuple[str, str]]:
    return [(one.asked, one.hint) for one in rendered(template, KEYS, engine="auto", **more).suspicions]


@pytest.mark.parametrize(
    ("question", "hint"),
    [
        ('gets "h/*"', 'keys begin with a slash: write "/h/*"'),
        ('getvs "h/*"', 'keys begin with a slash: write "/h/*"'),
        ('gets "*"', 'keys begin with a slash: write "/*"'),
        ('ls "h"', 'paths begin with a slash: write "/h"'),
        ('lsdir "h"', 'paths begin with a slash: write "/h"'),
        ('gets "/h"', 'it is the key /h alone: write "/h/*" for those below it'),
        ('gets "/h/"', 'keys end in no slash: write "/h/*" for those below it'),
        ('getvs "/list"', 'it is the key /list alone: write "/list/*" for those below it'),
        ('gets "/"', 'it is the key / alone: write "/*" for those below it'),
        ('gets "/h//a"', 'keys have no empty segment, and none of dots: write "/h/a"'),
        ('gets "/x/../h/*"', 'keys have no empty segment, and none of dots: write "/h/*"'),
        ('gets "/h/a/**"', "** is like *, which stops at a slash: each level takes a * of its own"),
        ('gets "/h/{a,b}"', "braces mean themselves in a pattern: ask once for each word"),
        ('ls "/h/*"', "ls takes a path, not a pattern: it names what lies one step below"),
        ('lsdir "/"', 'in a Go template lsdir "/" does not name what has keys below it, as in confd'),
        ('exists "h/a"', "keys begin with a slash: write /h/a"),
        ('exists "/h/a/"', "keys end in no slash and have no empty segment: write /h/a"),
        ('exists "/h/*"', "a key is needed here: patterns are for gets and getvs"),
    ],
)
def test_a_question_that_can_bring_nothing_says_what_to_write(question: str, hint: str) -> None:
    assert asked(f"{{{{{question}}}}}") == [(question, hint)]


def test_a_malformed_pattern_is_no_error_while_the_store_is_empty() -> None:
    one = rendered('{{gets "/a["}}', {}, engine="auto")
    assert (one.content, one.suspicions, one.outside) == (b"[]", (), ())


def test_jinja_says_it_too_and_a_default_is_no_excuse() -> None:
    template = "{{ getv('h/a', 'x') }}{% for one in gets('h/*') %}{% endfor %}{{ ls('h') }}"
    assert [question for question, _ in asked(template)] == ['gets "h/*"', 'ls "h"', 'getv "h/a"']


@pytest.mark.parametrize(
    "question",
    ['gets "/h/*"', 'gets "/none/*"', 'gets "/h/a"', 'gets "/none"', 'ls "/h/"', 'ls "/none"', 'exists "/none"',
     'exists "/h"', 'getv "/none" "x"', 'gets "/h/[^x]"', 'gets "/*/*"', 'gets "[^a]none"', 'getv "/h/a" "x"'],
)  # fmt: skip
def test_a_question_that_may_bring_something_is_none_of_them(question: str) -> None:
    assert asked(f"{{{{{question}}}}}") == []


def test_what_a_template_computes_is_not_shown() -> None:
    ((question, hint),) = asked('{{range gets (printf "secret%s/*" (getv "/h/a"))}}{{end}}')
    assert question == "gets (of what the template computes)"
    assert "secret" not in hint


def test_a_template_that_computes_its_questions_has_no_endless_list() -> None:
    words = " ".join(f'{{{{gets "w{number}/*"}}}}' for number in range(MOST + 5))
    assert len(asked(words)) == MOST


# --- outside of the resource's keys ----------------------------------------------------------------------------------


def render(folder: Path, template: str, keys: list[str], strip: str = "/") -> Rendered:
    (folder / "t").write_text(template)
    tree = KeyTree()
    for key, value in KEYS.items():
        tree.set(key, value)
    one = Resource(name="web", file="", src="t", dest="/run/web", prefixes=tuple(keys))
    resolver, facts = Resolver(folder=str(folder), cache_dir=None), {}
    while True:
        try:
            return Renderer().render(one, View(tree, keys, strip), World(0.0, {}, facts))
        except Needs as needs:
            facts |= {lookup: resolver.resolve(lookup) for lookup in needs.lookups}


@pytest.mark.parametrize("question", ['gets "/h/*"', 'getvs "/h/*"', 'ls "/h"', 'lsdir "/h"'])
@pytest.mark.parametrize("keys", [["/hh"], ["/services/web"], []])
def test_a_list_that_lies_outside_of_the_keys_is_said(tmp_path: Path, question: str, keys: list[str]) -> None:
    one = render(tmp_path, f"{{{{{question}}}}}", keys)
    assert [(each.asked, each.hint) for each in one.suspicions] == [(question, OUTSIDE)]
    assert one.outside == (question,)


@pytest.mark.parametrize("question", ['exists "/h/a"', 'getv "/h/a" "x"'])
def test_a_key_outside_is_said_and_is_no_list(tmp_path: Path, question: str) -> None:
    one = render(tmp_path, f"{{{{{question}}}}}", ["/other"])
    assert [(each.asked, each.hint) for each in one.suspicions] == [(question.removesuffix(' "x"'), OUTSIDE)]
    assert not one.outside


@pytest.mark.parametrize(
    ("question", "keys"),
    [
        ('gets "/*"', ["/none"]), ('gets "/*/*"', ["/none/deep/er"]), ('gets "/none/*"', ["/none/deep"]),
        ('gets "/none/deep/*/x"', ["/none"]), ('ls "/none"', ["/none/deep"]), ('ls "/none/deep"', ["/none"]),
        ('ls "/"', ["/none"]), ('gets "/no*/x"', ["/none"]), ('gets "/[a-z]one/*"', ["/none"]),
        ('gets "/x/*"', ["/"]), ('gets "[^a]none/*"', ["/other"]),
    ],
)  # fmt: skip
def test_a_pattern_that_can_match_below_or_above_a_key_is_not_outside(
    tmp_path: Path, question: str, keys: list[str]
) -> None:
    one = render(tmp_path, f"{{{{{question}}}}}", keys)
    assert (one.suspicions, one.outside) == ((), ())


def test_one_list_inside_is_enough_be_it_empty(tmp_path: Path) -> None:
    one = render(tmp_path, '{{gets "/h/*"}}{{gets "/none/*"}}', ["/none"])
    assert (len(one.suspicions), one.outside) == (1, ())
    assert not render(tmp_path, '{{gets "/list/*"}}{{gets "/none/*"}}', ["/list"]).outside


def test_what_can_match_nothing_at_all_is_neither_inside_nor_outside(tmp_path: Path) -> None:
    assert not render(tmp_path, '{{gets "h/*"}}', ["/h"]).outside
    assert render(tmp_path, '{{gets "h/*"}}{{gets "/h/*"}}', ["/list"]).outside


def test_a_prefix_is_cut_off_before_patterns_are_compared(tmp_path: Path) -> None:
    assert not render(tmp_path, '{{gets "/web/*"}}', ["/h/web"], "/h").outside
    assert render(tmp_path, '{{gets "/h/web/*"}}', ["/h/web"], "/h").outside
    assert not render(tmp_path, '{{gets "/list/*"}}', ["/h/web", "/list"], "/h").outside


def test_prefixes_that_are_beginnings_of_text_reach_what_they_begin() -> None:
    view = View(KeyTree(), ["/app"], "/", texts=["/app/awe"])
    questions = {("getvs", "/app/awe*"): None, ("gets", "/app/awesome1/*"): None, ("ls", "/app"): None}
    assert all_outside(questions, view, []) == ()
    assert suspicions(questions.keys(), view, []) == ()


# --- keys by another spelling ----------------------------------------------------------------------------------------


def env_view(environment: dict[str, str], *keys: str) -> View:
    store = EnvStore(environment)
    prefixes = [prefix for key in keys for prefix in store.prefixes(key)]
    tree = KeyTree()
    for prefix, listing in store.read(prefixes).listings.items():
        tree.replace(prefix, listing.keys)
    return View(tree, prefixes, "/", spells=store.capabilities.spells)


def test_a_key_that_names_a_variable_is_answered_in_that_spelling() -> None:
    view = env_view({"XMPP_DOMAIN": "example.org"}, "/xmpp_domain")
    assert view.getv("/xmpp_domain") == view.getv("/xmpp/domain") == "example.org"
    assert view.get("/xmpp_domain") == ("/xmpp_domain", "example.org")
    # Where confd renders something, that stays.
    assert (view.exists("/xmpp_domain"), view.getv("/xmpp_domain", "x")) == (False, "x")


def test_another_key_in_that_spelling_says_how_the_store_spells_it() -> None:
    view = env_view({"DB_MAX_CONN": "10"}, "/db")
    with pytest.raises(Exception, match="the store spells it /db/max/conn"):
        view.getv("/db/max_conn")
    with pytest.raises(Exception, match="put it into the store"):
        view.getv("/db/min/conn")


def test_a_key_is_checked_once_for_all_renders_of_a_resource(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('{{exists "/other"}}{{range gets "/other/*"}}{{end}}')
    one, view = Resource(name="web", file="", src="t", dest="/run/web"), View(KeyTree(), ["/h"])
    resolver, renderer, facts = Resolver(folder=str(tmp_path), cache_dir=None), Renderer(), {}
    with pytest.raises(Needs) as needs:
        renderer.render(one, view, World(0.0, {}, facts))
    facts |= {lookup: resolver.resolve(lookup) for lookup in needs.value.lookups}
    said = [[each.asked for each in renderer.render(one, view, World(0.0, {}, facts)).suspicions] for _ in range(2)]
    assert said == [['gets "/other/*"', 'exists "/other"'], ['gets "/other/*"']]
