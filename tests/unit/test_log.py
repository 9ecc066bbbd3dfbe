from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import threading

import pytest

from confpy.errors import UsageError
from confpy.log import Log

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def run(code, **options):
    """Run Python code in a process of its own, with confpy's log at hand."""
    return subprocess.run(
        [sys.executable, "-c", "from confpy.log import Log\n" + code],
        check=False,
        timeout=30,
        **{"capture_output": True, "text": True, **options},
    )


def test_a_text_line_is_time_level_event_and_fields(capfd):
    Log().write("warning", "resource.failed", {"resource": "haproxy", "error": "no such key", "took": 0.09, "ok": True})
    line = capfd.readouterr().err
    assert re.fullmatch(
        STAMP + r' warning resource\.failed resource=haproxy error="no such key" took=0\.09 ok=true\n', line
    )


def test_a_json_line_is_one_object(capfd):
    Log("info", "json").write("error", "resource.failed", {"resource": "haproxy", "took": 0.09, "error": "a\nb"})
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    logged = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", logged.pop("timestamp"))
    assert logged == {
        "level": "error",
        "event": "resource.failed",
        "resource": "haproxy",
        "took": 0.09,
        "error": "a\nb",
    }


def test_an_error_tells_its_places_and_its_hint(capfd):
    Log().from_error(UsageError("mode is wrong", hint="write it so", file="/a b.toml", line=3).at(resource="a"))
    assert capfd.readouterr().err.endswith(
        ' error confpy.failed error="mode is wrong" resource=a file="/a b.toml" line=3 hint="write it so"\n'
    )


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "value",
    ["a\nb", "a\r\nb", "\x1b[2Jx", "a\u2028b", "\udc80", "\x00", "\u202e", "", '"', "\\", "a=b", "ć", None, [1, "x y"]],
)
def test_no_value_breaks_a_line_or_reaches_the_terminal_as_a_command(capfd, form, value):
    log = Log("info", form)
    for name in ("error", "exception", "stack", "exc_info", "level", "event", "timestamp"):
        log.write("info", "e", {name: value})
        line = capfd.readouterr().err
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert len(line.splitlines()) == 1
        assert ('"level": "info"' if form == "json" else " info e") in line


@pytest.mark.parametrize(
    ("level", "written"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_lines_below_the_level_are_not_written(capfd, level, written):
    log = Log(level)
    for each in ("debug", "info", "warning", "error"):
        log.write(each, "e")
    assert len(capfd.readouterr().err.splitlines()) == written


@pytest.mark.parametrize("form", ["text", "json"])
def test_structlog_is_not_loaded_where_stderr_is_no_terminal(form):
    code = f"""
import sys
Log("info", {form!r}).write("info", "e", {{"a": "b"}})
print(sorted({{"structlog", "logging", "asyncio", "ssl"}} & sys.modules.keys()))
"""
    assert run(code).stdout == "[]\n"


@pytest.mark.parametrize(
    "fields",
    [
        {"a": "x y", "took": 0.5, "ok": True, "none": None, "exception": "\x1b[0m", "stack": "ć", "b": [1, "x"]},
        {"quotes": '"', "backslash": "\\", "empty": "", "equals": "a=b", "line": "a\nb", "surrogate": "\udc80"},
    ],
)
def test_a_terminal_with_colours_has_the_line_that_others_have(fields):
    terminal, stderr = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()}
    code = f"Log().write('warning', 'e', {fields!r})"
    try:
        run(code, capture_output=False, stderr=stderr, env={**environ, "TERM": "xterm"})
        coloured = os.read(terminal, 4096).decode()
    finally:
        os.close(terminal)
        os.close(stderr)
    plain = run(code, env=environ).stderr
    assert "\x1b[" in coloured
    bare = re.sub(r"\x1b\[\d*m", "", coloured)
    assert re.sub(STAMP, "", bare).replace("\r\n", "\n") == re.sub(STAMP, "", plain)


def test_a_value_that_json_has_no_word_for_is_written_as_python_shows_it(capfd):
    Log("info", "json").write("info", "e", {"x": {1}})
    assert json.loads(capfd.readouterr().err)["x"] == "{1}"


def test_a_closed_stderr_is_left_alone_though_its_number_was_given_to_another_file(tmp_path):
    code = f"""
import os
target = os.open({str(tmp_path / "target")!r}, os.O_CREAT | os.O_WRONLY)
log = Log()
log.write("error", "e")
print(target)
"""
    done = run(code, capture_output=False, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert (tmp_path / "target").read_bytes() == b""


def test_a_reader_that_went_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(
            "for _ in range(3): Log().write('error', 'e')", capture_output=False, stdout=subprocess.PIPE, stderr=writer
        )
    finally:
        os.close(writer)
    assert done.returncode == 0


def test_a_full_pipe_that_does_not_block_costs_lines_but_neither_an_error_nor_a_wait_without_end():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        done = run(
            "for _ in range(3): Log().write('error', 'e', {'x': 'y' * 100_000})",
            capture_output=False,
            stdout=subprocess.PIPE,
            stderr=writer,
        )
        assert done.returncode == 0
        assert select.select([reader], [], [], 0)[0]
        assert len(os.read(reader, 1 << 20)) >= 4096
    finally:
        os.close(reader)
        os.close(writer)


def test_a_reader_that_stopped_costs_lines_but_no_wait_without_end():
    code = (
        "log = Log(form='json')\nfor n in range(3000): log.write('info', 'x', {'number': n, 'long': 'y' * (n % 7000)})"
    )
    reader, writer = os.pipe()
    try:
        assert run(code, stderr=writer, capture_output=False).returncode == 0
        os.set_blocking(reader, False)
        os.close(writer)
        writer = -1
        lines = b"".join(iter(lambda: os.read(reader, 65536), b"")).split(b"\n")
        assert json.loads(lines[0])["number"] == 0
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def test_long_lines_of_several_threads_stay_apart():
    code = """
import threading
log = Log("info", "json")
start = threading.Barrier(4)
def write(name):
    start.wait()
    for _ in range(20):
        log.write("info", "e", {"x": name * 20_000})
threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    lines = [json.loads(line) for line in run(code).stderr.splitlines()]
    assert sorted(line["x"][0] for line in lines) == sorted("abcd" * 20)
    assert all(len(set(line["x"])) == 1 for line in lines)


def test_a_line_is_written_though_structlog_cannot_be_loaded():
    code = """
import sys
sys.modules["structlog"] = None
Log().write("error", "store.failed", {"error": "too many open files"})
"""
    terminal, stderr = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), "TERM": "xterm"}
    try:
        assert run(code, capture_output=False, stderr=stderr, env=environ).returncode == 0
        line = os.read(terminal, 4096).decode()
    finally:
        os.close(terminal)
        os.close(stderr)
    assert line.startswith("error store.failed ")
    assert "too many open files" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({}, False)],
)
def test_colours_are_for_terminals_that_want_them(environ, coloured):
    terminal, stderr = pty.openpty()
    try:
        run(
            "Log().write('warning', 'e', {'a': 'b'})",
            capture_output=False,
            stderr=stderr,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), **environ},
        )
        line = os.read(terminal, 4096).decode()
    finally:
        os.close(terminal)
        os.close(stderr)
    assert ("\x1b[" in line) is coloured
    assert re.sub(r"\x1b\[\d*m", "", line).endswith(" warning e a=b\r\n")


def test_writing_from_many_threads_at_once_loses_nothing(capfd):
    log = Log()
    start = threading.Barrier(8)

    def write():
        start.wait()
        log.write("info", "e")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(capfd.readouterr().err.splitlines()) == 8


JOURNALS = """
import os, sys
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = {stream}
log = Log("debug", {form!r})
for level in ("debug", "info", "warning", "error"):
    log.write(level, "a.b")
"""


@pytest.mark.parametrize(("form", "begins"), [("text", r"<7>2\d{3}-"), ("json", r'<7>\{"timestamp"')])
def test_lines_for_the_journal_begin_with_their_priority(form, begins):
    done = run(JOURNALS.format(stream='f"{status.st_dev}:{status.st_ino}"', form=form))
    lines = done.stderr.splitlines()
    assert re.match(begins, lines[0])
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]


@pytest.mark.parametrize("stream", ["f'{status.st_dev}:1'", "f'1:{status.st_ino}'", "'x:y'", "''", "'5'", "'²:²'"])
def test_what_goes_elsewhere_than_to_the_journal_has_no_priority(stream):
    done = run(JOURNALS.format(stream=stream, form="text"))
    assert len(done.stderr.splitlines()) == 4
    assert "<" not in done.stderr
