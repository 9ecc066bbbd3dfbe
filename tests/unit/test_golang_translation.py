"""What a Go template becomes: what a person would write where the types are known, on the lines of the Go file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import nodes as jinja

from confpy.errors import TemplateError
from confpy.templates.compiler import Compiler
from confpy.templates.golang.parser import parse
from confpy.templates.golang.signatures import FUNCTIONS
from confpy.templates.golang.translate import translate
from confpy.templates.lookup import Lookup
from tests.unit.test_golang_parser import PIECES

COMPILER = Compiler(sandbox=False)


def tree(source):
    return translate(parse(source, "t.tmpl", FUNCTIONS))


def calls(source):
    """The functions that a template calls, in the order of its tree."""
    return [node.name for node in tree(source).find_all(jinja.Filter)]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('{{range gets "/x/*"}}{{.Key}}={{.Value}}{{end}}', ["gets"]),
        ('{{range $i, $v := getvs "/x/*"}}{{$i}}{{$v}}{{end}}', ["_enumerate", "getvs"]),
        ('{{$v := getv "/x"}}{{if eq $v "a" "b"}}{{$v}}{{end}}', ["getv"]),
        ('{{if and (exists "/x") (not (exists "/y"))}}{{else if lt 1 2}}{{end}}', ["exists", "exists"]),
        ('{{range ls "/x"}}{{getv (printf "/x/%s" .)}}{{end}}', ["ls", "getv"]),
        ('{{define "t"}}{{.Value}}{{end}}{{range gets "/x/*"}}{{template "t" .}}{{end}}', ["gets"]),
        ('{{$n := 0}}{{range ls "/x"}}{{$n = add $n 1}}{{end}}{{if gt $n 1}}{{$n}}{{end}}', ["ls", "add"]),
        ('{{printf "%-10s %03d" (getv "/x") 5}}', ["format", "getv"]),
    ],
)  # fmt: skip
def test_where_the_types_are_known_nothing_is_checked_at_run_time(source, names):
    assert sorted(calls(source)) == sorted(names)


@pytest.mark.parametrize(
    ("source", "checks"),
    [
        ("{{$d := json `{}`}}{{toUpper $d.a}}", {"_entry", "_expect_string"}),
        ('{{$x := 1}}{{$x = "a"}}{{toUpper $x}}', {"_expect_string"}),
        ('{{define "t"}}{{.Value}}{{end}}{{template "t" get "/a"}}{{template "t" 1}}', {"_field"}),
        ('{{eq (json `{}`).a "x"}}', {"eq", "_entry"}),
        ("{{toUpper 5}}", {"_refuse"}),
    ],
)
def test_where_they_are_not_go_decides_when_it_runs(source, checks):
    assert checks <= set(calls(source))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ('{{range $backend := gets "/x/*"}}{{$backend.Value}}{{end}}', "backend"),
        ('{{range gets "/services/backends/*"}}{{.Value}}{{end}}', "backend"),
        ('{{range ls "/x"}}{{.}}{{end}}', "name"),
        ("{{$d := json `{}`}}{{range $d.addresses}}{{.}}{{end}}", "address"),
        ("{{$d := json `{}`}}{{range $d.ports}}{{.}}{{end}}", "port"),
        ("{{$hosts := ls `/x`}}{{range $hosts}}{{.}}{{end}}", "host"),
        ("{{range $getv := ls `/x`}}{{$getv}}{{end}}", "getv"),
        ("{{range $getv := ls `/x`}}{{getv $getv}}{{end}}", "getv_"),
        ("{{range gets `/members/*`}}{{$member := json .Value}}{{$member.x}}{{end}}", "pair"),
        ("{{$item := 1}}{{range jsonArray `[]`}}{{$item}}{{.}}{{end}}", "item2"),
    ],
)
def test_a_loop_is_named_after_its_variable_or_what_it_is_about(source, name):
    (loop,) = tree(source).find_all(jinja.For)
    assert loop.target.name == name


def test_every_node_stands_on_the_line_of_the_go_file():
    made = tree(
        'a\n{{range gets "/x/*"}}\n{{if .Value}}b{{end}}\n{{end}}\n\n{{define "x"}}\n{{.}}{{end}}{{template "x"}}'
    )
    lines = {type(node).__name__: node.lineno for node in made.find_all((jinja.For, jinja.If, jinja.Macro, jinja.Call))}
    assert lines == {"For": 2, "If": 3, "Macro": 6, "Call": 7}


def test_every_statement_remembers_what_it_was_made_of():
    source = 'a {{- range ls "/x"}}{{if .}}b{{else if 1}}{{$y := .}}{{$y}}{{end}}{{end}}'
    made = tree(source)
    parts = [part for output in made.find_all(jinja.Output) for part in output.nodes]
    nodes = [*made.find_all((jinja.For, jinja.If, jinja.Assign)), *parts]
    places = sorted(source[node.go.tag.pos : node.go.tag.end] for node in nodes if hasattr(node.go, "tag"))
    assert places == ["{{$y := .}}", "{{$y}}", '{{- range ls "/x"}}', "{{else if 1}}", "{{if .}}"]
    assert {node.go.text for node in nodes if hasattr(node.go, "text")} == {"a", "b"}


def test_a_definition_that_nobody_calls_is_left_out():
    assert list(tree('{{define "x"}}{{toUpper 5}}{{end}}').find_all(jinja.Macro)) == []


def test_types_are_found_in_few_passes_however_many_variables_there_are():
    declared = "".join(f"{{{{$v{number} := {number}}}}}" for number in range(300))
    chained = "".join(f"{{{{$v{number} = $v{number + 1}}}}}" for number in range(299))
    assert tree(declared + chained + '{{$v299 = "text"}}{{toUpper $v0}}')


@given(
    st.lists(PIECES | st.sampled_from(["{{$x := 1}}", "{{range $x := ls .}}", '{{template "t"}}', '{{define "t"}}']))
)
@settings(max_examples=150, deadline=None)
def test_what_the_parser_accepts_compiles(pieces):
    try:
        engine = COMPILER.compile("".join(pieces), Lookup("template", "t", "go"), "/t").engine
    except TemplateError:
        engine = "refused"
    assert engine in {"go", "refused"}
