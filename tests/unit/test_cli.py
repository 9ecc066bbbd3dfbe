from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given, strategies

from confpy import __version__, cli, commands
from confpy.commands import COMMANDS
from confpy.commands.flags import FLAGS, SEE, parse
from confpy.commands.help import describe, introduction
from confpy.commands.stdout import write
from confpy.config.settings import OPTIONS
from confpy.config.sources import load_settings
from confpy.errors import StoreError, UsageError


def flags_of(args):
    """The flags of a command line, by setting."""
    return parse(cli.spell(args).flags)


def settings_of(line):
    """The settings that a command line makes, without a file or variables."""
    return load_settings({"config_file": "/nowhere", **flags_of(shlex.split(line))}, {})[0]


@pytest.fixture
def daemon(monkeypatch):
    """What the command line hands to the daemon; ``daemon.ends`` is what the daemon does then."""
    found = types.SimpleNamespace(ends=lambda: 0)

    def run(settings, warnings):
        found.settings, found.warnings = settings, warnings
        return found.ends()

    monkeypatch.setitem(sys.modules, "confpy.daemon.daemon", types.SimpleNamespace(run=run))
    for name in [name for name in os.environ if name.startswith(("CONFPY_", "CONFD_"))]:
        monkeypatch.delenv(name)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "-onetime -backend env -interval 5 -node a -node b",
        "--onetime --backend env --interval 5 --node a --node b",
        "-onetime=true -backend=env -interval=5s -node=a -node=b",
        "--onetime=T --backend=env --interval=5000ms -node a,b",
        "-watch=false -onetime -interval 9 -interval 5 -backend env -node=a,b",
    ],
)
def test_one_dash_or_two_a_space_or_an_equals_sign_mean_the_same(line):
    settings = settings_of(line)
    assert (settings.onetime, settings.watch, settings.backend) == (True, False, "env")
    assert (settings.interval, settings.nodes) == (5, ("a", "b"))


@pytest.mark.parametrize("spelling", ["1", "t", "T", "TRUE", "true", "True"])
def test_gos_spellings_of_true(spelling):
    assert settings_of(f"-watch={spelling}").watch is True


@pytest.mark.parametrize("spelling", ["0", "f", "F", "FALSE", "false", "False"])
def test_gos_spellings_of_false(spelling):
    assert settings_of(f"-watch={spelling} -noop={spelling}").noop is False


def test_the_value_of_a_flag_is_taken_whatever_it_looks_like():
    assert settings_of("-prefix -watch -onetime").prefix == "-watch"
    assert settings_of("-prefix --  -onetime").onetime is True
    assert settings_of("-prefix=a=b").prefix == "a=b"
    assert flags_of(["-prefix=", "-onetime"]) == {"prefix": "", "onetime": "true"}


def test_each_flag_of_the_table_reaches_its_setting():
    for option in OPTIONS:
        word = option.kind.metavar.split("|")[-1]
        assert flags_of([f"-{option.flag}=x{word}"]) == {option.name: f"x{word}"}


def test_every_flag_of_confd_that_is_no_login_is_known():
    flags = """
        backend confdir config-file node interval watch onetime noop sync-only keep-stage-file prefix log-level scheme
        client-cert client-key client-ca-keys client-insecure file filter
    """
    for flag in flags.split():
        assert flag in FLAGS


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("-intervall 5", "unknown flag -intervall", "did you mean -interval?"),
        ("--one-time", "unknown flag -one-time", "did you mean -onetime?"),
        ("-zzz", "unknown flag -zzz", SEE),
        ("-interval", "flag -interval needs a value", SEE),
        (
            "-watch false",
            "unexpected argument 'false'",
            "values of flags that are true or false are written as in -watch=false",
        ),
        ("-onetime deliver", "unexpected argument 'deliver'", SEE),
        ("---watch", "unexpected argument '---watch'", SEE),
        ("-", "unexpected argument '-'", SEE),
        ("''", "unexpected argument ''", SEE),
        ("-=x", "unexpected argument '-=x'", SEE),
        ("-watch=maybe", "flag -watch is not true or false: 'maybe'", ""),
        ("-interval soon", "flag -interval is not a duration", ""),
        ("-log-level loud", "flag -log-level: 'loud' is not one of debug", ""),
    ],
)
def test_bad_input_is_one_line_and_code_2(daemon, capfd, line, error, hint):
    code = cli.main([*shlex.split(line), "-log-format=json"] if not error.endswith("value") else shlex.split(line))
    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    if err.startswith("{"):
        logged = json.loads(err)
        assert logged["error"].startswith(error)
        assert logged.get("hint", "") == hint
    else:
        assert error in err
    assert not hasattr(daemon, "settings")


def test_a_broken_settings_file_is_one_line_and_code_2(daemon, capfd, tmp_path):
    (tmp_path / "confpy.toml").write_text("a = = 1\n")
    assert cli.main(["-confdir", str(tmp_path)]) == 2
    err = capfd.readouterr().err
    assert re.fullmatch(
        rf'\S+ error confpy\.failed error="the file is not valid TOML: .*" file={tmp_path}/confpy.toml line=1\n', err
    )


def test_the_daemon_gets_settings_and_warnings_and_its_code_is_ours(daemon, capfd, tmp_path):
    (tmp_path / "confpy.toml").write_text("verbose = true\n")
    daemon.ends = lambda: 5
    assert cli.main(["-confdir", str(tmp_path), "-onetime"]) == 5
    assert (daemon.settings.onetime, daemon.settings.confdir) == (True, str(tmp_path))
    assert [warning.where["key"] for warning in daemon.warnings] == ["verbose"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [StoreError("etcd is down"), UsageError("wrong")])
def test_an_error_that_ends_the_daemon_is_one_line_and_its_code(daemon, capfd, error):
    def fail():
        raise error

    daemon.ends = fail
    assert cli.main(["-onetime", "-log-format=json"]) == error.exit_code
    err = capfd.readouterr().err
    assert json.loads(err)["error"] == error.message


def test_an_interrupt_before_anything_runs_ends_with_130(daemon, capfd):
    def interrupt():
        raise KeyboardInterrupt

    daemon.ends = interrupt
    assert cli.main(["-onetime"]) == 130
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("flag", ["-version", "--version"])
def test_the_version_goes_to_stdout(capfd, flag):
    assert cli.main([flag]) == 0
    assert capfd.readouterr() == (f"confpy {__version__}\n", "")


@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
def test_help_goes_to_stdout_and_shows_each_flag_with_default_and_variable(capfd, flag):
    assert cli.main([flag]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    words = " ".join(out.split())
    for option in OPTIONS:
        assert " ".join(" -".join(describe(option)).replace(" -" + option.help, " " + option.help).split()) in words
    assert all(len(line) <= 110 for line in out.splitlines())


def test_the_command_lines_that_help_shows_are_valid():
    lines = [line.strip() for line in introduction().splitlines() if line.startswith("  confpy ")]
    assert len(lines) == 3 + len(COMMANDS)
    shown = [cli.spell(re.sub(r"[][]", "", line).split()[1:]) for line in lines]
    assert {line.command for line in shown} == {"", *COMMANDS}
    assert all(line.command or load_settings(parse(line.flags), {}) for line in shown)


@pytest.mark.parametrize(
    ("line", "command", "arguments", "flags"),
    [
        ("accept web -confdir /srv", "accept", ("web",), {"confdir": "/srv"}),
        ("-confdir /srv accept web", "accept", ("web",), {"confdir": "/srv"}),
        ("-log-level debug accept -confdir=/srv web", "accept", ("web",), {"confdir": "/srv", "log_level": "debug"}),
        ("-verify -backend env convert a b", "convert", ("a", "b"), {"backend": "env"}),
        ("convert a -verify b -backend env", "convert", ("a", "b"), {"backend": "env"}),
        ("etcd accept etcd", "accept", ("etcd",), {"store": "etcd"}),
        ("accept accept", "accept", ("accept",), {}),
        ("-prefix accept -onetime", "", (), {"prefix": "accept", "onetime": "true"}),
    ],
)
def test_a_command_counts_wherever_it_stands_among_flags(line, command, arguments, flags):
    found = cli.spell(shlex.split(line))
    assert (found.command, found.arguments, parse(found.flags)) == (command, arguments, flags)
    assert found.switches == ({"verify"} if "-verify" in line else set())


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("help", "Usage: confpy [COMMAND] [flags]"),
        ("-log-level debug help", "Usage: confpy [COMMAND] [flags]"),
        ("-onetime -h", "Usage: confpy [COMMAND] [flags]"),
        ("convert --help", "Usage: confpy convert SRC [DEST] [-verify] [flags]"),
        ("help convert", "Usage: confpy convert SRC [DEST] [-verify] [flags]"),
        ("accept -h", "Usage: confpy accept RESOURCE [flags]"),
        ("-confdir /srv accept web -help", "Usage: confpy accept RESOURCE [flags]"),
        ("version", f"confpy {__version__}"),
        ("-watch version", f"confpy {__version__}"),
    ],
)
def test_words_of_help_go_to_stdout_and_nothing_is_run(daemon, capfd, line, shown):
    assert cli.main(shlex.split(line)) == 0
    out, err = capfd.readouterr()
    assert (out.splitlines()[0], err) == (shown, "")
    assert not hasattr(daemon, "settings")


@pytest.mark.parametrize("command", [name for name, one in COMMANDS.items() if one.help])
def test_each_command_has_a_help_that_shows_its_own_flags(daemon, capfd, command):
    assert cli.main(["help", command]) == 0
    out, err = capfd.readouterr()
    usage = COMMANDS[command].usage
    assert err == ""
    assert " ".join(out.split()).startswith(f"Usage: confpy {usage}")
    assert all(f"-{flag.name}" in out for flag in COMMANDS[command].flags)
    assert COMMANDS[command].summary in introduction()


def test_text_of_any_bytes_is_written_to_stdout_as_these_bytes(capfdbinary):
    write("name\udcff\n")
    assert capfdbinary.readouterr().out == b"name\xff\n"


def test_each_command_is_a_module_that_is_loaded_when_it_is_called():
    files = {path.stem for path in Path(commands.__file__).parent.glob("*.py")} - {
        "__init__",
        "asking",
        "authoring",
        "entry",
        "flags",
        "init_files",
        "status_diff",
        "status_text",
        "stdout",
    }
    assert files == {"run", *COMMANDS}
    code = "import sys, confpy.cli; print(*[name for name in sys.modules if name.startswith('confpy.commands.')])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["confpy.commands.flags"]


def test_help_on_a_command_shows_command_lines_that_are_valid():
    for command in COMMANDS.values():
        for line in command.help.splitlines():
            if line.startswith("  confpy "):
                found = cli.spell(shlex.split(line)[1:])
                assert found.command
                assert load_settings(parse(found.flags), {})


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("accept", "confpy accept needs the name of one resource", "confpy accept RESOURCE [flags]"),
        ("accept a b", "confpy accept needs the name of one resource", "confpy accept RESOURCE [flags]"),
        (
            "-confdir /srv convert",
            "confpy convert needs what to convert, and at most where to",
            "confpy convert SRC [DEST] [-verify] [flags]",
        ),
        ("version 2", "confpy version takes no arguments", "confpy version [-all] [-json]"),
        ("help nobody", "there is no command 'nobody'", "confpy help [COMMAND]"),
        ("help accept convert", "confpy help is about one command, or all", "confpy help [COMMAND]"),
        ("conver a", "unexpected argument 'conver'", "did you mean convert?"),
        ("-onetime -verify", "unknown flag -verify", "it is a flag of confpy convert"),
        ("accept web -- true", "unexpected argument '--'", SEE),
        ("convert a -exec true", "unexpected argument '-exec'", SEE),
        ("-onetime --", "-- needs a command", SEE),
        ("-onetime -exec", "-exec needs a command", SEE),
    ],
)
def test_a_command_that_is_written_otherwise_says_how_it_is_written(capfd, line, error, hint):
    assert cli.main(shlex.split(line)) == 2
    out, err = capfd.readouterr()
    logged = re.findall(r'(?:error|hint)="([^"]*)"', err)
    assert (out, logged) == ("", [error, hint])


def test_a_daemon_without_any_confdir_says_what_to_type(daemon, capfd, monkeypatch, tmp_path):
    monkeypatch.setattr("confpy.config.sources.CONFDIRS", (f"{tmp_path}/confpy", f"{tmp_path}/confd"))
    for arguments in ([], ["-watch", "-backend", "env"]):
        assert cli.main([*arguments, "-log-format=json"]) == 2
        logged = json.loads(capfd.readouterr().err)
        assert logged["error"].startswith("there is no confdir: none is named")
        assert logged["hint"].startswith("confpy init haproxy DIR ")
    assert not hasattr(daemon, "settings")
    assert cli.main(["-confdir", f"{tmp_path}/gone"]) == 0
    assert daemon.settings.confdir == f"{tmp_path}/gone"
    del daemon.settings
    (tmp_path / "confd").mkdir()
    assert cli.main([]) == 0
    assert daemon.settings.confdir == f"{tmp_path}/confd"


def test_a_report_of_a_daemon_is_refused(daemon, capfd, monkeypatch, tmp_path):
    flags = ["-confdir", str(tmp_path), "-log-format=json"]
    assert cli.main([*flags, "-report", "x"]) == 2
    logged = json.loads(capfd.readouterr().err)
    assert (logged["error"], logged["hint"]) == ("flag -report: only a one-shot makes a report", "add -onetime")
    assert not hasattr(daemon, "settings")
    assert cli.main([*flags, "-report", "x", "-onetime"]) == 0
    assert daemon.settings.report == "x"


@pytest.mark.parametrize("flag", ["-help", "-version"])
def test_a_stdout_that_takes_nothing_is_one_line_without_a_traceback(flag):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "confpy", flag],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot write to stdout: No space left on device" in done.stderr


@given(strategies.lists(strategies.text(strategies.characters(exclude_characters="\0"), max_size=12), max_size=4))
def test_no_arguments_whatever_they_are_end_in_anything_but_a_usage_error(arguments):
    try:
        line = cli.spell(arguments)
        given = parse(line.flags)
        assert cli.called(line)[0] in {"run", *COMMANDS}
    except UsageError as error:
        given = error.fields()
    assert all(isinstance(name, str) for name in given)


@pytest.mark.usefixtures("unmeasured")
def test_help_and_errors_load_neither_the_daemon_nor_a_template_engine():
    code = (
        "import sys, confpy.cli as cli; cli.main(['-help']); "
        "sys.exit(' '.join(m for m in ('jinja2', 'confpy.daemon.daemon', 'structlog', 'tomllib') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30)
    assert done.stderr.strip() == ""


def test_bad_input_to_the_real_command_has_no_traceback():
    for arguments in (["-interval", "abc"], ["-bogus"], ["\udc80"], ["-log-level", "\udc80"]):
        done = subprocess.run(
            [sys.executable, "-m", "confpy", *arguments], check=False, capture_output=True, text=True, timeout=30
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "Traceback" not in done.stderr


def test_a_wrong_flag_is_told_of_in_the_form_that_the_environment_asks_for(daemon, monkeypatch, capfd):
    monkeypatch.setenv("CONFPY_LOG_FORMAT", "json")
    assert cli.main(["-bogus"]) == 2
    assert json.loads(capfd.readouterr().err)["error"] == "unknown flag -bogus"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--exec", "haproxy", "-W", "-f", "/a b", ""], ("haproxy", "-W", "-f", "/a b", "")),
        (["--", "haproxy", "-watch", "--", "-exec"], ("haproxy", "-watch", "--", "-exec")),
        (["-exec", "haproxy -W -f '/a b'"], ("haproxy", "-W", "-f", "/a b")),
        (["-exec=haproxy -W"], ("haproxy", "-W")),
    ],
)
def test_what_follows_exec_is_a_program_with_its_arguments(daemon, words, expected):
    assert cli.main(["-onetime", "-backend", "env", *words]) == 0
    assert daemon.settings.exec == expected


def test_a_program_is_not_run_where_nothing_is_delivered(daemon, capfd):
    assert cli.main(["-onetime", "-noop", "-log-format=json", "--exec", "true"]) == 2
    assert json.loads(capfd.readouterr().err)["error"] == "flag -exec: with -noop there are no new files to run it on"
    assert not hasattr(daemon, "settings")
