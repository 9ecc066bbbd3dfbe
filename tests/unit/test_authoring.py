"""The commands for authors of templates: they render and show, and deliver nothing."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
from pathlib import Path

import pytest

from confpy import cli
from confpy.config.sources import load_settings
from confpy.preview.confdir import Confdir
from confpy.preview.watch import changes

KEYS = """\
services:
  web:
    port: 8080
    password: hunter2
    backends: {a: "10.0.0.1:80", b: "10.0.0.2:80"}
"""
RESOURCE = """\
[template]
src = "{src}"
dest = "/run/web/web.cfg"
prefix = "/services"
keys = ["/web"]
reload_cmd = "false"
"""
JINJA = """\
port {{ getv("/web/port") }}
{% for key, value in gets("/web/backends/*") %}
server {{ base(key) }} {{ value }}
{% endfor %}
"""
GO = """\
port {{getv "/web/port"}}
{{range gets "/web/backends/*"}}server {{base .Key}} {{.Value}}
{{end}}"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("CONFPY_CONFDIR", "CONFPY_BACKEND", "CONFPY_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)


def confdir(folder: Path, template: str, src: str = "web.cfg.j2", resource: str = RESOURCE) -> Path:
    (folder / "conf.d").mkdir()
    (folder / "templates").mkdir()
    (folder / "conf.d/web.toml").write_text(resource.format(src=src))
    (folder / "templates" / src).write_text(template)
    (folder / "keys.yaml").write_text(KEYS)
    return folder


def run(capfd: pytest.CaptureFixture[str], *line: object) -> tuple[int, str, str]:
    code = cli.main([str(one) for one in line])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize("language", [("web.cfg.j2", JINJA), ("web.cfg.tmpl", GO)])
@pytest.mark.parametrize("named", ["web", "conf.d/web.toml", "templates/{src}", "{src}", "/run/web/web.cfg", "web.cfg"])
def test_render_finds_a_resource_by_its_name_its_file_its_template_and_its_target(tmp_path, capfd, language, named):
    src, template = language
    confdir(tmp_path, template, src)
    with contextlib.chdir(tmp_path):
        code, out, _ = run(capfd, "render", named.format(src=src), "-confdir", tmp_path, "-data", "keys.yaml")
    assert code == 0
    assert [line for line in out.split("\n") if line] == ["port 8080", "server a 10.0.0.1:80", "server b 10.0.0.2:80"]


def test_render_of_a_template_needs_no_confdir_named_where_it_lies_in_one(tmp_path, capfd):
    confdir(tmp_path, JINJA)
    code, out, _ = run(capfd, "render", tmp_path / "templates/web.cfg.j2", "-data", tmp_path / "keys.yaml")
    assert (code, out.split("\n")[0]) == (0, "port 8080")


def test_render_of_a_template_that_no_resource_reads_gives_it_all_keys(tmp_path, capfd):
    (tmp_path / "keys.json").write_text('{"a": {"b": "c"}}')
    (tmp_path / "one.j2").write_text('{{ getv("/a/b") }} {% include "two.j2" %}')
    (tmp_path / "two.j2").write_text('{{ ls("/a") | join(",") }}\n')
    code, out, _ = run(capfd, "render", tmp_path / "one.j2", "-data", tmp_path / "keys.json")
    assert (code, out) == (0, "c b\n")


def test_render_takes_the_keys_of_the_store_where_no_file_is_named(tmp_path, capfd, monkeypatch):
    confdir(tmp_path, JINJA)
    monkeypatch.setenv("SERVICES_WEB_PORT", "81")
    code, out, _ = run(capfd, "render", "web", "-confdir", tmp_path, "-backend", "env")
    assert (code, out.split("\n")[0]) == (0, "port 81")


def test_render_of_a_resource_that_names_another_store_takes_the_keys_of_the_file(tmp_path, capfd):
    confdir(tmp_path, JINJA)
    with (tmp_path / "conf.d/web.toml").open("a") as file:
        file.write("\n[backend]\nbackend = 'consul'\n")
    line = ("render", "web", "-backend", "consul", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")
    code, out, err = run(capfd, *line)
    assert (code, out.split("\n")[0], err) == (0, "port 8080", "")


def test_render_writes_nothing_but_to_stdout(tmp_path, capfd):
    confdir(tmp_path, JINJA, resource=RESOURCE.replace("/run/web", str(tmp_path / "run")))
    before = sorted(tmp_path.rglob("*"))
    assert run(capfd, "render", "web", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")[0] == 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n{{ getv('/web/none') }}\n", 'error="key does not exist"'),
        ("a\n{% if %}\n", "error="),
        ("a\n{{ atoi(getv('/web/password')) }}\n", "key=/web/password"),
    ],
)
def test_a_template_that_fails_ends_with_4_and_names_its_line_and_never_a_value(tmp_path, capfd, template, message):
    confdir(tmp_path, template)
    code, out, err = run(capfd, "render", "web", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")
    assert (code, out) == (4, "")
    assert message in err
    assert "line=2" in err
    assert "template=web.cfg.j2" in err
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["render", "webb"], "did you mean web?"),
        (["render", "nothing.j2"], "no resource, template or target"),
        (["render", "web", "-data", "/nowhere.yaml"], "there is no such file with keys"),
    ],
)
def test_what_is_not_there_is_an_error_of_usage(tmp_path, capfd, line, message):
    confdir(tmp_path, JINJA)
    code, _, err = run(capfd, *line, "-confdir", tmp_path)
    assert code == 2
    assert message in err


def test_a_name_that_several_resources_have_is_refused(tmp_path, capfd):
    confdir(tmp_path, JINJA)
    (tmp_path / "conf.d/two.toml").write_text(RESOURCE.format(src="web.cfg.j2").replace('web.cfg"', 'two.cfg"'))
    code, _, err = run(capfd, "render", "web.cfg.j2", "-confdir", tmp_path)
    assert code == 2
    assert "name one of them: two, web" in err


def test_a_resource_whose_file_is_wrong_says_so(tmp_path, capfd):
    confdir(tmp_path, JINJA, resource="[template]\nsrc = 1\n")
    code, _, err = run(capfd, "render", "web", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")
    assert code == 2
    assert "dest is missing" in err or "src" in err


def test_keys_are_shown_without_their_values(tmp_path, capfd):
    confdir(tmp_path, JINJA)
    code, out, err = run(capfd, "keys", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")
    assert code == 0
    assert "/services/web/password = ***\n" in out
    assert "hunter2" not in out + err
    _, out, err = run(capfd, "keys", "/services/web/backends", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")
    assert out == "/services/web/backends/a = ***\n/services/web/backends/b = ***\n"


def test_keys_are_shown_with_their_values_where_they_are_asked_for(tmp_path, capfd):
    confdir(tmp_path, JINJA)
    _, out, _ = run(capfd, "keys", "-values", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")
    assert '/services/web/password = "hunter2"\n' in out


def test_keys_as_json_name_the_resources_that_read_them(tmp_path, capfd):
    confdir(tmp_path, JINJA)
    (tmp_path / "keys.yaml").write_text(KEYS + "other: {x: 1}\n")
    _, out, _ = run(capfd, "keys", "/", "-json", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")
    entries = {one["key"]: one for one in json.loads(out)["keys"]}
    assert entries["/services/web/port"] == {"key": "/services/web/port", "resources": ["web"]}
    assert entries["/other/x"]["resources"] == []


def test_control_characters_in_keys_and_values_do_not_reach_a_terminal(tmp_path, capfd, monkeypatch):
    confdir(tmp_path, '{{ getv("/web/x") }}')
    (tmp_path / "keys.json").write_text(r'{"services": {"web": {"x": "a\u001b[31mb", "\u001bkey": "y"}}}')
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for line in (["render", "web"], ["keys", "-values"]):
        _, out, _ = run(capfd, *line, "-confdir", tmp_path, "-data", tmp_path / "keys.json")
        assert "\x1b" not in out


def test_watch_renders_again_after_each_edit_and_survives_a_mistake(tmp_path, capfd, monkeypatch):
    confdir(tmp_path, JINJA)
    template = tmp_path / "templates/web.cfg.j2"

    def edits(*_):
        yield ""
        template.write_text("{{ nothing }}")
        yield "files"
        template.write_text("second")
        yield "files"
        yield "files"

    monkeypatch.setattr("confpy.commands.render.changes", edits)
    code, out, err = run(capfd, "render", "web", "-watch", "-confdir", tmp_path, "-data", tmp_path / "keys.yaml")
    assert code == 0
    assert out.startswith("port 8080\n")
    assert out.endswith("second")
    assert out.count("second") == 1
    assert err.count("render.failed") == 1
    assert err.count("render.done") == 3


def test_what_is_watched_are_the_confdir_and_the_file_with_the_keys(tmp_path):
    confdir(tmp_path, JINJA)
    settings, _ = load_settings({"confdir": str(tmp_path)}, {})
    of = Confdir(settings, {}, str(tmp_path / "keys.yaml"))
    following = changes(of, tuple)
    assert next(following) == ""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found = pool.submit(next, following)
        (tmp_path / "keys.yaml").write_text(KEYS + "# more\n")
    assert found.result() == "files"
    following.close()


def why(capfd, folder, asked, *line):
    return run(capfd, "why", asked, "-confdir", folder, "-data", folder / "keys.yaml", *line)


def targeted(folder: Path, template: str = JINJA) -> Path:
    """A confdir whose target lies beside it, as it is delivered."""
    confdir(folder, template, resource=RESOURCE.replace("/run/web/web.cfg", f"{folder}/web.cfg"))
    (folder / "web.cfg").write_text("port 8080\n\nserver a 10.0.0.1:80\n\nserver b 10.0.0.2:80\n\n")
    return folder / "web.cfg"


def test_why_of_a_line_names_its_keys_with_their_prefix_and_its_place_in_the_template(tmp_path, capfd):
    target = targeted(tmp_path)
    for asked in (f"{target}:3", "web.cfg:3", "web:3"):
        code, out, err = why(capfd, tmp_path, asked)
        assert (code, err) == (0, "")
        assert out == (
            f"{target}:3\n  resource  web\n  template  web.cfg.j2:3:8\n  keys      /services/web/backends/a\n"
        )


def test_why_shows_a_line_only_where_values_are_asked_for(tmp_path, capfd):
    target = targeted(tmp_path)
    assert "10.0.0.1" not in why(capfd, tmp_path, f"{target}:3")[1]
    assert "  text      server a 10.0.0.1:80\n" in why(capfd, tmp_path, f"{target}:3", "-values")[1]
    assert "10.0.0.1" not in why(capfd, tmp_path, f"{target}:3", "-json")[1]
    assert json.loads(why(capfd, tmp_path, f"{target}:3", "-json", "-values")[1])["lines"] == [
        {
            "line": 3,
            "template": "web.cfg.j2",
            "template_line": 3,
            "template_column": 8,
            "keys": ["/services/web/backends/a"],
            "because": [],
            "absent": [],
            "text": "server a 10.0.0.1:80",
        }
    ]


def test_why_of_a_target_lists_the_lines_of_each_key(tmp_path, capfd):
    target = targeted(tmp_path)
    assert why(capfd, tmp_path, target)[1] == (
        f"{target}: resource web, template web.cfg.j2\n"
        "  line 1: /services/web/port, web.cfg.j2:1:6\n"
        "  line 3: /services/web/backends/a, web.cfg.j2:3:8\n"
        "  line 5: /services/web/backends/b, web.cfg.j2:3:8\n"
    )


def test_why_of_a_file_that_was_edited_says_so_and_finds_its_lines_again(tmp_path, capfd):
    target = targeted(tmp_path)
    target.write_text("# mine\nport 9\n\nserver a 10.0.0.1:80\n\nserver b 10.0.0.2:80\n\n")
    differs = "The file on disk differs from what rendering gives now in lines 1-2."
    assert why(capfd, tmp_path, f"{target}:4")[1].split("\n")[2:] == [
        "  template  web.cfg.j2:3:8", "  keys      /services/web/backends/a", differs, "",
    ]  # fmt: skip
    assert "Rendering does not give this line now" in why(capfd, tmp_path, f"{target}:2")[1]
    assert f"{differs} The lines above are those of the rendering." in why(capfd, tmp_path, target)[1]
    target.unlink()
    assert "The file on disk: it does not exist." in why(capfd, tmp_path, f"{target}:1")[1]


def test_why_of_a_key_lists_the_resources_that_read_it_and_its_lines(tmp_path, capfd):
    target = targeted(tmp_path)
    (tmp_path / "conf.d/other.toml").write_text('[template]\nsrc = "o.j2"\ndest = "/o"\nkeys = ["/elsewhere"]\n')
    code, out, _ = why(capfd, tmp_path, "/services/web/backends/b")
    assert (code, out) == (
        0,
        f"/services/web/backends/b: resource web, {target}\n  line 5: web.cfg.j2:3:8\n",
    )
    assert "no line depends on it" in why(capfd, tmp_path, "/services/web/password")[1]
    assert why(capfd, tmp_path, "/nothing")[1] == "/nothing: no resource reads it\n"
    assert (
        json.loads(why(capfd, tmp_path, "/services/web/backends", "-json")[1])["resources"][0]["lines"][1]["line"] == 5
    )


def test_why_of_a_key_says_why_its_value_was_left_out_and_never_the_value(tmp_path, capfd):
    targeted(tmp_path, '{% for one in gets("/web/backends/*") | select_valid %}{{ one.value }}{% endfor %}')
    keys = tmp_path / "keys.yaml"
    keys.write_text(keys.read_text().replace("10.0.0.2:80", "10.0.0.2:80800"))
    code, out, _ = why(capfd, tmp_path, "/services/web/backends/b")
    assert (code, out.splitlines()[1]) == (
        0,
        "  left out: /services/web/backends/b: the port is not from 1 to 65535",
    )
    (found,) = json.loads(why(capfd, tmp_path, "/services/web/backends", "-json")[1])["resources"]
    assert found["left_out"] == [{"key": "/services/web/backends/b", "reason": "the port is not from 1 to 65535"}]
    assert "80800" not in out


def test_why_of_a_key_goes_on_where_a_resource_cannot_be_rendered(tmp_path, capfd):
    targeted(tmp_path, '{{ getv("/web/none") }}')
    code, out, err = why(capfd, tmp_path, "/services/web/port")
    assert code == 4
    assert "it cannot be rendered now" in out
    assert "key does not exist" in err


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("/etc/passwd:1", "no resource, template or target '/etc/passwd'"),
        ("web:99", "there is no line 99"),
        ("web:0", "lines are counted from 1"),
        ("wat", "no resource, template or"),
    ],
)
def test_why_of_what_is_not_there_is_an_error_of_usage(tmp_path, capfd, asked, message):
    targeted(tmp_path)
    code, _, err = why(capfd, tmp_path, asked)
    assert code == 2
    assert message in err


def test_why_names_the_default_that_stands_in_the_place_of_a_key(tmp_path, capfd):
    targeted(tmp_path, '{{ getv("/web/none", "x") }}\n').unlink()
    assert "  keys      /services/web/none (not in the store)\n" in why(capfd, tmp_path, "web.cfg.j2:1")[1]


def test_why_of_a_fifo_does_not_wait_for_it(tmp_path, capfd):
    target = targeted(tmp_path)
    target.unlink()
    os.mkfifo(target)
    assert "it is no regular file" in why(capfd, tmp_path, "web")[1]


def test_the_content_of_a_sensitive_resource_is_shown_only_where_it_is_asked_for(tmp_path, capfd, monkeypatch):
    targeted(tmp_path, '{{ getv("/web/password") }}\n').write_text("hunter2\n")
    with (tmp_path / "conf.d/web.toml").open("a") as file:
        file.write("sensitive = true\n")
    monkeypatch.setenv("SERVICES_WEB_PASSWORD", "hunter2")
    store = ("-backend", "env", "-confdir", tmp_path)
    code, out, err = run(capfd, "render", "web", *store)
    assert code == 2
    assert "web is sensitive" in err
    assert "hunter2" not in out + err
    assert run(capfd, "render", "web", "-values", *store)[:2] == (0, "hunter2\n")
    assert run(capfd, "render", "web", *store, "-data", tmp_path / "keys.yaml")[:2] == (0, "hunter2\n")
    for line in (
        ["why", "web:1"],
        ["why", "web"],
        ["why", "web", "-json"],
        ["why", "/services/web/password"],
        ["keys"],
    ):
        _, out, err = run(capfd, *line, *store)
        assert out
        assert "hunter2" not in out + err


@pytest.mark.parametrize("line", [["render", "web"], ["why", "/a/key"], ["why", "web:1"]])
def test_a_confdir_that_is_not_there_is_said(tmp_path, capfd, line):
    code, _, err = run(capfd, *line, "-confdir", tmp_path, "-backend", "env")
    assert code == 2
    assert "there is no conf.d in" in err


def test_why_names_the_folder_whose_name_stands_in_a_line(tmp_path, capfd):
    targeted(tmp_path, '{% for name in lsdir("/web") %}{{ name }}\n{% endfor %}').unlink()
    assert "  keys      /services/web/backends/\n" in why(capfd, tmp_path, "web:1")[1]
    assert "  line 1: web.cfg.j2:1:32\n" in why(capfd, tmp_path, "/services/web/backends/a")[1]


def test_keys_from_stdin_cannot_be_watched(tmp_path, capfd):
    confdir(tmp_path, JINJA)
    code, _, err = run(capfd, "render", "web", "-watch", "-data", "-", "-confdir", tmp_path)
    assert code == 2
    assert "cannot read the keys from stdin again" in err


def test_keys_of_several_stores_are_one_tree_to_all_commands(tmp_path, capfd):
    for folder in ("conf.d", "templates"):
        (tmp_path / folder).mkdir()
    (tmp_path / "main.yaml").write_text("prod: {web: {a: 1}}\n")
    (tmp_path / "secrets.yaml").write_text("db: hunter2\n")
    (tmp_path / "confpy.toml").write_text(
        f'backend = "file"\nfile = "{tmp_path}/main.yaml"\n[mounts]\n'
        f'"/secrets" = {{ backend = "file", file = "{tmp_path}/secrets.yaml" }}\n'
    )
    target = tmp_path / "out"
    (tmp_path / "conf.d" / "r.toml").write_text(
        f'[template]\nsrc = "t.j2"\ndest = "{target}"\nprefix = "/prod"\nkeys = ["/web", "/secrets/db"]\n'
    )
    (tmp_path / "templates" / "t.j2").write_text('{{ getv("/web/a") }} {{ getv("/secrets/db") }} {{ ls("/") }}')
    confdir = ["-confdir", str(tmp_path)]
    assert cli.main(["render", "r", *confdir]) == 0
    assert capfd.readouterr().out == "1 hunter2 ['secrets', 'web']"
    assert cli.main(["keys", *confdir]) == 0
    assert capfd.readouterr().out == "/prod/web/a = ***\n/secrets/db = ***\n"
    assert cli.main(["keys", "/", "-json", *confdir]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["mounts"] == {"/secrets": "file"}
    assert [one["key"] for one in found["keys"]] == ["/prod/web/a", "/secrets/db"]
    target.write_text("1 hunter2 ['secrets', 'web']")
    assert cli.main(["why", f"{target}:1", *confdir]) == 0
    out = capfd.readouterr().out
    assert "/prod/web/a, /secrets/db, /secrets/, /prod/web/" in out
    assert "hunter2" not in out


def test_a_resource_with_a_store_of_its_own_reads_that_and_its_keys_look_as_all_others(tmp_path, capfd):
    for folder in ("conf.d", "templates"):
        (tmp_path / folder).mkdir()
    (tmp_path / "main.yaml").write_text("prod: {web: {a: main}}\n")
    (tmp_path / "own.yaml").write_text("prod: {web: {a: own}}\n")
    flags = ["-confdir", str(tmp_path), "-backend", "file", "-file", str(tmp_path / "main.yaml")]
    resource = f'[template]\nsrc = "t.j2"\ndest = "{tmp_path}/%s"\nprefix = "/prod"\nkeys = ["/web"]\n'
    own = f'[backend]\nbackend = "file"\nfile = ["{tmp_path}/own.yaml"]\n'
    (tmp_path / "conf.d" / "one.toml").write_text(resource % "one")
    (tmp_path / "conf.d" / "own.toml").write_text(resource % "own" + own)
    (tmp_path / "conf.d" / "too.toml").write_text(resource % "too" + own)
    (tmp_path / "templates" / "t.j2").write_text('{{ getv("/web/a") }} {{ ls("/web") }}')
    for name, text in (("one", "main ['a']"), ("own", "own ['a']"), ("too", "own ['a']")):
        assert cli.main(["render", name, *flags]) == 0
        assert capfd.readouterr().out == text
    state = ["-state-dir", str(tmp_path / "state"), "-cache-dir", str(tmp_path / "cache")]
    assert cli.main(["-onetime", "-log-format", "json", *flags, *state]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {(one["resource"], one["changed"]) for one in lines if one["event"] == "resource.changed"} == {
        (name, "/prod/web/a") for name in ("one", "own", "too")
    }
    assert [(tmp_path / name).read_text() for name in ("one", "own")] == ["main ['a']", "own ['a']"]
    assert cli.main(["why", f"{tmp_path}/own:1", *flags]) == 0
    assert "keys      /prod/web/a" in capfd.readouterr().out
