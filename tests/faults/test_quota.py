"""No room, no right: a daemon keeps the old file whole, goes on with the rest, and delivers when it can again."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, prlimit

import pytest

from tests.e2e.installation import Installation, Program, pass_time, shows
from tests.e2e.running import Confpy
from tests.faults.disks import ROOT, fill, in_memory, make_room, mount, supported, with_quota
from tests.faults.test_mounts import run
from tests.run_as_user import with_mounts
from tests.waiting import wait_until

OLD, NEW = "old" * 30_000, "new" * 100_000
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


class Obstacle:
    """What stands in the way of a delivery to files in ``place``, once it has risen."""

    reason = "No space left on device"

    def __init__(self, place: Path) -> None:
        self.place = place
        in_memory(place)

    def rise(self, _confpy: Confpy) -> None:
        fill(self.place)

    def fall(self, _confpy: Confpy) -> None:
        make_room(self.place)


class FullDisk(Obstacle):
    pass


class Quota(Obstacle):
    reason = "Disk quota exceeded"

    def __init__(self, place: Path) -> None:
        self.place = place
        with_quota(place)


class FileSize(Obstacle):
    """The limit of the process (``ulimit -f``): what is nearest to a quota where nobody may set one."""

    reason = "File too large"

    def rise(self, confpy: Confpy) -> None:
        prlimit(confpy.process.pid, RLIMIT_FSIZE, (len(OLD) * 2, RLIM_INFINITY))

    def fall(self, confpy: Confpy) -> None:
        prlimit(confpy.process.pid, RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))


class ReadOnly(Obstacle):
    reason = "Read-only file system"

    def rise(self, _confpy: Confpy) -> None:
        mount("--bind", self.place, self.place)
        mount("-o", "remount,bind,ro", self.place)

    def fall(self, _confpy: Confpy) -> None:
        mount("-o", "remount,bind,rw", self.place)


class Unreadable(Obstacle):
    reason = "Permission denied"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        # Whatever starts from here on is root without the right to read everything.
        for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, right, 0, 0, 0) == 0

    def rise(self, _confpy: Confpy) -> None:
        (self.place / "f").chmod(0)

    def fall(self, _confpy: Confpy) -> None:
        (self.place / "f").chmod(0o644)


QUOTAS: tuple[Callable[[Path], Obstacle], ...] = (Quota,) if ROOT and supported("btrfs") else ()
"""Only root may mount what has quotas; everybody's are the limit of a process and a disk of the test's own."""
OBSTACLES = (*QUOTAS, FileSize, FullDisk, ReadOnly, Unreadable)


def names(place: Path) -> list[str]:
    return sorted(set(os.listdir(place)) - {"state"})


@pytest.mark.parametrize("write", ["auto", "inplace"])
@pytest.mark.parametrize(
    ("kind", "state"),
    [*((kind, "state") for kind in OBSTACLES), *((kind, "place/state") for kind in (*QUOTAS, FullDisk, ReadOnly))],
)
def test_the_old_file_stays_whole_and_the_new_one_comes_when_the_obstacle_has_gone(tmp_path, kind, state, write):
    def story() -> None:
        obstacle = kind(tmp_path / "place")
        installation, program = Installation(tmp_path), Program(tmp_path)
        f = obstacle.place / "f"
        installation.add("f", dest=f"'{f}'", write=f"'{write}'", reload_cmd=program.failing(0))
        other = installation.add("other")
        installation.write(f"app: {{f: {OLD}, other: one}}")
        with installation.start(more={"CONFPY_STATE_DIR": str(tmp_path / state)}) as confpy:
            shows(f, f"{OLD}\n")
            wait_until(lambda: program.count == 1, what="the first reload")
            before = f.stat().st_ino
            assert names(f.parent) == ["f"]
            obstacle.rise(confpy)
            installation.write(f"app: {{f: {NEW}, other: two}}")
            failed = confpy.says("resource.failed", resource="f")
            assert obstacle.reason in failed["error"]
            shows(other, "two\n")
            assert (f.read_text(), f.stat().st_ino) == (f"{OLD}\n", before)
            assert set(names(f.parent)) <= {"f", "filler"}
            obstacle.fall(confpy)
            shows(f, f"{NEW}\n", seconds=60)
            wait_until(lambda: program.count == 2, what="the reload")
            confpy.says("resource.changed", resource="f")
            assert (f.stat().st_ino == before) == (write == "inplace")
            pass_time(0.5)
            assert confpy.process.poll() is None
        assert program.count == 2
        assert names(f.parent) == ["f"]
        assert installation.once().names == ["onetime.done"]

    with_mounts(story)


@pytest.mark.parametrize("kind", [*QUOTAS, FullDisk, ReadOnly])
def test_a_state_folder_without_room_is_told_and_nothing_waits_for_it(tmp_path, kind):
    def story() -> None:
        obstacle = kind(tmp_path / "place")
        installation, program = Installation(tmp_path), Program(tmp_path)
        f = installation.add("f", reload_cmd=program.failing(0))
        installation.write("app: {f: one}")
        state = {"CONFPY_STATE_DIR": str(tmp_path / "place/state")}
        with installation.start(more=state) as confpy:
            wait_until(lambda: program.count == 1, what="the first reload")
            obstacle.rise(confpy)
            installation.write("app: {f: two}")
            shows(f, "two\n")
            wait_until(lambda: program.count == 2, what="the second reload")
        with installation.start(more=state) as confpy:
            installation.write("app: {f: three}")
            shows(f, "three\n")
            wait_until(lambda: program.count == 3, what="the reload after a start")
            assert any(one["level"] == "warning" and obstacle.reason in str(one) for one in confpy.events)
            obstacle.fall(confpy)
            installation.write("app: {f: four}")
            shows(f, "four\n")
            wait_until(lambda: program.count == 4, what="the last reload")
            assert confpy.process.poll() is None

    with_mounts(story)


@pytest.mark.parametrize("room", range(0, 400, 50))
@pytest.mark.parametrize("kind", [*QUOTAS, FullDisk])
def test_a_write_in_place_tears_nothing_however_much_room_is_left(tmp_path, kind, room):
    old, new = b"old" * 30_000, b"new" * 30_000

    def story() -> None:
        place = kind(tmp_path / "place").place
        (place / "f").write_bytes(old)
        (place / "spare").write_bytes(os.urandom(room << 10))
        subprocess.run(["sync", "-f", place], check=True)
        fill(place)
        (place / "spare").unlink()
        report = run(place / "f", new, write="inplace")
        assert not report.torn
        assert (place / "f").read_bytes() == (new if report.outcome == "changed" else old)
        assert sorted(os.listdir(place)) == ["f", "filler"]
        make_room(place)
        assert run(place / "f", new, write="inplace").error is None
        assert (place / "f").read_bytes() == new

    with_mounts(story)
