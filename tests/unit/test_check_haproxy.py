"""What `confpy check` says of a template whose HAProxy is changed while it runs."""

from __future__ import annotations

import json

import pytest

from confpy.check.haproxy import follow, read_lines
from confpy.check.main import check
from confpy.commands.check import as_github, as_json, as_text
from confpy.haproxy.advice import VARIES

JINJA = """\
{# a comment
   over two lines #}
global
    maxconn 100
defaults
    mode http
frontend web
    bind :{{ getv("/port") }}
backend app
    balance {balance}
{% for pair in gets("/app/*") %}
    server {{ pair.key | base }} {{ pair.value }} check {options}
{% endfor %}
"""
GO = """\
global
    maxconn 100
frontend web
    bind :{{getv "/port"}}
backend app
    balance {balance}
{{- /* a comment */}}
{{$n := 1}}{{range gets "/app/*"}}
    server {{base .Key}} {{.Value}} check {options}
{{end}}
"""


def said(source, engine="jinja", delimiters=()):
    followed, advice = follow(source, engine, delimiters)
    return [(one.title, one.line, one.adds) for one in followed], {one.line: one for one in advice}


@pytest.mark.parametrize(("engine", "source", "server", "bind"), [("jinja", JINJA, 12, 8), ("go", GO, 9, 4)])
def test_servers_from_keys_are_followed_and_other_lines_are_not(engine, source, server, bind):
    source = source.replace("{balance}", "leastconn").replace("{options}", "")
    followed, advice = said(source, engine)
    assert followed == [("backend app", server, True)]
    assert {line: (one.why, one.blocks) for line, one in advice.items()} == {
        bind: ("a change of this line (bind) is a reload", "itself")
    }


@pytest.mark.parametrize("template", [("jinja", JINJA, 12), ("go", GO, 9)], ids=["jinja", "go"])
@pytest.mark.parametrize(
    ("given", "at", "why", "adds"),
    [
        (("source", ""), "balance", "with balance source, servers come and go by a reload", False),
        (("first", ""), "balance", "the place of a server in the file counts", False),
        (("first", "id {{ x }}"), "", "", True),
        (("leastconn", "non-stick"), "server", "a server with non-stick is not added while HAProxy runs", False),
        (("leastconn", "frobnicate 3"), "server", "the option frobnicate is not known", None),
        (("leastconn", "inter 2s weight {{ w }} {{ more }} backup"), "", "", True),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_has_its_line(template, given, at, why, adds):
    engine, source, server = template
    balance, options = given
    source = source.replace("{balance}", balance).replace("{options}", options)
    followed, advice = said(source, engine)
    blocking = {line: one.why for line, one in advice.items() if one.blocks != "itself"}
    line = {"balance": 10 if engine == "jinja" else 6, "server": server}.get(at)
    assert [*blocking] == ([line] if line else [])
    assert all(why in text for text in blocking.values())
    assert followed == ([] if adds is None else [("backend app", server, adds)])


def test_a_host_name_as_an_address_is_named():
    source = 'backend app\n{% for p in gets("/a/*") %}\n server {{ p.key }} app.internal:80 check\n{% endfor %}\n'
    followed, advice = said(source)
    assert followed == []
    assert advice[3].hint.startswith("write an IP address")


def test_a_backend_whose_name_comes_from_keys_is_named():
    source = '{% for a in ls("/a") %}\nbackend {{ a }}\n server x {{ getv("/" ~ a) }} check\n{% endfor %}\n'
    followed, advice = said(source)
    assert followed == [("backend …", 3, True)]
    assert (advice[2].why, advice[2].blocks) == ("a backend whose name comes from keys", "itself")


def test_lines_keep_their_numbers_behind_tags_that_span_lines():
    lines = [*read_lines("a {{ x\n }} b\n{% if\n y %}c{% endif %}\nd\n", "jinja", ("{{", "}}"))]
    assert [(line.number, line.words, line.is_conditional) for line in lines] == [
        (1, ("a", VARIES), False),
        (2, ("b",), False),
        (4, ("c",), True),
        (5, ("d",), False),
    ]


def test_other_delimiters_are_known():
    lines = [*read_lines("a [[ x ]] {{ b }}\n", "go", ("[[", "]]"))]
    assert [line.words for line in lines] == [("a", VARIES, "{{", "b", "}}")]


RESOURCE = """\
[template]
src = "haproxy.cfg.j2"
dest = "/etc/haproxy/haproxy.cfg"
keys = ["/app", "/port"]
reload_haproxy = "unix:/run/haproxy/admin.sock"
reload_cmd = "systemctl reload haproxy"
"""


def test_a_check_warns_of_what_stands_in_the_way_and_notes_the_rest(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "conf.d" / "haproxy.toml").write_text(RESOURCE)
    template = JINJA.replace("{balance}", "source").replace("{options}", "")
    (tmp_path / "templates" / "haproxy.cfg.j2").write_text(template)
    checked = check(str(tmp_path), {}, {})
    assert [(one.level, one.line, one.message) for one in checked.findings] == [
        ("warning", 10, "reload_haproxy: with balance source, servers come and go by a reload")
    ]
    assert [(one.level, one.line) for one in checked.notes] == [("note", 8), ("note", 12)]
    written = json.loads(as_json([checked]))
    assert (written["warnings"], len(written["notes"])) == (1, 2)
    assert as_github([checked]).count("::notice ") == 2
    assert "note: the servers of backend app are followed without a reload" in as_text([checked])
