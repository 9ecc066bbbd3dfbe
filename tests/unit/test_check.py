"""``confpy check`` finds planted mistakes where they are, and nothing in healthy confdirs."""

from __future__ import annotations

import grp
import json
import os
import pwd
from pathlib import Path

import pytest

from confpy import cli
from confpy.check.main import check
from confpy.config.positions import keys_of
from tests.unit.confdirs import AROUND, GOOD, HEALTHY, MARK, PLANTED, pair, resource, write

ROOT = Path(__file__).parents[2]


def found(folder, **more):
    return check(str(folder), {}, {}, **more).findings


def test_there_are_as_many_as_promised():
    assert len(HEALTHY) >= 30
    assert len(PLANTED) >= 20


@pytest.mark.parametrize("form", HEALTHY)
def test_nothing_is_found_in_a_healthy_confdir(tmp_path, form):
    write(tmp_path, HEALTHY[form])
    checked = check(str(tmp_path), {}, {})
    assert checked.findings == []
    assert checked.resources == sum(name.endswith(".toml") and "conf.d" in name for name in HEALTHY[form])


@pytest.mark.parametrize("example", ["haproxy", "nginx", "apache"])
def test_nothing_is_found_in_the_examples(example):
    assert found(ROOT / "examples" / example) == []


@pytest.mark.parametrize("name", ["json", "patroni"])
def test_nothing_is_found_in_installations_of_confd(name):
    folder = ROOT / "tests" / "golden" / "installations" / name
    assert found(folder) == []
    assert found(folder / "converted") == []


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_mistake_is_found_in_its_file_at_its_line_and_column(tmp_path, mistake):
    files, level, message, hint = PLANTED[mistake]
    place = write(tmp_path, {**AROUND, **files})
    if not files.get("conf.d/bad.toml", "x"):
        (tmp_path / "conf.d" / "bad.toml").unlink()
    one, *others = found(tmp_path)
    assert others == []
    assert (one.level, one.file, one.line, one.column) == (level, *place)
    assert message in one.message
    assert hint in one.hint
    assert MARK not in one.message + one.hint


def test_all_mistakes_are_found_at_once(tmp_path):
    wanted = set()
    for number, (files, _, message, _) in enumerate(PLANTED.values()):
        if "confpy.toml" in files or "zzz" in str(files):
            continue
        own = {
            name.replace("bad", str(number)): text.replace("bad.", f"{number}.").replace("/app/bad", f"/app/{number}")
            for name, text in files.items()
        }
        wanted.add((*write(tmp_path, own), message.replace("bad", str(number))))
    twice = PLANTED["two resources with one target"]
    wanted.add((*write(tmp_path, {"conf.d/zzz.toml": twice[0]["conf.d/zzz.toml"]}), twice[2]))
    setting = PLANTED["an unknown setting"]
    wanted.add((*write(tmp_path, setting[0]), setting[2]))
    write(tmp_path, AROUND)
    have = found(tmp_path)
    missing = [
        (file, line, column, message)
        for file, line, column, message in wanted
        if not any((one.file, one.line, one.column) == (file, line, column) and message in one.message for one in have)
    ]
    assert missing == []
    assert len(wanted) >= 28
    assert len(have) == len(wanted)


def test_several_mistakes_of_one_file_are_all_found(tmp_path):
    write(
        tmp_path,
        {**AROUND, "conf.d/x.toml": '[template]\nsrc = 1\ndets = "x"\nmode = 644\nkeys = "/a"\nbackup = -1\n'},
    )
    assert [(one.line, one.column) for one in found(tmp_path)] == [(1, 1), *((line, 1) for line in range(2, 7))]


def test_a_shared_template_is_reported_once(tmp_path):
    write(tmp_path, {**pair("a", "{{ x }}\n", keys="[]"), **pair("b", "", src="a.j2", keys="[]"),
                     "templates/a.j2": "{{ nothing }}\n"})  # fmt: skip
    assert [one.message for one in found(tmp_path)] == ["'nothing' is undefined"]


def test_what_an_included_template_asks_elsewhere_is_a_warning(tmp_path):
    write(tmp_path, {**pair("a", GOOD + '{% include "part.j2" %}'), "templates/part.j2": '{{ getv("/other/x", "") }}'})
    (one,) = found(tmp_path)
    assert (one.level, Path(one.file).name, one.column) == ("warning", "part.j2", 9)


def test_files_that_never_end_or_include_themselves_end_the_check(tmp_path):
    write(tmp_path, {**AROUND, **pair("loop", '{% include "loop.j2" %}{{ getv("/app/x") }}\n')})
    os.mkfifo(tmp_path / "conf.d" / "pipe.toml")
    os.mkfifo(tmp_path / "templates" / "pipe.j2")
    write(tmp_path, resource("piped", src="pipe.j2"))
    assert {one.message for one in found(tmp_path)} == {
        "the file is not a regular file",
        f"{tmp_path}/templates/pipe.j2 is not a file",
    }


def test_a_line_that_looks_like_the_name_of_a_server_takes_no_time(tmp_path):
    write(tmp_path, pair("long", "server " + "{{ x }}" * 2000 + "\n{% set x = getv('/app/x') %}", keys='["/app"]'))
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("check", "is_wrong"),
    [
        ("nginx -t", True),
        ("nginx -q -t", True),
        ("apachectl configtest", True),
        ("haproxy -c -f /etc/app/web", True),
        ("/usr/local/bin/check", False),
        ("nginx -t -c {{.src}}", False),
        ("check $CONFPY_SRC", False),
    ],
)
def test_a_known_program_reads_the_old_file_even_if_the_check_is_said_to_be_staged(tmp_path, check, is_wrong):
    write(tmp_path, pair("web", GOOD, f'check_cmd = "{check}"', 'check_mode = "staged"', 'reload_cmd = "true"'))
    assert bool(found(tmp_path)) is is_wrong


# --- what belongs to the machine -------------------------------------------------------------------------------------


OF_THE_HOST = pair(
    "web",
    GOOD,
    'owner = "nobody-of-that-name"',
    'group = "none-of-that-name"',
    'check_cmd = "no-such-checker {{.src}}"',
    'reload_cmd = "cd / && X=1 no-such-reloader -x | grep -q ok || true"',
    'watch_files = ["/nowhere/web.pem"]',
    dest="/nowhere/web.conf",
)


def test_what_belongs_to_the_machine_is_looked_at_only_with_host(tmp_path):
    write(tmp_path, OF_THE_HOST)
    assert found(tmp_path) == []
    have = {one.message: one.line for one in found(tmp_path, host=True)}
    assert have == {
        "there is no folder /nowhere on this machine": 3,
        "owner is not known on this machine: 'nobody-of-that-name'": 5,
        "group is not known on this machine: 'none-of-that-name'": 6,
        "check_cmd: there is no program no-such-checker on this machine": 7,
        "reload_cmd: there is no program no-such-reloader on this machine": 8,
        "watch_files: there is no /nowhere/web.pem on this machine": 9,
    }


def test_nothing_is_wrong_with_what_the_machine_has(tmp_path):
    own = (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)
    write(
        tmp_path,
        pair(
            "web",
            GOOD,
            f'owner = "{own[0]}"',
            f'group = "{own[1]}"',
            "check_cmd = 'if [ -s {{.src}} ]; then grep -q . {{.src}}; fi'",
            'reload_cmd = ["kill", "-0", "1"]',
            f'watch_files = ["{tmp_path}/conf.d/web.toml"]',
            dest=f"{tmp_path}/web.conf",
        ),
    )
    assert found(tmp_path, host=True) == []


def test_without_host_the_result_is_that_of_every_machine(tmp_path, monkeypatch):
    write(tmp_path, {**HEALTHY["owner, group, mode and numbers"], **OF_THE_HOST})

    def refuse(*_):
        raise AssertionError("it asked the machine")

    for module, name in ((pwd, "getpwnam"), (grp, "getgrnam"), (os.path, "realpath")):
        if name != "realpath":
            monkeypatch.setattr(module, name, refuse)
    for name, value in {"CONFPY_PREFIX": "/x", "CONFPY_BACKEND": "nonsense", "CONFPY_INTERVAL": "never"}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["check", str(tmp_path)]) == 0


@pytest.mark.parametrize("backend", ["etcd", "etcdv2", "etcdv3", "consul", "file", "env", "memory"])
def test_files_that_settings_name_are_looked_for_only_with_host(tmp_path, backend):
    lines = [f'backend = "{backend}"', 'client_ca_keys = "/nowhere/ca.pem"', 'files = ["/nowhere/keys.yaml"]']
    write(tmp_path, {**AROUND, "confpy.toml": "\n".join([*lines, 'scheme = "https"', ""])})
    assert found(tmp_path) == []
    if backend in {"etcdv3", "consul"}:
        assert any("/nowhere/ca.pem" in one.file + one.message for one in found(tmp_path, host=True))


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {**AROUND, **PLANTED["an unknown key"][0]})
    (tmp_path / "conf.d" / "bad.toml").rename(tmp_path / "conf.d" / "b,a:d.toml")
    return tmp_path


def test_a_line_is_as_compilers_write_it(planted, capfd):
    assert cli.main(["check", "."]) == 2
    out = capfd.readouterr().out.splitlines()
    assert out == [
        "conf.d/b,a:d.toml:6:1: error: unknown key chekc_cmd; did you mean check_cmd?",
        "2 resources checked: 1 error",
    ]


def test_annotations_of_github_are_escaped(planted, capfd):
    assert cli.main(["check", "-confdir", ".", "-format", "github"]) == 2
    expected = "::error file=conf.d/b%2Ca%3Ad.toml,line=6,col=1::unknown key chekc_cmd; did you mean check_cmd?\n"
    assert capfd.readouterr().out == expected
    (planted / "conf.d" / "b,a:d.toml").write_text('[template]\n"50%\\n::error::x" = 1\nsrc = "good.j2"\ndest = "/x"\n')
    cli.main(["check", ".", "-format=github"])
    out = capfd.readouterr().out
    assert all(line.startswith("::error file=") for line in out.splitlines())
    assert "50%25%0A::error::x" in out


def test_json_is_one_object(planted, capfd):
    assert cli.main(["check", ".", "-json"]) == 2
    made = json.loads(capfd.readouterr().out)
    assert (made["errors"], made["warnings"], made["resources"]) == (1, 0, 2)
    (one,) = made["findings"]
    assert one == {
        "level": "error",
        "message": "unknown key chekc_cmd",
        "hint": "did you mean check_cmd?",
        "file": "conf.d/b,a:d.toml",
        "line": 6,
        "column": 1,
        "resource": "b,a:d",
    }


def test_warnings_alone_are_no_failure(tmp_path, capfd):
    write(tmp_path, {**AROUND, **PLANTED["a key that no template reads"][0]})
    assert cli.main(["check", str(tmp_path)]) == 0
    assert "2 resources checked: 1 warning" in capfd.readouterr().out


def test_several_confdirs_are_checked(tmp_path, capfd):
    for name in ("a", "b"):
        write(tmp_path / name, AROUND)
    assert cli.main(["check", str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "c")]) == 2
    out = capfd.readouterr().out
    assert "c: error: there is no such folder" in out
    assert "2 resources checked: 1 error" in out


def test_a_name_that_would_move_the_cursor_is_written_as_escapes(tmp_path, capfd):
    write(tmp_path, {**AROUND, "conf.d/a\x1b[31m.toml": "x"})
    assert cli.main(["check", str(tmp_path)]) == 2
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "a\\x1b[31m.toml:1:" in out


def test_an_empty_confdir_is_an_error_unless_it_may_be_empty(tmp_path):
    (one,) = found(tmp_path)
    assert (one.message, one.file) == ("there is no conf.d", str(tmp_path))
    (tmp_path / "conf.d").mkdir()
    (one,) = found(tmp_path)
    assert "has no resources" in one.message
    assert check(str(tmp_path), {"allow_empty": "true"}, {}).findings == []


# --- where keys stand ------------------------------------------------------------------------------------------------


def test_the_places_of_keys():
    text = (
        "# a = 1\n"
        'top = """\nb = 2\n\\""" still """  # end\n'
        "[ 'tab le' . \"x\\u00e9\" ]  # c = 3\n"
        "  spaced\t= { inline = 1, other = [1,\n 2] }\n"
        "list = [\n  'x = 1', # d = 4\n  \"]\", [1, {a = 1}],\n]\n"
        "a.b.'c d' = 2024-01-01 10:00:00\n"
        "[[many]]\nx = 1.5\n"
    )
    assert {key: tuple(place) for key, place in keys_of(text).items()} == {
        ("top",): (2, 1),
        ("tab le", "xé"): (5, 1),
        ("tab le", "xé", "spaced"): (6, 3),
        ("tab le", "xé", "list"): (8, 1),
        ("tab le", "xé", "a", "b", "c d"): (12, 1),
        ("many",): (13, 1),
        ("many", "x"): (14, 1),
    }


@pytest.mark.parametrize("text", ["", "a", "a =", "a = [", "[", "[x", '"a', "a = 1 2\nb = 3", "= 1", "\ufeff", "a = }"])
def test_what_is_no_toml_has_no_places_and_no_error(text):
    keys_of(text)


def test_a_prefix_before_a_key_of_a_mounted_store_is_pointed_out(tmp_path):
    (tmp_path / "confpy.toml").write_text('[mounts]\n"/secrets" = { backend = "env" }\n"/p/x" = { backend = "env" }\n')
    write(
        tmp_path,
        pair("both", '{{ getv("/secrets/db") }} {{ getv("/web") }} {{ getv("/p/x/y") }}', 'prefix = "/p"',
             keys='["/web", "/secrets/db", "/x/y"]'),
    )  # fmt: skip
    checked = check(str(tmp_path), {}, {})
    assert checked.findings == []
    notes = {one.message: one.hint for one in checked.notes}
    assert notes == {
        "the prefix /p does not hold for /secrets/db: another store is mounted at /secrets": (
            "nothing is put before it or cut from it: templates read it as /secrets/db"
        ),
        "/x/y below the prefix /p lies in another store, mounted at /p/x": (
            "nothing is cut from its keys: templates read it as /p/x/y; write that in keys"
        ),
    }


def test_each_store_is_asked_whether_it_answers(tmp_path):
    (tmp_path / "main.yaml").write_text("app: {port: 80}\n")
    (tmp_path / "confpy.toml").write_text(
        f'backend = "file"\nfile = "{tmp_path}/main.yaml"\n[mounts]\n'
        f'"/secrets" = {{ backend = "file", file = "{tmp_path}/none.yaml" }}\n"/env" = {{ backend = "env" }}\n'
    )
    write(tmp_path, pair("app", '{{ getv("/app/port") }} {{ getv("/secrets/x", "") }}', keys='["/app", "/secrets"]'))
    checked = check(str(tmp_path), {}, {}, connect=True)
    assert checked.answers == ["the store file answers", "the store env at /env answers"]
    (finding,) = checked.findings
    assert finding.message.startswith("the store file at /secrets: cannot read the file")
