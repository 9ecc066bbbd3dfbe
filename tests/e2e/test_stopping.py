"""What a daemon leaves behind when it has to stop in the middle of something."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e import running
from tests.e2e.running import ROOT, Confpy, environment
from tests.waiting import wait_until

TRAP = "trap 'echo tidied up > {0}/trapped; exit 0' TERM; touch {0}/begun; sleep 99 & wait"
"""A command that hangs, and that ends well when it is asked to end."""
EARLY = """\
import os, signal, sys

def hook(event, arguments):
    if event == "import" and arguments[0] == "{module}":
        os.kill(os.getpid(), signal.{signal})

sys.addaudithook(hook)
"""
"""A ``sitecustomize`` of a Python that gets a signal when it begins to import a module."""


def confpy(folder: Path, command: str = "", *flags: str, more: Mapping[str, str] | None = None) -> Confpy:
    """Start a confpy whose only resource has this command."""
    for name in ("conf.d", "templates", "out"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "templates/t.j2").write_text("new")
    (folder / "conf.d/web.toml").write_text(f'[template]\nsrc = "t.j2"\ndest = "{folder}/out/web"\n{command}\n')
    flags = ("-backend", "env", "-confdir", str(folder), "-stop-timeout", "300ms", *flags)
    return Confpy(*flags, folder=folder, more=more)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_check_that_is_killed_leaves_no_candidate(tmp_path, signals):
    begun = tmp_path / "begun"
    with confpy(tmp_path, f'check_cmd = "touch {begun}; sleep 99 # {{{{.src}}}}"') as running:
        wait_until(begun.exists, what="the check has begun")
        for _ in range(signals):
            running.process.terminate()
        assert running.process.wait(5) == 143
    assert list((tmp_path / "out").iterdir()) == []


def test_a_reload_that_is_killed_is_told_of_as_owed(tmp_path):
    begun = tmp_path / "begun"
    with confpy(tmp_path, f'reload_cmd = "touch {begun}; sleep 99"') as running:
        wait_until(begun.exists, what="the reload has begun")
        assert running.stop() == 143
        assert running.says("reload.owed")["resource"] == "web"


def test_what_was_blocked_or_ignored_before_it_began_changes_neither_its_end_nor_its_exit_codes(tmp_path, monkeypatch):
    blocking = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    plain = running.command
    monkeypatch.setattr(running, "command", lambda *flags: [sys.executable, "-c", blocking, *plain(*flags)])
    with confpy(tmp_path, 'reload_cmd = "exit 3"') as started:
        assert "exited with 3" in started.says("reload.failed")["error"]
        assert started.stop() == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGQUIT"])
def test_each_signal_to_stop_lets_the_reload_in_hand_end_and_is_no_failure(tmp_path, name):
    reload = f'reload_cmd = "touch {tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; touch done"'
    with confpy(tmp_path, reload, "-stop-timeout", "60s") as running:
        wait_until((tmp_path / "begun").exists, what="the reload has begun")
        running.process.send_signal(getattr(signal, name))
        assert running.says("signal.received")["signal"] == name
        (tmp_path / "go").touch()
        assert running.process.wait(20) == 0
    assert (tmp_path / "done").exists()


def test_a_window_that_is_resized_stops_nobody_but_where_stop_signals_says_so(tmp_path):
    with confpy(tmp_path) as running:
        running.says("resource.changed")
        running.process.send_signal(signal.SIGWINCH)
        running.process.send_signal(signal.SIGHUP)
        assert running.says("signal.received")["signal"] == "SIGHUP"
        assert running.stop() == 0
        assert [event["signal"] for event in running.events if event["event"] == "signal.received"][1:] == ["SIGTERM"]
    flags = ("-backend", "env", "-confdir", str(tmp_path), "-stop-signals", "sigwinch,USR2")
    with Confpy(*flags, folder=tmp_path) as running:
        running.says("confpy.started")
        running.process.send_signal(signal.SIGWINCH)
        assert running.says("signal.received")["signal"] == "SIGWINCH"
        assert running.process.wait(20) == 0


def test_reloads_that_stay_owed_make_no_failure_of_the_end(tmp_path):
    with confpy(tmp_path, 'reload_cmd = "exit 3"') as running:
        running.says("reload.failed")
        assert running.stop() == 0
        assert running.says("reload.owed")["resource"] == "web"


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGQUIT", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("role", ["check_cmd", "reload_cmd", "verify_cmd"])
def test_a_command_that_the_stop_timeout_ends_is_asked_to_first(tmp_path, role, name, code):
    plain = 'reload_cmd = "true"\n' if role == "verify_cmd" else ""
    with confpy(tmp_path, f'{plain}{role} = """{TRAP.format(tmp_path)} # {{{{.src}}}}"""') as running:
        wait_until((tmp_path / "begun").exists, what="the command has begun")
        running.process.send_signal(getattr(signal, name))
        assert running.process.wait(20) == code
        if role != "check_cmd":
            assert running.says("reload.owed")["resource"] == "web"
    assert (tmp_path / "trapped").exists()
    # The trap's exit code is 0: that is no check that said yes.
    assert (tmp_path / "out/web").exists() is (role != "check_cmd")


def test_a_second_signal_asks_commands_to_end_and_a_third_kills_them(tmp_path):
    trap = f"trap 'touch {tmp_path}/trapped' TERM; touch {tmp_path}/begun; while :; do sleep 0.1; done"
    with confpy(tmp_path, f'reload_cmd = """{trap}"""', "-stop-timeout", "10m") as running:
        wait_until((tmp_path / "begun").exists, what="the reload has begun")
        running.process.terminate()
        running.says("signal.received")
        assert not (tmp_path / "trapped").exists()
        running.process.terminate()
        running.says("signal.received")
        wait_until((tmp_path / "trapped").exists, what="the trap has run")
        running.process.terminate()
        assert running.process.wait(20) == 143
        assert running.says("reload.owed")["resource"] == "web"


@pytest.mark.parametrize("role", ["check_cmd", "reload_cmd", "verify_cmd"])
def test_a_command_that_runs_out_of_its_own_time_is_asked_to_end_first(tmp_path, role):
    plain = 'reload_cmd = "true"\n' if role == "verify_cmd" else ""
    timeout = f"{'check' if role == 'check_cmd' else 'reload'}_cmd_timeout = '1s'\n"
    with confpy(tmp_path, f'{plain}{timeout}{role} = """{TRAP.format(tmp_path)} # {{{{.src}}}}"""') as running:
        failed = running.says("resource.failed" if role == "check_cmd" else "reload.failed")
        assert "did not end within its time" in failed["error"]
        assert (tmp_path / "trapped").exists()


def test_a_reload_that_is_cut_short_puts_no_old_file_back(tmp_path):
    reload = f'on_reload_failure = "rollback"\nreload_cmd = """{TRAP.format(tmp_path)}"""'
    (tmp_path / "out").mkdir()
    (tmp_path / "out/web").write_text("old")
    with confpy(tmp_path, reload) as running:
        wait_until((tmp_path / "begun").exists, what="the reload has begun")
        assert running.stop() == 143
        assert running.says("reload.owed")["resource"] == "web"
    assert (tmp_path / "out/web").read_text() == "new"


MODULES = ["confpy.cli", "confpy.config.sources", "confpy.daemon.daemon", "confpy.daemon.signals"]


@pytest.mark.parametrize("module", MODULES)
def test_a_hangup_while_it_starts_up_does_not_end_it(tmp_path, module):
    with confpy(tmp_path, more=early(tmp_path, module, "SIGHUP")) as running:
        assert running.says("signal.received")["signal"] == "SIGHUP"
        running.says("resource.changed")
        assert running.stop() == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGQUIT"])
@pytest.mark.parametrize("module", MODULES)
def test_a_signal_to_stop_while_it_starts_up_is_taken_as_any_other(tmp_path, module, name):
    with confpy(tmp_path, more=early(tmp_path, module, name)) as running:
        assert running.process.wait(30) == 0
        assert running.says("signal.received")["signal"] == name


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", -signal.SIGTERM), ("SIGINT", 130)])
def test_a_command_that_is_no_run_ends_at_a_signal_as_any_program_does(tmp_path, name, code):
    (tmp_path / "t.tmpl").write_text("a")
    ended = subprocess.run(
        [sys.executable, "-m", "confpy", "convert", str(tmp_path)],
        env=environment(tmp_path, early(tmp_path, "confpy.convert.main", name)),
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")


def early(folder: Path, module: str, name: str) -> dict[str, str]:
    """Return the environment of a confpy that gets a signal when it begins to import a module."""
    (folder / "early").mkdir()
    (folder / "early/sitecustomize.py").write_text(EARLY.format(module=module, signal=name))
    return {"PYTHONPATH": f"{folder}/early:{ROOT}"}


def test_a_confdir_whose_only_resource_is_broken_is_looked_at_again(tmp_path):
    with confpy(tmp_path, "mode = 5") as running:
        running.says("resource.invalid", resource="web")
        file = tmp_path / "conf.d/web.toml"
        file.write_text(file.read_text().replace("mode = 5", 'mode = "0600"'))
        running.says("resource.changed", resource="web")
