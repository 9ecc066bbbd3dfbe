"""confpy status and confpy reload beside a daemon with a real etcd and a real HAProxy."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.running import Confpy, command, environment
from tests.waiting import wait_until

TEMPLATE = """\
global
    maxconn 100
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
listen web
    bind {folder}/web.sock
{{% for pair in gets("/web/*") %}}    server {{{{ pair.key|base }}}} {{{{ pair.value }}}}
{{% endfor %}}"""


def ask(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command about the confpy of a folder, unless it names another one: more may run on this machine."""
    if "-confdir" not in words:
        words = (*words, "-confdir", str(folder))
    return anywhere(folder, *words)


def anywhere(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [arg for arg in command(*words) if arg not in {"-log-format", "json"}],
        cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def status(folder: Path) -> dict:
    done = ask(folder, "status", "-json")
    assert done.returncode in {0, 11}, done.stderr
    return json.loads(done.stdout)


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def confdir(tmp_path):
    write(tmp_path, "templates/haproxy.cfg.j2", TEMPLATE.format(folder=tmp_path))
    write(
        tmp_path,
        "conf.d/haproxy.toml",
        f"""\
[template]
src = "haproxy.cfg.j2"
dest = "{tmp_path}/haproxy.cfg"
keys = ["/web"]
check_cmd = "haproxy -c -f {{{{.src}}}}"
reload_cmd = "test -e {tmp_path}/works"
""",
    )
    (tmp_path / "works").touch()
    return tmp_path


def flags(folder: Path, etcd) -> list[str]:
    return ["-watch", "-confdir", str(folder), "-backend", "etcdv3", "-node", etcd.endpoint]


def test_status_tells_the_truth_from_the_start_through_a_bad_value_an_owed_reload_and_a_store_that_is_frozen(
    confdir, etcd
):
    etcd.put("/web/a", "127.0.0.1:81")
    with Confpy(*flags(confdir, etcd), folder=confdir) as confpy:
        ready = confpy.says("confpy.ready")
        assert ready["resources"] == 1
        wait_until(lambda: ask(confdir, "status").returncode == 0, what="it is well")
        (socket,) = (confdir / "run").iterdir()
        assert stat.S_IMODE(socket.lstat().st_mode) == 0o600
        found = status(confdir)
        assert (found["is_started"], found["is_well"], found["pid"]) == (True, True, confpy.process.pid)
        assert found["stores"][0]["is_up"]
        assert found["stores"][0]["node"] == etcd.endpoint
        assert etcd.endpoint in ask(confdir, "status").stdout

        etcd.put("/web/a", "this is no address")
        confpy.says("resource.failed")
        failed = ask(confdir, "status")
        assert failed.returncode == 11
        assert "the check exited with 1" in failed.stdout
        assert "no address" not in json.dumps(status(confdir)["resources"][0]["why"])

        (confdir / "works").unlink()
        etcd.put("/web/a", "127.0.0.1:82")
        confpy.says("target.committed", check="passed", changed="/web/a")
        confpy.says("reload.failed")
        (owed,) = wait_until(lambda: [one for one in status(confdir)["reloads"] if one["error"]], what="an owed reload")
        assert owed["resources"] == ["haproxy"]
        assert status(confdir)["resources"][0]["state"] == "owed"
        (confdir / "works").touch()
        done = ask(confdir, "reload", "-wait")
        assert (done.returncode, done.stderr) == (0, "")
        changed = confpy.says("resource.changed", reloaded=True)
        assert changed["old"] != changed["new"]
        assert ask(confdir, "status").returncode == 0


def test_reload_and_wait_exits_with_the_code_of_what_fails(confdir, etcd):
    etcd.put("/web/a", "127.0.0.1:81")
    with Confpy(*flags(confdir, etcd), folder=confdir) as confpy:
        confpy.says("confpy.ready")
        template = confdir / "templates" / "haproxy.cfg.j2"
        good = template.read_text()
        template.write_text(good + "{% if %}")
        done = ask(confdir, "reload", "-wait", "-confdir", str(confdir))
        assert done.returncode == 4
        assert "haproxy.cfg.j2" in done.stderr
        template.write_text(good + "nonsense\n")
        assert ask(confdir, "reload", "-wait").returncode == 5
        write(confdir, "conf.d/bad.toml", "[template]\nsrc = 5\n")
        assert ask(confdir, "reload", "-wait").returncode == 2
        (confdir / "conf.d" / "bad.toml").unlink()
        template.write_text(good)
        done = ask(confdir, "reload", "-wait")
        assert done.returncode == 0, done.stderr
        assert ask(confdir, "reload").returncode == 0


def test_a_frozen_daemon_and_one_that_is_not_there_have_codes_of_their_own(confdir, etcd):
    etcd.put("/web/a", "127.0.0.1:81")
    nobody = ask(confdir, "status", "-confdir", str(confdir))
    assert nobody.returncode == 12
    assert "no confpy with the confdir" in nobody.stderr
    with Confpy(*flags(confdir, etcd), folder=confdir) as confpy:
        confpy.says("confpy.ready")
        os.kill(confpy.process.pid, signal.SIGSTOP)
        try:
            assert ask(confdir, "status").returncode == 12
        finally:
            os.kill(confpy.process.pid, signal.SIGCONT)
        wait_until(lambda: ask(confdir, "status").returncode == 0, what="it is well")
    assert list((confdir / "run").iterdir()) == []


FREEZES = """\
import runpy, signal, sys
pipe = sys.argv[1]
signal.signal(signal.SIGRTMIN, lambda *_: open(pipe).close())
sys.argv = ["confpy", *sys.argv[5:]]
runpy.run_module("confpy", run_name="__main__")
"""
"""Runs confpy so that a signal stops its main thread alone, until somebody opens the pipe to write to it."""


def get(path: Path, target: str) -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


def test_a_main_thread_that_is_stuck_is_told_by_the_other_threads_and_so_is_that_it_goes_on(confdir, etcd):
    etcd.put("/web/a", "127.0.0.1:81")
    pipe, http = confdir / "pipe", confdir / "http.sock"
    os.mkfifo(pipe)
    by = (sys.executable, "-c", FREEZES, str(pipe))
    with Confpy(*flags(confdir, etcd), "-status-addr", f"unix:{http}", folder=confdir, by=by) as confpy:
        confpy.says("confpy.ready")
        wait_until(lambda: ask(confdir, "status").returncode == 0, what="it is well")
        assert get(http, "/healthz") == (200, "ok")
        os.kill(confpy.process.pid, signal.SIGRTMIN)
        try:
            # Nothing but that within ten seconds.
            wait_until(lambda: get(http, "/healthz")[0] == 503, seconds=10.0, what="/healthz is false")
            assert "the main thread of confpy has not answered" in get(http, "/healthz")[1]
            assert get(http, "/readyz")[0] == 503
            done = ask(confdir, "status")
            assert (done.returncode, done.stdout) == (11, "")
            assert "its main thread is stuck" in done.stderr
        finally:
            with open(pipe, "w"):
                pass
        wait_until(lambda: get(http, "/healthz")[0] == 200, what="/healthz is true again")
        wait_until(lambda: ask(confdir, "status").returncode == 0, what="it is well")


class Shown:
    """A command about the confpy of a folder, on a terminal of its own."""

    def __init__(self, folder: Path, *words: str, **variables: str) -> None:
        line = [sys.executable, "-m", "confpy", *words, "-confdir", str(folder)]
        own = {**environment(folder), "TERM": "xterm", **variables}
        self.process, self._end = pty.fork()
        if not self.process:
            os.execve(line[0], line, own)
        self.text = ""

    def shows(self, text: str) -> None:
        """Wait until it shows a text, from now on."""
        self.text = ""
        while text not in self.text:
            assert select.select([self._end], [], [], 30.0)[0], f"no {text!r} in {self.text!r}"
            self.text += os.read(self._end, 1 << 16).decode()

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self._end)


def test_on_a_terminal_states_have_colours_and_with_no_color_or_in_a_pipe_they_have_none(confdir, etcd):
    etcd.put("/web/a", "127.0.0.1:81")
    with Confpy(*flags(confdir, etcd), folder=confdir) as confpy:
        confpy.says("confpy.ready")
        wait_until(lambda: ask(confdir, "status").returncode == 0, what="it is well")
        with Shown(confdir, "status") as shown:
            shown.shows("\x1b[32mcurrent")
            assert "\x1b[32mwell\x1b[0m, started" in shown.text
        with Shown(confdir, "status", NO_COLOR="1") as shown:
            shown.shows("current")
            assert "\x1b" not in shown.text
        assert "\x1b" not in ask(confdir, "status").stdout
        (confdir / "works").unlink()
        etcd.put("/web/a", "127.0.0.1:82")
        confpy.says("reload.failed")
        with Shown(confdir, "status") as shown:
            shown.shows("\x1b[33mowed")
            assert "\x1b[31mnot well\x1b[0m" in shown.text


def test_on_a_terminal_watch_shows_each_state_in_its_place_until_it_is_interrupted(confdir, etcd):
    etcd.put("/web/a", "127.0.0.1:81")
    with Confpy(*flags(confdir, etcd), folder=confdir) as confpy:
        confpy.says("confpy.ready")
        wait_until(lambda: ask(confdir, "status").returncode == 0, what="it is well")
        with Shown(confdir, "status", "-watch") as shown:
            shown.shows("\x1b[H\x1b[J")
            shown.shows("current")
            (confdir / "works").unlink()
            etcd.put("/web/a", "127.0.0.1:82")
            shown.shows("owed")
            (confdir / "works").touch()
            shown.shows("current")
            shown.type("\x03")
            wait_until(lambda: has_ended(shown.process), what="^C ends it")
            assert "Traceback" not in shown.text


def has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_in_a_pipe_watch_prints_what_has_changed_and_ends_with_code_12_when_confpy_has_gone(confdir, etcd):
    etcd.put("/web/a", "127.0.0.1:81")
    with Confpy(*flags(confdir, etcd), folder=confdir) as confpy:
        confpy.says("confpy.ready")
        wait_until(lambda: ask(confdir, "status").returncode == 0, what="it is well")
        line = [sys.executable, "-m", "confpy", "status", "-watch", "-json", "-confdir", str(confdir)]
        watching = subprocess.Popen(line, env=environment(confdir), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        etcd.put("/web/a", "127.0.0.1:82")
        while True:
            found = json.loads(watching.stdout.readline())
            if found["totals"]["commits"] == first["totals"]["commits"] + 1:
                break
    _, error = watching.communicate(timeout=60)
    assert watching.returncode == 12, error
    assert b"Traceback" not in error


def test_several_daemons_are_listed_and_one_that_was_killed_is_none(confdir, etcd):
    etcd.put("/web/a", "127.0.0.1:81")
    other = confdir / "other"
    write(other, "templates/t.j2", "{{ getv('/web/a') }}")
    write(other, "conf.d/t.toml", f'[template]\nsrc = "t.j2"\ndest = "{other}/out"\nkeys = ["/web"]\n')
    with Confpy(*flags(confdir, etcd), folder=confdir) as first:
        first.says("confpy.ready")
        with Confpy(*flags(other, etcd), folder=confdir) as second:
            second.says("confpy.ready")
            done = anywhere(confdir, "status")
            assert done.returncode == 2
            assert f"-confdir {other}" in done.stderr
            assert ask(confdir, "status", "-confdir", str(other)).returncode == 0
            second.process.kill()
            second.process.wait()
        assert ask(confdir, "status").returncode == 0
        with Confpy(*flags(other, etcd), folder=confdir) as again:
            again.says("confpy.ready")
            assert ask(confdir, "status", "-confdir", str(other)).returncode == 0


def test_the_story_of_one_change_can_be_read_from_the_log_alone(confdir, etcd):
    etcd.put("/web/a", "127.0.0.1:81")
    with Confpy(*flags(confdir, etcd), "-log-level", "debug", folder=confdir) as confpy:
        confpy.says("confpy.ready")
        wait_until(lambda: "stream.opened" in {one["event"] for one in confpy.events}, what="a stream")
        etcd.put("/web/b", "127.0.0.1:82")
        confpy.says("stream.changed", changed="/web/b")
        for event in ("delivery.started", "target.staged", "check.passed", "target.replaced", "delivery.ended",
                      "target.committed", "reload.started", "reload.ended", "resource.changed"):  # fmt: skip
            confpy.says(event)
        names = {event["event"] for event in confpy.events}
        assert {"resources.read", "lookup.asked", "lookup.answered", "read.started", "read.ended"} <= names
        assert "127.0.0.1:82" not in json.dumps(confpy.events)
