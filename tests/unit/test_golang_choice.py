"""Which language a template is in: its resource says, or its name, or its text."""

from __future__ import annotations

import pytest

from confpy.errors import TemplateError
from confpy.templates.compiler import Compiler
from confpy.templates.lookup import Lookup
from confpy.templates.resolve import Resolver
from confpy.templates.results import Compiled

COMPILER = Compiler(sandbox=False)
GO = '{{range gets "/a/*"}}{{.Value}}{{end}}{{.old}}'
JINJA = "{% for pair in gets('/a/*') %}{{ pair.value }}{% endfor %}"
BOTH = '{{"a"}}{% if true %}b{% endif %}'


def engine(source, name="app.conf", wanted="auto"):
    return COMPILER.compile(source, Lookup("template", name, wanted), f"/t/{name}").engine


@pytest.mark.parametrize(
    ("source", "name", "taken"),
    [
        (GO, "app.conf", "go"),
        (GO, "app.conf.tmpl", "go"),
        ("no action at all", "app.conf", "go"),
        (JINJA, "app.conf", "jinja"),
        (BOTH, "app.conf", "jinja"),
        (BOTH, "app.conf.tmpl", "go"),
        ('{{"a"}} {%Y-%m-%d%}', "app.conf", "go"),
        ('{{ getv("/a", "b") }}', "app.conf", "jinja"),
        ('{{ getv("/a", "b") }}', "app.conf.tmpl", "jinja"),
        (BOTH, "app.j2", "jinja"),
        (BOTH, "app.jinja", "jinja"),
        (BOTH, "app.jinja2", "jinja"),
    ],
)
def test_name_and_text_say_which_language_it_is(source, name, taken):
    assert engine(source, name) == taken


@pytest.mark.parametrize(("name", "wanted"), [("app.j2", "go"), ("app.tmpl", "jinja"), ("app.conf", "jinja")])
def test_the_resource_has_the_last_word(name, wanted):
    assert engine('{{"a"}}', name, wanted) == wanted


@pytest.mark.parametrize(
    ("source", "name", "hint"),
    [
        ('{{ getv("/a") }}', "app.conf", 'engine = "jinja"'),
        ("{{ name }}", "app.conf", 'engine = "jinja"'),
        ("{{ name | upper }}", "app.conf", 'engine = "jinja"'),
        (GO, "app.j2", "looks like a Go template"),
        ('{{getx "/a"}}', "app.conf", "did you mean get"),
    ],
)
def test_an_error_says_where_the_language_may_be_another(source, name, hint):
    with pytest.raises(TemplateError) as caught:
        engine(source, name)
    assert hint in caught.value.hint
    assert caught.value.where["line"] == 1


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (
            "a\n{{.services_web}}\n{{range .x}}{{.y}}{{else}}{{.z}}{{end}}{{if (len .b)}}\n{{.c}}{{end}}",
            [2, 3, 3, 3, 4],
        ),
        ('{{range gets "/a"}}{{.Key}}{{end}}{{with get "/a"}}{{.Key}}{{end}}{{.}}', []),
        ('{{define "x"}}{{.Key}}{{end}}{{template "x" get "/a"}}', []),
    ],
)
def test_what_was_written_for_a_confd_that_gave_data_is_doubted(source, lines):
    made = COMPILER.compile(source, Lookup("template", "a"), "/t/a")
    assert [line for line, _ in made.warnings] == lines
    assert not lines or 'getv "/services/web"' in made.warnings[0][1]
    assert COMPILER.compile(source, Lookup("template", "a", "included"), "/t/a").warnings == ()


def test_a_template_from_the_cache_is_not_parsed_again(tmp_path, monkeypatch):
    (tmp_path / "t").mkdir()
    (tmp_path / "c").mkdir(mode=0o700)
    (tmp_path / "t" / "a.tmpl").write_text(GO)
    lookup = Lookup("template", "a.tmpl")
    first = Resolver(folder=str(tmp_path / "t"), cache_dir=str(tmp_path / "c")).resolve(lookup)
    monkeypatch.setattr("confpy.templates.compiler.Compiler", None)
    again = Resolver(folder=str(tmp_path / "t"), cache_dir=str(tmp_path / "c")).resolve(lookup)
    assert isinstance(again, Compiled)
    assert (again, again.engine, again.needs) == (first, "go", first.needs)
    assert again.warnings == first.warnings != ()


def test_what_one_file_is_as_go_and_as_jinja_is_kept_apart(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "c").mkdir(mode=0o700)
    (tmp_path / "t" / "a").write_text(BOTH)
    for _ in range(2):
        resolver = Resolver(folder=str(tmp_path / "t"), cache_dir=str(tmp_path / "c"))
        answers = [resolver.resolve(Lookup("template", "a", wanted)) for wanted in ("go", "jinja", "auto", "included")]
        assert [answer.engine for answer in answers] == ["go", "jinja", "jinja", "go"]
