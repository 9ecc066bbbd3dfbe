"""confpy as a service: what it tells systemd, in which order, and what its unit leaves alive."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import ROOT, Confpy, environment
from tests.e2e.service_manager import NotifySocket, Service, read_unit
from tests.e2e.test_pid1 import PROXY, RELOAD
from tests.e2e.test_sidecar import answered, flags, make_confdir, put
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.waiting import wait_until

UNIT = ROOT / "examples" / "systemd" / "confpy.service"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(tmp_path / "notify") as manager:
        yield manager


def under(manager: NotifySocket, **more: str) -> dict[str, str]:
    """Return what a service manager adds to the environment of a service."""
    runtime = manager.path.parent / "run"
    runtime.mkdir(exist_ok=True)
    return {"NOTIFY_SOCKET": str(manager.path), "RUNTIME_DIRECTORY": str(runtime), **more}


def test_a_service_says_that_it_is_ready_reloads_lives_and_stops_in_this_order(tmp_path, manager):
    make_confdir(tmp_path, "{{ getv('/generation') }}", "")
    put(tmp_path, 0)
    more = under(manager, WATCHDOG_USEC="600000")
    with Confpy(*flags(tmp_path), folder=tmp_path, more=more) as confpy:
        assert "STATUS=1 resource, all up to date" in manager.hears("READY=1")
        before = time.monotonic()
        confpy.process.send_signal(signal.SIGHUP)
        reloading = dict(line.split("=", 1) for line in manager.hears("RELOADING=1").splitlines())
        # In the same datagram, of the clock that systemd compares it with, and not before its request.
        assert before * 1e6 <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic() * 1e6
        assert "ERRNO=0" in manager.hears("READY=1", times=2)
        count = manager.datagrams.count("WATCHDOG=1")
        manager.hears("WATCHDOG=1", times=count + 3)
        assert confpy.stop() == 0
    assert manager.states == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert manager.datagrams.index("WATCHDOG=1") >= 0


def test_a_reload_that_cannot_deliver_ends_with_an_error_and_the_words_say_which(tmp_path, manager):
    make_confdir(tmp_path, "{{ getv('/generation') }}", "")
    put(tmp_path, 0)
    with Confpy(*flags(tmp_path), folder=tmp_path, more=under(manager)) as confpy:
        manager.hears("READY=1")
        (tmp_path / "templates/t.j2").write_text("{{ getv('/none') }}")
        confpy.process.send_signal(signal.SIGHUP)
        confpy.says("resource.failed")
        assert "STATUS=1 resource: resource web:" in manager.hears("ERRNO=5")
        assert confpy.stop() == 0


def test_a_start_waits_for_a_store_that_is_away_and_asks_for_the_time(tmp_path, manager):
    make_confdir(tmp_path, "{{ getv('/generation') }}", "")
    with Etcd() as etcd:
        etcd.kill()
        follows = ("-watch", "-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(tmp_path))
        with Confpy(*follows, folder=tmp_path, more=under(manager)) as confpy:
            manager.hears("EXTEND_TIMEOUT_USEC=30000000")
            assert "store etcdv3" in manager.hears("STATUS=waits:")
            assert manager.states == []
            etcd.start()
            etcd.put("/generation", "1")
            manager.hears("READY=1")
            assert (tmp_path / "out").read_text() == "1"
            assert confpy.stop() == 0


def test_a_start_does_not_wait_for_a_store_that_stays_away_if_every_target_exists(tmp_path, manager):
    make_confdir(tmp_path, "{{ getv('/generation') }}", "")
    (tmp_path / "out").write_text("old")
    away = ("-watch", "-backend", "etcdv3", "-node", f"http://127.0.0.1:{free_port()}", "-confdir", str(tmp_path))
    with Confpy(*away, "-ready-timeout", "300ms", folder=tmp_path, more=under(manager)) as confpy:
        assert "STATUS=1 resource: store etcdv3" in manager.hears("READY=1")
        assert confpy.stop() == 0


def test_an_owner_that_is_stuck_sends_no_sign_of_life_though_its_threads_run(tmp_path, manager):
    endless = (
        "{% set n = getv('/generation') | int %}{% for _ in range(n) %}{% for _ in range(n) %}{% endfor %}{% endfor %}"
    )
    make_confdir(tmp_path, endless, "")
    put(tmp_path, 0)
    more = under(manager, WATCHDOG_USEC="300000")
    with Confpy(*flags(tmp_path), folder=tmp_path, more=more) as confpy:
        manager.hears("READY=1")
        manager.hears("WATCHDOG=1", times=3)
        put(tmp_path, 1_000_000)
        wait_until(lambda: time.monotonic() - manager.heard_at > 2, what="its signs of life have ended")
        assert confpy.process.poll() is None
        assert len(list(Path(f"/proc/{confpy.process.pid}/task").iterdir())) > 1
        confpy.process.kill()


def test_commands_do_not_reach_the_service_manager(tmp_path, manager):
    reload = f"reload_cmd = 'env > {tmp_path}/env'"
    make_confdir(tmp_path, "a", reload)
    put(tmp_path, 0)
    more = under(manager, WATCHDOG_USEC="60000000", LISTEN_FDS="1", LISTEN_PID="1")
    with Confpy(*flags(tmp_path), folder=tmp_path, more=more) as confpy:
        confpy.says("resource.changed")
        found = (tmp_path / "env").read_text()
        assert "CONFPY_DEST" in found
        assert [name for name in ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_") if name in found] == []
        assert confpy.stop() == 0


@pytest.mark.parametrize("mode", ["as the unit says", "control-group"])
def test_a_haproxy_that_its_reload_started_outlives_it_as_the_unit_says(tmp_path, manager, mode):
    port = free_port()
    make_confdir(tmp_path, PROXY.format(port=port), f"reload_cmd = '''\n{RELOAD.format(folder=tmp_path)}'''\n")
    (tmp_path / "proxy.cfg").symlink_to(tmp_path / "out")
    put(tmp_path, 0)
    unit = read_unit(UNIT.read_text())
    if mode == "control-group":
        unit["KillMode"] = [mode]
    words = (sys.executable, "-m", "confpy", "-log-format", "json", *flags(tmp_path)[1:])
    service = Service(unit, words, environment(tmp_path, under(manager)))
    try:
        manager.hears("READY=1")
        wait_until(lambda: answered(port) == "0", what="HAProxy serves")
        assert len(service.members()) > 1
        assert service.stop() == 0
        assert manager.states[-1] == "STOPPING=1"
        if mode == "control-group":
            wait_until(lambda: answered(port) == "", what="HAProxy has gone with its control group")
            return
        assert answered(port) == "0"
        # The next start follows with the same HAProxy.
        master = (tmp_path / "pid").read_text()
        service = Service(unit, words, environment(tmp_path, under(manager)))
        manager.hears("READY=1", times=2)
        put(tmp_path, 1)
        wait_until(lambda: answered(port) == "1", what="HAProxy serves the change")
        assert (tmp_path / "pid").read_text() == master
        assert service.stop() == 0
        assert answered(port) == "1"
    finally:
        service.process.kill()
        service.process.wait()
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


def test_the_command_that_reloads_the_unit_waits_and_says_how_it_went(tmp_path, manager):
    make_confdir(tmp_path, "{{ getv('/generation') }}", "")
    put(tmp_path, 0)
    unit = read_unit(UNIT.read_text())
    confpy = (sys.executable, "-m", "confpy", "-log-format", "json", "-confdir", str(tmp_path))
    service = Service(unit, (*confpy, *flags(tmp_path)[1:5]), environment(tmp_path, under(manager)))
    reloads = {**unit, "ExecStart": unit["ExecReload"]}
    try:
        manager.hears("READY=1")
        (tmp_path / "templates/t.j2").write_text("new {{ getv('/generation') }}")
        done = Service(reloads, confpy, environment(tmp_path, under(manager)))
        assert done.process.wait(60) == 0
        assert (tmp_path / "out").read_text() == "new 0"
        (tmp_path / "templates/t.j2").write_text("{{ getv('/none') }}")
        done = Service(reloads, confpy, environment(tmp_path, under(manager)))
        assert done.process.wait(60) == 4
        assert service.stop() == 0
    finally:
        service.process.kill()
        service.process.wait()


def test_the_unit_is_of_the_kind_that_the_manual_describes():
    unit = read_unit(UNIT.read_text())
    kinds = {"Type": ["notify"], "KillMode": ["process"], "ExecReload": ["/usr/bin/confpy reload -wait"]}
    assert {name: unit[name] for name in kinds} == kinds
    folders = {unit[f"{kind}Directory"][0] for kind in ("Runtime", "State", "Cache", "Configuration")}
    assert folders == {"confpy"}
    drop_in = (UNIT.parent / "confpy.service.d" / "notify-reload.conf").read_text()
    assert read_unit(drop_in) == {"Type": ["notify-reload"]}
    assert "\nExecReload=\n" in drop_in, "the command of the unit is taken back"
