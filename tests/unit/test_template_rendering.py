"""What a render promises: the bytes of the template, its errors with their places, facts asked for and reported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from confpy.errors import KeyMissing, TemplateError
from confpy.templates.lookup import Lookup
from confpy.templates.renderer import Renderer
from confpy.templates.results import LeftOut, Needs, World
from tests.rendering import render_in, rendered, resource, text, view_of

# --- bytes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no line end",
        b"one\n",
        b"two\n\n\n",
        b"\r\nCRLF\r\n\r\n",
        b"mixed\nends\r\nof\rlines\r\r\n",
        b"\xef\xbb\xbfa byte order mark\n",
        b"latin-1: \xe9\xff\r\n\x00\x01\x1f",
        "Ogham\u1680space\r\n\u2028\u0085\n".encode(),
        b"# not a line statement\n% nor this\n## {#- and a comment -#}\n".replace(b" {#- and a comment -#}", b""),
        b"&<>\"' are not escaped\n",
    ],
)
def test_a_template_without_actions_is_copied_byte_for_byte(content):
    assert rendered(content).content == content


def test_carriage_returns_around_and_inside_of_actions_are_white_space():
    template = b"a\r\n{%- if\r\n true -%}\r\nb\r\n{% endif %}\r\n{{ 'x\r\ny' }}{{ '\\r' }}\r\n"
    assert rendered(template).content == b"ab\r\n\r\nx\r\ny\r\r\n"
    assert rendered(b"{# c\r\n #}{% raw %}\r\n{% endraw %}").content == b"\r\n"


def test_values_of_any_bytes_pass_through():
    assert rendered("{{ getv('/k') | lower }}", {"/k": "\udcff\r\n\udc80é"}).content == b"\xff\r\n\x80\xc3\xa9"


def test_lines_are_counted_in_files_with_carriage_returns():
    with pytest.raises(TemplateError) as caught:
        text(b"\r\n\r\n{{ nothing }}\r\n")
    assert caught.value.where["line"] == 3


def test_do_break_and_continue_work():
    template = (
        "{% set l = [] %}{% for i in seq(1, 9) %}{% if i == 2 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}"
    )
    assert text(template + "{% do l.append(i) %}{% endfor %}{{ l }}") == "[1, 3]"


# --- other templates -----------------------------------------------------------------------------------------------

FILES = {
    "lib.j2": "{% import 'deep/er.j2' as er %}{% macro line(key) %}{{ er.value(key) }}{% endmacro %}",
    "deep/er.j2": "{% macro value(key) %}<{{ getv(key) }}>{% endmacro %}",
    "layout": "{% block body %}none{% endblock %} {{ getv('/k') }}",
}


def test_included_imported_and_extended_templates_see_the_store():
    assert text("{% import 'lib.j2' as lib %}{{ lib.line('/k') }}", {"/k": "v"}, files=FILES) == "<v>"
    assert text("{% from '/deep/er.j2' import value %}{{ value('/k') }}", {"/k": "v"}, files=FILES) == "<v>"
    assert (
        text("{% extends 'layout' %}{% block body %}{{ getv('/k') }}{% endblock %}", {"/k": "v"}, files=FILES) == "v v"
    )
    assert text("{% include ['none', 'deep/../layout'] %}", {"/k": "v"}, files=FILES) == "none v"
    assert text("[{% include 'none' ignore missing %}]") == "[]"


def test_an_imported_template_computes_anew_in_each_render():
    files = {"lib": "{% set port = getv('/port') %}"}
    template = "{% import 'lib' as lib %}{{ lib.port }}"
    assert [text(template, {"/port": port}, files=files) for port in ("1", "2")] == ["1", "2"]


def test_src_may_climb_out_of_the_folder_and_include_may_not(tmp_path):
    folder = tmp_path / "templates"
    folder.mkdir()
    (tmp_path / "outside").write_text("{% include 'inside' %}")
    (folder / "inside").write_text("in")
    (folder / "link").symlink_to(tmp_path / "outside")
    assert render_in(folder, "../outside").content == b"in"
    assert render_in(folder, "/link").content == b"in"
    for reference in ("../outside", "/../outside", "a/../../outside", "link"):
        (folder / "main").write_text(f"\n{{% include '{reference}' %}}")
        with pytest.raises(TemplateError, match="below templates/") as caught:
            render_in(folder, "main")
        assert caught.value.where == {"resource": "web", "template": "main", "line": 2}


def test_templates_of_a_mounted_config_map_can_be_included(tmp_path):
    version = tmp_path / "..2026_01_01"
    version.mkdir()
    (version / "main").write_text("{% include 'part' %}")
    (version / "part").write_text("in")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    for name in ("main", "part"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert render_in(tmp_path, "main").content == b"in"


# --- errors --------------------------------------------------------------------------------------------------------


def failure(template, keys=None, **more) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        text(template, keys, **more)
    error = caught.value
    assert error.where["resource"] == "web"
    assert error.__cause__ is None
    assert error.__context__ is None, "its frames would hold values"
    return error


def test_an_error_names_the_innermost_line_and_where_it_was_called_from():
    error = failure("\n{% include 'part' %}", files={"part": "\n\n{{ 1 / 0 }}"})
    assert error.where == {"resource": "web", "template": "part", "line": 3, "called_from": "main:2"}
    assert error.message == "division by zero"


def test_an_error_in_a_macro_names_the_line_in_the_macro():
    error = failure("{% import 'lib.j2' as lib %}\n{{ lib.line('/none') }}", files=FILES)
    assert isinstance(error, KeyMissing)
    assert error.where == {
        "resource": "web", "template": "deep/er.j2", "line": 1, "called_from": "main:2", "key": "/none",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["main", "part"])
def test_a_syntax_error_names_template_and_line(name):
    files = {"main": "{% include 'part' %}", "part": "x"} | {name: "\n\n{% if %}"}
    error = failure(files.pop("main"), files=files)
    assert (error.where["template"], error.where["line"]) == (name, 3)
    assert error.where.get("called_from") == (None if name == "main" else "main:1")


def test_a_missing_template_is_named_by_the_path_that_was_looked_for(tmp_path):
    with pytest.raises(TemplateError, match=f"there is no template {tmp_path}/none"):
        render_in(tmp_path, "none")
    error = failure("\n{% include 'none' %}")
    assert error.message.endswith("/none")
    assert (error.where["template"], error.where["line"]) == ("main", 2)
    assert "none" in failure("{% include ['none', 'nothing'] %}").message


@pytest.mark.parametrize(
    ("template", "message", "hint"),
    [
        ("{{ getvv('/k') }}", "'getvv' is undefined", "did you mean getv?"),
        ("{{ 'x' | bse }}", "No filter named 'bse'.", "did you mean base?"),
        ("{{ 'x' is valid_hostprt }}", "No test named 'valid_hostprt'.", "did you mean valid_hostport?"),
        ("{{ {}.field }}", "'dict object' has no attribute 'field'", ""),
        ("{{ 'a' + 1 }}", 'can only concatenate str (not "int") to str', ""),
        ("{% include 'main' %}", "it includes, imports or calls itself without end", ""),
        ("{{ getv() }}", "getv() missing 1 required positional argument: 'key'", ""),
        ("{{ getv(['/k']) }}", "text is needed here, not list", ""),
        ("{{ gets(none) }}", "text is needed here, not NoneType", ""),
        ("{{ ls(missing) }}", "'missing' is undefined", ""),
        ("{{ '\\ud83d' }}", "a text in it is no Unicode: half of a surrogate pair", ""),
    ],
)
def test_mistakes_are_said_for_people(template, message, hint):
    error = failure(template)
    assert (error.message, error.hint, error.where["template"]) == (message, hint, "main")


@pytest.mark.parametrize(
    "template",
    ["{{ getv }}", "{{ [1]|map('string') }}", "{{ [1]|reverse }}", "{% for one in [1] %}{{ loop }}{% endfor %}"],
)
def test_what_would_print_its_place_in_memory_is_an_error(template):
    # Another text at each pass would be another target, and a reload, at each pass.
    assert failure(template).message.endswith("cannot be printed")


@pytest.mark.parametrize(
    "template", ['{{getv "/k"}}', "{{range gets}}{{.Value}}{{end}}", "{{- if exists `/k`}}{{end}}", "{{$x}}"]
)
def test_a_template_of_confd_is_recognised(template):
    assert "Go template" in failure(template).hint


SECRET = "hunter2"


@pytest.mark.parametrize(
    "template",
    [
        "{{ {}[getv('/s')] }}",
        "{{ json(getv('/s')) }}",
        "{{ from_yaml(getv('/s') ~ ': [') }}",
        "{{ from_toml(getv('/s')) }}",
        "{{ atoi(getv('/s')) }}",
        "{{ int_range(getv('/s'), 1, 2) }}",
        "{{ one_of(getv('/s'), 'a') }}",
        "{{ nginx_quote(getv('/s') ~ '$') }}",
        "{{ [].index(getv('/s')) }}",
        "{{ {}.pop(getv('/s')) }}",
        "{{ getv('/s').encode('ascii').decode(getv('/s')) }}",
        "{{ '{x}'.format(y=getv('/s')) }}",
        "{{ parse_hostport(getv('/s')) }}",
        "{{ getv('/s').attribute }}",
        "{{ base64_decode(getv('/s')) }}",
        "{% include getv('/s') | replace('hunter2', '../x') %}",
        "{% include getv('/s') %}",
        "{% include ['none', getv('/s')] %}",
        "{% import getv('/s') as one %}",
        "{% include 'x/' ~ getv('/s') %}",
        "{% include getv('/s') ~ '/../../main' ~ '/y' %}",
        "{{ getv('/s') + 1 }}",
        "{{ select_valid([getv('/s')], getv('/s')[:0]) }}",
        "{{ 1 | groupby(getv('/s')) | list }}",
        "{{ [{}] | map(attribute=getv('/s')) | join }}",
    ],
)
def test_no_error_shows_a_value(template):
    assert SECRET not in str(failure(template, {"/s": SECRET}))


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{{ json(getv('/bad')) }}", "/bad"),
        ("{{ getv('/good') }}{{ getv('/bad') | json }}", "/bad"),
        ("{% for p in gets('/all/*') %}{{ json(p.value) }}{% endfor %}", "/all/b"),
        ("{% for v in getvs('/all/*') %}{{ json(v) }}{% endfor %}", "/all/b"),
        ("{{ haproxy_quote(getv('/line')) }}", "/line"),
        ("{{ required(getv('/empty'), 'give it') }}", "/empty"),
        ("{{ json('{') }}", None),
    ],
)
def test_an_error_of_a_value_names_its_key(template, key):
    keys = {"/good": "{}", "/bad": "{", "/all/a": "{}", "/all/b": "[", "/line": "a\nb", "/empty": ""}
    assert failure(template, keys).where.get("key") == key


def test_an_error_that_is_a_fact_is_told_of_by_each_resource_as_its_own():
    facts = {Lookup("template", "main", "jinja"): TemplateError("there is no template /x/main")}
    for name in ("one", "two"):
        with pytest.raises(TemplateError) as caught:
            Renderer().render(resource("main"), view_of({}), World(0.0, {}, facts))
        assert caught.value.at(resource=name).where["resource"] == "web"
    assert facts[Lookup("template", "main", "jinja")].where == {}


# --- facts ---------------------------------------------------------------------------------------------------------


def test_a_render_asks_for_all_that_its_templates_are_known_to_ask(tmp_path):
    from confpy.templates.resolve import Resolver

    (tmp_path / "main").write_text(
        "{% include 'a' %}{% if false %}{% import 'b' as b %}{% endif %}{{ lookupIP('n.test') }}"
        "{{ lookup_ip('10.0.0.1') }}"
        "{{ lookupSRV('http', 'tcp', 'n.test') }}{{ fileExists('/f') }}{{ lookupIP(getv('/k')) }}"
    )
    source = Lookup("template", "main", "jinja")
    renderer, view = Renderer(), view_of({"/k": "other.test"})
    with pytest.raises(Needs) as first:
        renderer.render(resource("/main"), view, World(0.0, {}, {}))
    assert first.value.lookups == {source}
    facts = {source: Resolver(folder=str(tmp_path), cache_dir=None).resolve(source)}
    with pytest.raises(Needs) as second:
        renderer.render(resource("main"), view, World(0.0, {}, facts))
    assert second.value.lookups == {
        Lookup("template", "a", "jinja"), Lookup("template", "b", "jinja"), Lookup("ip", "n.test"),
        Lookup("srv", "_http._tcp.n.test"), Lookup("exists", "/f"),
    }  # fmt: skip
    assert second.value.__context__ is None


def test_a_render_tells_what_it_asked_and_nothing_else():
    files = {"part": "{{ file_exists('/f') }}", "unused": ""}
    made = rendered(
        "{% if false %}{% include 'unused' %}{% endif %}{% include 'part' %}",
        files=files,
        facts={Lookup("exists", "/f"): False},
    )
    assert made.content == b"false"
    assert made.asked == {
        Lookup("template", "main", "jinja"),
        Lookup("template", "part", "jinja"),
        Lookup("exists", "/f"),
    }
    assert rendered("x").asked == {Lookup("template", "main", "jinja")}


def test_constant_questions_are_not_answered_while_a_template_is_compiled():
    for value in ("1", "2"):
        assert text("{{ '/k' | getv }}{{ 'V' | getenv }}", {"/k": value}, environ={"V": value}) == value * 2


def test_what_is_left_out_is_told_once_with_key_and_reason():
    template = (
        "{% for _ in [1, 2] %}{% for key, value in select_valid(gets('/w/*')) %}{{ value }} {% endfor %}{% endfor %}"
    )
    made = rendered(template, {"/w/a": "10.0.0.1:80", "/w/b": "10.0.0.2:99999", "/w/c": "x:1\n", "/w/d": "y:2"})
    assert made.content == b"10.0.0.1:80 y:2 " * 2
    assert made.left_out == (
        LeftOut("/w/b", "the port is not from 1 to 65535"),
        LeftOut("/w/c", "a control character or line end in it"),
    )
    assert rendered("x").left_out == ()


def test_renders_of_one_renderer_do_not_see_each_other():
    assert text("{% set x = 1 %}{{ getv('/k') }}", {"/k": "1"}) == "1"
    with pytest.raises(KeyMissing):
        text("{{ getv('/k') }}")
    assert failure("{{ x }}").message == "'x' is undefined"


def test_the_sandbox_keeps_python_out():
    with pytest.raises(TemplateError, match="unsafe"):
        text("{{ getv.__self__ }}{{ ''.__class__.__mro__ }}", sandbox=True)


def test_a_render_touches_no_file_and_no_network(tmp_path):
    # In a process of its own: an audit hook stays for good. The first render imports what the second one uses.
    code = """
import sys
from tests.rendering import RENDERER, resource, view_of
from confpy.messages import Lookup
from confpy.templates.results import World
from confpy.templates.resolve import Resolver

resolver = Resolver(folder=sys.argv[1], cache_dir=None)
asked = [Lookup("template", "main", "jinja"), Lookup("template", "part", "jinja"), Lookup("exists", "/")]
facts = {lookup: resolver.resolve(lookup) for lookup in asked}
render = lambda now: RENDERER.render(resource("main"), view_of({"/k": "{}"}), World(now, {"A": "b"}, facts)).content
render(0.0)
touched = []
sys.addaudithook(lambda event, _: touched.append(event) if event.split(".")[0] in ("open", "os", "socket") else None)
content = render(1.0)
assert not touched, touched
assert content == b"part {} true b \\n"
"""
    (tmp_path / "main").write_text(
        "{% include 'part' %} {{ getv('/k') | json | to_yaml }} {{ file_exists('/') }} {{ getenv('A') }} "
        "{{ to_toml({}) }}{% set now = datetime() %}\n"
    )
    (tmp_path / "part").write_text("part")
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("unmeasured")
def test_the_face_of_the_package_brings_no_jinja():
    heavy = "{'jinja2', 'yaml', 'dns', 'requests', 'threading'}"
    code = f"import sys, confpy.templates.renderer; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
