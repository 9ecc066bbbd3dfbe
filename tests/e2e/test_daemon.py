"""The daemon: a reload stays owed until it succeeds, one resource's failure stops no other, a signal stops it."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, shows
from tests.waiting import wait_until

TGKILL = 131 if platform.machine() == "aarch64" else 234
"""The number of the system call that sends a signal to one thread."""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_a_check_that_hangs_holds_up_nobody_else(installation: Installation) -> None:
    installation.add("a", check_cmd="'sleep 60 # {{.src}}'")
    other = installation.add("b", check_cmd="'true {{.src}}'")
    plain = installation.add("c")
    with installation.start("-watch", "-stop-timeout", "1s"):
        shows(other, "none\n")
        shows(plain, "none\n")
        installation.write("app: {b: new, c: newer}")
        shows(other, "new\n")
        shows(plain, "newer\n")


def test_a_command_out_of_time_is_ended_with_its_children_and_names_its_key(installation: Installation) -> None:
    pids = installation.folder / "pids"
    installation.add("a", check_cmd=f"'sleep 77 & echo $! > {pids}; wait # {{{{.src}}}}'", check_cmd_timeout="'300ms'")
    with installation.start() as confpy:
        event = confpy.says("resource.failed", resource="a")
        assert "check_cmd_timeout" in event["hint"]
        wait_until(lambda: not is_alive(int(pids.read_text())), what="the child of the check is gone")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_waits_for_a_confdir_that_is_not_there_yet(installation: Installation) -> None:
    with installation.start() as confpy:
        confpy.says("resources.missing")
        dest = installation.add("a")
        shows(dest, "none\n")


def test_keys_that_are_not_there_yet_are_waited_for(installation: Installation) -> None:
    dest = installation.add("a")
    installation.keys.unlink()
    with installation.start() as confpy:
        confpy.says("store.lost")
        installation.write("app: {a: late}")
        shows(dest, "late\n")
        confpy.says("store.recovered")


def test_a_hangup_makes_it_look_again_and_does_not_end_it(installation: Installation) -> None:
    dest = installation.add("a")
    with installation.start("-interval", "600") as confpy:
        shows(dest, "none\n")
        installation.write("app: {a: new}")
        confpy.process.send_signal(signal.SIGHUP)
        shows(dest, "new\n")
        dest.write_text("by hand\n")
        confpy.process.send_signal(signal.SIGHUP)
        shows(dest, "new\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_one_at_once_and_that_is_no_failure(
    installation: Installation, number: signal.Signals
) -> None:
    dest = installation.add("a")
    with installation.start() as confpy:
        shows(dest, "none\n")
        confpy.process.send_signal(number)
        assert confpy.process.wait(5) == 0


def test_a_signal_that_the_kernel_gives_to_another_thread_ends_it_at_once(installation: Installation) -> None:
    installation.add("a")
    with installation.start("-watch", "-resync", "1h") as confpy:
        confpy.says("resource.changed")
        process = confpy.process.pid
        other = next(
            int(one) for one in sorted(os.listdir(f"/proc/{process}/task"), reverse=True) if int(one) != process
        )
        assert ctypes.CDLL(None).syscall(TGKILL, process, other, int(signal.SIGTERM)) == 0
        assert confpy.process.wait(5) == 0


def test_a_signal_lets_the_reload_in_hand_end(installation: Installation) -> None:
    begun, done = installation.folder / "begun", installation.folder / "done"
    installation.add("a", reload_cmd=f"'touch {begun}; sleep 1; touch {done}'")
    with installation.start() as confpy:
        wait_until(begun.exists, what="the reload has begun")
        confpy.process.terminate()
        assert confpy.process.wait(8) == 0
    assert done.exists()


def test_a_reload_that_hangs_is_killed_after_the_stop_timeout(installation: Installation) -> None:
    pid = installation.folder / "pid"
    installation.add("a", reload_cmd=f"'echo $$ > {pid}; exec sleep 99'")
    with installation.start("-watch", "-stop-timeout", "1s") as confpy:
        wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the reload has begun")
        confpy.process.terminate()
        assert confpy.process.wait(8) == 143
    wait_until(lambda: not is_alive(int(pid.read_text())), what="the reload is gone")


def test_a_second_signal_does_not_wait(installation: Installation) -> None:
    pid = installation.folder / "pid"
    installation.add("a", reload_cmd=f"'echo $$ > {pid}; exec sleep 99'")
    with installation.start("-watch", "-stop-timeout", "60s") as confpy:
        wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the reload has begun")
        confpy.process.terminate()
        confpy.says("signal.received")
        confpy.process.terminate()
        assert confpy.process.wait(8) == 143
    wait_until(lambda: not is_alive(int(pid.read_text())), what="the reload is gone")


def test_no_value_of_a_key_stands_in_the_log_at_any_level(installation: Installation) -> None:
    installation.add("a", check_cmd="'grep -q good {{.src}}'")
    (installation.confdir / "templates" / "a.j2").write_text(
        '{{ json(getv("/app/a")).x }} {{ getv("/app/a") | int + "s" }}'
    )
    dest = installation.add("b")
    installation.write("app: {a: canary-1234, b: canary-5678}")
    with installation.start("-watch", "-log-level", "debug") as confpy:
        confpy.says("resource.failed", resource="a")
        shows(dest, "canary-5678\n")
    assert {"resource.failed", "resource.changed"} <= {event["event"] for event in confpy.events}
    assert "canary" not in str(confpy.events)


def test_nothing_is_left_open_or_growing_after_many_changes(installation: Installation) -> None:
    dest = installation.add("a", check_cmd="'true {{.src}}'", reload_cmd="'true'")
    with installation.start() as confpy:
        shows(dest, "none\n")

        def held() -> tuple[int, int]:
            root = Path(f"/proc/{confpy.process.pid}")
            return len(os.listdir(root / "fd")), len(os.listdir(root / "task"))

        confpy.says("resource.changed")
        before = min(held() for _ in range(100))
        for number in range(40):
            installation.write(f"app: {{a: w{number}}}")
            shows(dest, f"w{number}\n")
        wait_until(lambda: held() <= before, what=f"as many files and threads as before: {before}")
