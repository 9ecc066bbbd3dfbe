"""A job of CI, as it runs confpy: check, diff, one-shot; and what it is told when something is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.e2e.running import Ended, command, environment, read_events
from tests.servers.ports import free_port
from tests.waiting import wait_until


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    made = Installation(tmp_path)
    made.write("app: {good: fine}")
    made.add("good")
    return made


def confpy(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "confpy", *arguments],
        env=environment(installation.folder), cwd=installation.folder,
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_check_diff_and_a_one_shot_go_together(installation: Installation) -> None:
    confdir = str(installation.confdir)
    assert confpy(installation, "check", confdir, "-format", "github").returncode == 0
    assert confpy(installation, "check", "-host", "-connect", *installation.where).returncode == 0
    assert confpy(installation, "diff", "-exit-code", *installation.where).returncode == 10
    report = installation.folder / "report.json"
    assert installation.once("-no-reload", "-report", str(report)).code == 0
    assert [one["outcome"] for one in json.loads(report.read_text())] == ["changed"]
    assert confpy(installation, "diff", "-exit-code", *installation.where).returncode == 0


FAILURES = {
    "a flag that is wrong": (2, {}, ("-interval", "soon"), "flag -interval is not a duration"),
    "a resource that is invalid": (2, {"mode": "644"}, (), "mode is not"),
    "a store that does not answer": (3, {}, ("-backend", "etcdv3", "-node", "NODE"), "NODE"),
    "a key that is missing": (4, {"template": '{{ getv("/app/bad") }}'}, (), "key does not exist"),
    "a template that does not compile": (4, {"template": "{% if %}"}, (), "bad.j2"),
    "a check that fails": (5, {"check_cmd": "'echo wrong; exit 3 # {{.src}}'"}, (), "the check exited with 3"),
    "a check that hangs": (
        5, {"check_cmd": "'sleep 60 # {{.src}}'", "check_cmd_timeout": "'300ms'"}, (), "check_cmd_timeout",
    ),
    "an output that is malformed": (5, {"output_format": "'json'"}, (), "not json"),
    "a target that cannot be written": (6, {"dest": "'/proc/nowhere/bad'"}, (), "/proc/nowhere"),
    "a reload that fails": (7, {"reload_cmd": "'exit 3'"}, (), "the reload exited with 3"),
}  # fmt: skip
"""What is wrong → the exit code, what a resource says, flags, and what is logged."""


@pytest.mark.parametrize("failure", FAILURES)
def test_each_kind_of_failure_has_its_code_one_line_and_holds_up_nothing_else(
    installation: Installation, failure: str
) -> None:
    code, options, flags, said = FAILURES[failure]
    node = f"http://127.0.0.1:{free_port()}"
    flags = tuple(flag.replace("NODE", node) for flag in flags)
    if options:
        installation.add("bad", **options)
    ended = installation.once(*flags)
    assert ended.code == code, ended.log
    errors = [event for event in ended.events if event["level"] == "error"]
    assert any(said.replace("NODE", node) in json.dumps(event, ensure_ascii=False) for event in errors)
    assert "Traceback" not in ended.log
    if options:
        assert all(event["resource"] == "bad" for event in errors)
        assert (installation.folder / "good").read_text() == "fine\n"


def test_a_job_that_is_cancelled_ends_with_the_code_of_its_signal(installation: Installation) -> None:
    begun = installation.folder / "begun"
    installation.add("bad", reload_cmd=f"'touch {begun}; sleep 1'")
    with subprocess.Popen(
        command("-onetime", *installation.where),
        env=environment(installation.folder), cwd=installation.folder, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        wait_until(begun.exists, what="the reload has begun")
        running.send_signal(signal.SIGTERM)
        _, log = running.communicate(timeout=60)
    assert running.returncode == 143
    assert Ended(143, log, "").events == read_events(log), "events, and no traceback"
