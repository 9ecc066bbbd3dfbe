"""Several confpys on one confdir: cron beside the daemon, two units, an operator's one-shot."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.e2e.installation import Installation, Program, shows
from tests.e2e.running import command, environment, read_events
from tests.waiting import wait_until

ONE_SHOTS = 24


def test_one_shots_beside_a_daemon_leave_everything_right(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    overlap, running = tmp_path / "overlap", tmp_path / "running"
    program = Program(tmp_path)
    # One check at a time for a target: whoever finds the mark of another notes it.
    check = f"'mkdir {running} || echo x >> {overlap}; sleep 0.05; rmdir {running} # {{{{.src}}}}'"
    installation.write("app: {a: '0', b: '0'}")
    a = installation.add("a", check_cmd=check, reload_cmd=program.failing(0))
    b = installation.add("b", reload_cmd=program.failing(0))
    with installation.start() as confpy:
        shows(a, "0\n")
        ended = []
        for number in range(1, 4):
            installation.write(f"app: {{a: '{number}', b: '{number}'}}")
            shots = [
                subprocess.Popen(
                    command(*installation.where, "-onetime"),
                    env=environment(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                )
                for _ in range(ONE_SHOTS // 3)
            ]  # fmt: skip
            ended += [(one.communicate(timeout=90)[1], one.returncode) for one in shots]
            shows(a, f"{number}\n")
            shows(b, f"{number}\n")
        wait_until(lambda: program.count >= 1, what="a reload")
        assert [(code, read_events(log)) for log, code in ended if code] == []
        installation.write("app: {a: last, b: last}")
        shows(a, "last\n")
        shows(b, "last\n")
        assert not [event for event in confpy.events if event["level"] == "error"]
    assert not overlap.exists(), "two delivered one target at the same time"
    leftovers = list(tmp_path.rglob("*.confpy-*"))
    assert leftovers == []
    assert installation.once().names == ["onetime.done"], "nothing is owed, nothing is wrong"
    assert len(installation.ledgers()) <= 1
