"""docs/exit-codes.md is what the real command does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from confpy import errors
from confpy.commands.diff import WOULD_CHANGE
from confpy.status.protocol import NO_DAEMON, NOT_WELL
from tests.waiting import wait_until

MANUAL = Path(__file__).parents[2] / "docs" / "exit-codes.md"
GOOD = {"src": "good.j2", "dest": "good.out", "keys": ["/good"]}


@pytest.fixture
def confdir(tmp_path):
    """A confdir with one resource that works."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "good.j2").write_text("{{ getv('/good') }}\n")
    write(tmp_path, "good")
    return tmp_path


def write(confdir, name, **changes):
    resource = {**GOOD, "dest": f"{confdir}/{name}.out", **changes}
    lines = [f"{key} = {str(value) if isinstance(value, list) else repr(value)}" for key, value in resource.items()]
    (confdir / "conf.d" / f"{name}.toml").write_text("\n".join(["[template]", *lines]))


def command(confdir, *arguments):
    return [sys.executable, "-m", "confpy", "-confdir", str(confdir), "-backend", "env", *arguments]


def run(confdir, *arguments):
    environment = {"PATH": os.environ["PATH"], "GOOD": "yes", "CONFPY_CACHE_DIR": f"{confdir}/cache"}
    done = subprocess.run(
        command(confdir, *arguments), check=False, capture_output=True, text=True, timeout=60, env=environment
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_the_manual_names_every_code_of_the_error_tree():
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in classes if issubclass(kind, errors.ConfpyError)}
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", MANUAL.read_text(), re.MULTILINE)}
    own = {0, WOULD_CHANGE, NOT_WELL, NO_DAEMON, 128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert documented == codes | own


@pytest.mark.parametrize("arguments", [(), ("-noop",), ("-sync-only",)])
def test_0_where_everything_is_done(confdir, arguments):
    code, lines = run(confdir, "-onetime", *arguments)
    assert (code, len(lines)) == (0, 1), lines
    assert (confdir / "good.out").exists() is ("-noop" not in arguments)


@pytest.mark.parametrize(
    ("changes", "code", "shown"),
    [
        ({"mode": "rw"}, 2, "mode is not a string of octal digits"),
        ({"src": "gone.j2"}, 4, "gone.j2"),
        ({"keys": ["/other"]}, 4, "/good"),
        ({"check_cmd": "echo no; exit 3 # {{.src}}"}, 5, "3"),
        ({"check_cmd": "sleep 60 # {{.src}}", "check_cmd_timeout": "100ms"}, 5, "check_cmd_timeout"),
        ({"output_format": "json"}, 5, "json"),
        ({"dest": "/nonexistent/folder/x"}, 6, "/nonexistent/folder"),
        ({"dest": "/tmp"}, 6, "/tmp"),
        ({"reload_cmd": "exit 3"}, 7, "3"),
        ({"reload_cmd": ["/nonexistent/command"]}, 7, "/nonexistent/command"),
    ],
)
def test_a_failure_has_its_code_and_its_line_and_leaves_the_others_unharmed(confdir, changes, code, shown):
    write(confdir, "bad", **changes)
    ended, lines = run(confdir, "-onetime")
    assert ended == code
    (line,) = [line for line in lines if " error " in line]
    assert "resource=bad" in line
    assert shown in line
    assert (confdir / "good.out").read_text() == "yes\n"


def test_the_smallest_code_counts_where_several_fail(confdir):
    write(confdir, "a", reload_cmd="exit 1")
    write(confdir, "b", check_cmd="exit 1 # {{.src}}")
    write(confdir, "c", dest="/nonexistent/folder/x")
    code, lines = run(confdir, "-onetime")
    assert code == 5
    *each, together = [line for line in lines if " error " in line]
    assert len(each) == 3
    assert "onetime.failed failures=3" in together
    assert [name for name in ("a: ", "b: ", "c: ") if name in together] == ["a: ", "b: ", "c: "]


def test_2_for_an_unknown_store_and_for_a_confdir_without_resources(confdir, tmp_path):
    assert run(confdir, "-onetime", "-backend", "etdc")[0] == 2
    assert run(tmp_path / "gone", "-onetime")[0] == 2
    (confdir / "conf.d" / "good.toml").unlink()
    assert run(confdir, "-onetime")[0] == 2
    code, (line,) = run(confdir, "-onetime", "-allow-empty")
    assert (code, "onetime.done resources=0 changed=0 unchanged=0 took=" in line) == (0, True)


@pytest.mark.parametrize("left", [["conf.d/good.toml"], ["conf.d/good.toml", "conf.d"]])
def test_0_for_an_empty_confdir_where_confpy_is_called_as_the_fork_is(confdir, left):
    for path in left:
        (confdir / path).unlink() if path.endswith("toml") else (confdir / path).rmdir()
    environment = {"PATH": os.environ["PATH"], "CONFPY_CACHE_DIR": f"{confdir}/cache"}
    for way, code in ((["env"], 0), (["-backend", "env"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "confpy", *way, "-onetime", "-confdir", str(confdir)],
            check=False, capture_output=True, text=True, timeout=60, env=environment,
        )  # fmt: skip
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_3_for_a_store_that_does_not_answer(confdir):
    node = f"http://127.0.0.1:{free_port()}"
    code, lines = run(confdir, "-onetime", "-backend", "etcdv3", "-node", node)
    assert code == 3
    assert any(node in line for line in lines)


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT]


def signalled(confdir, number, *arguments):
    """Return how a confpy ends that gets a signal as soon as its reload has begun."""
    environment = {"PATH": os.environ["PATH"], "GOOD": "yes", "CONFPY_CACHE_DIR": f"{confdir}/cache"}
    with subprocess.Popen(command(confdir, *arguments), stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            wait_until((confdir / "begun").exists, what="the reload has begun")
            process.send_signal(number)
            return process.wait(30)
        finally:
            process.kill()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_daemon_that_is_asked_to_stop_ends_with_0(confdir, number):
    write(confdir, "good", reload_cmd=f"touch {confdir}/begun; exit 1")
    assert signalled(confdir, number, "-watch") == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_daemon_that_has_to_kill_a_command_ends_with_130_or_143(confdir, number):
    write(confdir, "good", reload_cmd=f"touch {confdir}/begun; sleep 60")
    code = 130 if number == signal.SIGINT else 143
    assert signalled(confdir, number, "-watch", "-stop-timeout", "200ms") == code


@pytest.mark.parametrize("number", SIGNALS)
def test_a_one_shot_that_is_interrupted_ends_with_128_and_the_number(confdir, number):
    write(confdir, "good", reload_cmd=f"touch {confdir}/begun; sleep 0.5")
    assert signalled(confdir, number, "-onetime") == 128 + number
