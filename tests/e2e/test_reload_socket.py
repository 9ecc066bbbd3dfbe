"""Lines for the sockets of real HAProxys: the system's, and a newer one where scripts/test has fetched it."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from confpy.reload.actions import SocketReload
from confpy.reload.haproxy import read_processes, send
from confpy.reload.run import reload
from confpy.reload.spec import ReloadResult, ReloadSpec
from confpy.system.subprocesses import Shell
from tests.e2e.installation import pass_time
from tests.e2e.running import command, environment
from tests.servers.haproxy import HAProxy, haproxies
from tests.servers.ports import free_port
from tests.waiting import wait_until

CONFIG = """
global
  stats socket {folder}/stats level admin
  stats socket {folder}/user level user
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend web
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain lf-string %[str(key),map({folder}/a.map)]
backend app
  server one 127.0.0.1:9
"""


class Machine:
    """A HAProxy in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "a.map").write_text("key first\n")
        self.write()

    def write(self, more: str = "") -> None:
        (self.folder / "haproxy.cfg").write_text(CONFIG.format(folder=self.folder, port=self.port) + more)

    def send(self, *lines: str, to: str = "stats", expect: str = "") -> ReloadResult:
        lines = tuple(line.format(map=self.folder / "a.map") for line in lines)
        by = SocketReload(str(self.folder / to), lines[0], lines[1:], expect)
        return reload(ReloadSpec(by.describe(), by, 60.0), {}, Shell())

    def fails(self, *lines: str, to: str = "stats") -> tuple[str, object]:
        error = self.send(*lines, to=to).error
        assert error is not None, "it should have failed"
        return error.message, error.where.get("output")

    def mapped(self) -> str:
        return send(str(self.folder / "stats"), f"show map {self.folder}/a.map", 10.0)


@pytest.fixture(params=sorted(haproxies()))
def machine(request, tmp_path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    places = {"pidfile": tmp_path / "pid", "socket": tmp_path / "master", "port": found.port}
    with HAProxy(tmp_path / "haproxy.cfg", **places, program=haproxies()[request.param]) as haproxy:
        haproxy.started()
        wait_until(lambda: answers(tmp_path / "master"), seconds=30, what="the master answers")
        yield found


def answers(path: Path) -> bool:
    try:
        return "master" in send(str(path), "show proc", 5.0)
    except OSError:
        return False


def test_lines_that_say_nothing_where_they_succeed_leave_no_doubt(machine):
    done = machine.send(
        "clear map {map}", "add map {map} key second", "set server app/one weight 10", "del map {map} key"
    )
    assert (done.error, done.unsure) == (None, False)
    assert "key" not in machine.mapped()
    done = machine.send(
        "add map {map} key third", "disable server app/one", "enable server app/one", "clear counters all"
    )
    assert (done.error, done.unsure) == (None, False)
    assert "key third" in machine.mapped()


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("set server none/one weight 1", "No such backend."),
        ("set server app/none weight 1", "No such server."),
        ("clear map /none", "Unknown map identifier. Please use #<id> or <file>."),
        ("del map {map} none", "Key not found."),
        ("set server app/one weight 999", "Absolute weight can only be between 0 and 256 inclusive."),
    ],
)
def test_what_haproxy_refuses_fails_with_its_answer_and_says_no_more_lines(machine, line, output):
    message, said = machine.fails("set server app/one weight 5", line, "clear map {map}")
    assert (message, said) == ("line 2 of the reload was refused", output)
    assert "key first" in machine.mapped()


def test_a_command_that_is_not_known_or_not_allowed_fails(machine):
    message, output = machine.fails("reload")
    assert message == "the reload was refused"
    assert str(output).startswith("Unknown command")
    assert machine.fails("clear counters all", to="user") == ("the reload was refused", "Permission denied")


def test_a_regular_expression_judges_in_place_of_what_is_known(machine):
    assert machine.send("del map {map} none", expect="^$|not found").error is None
    error = machine.send("clear map {map}", expect="done").error
    assert error is not None
    assert error.message == "the reload was not answered as expected"
    assert machine.send("show info", expect="Name: HAProxy").error is None
    assert machine.send("show info").unsure, "nobody knows what was wanted"


def test_the_master_s_reload_succeeds_only_where_it_has_a_new_worker(machine):
    workers = len(set(worker_numbers(machine)))
    assert workers == 1
    for _ in range(2):
        before = worker_numbers(machine)
        done = machine.send("reload", to="master")
        assert (done.error, done.unsure) == (None, False)
        assert not set(before) & set(worker_numbers(machine))


def worker_numbers(machine: Machine) -> list[str]:
    lines = send(str(machine.folder / "master"), "show proc", 10.0).split("# workers")[1].splitlines()[1:]
    return [line.split()[0] for line in lines[: next(n for n, line in enumerate([*lines, "#"]) if line[:1] == "#")]]


def test_the_master_s_reload_of_a_broken_configuration_fails_and_that_of_a_mended_one_succeeds(machine):
    machine.write("  nonsense here\n")
    message, _ = machine.fails("reload", to="master")
    assert message in {
        "the reload was refused",
        "haproxy has not taken its new configuration, and goes on with the old one",
    }
    machine.write()
    done = machine.send("reload", to="master")
    assert (done.error, done.unsure) == (None, False)


def test_the_master_s_reload_onto_a_port_that_is_taken_fails(machine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        machine.write(f"frontend other\n  bind 127.0.0.1:{taken.getsockname()[1]}\n")
        message, _ = machine.fails("reload", to="master")
        assert message in {
            "the reload was refused",
            "haproxy has not taken its new configuration, and goes on with the old one",
        }


@pytest.mark.parametrize("program", sorted(haproxies()))
def test_a_confpy_that_haproxy_runs_and_starts_anew_at_each_reload_reloads_it_once(tmp_path, program):
    port = free_port()
    flags = ("-backend", "file", "-file", str(tmp_path / "keys.yaml"), "-confdir", str(tmp_path / "confd"), "-watch")
    confpy = shlex.join(command(*flags))
    own = CONFIG.format(folder=tmp_path, port=port) + f"program confpy\n  command {confpy}\n"
    (tmp_path / "a.map").write_text("")
    (tmp_path / "haproxy.cfg").write_text(own)
    (tmp_path / "keys.yaml").write_text("app: {a: '1'}")
    for part in ("conf.d", "templates"):
        (tmp_path / "confd" / part).mkdir(parents=True)
    (tmp_path / "confd/templates/t.j2").write_text("# {{ getv('/app/a') }}\n" + own)
    (tmp_path / "confd/conf.d/haproxy.toml").write_text(
        f'[template]\nsrc = "t.j2"\ndest = "{tmp_path}/haproxy.cfg"\nkeys = ["/app"]\n'
        f'reload_socket = "unix:{tmp_path}/master reload"\n'
    )
    places = {"pidfile": tmp_path / "pid", "socket": tmp_path / "master", "port": port}
    with mock.patch.dict(os.environ, environment(tmp_path)):
        haproxy = HAProxy(tmp_path / "haproxy.cfg", **places, program=haproxies()[program])
    with haproxy.started():
        log = tmp_path / "haproxy.log"

        def done(times: int) -> bool:
            text = log.read_text(errors="replace")
            return text.count("resource.changed") >= times and text.count("confpy.started") >= times + 1

        wait_until(lambda: done(1), seconds=60, what="the first reload is done, and confpy runs again")
        pass_time(3)
        (tmp_path / "keys.yaml").write_text("app: {a: '2'}")
        wait_until(lambda: done(2), seconds=60, what="the second reload is done, and confpy runs again")
        pass_time(3)
        master = read_processes(send(str(tmp_path / "master"), "show proc", 10.0))
        assert master is not None
        assert (master.reloads, master.failed) == (2, 0), log.read_text(errors="replace")
