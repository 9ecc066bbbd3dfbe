"""confpy as the first process of a container: it reaps, forwards, and ends as it should."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import termios
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e import running
from tests.e2e.running import Confpy
from tests.run_as_user import needs, refused
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.waiting import wait_until

PROXY = """\
defaults
    mode http
    timeout client 5s
    timeout connect 5s
    timeout server 5s
frontend web
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string "{{{{ getv("/generation") }}}}"
"""
RELOAD = """\
if [ -e {folder}/pid ]
then kill -USR2 $(cat {folder}/pid)
else haproxy -W -D -p {folder}/pid -f {folder}/proxy.cfg
fi
(sleep 0.01 &)
"""
"""Starts HAProxy the first time, as a daemon: both it and the ``sleep`` are orphans from then on."""


@pytest.fixture
def _as_pid_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where confpy is started, it is PID 1 of a namespace with a /proc of its own, and has no terminal."""
    as_root = ["--map-root-user"] if os.geteuid() else []
    apart = [find("setsid"), find("unshare"), *as_root, "--pid", "--fork", "--kill-child", "--mount-proc"]
    needs(refused(*apart, "true"))
    plain = running.command
    monkeypatch.setattr(running, "command", lambda *flags: [*apart, *plain(*flags)])


pytestmark = pytest.mark.usefixtures("_as_pid_1")


class Container(Confpy):
    """A confpy that is PID 1, with one resource over ``/generation``."""

    def __init__(self, folder: Path, template: str, resource: str, more: Mapping[str, str] | None = None) -> None:
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        (folder / "templates/t.j2").write_text(template)
        (folder / "conf.d/web.toml").write_text(
            f'[template]\nsrc = "t.j2"\ndest = "{folder}/proxy.cfg"\nkeys = ["/generation"]\n{resource}\n'
        )
        self._keys = folder / "keys.json"
        self.put(0)
        watching = ("-watch", "-backend", "file", "-file", str(self._keys))
        super().__init__(*watching, "-settle", "0s", "-confdir", str(folder), folder=folder, more=more)

    def put(self, generation: int) -> None:
        staged = self._keys.with_suffix(".new")
        staged.write_text(json.dumps({"generation": str(generation)}))
        staged.rename(self._keys)

    @property
    def first(self) -> int:
        """The number that its PID 1 has outside."""
        return children(self.process.pid)[0]

    @property
    def worker(self) -> int:
        """The number outside of the confpy that does the work."""
        return next(child for child in children(self.first) if b"confpy" in Path(f"/proc/{child}/cmdline").read_bytes())

    def zombies(self) -> list[str]:
        found = [stat.read_text() for stat in Path(f"/proc/{self.first}/root/proc").glob("[0-9]*/stat")]
        return [stat for stat in found if stat.rpartition(")")[2].split()[0] == "Z"]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send its PID 1 a signal; return its exit code, and the seconds that it took."""
        began = time.monotonic()
        os.kill(self.first, number)
        return self.process.wait(20), time.monotonic() - began

    def stop(self) -> int:
        with contextlib.suppress(OSError, IndexError):  # it has ended
            os.kill(self.first, signal.SIGTERM)
        return super().stop()


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def served(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


def test_a_hundred_reloads_of_haproxy_leave_no_zombie(tmp_path):
    port = free_port()
    check = f'check_cmd = "{find("haproxy")} -c -f {{{{.src}}}}"\n'
    reload = f"reload_cmd = '''\n{RELOAD.format(folder=tmp_path)}'''\n"
    with Container(tmp_path, PROXY.format(port=port), check + reload) as confpy:
        for generation in range(1, 101):
            confpy.says("resource.changed", reloaded=True, resource="web")
            confpy.put(generation)
        confpy.says("resource.changed", reloaded=True, resource="web")
        wait_until(lambda: served(port) == "100", seconds=60, what="HAProxy has the last configuration")
        wait_until(lambda: not confpy.zombies(), what="no zombies")
        assert [event for event in confpy.events if event["level"] in {"error", "warning"}] == []
        code, took = confpy.end()
        assert (code, took < 10) == (0, True)


def test_a_reload_that_hangs_and_will_not_end_does_not_hold_up_the_end(tmp_path):
    hanging = f"trap '' TERM; touch {tmp_path}/begun; while :; do sleep 1; done"
    with Container(tmp_path, "a", f'reload_cmd = "{hanging}"') as confpy:
        wait_until((tmp_path / "begun").exists, what="the reload has begun")
        code, took = confpy.end()
        assert (code, took < 10) == (143, True)
        assert confpy.says("reload.owed")["resource"] == "web"


def test_the_exit_code_of_a_reload_that_leaves_orphans_is_its_own(tmp_path):
    orphans = "for i in 1 2 3 4 5; do (sleep 0.0$i &); done; exit 7"
    with Container(tmp_path, "a", f'reload_cmd = "{orphans}"') as confpy:
        for _ in range(2):  # logged at the first try and at the fourth
            assert "exited with 7" in confpy.says("reload.failed")["error"]
        wait_until(lambda: not confpy.zombies(), what="no zombies")


def test_signals_go_on_to_the_confpy_that_works(tmp_path):
    with Container(tmp_path, "a", "") as confpy:
        confpy.says("resource.changed")
        os.kill(confpy.first, signal.SIGHUP)
        assert confpy.says("signal.received")["signal"] == "SIGHUP"
        assert confpy.end(signal.SIGINT)[0] == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGQUIT"])
def test_the_stop_signals_of_images_stop_it_as_asked(tmp_path, name):
    with Container(tmp_path, "a", "") as confpy:
        confpy.says("resource.changed")
        assert confpy.end(getattr(signal, name))[0] == 0
        assert confpy.says("signal.received")["signal"] == name


def test_a_resized_window_stops_it_where_there_is_no_terminal(tmp_path):
    with Container(tmp_path, "a", "") as confpy:
        confpy.says("resource.changed")
        assert confpy.end(signal.SIGWINCH)[0] == 0
        confpy.says("signal.received")


def test_a_resized_window_stops_nobody_who_has_a_terminal(tmp_path, monkeypatch):
    terminal, its_end = os.openpty()
    take = f"import os, sys; os.open({os.ttyname(its_end)!r}, os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"
    apart = running.command

    def command(*flags: str) -> list[str]:
        setsid, *rest = apart(*flags)
        return [setsid, sys.executable, "-c", take, *rest]

    monkeypatch.setattr(running, "command", command)
    try:
        with Container(tmp_path, "a{{ getv('/generation') }}", "") as confpy:
            confpy.says("resource.changed")
            termios.tcsetwinsize(its_end, (24, 80))
            termios.tcsetwinsize(its_end, (50, 100))
            confpy.put(1)
            confpy.says("resource.changed")
            assert not [event for event in confpy.events if event["event"] == "signal.received"]
            assert confpy.end()[0] == 0
    finally:
        os.close(terminal)
        os.close(its_end)


EARLY = """\
import os, signal, sys

def hook(event, arguments):
    if event == "import" and arguments[0] == "{module}":
        os.kill(1, signal.{signal})

sys.addaudithook(hook)
"""
"""A ``sitecustomize`` of a Python that signals PID 1 when it begins to import a module."""


@pytest.mark.parametrize("module", ["confpy.daemon.pid1", "confpy.cli", "confpy.daemon.daemon"])
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGUSR1", "SIGWINCH"])
def test_a_signal_while_it_starts_up_is_not_lost(tmp_path, module, name):
    (tmp_path / "early").mkdir()
    (tmp_path / "early/sitecustomize.py").write_text(EARLY.format(module=module, signal=name))
    with Container(tmp_path, "a", "", {"PYTHONPATH": f"{tmp_path}/early:{running.ROOT}"}) as confpy:
        confpy.says("signal.received", signal="SIGTERM" if name == "SIGWINCH" else name)
        if name == "SIGHUP":
            confpy.says("resource.changed")
            assert confpy.end()[0] == 0
        else:
            assert confpy.process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2])
def test_a_confpy_that_a_signal_ended_ends_with_its_number(tmp_path, number):
    with Container(tmp_path, "a", "") as confpy:
        confpy.says("resource.changed")
        os.kill(confpy.worker, number)
        assert confpy.process.wait(20) == 128 + number


def test_a_one_shot_ends_with_its_own_code(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/web.toml").write_text('[template]\nsrc = "t.j2"\n')
    ended = running.run_once("-backend", "env", "-confdir", str(tmp_path), folder=tmp_path)
    assert ended.code == 2
    ended.find("resource.invalid")
