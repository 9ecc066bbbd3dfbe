"""One file is written at once or not at all."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from confpy.system.disk import Disk
from confpy.system.filenames import staged_for

STEPS = ("create", "write", "chmod", "sync", "rename", "sync_folder")


class Failing(Disk):
    """A disk on which one step fails."""

    def __init__(self, step: str = "") -> None:
        self.step = step
        self.steps: list[str] = []

    def __getattribute__(self, name: str):
        if name in STEPS:
            self.steps.append(name)
            if name == self.step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().__getattribute__(name)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path):
    disk = Failing()
    disk.write_file(str(tmp_path / "f"), b"new", mode=0o640)
    assert tuple(disk.steps) == STEPS
    assert (tmp_path / "f").read_bytes() == b"new"
    disk.steps.clear()
    disk.write_file(str(tmp_path / "f"), b"newer", durable=False)
    assert disk.steps == ["create", "write", "rename"]


@pytest.mark.parametrize(("wanted", "mode"), [(None, 0o600), (0o644, 0o644), (0o4711, 0o4711)])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_file_has_its_mode_whatever_the_umask(tmp_path, wanted, mode, umask):
    before = os.umask(umask)
    try:
        Disk().write_file(str(tmp_path / "f"), b"new", mode=wanted)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


@pytest.mark.parametrize("step", STEPS)
def test_a_write_that_fails_leaves_only_the_old_file_and_nothing_open(tmp_path, step):
    (tmp_path / "f").write_bytes(b"old")
    before = descriptors()
    with pytest.raises(OSError, match="No space"):
        Failing(step).write_file(str(tmp_path / "f"), b"new", mode=0o644)
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == (b"new" if step == "sync_folder" else b"old")
    assert descriptors() == before


@pytest.mark.parametrize("step", [step for step in STEPS if step != "chmod"])
def test_a_new_file_that_cannot_be_written_is_not_there(tmp_path, step):
    before = descriptors()
    with pytest.raises(OSError, match="No space"):
        Failing(step).write_new_file(str(tmp_path / "f"), b"new")
    assert os.listdir(tmp_path) == []
    assert descriptors() == before


def test_a_new_file_is_locked_and_goes_on_at_its_end(tmp_path):
    disk = Disk()
    descriptor = disk.write_new_file(str(tmp_path / "f"), b"one\n")
    assert disk.adopt(str(tmp_path / "f")) is None
    disk.write(descriptor, b"two\n")
    disk.close(descriptor)
    assert (tmp_path / "f").read_bytes() == b"one\ntwo\n"


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"real")
    (tmp_path / "link").symlink_to("real")
    Disk().write_file(str(tmp_path / "link"), b"new")
    assert (tmp_path / "real").read_bytes() == b"real"
    assert not (tmp_path / "link").is_symlink()


def test_a_stage_file_is_recognised_and_one_that_a_living_process_holds_stays(tmp_path):
    disk = Disk()
    stage, descriptor = disk.create_beside(str(tmp_path / "f"))
    assert staged_for(os.path.basename(stage)) == "f"
    assert not disk.remove_if_abandoned(stage)
    disk.close(descriptor)
    assert disk.remove_if_abandoned(stage)
    assert staged_for(".f.confpy-backup-1") is staged_for(f"{os.path.basename(stage)}.old") is None


def test_a_python_that_knows_no_extended_attributes_sees_none(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "listxattr")
    (tmp_path / "f").write_bytes(b"")
    assert Disk().attributes(str(tmp_path / "f")) == {}
