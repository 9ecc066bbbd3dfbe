"""A template that fails names the key whose value it failed at, whatever that value went through."""

from __future__ import annotations

import pytest

from confpy.errors import ConfpyError
from confpy.templates.trace import MOST_KEYS
from tests.rendering import text

MEMBERS = {"/members/a": '{"conn_url": "postgres://h1/x"}', "/members/b": '{"state": "creating"}'}
VALUES = {"/v/a": "ok", "/v/b": '{"a": ["q/1"], "n": 5, "t": "z"}', "/v/c": "zz"}


def failure(template: str, keys: dict[str, str], **more) -> ConfpyError:
    with pytest.raises(ConfpyError) as caught:
        text(template, keys, engine="auto", **more)
    return caught.value


@pytest.mark.parametrize("sandbox", [False, True])
@pytest.mark.parametrize(
    "template",
    [
        '{{range gets "/members/*"}}{{$d := json .Value}}{{index (split $d.conn_url "/") 2}}{{end}}',
        '{{range getvs "/members/*"}}{{$d := json .}}{{index (split $d.conn_url "/") 2}}{{end}}',
        '{{range $i, $v := getvs "/members/*"}}{{$d := json $v}}{{index (split $d.conn_url "/") 2}}{{end}}',
        '{{range ls "/members"}}{{$d := json (getv (printf "/members/%s" .))}}{{toUpper $d.conn_url}}{{end}}',
        "{% for pair in gets('/members/*') %}{{ json(pair.value).conn_url }}{% endfor %}",
        "{% for value in getvs('/members/*') %}{{ json(value).conn_url.split('/')[2] }}{% endfor %}",
        "{% for one in gets('/members/*') | map(attribute='value') | map('json') %}{{ one.conn_url }}{% endfor %}",
        "{% for key, value in gets('/members/*') %}{{ go.split(go.json(value).conn_url, '/') }}{% endfor %}",
        """{% set all = [] %}{% for one in gets('/members/*') %}{% do all.append(json(one.value)) %}{% endfor %}
        {% for one in all %}{{ one.conn_url }}{% endfor %}""",
        """{% macro url(of) %}{{ of.conn_url }}{% endmacro %}
        {% for one in getvs('/members/*') %}{{ url(json(one)) }}{% endfor %}""",
    ],
)
def test_a_template_that_takes_values_apart_names_the_key_at_fault(template: str, sandbox: bool) -> None:
    assert failure(template, MEMBERS, sandbox=sandbox).where["key"] == "/members/b"


@pytest.mark.parametrize(
    "expression",
    [
        "base(v)", "dir(v)", "base64_encode(v)", 'v | trim_prefix("{")', 'v | trim_suffix("}")', "to_upper(v)",
        "to_lower(v)", 'replace(v, "q", "r", -1)', "nindent(v)", 'regex_search(v, ".*")', 'regex_findall(v, ".*")[0]',
        'regex_replace(v, "q", "r")', "sha256(v)", "from_yaml(v).t", "from_json(v).t", "json(v).a[0]", "json(v).t",
        "to_json(json(v))", "to_yaml(json(v))", "to_toml(json(v))", 'split(v, "/")[0]', 'join(split(v, "/"), "-")',
        'reverse(split(v, "/"))[0]', 'sort_by_length(split(v, "/"))[0]', 'natural_sort(split(v, "/"))[0]',
        'shuffle(split(v, "/"), "s")[0]', "required(v)", 'ternary(true, v, "")', 'json_array("[" ~ v ~ "]")[0].t',
        "quote(v)", "shell_quote(v)", "haproxy_quote(v)", "v | upper", "v.upper()", "v[1:]", 'v ~ "x"', '"%s" % v',
        '"x" + v', '[v, "q"] | first', '[v] | join("")', '{"a": v}.a', 'v.split("/")[1]', "one_of(v, v)",
        'v | default("x")', '[v] | map("upper") | first', '"{}".format(v)', '{"x": v} | dictsort | first | last',
        'get("/v/b").value', 'map("a", v).a', "(json(v).n ~ 'x')", "json(v).missing", "json(v).a",
    ],
)  # fmt: skip
def test_every_function_and_operator_of_jinja_passes_the_key_on(expression: str) -> None:
    one = f'{{% if k == "/v/b" %}}{{{{ atoi({expression}) }}}}{{% endif %}}'
    template = f'{{% for k, v in gets("/v/*") %}}{one}{{% endfor %}}'
    assert failure(template, VALUES).where["key"] == "/v/b"


@pytest.mark.parametrize(
    "expression",
    [
        "base .Value", "dir .Value", "base64Encode .Value", "camelcase .Value", "coalesce .Value",
        'default "x" .Value', "fromJson .Value | toJson", "(fromJson .Value).t", "(json .Value).t",
        'index (json .Value) "t"', "index (json .Value).a 0", "html .Value", "js .Value", "urlquery .Value",
        "indent 2 .Value", "nindent 2 .Value", 'join (split .Value "/") "-"', 'index (split .Value "/") 1',
        'printf "%s" .Value', 'printf "x%s" .Value', 'printf "%q" .Value', "print .Value", "println .Value",
        "quote .Value", "squote .Value", 'regexFind ".*" .Value', 'regexReplaceAll "q" .Value "r"',
        "repeat 2 .Value", 'replace .Value "q" "r" -1', 'index (reverse (split .Value "/")) 0', "sha256sum .Value",
        "slice .Value 1", "snakecase .Value", "kebabcase .Value", "nospace .Value",
        'index (sortByLength (split .Value "/")) 0', 'ternary .Value "x" true', "toLower .Value", "toUpper .Value",
        "toJson .Value", "toPrettyJson .Value", 'trimPrefix "{" .Value', 'trimSuffix .Value "x"',
        'index (list .Value "x") 0', 'index (append (list "a") .Value) 1', 'index (values (dict "a" .Value)) 0',
        'index (map "a" .Value) "a"', 'index (pluck "a" (dict "a" .Value)) 0', "getv .Key", "(get .Key).Value",
        "index (keys (json .Value)) 0", 'index (jsonArray (printf "[%s]" .Value)) 0 | toJson', 'or .Value "x"',
        "and true .Value", "(json .Value).missing", 'index (split .Value "/") 9',
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "around",
    [
        '{{{{range gets "/v/*"}}}}{{{{if eq .Key "/v/b"}}}}{{{{atoi ({})}}}}{{{{end}}}}{{{{end}}}}',
        """{{{{define "one"}}}}{{{{atoi ({})}}}}{{{{end}}}}
        {{{{range gets "/v/*"}}}}{{{{if eq .Key "/v/b"}}}}{{{{template "one" .}}}}{{{{end}}}}{{{{end}}}}""",
    ],
)
def test_every_function_of_go_passes_the_key_on(expression: str, around: str) -> None:
    assert failure(around.format(expression), VALUES).where["key"] == "/v/b"


def test_values_that_python_shares_keep_the_key_of_their_own() -> None:
    keys = {"/n/a": "x", "/n/b": "x", "/n/c": "1"}
    found = failure('{{range gets "/n/*"}}{{if eq .Key "/n/b"}}{{atoi .Value}}{{end}}{{end}}', keys)
    assert found.where["key"] == "/n/b"
    assert failure('{{atoi (index (getvs "/n/*") 1)}}', keys).where["key"] == "/n/a"


def test_a_value_made_of_two_keys_names_both() -> None:
    found = failure('{{atoi (printf "%s%s" (getv "/v/a") (getv "/v/c"))}}', VALUES)
    assert found.where["key"] == "/v/a, /v/c"


def test_a_value_made_of_more_keys_than_tell_anything_names_none() -> None:
    keys = {f"/n/{number}": f"value{number}" for number in range(MOST_KEYS + 1)}
    assert "key" not in failure('{{atoi (join (getvs "/n/*") "")}}', keys).where


def test_a_value_of_the_template_itself_names_no_key() -> None:
    assert "key" not in failure('{{getv "/v/a"}}{{atoi "x"}}', VALUES).where
    assert "key" not in failure("{{ getv('/v/a') }}{{ atoi('x' ~ 'y') }}", VALUES).where


def test_an_included_template_names_the_key_at_fault() -> None:
    found = failure(
        '{{range gets "/members/*"}}{{include "one" .}}{{end}}',
        MEMBERS,
        files={"one": "{{$d := json .Value}}{{$d.conn_url | toUpper}}"},
    )
    assert (found.where["template"], found.where["key"]) == ("one", "/members/b")
    found = failure(
        "{% for one in gets('/members/*') %}{% include 'one' %}{% endfor %}",
        MEMBERS,
        files={"one": "{{ json(one.value).conn_url }}"},
    )
    assert (found.where["template"], found.where["key"]) == ("one", "/members/b")


def test_a_message_is_that_of_the_plain_values() -> None:
    found = failure("{% for k, v in gets('/v/*') %}{{ v + 1 }}{% endfor %}", VALUES)
    assert found.message == 'can only concatenate str (not "int") to str'
    assert found.where["key"] == "/v/a"


def test_delimiters_of_a_resource_hold_for_the_second_render() -> None:
    template = '[[range gets "/members/*"]][[$d := json .Value]][[toUpper $d.conn_url]][[end]]'
    assert failure(template, MEMBERS, delimiters=("[[", "]]")).where["key"] == "/members/b"
    template = "{% for one in gets('/members/*') %}[[ json(one.value).conn_url ]]{% endfor %}"
    assert failure(template, MEMBERS, delimiters=("[[", "]]")).where["key"] == "/members/b"
