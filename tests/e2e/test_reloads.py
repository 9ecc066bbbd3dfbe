"""Reloads that are no commands, by the command ``confpy`` as its users run it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.e2e.running import Ended, run_once
from tests.servers.hearing import Hearing
from tests.waiting import wait_until


def deliver(folder: Path) -> Ended:
    return run_once("-backend", "env", "-confdir", str(folder), folder=folder)


def test_a_signal_that_found_nobody_is_owed_and_sent_when_the_program_is_there(tmp_path):
    name = f"web{os.getpid()}"
    for part in ("conf.d", "templates"):
        (tmp_path / part).mkdir()
    (tmp_path / "templates/t.j2").write_text("new")
    (tmp_path / "conf.d/web.toml").write_text(
        f'[template]\nsrc = "t.j2"\ndest = "{tmp_path}/out"\nreload_signal = "HUP"\nreload_process = "{name}"\n'
    )
    first = deliver(tmp_path)
    assert first.code == 7
    failed = first.find("reload.failed", resource="web", command=f"signal HUP to {name}")
    assert failed["error"] == f"no process is called {name}"

    with Hearing(tmp_path, name) as program:
        assert deliver(tmp_path).find("reload.made_up_for")["reloaded"] is True
        wait_until(lambda: program.heard() == [f"{program.number} SIGHUP"], what="the program has heard")
        assert deliver(tmp_path).code == 0
        assert len(program.heard()) == 1
