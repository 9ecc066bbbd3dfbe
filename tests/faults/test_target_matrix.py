"""Every kind of target, for root and for somebody else: what becomes of it, and that it is written but once."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from confpy.candidates import Candidate, Group
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.ledger.ledger import Ledger
from confpy.reload.actions import CommandReload
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from tests.faults.disks import ROOT, fill, mount
from tests.run_as_user import NOBODY, as_nobody, with_mounts

ROLES = ("root", "nobody") if ROOT else ("root",)
"""Who is root at least of a namespace can play root; only who is root can play somebody else."""
OLD, NEW = b"old" * 1000, b"new" * 1000
MODE = 0o604


@dataclass(frozen=True)
class Place:
    """Where a target lies, and whose."""

    folder: Path
    uid: int
    """-1: the test's own user, whatever its number is in there."""

    @property
    def dest(self) -> Path:
        return self.folder / "f"

    def put(self, path: Path, mode: int = 0o644) -> None:
        path.write_bytes(OLD)
        path.chmod(mode)
        os.chown(path, self.uid, self.uid)

    def mounted(self, path: Path) -> None:
        """Mount a file of another mode over a target."""
        source = self.folder.parent / "source"
        self.put(source, 0o600)
        path.touch()
        mount("--bind", source, path)


def missing(_place: Place) -> None:
    pass


def plain(place: Place) -> None:
    place.put(place.dest)


def link(place: Place) -> None:
    place.put(place.folder.parent / "behind")
    place.dest.symlink_to("../behind")


def bind_mount(place: Place) -> None:
    place.mounted(place.dest)


def shut_folder(place: Place) -> None:
    place.put(place.dest)
    place.folder.chmod(0o555)
    os.chown(place.folder, 0, 0)


def read_only_folder(place: Place) -> None:
    place.put(place.dest)
    mount("--bind", place.folder, place.folder)
    mount("-o", "remount,bind,ro", place.folder)


def mount_in_a_read_only_folder(place: Place) -> None:
    place.dest.touch()
    mount("--bind", place.folder, place.folder)
    place.mounted(place.dest)
    mount("-o", "remount,bind,ro", place.folder)


def full_disk(place: Place) -> None:
    mount("-t", "tmpfs", "-o", "size=64k,mode=777", "none", place.folder)
    os.chown(place.folder, place.uid, place.uid)
    place.put(place.dest)
    fill(place.folder)


def folder(place: Place) -> None:
    place.dest.mkdir()


def of_another(place: Place) -> None:
    place.put(place.dest)
    if ROOT:
        os.chown(place.dest, NOBODY - 1, NOBODY - 1)


IN_PLACE = "written in place, not atomically: "
WITHIN = IN_PLACE + "nothing can be put into"
MATRIX: dict[Callable[[Place], None], tuple[str, str]] = {
    missing: ("changed", "changed"),
    plain: ("changed", "changed"),
    link: ("changed", "changed"),
    bind_mount: (f"changed: {IN_PLACE}it is a mount point",) * 2,
    shut_folder: ("changed", f"changed: {WITHIN}"),
    read_only_folder: ("failed: the candidate cannot be written beside the target: Read-only file system",) * 2,
    mount_in_a_read_only_folder: (f"changed: {WITHIN}",) * 2,
    full_disk: ("failed: the candidate cannot be written beside the target: No space left on device",) * 2,
    folder: ("failed: the target is a directory",) * 2,
    of_another: ("changed", f"changed: owner {NOBODY - 1}:{NOBODY - 1} cannot be given"),
}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anybody can reach."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", MATRIX, ids=lambda kind: kind.__name__)
def test_what_becomes_of_a_target(open_folder, kind, role):
    uid = NOBODY if role == "nobody" else -1
    place = Place(open_folder / "in", uid)
    state = open_folder / "state"
    for made in (place.folder, state):
        made.mkdir()
        os.chown(made, uid, uid)
    state.chmod(0o700)
    wanted = Resource(name="web", file="", src="", dest=str(place.dest), mode=MODE, reload_cmd=CommandReload("true"))

    def twice() -> list[str]:
        written = []
        for _ in range(2):
            ledger = Ledger.open(str(state), Disk())
            assert ledger.warning is None
            ledger.recover()
            group = Group("web", (Candidate(wanted, NEW),))
            (report,) = deliver((group,), Rules(), Disk(), Shell(), ledger)
            ledger.clear("true", (report.record,))
            ledger.close()
            words = [report.outcome, *report.notes, *([report.error.message] if report.error else [])]
            written.append(": ".join(words))
        return written

    def story() -> tuple[list[str], bytes | None, int, list[str]]:
        kind(place)
        beside = {*os.listdir(place.folder), "f"}
        written = as_nobody(twice) if role == "nobody" else twice()
        content = place.dest.read_bytes() if place.dest.is_file() else None
        mode = stat.S_IMODE(place.dest.stat().st_mode) if content else 0
        strays = sorted({*os.listdir(place.folder)} - beside) + [name for name in os.listdir(state) if name[0] == "."]
        return written, content, mode, strays

    expected = MATRIX[kind][role == "nobody"]
    (first, second), content, mode, strays = with_mounts(story)
    assert first.startswith(expected)
    assert strays == []
    if expected.startswith("changed"):
        assert (content, mode, second) == (NEW, MODE, "unchanged")
    else:
        assert content in (OLD, None)
        assert second == first
