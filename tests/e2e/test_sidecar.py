"""confpy as a sidecar: it renders first, then runs a program, reloads it, and ends with it (``-exec``)."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e import running
from tests.e2e.running import Confpy, environment, run_once
from tests.e2e.test_pid1 import PROXY, served
from tests.run_as_user import needs, refused
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.waiting import wait_until

NGINX = """\
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{{{{ getv("/generation") }}}}"; }} }}
}}
"""
APACHE = """\
ServerName localhost
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache2.pid
ErrorLog {folder}/error.log
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
Listen 127.0.0.1:{port}
RewriteEngine On
RewriteRule ^ - [R=404]
ErrorDocument 404 "{{{{ getv("/generation") }}}}"
"""


class Sidecar(Confpy):
    """A confpy that follows a file of keys and runs a program on the one target, ``out``."""

    others_write = True

    def __init__(self, folder: Path, template: str, resource: str, *words: str, **more: object) -> None:
        make_confdir(folder, template, resource)
        put(folder, 0)
        super().__init__(*flags(folder), *words, folder=folder, **more)  # type: ignore[arg-type]
        self.folder = folder

    def put(self, generation: int | str) -> None:
        put(self.folder, generation)

    @property
    def child(self) -> int:
        """The number of its program."""
        return wait_until(lambda: children(self.process.pid), what="its program runs")[0]


def make_confdir(folder: Path, template: str, resource: str) -> None:
    for name in ("conf.d", "templates"):
        (folder / name).mkdir()
    (folder / "templates/t.j2").write_text(template)
    (folder / "conf.d/web.toml").write_text(
        f'[template]\nsrc = "t.j2"\ndest = "{folder}/out"\nkeys = ["/generation"]\n{resource}\n'
    )


def put(folder: Path, generation: int | str) -> None:
    staged = folder / "keys.new"
    staged.write_text(json.dumps({"generation": str(generation)}))
    staged.rename(folder / "keys.json")


def flags(folder: Path) -> tuple[str, ...]:
    file = ("-backend", "file", "-file", str(folder / "keys.json"))
    return ("-watch", *file, "-settle", "0s", "-confdir", str(folder))


def children(process: int) -> list[int]:
    """Return the children of all threads of a process."""
    lists = [path.read_text().split() for path in Path(f"/proc/{process}/task").glob("*/children")]
    return [int(child) for found in lists for child in found]


def answered(port: int) -> str:
    """What a server says, whatever its status is."""
    try:
        return served(port)
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read().decode())
    except OSError:
        return ""


HAPROXY = ("haproxy", "-W", "-db", "-f", "{folder}/out")
PROGRAMS = {
    "haproxy": (PROXY, "USR2", HAPROXY, "USR1"),
    "nginx": (NGINX, "HUP", ("nginx", "-c", "{folder}/out", "-g", "daemon off;"), "QUIT"),
    "apache": (APACHE, "USR1", ("apache2", "-D", "FOREGROUND", "-f", "{folder}/out"), "WINCH"),
}
"""Template, signal to reload, command, and the signal of a graceful stop."""


@pytest.mark.parametrize("name", [*PROGRAMS])
def test_a_program_starts_on_its_first_file_follows_by_a_signal_and_stops_with_grace(tmp_path, name):
    template, reload, words, stop = PROGRAMS[name]
    port = free_port()
    command = [find(words[0]), *(word.format(folder=tmp_path) for word in words[1:])]
    template = template.format(folder=tmp_path, port=port)
    stops = ("-exec-stop-signal", stop, "-exec-stop-timeout", "60s")
    # A signal that comes while HAProxy executes itself anew may be lost: only a verifier sees that.
    resource = f'reload_signal = "{reload}"\nverify = "{name}"'
    with Sidecar(tmp_path, template, resource, *stops, "--exec", *command) as confpy:
        # The first render reloads nothing: there is nothing to reload yet.
        assert confpy.says("resource.changed")["reloaded"] is False
        confpy.says("exec.started")
        wait_until(lambda: answered(port) == "0", what="the first configuration is served")
        child = confpy.child
        for generation in range(1, 6):
            confpy.put(generation)
            assert confpy.says("resource.changed")["reloaded"] is True
        wait_until(lambda: answered(port) == "5", what="the last configuration is served")
        assert confpy.child == child
        confpy.process.terminate()
        assert confpy.process.wait(60) == 0
        assert confpy.says("exec.ended")["did"] == "has stopped as it was asked to"
    assert not Path(f"/proc/{child}").exists()
    assert answered(port) == ""


TRAPS = """\
for name in HUP USR2 WINCH RTMIN; do trap "echo $name >> {folder}/heard" $name; done
trap 'echo TERM >> {folder}/heard; exit {code}' TERM
trap 'echo USR1 >> {folder}/heard; exit {code}' USR1
{first}
echo ready >> {folder}/heard
while :; do sleep 0.05; done
"""


def traps(folder: Path, *, code: int = 0, first: str = "") -> tuple[str, ...]:
    return ("--exec", find("bash"), "-c", TRAPS.format(folder=folder, code=code, first=first))


def heard(folder: Path) -> list[str]:
    path = folder / "heard"
    return path.read_text().split() if path.exists() else []


def hears(folder: Path, *words: str) -> None:
    wait_until(lambda: heard(folder)[-len(words) :] == [*words], what=f"it hears {words}")


@pytest.mark.parametrize(("code", "exits"), [(0, 0), (3, 3), (143, 0), (138, 138)])
def test_asked_to_stop_it_ends_with_the_code_of_its_program(tmp_path, code, exits):
    with Sidecar(tmp_path, "a", "", *traps(tmp_path, code=code)) as confpy:
        hears(tmp_path, "ready")
        assert confpy.stop() == exits
        assert heard(tmp_path)[-1] == "TERM"


@pytest.mark.parametrize(
    ("end", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -SEGV $$", 139), ("kill -KILL $$", 137)]
)
def test_a_program_that_ends_unasked_ends_confpy_with_its_code(tmp_path, end, code):
    with Sidecar(tmp_path, "a", "", "--exec", "/bin/sh", "-c", end) as confpy:
        assert confpy.process.wait(20) == code
        ended = confpy.says("exec.ended")
        assert (ended["code"], ended["level"]) == (code, "error" if code else "warning")


def test_a_program_that_cannot_be_started_is_said_so_and_has_the_code_of_a_shell(tmp_path):
    with Sidecar(tmp_path, "a", "", "--exec", f"{tmp_path}/none") as confpy:
        assert confpy.process.wait(20) == 127
        assert confpy.says("exec.failed")["error"] == "the program cannot be started: No such file or directory"


def test_a_delivery_in_hand_ends_before_confpy_ends_with_its_program(tmp_path):
    slow = f"reload_cmd = 'touch {tmp_path}/begun; while [ ! -e {tmp_path}/never ]; do sleep 0.05; done'"
    waits = f"while [ ! -e {tmp_path}/begun ]; do sleep 0.05; done; exit 4"
    with Sidecar(tmp_path, "{{ getv('/generation') }}", slow, "--exec", "/bin/sh", "-c", waits) as confpy:
        confpy.says("exec.started")
        confpy.put(1)
        assert confpy.process.wait(20) == 4
        assert confpy.says("reload.owed")["resource"] == "web"


def test_signals_that_are_not_confpys_own_reach_the_program(tmp_path):
    with Sidecar(tmp_path, "a", "", *traps(tmp_path)) as confpy:
        hears(tmp_path, "ready")
        for name in ("USR2", "WINCH", "RTMIN"):
            confpy.process.send_signal(getattr(signal, f"SIG{name}"))
            hears(tmp_path, name)
        confpy.process.send_signal(signal.SIGHUP)
        confpy.says("signal.received", signal="SIGHUP")
        confpy.process.send_signal(signal.SIGUSR1)
        assert confpy.process.wait(20) == 0
    assert heard(tmp_path) == ["ready", "USR2", "WINCH", "RTMIN", "USR1"]


def test_a_program_that_drains_too_long_is_killed_and_that_is_no_success(tmp_path):
    deaf = traps(tmp_path, first="trap '' TERM USR1")
    with Sidecar(tmp_path, "a", "", "-exec-stop-timeout", "500ms", *deaf) as confpy:
        hears(tmp_path, "ready")
        assert confpy.stop() == 137
        assert confpy.says("exec.late")["did"] == "kills it"


def test_a_program_may_drain_for_longer_than_commands_may_take(tmp_path):
    drains = f"trap 'while [ ! -e {tmp_path}/drained ]; do sleep 0.05; done; exit 0' USR1"
    times = ("-stop-timeout", "100ms", "-exec-stop-timeout", "100s", "-exec-stop-signal", "USR1")
    with Sidecar(tmp_path, "a", "", *times, *traps(tmp_path, first=drains)) as confpy:
        hears(tmp_path, "ready")
        confpy.process.terminate()
        confpy.says("signal.received")
        time.sleep(0.5)  # longer than the stop timeout
        assert confpy.process.poll() is None
        (tmp_path / "drained").touch()
        assert confpy.process.wait(20) == 0


def test_a_program_is_not_started_while_a_target_is_missing(tmp_path):
    with Sidecar(tmp_path, "{{ getv('/missing') }}", "", *traps(tmp_path)) as confpy:
        confpy.says("resource.failed")
        assert confpy.stop() == 0
        assert [event for event in confpy.events if event["event"].startswith("exec.")] == []
    assert heard(tmp_path) == []


def test_a_program_starts_on_old_files_if_what_failed_has_one(tmp_path):
    (tmp_path / "out").write_text("old")
    with Sidecar(tmp_path, "{{ getv('/missing') }}", "", *traps(tmp_path)) as confpy:
        confpy.says("resource.failed")
        confpy.says("exec.started")
        hears(tmp_path, "ready")
        assert confpy.stop() == 0


def test_a_program_starts_on_old_files_where_the_store_stays_away(tmp_path):
    (tmp_path / "out").write_text("old")
    make_confdir(tmp_path, "{{ getv('/generation') }}", "")
    away = ("-watch", "-backend", "etcdv3", "-node", f"http://127.0.0.1:{free_port()}", "-confdir", str(tmp_path))
    with Confpy(*away, "-ready-timeout", "500ms", *traps(tmp_path), folder=tmp_path) as confpy:
        confpy.says("store.lost")
        confpy.says("exec.started")
        hears(tmp_path, "ready")
        assert confpy.stop() == 0


def test_a_reload_that_an_earlier_run_owed_to_the_program_is_done_by_its_start(tmp_path):
    ignores = traps(tmp_path, first="trap '' ALRM")
    resource = 'reload_signal = "ALRM"\nreload_cmd_timeout = "100ms"'
    with Sidecar(tmp_path, "{{ getv('/generation') }}", resource, *ignores) as confpy:
        hears(tmp_path, "ready")
        confpy.put(1)
        assert "does not handle SIGALRM" in confpy.says("reload.failed")["error"]
        assert confpy.stop() == 0
        assert confpy.says("reload.owed")["resource"] == "web"
    with Confpy(*flags(tmp_path), *ignores, folder=tmp_path) as confpy:
        confpy.says("exec.started")
        confpy.process.send_signal(signal.SIGHUP)
        confpy.says("signal.received")
        assert confpy.stop() == 0
        # It may say that the reload waits: until the program runs, it is owed.
        said = {event["event"] for event in confpy.events if event["event"].startswith("reload.")}
        assert said <= {"reload.waiting"}


def test_a_reload_signal_for_the_program_is_a_mistake_where_there_is_none(tmp_path):
    make_confdir(tmp_path, "a", 'reload_signal = "HUP"')
    put(tmp_path, 0)
    ended = run_once(*flags(tmp_path)[1:], folder=tmp_path)
    assert ended.code == 2
    invalid = ended.find("resource.invalid")
    assert invalid["error"] == "reload_signal does not say who gets it"
    assert "-exec" in invalid["hint"]


# --- one-shots -------------------------------------------------------------------------------------------------------


def test_a_one_shot_is_replaced_by_the_program_on_the_new_file(tmp_path):
    make_confdir(tmp_path, "{{ getv('/generation') }}", f'reload_cmd = "touch {tmp_path}/reloaded"')
    put(tmp_path, 5)
    look = f'cat {tmp_path}/out; echo " $$ $SECRET"; exit 9'
    ended = run_once(*flags(tmp_path)[1:], "--exec", "/bin/sh", "-c", look, folder=tmp_path)
    assert ended.code == 9
    assert ended.output.split()[0] == "5"
    assert ended.names[-1] == "exec.started"
    assert not (tmp_path / "reloaded").exists()


def test_a_one_shot_that_leaves_a_target_missing_runs_nothing_and_has_its_own_code(tmp_path):
    make_confdir(tmp_path, "{{ getv('/missing') }}", "")
    put(tmp_path, 0)
    ended = run_once(*flags(tmp_path)[1:], "--", "/bin/sh", "-c", "echo ran", folder=tmp_path)
    assert (ended.code, ended.output) == (4, "")
    (tmp_path / "out").write_text("old")
    ended = run_once(*flags(tmp_path)[1:], "--", "/bin/sh", "-c", "echo ran", folder=tmp_path)
    assert (ended.code, ended.output) == (0, "ran\n")
    ended.find("resource.failed")


def test_a_one_shot_whose_program_is_not_there_says_so(tmp_path):
    make_confdir(tmp_path, "a", "")
    put(tmp_path, 0)
    ended = run_once(*flags(tmp_path)[1:], "--exec", f"{tmp_path}/none", folder=tmp_path)
    assert ended.code == 127
    assert "cannot be started" in ended.find("exec.failed")["error"]


# --- a terminal ------------------------------------------------------------------------------------------------------


@contextmanager
def at_a_terminal(*words: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run confpy in the foreground of a terminal of its own; yields its number and our end of the terminal."""
    command = running.command(*words)
    process, end = pty.fork()
    if not process:
        os.chdir(folder)
        os.execve(sys.executable, command, environment(folder))
    try:
        yield process, end
    finally:
        os.close(end)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_an_interactive_program_has_the_terminal_and_its_interrupts(tmp_path):
    make_confdir(tmp_path, "a", "")
    put(tmp_path, 0)
    reads = f"trap 'echo interrupted > {tmp_path}/int' INT; read line; echo $line > {tmp_path}/read; read line; exit 6"
    with at_a_terminal(*flags(tmp_path), "--exec", find("bash"), "-c", reads, folder=tmp_path) as (process, end):
        os.write(end, b"hello\n")
        wait_until((tmp_path / "read").exists, what="it reads from the terminal")
        assert (tmp_path / "read").read_text() == "hello\n"
        os.write(end, b"\x03")
        wait_until((tmp_path / "int").exists, what="^C interrupts it")
        os.write(end, b"\n")
        # confpy itself was not interrupted: it ends with the code of its program.
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 6


# --- PID 1 -----------------------------------------------------------------------------------------------------------


def pid_1() -> tuple[str, ...]:
    """Return what runs a command as PID 1 of a namespace with a /proc of its own."""
    as_root = ["--map-root-user"] if os.geteuid() else []
    apart = (find("unshare"), *as_root, "--pid", "--fork", "--kill-child", "--mount-proc")
    needs(refused(find("setsid"), *apart, "true"))
    return apart


class Container(Sidecar):
    """A sidecar that is PID 1 of a namespace with a /proc of its own, and has no terminal."""

    def __init__(self, folder: Path, template: str, resource: str, *words: str) -> None:
        super().__init__(folder, template, resource, *words, by=(find("setsid"), *pid_1()))

    @property
    def first(self) -> int:
        """The number that its PID 1 has outside."""
        return children(self.process.pid)[0]

    @property
    def worker(self) -> int:
        return next(one for one in children(self.first) if b"confpy" in Path(f"/proc/{one}/cmdline").read_bytes())

    @property
    def child(self) -> int:
        return wait_until(lambda: children(self.worker), what="its program runs")[0]

    def zombies(self) -> list[str]:
        found = [stat.read_text() for stat in Path(f"/proc/{self.first}/root/proc").glob("[0-9]*/stat")]
        return [stat for stat in found if stat.rpartition(")")[2].split()[0] == "Z"]


@contextmanager
def container(folder: Path, *words: str) -> Iterator[tuple[Container, int]]:
    """Run HAProxy in a container; yields it, and the port that HAProxy serves."""
    port = free_port()
    command = [find("haproxy"), *(word.format(folder=folder) for word in HAPROXY[1:])]
    check = f'check_cmd = "{find("haproxy")} -c -f {{{{.src}}}}"\nreload_signal = "USR2"\nverify = "haproxy"'
    with Container(folder, PROXY.format(port=port), check, *words, "--exec", *command) as confpy:
        try:
            confpy.says("exec.started")
            wait_until(lambda: answered(port) == "0", what="HAProxy serves its first configuration")
            yield confpy, port
        finally:
            if confpy.process.poll() is None:
                os.kill(confpy.first, signal.SIGKILL)


def test_as_pid_1_it_reloads_its_haproxy_and_leaves_no_zombie(tmp_path):
    with container(tmp_path, "-exec-stop-timeout", "60s") as (confpy, port):
        child = confpy.child
        for generation in range(1, 21):
            confpy.put(generation)
            assert confpy.says("resource.changed")["reloaded"] is True
        wait_until(lambda: answered(port) == "20", what="HAProxy serves its last configuration")
        wait_until(lambda: not confpy.zombies(), what="no zombies")
        assert confpy.child == child
        os.kill(confpy.first, signal.SIGUSR1)
        assert confpy.process.wait(60) == 0
        assert confpy.says("exec.ended")["did"] == "has stopped as it was asked to"
        assert answered(port) == ""


def test_as_pid_1_the_container_ends_when_haproxys_master_is_killed(tmp_path):
    with container(tmp_path) as (confpy, port):
        os.kill(confpy.child, signal.SIGKILL)
        assert confpy.process.wait(20) == 137
        assert confpy.says("exec.ended")["code"] == 137
        wait_until(lambda: answered(port) == "", what="the port is free again")


def test_as_pid_1_the_container_ends_with_haproxy_when_the_confpy_that_works_is_killed(tmp_path):
    with container(tmp_path) as (confpy, port):
        os.kill(confpy.worker, signal.SIGKILL)
        assert confpy.process.wait(20) == 137
        wait_until(lambda: answered(port) == "", what="the port is free again")


TAKES_TERMINAL = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"


def test_as_pid_1_with_a_terminal_its_program_has_it_and_its_interrupts(tmp_path):
    make_confdir(tmp_path, "a", "")
    put(tmp_path, 0)
    end, its_end = os.openpty()
    reads = f"trap 'echo interrupted > {tmp_path}/int' INT; read line < /dev/tty; echo $line > {tmp_path}/read; "
    reads += "read line < /dev/tty; exit 6"
    takes = (find("setsid"), sys.executable, "-c", TAKES_TERMINAL, os.ttyname(its_end))
    try:
        program = ("--exec", find("bash"), "-c", reads)
        with Confpy(*flags(tmp_path), *program, folder=tmp_path, by=(*takes, *pid_1())) as confpy:
            confpy.says("exec.started")
            os.write(end, b"hello\n")
            wait_until((tmp_path / "read").exists, what="it reads from the terminal")
            os.write(end, b"\x03")
            wait_until((tmp_path / "int").exists, what="^C interrupts it")
            os.write(end, b"\n")
            assert confpy.process.wait(30) == 6
            assert [event for event in confpy.events if event["event"] == "signal.received"] == []
    finally:
        os.close(end)
        os.close(its_end)


def test_as_pid_1_haproxy_drains_its_connections_before_the_container_ends(tmp_path):
    with container(tmp_path, "-exec-stop-signal", "USR1", "-exec-stop-timeout", "60s") as (confpy, port):
        held = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert held.stdout.readline() == "connected\n"
        os.kill(confpy.first, signal.SIGTERM)
        confpy.says("signal.received")
        wait_until(lambda: answered(port) == "", what="HAProxy takes no new connections")
        assert confpy.process.poll() is None
        answer, _ = held.communicate("go\n", timeout=30)
        assert "HTTP/1.1 200" in answer
        assert confpy.process.wait(30) == 0


HOLDS = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n")
    print("connected", flush=True)
    sys.stdin.readline()
    connection.sendall(b"\\r\\n")
    print(connection.recv(1000).decode())
"""
