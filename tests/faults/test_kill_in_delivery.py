"""confpy is killed (SIGKILL) before each step that it takes on the disk, then started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

OLD, NEW = b"old\n" * 4000, b"new\n" * 5000


class Place:
    """A confdir with resources over the environment, and targets that exist already."""

    def __init__(self, folder: Path, resources: int) -> None:
        self.folder = folder
        self.targets = [folder / "out" / f"{number}.conf" for number in range(resources)]
        for name in ("conf.d", "templates", "out"):
            (folder / name).mkdir()
        (folder / "templates" / "t.j2").write_bytes(NEW)
        for number, target in enumerate(self.targets):
            (folder / "conf.d" / f"{number}.toml").write_text(
                f'[template]\nsrc = "t.j2"\ndest = "{target}"\nmode = "0640"\n'
                'check_cmd = "test -s {{.src}}"\n'
                f'reload_cmd = "touch {folder}/reloaded"\n'
            )
            target.write_bytes(OLD)

    def run(self, *command: str) -> int:
        flags = ("-onetime", "-backend", "env", "-confdir", str(self.folder), "-log-level", "error")
        environment = {**os.environ, "CACHE_DIRECTORY": str(self.folder / "cache")}
        done = subprocess.run([sys.executable, "-m", *command, *flags], env=environment, timeout=60, check=False)
        return done.returncode

    def strays(self) -> list[str]:
        return sorted(set(os.listdir(self.folder / "out")) - {target.name for target in self.targets})


@pytest.mark.parametrize("resources", [1, 3])
def test_a_kill_before_any_step_leaves_whole_files_and_the_next_start_leaves_no_stage_file(tmp_path, resources):
    step = 0
    while True:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        place = Place(folder, resources)
        code = place.run("tests.faults.killed_run", str(step))
        whole = [target.read_bytes() for target in place.targets]
        assert all(content in (OLD, NEW) for content in whole), f"step {step}: a target is torn"
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert place.run("confpy") == 0
        assert [target.read_bytes() for target in place.targets] == [NEW] * resources
        assert place.strays() == [], f"step {step}: stage files remain"
    # Fewer steps than this would mean that the deaths did not fall into the delivery.
    assert step > 12 * resources
