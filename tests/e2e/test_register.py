"""``confpy register`` as its users run it: the key is there while it is true, and nobody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import Confpy, command, environment, read_events
from tests.e2e.service_manager import NotifySocket
from tests.run_as_user import needs, refused
from tests.servers.etcd import Etcd, Etcd2, EtcdSaysNo
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.waiting import wait_until

KEY, VALUE = "/services/web/backends/a", "10.0.0.1:80"
FOREVER = "while :; do sleep 0.05; done"
LONG = 60.0
"""Seconds to wait for what a busy machine does late."""


class Registered(Confpy):
    """A ``confpy register`` with this store."""

    others_write = True

    def __init__(self, store: Etcd, folder: Path, *flags: str, value: str = VALUE, **more: Any) -> None:
        self.store = store
        backend = "etcdv2" if isinstance(store, Etcd2) else "etcdv3"
        flags = ("register", KEY, value, "-backend", backend, "-node", store.endpoint, *flags)
        super().__init__(*flags, folder=folder, **more)

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    def has_said(self, event: str, **fields: object) -> None:
        self.says(event, seconds=LONG, **fields)


def read(store: Etcd) -> str | None:
    if isinstance(store, Etcd2):
        try:
            return str(store.request("GET", f"/keys{KEY}")["node"]["value"])
        except EtcdSaysNo:
            return None
    found = store.get(KEY)
    return None if found is None else found.decode()


def await_key(store: Etcd, value: str | None) -> float:
    """Return how long it took until the key has this value, or is not there."""
    began = time.monotonic()
    wait_until(lambda: read(store) == value, seconds=LONG, what=f"the key is {value}, not {read(store)}")
    return time.monotonic() - began


def runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture(scope="module")
def _etcd() -> Iterator[Etcd]:
    with Etcd() as server:
        yield server


@pytest.fixture
def store(_etcd: Etcd) -> Etcd:
    _etcd.delete("/", prefix=True)
    return _etcd


@pytest.fixture(scope="module")
def _second() -> Iterator[Etcd2]:
    with Etcd2() as server:
        yield server


@pytest.fixture(params=["etcd v3", "etcd v2"])
def either(request: pytest.FixtureRequest) -> Etcd:
    server: Etcd = request.getfixturevalue("_etcd" if request.param == "etcd v3" else "_second")
    return server


# --- the end ---------------------------------------------------------------------------------------------------------


def test_at_a_signal_the_key_goes_first_and_the_command_ends_as_it_wants_to(either, tmp_path):
    script = f"trap 'echo ended >> {tmp_path}/steps; exit 5' TERM; echo began > {tmp_path}/steps; {FOREVER}"
    with Registered(either, tmp_path, "--ttl", "15s", "--drain", "0.5s", "--", "sh", "-c", script) as confpy:
        await_key(either, VALUE)
        steps = tmp_path / "steps"
        wait_until(steps.exists, what="the command runs")
        confpy.process.terminate()
        await_key(either, None)
        assert steps.read_text() == "began\n", "the key is gone, and the command runs on"
        assert confpy.process.wait(LONG) == 5
        assert steps.read_text() == "began\nended\n"
    assert confpy.names() == ["registration.put", "registration.removed", "registration.command_ended"]
    assert VALUE not in json.dumps(confpy.events)


def test_the_key_of_a_confpy_that_was_killed_goes_with_its_ttl_and_its_command_is_ended(either, tmp_path):
    with Registered(
        either, tmp_path, "--ttl", "3s", "--", "sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600"
    ) as confpy:
        await_key(either, VALUE)
        pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        confpy.process.kill()
        wait_until(lambda: not runs(pid), what="the command has ended")
        await_key(either, None)


def test_a_command_that_ends_takes_its_key_along(store, tmp_path):
    with Registered(
        store,
        tmp_path,
        "--ttl",
        "600s",
        "--",
        "sh",
        "-c",
        f"while [ ! -e {tmp_path}/end ]; do sleep 0.05; done; exit 3",
    ) as confpy:
        await_key(store, VALUE)
        (tmp_path / "end").touch()
        assert confpy.process.wait(LONG) == 3
        assert read(store) is None


def test_a_second_signal_does_not_wait_for_the_drain(store, tmp_path):
    with Registered(store, tmp_path, "--ttl", "15s", "--drain", "10m", "--", "sleep", "600") as confpy:
        await_key(store, VALUE)
        confpy.process.terminate()
        await_key(store, None)
        confpy.process.terminate()
        assert confpy.process.wait(LONG) == 143


def test_other_signals_go_to_the_command(store, tmp_path):
    traps = " ".join(f"trap 'echo {name} >> {tmp_path}/got' {name.upper()};" for name in ("hup", "usr2"))
    script = f"{traps} touch {tmp_path}/got; {FOREVER}"
    with Registered(store, tmp_path, "--ttl", "15s", "--drain", "0", "--", "sh", "-c", script) as confpy:
        wait_until((tmp_path / "got").exists, what="the command runs")
        for number, line in ((signal.SIGHUP, "hup\n"), (signal.SIGUSR2, "hup\nusr2\n")):
            confpy.process.send_signal(number)
            wait_until(lambda line=line: (tmp_path / "got").read_text() == line, what=line)
        assert read(store) == VALUE


def test_as_pid_1_it_removes_the_key_reaps_and_passes_the_exit_code_on(store, tmp_path):
    as_root = ["--map-root-user"] if os.geteuid() else []
    apart = (find("setsid"), find("unshare"), *as_root, "--pid", "--fork", "--kill-child", "--mount-proc")
    needs(refused(*apart, "true"))
    script = f"trap 'exit 9' TERM; (sleep 0.01 &); echo $$ > {tmp_path}/pid; {FOREVER}"
    with Registered(store, tmp_path, "--ttl", "15s", "--drain", "0", "--", "sh", "-c", script, by=apart) as confpy:
        await_key(store, VALUE)
        wait_until((tmp_path / "pid").exists, what="the command runs")
        (first,) = Path(f"/proc/{confpy.process.pid}/task/{confpy.process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        assert confpy.process.wait(LONG) == 9
        assert read(store) is None


# --- the store -------------------------------------------------------------------------------------------------------


def test_a_key_comes_back_with_a_store_that_lost_it_or_was_frozen_beyond_the_ttl(tmp_path):
    with Etcd() as store, Registered(store, tmp_path, "--ttl", "3s") as confpy:
        await_key(store, VALUE)
        store.restart()
        await_key(store, VALUE)
        store.replace()
        await_key(store, VALUE)
        confpy.has_said("registration.lost")
        store.freeze()
        confpy.has_said("registration.failed", operation="refresh")
        time.sleep(3.5)  # the TTL ends meanwhile
        store.thaw()
        await_key(store, VALUE)
        confpy.process.terminate()
        assert confpy.process.wait(LONG) == 0
        assert read(store) is None


def test_a_key_that_another_takes_over_is_left_to_it_and_taken_again_when_it_is_free(store, tmp_path):
    (tmp_path / "new").mkdir()
    with Registered(store, tmp_path, "--ttl", "2s") as old:
        await_key(store, VALUE)
        with Registered(store, tmp_path / "new", "--ttl", "2s", value="10.0.0.2:80") as new:
            await_key(store, "10.0.0.2:80")
            old.has_said("registration.taken")
            assert read(store) == "10.0.0.2:80"
            new.process.terminate()
            assert new.process.wait(LONG) == 0
        await_key(store, VALUE)
        store.put(KEY, "of somebody else")
        old.has_said("registration.taken")
        old.process.terminate()
        assert old.process.wait(LONG) == 0
    assert read(store) == "of somebody else"


def test_a_store_that_is_away_holds_up_no_command_and_the_key_is_put_when_it_comes(tmp_path):
    with (
        Etcd(started=False) as store,
        Registered(
            store, tmp_path, "--ttl", "3s", "--drain", "0", "--", "sh", "-c", f"touch {tmp_path}/runs; sleep 600"
        ) as confpy,
    ):
        wait_until((tmp_path / "runs").exists, what="the command runs")
        confpy.has_said("registration.failed", operation="claim")
        store.start()
        await_key(store, VALUE)


# --- the check -------------------------------------------------------------------------------------------------------


def test_the_key_is_there_while_the_check_passes(store, tmp_path):
    healthy = tmp_path / "healthy"
    flags = ("--check", f"test -e {healthy}", "--check-interval", "0.1s")
    with Registered(store, tmp_path, "--ttl", "15s", *flags) as confpy:
        confpy.has_said("registration.waits")
        assert read(store) is None
        healthy.touch()
        await_key(store, VALUE)
        healthy.unlink()
        await_key(store, None)
        confpy.has_said("registration.check_failed", error="the check exited with 1")
        healthy.touch()
        await_key(store, VALUE)


def test_a_check_that_hangs_is_ended_with_its_group(store, tmp_path):
    script = f"trap '' TERM; sleep 600 & echo $! >> {tmp_path}/pids; wait"
    with Registered(store, tmp_path, "--ttl", "15s", "--check", script, "--check-timeout", "0.2s") as confpy:
        pids = tmp_path / "pids"
        wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), what="the check runs")
        confpy.process.terminate()
        assert confpy.process.wait(LONG) == 0
        assert read(store) is None
        wait_until(lambda: not any(runs(int(pid)) for pid in pids.read_text().split()), what="the check has ended")


def test_a_port_that_is_closed_and_a_page_that_fails_are_checks_that_fail(store, tmp_path):
    port = free_port()
    checks = (("--check-tcp", f"127.0.0.1:{port}"), ("--check-http", f"http://127.0.0.1:{port}/page"))
    for flags in checks:
        with Registered(store, tmp_path, "--ttl", "15s", "--check-interval", "0.1s", *flags) as confpy:
            confpy.has_said("registration.waits")
            serve = [
                sys.executable,
                "-m",
                "http.server",
                "--directory",
                str(tmp_path),
                "--bind",
                "127.0.0.1",
                str(port),
            ]
            (tmp_path / "page").touch()
            server = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                await_key(store, VALUE)
                if flags[0] == "--check-http":
                    (tmp_path / "page").unlink()
                    await_key(store, None)
                    confpy.has_said("registration.check_failed", error="the check was answered with 404 File not found")
                    (tmp_path / "page").touch()
                    await_key(store, VALUE)
            finally:
                server.kill()
                server.wait()
            await_key(store, None)


def test_a_service_manager_hears_when_the_key_is_there(store, tmp_path):
    with NotifySocket(tmp_path / "notify") as manager:
        more = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with Registered(store, tmp_path, "--ttl", "15s", more=more) as confpy:
            manager.hears("READY=1")
            assert read(store) == VALUE
            confpy.process.terminate()
            manager.hears("STOPPING=1")


# --- without a TTL, and what is wrong --------------------------------------------------------------------------------


def once(folder: Path, *flags: str, stdin: str = "", **more: str) -> tuple[int, list[dict[str, Any]]]:
    ended = subprocess.run(
        command(*flags), cwd=folder, env=environment(folder, more), input=stdin, capture_output=True, text=True,
        timeout=LONG, check=False,
    )  # fmt: skip
    return ended.returncode, read_events(ended.stderr)


def test_without_a_ttl_it_puts_the_key_and_deregister_removes_it(store, tmp_path):
    flags = ("-backend", "etcdv3", "-node", store.endpoint)
    code, (line,) = once(tmp_path, "register", KEY, VALUE, *flags)
    assert (code, line["event"], line["node"], read(store)) == (0, "registration.put", store.endpoint, VALUE)
    code, (line,) = once(tmp_path, "deregister", KEY, "another", *flags)
    assert (code, line["event"], read(store)) == (0, "registration.absent", VALUE)
    code, (line,) = once(tmp_path, "deregister", KEY, *flags)
    assert (code, line["event"], read(store)) == (0, "registration.removed", None)
    assert once(tmp_path, "deregister", KEY, *flags)[0] == 0


def test_the_value_comes_from_a_file_or_from_stdin_and_is_not_in_the_log(store, tmp_path):
    flags = ("-backend", "etcdv3", "-node", store.endpoint, "-log-level", "debug")
    (tmp_path / "value").write_text("from a file\n")
    code, lines = once(tmp_path, "register", KEY, "-value-file", "value", *flags)
    assert (code, read(store), "from a file" in str(lines)) == (0, "from a file", False)
    code, lines = once(tmp_path, "register", KEY, "-", *flags, stdin="from stdin\n")
    assert (code, read(store), "from stdin" in str(lines)) == (0, "from stdin", False)


def test_a_store_that_is_away_is_exit_code_3_and_is_waited_for_if_asked(tmp_path):
    flags = ("-backend", "etcdv3", "-node", f"127.0.0.1:{free_port()}")
    code, lines = once(tmp_path, "register", KEY, VALUE, *flags)
    assert (code, lines[-1]["event"]) == (3, "confpy.failed")
    code, lines = once(tmp_path, "register", KEY, VALUE, "-retry-for", "1s", *flags)
    assert (code, lines[0]["event"]) == (3, "registration.failed")


def test_a_command_that_is_not_there_is_127_and_nothing_is_put(store, tmp_path):
    flags = ("-backend", "etcdv3", "-node", store.endpoint, "-ttl", "15s", "--", "no-such-command")
    code, (line,) = once(tmp_path, "register", KEY, VALUE, *flags)
    assert (code, line["event"], read(store)) == (127, "registration.command_failed", None)
