"""A running HAProxy follows its files without a reload; whatever is in doubt is the ordinary reload."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.running import Confpy, Ended, environment, run_once
from tests.servers.haproxy import haproxies
from tests.servers.ports import free_port
from tests.servers.runtime import CONFIG, RuntimeProxy
from tests.servers.traffic import Traffic
from tests.servers.web import Backend
from tests.waiting import wait_until

NEWEST = min(haproxies())
"""The newest HAProxy that is here: the one that adds and removes servers, where there is one."""
needs_dynamic = pytest.mark.skipif(NEWEST == "system", reason="no HAProxy 3.0 or newer is here")
SLOTS = """{% for s in slots(gets("/servers/*"), 8) %}
    server s{{ loop.index }} {{ s.value if s else "127.0.0.1:1 disabled" }}{% endfor %}"""
LINES = """{% for key, address in gets("/servers/*") %}
    server {{ base(key) }} {{ address }}{% endfor %}"""
PARTS = {"level": "admin", "global_": "", "bind": "", "frontend": "", "backend": LINES}


class Site:
    """A HAProxy, and what confpy makes its configuration from."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder, self.version, self.port = folder, version, free_port()
        self.proxy = RuntimeProxy(folder, self.port, version)
        self.keys: dict[str, str] = {"a": "127.0.0.1:9001"}
        self.parts = dict(PARTS, backend=LINES if version != "system" else SLOTS)
        self.reload = f'reload_socket = "unix:{self.proxy.master} reload"\nverify = "haproxy"'
        self.sockets = f'"unix:{self.proxy.admin}"'
        self.write()

    def write(self, **keys: str) -> None:
        """Write the keys, the template and the resource."""
        self.keys |= keys
        for name in ("conf.d", "templates"):
            (self.folder / name).mkdir(exist_ok=True)
        text = CONFIG.format(folder=self.folder, port=self.port, **self.parts)
        self._put("templates/haproxy.cfg.j2", text)
        self._put(
            "conf.d/haproxy.toml",
            f'[template]\nsrc = "haproxy.cfg.j2"\ndest = "{self.folder}/haproxy.cfg"\nkeys = ["/servers"]\n'
            f"reload_haproxy = {self.sockets}\n{self.reload}\n",
        )
        self._put("keys.json", json.dumps({"servers": self.keys}))

    def _put(self, name: str, text: str) -> None:
        path = self.folder / name
        if not path.exists() or path.read_text() != text:
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").rename(path)

    def drop(self, name: str) -> None:
        del self.keys[name]
        self.write()

    @property
    def flags(self) -> tuple[str, ...]:
        return "-backend", "file", "-file", str(self.folder / "keys.json"), "-confdir", str(self.folder)

    def once(self, *flags: str) -> Ended:
        return run_once(*self.flags, *flags, folder=self.folder)

    def start(self) -> None:
        """Start HAProxy, and have confpy reload it: what it has read is known then."""
        keys, self.keys = self.keys, {}
        self.write()
        assert self.once("-no-reload").code == 0
        self.proxy.start()
        self.write(**keys)
        assert self.once().code == 0

    def is_followed(self) -> bool:
        """Whether HAProxy serves exactly the servers of the keys."""
        served = self.proxy.served()
        return sorted(served.values()) == sorted(self.keys.values())


@pytest.fixture(params=sorted(haproxies()))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path, request.param)
    found.start()
    yield found
    found.proxy.stop()


@pytest.fixture
def newest(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path, NEWEST)
    found.start()
    yield found
    found.proxy.stop()


@contextmanager
def stream(port: int) -> Iterator[socket.socket]:
    """A request whose answer does not end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as found:
        found.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert found.recv(1)
        yield found


# --- servers ---------------------------------------------------------------------------------------------------------


def test_servers_come_and_go_without_a_new_worker_and_without_a_failed_request(site):
    with Backend("a") as a, Backend("b") as b:
        site.write(a=a.address)
        assert site.once().code == 0
        worker = site.proxy.worker()
        with Confpy("-watch", *site.flags, folder=site.folder) as confpy, Traffic(site.port) as traffic:
            confpy.says("confpy.started")
            for _ in range(5):
                site.write(b=b.address)
                confpy.says("reload.avoided")
                wait_until(lambda: traffic.answers["b"], what="traffic for b")
                site.drop("b")
                confpy.says("reload.avoided")
                traffic.forget()
                wait_until(lambda: traffic.answers["a"] > 20, what="traffic for a")
                assert site.is_followed()
            assert "b" not in traffic.answers
            assert confpy.stop() == 0
        assert traffic.failures == []
        assert (site.proxy.worker(), [one for one in confpy.events if one["event"] == "reload.needed"]) == (worker, [])


def test_what_haproxy_has_taken_is_known_to_the_next_run(site):
    worker = site.proxy.worker()
    site.write(b="127.0.0.1:9002")
    first = site.once()
    site.drop("a")
    site.write(c="127.0.0.1:9003")
    second = site.once()
    assert (first.code, second.code) == (0, 0)
    assert "reload.avoided" in first.names
    assert "reload.avoided" in second.names
    assert site.is_followed()
    assert site.proxy.worker() == worker


def test_a_line_that_is_not_followed_is_a_reload_and_the_log_names_it(site):
    worker = site.proxy.worker()
    site.parts["bind"] = " maxconn 500"
    site.write(b="127.0.0.1:9002")
    ended = site.once()
    needed = ended.find("reload.needed")
    line = (site.folder / "haproxy.cfg").read_text().split("\n").index(
        f"    bind 127.0.0.1:{site.port} maxconn 500"
    ) + 1
    assert (ended.code, needed["line"], needed["file"]) == (0, line, str(site.folder / "haproxy.cfg"))
    assert "bind changed" in needed["why"]
    assert site.proxy.worker() != worker
    assert site.is_followed()
    # What was read then is known: the next change needs none.
    worker = site.proxy.worker()
    site.write(c="127.0.0.1:9003")
    assert "reload.avoided" in site.once().names
    assert site.proxy.worker() == worker
    assert site.is_followed()


def test_a_haproxy_that_was_started_after_its_file_was_written_is_known_to_have_read_it(site):
    site.proxy.stop()
    (site.folder / "state").rename(site.folder / "lost")
    settled = (site.folder / "haproxy.cfg").stat().st_ctime
    wait_until(lambda: time.time() > settled + 2, what="the file is older than the process by more than a second")
    site.proxy.start()
    worker = site.proxy.worker()
    with Confpy("-watch", *site.flags, folder=site.folder) as confpy:
        confpy.says("confpy.started")
        wait_until(lambda: any((site.folder / "state").rglob("haproxy/*")), what="it is compared")
        site.write(b="127.0.0.1:9002")
        confpy.says("reload.avoided")
    assert site.is_followed()
    assert site.proxy.worker() == worker


def test_a_haproxy_of_which_nobody_knows_what_it_has_read_is_reloaded_once(site):
    (site.folder / "state").rename(site.folder / "lost")
    site.write(b="127.0.0.1:9002")
    ended = site.once()
    assert "what this HAProxy has read is not known" in ended.find("reload.needed")["why"]
    assert site.is_followed()
    site.write(c="127.0.0.1:9003")
    assert "reload.needed" not in site.once().names
    assert site.is_followed()


@needs_dynamic
def test_a_server_with_a_long_request_stays_until_that_ends_and_is_then_removed(newest):
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            done.wait(20)
            connection.sendall(b"1\r\ny\r\n0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        newest.keys = {"long": f"127.0.0.1:{listener.getsockname()[1]}"}
        newest.write()
        assert newest.once().code == 0
        with stream(newest.port) as request:
            newest.keys = {"a": "127.0.0.1:9001"}
            newest.write()
            assert "reload.avoided" in newest.once().names
            assert newest.proxy.servers()["long"][1] == "maint"
            done.set()
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                received += request.recv(1000)
            assert b"y" in received
        thread.join()
    with Confpy("-watch", "-resync", "1s", *newest.flags, folder=newest.folder) as confpy:
        confpy.says("confpy.started")
        wait_until(lambda: "long" not in newest.proxy.servers(), what="the idle server is removed")


# --- people ----------------------------------------------------------------------------------------------------------


def test_maintenance_that_somebody_has_set_is_respected(site):
    site.write(b="127.0.0.1:9002")
    assert site.once().code == 0
    name = next(name for name, address in site.proxy.served().items() if address == "127.0.0.1:9002")
    site.proxy.ask(f"set server web/{name} state maint")
    site.write(c="127.0.0.1:9003")
    assert "reload.avoided" in site.once().names
    assert site.proxy.servers()[name][1] == "maint"
    with Confpy("-watch", "-resync", "1s", *site.flags, folder=site.folder) as confpy:
        confpy.says("confpy.started")
        said = confpy.says("runtime.set_by_hand")
        assert f"web/{name}" in said["servers"]
        site.write(d="127.0.0.1:9004")
        confpy.says("reload.avoided")
        assert site.proxy.servers()[name][1] == "maint"
        confpy.stop()
    assert len([one for one in confpy.events if one["event"] == "runtime.set_by_hand"]) == 1


def test_a_reload_by_somebody_else_is_seen(site):
    site.write(b="127.0.0.1:9002")
    assert site.once().code == 0
    with Confpy("-watch", *site.flags, folder=site.folder) as confpy:
        confpy.says("confpy.started")
        site.proxy.reload()
        site.write(c="127.0.0.1:9003")
        wait_until(site.is_followed, what="HAProxy serves what the keys say")


# --- what is not good input ------------------------------------------------------------------------------------------


@contextmanager
def impostor(path: Path, answer: bytes | None) -> Iterator[None]:
    """A socket in the place of HAProxy's that gives this answer to all; None: it hangs."""
    ended = threading.Event()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(0.1)

        def serve() -> None:
            connections = []
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                connections.append(connection)
                if answer is not None:
                    connection.recv(1 << 16)
                    connection.sendall(answer)
            for connection in connections:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def is_reloaded(site: Site, why: str) -> None:
    """Assert that the next change is a reload, and that one line says why."""
    worker = site.proxy.worker()
    site.write(b="127.0.0.1:9002")
    ended = site.once()
    assert ended.code == 0
    assert why in ended.find("reload.needed")["why"]
    wait_until(lambda: site.proxy.answers() and site.proxy.worker() not in {0, worker}, what="a new worker")
    wait_until(site.is_followed, what="HAProxy serves what the keys say")


def test_a_socket_that_is_not_there_is_a_reload(newest):
    newest.sockets = f'"unix:{newest.folder}/none.sock"'
    is_reloaded(newest, "cannot be used: No such file or directory (is there a `stats socket`")


def test_a_socket_without_level_admin_is_a_reload(newest):
    newest.parts["level"] = "operator"
    newest.write()
    assert newest.once().code == 0
    newest.parts["level"] = "operator"
    is_reloaded(newest, "has no level admin (give it one: `stats socket … level admin`)")


def test_the_socket_of_the_master_is_a_reload(newest):
    newest.sockets = f'"unix:{newest.proxy.master}"'
    is_reloaded(newest, "is that of HAProxy's master")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "gave no answer in time"),
        (b"\n> I am a teapot\n> \n> \n> \n> ", "does not answer as HAProxy does"),
        (b"", "closed the connection before it had answered"),
    ],
    ids=["hangs", "other", "closes"],
)
def test_a_socket_that_answers_in_another_way_or_not_at_all_is_a_reload(newest, answer, why):
    path = newest.folder / "impostor.sock"
    newest.sockets = f'"unix:{path}"'
    newest.reload += '\nreload_cmd_timeout = "3s"'
    with impostor(path, answer):
        if answer == b"":
            why = "in time"  # it is still open
        is_reloaded(newest, why)


@needs_dynamic
def test_what_haproxy_reads_and_confpy_does_not_is_a_reload(newest):
    variable = LINES.replace("{{ address }}", '"127.0.0.1${INSTANCE}":{{ address.split(":")[1] }}')
    newest.parts["backend"] = variable
    newest.write()
    assert newest.once().code == 0
    is_reloaded(newest, "address of a server")


def test_a_runtime_target_alone_is_refused(newest):
    newest.reload = ""
    newest.write()
    ended = newest.once()
    assert (ended.code, ended.find("resource.invalid")["key"]) == (2, "reload_haproxy")


# --- several processes, several files --------------------------------------------------------------------------------


def test_several_processes_of_one_configuration_are_all_told(newest):
    others = [RuntimeProxy(newest.folder, newest.port, newest.version, instance=str(number)) for number in (1, 2)]
    try:
        for one in others:
            one.start()
        newest.sockets = json.dumps([f"unix:{one.admin}" for one in others])
        newest.reload = f'reload_cmd = "{"; ".join(map(reload_command, others))}"'
        newest.write()
        newest.write(c="127.0.0.1:9003")
        assert "reload.needed" in newest.once().names
        workers = [one.worker() for one in others]
        newest.write(b="127.0.0.1:9002")
        ended = newest.once()
        assert "reload.avoided" in ended.names, ended.events
        assert [one.worker() for one in others] == workers
        assert all(sorted(one.served().values()) == sorted(newest.keys.values()) for one in others)
    finally:
        for one in others:
            one.stop()


# --- kill -9 ---------------------------------------------------------------------------------------------------------

MOST_STEPS = 40
DRIVER = """
import os, runpy, signal, sys
from confpy.reload import runtime_socket, taken
number, victims = int(os.environ["STEP"]), [int(one) for one in os.environ["VICTIMS"].split()]
count = 0
def step():
    global count
    count += 1
    if count == number:
        print("killed at", number, file=sys.stderr, flush=True)
        for victim in victims or [os.getpid()]:
            os.kill(victim, signal.SIGKILL)
def counted(cls, name):
    original = getattr(cls, name)
    def wrapper(*args, **named):
        step()
        found = original(*args, **named)
        step()
        return found
    setattr(cls, name, wrapper)
counted(runtime_socket.Sockets, "exchange")
counted(taken.TakenFolder, "put")
sys.argv = ["confpy", *sys.argv[1:]]
runpy.run_module("confpy", run_name="__main__", alter_sys=True)
"""


def run_killing(site: Site, step: int, victims: Sequence[int]) -> subprocess.CompletedProcess[str]:
    """Run confpy, and kill processes at a step of it: before or after an exchange with HAProxy, or a record of one.

    ``victims``: process IDs; empty: confpy itself.
    """
    more = {"STEP": str(step), "VICTIMS": " ".join(map(str, victims))}
    command = [sys.executable, "-c", DRIVER, "-log-format", "json", "-onetime", *site.flags]
    return subprocess.run(
        command, cwd=site.folder, env=environment(site.folder, more), capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip


@needs_dynamic
@pytest.mark.timeout(400)
@pytest.mark.parametrize("victim", ["confpy", "worker", "master"])
def test_killed_at_any_step_of_a_plan_haproxy_ends_as_its_file_says(newest, victim):
    site, steps, last = newest, [], ""
    site.reload += '\nreload_cmd_timeout = "10s"'  # a master whose worker is killed while it reloads may never answer
    for step in range(1, MOST_STEPS, 2):  # before each; that is after the one before it
        site.keys.pop(last, None)
        last = f"n{step}"
        site.write(**{"b": f"127.0.0.1:{9100 + step}", last: f"127.0.0.1:{9200 + step}"})
        killed = {"confpy": [], "worker": [site.proxy.worker()], "master": [site.proxy.master_process()]}[victim]
        ran = run_killing(site, step, killed)
        if f"killed at {step}" not in ran.stderr:
            break  # there was no such step
        steps.append(step)
        assert victim != "confpy" or ran.returncode == -signal.SIGKILL
        # A master ends when its worker does; who runs it starts it anew.
        with contextlib.suppress(AssertionError):  # a master that hangs is ended as well
            wait_until(lambda: site.proxy.answers() or not site.proxy.is_alive(), what="it answers, or is gone")
        followed = False
        for _ in range(3):  # a worker without its master may answer, and end a moment later
            if not (site.proxy.is_alive() and site.proxy.answers()):
                site.proxy.stop()
                site.proxy.start()
            ended = site.once()
            assert ended.code == 0, ended.events
            with contextlib.suppress(OSError):
                followed = site.is_followed()
                break
        assert followed, f"not as its file says after step {step}: {ended.events}"
    assert 6 <= len(steps) < MOST_STEPS // 2  # four exchanges and two records at least


def test_changes_that_come_while_a_reload_is_under_way_are_not_lost(newest):
    # As slow as that of a large configuration, before and after HAProxy has read its file.
    newest.reload = f'reload_cmd = "sleep 0.2; {reload_command(newest.proxy)}; sleep 0.2"'
    newest.write()
    with Confpy("-watch", *newest.flags, folder=newest.folder) as confpy:
        confpy.says("confpy.started")
        for number in range(3):
            newest.parts["bind"] = f" maxconn {500 + number}"
            newest.write()
            confpy.says("reload.started")
            for other in range(5):
                newest.write(**{f"n{other}": f"127.0.0.1:{9300 + 10 * number + other}"})
            wait_until(newest.is_followed, what="HAProxy serves what the keys say")
        assert confpy.stop() == 0


def reload_command(proxy: RuntimeProxy) -> str:
    """Return a command that has a master reload."""
    script = proxy.folder / f"reload{proxy.instance}.py"
    script.write_text(
        f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('{proxy.master}')\n"
        "s.sendall(b'reload\\n')\ns.shutdown(1)\ns.recv(99)\n"
    )
    return f"{sys.executable} {script}"
