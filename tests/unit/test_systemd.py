"""What a daemon tells its service manager: ``confpy.daemon.systemd``; the units that are shipped."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from confpy.clock import NEVER
from confpy.daemon.systemd import REVIEW, RUNNING, STARTING, ServiceManager, words
from confpy.messages import Signalled, Woken
from confpy.status.model import ResourceStatus, Status, StoreStatus

UNITS = Path(__file__).parents[2] / "examples" / "systemd"
HUP, WOKEN = (Signalled(signal.SIGHUP),), (Woken(),)


def status(*resources, is_started=True, answered_at=1.0, is_up=True, error=None):
    store = StoreStatus("etcdv3", is_up=is_up, answered_at=answered_at, error=error)
    return Status("1", 1, "/c", "etcdv3", "watch", 0.0, 100.0, is_started, resources, (store,))


CURRENT = ResourceStatus("a", "/a")
FAILED = ResourceStatus("b", "/b", state="failed", cause="missing key", why="there is no such key")


class Owner:
    """A daemon, as far as the manager is told of it; what it was told is in ``sent``."""

    def __init__(self, watchdog=0.0):
        self.is_started = self.is_stopping = False
        self.made = status(is_started=False, answered_at=0.0)
        self.looks = 0
        self.is_over, self.errors = False, ()
        self.sent = []
        self.manager = ServiceManager(self, watchdog, 0.0)

    def send(self, *variables):
        self.sent.append("\n".join(variables))

    def status(self):
        self.looks += 1
        return self.made

    def review(self, _asked_at):
        return SimpleNamespace(is_over=self.is_over, errors=self.errors)

    def step(self, now, messages=WOKEN):
        """Take a step; return what was sent in it, and when the next is due."""
        self.sent = []
        return self.sent, self.manager.step(self, messages, now)


def start(owner, now=0.0):
    owner.is_started, owner.made = True, status(CURRENT)
    return owner.step(now)


def test_a_start_that_waits_for_the_store_asks_for_time_and_says_why():
    owner = Owner()
    owner.made = status(is_started=False, answered_at=0.0, is_up=False, error={"error": "connection refused"})
    sent, next_at = owner.step(0.0)
    assert sent == ["STATUS=waits: store etcdv3: connection refused", "EXTEND_TIMEOUT_USEC=30000000"]
    assert next_at == 10.0
    assert start(owner, 11.0)[0] == ["READY=1\nSTATUS=1 resource, all up to date"]


def test_a_reload_is_over_when_everything_was_tried():
    owner = Owner()
    start(owner)
    sent, next_at = owner.step(1.0, HUP)
    assert sent == ["RELOADING=1\nMONOTONIC_USEC=1000000\nSTATUS=reads and looks at everything again"]
    assert next_at == 1.0 + REVIEW
    owner.is_over = True
    sent, next_at = owner.step(2.0, ())
    assert sent == ["READY=1\nERRNO=0\nSTATUS=1 resource, all up to date"]
    owner.errors = ("no such key",)
    owner.made = status(CURRENT, FAILED)
    sent, _ = owner.step(30.0, HUP)
    assert sent == [
        "RELOADING=1\nMONOTONIC_USEC=30000000",
        "READY=1\nERRNO=5\nSTATUS=2 resources: resource b: there is no such key",
    ]


def test_a_stop_is_said_before_the_end():
    owner = Owner()
    start(owner)
    owner.is_stopping = True
    assert owner.step(1.0)[0] == ["STOPPING=1\nSTATUS=stops: ends what is in hand"]


def test_a_status_is_made_only_when_something_came_and_not_often():
    owner = Owner()
    for tenth in range(10):
        owner.step(tenth / 10)
    assert owner.looks == 1
    _, next_at = owner.step(0.95)
    assert next_at == STARTING
    start(owner, 5.0)
    looks = owner.looks
    for second in range(1000):
        owner.step(6.0 + second / 100)
    assert owner.looks == looks + 1
    owner.step(6.0 + 2 * RUNNING)
    _, next_at = owner.step(7.0 + 2 * RUNNING, ())
    assert next_at == NEVER


def test_the_watchdog_hears_of_each_third_of_its_time_while_nothing_happens():
    owner = Owner(watchdog=30.0)
    assert "WATCHDOG=1" in start(owner)[0]
    _, next_at = owner.step(1.0, ())
    assert next_at == 10.0
    assert owner.step(10.0, ())[0] == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (status(), "0 resources, all up to date"),
        (status(CURRENT), "1 resource, all up to date"),
        (status(CURRENT, FAILED, FAILED), "3 resources: resource b: there is no such key (and 1 more)"),
        (status(CURRENT, is_started=False), "starts: 1 resource"),
        (status(FAILED, is_started=False), "waits: resource b: there is no such key"),
    ],
)
def test_the_words_for_people_name_the_first_trouble(made, expected):
    assert words(made) == expected


# --- the units -------------------------------------------------------------------------------------------------------


@pytest.fixture
def analyze(tmp_path):
    """Runs systemd-analyze on the unit, with a command that is here in place of confpy."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "confpy.service"
    unit.write_text((UNITS / "confpy.service").read_text().replace("/usr/bin/confpy", str(shutil.which("true"))))

    def run(*words):
        return subprocess.run(
            [program, *words, str(unit)], check=False, capture_output=True, text=True, timeout=60, env={"LANG": "C"}
        )

    run.unit = unit
    run.version = int(re.search(r"systemd (\d+)", run("--version").stdout)[1])
    return run


def test_systemd_finds_no_mistake_in_the_unit(analyze):
    done = analyze("verify")
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_no_mistake_in_the_drop_in_where_it_knows_the_type(analyze):
    folder = analyze.unit.with_suffix(".service.d")
    folder.mkdir()
    shutil.copy(UNITS / "confpy.service.d" / "notify-reload.conf", folder)
    done = analyze("verify")
    if analyze.version >= 253:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        # The line is ignored there, as the file says; all others are right.
        assert done.stderr.count("\n") == 1
        assert "service type" in done.stderr


def test_the_unit_exposes_less_than_3_5_of_10(analyze):
    done = analyze("security", "--offline=true", "--threshold=35", "--no-pager")
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert (done.returncode, float(found[1]) < 3.5) == (0, True)
