"""A confpy that runs on: it owes until it has paid, one resource's trouble is nobody else's, and it ends when told."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.running import Confpy
from tests.waiting import wait_until


class House:
    """A confdir over a file of keys, whose resources print ``/app/<name>``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.confdir = folder / "confd"
        self.keys = folder / "keys.yaml"
        self.write("")

    def write(self, keys: str) -> None:
        """Replace the file of keys as editors do."""
        new = self.folder / "keys.new"
        new.write_text(keys)
        new.replace(self.keys)

    def add(self, name: str, **more: str) -> Path:
        for folder in ("conf.d", "templates"):
            (self.confdir / folder).mkdir(parents=True, exist_ok=True)
        (self.confdir / "templates" / f"{name}.j2").write_text(f'{{{{ getv("/app/{name}", "none") }}}}\n')
        dest = self.folder / name
        keys = {"src": f"'{name}.j2'", "dest": f"'{dest}'", "keys": f"['/app/{name}']", **more}
        lines = [f"{key} = {value}" for key, value in keys.items()]
        (self.confdir / "conf.d" / f"{name}.toml").write_text("\n".join(["[template]", *lines, ""]))
        return dest

    def start(self, *flags: str) -> Confpy:
        where = ("-backend", "file", "-file", str(self.keys), "-confdir", str(self.confdir))
        return Confpy(*where, *(flags or ("-watch",)), folder=self.folder)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def shows(dest: Path, text: str, *, seconds: float = 20) -> None:
    wait_until(lambda: dest.exists() and dest.read_text() == text, seconds=seconds, what=f"{text!r} in {dest.name}")


def test_a_reload_that_failed_twice_is_run_a_third_time_and_then_no_more(house: House) -> None:
    log = house.folder / "reloads"
    house.add("a", reload_cmd=f"'echo x >> {log}; test $(wc -l < {log}) -ge 3'")
    with house.start("-watch", "-resync", "1s") as confpy:
        confpy.says("reload.failed", resource="a", did="the reload stays owed")
        confpy.says("resource.changed", resource="a", reloaded=True, seconds=30)
        # Two looks later nothing has been run again.
        house.write("app: {b: 1}")
        end = time.monotonic() + 2.5
        wait_until(lambda: time.monotonic() > end, what="two resyncs")
    assert log.read_text() == "x\n" * 3


def test_a_check_that_fails_is_tried_again_without_a_new_change(house: House) -> None:
    gate = house.folder / "gate"
    dest = house.add("a", check_cmd=f"'test -e {gate} # {{{{.src}}}}'")
    with house.start() as confpy:
        confpy.says("resource.failed", resource="a")
        assert not dest.exists()
        gate.touch()
        shows(dest, "none\n")


def test_a_check_that_hangs_holds_up_nobody_else(house: House) -> None:
    house.add("a", check_cmd="'sleep 60 # {{.src}}'")
    other = house.add("b", check_cmd="'true {{.src}}'")
    plain = house.add("c")
    with house.start("-watch", "-stop-timeout", "1s"):
        shows(other, "none\n")
        shows(plain, "none\n")
        house.write("app: {b: new, c: newer}")
        shows(other, "new\n")
        shows(plain, "newer\n")


def test_a_command_out_of_time_is_ended_with_its_children_and_names_its_key(house: House) -> None:
    pids = house.folder / "pids"
    house.add("a", check_cmd=f"'sleep 77 & echo $! > {pids}; wait # {{{{.src}}}}'", check_cmd_timeout="'300ms'")
    with house.start() as confpy:
        event = confpy.says("resource.failed", resource="a")
        assert "check_cmd_timeout" in event["hint"]
        wait_until(lambda: not is_alive(int(pids.read_text())), what="the child of the check is gone")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_waits_for_a_confdir_that_is_not_there_yet(house: House) -> None:
    with house.start() as confpy:
        confpy.says("resources.missing")
        dest = house.add("a")
        shows(dest, "none\n")


def test_keys_that_are_not_there_yet_are_waited_for(house: House) -> None:
    dest = house.add("a")
    house.keys.unlink()
    with house.start() as confpy:
        confpy.says("store.lost")
        house.write("app: {a: late}")
        shows(dest, "late\n")
        confpy.says("store.recovered")


def test_a_hangup_makes_it_look_again_and_does_not_end_it(house: House) -> None:
    dest = house.add("a")
    with house.start("-interval", "600") as confpy:
        shows(dest, "none\n")
        house.write("app: {a: new}")
        confpy.process.send_signal(signal.SIGHUP)
        shows(dest, "new\n")
        dest.write_text("by hand\n")
        confpy.process.send_signal(signal.SIGHUP)
        shows(dest, "new\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_an_idle_one_at_once_with_its_code(house: House, number: signal.Signals, code: int) -> None:
    dest = house.add("a")
    with house.start() as confpy:
        shows(dest, "none\n")
        confpy.process.send_signal(number)
        assert confpy.process.wait(5) == code


def test_a_signal_lets_the_reload_in_hand_end(house: House) -> None:
    begun, done = house.folder / "begun", house.folder / "done"
    house.add("a", reload_cmd=f"'touch {begun}; sleep 1; touch {done}'")
    with house.start() as confpy:
        wait_until(begun.exists, what="the reload has begun")
        confpy.process.terminate()
        assert confpy.process.wait(8) == 143
    assert done.exists()


def test_a_reload_that_hangs_is_killed_after_the_stop_timeout(house: House) -> None:
    pid = house.folder / "pid"
    house.add("a", reload_cmd=f"'echo $$ > {pid}; exec sleep 99'")
    with house.start("-watch", "-stop-timeout", "1s") as confpy:
        wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the reload has begun")
        confpy.process.terminate()
        assert confpy.process.wait(8) == 143
    wait_until(lambda: not is_alive(int(pid.read_text())), what="the reload is gone")


def test_a_second_signal_does_not_wait(house: House) -> None:
    pid = house.folder / "pid"
    house.add("a", reload_cmd=f"'echo $$ > {pid}; exec sleep 99'")
    with house.start("-watch", "-stop-timeout", "60s") as confpy:
        wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the reload has begun")
        confpy.process.terminate()
        confpy.says("signal.received")
        confpy.process.terminate()
        assert confpy.process.wait(8) == 143
    wait_until(lambda: not is_alive(int(pid.read_text())), what="the reload is gone")


def test_no_value_of_a_key_stands_in_the_log_at_any_level(house: House) -> None:
    house.add("a", check_cmd="'grep -q good {{.src}}'")
    (house.confdir / "templates" / "a.j2").write_text('{{ json(getv("/app/a")).x }} {{ getv("/app/a") | int + "s" }}')
    house.add("b")
    house.write("app: {a: canary-1234, b: canary-5678}")
    with house.start("-watch", "-log-level", "debug") as confpy:
        confpy.says("resource.failed", resource="a")
        confpy.says("resource.changed", resource="b")
    assert "canary" not in str(confpy.events)


def test_nothing_is_left_open_or_growing_after_many_changes(house: House) -> None:
    dest = house.add("a", check_cmd="'true {{.src}}'", reload_cmd="'true'")
    with house.start() as confpy:
        shows(dest, "none\n")

        def held() -> tuple[int, int]:
            root = Path(f"/proc/{confpy.process.pid}")
            return len(os.listdir(root / "fd")), len(os.listdir(root / "task"))

        confpy.says("resource.changed")
        before = min(held() for _ in range(100))
        for number in range(40):
            house.write(f"app: {{a: w{number}}}")
            shows(dest, f"w{number}\n")
        wait_until(lambda: held() <= before, what=f"as many files and threads as before: {before}")
