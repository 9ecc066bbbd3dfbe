"""Targets that are programs: a check or a reload may execute them, whatever other workers do at that moment."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from confpy.candidates import Candidate, Group, Report
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.ledger.ledger import Ledger
from confpy.system import forking
from confpy.system.disk import Disk
from confpy.system.placeholders import Command
from confpy.system.subprocesses import Shell
from confpy.target.replace import put_back

WORKERS = 8
ROUNDS = 30


def program(dest: Path, check: Command, **more) -> Resource:
    return Resource(name=dest.name, file="", src="", dest=str(dest), mode=0o755, check_cmd=check, **more)


def run(*resources: Resource, content: bytes, ledger: Ledger | None = None) -> tuple[Report, ...]:
    groups: dict[str, list[Candidate]] = {}
    for one in resources:
        groups.setdefault(one.group or one.name, []).append(Candidate(one, content))
    made = tuple(Group(name, tuple(candidates)) for name, candidates in groups.items())
    return deliver(made, Rules(), Disk(), Shell(), ledger or Ledger())


def script(number: int = 0) -> bytes:
    return b"#!/bin/sh\n# %d\nexit 0\n" % number


def faults(reports: tuple[Report, ...]) -> list[str]:
    return [f"{one.error.message}: {one.error.where.get('output')}" for one in reports if one.error is not None]


@pytest.mark.parametrize("check", ["{{.src}}", ("{{.src}}",), 'exec "$CONFPY_SRC"'], ids=["shell", "list", "variable"])
@pytest.mark.parametrize("more", [{}, {"check_mode": "swap"}, {"write": "inplace"}], ids=["staged", "swap", "in place"])
def test_a_check_may_execute_the_candidate(tmp_path, check, more):
    wanted = program(tmp_path / "a", check, **more)
    for number in range(2):
        (report,) = run(wanted, content=script(number))
        assert (report.outcome, report.error) == ("changed", None)


def test_a_check_may_execute_what_it_swapped_in_where_it_is_written_in_place(tmp_path):
    (tmp_path / "a").write_bytes(script())
    (report,) = run(program(tmp_path / "a", "{{dest}}", check_mode="swap", write="inplace"), content=script(1))
    assert (report.outcome, report.error) == ("changed", None)


def test_a_check_may_execute_the_candidates_of_its_group(tmp_path):
    check = '"$CONFPY_SRC_A" && "$CONFPY_SRC_B"'
    reports = run(*(program(tmp_path / name, check, group="g") for name in "ab"), content=script())
    assert [(one.outcome, one.error) for one in reports] == [("changed", None)] * 2


@pytest.mark.parametrize("umask", [0o022, 0o777])
def test_a_candidate_is_written_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        (report,) = run(program(tmp_path / "a", "{{src}}"), content=script())
    finally:
        os.umask(before)
    assert (report.outcome, report.error) == ("changed", None)


def at_once(work: Callable[[int], list[str]]) -> list[str]:
    """Do the work of so many workers at once; returns what went wrong in any of them."""
    wrong: list[str] = []
    threads = [threading.Thread(target=lambda number=number: wrong.extend(work(number))) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


@pytest.mark.parametrize(
    ("check", "more"),
    [
        (("{{src}}",), {}),
        (("{{dest}}",), {"check_mode": "swap"}),
        (("{{dest}}",), {"check_mode": "swap", "write": "inplace"}),
    ],
    ids=["staged", "swap", "swap in place"],
)
def test_no_program_is_busy_while_eight_workers_write_programs_and_execute_them(tmp_path, check, more):
    ledger = Ledger.open(str(tmp_path / "state"), Disk(), threading.Lock())

    def work(number: int) -> list[str]:
        wanted = program(tmp_path / f"f{number}", check, **more)
        return [fault for turn in range(ROUNDS) for fault in faults(run(wanted, content=script(turn), ledger=ledger))]

    assert at_once(work) == []


def test_no_program_that_was_put_back_is_busy_while_eight_workers_execute_theirs(tmp_path):
    def work(number: int) -> list[str]:
        path, preserved = tmp_path / f"f{number}", tmp_path / f"old{number}"
        path.write_bytes(script())
        wrong = []
        for turn in range(ROUNDS):
            with forking.writing():
                preserved.write_bytes(script(turn))
                preserved.chmod(0o755)
            put_back(str(path), str(preserved), Disk(), in_place=True)
            ran = Shell().run((str(path),), {}, 10.0)
            wrong += [ran.tail] if ran.failure else []
        return wrong

    assert at_once(work) == []


def test_a_disk_that_hangs_in_a_write_holds_up_no_command_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(forking, "PATIENCE", 0.1)
    hanging, end = threading.Event(), threading.Event()

    def hang() -> None:
        with forking.writing():
            hanging.set()
            end.wait(60)

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        assert hanging.wait(60)
        assert Shell().run(("true",), {}, 30.0).failure == ""
    finally:
        end.set()
        thread.join()


# --- who watches the folder ------------------------------------------------------------------------------------------

CLOSE_WRITE, MOVED_TO = 0x08, 0x80
EVENT = struct.Struct("iIII")


def seen(folder: Path, do: Callable[[], object]) -> list[tuple[str, int]]:
    """Return what inotify tells of a folder while something is done: names and kinds of events, in order."""
    from ctypes import CDLL, get_errno

    libc = CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    if descriptor < 0 or libc.inotify_add_watch(descriptor, bytes(folder), CLOSE_WRITE | MOVED_TO) < 0:
        pytest.skip(f"no inotify: {os.strerror(get_errno())}")
    try:
        do()
        data = os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
    events = []
    while data:
        _, mask, _, size = EVENT.unpack_from(data)
        events.append((data[EVENT.size : EVENT.size + size].rstrip(b"\0").decode(), mask))
        data = data[EVENT.size + size :]
    return events


def test_who_watches_a_folder_sees_a_delivery_once(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    wanted = Resource(name="a", file="", src="", dest=str(path), check_cmd="true {{src}}")
    events = seen(tmp_path, lambda: run(wanted, content=b"new"))
    assert [mask for name, mask in events if name == "a"] == [MOVED_TO]
    assert events[-1] == ("a", MOVED_TO)
