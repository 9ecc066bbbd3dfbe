"""A traced render knows for each line the keys and the place of the template that it comes from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import pytest

from confpy.templates.lines import Absent, Line
from confpy.templates.lookup import Lookup
from confpy.templates.marking import LineRenderer
from confpy.templates.resolve import Resolver
from confpy.templates.results import Needs, World
from tests.rendering import RENDERER, resource, view_of

EXAMPLES = Path(__file__).parents[2] / "examples"
SHIPPED = ["haproxy/templates/haproxy.cfg.j2", "nginx/templates/nginx.conf.j2", "apache/templates/apache2.conf.j2"]
WEB = {
    "/services/web/port": "8080",
    "/services/web/maxconn": "3000",
    "/services/web/connections": "512",
    "/services/web/timeout": "45",
    **{f"/services/web/backends/web{number}": f"10.0.0.{number}:80" for number in range(1, 13)},
    "/services/web/backends/na me": "web.example:80",
    "/services/web/backends/broken": "no address",
}
KEYS = {
    "/web/port": "8080", "/web/b/a": "10.0.0.1:80", "/web/b/b": "10.0.0.2:80", "/web/tls": "on",
    "/web/json": '{"hosts": ["h1", "h2"], "name": "x y"}', "/web/text": "line 1\nline 2",
}  # fmt: skip


FACTS: dict[Path, dict[Lookup, object]] = {}
"""By folder, its compiled templates."""


def made(renderer, folder: Path, src: str, keys: Mapping[str, str]):
    resolver, facts = Resolver(folder=str(folder), cache_dir=None), FACTS.setdefault(folder, {})
    for _ in range(10):
        try:
            return renderer.render(resource(src, "auto"), view_of(keys), World(0.0, {}, facts))
        except Needs as needs:
            facts |= {lookup: resolver.resolve(lookup) for lookup in needs.lookups}
    raise AssertionError("ten rounds, and it still needs more")


def traced(folder: Path, src: str, keys: Mapping[str, str]) -> tuple[Line, ...]:
    return made(LineRenderer(), folder, src, keys)


def plain(folder: Path, src: str, keys: Mapping[str, str]) -> list[str]:
    lines = made(RENDERER, folder, src, keys).content.decode().split("\n")
    return lines if lines[-1] else lines[:-1]


def changed_by(folder: Path, src: str, keys: Mapping[str, str], key: str) -> set[int]:
    """The lines that another value of a key changes, or that go with it: what depends on it, found without tracing."""
    found: set[int] = set()
    old = plain(folder, src, keys)
    for value in (f"1{keys[key]}", "10.9.9.9:99", "7777", None):
        other = {name: one for name, one in keys.items() if name != key} | ({} if value is None else {key: value})
        try:
            new = plain(folder, src, other)
        except Exception:  # noqa: BLE001 - the template does not take every value
            continue
        for change, first, last, _, _ in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if change in {"replace", "delete"}:
                found.update(number for number in range(first, last) if old[number].strip())
    return found


@pytest.mark.parametrize("src", SHIPPED)
def test_tracing_does_not_change_the_result(src):
    path = EXAMPLES / src
    for keys in (WEB, {}):
        assert [line.text for line in traced(path.parent, path.name, keys)] == plain(path.parent, path.name, keys)


def test_95_percent_of_the_lines_that_depend_on_keys_name_key_and_template_line_in_the_examples():
    depending = named = 0
    for src in SHIPPED:
        path = EXAMPLES / src
        template = path.read_text().split("\n")
        lines = traced(path.parent, path.name, WEB)
        for key in WEB:
            for number in changed_by(path.parent, path.name, WEB, key):
                line = lines[number]
                depending += 1
                written = template[line.line - 1]
                has_place = "{{" in written if line.keys else line.text.strip() in written
                named += key in {*line.keys, *line.because} and line.template == path.name and has_place
    assert depending > 40
    assert named / depending >= 0.95, f"{named} of {depending}"


@pytest.mark.parametrize("src", SHIPPED)
def test_no_line_names_a_key_that_it_does_not_depend_on_in_the_examples(src):
    path = EXAMPLES / src
    lines = traced(path.parent, path.name, WEB)
    by_key = {key: changed_by(path.parent, path.name, WEB, key) for key in WEB}
    for number, line in enumerate(lines):
        for key in line.keys:
            assert isinstance(key, Absent) or number in by_key[key], (line, key)


LANGUAGES = {
    "of.j2": """\
port {{ getv("/web/port") }}
{% macro server(k, v) %}server {{ base(k) }} {{ v | upper }}
  check{% endmacro %}
{% for k, v in gets("/web/b/*") %}{{ server(k, v) }}
{% endfor %}
{{ getvs("/web/b/*") | join("\\n") }}
{% filter indent(2) %}
{% for k, v in gets("/web/b/*") %}f {{ v }}
{% endfor %}{% endfilter %}
{% set d = json(getv("/web/json")) %}{% for h in d.hosts %}host {{ h }}
{% endfor %}
{{ "a" if getv("/web/tls") == "on" else "b" }}
{% set t = "c" if getv("/web/tls") == "on" else "d" %}t {{ t }}
{% set u = "off" %}{% if getv("/web/tls") == "on" %}{% set u = "on" %}{% endif %}u {{ u }}
{% if getv("/web/tls") == "on" %}
ssl
{% elif getv("/web/port") == "81" %}
plain
{% else %}
none
{% endif %}
{{ getv("/web/text") | indent(3) }}
{{ {"a": getv("/web/port"), "b": getv("/web/tls")} | to_yaml }}
{% set block %}
x {{ getv("/web/port") }}
y {{ getv("/web/tls") }}
{% endset %}{{ block | upper | trim }}
{{ getv("/web/b/a") ~ ":" ~ getv("/web/port") }}
{% include "part.j2" %}
{{ getvs("/web/b/*") | length }} {{ ls("/web/b") | sort | join(",") }}
""",
    "of.tmpl": """\
port {{getv "/web/port"}}
{{define "server"}}server {{base .Key}} {{toUpper .Value}}
  check
{{end}}{{range gets "/web/b/*"}}{{template "server" .}}{{end}}
{{join (getvs "/web/b/*") "\\n"}}
{{$d := json (getv "/web/json")}}{{range $d.hosts}}host {{.}}
{{end}}{{if eq (getv "/web/tls") "on"}}ssl{{else}}none{{end}}
{{$u := "off"}}{{if eq (getv "/web/tls") "on"}}{{$u = "on"}}{{end}}u {{$u}}
{{with getv "/web/port"}}p {{.}}{{end}}
{{range $i, $p := gets "/web/b/*"}}i={{$p.Value}} {{printf "%s-%s" $p.Key "x"}}
{{end}}{{include "part.tmpl" (getv "/web/port")}}
{{range ls "/web/b"}}{{.}} {{getv (printf "/web/b/%s" .)}}
{{end}}{{len (gets "/web/b/*")}}
""",
    "part.j2": 'part {{ getv("/web/tls") }}\nof text\n',
    "part.tmpl": 'part {{.}}\nand {{getv "/web/tls"}}\n',
}


@pytest.fixture
def folder(tmp_path):
    for name, text in LANGUAGES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("src", ["of.j2", "of.tmpl"])
def test_every_line_that_changes_with_a_key_names_it(folder, src):
    lines = traced(folder, src, KEYS)
    assert [line.text for line in lines] == plain(folder, src, KEYS)
    for key in KEYS:
        for number in changed_by(folder, src, KEYS, key):
            assert key in {*lines[number].keys, *lines[number].because}, (key, number + 1, lines[number])


@pytest.mark.parametrize("src", ["of.j2", "of.tmpl"])
@pytest.mark.parametrize(
    ("text", "keys"),
    [("10.0.0.1:80", ["/web/b/a"]), ("10.0.0.2:80", ["/web/b/b"]), ("host h2", ["/web/json"])],
)
def test_a_line_of_a_list_names_its_own_key_alone(folder, src, text, keys):
    (line,) = [one for one in traced(folder, src, KEYS) if one.text == text]
    assert list(line.keys) == keys


@pytest.mark.parametrize(
    ("src", "text", "place"),
    [
        ("of.j2", "port 8080", ("of.j2", 1, 6)),
        ("of.j2", "server a 10.0.0.1:80", ("of.j2", 2, 32)),
        ("of.j2", "  check", ("of.j2", 3, 0)),
        ("of.j2", "ssl", ("of.j2", 16, 0)),
        ("of.j2", "part on", ("part.j2", 1, 6)),
        ("of.j2", "of text", ("part.j2", 2, 0)),
        ("of.j2", "X 8080", ("of.j2", 25, 3)),
        ("of.tmpl", "port 8080", ("of.tmpl", 1, 6)),
        ("of.tmpl", "server b 10.0.0.2:80", ("of.tmpl", 2, 27)),
        ("of.tmpl", "and on", ("part.tmpl", 2, 5)),
    ],
)
def test_a_line_names_the_place_of_its_first_value_or_of_its_text(folder, src, text, place):
    line = next(one for one in traced(folder, src, KEYS) if one.text == text)
    assert (line.template, line.line, line.column) == place


def test_what_stands_in_the_place_of_a_missing_key_names_it(tmp_path):
    (tmp_path / "a.j2").write_text(
        '{{ getv("/none", "x") }}\n{% for k, v in gets("/no/*") %}{{ v }}{% else %}empty{% endfor %}\n'
        '{% if exists("/no") %}yes{% else %}no{% endif %}\n'
    )
    first, second, third = traced(tmp_path, "a.j2", {})
    assert first.keys == ("/none",)
    assert second.because == ("/no/*",)
    assert third.because == ("/no",)
    assert all(isinstance(key, Absent) for line in (first, second, third) for key in (*line.keys, *line.because))


def test_a_template_with_delimiters_of_its_own_is_traced(tmp_path):
    (tmp_path / "a.j2").write_text('{ [[ getv("/web/port") ]] }\n')
    found = resource("a.j2", "auto", ("[[", "]]"))
    resolver, facts = Resolver(folder=str(tmp_path), cache_dir=None), {}
    with pytest.raises(Needs) as needs:
        LineRenderer().render(found, view_of(KEYS), World(0.0, {}, {}))
    facts |= {lookup: resolver.resolve(lookup) for lookup in needs.value.lookups}
    (line,) = LineRenderer(sandbox=True).render(found, view_of(KEYS), World(0.0, {}, facts))
    assert (line.text, line.keys, line.column) == ("{ 8080 }", ("/web/port",), 3)
