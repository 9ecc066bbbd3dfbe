"""The notification socket of a service manager: ``confpy.status.notify``."""

from __future__ import annotations

import os
import socket

import pytest

from confpy.status import notify
from confpy.status.notify import Notifier, in_words, watchdog_seconds


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """The manager's end, and what the variable says of it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@confpy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        end.settimeout(10)
        yield end, {"NOTIFY_SOCKET": name}


def test_the_variables_of_one_call_are_one_datagram(manager):
    end, environ = manager
    notifier = Notifier.of(environ)
    assert notifier.send("READY=1", "STATUS=up to date")
    assert end.recv(1000) == b"READY=1\nSTATUS=up to date"
    notifier.close()


@pytest.mark.parametrize("address", ["", "@", "/", "relative", "vsock:2:1234"])
def test_without_a_socket_that_it_can_reach_nobody_is_notified(address):
    assert Notifier.of({"NOTIFY_SOCKET": address}) is None
    assert Notifier.of({}) is None


def test_a_state_that_the_manager_did_not_take_is_sent_before_the_next_datagram(tmp_path):
    path = str(tmp_path / "notify")
    notifier = Notifier.of({"NOTIFY_SOCKET": path})
    assert not notifier.send("READY=1", "STATUS=a")
    assert not notifier.send("STATUS=b")
    assert not notifier.send("STATUS=c")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(path)
        end.settimeout(10)
        assert notifier.send()
        assert [end.recv(100), end.recv(100)] == [b"READY=1\nSTATUS=a", b"STATUS=c"]
    notifier.close()


def test_the_watchdog_watches_the_process_that_it_names(monkeypatch):
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000"}) == 30.0
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30.0
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) == 0.0
    assert watchdog_seconds({"WATCHDOG_USEC": "soon"}) == 0.0
    assert watchdog_seconds({"WATCHDOG_USEC": "-5"}) == 0.0
    assert watchdog_seconds({}) == 0.0
    # As PID 1 confpy works in a child.
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setattr(notify, "_leads_namespace", lambda: True)
    assert watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) == 30.0


def test_words_for_people_are_one_short_line():
    assert in_words("a\nREADY=0\x1b[0m") == "a READY=0 [0m"
    assert len(in_words("x" * 5000)) == notify.LONGEST_STATUS
