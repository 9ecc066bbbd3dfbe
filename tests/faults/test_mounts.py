"""Targets that are mount points, and disks that are full: with real mounts, which only the test's child sees."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from confpy.candidates import Candidate, Group, Report
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from tests.faults.disks import fill, in_memory, mount
from tests.run_as_user import with_mounts

IN_PLACE = "written in place, not atomically: it is a mount point"


def run(dest: Path, content: bytes, disk: Disk | None = None, **more) -> Report:
    wanted = Resource(name="web", file="web.toml", src="web.j2", dest=str(dest), **more)
    (report,) = deliver((Group(wanted.name, (Candidate(wanted, content),)),), Rules(), disk or Disk(), Shell())
    return report


class Steps(Disk):
    """The real disk, which of its steps were taken."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if callable(found):
            self.taken.append(name)
        return found


@pytest.fixture
def bound(tmp_path):
    """A file, and where it is to be mounted over another."""
    (tmp_path / "host").mkdir()
    (tmp_path / "inside").mkdir()
    source, target = tmp_path / "host" / "f", tmp_path / "inside" / "f"
    source.write_bytes(b"old and longer than the new")
    source.chmod(0o640)
    target.touch()
    return source, target


def test_a_mounted_file_is_written_in_place_and_then_left_alone(bound):
    source, target = bound

    def story() -> None:
        mount("--bind", source, target)
        inode = target.stat().st_ino
        report = run(target, b"new", mode=0o604)
        assert (report.outcome, report.notes) == ("changed", (IN_PLACE,))
        assert target.stat().st_ino == inode
        assert stat.S_IMODE(target.stat().st_mode) == 0o604
        assert os.listdir(target.parent) == ["f"]
        disk, before = Steps(), target.stat()
        assert run(target, b"new", disk, mode=0o604).outcome == "unchanged"
        assert target.stat() == before
        assert set(disk.taken) == {"resolve", "find", "clock", "read_version"}

    with_mounts(story)
    # The file behind the mount is the one that was written.
    assert source.read_bytes() == b"new"
    assert target.read_bytes() == b""


@pytest.mark.parametrize(
    ("old", "new"), [(b"", b"new"), (b"old", b""), (b"old" * 100_000, b"n"), (b"o", b"new" * 100_000)]
)
def test_a_mounted_file_holds_the_new_bytes_and_no_more(bound, old, new):
    source, target = bound
    source.write_bytes(old)

    def story() -> None:
        mount("--bind", source, target)
        assert run(target, new).outcome == "changed"

    with_mounts(story)
    assert source.read_bytes() == new
    assert stat.S_IMODE(source.stat().st_mode) == 0o640


def test_the_mode_alone_of_a_mounted_file_is_set_without_writing_it(bound):
    source, target = bound

    def story() -> None:
        mount("--bind", source, target)
        disk = Steps()
        report = run(target, source.read_bytes(), disk, mode=0o600)
        assert (report.outcome, report.notes) == ("changed", ())
        assert "overwrite" not in disk.taken

    with_mounts(story)
    assert stat.S_IMODE(source.stat().st_mode) == 0o600


def test_a_mounted_file_is_closed_to_others_before_it_holds_the_new_bytes(bound):
    source, target = bound
    source.chmod(0o644)

    class Watching(Disk):
        def overwrite(self, descriptor, content):
            assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
            super().overwrite(descriptor, content)

    def story() -> None:
        mount("--bind", source, target)
        assert run(target, b"secret", Watching(), mode=0o600).outcome == "changed"

    with_mounts(story)


def test_an_owner_that_a_mount_refuses_to_root_fails_and_keeps_the_old_bytes(bound):
    source, target = bound

    class Squashed(Disk):
        """The mount comes from a server that lets nobody give files away."""

        def chown(self, descriptor, *_owner):
            if os.fstat(descriptor).st_ino == source.stat().st_ino:
                raise PermissionError(1, "Operation not permitted")

        def fstat(self, descriptor):
            status = super().fstat(descriptor)
            if status.st_ino == source.stat().st_ino:
                return status
            return os.stat_result((*status[:4], os.geteuid() + 1, *status[5:]))

    def story() -> None:
        mount("--bind", source, target)
        before = target.read_bytes()
        report = run(target, b"new", Squashed(), uid=os.geteuid() + 1)
        assert report.outcome == "failed"
        assert "cannot be given" in report.error.message
        assert target.read_bytes() == before
        assert os.listdir(target.parent) == ["f"]

    with_mounts(story)


def test_a_mounted_file_without_room_for_the_new_bytes_keeps_the_old(tmp_path, bound):
    _, target = bound
    old = os.urandom(8192)

    def story() -> None:
        host = in_memory(tmp_path / "small", 64)
        (host / "f").write_bytes(old)
        fill(host)
        mount("--bind", host / "f", target)
        report = run(target, bytes(100_000))
        assert report.outcome == "failed"
        assert report.error.message == "the target cannot be replaced: No space left on device"
        assert report.error.hint == "make room on the disk; it is tried again"
        assert target.read_bytes() == old
        assert os.listdir(target.parent) == ["f"]
        (host / "filler").unlink()
        assert run(target, b"new" * 10_000).outcome == "changed"
        assert target.read_bytes() == b"new" * 10_000

    with_mounts(story)


def test_a_mounted_file_that_breaks_while_it_is_written_gets_its_old_bytes_back(bound):
    source, target = bound
    old = source.read_bytes()

    class Breaking(Disk):
        def overwrite(self, descriptor, content):
            if content != old:
                self.write(descriptor, content[: len(content) // 2])
                raise OSError(5, "Input/output error")
            super().overwrite(descriptor, content)

    def story() -> None:
        mount("--bind", source, target)
        report = run(target, b"new" * 1000, Breaking())
        assert report.error.message == "the target cannot be replaced: Input/output error"

    with_mounts(story)
    assert source.read_bytes() == old


def test_a_torn_target_is_called_torn(bound):
    source, target = bound

    class Broken(Disk):
        def overwrite(self, *_what):
            raise OSError(5, "Input/output error")

    def story() -> None:
        mount("--bind", source, target)
        report = run(target, b"new", Broken())
        assert report.error.message.startswith("the target is torn")
        assert os.listdir(target.parent) == ["f"]

    with_mounts(story)


def test_a_mounted_file_that_is_read_only_stays_and_is_told(bound):
    source, target = bound

    def story() -> None:
        mount("--bind", source, target)
        mount("-o", "remount,bind,ro", target)
        report = run(target, b"new")
        assert report.error.message == "the target cannot be replaced: Read-only file system"
        assert report.error.hint == "the file system is read-only"
        assert os.listdir(target.parent) == ["f"]

    before = source.read_bytes()
    with_mounts(story)
    assert source.read_bytes() == before


def test_a_read_only_folder_is_told(tmp_path):
    def story() -> None:
        place = in_memory(tmp_path / "small", 64)
        (place / "f").write_bytes(b"old")
        mount("-o", "remount,bind,ro", place)
        report = run(place / "f", b"new")
        assert "beside the target: Read-only file system" in report.error.message
        assert (place / "f").read_bytes() == b"old"

    with_mounts(story)


def test_a_full_disk_keeps_the_old_file_whole_and_leaves_no_candidate(tmp_path):
    def story() -> None:
        place = in_memory(tmp_path / "small", 64)
        (place / "f").write_bytes(b"old" * 1000)
        fill(place)
        report = run(place / "f", b"new" * 10_000)
        assert report.error.message == "the candidate cannot be written beside the target: No space left on device"
        assert (place / "f").read_bytes() == b"old" * 1000
        assert sorted(os.listdir(place)) == ["f", "filler"]
        (place / "filler").unlink()
        assert run(place / "f", b"new" * 10_000).outcome == "changed"

    with_mounts(story)


def test_a_disk_without_a_free_inode_keeps_the_old_file(tmp_path):
    def story() -> None:
        (tmp_path / "small").mkdir()
        mount("-t", "tmpfs", "-o", "nr_inodes=2", "none", tmp_path / "small")
        (tmp_path / "small" / "f").write_bytes(b"old")
        report = run(tmp_path / "small" / "f", b"new")
        assert "No space left on device" in report.error.message
        assert (tmp_path / "small" / "f").read_bytes() == b"old"

    with_mounts(story)


def test_a_check_runs_and_tells_its_output_also_where_every_disk_is_full(tmp_path):
    def story() -> None:
        place = in_memory(tmp_path / "small", 64)
        fill(place)
        ran = Shell().run("echo shown; exit 3", {"TMPDIR": str(place)}, 10)
        assert (ran.code, ran.tail) == (3, "shown")

    with_mounts(story)


def test_many_candidates_over_two_file_systems_are_all_brought_down(tmp_path):
    def story() -> None:
        place = in_memory(tmp_path / "small", 4096)
        dests = [folder / str(number) for number in range(20) for folder in (place, tmp_path)]
        wanted = [Resource(name=str(dest), file="", src="", dest=str(dest)) for dest in dests]
        disk = Steps()
        reports = deliver(tuple(Group(one.name, (Candidate(one, b"new"),)) for one in wanted), Rules(), disk, Shell())
        assert {report.outcome for report in reports} == {"changed"}
        assert "sync" not in disk.taken
        assert disk.taken.count("sync_folder") == 2

    with_mounts(story)
