"""Other delimiters than ``{{ }}`` around expressions: in both languages, in what is included, and converted."""

from __future__ import annotations

import pytest

from confpy.convert.writing import write
from confpy.errors import TemplateError
from confpy.templates.compiler import Compiler
from confpy.templates.lookup import Lookup
from confpy.templates.resolve import _keys
from tests.rendering import text

KEYS = {"/a": "1", "/web/x": "10.0.0.1", "/web/y": "10.0.0.2"}
PAIRS = [("[[", "]]"), ("<<", ">>"), ("<%", "%>"), ("@", "@"), ("((", "))"), ("[", "]"), ("${", "}")]


def between(source: str, pair: tuple[str, str]) -> str:
    """Return a template that is written with « and » between other delimiters."""
    return source.replace("«", pair[0]).replace("»", pair[1])


@pytest.mark.parametrize("pair", PAIRS)
def test_go_templates_read_between_them_and_braces_are_text(pair):
    source = '«- /* c */ -» a «$v := getv "/a" -» «$v -» b «if true»{{else}}«else»no«end» '
    source += '«range gets "/web/*"»{«.Value»};«end»'
    wanted = "a 1b {{else}} {10.0.0.1};{10.0.0.2};"
    if pair[0].startswith("{"):
        source, wanted = source.replace("{«", "(«"), wanted.replace("{1", "(1")
    assert text(between(source, pair), KEYS, engine="go", delimiters=pair) == wanted


@pytest.mark.parametrize("pair", PAIRS)
def test_jinja_reads_between_them_and_keeps_its_statements(pair):
    source = '{% for key, value in gets("/web/*") %} «- value » {% endfor %}{# c #}« getv("/a") » {{ $x }}'
    wanted = "10.0.0.1 10.0.0.2 1 {{ $x }}"
    assert text(between(source, pair), KEYS, delimiters=pair) == wanted


def test_brackets_within_an_expression_do_not_end_it():
    assert text('[[ ["a", "b"][[1, 0][0]] ]]', delimiters=("[[", "]]")) == "b"


def test_the_language_is_found_out_by_them():
    def engine(source, name="a.tmpl"):
        return Compiler(sandbox=False).compile(source, Lookup("template", name, "auto", ("[[", "]]")), "/t").engine

    assert engine('[[getv "/a"]] {{ getv("/a", "b") }}') == "go"
    assert engine('[[ getv("/a", "b") ]] {{getv "/a"}}') == "jinja"
    assert engine('[[ getv("/a") ]]', "a.j2") == "jinja"
    with pytest.raises(TemplateError, match="engine = "):
        engine("[[ base(x) ]]")
    with pytest.raises(TemplateError, match="looks like a Go template"):
        engine('[[range gets "/a"]]', "a.j2")


def test_what_is_included_has_the_same():
    files = {"part": "[[ getv('/a') ]] {{ x }}"}
    assert text('[[ 1 ]]{% include "part" %}', KEYS, files=files, delimiters=("[[", "]]")) == "11 {{ x }}"
    files = {"part": "[[.]] {{ x }}"}
    assert text('[[include "part" 7]]', KEYS, files=files, engine="go", delimiters=("[[", "]]")) == "7 {{ x }}"


def test_compiled_templates_of_other_delimiters_are_others():
    keys = {key for pair in ((), *PAIRS) for key in _keys(Lookup("template", "a", "auto", pair), "digest")}
    assert len(keys) == 2 * len(PAIRS) + 2


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    "source",
    [
        "«- /* why */ -» a {{ b }}",
        '«"{{"» «getv "/a"» {{ a } {# b #} {% c %}',
        '{{ $labels.x }}«range gets "/web/*"»{ «base .Key» }«.Value» «.Value»«end»{',
        '{{ {{ }} {{ {{ «if exists "/a"»{{«end»',
        '{% x %}{#{# {{«getv "/a"»{«getv "/a"»',
    ],
)
def test_a_converted_template_keeps_them_and_its_bytes(pair, source):
    if pair[0].startswith("{"):
        source = source.replace("{{«", "«").replace("{«", "«")
    source = between(source, pair)
    before = text(source, KEYS, engine="go", delimiters=pair)
    assert text(write(source, "t.tmpl", pair).text, KEYS, engine="jinja", delimiters=pair) == before


def test_a_converted_template_is_as_a_person_would_write_it():
    source = '{{ $labels.x }} [[getv "/a"]][[range gets "/web/*"]] [[.Value]][[end]]'
    wanted = '{{ $labels.x }} [[ getv("/a") ]]{% for web in gets("/web/*") %} [[ web.value ]]{% endfor %}'
    assert write(source, "t.tmpl", ("[[", "]]")).text == wanted
