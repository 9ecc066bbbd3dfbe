"""Targets that are streams (a FIFO, a character device, our own output): they are written, never replaced."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from confpy.candidates import Candidate, Group, Report
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.ledger.ledger import Ledger
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.drift import inspect
from confpy.target.look import digest, digest_at
from tests.e2e.running import command, environment
from tests.waiting import wait_until

NEW = b"new\n"


def resource(dest: object, **more) -> Resource:
    return Resource(name=os.path.basename(str(dest)), file="", src="", dest=str(dest), **more)


def run(*wanted: tuple[Resource, bytes], ledger: Ledger | None = None, delivered: bytes = b"", **rules) -> list[Report]:
    groups: dict[str, list[Candidate]] = {}
    for one, content in wanted:
        groups.setdefault(one.group or one.name, []).append(Candidate(one, content, delivered=delivered))
    made = tuple(Group(name, tuple(candidates)) for name, candidates in groups.items())
    return list(deliver(made, Rules(**rules), Disk(), Shell(), ledger or Ledger()))


def results(reports: list[Report]) -> list[tuple[str, str]]:
    return [(one.outcome, one.error.message if one.error else "") for one in reports]


class Reader:
    """Who reads a FIFO to its end."""

    def __init__(self, path: Path) -> None:
        self.read = b""
        self._thread = threading.Thread(target=self._follow, args=[path], daemon=True)
        self._thread.start()

    def _follow(self, path: Path) -> None:
        self.read = path.read_bytes()

    def end(self) -> bytes:
        self._thread.join(60)
        return self.read


@pytest.fixture
def fifo(tmp_path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr("confpy.target.replace.READER", 0.2)


def test_a_fifo_is_written_and_stays_a_fifo(fifo, tmp_path):
    reader, content = Reader(fifo), b"line\n" * 50_000
    wanted = resource(fifo, mode=0o600, check_cmd=f"cmp {{{{.src}}}} {tmp_path}/expected", backup=2)
    (tmp_path / "expected").write_bytes(content)
    reports = run((wanted, content), ledger=Ledger.open(str(tmp_path / "state"), Disk()))
    assert results(reports) == [("changed", "")]
    assert reader.end() == content
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["expected", "fifo", "state"]
    assert [name for name in os.listdir(tmp_path / "state") if name.startswith((".", "ledger-"))] == []
    assert inspect(((wanted, reports[0].known),), Disk()).drifted == {}


def test_what_was_written_already_is_not_written_again(fifo):
    assert results(run((resource(fifo), NEW), delivered=digest(NEW))) == [("unchanged", "")]


def test_a_fifo_that_a_check_refuses_gets_nothing(fifo, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    assert results(run((resource(fifo, check_cmd="grep -q old {{.src}}"), NEW))) == [
        ("failed", "the check exited with 1")
    ]
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.usefixtures("hasty")
def test_a_fifo_that_nobody_reads_fails_and_the_group_stays_as_it_was(fifo, tmp_path):
    old = tmp_path / "a"
    old.write_bytes(b"old")
    reports = run((resource(fifo, group="g"), NEW), (resource(old, group="g"), NEW))
    assert reports[0].error.fields() | {"retry": 0} == {
        "error": "the target cannot be written: No such device or address",
        "hint": "nobody reads it: start its reader first",
        "target": str(fifo),
        "resource": "fifo",
        "did": f"put back {old}",
        "retry": 0,
    }
    assert [one.outcome for one in reports] == ["failed", "held"]
    assert old.read_bytes() == b"old"


@pytest.mark.usefixtures("hasty")
def test_a_reader_that_stops_reading_is_not_waited_for(fifo):
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        (report,) = run((resource(fifo), b"x" * (1 << 20)))
    finally:
        os.close(descriptor)
    assert report.error.hint == "its reader has stopped reading"


@pytest.mark.parametrize("swap", [{}, {"check_mode": "swap"}])
def test_the_files_of_a_group_are_new_and_checked_before_a_stream_is_written(fifo, tmp_path, swap):
    reader = Reader(fifo)
    file = tmp_path / "a"
    wanted = resource(file, group="g", check_cmd='grep -q new "$CONFPY_SRC_A" "$CONFPY_SRC_FIFO"', **swap)
    assert results(run((resource(fifo, group="g"), NEW), (wanted, NEW))) == [("changed", ""), ("changed", "")]
    assert (reader.end(), file.read_bytes()) == (NEW, NEW)


def test_a_character_device_is_written_and_stays_one():
    before = os.stat("/dev/null")
    assert results(run((resource("/dev/null", mode=0o600), NEW))) == [("changed", "")]
    after = os.stat("/dev/null")
    assert (before.st_ino, before.st_mode, before.st_rdev) == (after.st_ino, after.st_mode, after.st_rdev)
    (report,) = run((resource("/dev/full"), NEW))
    assert report.error.message == "the target cannot be written: No space left on device"


def test_a_fifo_is_not_renamed_over_where_that_alone_is_allowed(fifo):
    assert results(run((resource(fifo, write="rename"), NEW))) == [("failed", "the target is not a regular file")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_fifo_that_another_user_put_where_all_may_write_gets_nothing(tmp_path):
    tmp_path.chmod(0o1777)
    os.mkfifo(tmp_path / "fifo")
    os.chown(tmp_path / "fifo", 65534, 65534)
    (report,) = run((resource(tmp_path / "fifo"), NEW))
    assert report.error.message == "the target is another user's FIFO or device"


def test_descriptors_other_than_the_outputs_are_no_targets(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        (report,) = run((resource(f"/dev/fd/{file.fileno()}"), NEW))
    assert report.error.hint == "of the open descriptors only /dev/stdout and /dev/stderr can be targets"
    assert (tmp_path / "a").read_bytes() == b""


def test_a_file_that_became_a_fifo_is_not_waited_for_by_the_next_start(fifo):
    writer = os.open(fifo, os.O_RDWR)
    try:
        assert digest_at(str(fifo), Disk()) == ""
    finally:
        os.close(writer)


# --- our own output --------------------------------------------------------------------------------------------------


@pytest.fixture
def confdir(tmp_path) -> Path:
    for name in ("conf.d", "templates"):
        (tmp_path / name).mkdir()
    (tmp_path / "templates" / "a.tmpl").write_text('{{getv "/key"}}\n')
    return tmp_path


def one_shot(confdir: Path, dest: str, *flags: str) -> list[str]:
    (confdir / "conf.d" / "a.toml").write_text(f'[template]\nsrc = "a.tmpl"\ndest = "{dest}"\nkeys = ["/key"]\n')
    return command("-onetime", "-backend", "env", "-confdir", str(confdir), *flags)


@pytest.mark.parametrize("dest", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_log_that_stdout_is_redirected_to_is_added_to_and_not_replaced(confdir, dest):
    log = confdir / "log"
    with log.open("wb") as file:
        file.write(b"a line of somebody else's\n")
        file.flush()
        before = log.stat().st_ino
        argv = one_shot(confdir, dest)
        subprocess.run(argv, stdout=file, check=True, env=environment(confdir, {"KEY": "value"}))
        os.write(file.fileno(), b"a line after it\n")
    assert log.read_bytes() == b"a line of somebody else's\nvalue\na line after it\n"
    assert log.stat().st_ino == before


def test_stdout_may_be_a_pipe_or_a_socket_and_stderr_a_target(confdir):
    env = environment(confdir, {"KEY": "value"})
    argv = one_shot(confdir, "/dev/stdout")
    assert subprocess.run(argv, stdout=subprocess.PIPE, check=True, env=env).stdout == b"value\n"
    import socket

    own, theirs = socket.socketpair()
    with own, theirs:
        subprocess.run(argv, stdout=theirs, check=True, env=env)
        assert own.recv(100) == b"value\n"
    argv = one_shot(confdir, "/dev/stderr", "-log-level", "error")
    assert subprocess.run(argv, stderr=subprocess.PIPE, check=True, env=env).stderr == b"value\n"


def test_stdout_that_is_closed_is_an_error(confdir):
    argv = ["sh", "-c", 'exec "$@" >&-', "sh", *one_shot(confdir, "/dev/stdout")]
    ended = subprocess.run(argv, check=False, stderr=subprocess.PIPE, text=True, env=environment(confdir, {"KEY": "v"}))
    assert ended.returncode == 6
    assert "confpy was started with this output closed" in ended.stderr


def test_a_daemon_writes_a_stream_once_for_each_content(confdir):
    (confdir / "keys.yaml").write_text("key: one\n")
    argv = one_shot(confdir, "/dev/stdout")
    argv = [*argv[: argv.index("-onetime")], "-watch", "-backend", "file", "-file", str(confdir / "keys.yaml")]
    argv += ["-confdir", str(confdir)]
    with (
        (confdir / "out").open("wb") as out,
        subprocess.Popen(argv, stdout=out, stderr=subprocess.PIPE, env=environment(confdir)) as daemon,
    ):
        try:
            wait_until(lambda: (confdir / "out").read_bytes() == b"one\n", what="the first content")
            (confdir / "keys.yaml").write_text("key: one\nother: 1\n")
            (confdir / "keys.yaml").write_text("key: two\n")
            wait_until(lambda: (confdir / "out").read_bytes() == b"one\ntwo\n", what="the second content")
        finally:
            daemon.terminate()
            daemon.communicate(timeout=60)
