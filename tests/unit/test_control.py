"""The control socket: where it is, who may use it, and what it takes from whoever connects."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from contextlib import ExitStack

import pytest

from confpy.commands.asking import NoDaemon, ask
from confpy.daemon.questions import NoAnswer, Question
from confpy.errors import ConfpyError, UsageError
from confpy.status import control, places
from confpy.status.control import ControlSocket, InUse
from confpy.status.protocol import Refused, Request, answer_line, read_answer, write_request
from tests.waiting import wait_until

NAME = places.socket_name("/etc/confpy")


def fail(_arguments):
    raise UsageError("no", hint="do", file="/x")


REQUESTS = {
    "echo": Request(dict, changes=False),
    "change": Request(lambda _: "done"),
    "fail": Request(fail),
    "bug": Request(lambda _: 1 // 0),
}


@pytest.fixture
def folder(tmp_path):
    # A short path: a socket's has 107 bytes at most.
    made = tmp_path / "r"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def listening(folder):
    server = ControlSocket.open_in([str(folder)], NAME, REQUESTS)
    yield server
    server.close()


def answered(line, *, is_trusted=True):
    return json.loads(answer_line(line, REQUESTS, is_trusted=is_trusted))


# --- the protocol ----------------------------------------------------------------------------------------------------


def test_a_request_gets_its_answer_as_one_line_of_json():
    assert answered(write_request("echo", {"a": 1})) == {"version": 1, "answer": {"a": 1}}
    assert read_answer(answer_line(write_request("echo", {}), REQUESTS, is_trusted=True)) == {}


def test_an_error_comes_back_with_its_places_its_hint_and_its_code():
    with pytest.raises(Refused) as caught:
        read_answer(answer_line(write_request("fail", {}), REQUESTS, is_trusted=True))
    assert caught.value.fields() == {"error": "no", "file": "/x", "hint": "do"}
    assert caught.value.exit_code == 2


def test_a_bug_is_reported_without_what_it_says():
    error = answered(write_request("bug", {}))["error"]["error"]
    assert "a bug in confpy: ZeroDivisionError" in error
    assert "by zero" not in error


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"1", b"null", b'"status"', b'{"version": 1}', b'{"request": "echo"}', b"\xff", b"[" * 100_000,
     b'{"version": 2, "request": "echo"}', b'{"version": 1, "request": 5}', b'{"version": 1, "request": "who"}'],
)  # fmt: skip
def test_what_is_no_request_is_refused_as_a_mistake(line):
    assert answered(line)["code"] == 2


def test_only_root_and_our_user_may_change_something():
    assert answered(write_request("change", {}), is_trusted=False)["code"] == 2
    assert answered(write_request("change", {}))["answer"] == "done"
    assert answered(write_request("echo", {}), is_trusted=False)["answer"] == {}


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"7", b'{"error": "x", "code": 2}', b'{"error": {}, "code": "x"}'])
def test_an_answer_that_is_none_is_an_error_and_no_traceback(line):
    with pytest.raises(ConfpyError):
        read_answer(line)


# --- the socket ------------------------------------------------------------------------------------------------------


def test_a_socket_is_for_its_user_alone_and_answers(listening):
    assert stat.S_IMODE(os.lstat(listening.path).st_mode) == 0o600
    assert ask(listening.path, "echo", {"a": "ä\x1b\udcff"}) == {"a": "ä\x1b\udcff"}
    with pytest.raises(Refused, match="knows no request 'who'"):
        ask(listening.path, "who")


def test_a_socket_is_removed_when_it_is_closed(folder):
    server = ControlSocket.open_in([str(folder)], NAME, REQUESTS)
    server.close()
    assert os.listdir(folder) == []
    with pytest.raises(NoDaemon):
        ask(server.path, "echo")
    wait_until(lambda: "confpy-control" not in {one.name for one in threading.enumerate()}, what="the thread has ended")


def test_the_socket_of_a_daemon_that_was_killed_is_taken_over(folder):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(folder / NAME))
    stale.close()
    server = ControlSocket.open_in([str(folder)], NAME, REQUESTS)
    assert ask(server.path, "echo") == {}
    server.close()


def test_the_socket_of_a_daemon_that_runs_is_not(listening, folder):
    with pytest.raises(InUse):
        ControlSocket.open_in([str(folder)], NAME, REQUESTS)
    assert ask(listening.path, "echo") == {}


def test_who_closes_does_not_remove_the_socket_of_a_later_one(folder):
    first = ControlSocket.open_in([str(folder)], NAME, REQUESTS)
    os.unlink(first.path)
    second = ControlSocket.open_in([str(folder)], NAME, REQUESTS)
    first.close()
    assert ask(second.path, "echo") == {}
    second.close()


def test_a_folder_where_others_may_write_and_one_with_a_long_path_are_passed_over(folder):
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    long = folder / ("x" * 100)
    last = folder / "last"
    server = ControlSocket.open_in([str(shared), str(long), str(folder / "no" / "no"), str(last)], NAME, REQUESTS)
    assert server.path == str(last / NAME)
    assert os.listdir(shared) == []
    server.close()
    with pytest.raises(ConfpyError, match="no place for the control socket"):
        ControlSocket.open_in([str(shared)], NAME, REQUESTS)


def test_a_link_in_the_place_of_the_socket_is_replaced_and_not_followed(folder):
    victim = folder / "victim"
    victim.write_text("mine")
    (folder / NAME).symlink_to(victim)
    server = ControlSocket.open_in([str(folder)], NAME, REQUESTS)
    assert victim.read_text() == "mine"
    assert stat.S_ISSOCK(os.lstat(server.path).st_mode)
    server.close()


def test_who_sends_nothing_or_too_much_is_cut_off_and_others_are_answered(listening, monkeypatch):
    monkeypatch.setattr(control, "SECONDS", 0.1)
    with ExitStack() as stack:
        for _ in range(2 * control.AT_ONCE):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(listening.path)
        assert ask(listening.path, "echo") == {}
    with socket.socket(socket.AF_UNIX) as large:
        large.connect(listening.path)
        large.settimeout(5)
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            large.sendall(b"x" * (64 << 20))


# --- where it is -----------------------------------------------------------------------------------------------------


def test_the_folders_are_tried_in_the_order_that_the_manual_gives():
    environ = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/1"}
    assert places.folders(environ, "/state") == ["/run/a", "/run/confpy", "/run/user/1/confpy", "/state"]
    assert places.folders({"RUNTIME_DIRECTORY": "relative"}, "/state") == ["/run/confpy", "/state"]


def test_a_name_stands_for_one_confdir_whatever_leads_there(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert places.socket_name(str(tmp_path / "a")) == places.socket_name(str(tmp_path / "b")) != NAME
    assert len(NAME) == 21


# --- questions to the owner ------------------------------------------------------------------------------------------


def test_an_owner_that_is_stuck_is_told_from_one_that_answers():
    question = Question(lambda: 7)
    with pytest.raises(NoAnswer, match="its main thread is stuck"):
        question.wait(0.01)
    question.answer()
    assert question.wait(0.01) == 7


def test_what_a_question_raises_is_raised_to_who_asked():
    question = Question(lambda: 1 // 0)
    question.answer()
    with pytest.raises(ZeroDivisionError):
        question.wait(1.0)
