"""A converted template reads as a person would have written it, and renders to what the Go template renders to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confpy.convert.writing import write
from confpy.errors import TemplateError
from confpy.templates.golang.parser import GoSyntaxError
from tests.rendering import text
from tests.unit.test_golang_parser import PIECES

KEYS = {
    "/web/a": "10.0.0.1:80", "/web/b": "10.0.0.2:80", "/node": '{"port": 1000000, "tags": ["x", "y"], "none": null}',
    "/locations/a": "1", "/locations/bcd": "2",
}  # fmt: skip


def converted(source):
    return write(source, "t.tmpl").text


@pytest.mark.parametrize(
    ("source", "jinja"),
    [
        (
            '{{range gets "/services/backends/*"}}{{end}}',
            '{% for backend in gets("/services/backends/*") %}{% endfor %}',
        ),
        ('{{range $b := ls "/x"}}{{$b}}{{end}}', '{% for b in ls("/x") %}{{ b }}{% endfor %}'),
        ('{{range $i, $b := ls "/x"}}{{$i}}{{end}}', '{% for b in ls("/x") %}{{ loop.index0 }}{% endfor %}'),
        (
            '{{range $i, $a := ls "/x"}}{{range ls "/y"}}{{$i}}{{end}}{{end}}',
            '{% for a in ls("/x") %}{% set i = loop.index0 %}{% for name in ls("/y") %}{{ i }}{% endfor %}{% endfor %}',
        ),
        (
            '{{range $i, $b := ls "/x"}}{{if eq $i 0}}{{end}}{{end}}',
            '{% for b in ls("/x") %}{% if loop.first %}{% endif %}{% endfor %}',
        ),
        ('{{$base := "/a"}}{{exists $base}}', '{% set base = "/a" %}{{ exists(base) }}'),
        ('{{$base := "/a"}}{{base $base}}', '{% set base_ = "/a" %}{{ base(base_) }}'),
        ('{{$file_hash := "/a"}}{{fileHash $file_hash}}', '{% set file_hash_ = "/a" %}{{ file_hash(file_hash_) }}'),
        ('{{replace (getv "/a") "x" "y" -1}}', '{{ getv("/a") | replace("x", "y") }}'),
        ('{{replace (getv "/a") "x" "y" 1}}', '{{ replace(getv("/a"), "x", "y", 1) }}'),
        ('{{join (getvs "/a/*") ","}}', '{{ getvs("/a/*") | join(",") }}'),
        ('{{if gt (len (gets "/a")) 0}}{{end}}', '{% if gets("/a") | length > 0 %}{% endif %}'),
        ("{{mul (add 1 2) 3}}{{sub 9 (sub 3 2)}}", "{{ (1 + 2) * 3 }}{{ 9 - (3 - 2) }}"),
        (
            '{{if not (or (exists "/a") (exists "/b"))}}{{end}}',
            '{% if not (exists("/a") or exists("/b")) %}{% endif %}',
        ),
        ('{{with getenv "HOST"}}{{.}}{{end}}', '{% set host = getenv("HOST") %}{% if host %}{{ host }}{% endif %}'),
        ('{{printf "%03d" (atoi "7")}}', '{{ "%03d" | format(atoi("7")) }}'),
        ('{{eq (getv "/a") "x" "y"}}', '{{ getv("/a") in ("x", "y") }}'),
        ('{{ternary "on" "off" (exists "/a")}}', '{{ "on" if exists("/a") else "off" }}'),
        ('{{getv "/a" | toUpper}}', '{{ to_upper(getv("/a")) }}'),
        ('{{$x := "/a"}}{{getv (print $x "/b")}}', '{% set x = "/a" %}{{ getv(x ~ "/b") }}'),
        ('{{print (add 1 2) "x" 3}}{{print (getv "/a")}}', '{{ (1 + 2) ~ "x" ~ 3 }}{{ getv("/a") }}'),
        (
            '{{range ls "/a"}}{{$d := print "/a/" .}}{{range ls $d}}{{end}}{{end}}',
            '{% for name in ls("/a") %}{% set d = "/a/" ~ name %}{% for name2 in ls(d) %}{% endfor %}{% endfor %}',
        ),
        # A space between two that are no texts, and the words of Go.
        ("{{print 1 2}}{{print 1}}{{print}}", "{{ go.print(1, 2) }}{{ go.print(1) }}{{ go.print() }}"),
        (
            '{{print "a" true}}{{print (json (getv "/a")).x "b"}}',
            '{{ go.print("a", true) }}{{ go.print(go.json(getv("/a")).x, "b") }}',
        ),
        ('{{$l := split (getv "/a") ","}}{{len $l}}', '{% set l = split(getv("/a"), ",") %}{{ l | length }}'),
        ('{{len (or (ls "/a") (ls "/b"))}}', '{{ (ls("/a") or ls("/b")) | length }}'),
        ('{{$d := jsonArray (getv "/a")}}{{len $d}}', '{% set d = go.jsonArray(getv("/a")) %}{{ d | length }}'),
        # In bytes.
        ('{{len (getv "/a")}}', '{{ go.len(getv("/a")) }}'),
        (
            '{{or (and (eq (getv "/x") "true") "accept-proxy") ""}}',
            '{{ "accept-proxy" if getv("/x") == "true" else "" }}',
        ),
        (
            '{{or (and (exists "/a") (eq (getv "/a") "1") "on") (or (and (exists "/b") "b") "off")}}',
            '{{ "on" if exists("/a") and getv("/a") == "1" else "b" if exists("/b") else "off" }}',
        ),
        (
            '{{print "x" (or (and (json (getv "/a")).on "y") "n")}}',
            '{{ "x" ~ ("y" if go.json(getv("/a")).on else "n") }}',
        ),
        # What may be false itself decides, too.
        ('{{or (and (exists "/a") (getv "/a")) "d"}}', '{{ exists("/a") and getv("/a") or "d" }}'),
        ('{{or (and (exists "/a") "") "d"}}', '{{ exists("/a") and "" or "d" }}'),
        ("{{- /* why */ -}}", "{#- why -#}"),
        ("{{if true}}a{{else if false}}b{{- else}}c{{end}}", "{% if true %}a{% elif false %}b{%- else %}c{% endif %}"),
        ('{{index (split "a:b" ":") 1}}', '{{ split("a:b", ":")[1] }}'),
        ("{{$d := json `{}`}}{{index $d `a-b`}}{{$d.x}}", '{% set d = go.json("{}") %}{{ d["a-b"] }}{{ d.x }}'),
        ('{{block "x" .}}y{{end}}', "{% macro x() %}y{% endmacro %}{{ x() }}"),
        (
            '{{template "x" "v"}}{{define "x"}}{{.}}{{end}}',
            '{% macro x(data) %}{{ data }}{% endmacro -%}\n{{ x("v") }}',
        ),
    ],
)
def test_it_reads_as_a_person_would_have_written_it(source, jinja):
    assert converted(source) == jinja


@pytest.mark.parametrize(
    "source",
    [
        "{%",
        "{% a %} {# b #} {% c %}",
        "{ {{1}} }",
        "{{1}}}{{2}}",
        "{{- 1}}\v ",
        "\f\n{{- 1 -}}\n\v{{2}}",
        "a\r\n{{- 1 -}}\r\n b\r",
        "\u1680{{- 1 -}}\u1680",
        "{% endraw %}{% {% {%",
        "x {{define `q`}} {{- 1}} {{end -}} y",
        "{{range ls `/web`}}{{.}}{{else}}-{{end -}}\n {{define `z`}}{{end}} \n{{template `z`}}",
        '{{"\\u1680 \\r \\n \\t \\x00 \\U0001F600 \\" \' \\\\ é"}}',
        "{{`{{ }} %} #}`}}",
        "{{/* #} -*/}}x{{/*+*/}}",
        "{{$x := 1}}{{range ls `/web`}}{{$x = add $x 1}}{{end}}{{$x}}",
        "{{print 1.5 nil true `a` `b`}}",
        "{{$n := json (getv `/node`)}}{{$n.port}} {{$n.tags}} {{$n.none}} {{$n.x.y}} {{range $n.tags}}<{{.}}>{{end}}",
        "{{$l := ls `/locations`}}{{range reverse $l}}{{.}}{{end}}{{$l}}",
        "{{$l := gets `/web/*`}}{{range $i, $p := $l}}{{$i}}{{$p}}{{end}}{{(index $l 0).Key}}{{$l.Len}}",
        "{{if false}}{{else if $x := `a`}}{{$x}}{{else}}b{{end}}",
        "{{range seq 1 3}}{{if eq . 2}}{{break}}{{end}}{{.}}{{else}}-{{end}}",
        "{{define `t`}}{{.Value}}{{end}}{{template `t` get `/web/a`}}{{template `t` map `Value` 1}}",
        "{{with $x := json `{}`}}{{else}}{{len $x}}{{end}}",
        "{{($x := 5)}}",
        "{{$x := get `/web/a`}}{{$x = 3}}{{$x}}",
        "{{$g := 1}}{{$go := 2}}{{$fail := 3}}{{$go}}{{$fail}}{{toUpper `ß`}}",
        "{{range $k, $v := map `b` 1 `a` nil}}{{$k}}{{$v}}{{end}}",
        "{{with $x := 1}}{{$x = 2}}{{$x}}{{.}}{{end}}",
        "{{range $i, $e := jsonArray `[[1],[2]]`}}{{range $e}}{{$i}}{{.}}{{end}}{{end}}",
    ],
)
def test_it_renders_to_the_same_bytes(source):
    assert text(converted(source), KEYS) == text(source, KEYS, engine="go")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{{add 1}}", "wrong number of args for add: want 2 got 1"),
        ("\n{{print 1i}}", "Jinja has no complex numbers"),
        ("\n{{include `other` .}}", "another template cannot be included with data"),
        ("\n{{template `nobody`}}", 'template "nobody" not defined'),
        ("\n{{(get `/a`).value}}", "can't evaluate field value in type memkv.KVPair"),
    ],
)
def test_what_cannot_be_converted_is_reported_with_its_line_and_fails_there(source, message):
    (doubt,) = write(source, "t.tmpl").unconverted
    assert (doubt.line, doubt.message) == (2, message)
    with pytest.raises(TemplateError) as caught:
        text(converted(source), KEYS)
    assert (caught.value.message, caught.value.where["line"]) == (message, 2)


MORE = st.sampled_from(["{%", "{#", " \n", "{{- 1 -}}", "{{end}}", "{{end}}", "{{else}}", "{{range ls `/web`}}"])


def outcome(source, engine):
    try:
        return text(source, KEYS, engine=engine)
    except TemplateError:
        return None


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES | MORE, max_size=12).map("".join))
def test_whatever_go_reads_is_written_and_jinja_reads_it(source):
    try:
        made = converted(source)
    except GoSyntaxError:
        return
    wanted = outcome(source, "go")
    assert wanted is None or outcome(made, "jinja") == wanted
