"""What a daemon leaves behind when it has to stop in the middle of something."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e import running
from tests.e2e.running import Confpy
from tests.waiting import wait_until


def confpy(folder: Path, command: str) -> Confpy:
    """Start a confpy whose only resource has this command."""
    for name in ("conf.d", "templates", "out"):
        (folder / name).mkdir()
    (folder / "templates/t.j2").write_text("new")
    (folder / "conf.d/web.toml").write_text(f'[template]\nsrc = "t.j2"\ndest = "{folder}/out/web"\n{command}\n')
    return Confpy("-backend", "env", "-confdir", str(folder), "-stop-timeout", "300ms", folder=folder)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_check_that_is_killed_leaves_no_candidate(tmp_path, signals):
    begun = tmp_path / "begun"
    with confpy(tmp_path, f'check_cmd = "touch {begun}; sleep 99 # {{{{.src}}}}"') as running:
        wait_until(begun.exists, what="the check has begun")
        for _ in range(signals):
            running.process.terminate()
        assert running.process.wait(5) == 143
    assert list((tmp_path / "out").iterdir()) == []


def test_a_reload_that_is_killed_is_told_of_as_owed(tmp_path):
    begun = tmp_path / "begun"
    with confpy(tmp_path, f'reload_cmd = "touch {begun}; sleep 99"') as running:
        wait_until(begun.exists, what="the reload has begun")
        assert running.stop() == 143
        assert running.says("reload.owed")["resource"] == "web"


def test_what_was_blocked_or_ignored_before_it_began_changes_neither_its_end_nor_its_exit_codes(tmp_path, monkeypatch):
    blocking = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    plain = running.command
    monkeypatch.setattr(running, "command", lambda *flags: [sys.executable, "-c", blocking, *plain(*flags)])
    with confpy(tmp_path, 'reload_cmd = "exit 3"') as started:
        assert "exited with 3" in started.says("reload.failed")["error"]
        assert started.stop() == 143


def test_a_confdir_whose_only_resource_is_broken_is_looked_at_again(tmp_path):
    with confpy(tmp_path, "mode = 5") as running:
        running.says("resource.refused", resource="web")
        file = tmp_path / "conf.d/web.toml"
        file.write_text(file.read_text().replace("mode = 5", 'mode = "0600"'))
        running.says("resource.changed", resource="web")
