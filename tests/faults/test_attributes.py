"""Access lists, labels and the mask between them and the mode: as they were, on every way that a file takes."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from confpy.candidates import Candidate, Group, Report
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from tests.e2e.installation import Installation
from tests.faults.disks import FILE_SYSTEMS, ROOT
from tests.faults.test_mounts import run
from tests.run_as_user import NOBODY, as_nobody, with_mounts
from tests.servers.program import find

WHO = NOBODY if ROOT else 0
"""Somebody whom a list can name: in the namespace of one who is not root there is nobody else."""
LIST = f"user:{WHO}:rwx,group:{WHO}:rw-,mask::r--"
"""Grants more than its mask lets through."""
INHERITED = f"user:{WHO}:rwx,default:user:{WHO}:rwx"
"""For a folder: whoever makes a file in it gives that away."""
SELINUX, SMACK = "security.selinux", "security.SMACK64"
LABEL = b"system_u:object_r:etc_t:s0\0"
OLD = b"old and longer than the new"
WRITES = ("rename", "inplace")

pytestmark = pytest.mark.parametrize("mounted", FILE_SYSTEMS, ids=lambda kind: kind.__name__)


@pytest.fixture
def place() -> Iterator[Path]:
    """Where a file system can be mounted, and whoever it is can reach it."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made) / "disk"


def grant(path: Path, entries: str) -> None:
    subprocess.run([find("setfacl"), "-n", "-m", entries, path], check=True)


def access(path: Path) -> tuple[int, int, int, str]:
    """Return all that says who may do what to a file."""
    status = path.stat()
    written = subprocess.run([find("getfacl"), "-cpEn", path], check=True, capture_output=True, text=True).stdout
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, written


def make(path: Path, entries: str = "", mode: int = 0o640) -> tuple[int, int, int, str]:
    path.write_bytes(OLD)
    path.chmod(mode)
    if ROOT:
        os.chown(path, NOBODY - 1, NOBODY - 1)
    subprocess.run([find("setfacl"), "-b", path], check=True)
    if entries:
        grant(path, entries)
    return access(path)


def rights(path: Path) -> tuple[bool, bool]:
    """Ask the kernel whether somebody whom the list names may read and write a file."""

    def ask() -> tuple[bool, bool]:
        return os.access(path, os.R_OK), os.access(path, os.W_OK)

    return as_nobody(ask) if ROOT else ask()


def together(dests: list[Path], disk: Disk | None = None, **more) -> tuple[Report, ...]:
    """Deliver targets as one group."""
    wanted = [Resource(name=dest.name, file="", src="", dest=str(dest), group="g", **more) for dest in dests]
    group = Group("g", tuple(Candidate(one, b"new") for one in wanted))
    return deliver((group,), Rules(), disk or Disk(), Shell())


class NoSecondNames(Disk):
    """A file system without hard links."""

    def link(self, *_names: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


# --- access lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("mode", [None, 0o640])
def test_a_target_keeps_its_access_list_and_its_mask(place, mounted, write, mode):
    def story() -> None:
        mounted(place)
        before, may = make(place / "f", LIST), rights(place / "f")
        assert before[0] == 0o640
        report = run(place / "f", b"new", write=write, mode=mode)
        assert (report.outcome, report.notes) == ("changed", ())
        assert (access(place / "f"), rights(place / "f")) == (before, may)
        assert may[0]
        assert run(place / "f", b"new", write=write, mode=mode).outcome == "unchanged"

    with_mounts(story)


@pytest.mark.parametrize("write", WRITES)
def test_a_mode_that_is_asked_for_is_the_mask_as_chmod_has_it(place, mounted, write):
    def story() -> None:
        mounted(place)
        make(place / "f", LIST.replace("mask::r--", "mask::rwx"))
        make(place / "like", LIST.replace("mask::r--", "mask::rwx"))
        (place / "like").chmod(0o640)
        assert run(place / "f", b"new", write=write, mode=0o640).outcome == "changed"
        assert access(place / "f") == access(place / "like")
        assert run(place / "f", b"new", write=write, mode=0o640).outcome == "unchanged"

    with_mounts(story)


def test_what_is_to_be_closed_is_open_to_nobody_at_any_step(place, mounted):
    class Watching(Disk):
        def give_attribute(self, descriptor, name, value):
            super().give_attribute(descriptor, name, value)
            assert stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077 == 0

    def story() -> None:
        mounted(place)
        make(place / "f", LIST)
        assert run(place / "f", b"secret", Watching(), mode=0o600).outcome == "changed"
        assert access(place / "f")[0] == 0o600
        assert not ROOT or rights(place / "f") == (False, False)

    with_mounts(story)


@pytest.mark.parametrize("write", WRITES)
def test_what_a_folder_hands_down_is_not_given_to_a_target_that_had_it_not(place, mounted, write):
    def story() -> None:
        mounted(place)
        grant(place, INHERITED)
        before = make(place / "f")
        assert run(place / "f", b"new", write=write, backup=1).outcome == "changed"
        assert access(place / "f") == before
        assert access(place / ".f.confpy-backup-1") == before

    with_mounts(story)


def test_a_new_target_has_what_its_folder_hands_down_and_its_mode(place, mounted):
    def story() -> None:
        mounted(place)
        grant(place, INHERITED)
        for name, mode in (("f", None), ("g", 0o600), ("h", 0o660)):
            (place / "like").touch()
            (place / "like").chmod(mode or 0o644)
            assert run(place / name, b"new", mode=mode).outcome == "changed"
            assert access(place / name) == access(place / "like")
            (place / "like").unlink()

    with_mounts(story)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("disk", [Disk, NoSecondNames])
@pytest.mark.parametrize("was", [(LIST, None), (LIST, 0o666), ("", None)])
def test_a_group_that_is_put_back_has_its_access_lists_back(place, mounted, write, disk, was):
    entries, mode = was

    def story() -> None:
        mounted(place)
        grant(place, INHERITED)
        dests = [place / "f", place / "g"]
        before = [make(dest, entries) for dest in dests]
        # On trial: both are new when the check says no.
        more = {"check_cmd": f"! grep -q new {place}/f {place}/g", "check_mode": "swap", "mode": mode}
        reports = together(dests, disk(), write=write, **more)
        assert {report.outcome for report in reports} == {"failed", "held"}
        assert [dest.read_bytes() for dest in dests] == [OLD, OLD]
        assert [access(dest) for dest in dests] == before
        assert sorted(os.listdir(place)) in (["f", "g"], ["f", "g", "lost+found"])

    with_mounts(story)


@pytest.mark.parametrize("write", WRITES)
def test_a_rollback_brings_the_access_list_back(place, mounted, write):
    def story() -> None:
        mounted(place)
        place.chmod(0o755)
        installation = Installation(place)
        installation.write("app: {a: good}")
        command = f"'! grep -q bad {place}/a'"
        a = installation.add("a", reload_cmd=command, on_reload_failure="'rollback'", write=f"'{write}'")
        assert installation.once().code == 0
        before = make(a, LIST)
        a.write_text("good\n")
        installation.write("app: {a: bad}")
        ended = installation.once()
        assert ended.find("reload.rolled_back", resource="a")
        assert (a.read_text(), access(a)) == ("good\n", before)
        installation.write("app: {a: better}")
        assert installation.once().code == 0
        assert (a.read_text(), access(a)) == ("better\n", before)

    with_mounts(story)


@pytest.mark.parametrize("entries", [LIST, ""])
def test_a_backup_is_open_to_those_to_whom_the_target_was(place, mounted, entries):
    def story() -> None:
        mounted(place)
        grant(place, INHERITED)
        before = make(place / "f", entries)
        for content in (b"1", b"2", b"3"):
            run(place / "f", content, backup=2)
        assert access(place / ".f.confpy-backup-1") == before
        assert access(place / ".f.confpy-backup-2") == before

    with_mounts(story)


@pytest.mark.parametrize("write", WRITES)
def test_the_owner_of_a_target_who_is_not_root_keeps_its_access_list(place, mounted, write):
    other = NOBODY - 1 if ROOT else 0

    def story() -> None:
        mounted(place)
        place.chmod(0o777)
        make(place / "f", f"user:{other}:rw-,mask::r--")
        if ROOT:
            os.chown(place / "f", NOBODY, NOBODY)
        before = access(place / "f")

        def step() -> tuple[str, tuple[str, ...]]:
            report = run(place / "f", b"new", write=write, backup=1)
            return report.outcome, report.notes

        assert (as_nobody(step) if ROOT else step()) == ("changed", ())
        assert access(place / "f") == before
        assert access(place / ".f.confpy-backup-1") == before

    with_mounts(story)


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("disk", [Disk, NoSecondNames])
def test_a_label_is_kept_by_a_delivery_its_backup_and_a_group_that_is_put_back(place, mounted, write, disk):
    def story() -> None:
        mounted(place)
        dests = [place / "f", place / "g"]
        for dest in dests:
            make(dest)
            os.setxattr(dest, SELINUX, LABEL)
        more = {"check_cmd": f"! grep -q new {place}/f {place}/g", "check_mode": "swap"}
        assert {one.outcome for one in together(dests, disk(), write=write, **more)} == {"failed", "held"}
        assert [os.getxattr(dest, SELINUX) for dest in dests] == [LABEL, LABEL]
        for report in together(dests, disk(), write=write, backup=1):
            assert (report.outcome, report.notes) == ("changed", ())
        for path in (*dests, place / ".f.confpy-backup-1"):
            assert os.getxattr(path, SELINUX) == LABEL

    with_mounts(story)


@pytest.mark.parametrize("attribute", [SELINUX, SMACK])
def test_a_label_that_we_may_not_give_is_one_warning_and_no_obstacle(place, mounted, attribute):
    def story() -> None:
        mounted(place)
        place.chmod(0o777)
        make(place / "f", LIST)
        os.setxattr(place / "f", attribute, LABEL)
        if ROOT:
            os.chown(place / "f", NOBODY, NOBODY)

        def step() -> tuple[str, tuple[str, ...]]:
            report = run(place / "f", b"new", None if ROOT else Unlabelled(), backup=1)
            return report.outcome, report.notes

        outcome, notes = as_nobody(step) if ROOT else step()
        assert (outcome, (place / "f").read_bytes()) == ("changed", b"new")
        # Where SELinux has no policy, it lets owners label their files as they like.
        preserved = attribute == SELINUX and attribute in os.listxattr(place / "f")
        written = f"attributes of the old file were lost: {attribute} (Operation not permitted)"
        assert notes == (() if preserved else (written,))

    with_mounts(story)


def test_nothing_is_said_of_a_label_and_an_owner_that_stay_because_it_is_written_in_place(place, mounted):
    def story() -> None:
        mounted(place)
        make(place / "f", mode=0o666)
        os.setxattr(place / "f", SMACK, LABEL)
        place.chmod(0o777)

        def step() -> tuple[str, tuple[str, ...]]:
            report = run(place / "f", b"new", None if ROOT else Unlabelled(), write="inplace")
            return report.outcome, report.notes

        before = access(place / "f")
        assert (as_nobody(step) if ROOT else step()) == ("changed", ())
        assert (access(place / "f"), os.getxattr(place / "f", SMACK)) == (before, LABEL)

    with_mounts(story)


class Unlabelled(Disk):
    """Who is root of a namespace may label its file systems; this one may not."""

    def give_attribute(self, descriptor, name, value):
        if name in (SELINUX, SMACK):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        super().give_attribute(descriptor, name, value)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
def test_an_access_list_for_which_there_is_no_room_is_not_lost_but_waited_for(place, mounted, reason):
    class Full(Disk):
        def give_attribute(self, *_what):
            raise OSError(reason, os.strerror(reason))

    def story() -> None:
        mounted(place)
        before = make(place / "f", LIST)
        report = run(place / "f", b"new", Full())
        assert report.outcome == "failed"
        assert report.error.hint.endswith("it is tried again")
        assert ((place / "f").read_bytes(), access(place / "f")) == (OLD, before)
        assert sorted(os.listdir(place)) in (["f"], ["f", "lost+found"])
        assert run(place / "f", b"new").outcome == "changed"
        assert access(place / "f") == before

    with_mounts(story)
