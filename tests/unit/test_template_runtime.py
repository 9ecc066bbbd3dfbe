"""The shorter ways of a render give what the longer ones give."""

from __future__ import annotations

import json
from collections import OrderedDict

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.runtime import Context

from confpy.keys.view import Pair
from confpy.templates.codegen import InlineCodeGenerator
from confpy.templates.context import RenderContext
from confpy.templates.engine import MOST_TEMPLATES, Engine, environment
from confpy.templates.formats import from_json
from confpy.templates.functions import InvalidArgument
from confpy.templates.golang.printf import _Printer, shown
from confpy.templates.golang.runtime import _DECODER, _typed
from confpy.templates.golang.runtime import from_json as go_from_json
from confpy.templates.lookup import Lookup
from confpy.templates.resolve import Resolver
from confpy.templates.results import World
from confpy.templates.runtime import PlainContext, new_context
from tests.rendering import resource, text, view_of

ENVIRONMENT = environment(RenderContext(), sandbox=False)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


class Items(dict):
    """A dictionary with an attribute and a default of its own."""

    port = 80

    def __missing__(self, name: str) -> str:
        return f"no {name}"


@pytest.mark.parametrize("name", ["port", "items", "keys", "__class__", "none", "key", "value", "0"])
@pytest.mark.parametrize(
    "value",
    [
        {},
        {"port": 1, "items": 2, "__class__": 3},
        Items(items=1),
        OrderedDict(port=1),
        Pair("/k", "v"),
        "text",
        7,
        None,
    ],
)
def test_attributes_are_those_that_jinja_finds(value, name):
    found, expected = ENVIRONMENT.getattr(value, name), jinja2.Environment.getattr(ENVIRONMENT, value, name)
    if isinstance(expected, jinja2.Undefined):
        assert type(found) is type(expected)
        with pytest.raises(jinja2.UndefinedError) as one:
            str(found)
        with pytest.raises(jinja2.UndefinedError) as other:
            str(expected)
        assert str(one.value) == str(other.value)
    else:
        assert found == expected


@jinja2.pass_context
def in_context(context, *given, **named):
    return type(context).__name__, context.get_all().keys() - ENVIRONMENT.globals.keys(), given, named


@jinja2.pass_environment
def in_environment(environment, *given):
    return environment is ENVIRONMENT, given


def plain(*given, **named):
    return given, named


def stops():
    raise StopIteration


class Calls:
    def __call__(self, *given):
        return given

    @jinja2.pass_context
    def method(self, context, *given):
        return isinstance(context, Context), given


@pytest.mark.parametrize("function", [plain, in_environment, Calls(), Calls().method, dict, "a b".split])
def test_calls_give_what_jinja_gives(function):
    template = ENVIRONMENT.from_string("")
    context = new_context(template)
    assert isinstance(context, PlainContext)
    assert context.call(function) == Context.call(context, function)
    assert context.call(function, 1, 2, _loop_vars={"x": 1}) if function is plain else True
    assert isinstance(context.call(stops), jinja2.Undefined)
    with pytest.raises(TypeError):
        context.call(7)


def test_a_function_that_asks_for_the_context_sees_the_variables_of_its_loop():
    context = new_context(ENVIRONMENT.from_string(""))
    assert context.call(in_context, 1, _loop_vars={"x": 1}, _block_vars={}) == ("PlainContext", {"x"}, (1,), {})


def test_what_a_template_sets_is_gone_at_the_next_render(tmp_path):
    (tmp_path / "main").write_text(
        "{{ one is defined }}{% set one = 1 %}{% macro two() %}{% endmacro %}{{ two is defined }}"
    )
    facts = {
        Lookup("template", "main", "jinja"): Resolver(folder=str(tmp_path), cache_dir=None).resolve(
            Lookup("template", "main", "jinja")
        )
    }
    engine = Engine(sandbox=False)
    names = [*engine._environment.globals]
    for _ in range(3):
        assert engine.render(resource("main"), view_of({}), World(0.0, {}, facts)).content == b"falsetrue"
    assert [*engine._environment.globals] == names


def test_templates_that_are_kept_from_one_render_to_the_next_are_bounded(tmp_path):
    engine, resolver = Engine(sandbox=False), Resolver(folder=str(tmp_path), cache_dir=None)
    for number in range(2 * MOST_TEMPLATES):
        (tmp_path / str(number)).write_text(str(number))
        lookup = Lookup("template", str(number), "jinja")
        world = World(0.0, {}, {lookup: resolver.resolve(lookup)})
        assert engine.render(resource(str(number)), view_of({}), world).content == str(number).encode()
        assert len(engine._templates) == len(engine._codes) <= MOST_TEMPLATES


@given(DOCUMENTS)
def test_json_is_read_by_both_languages_as_by_the_library(document):
    for escapes in (True, False):
        written = json.dumps(document, ensure_ascii=escapes)
        assert from_json(written) == json.loads(written)
        assert go_from_json(written) == _typed(_DECODER.decode(written))


@pytest.mark.parametrize("spoiled", ["\ufeff{}", "", " ", "{} x", "NaN", "[1,]", '{"a":}', "1e999", "9" * 5000])
def test_what_is_no_json_is_refused(spoiled):
    with pytest.raises(InvalidArgument, match="this is not JSON"):
        from_json(spoiled)


@given(st.floats() | st.integers(-(10**7), 10**7).map(float) | st.sampled_from([0.0, -0.0, 999999.0, 1e6, -1e6, 1e-7]))
def test_numbers_are_printed_as_by_the_verb_v(number):
    printer = _Printer()
    printer.argument(number, "v")
    assert shown(number) == "".join(printer.parts)


def test_an_entry_named_as_a_method_of_dictionaries_is_read_by_brackets():
    assert text("{% set x = json(getv('/k')) %}{{ x.port }}{{ x['items'] }}", {"/k": '{"port": 1, "items": 2}'}) == "12"


# --- the code that is written in line --------------------------------------------------------------------------------

INLINE = ENVIRONMENT.overlay()
INLINE.code_generator_class = InlineCodeGenerator


class Spelled(str):
    """A text that prints otherwise than it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "spelled"


PRINTED = {
    "pair": Pair("/a", "1"),
    "table": {"key": "k", "value": {"key": "deep"}},
    "items": [Pair("/b", "2"), {"key": "c"}, Items(key="d")],
    "text": "t",
    "spelled": Spelled("s"),
    "number": 3,
    "truth": True,
    "nothing": None,
    "nested": {"key": Pair("/n", "inner")},
}


@pytest.mark.parametrize(
    "source",
    [
        "{{ pair.key }}{{ pair.value }}|{{ pair.count }}",
        "{{ table.key }} {{ table.value.key }} {{ nested.key.value }}",
        "{% for it in items %}{{ it.key }}{% if it.value is defined %}={{ it.value }}{% endif %};{% endfor %}",
        "{% macro line(it) %}[{{ it.key ~ it.key }}]{% endmacro %}{{ line(pair) }}{{ line(table) }}",
        "{{ items | map(attribute='key') | join(',') }} {{ (items | first).key if truth else pair.key }}",
        "{{ spelled }} {{ text }} {{ number }} {{ truth }} {{ '' }}",
        "{% set one = pair.key %}{% set ns = namespace(x=pair.value) %}{{ one }}{{ ns.x }}",
        "{% filter upper %}{{ text }}{{ pair.value }}{% endfilter %}{% call(x) go(text) %}{% endcall %}",
        "{{ nothing }}",
        "{{ pair.missing }}",
        "{{ missing.key }}",
        "{{ table.value.value }}",
        "{% autoescape true %}{{ '<' ~ pair.key }}{{ pair.value }}{% endautoescape %}",
    ],
)
def test_code_in_line_prints_what_jinjas_own_prints(source):
    def outcome(environment: jinja2.Environment) -> object:
        try:
            return environment.from_string(source).render(PRINTED)
        except Exception as error:  # noqa: BLE001 - whatever it is, both have to raise it
            return type(error), str(error)

    assert outcome(INLINE) == outcome(ENVIRONMENT)


def test_code_in_line_calls_nothing_for_a_text_or_a_pair(monkeypatch):
    calls = []
    template = INLINE.from_string("{{ pair.key }}{{ text }}{{ table.key }}")
    monkeypatch.setattr(INLINE, "getattr", lambda value, name: calls.append(name) or value[name])
    template.environment = INLINE
    assert template.render(PRINTED) == "/atk"
    assert calls == ["key"]  # of the table
