"""A batch on its way to its targets: on real files and with real checks, every step on the disk counted."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import pytest

from confpy.agent.batches import batches, checks_in_place
from confpy.candidates import Candidate, DeliveredState, Group, Report
from confpy.config.resource import Resource
from confpy.delivery.batch import SLICE, deliver
from confpy.delivery.context import Rules
from confpy.errors import CheckError, TargetError
from confpy.frozen import replace
from confpy.ledger.ledger import Ledger
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.drift import inspect
from confpy.target.sweep import sweep
from tests.run_as_user import as_nobody


class Counting(Disk):
    """The real disk, its steps written down."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, tuple]] = []

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if not callable(found) or name == "names_of":
            return found

        def step(*arguments):
            self.steps.append((name, arguments))
            return found(*arguments)

        return step

    def names_of(self) -> list[str]:
        return [name for name, _ in self.steps]


def resource(dest, **more) -> Resource:
    dest = str(dest)
    return Resource(name=os.path.basename(dest), file="web.toml", src="web.j2", dest=dest, **more)


def run(*wanted: tuple[Resource, bytes], disk: Disk | None = None, shell: Shell | None = None, **rules) -> list[Report]:
    groups = tuple(Group(one.name, (Candidate(one, content),)) for one, content in wanted)
    return list(deliver(groups, Rules(**rules), disk or Disk(), shell or Shell()))


@contextmanager
def descriptors(free: int) -> Iterator[None]:
    """Let this process open ``free`` more files, however many other tests have left open in it."""
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    unused = (number for number in count() if number not in used)
    soft, hard = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (next(islice(unused, free, None)), hard))
    try:
        yield
    finally:
        setrlimit(RLIMIT_NOFILE, (soft, hard))


def outcomes(reports: list[Report]) -> list[str]:
    return [report.outcome for report in reports]


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture
def old(tmp_path) -> Path:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    return path


# --- what is equal stays untouched -----------------------------------------------------------------------------------


def test_a_target_that_is_right_is_only_looked_at(old):
    old.chmod(0o640)
    before, disk = old.stat(), Counting()
    wanted = resource(old, mode=0o640, uid=before.st_uid, gid=before.st_gid, check_cmd="false")
    (report,) = run((wanted, b"old"), disk=disk)
    after = old.stat()
    assert report.outcome == "unchanged"
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert set(disk.names_of()) == {"resolve", "find", "clock", "read_version"}
    assert inspect(((wanted, report.known),), Disk()).drifted == {}


@pytest.mark.parametrize("more", [{"mode": 0o600}, {"mode": 0o4755}])
def test_a_mode_alone_that_differs_is_delivered(old, more):
    old.chmod(0o644)
    wanted = resource(old, **more)
    assert outcomes(run((wanted, b"old"))) == ["changed"]
    assert stat.S_IMODE(old.stat().st_mode) == more["mode"]
    assert outcomes(run((wanted, b"old"))) == ["unchanged"]


def test_a_report_knows_what_was_delivered(old):
    wanted = resource(old)
    (report,) = run((wanted, b"new"))
    assert report.outcome == "changed"
    assert inspect(((wanted, report.known),), Disk()).drifted == {}


class Unable(Disk):
    """A disk on which one thing cannot be done: some file systems, and root in many a container."""

    def __init__(self, **replaced) -> None:
        self.__dict__.update(replaced)


def refuse(*_arguments):
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.skipif(os.geteuid() != 0, reason="what root is asked for is strict")
def test_an_owner_that_root_may_not_give_fails_and_keeps_the_old_file(old):
    (report,) = run((resource(old, uid=1), b"new"), disk=Unable(chown=refuse))
    assert report.outcome == "failed"
    assert report.error.message == "the owner 1:0 cannot be given: Operation not permitted"
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["f"]


def test_a_file_system_without_modes_is_not_delivered_to_for_ever(old):
    old.chmod(0o600)
    wanted, disk = resource(old, mode=0o644), Unable(chmod=lambda *_: None)
    assert outcomes(run((wanted, b"new"), disk=disk)) == ["changed"]
    assert outcomes(run((wanted, b"new"), disk=disk)) == ["unchanged"]
    assert names(old.parent) == ["f"]


@pytest.fixture
def open_folder():
    """A folder that a user who is not root can reach and write to."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o777)
        yield Path(made)


def test_an_owner_that_a_user_may_not_give_is_a_note_and_is_not_delivered_for_ever(open_folder):
    wanted = resource(open_folder / "f", uid=0, gid=0)

    def twice() -> list[tuple[str, tuple[str, ...]]]:
        reports = [*run((wanted, b"new")), *run((wanted, b"new"))]
        return [(report.outcome, report.notes) for report in reports]

    note = "owner 0:0 cannot be given (Operation not permitted)"
    assert as_nobody(twice) == [("changed", (note,)), ("unchanged", ())]


def test_a_strict_owner_that_cannot_be_given_fails_and_keeps_the_old_file(open_folder):
    path = open_folder / "f"
    path.write_bytes(b"old")
    path.chmod(0o666)
    wanted = resource(path, uid=0, gid=1, strict_owner=True)

    def deliver() -> tuple[str, dict]:
        (report,) = run((wanted, b"new"))
        return report.outcome, report.error.fields()

    outcome, fields = as_nobody(deliver)
    assert outcome == "failed"
    assert fields["error"] == "the owner 0:1 cannot be given: Operation not permitted"
    assert fields["target"] == str(path)
    assert fields["resource"] == "f"
    assert path.read_bytes() == b"old"
    assert names(open_folder) == ["f"]


# --- the order of the steps ------------------------------------------------------------------------------------------


def test_contents_are_flushed_before_the_rename_and_the_rename_before_the_end(tmp_path):
    disk = Counting()
    run((resource(tmp_path / "a", check_cmd="test -s {{src}}"), b"a"), (resource(tmp_path / "b"), b"b"), disk=disk)
    steps = [name for name in disk.names_of() if name in ("write", "chmod", "sync", "rename", "sync_folder")]
    assert steps == ["write", "chmod"] * 2 + ["sync"] * 2 + ["rename"] * 2 + ["sync_folder"]
    assert [arguments for name, arguments in disk.steps if name == "sync_folder"] == [(str(tmp_path),)]


def test_each_folder_is_synced_once(tmp_path):
    disk, wanted = Counting(), []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        wanted += [(resource(tmp_path / folder / f"{folder}{number}"), b"new") for number in range(3)]
    run(*wanted, disk=disk)
    assert disk.names_of().count("sync_folder") == 2


def test_many_candidates_go_in_slices_with_one_sync_each(tmp_path):
    disk, many = Counting(), 2 * SLICE + 44
    wanted = [(resource(tmp_path / f"{number}"), b"%d" % number) for number in range(many)]
    with descriptors(5 * SLICE):
        assert outcomes(run(*wanted, disk=disk)) == ["changed"] * many
    assert all((tmp_path / f"{number}").read_bytes() == b"%d" % number for number in range(many))
    assert len(names(tmp_path)) == many
    steps = disk.names_of()
    assert (steps.count("sync_all"), steps.count("sync_folder")) == (3, 1)
    # The last slice of 44 is above the bound too: no file is synced by itself.
    assert steps.count("sync") == 0
    held = most = 0
    for step in steps:
        held += (step == "create") - (step == "close")
        most = max(most, held)
    assert (held, most) == (0, SLICE)


def test_who_may_open_few_files_stages_few_at_once(tmp_path):
    disk = Counting()
    with descriptors(40):
        reports = run(*((resource(tmp_path / f"{number}"), b"new") for number in range(100)), disk=disk)
    assert outcomes(reports) == ["changed"] * 100
    most = held = 0
    for step in disk.names_of():
        held += (step == "create") - (step == "close")
        most = max(most, held)
    assert most in (9, 10)  # to count them takes one, too


def test_each_candidate_is_synced_if_syncfs_fails(tmp_path):
    synced = []
    disk = Unable(sync_all=lambda _: False, sync=synced.append)
    wanted = [(resource(tmp_path / f"{number}"), b"new") for number in range(40)]
    assert outcomes(run(*wanted, disk=disk)) == ["changed"] * 40
    assert len(synced) == 40


def test_a_candidate_that_cannot_be_synced_is_not_committed(old):
    def broken(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    (report,) = run((resource(old), b"new"), disk=Unable(sync=broken))
    assert isinstance(report.error, TargetError)
    assert report.error.message == "the candidate cannot be synced: Input/output error"
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["f"]


def test_a_folder_that_cannot_be_synced_is_a_note(old):
    def broken(_folder):
        raise OSError(errno.EIO, "Input/output error")

    (report,) = run((resource(old), b"new"), disk=Unable(sync_folder=broken))
    assert report.outcome == "changed"
    assert report.notes == ("the folder could not be synced (Input/output error): a power cut may undo this",)


# --- checks ----------------------------------------------------------------------------------------------------------


def test_a_check_sees_the_candidate_and_the_old_target_and_its_variables(old, tmp_path):
    seen = tmp_path / "seen"
    command = (
        "{ cat {{.src}}; echo; cat {{.dest}}; echo; cat $CONFPY_SRC; echo; cat $CONFPY_DEST; echo; "
        f"echo $CONFPY_RESOURCE; stat -c %a {{{{.src}}}}; }} > {seen}"
    )
    run((resource(old, check_cmd=command, mode=0o640), b"new"))
    assert seen.read_text().split() == ["new", "old", "new", "old", "f", "640"]


def test_a_check_that_fails_leaves_the_old_file_and_no_candidate(old):
    wanted = resource(old, check_cmd="echo line 3: bad; exit 9")
    (report,) = run((wanted, b"new"))
    assert isinstance(report.error, CheckError)
    fields = report.error.fields()
    assert fields["error"] == "the check exited with 9"
    assert fields["output"] == "line 3: bad"
    assert fields["resource"] == "f"
    assert fields["command"] == "echo line 3: bad; exit 9"
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["f"]


def test_what_the_check_of_a_sensitive_resource_writes_is_not_shown(old):
    (report,) = run((resource(old, check_cmd="cat {{.src}}; exit 9", sensitive=True), b"hunter2"))
    assert report.error.fields()["output"] == "not shown: the resource is sensitive"


def test_nor_what_that_of_another_one_of_its_group_writes(tmp_path):
    one = resource(tmp_path / "one", group="g", check_cmd="echo hunter2; exit 9")
    secret = resource(tmp_path / "secret", group="g", sensitive=True)
    group = Group("g", (Candidate(one, b"1"), Candidate(secret, b"hunter2")))
    reports = deliver((group,), Rules(), Disk(), Shell())
    assert reports[0].error.where["output"] == "not shown: the resource is sensitive"


def test_a_candidate_whose_check_failed_is_left_for_inspection_if_asked(old):
    (report,) = run((resource(old, check_cmd="false"), b"new"), keep_stage_file=True)
    candidate = Path(report.error.where["candidate"])
    assert candidate.read_bytes() == b"new"
    assert candidate.parent == old.parent
    assert old.read_bytes() == b"old"


def test_a_check_that_takes_too_long_names_the_key_that_allows_more(old):
    (report,) = run((resource(old, check_cmd=["sleep", "60"], check_cmd_timeout=0.2), b"new"))
    assert report.error.hint == "raise check_cmd_timeout if it needs longer"
    assert "did not end within its time" in report.error.message
    assert old.read_bytes() == b"old"


def test_a_check_that_is_not_there_fails_the_resource(old, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (report,) = run((resource(old, check_cmd=("no-such-program", "{{src}}")), b"new"))
    assert report.error.fields()["error"] == "the check exited with 127"
    assert report.error.fields()["output"] == "no-such-program: No such file or directory"
    assert old.read_bytes() == b"old"


def test_a_candidate_of_the_wrong_format_never_meets_its_check(old, tmp_path):
    wanted = resource(old, output_format="json", check_cmd=f"touch {tmp_path}/checked")
    (report,) = run((wanted, b'{"password": "hunter2"'))
    assert isinstance(report.error, CheckError)
    assert report.error.where["line"] == 1
    assert "hunter2" not in str(report.error)
    assert names(tmp_path) == ["f"]
    assert old.read_bytes() == b"old"


# --- each stands alone -----------------------------------------------------------------------------------------------


def test_those_that_fail_stop_no_other(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "checked").write_bytes(b"old")
    reports = run(
        (resource(tmp_path / "first"), b"new"),
        (resource(tmp_path / "none" / "f"), b"new"),
        (resource(tmp_path / "folder"), b"new"),
        (resource(tmp_path / "checked", check_cmd="false"), b"new"),
        (resource(tmp_path / "data", output_format="yaml"), b"a: ["),
        (resource(tmp_path / "last"), b"new"),
    )
    assert outcomes(reports) == ["changed", "failed", "failed", "failed", "failed", "changed"]
    assert [report.error.exit_code for report in reports if report.error] == [6, 6, 5, 5]
    assert names(tmp_path) == ["checked", "first", "folder", "last"]
    assert (tmp_path / "checked").read_bytes() == b"old"


def test_noop_reports_what_would_change_and_does_nothing(old, tmp_path):
    (tmp_path / "link").symlink_to("f")
    disk = Counting()
    before = old.stat()
    reports = run(
        (resource(old, mode=0o600), b"new"),
        (resource(tmp_path / "none"), b"new"),
        (resource(tmp_path / "link"), b"old"),
        disk=disk,
        noop=True,
    )
    assert [(report.outcome, report.differs) for report in reports] == [
        ("would change", ("content", "mode")),
        ("would change", ("missing",)),
        ("unchanged", ()),
    ]
    assert old.stat() == before
    assert names(tmp_path) == ["f", "link"]
    assert set(disk.names_of()) == {"resolve", "find", "read_link", "clock", "read_version", "stat"}


def test_sync_only_writes_and_runs_no_check(old):
    assert outcomes(run((resource(old, check_cmd="false"), b"new"), sync_only=True)) == ["changed"]
    assert old.read_bytes() == b"new"


# --- looking after what was delivered --------------------------------------------------------------------------------


def delivered(wanted: Resource) -> tuple[Resource, DeliveredState]:
    (report,) = run((wanted, b"content"))
    return wanted, report.known


def test_targets_that_nobody_touched_are_not_read(tmp_path):
    known = tuple(delivered(resource(tmp_path / f"{number}")) for number in range(5))
    (tmp_path / "3").write_bytes(b"CONTENT")
    disk = Counting()
    assert inspect(known, disk).drifted == {"3": "content"}
    assert [arguments for name, arguments in disk.steps if name == "read_version"] == [(str(tmp_path / "3"),)]


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b"other"), "content"),
        (lambda path: path.chmod(0o666), "mode"),
        (lambda path: (path.write_bytes(b"other"), path.chmod(0o666)), "content, mode"),
        (lambda path: (path.unlink(), path.mkdir()), "the target is a directory"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "a stream"),
    ],
)
def test_drift_is_named(tmp_path, harm, named):
    known = delivered(resource(tmp_path / "f", mode=0o644))
    harm(tmp_path / "f")
    assert inspect((known,), Disk()).drifted == {"f": named}


def test_a_changed_owner_is_drift_if_confpy_could_correct_it(tmp_path):
    wanted, known = delivered(resource(tmp_path / "f", uid=os.geteuid()))
    foreign = Resource(name="f", file="", src="", dest=wanted.dest, uid=os.geteuid() + 1, strict_owner=True)
    os.utime(tmp_path / "f")
    assert inspect(((foreign, known),), Disk()).drifted == {"f": "owner"}


def test_a_target_that_was_touched_but_is_right_gets_a_new_stamp_and_is_then_not_read(tmp_path):
    wanted, known = delivered(resource(tmp_path / "f"))
    os.utime(tmp_path / "f", (1, 1))
    seen = inspect(((wanted, known),), Disk())
    assert seen.drifted == {}
    disk = Counting()
    again = inspect(((wanted, DeliveredState(known.digest, seen.stamps["f"])),), disk)
    assert (again.drifted, again.stamps) == ({}, {})
    assert disk.names_of() == ["stat"]


def test_a_target_replaced_by_a_link_to_the_same_bytes_elsewhere_is_still_right(tmp_path):
    known = delivered(resource(tmp_path / "f"))
    os.rename(tmp_path / "f", tmp_path / "g")
    (tmp_path / "f").symlink_to("g")
    assert inspect((known,), Disk()).drifted == {}


def test_a_target_that_cannot_be_seen_any_more_is_drift(open_folder):
    (open_folder / "in").mkdir()
    known = delivered(resource(open_folder / "in" / "f"))
    (open_folder / "in").chmod(0)
    seen = as_nobody(lambda: inspect((known,), Disk()).drifted)
    (open_folder / "in").chmod(0o755)
    assert seen == {"f": "cannot be seen: Permission denied"}


def test_a_target_that_is_written_once_is_created_if_missing_and_never_changed_again(tmp_path):
    dest = tmp_path / "f"
    wanted = resource(dest, mode=0o640, write_once=True, check_cmd="true")
    (report,) = run((wanted, b"new"))
    assert (report.outcome, dest.read_bytes()) == ("changed", b"new")
    dest.write_bytes(b"its program's")
    dest.chmod(0o600)
    before = dest.stat()
    assert inspect(((wanted, report.known),), Disk()).drifted == {}
    (again,) = run((replace(wanted, check_cmd="false"), b"newer"))
    assert (again.outcome, dest.read_bytes(), dest.stat()) == ("unchanged", b"its program's", before)
    dest.unlink()
    assert inspect(((wanted, again.known),), Disk()).drifted == {"f": "missing"}
    assert outcomes(run((wanted, b"newer"), noop=True)) == ["would change"]
    assert outcomes(run((wanted, b"newer"))) == ["changed"]


def test_a_link_that_would_be_replaced_counts_as_there_for_one_that_is_written_once(tmp_path):
    dest = tmp_path / "f"
    dest.symlink_to(tmp_path / "nowhere")
    wanted = resource(dest, write_once=True, symlink="replace")
    assert outcomes(run((wanted, b"new"))) == ["unchanged"]
    assert dest.is_symlink()


def test_a_bug_in_a_check_leaves_no_candidate_and_no_descriptor(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("confpy.delivery.check.run_check", broken)
    resource = Resource("a", "", "a.j2", str(tmp_path / "a"), check_cmd="true {{.src}}")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MemoryError):
        deliver((Group(resource.name, (Candidate(resource, b"new"),)),), Rules(), Disk(), Shell())
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_bug_in_a_check_leaves_nothing_swapped_in(old, monkeypatch):
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("confpy.delivery.check.run_check", broken)
    with pytest.raises(MemoryError):
        run((resource(old, check_cmd="true", check_mode="swap"), b"new"))
    assert old.read_bytes() == b"old"


# --- groups ----------------------------------------------------------------------------------------------------------


def group(*wanted: tuple[Resource, bytes], name: str = "lb") -> Group:
    return Group(name, tuple(Candidate(one, content) for one, content in wanted))


def give(*groups: Group, disk: Disk | None = None, ledger: Ledger | None = None, **rules) -> list[Report]:
    return list(deliver(groups, Rules(**rules), disk or Disk(), Shell(), ledger))


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """Two targets in a folder of their own."""
    folder = tmp_path / "pair"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(b"old")
    return folder / "a", folder / "b"


def contents(paths) -> list[bytes]:
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("check_mode", ["staged", "swap"])
@pytest.mark.parametrize("culprit", [0, 1])
def test_a_check_that_fails_holds_the_whole_group(pair, check_mode, culprit):
    wanted = [resource(path, check_mode=check_mode, check_cmd="true {{src}}") for path in pair]
    wanted[culprit] = resource(pair[culprit], check_mode=check_mode, check_cmd="false {{src}}")
    reports = give(group(*((one, b"new") for one in wanted)))
    expected = ["held", "held"]
    expected[culprit] = "failed"
    assert outcomes(reports) == expected
    held = reports[1 - culprit].error
    assert isinstance(held, CheckError)
    assert held.message == f"held back: {wanted[culprit].name}, of its group lb, failed"
    assert contents(pair) == [b"old", b"old"]
    assert names(pair[0].parent) == ["a", "b"]


def test_a_group_that_fails_stays_behind_alone(pair, tmp_path):
    bad = group((resource(pair[0]), b"new"), (resource(pair[1], check_cmd="false"), b"new"))
    reports = give(bad, group((resource(tmp_path / "c"), b"new"), name="c"))
    assert outcomes(reports) == ["held", "failed", "changed"]


def test_a_check_of_a_group_sees_the_candidate_of_each_member_or_its_target(pair, tmp_path):
    command = f"cat $CONFPY_SRC_A $CONFPY_SRC_B_2 >> {tmp_path}/seen"
    one = resource(pair[0], check_cmd=command)
    two = Resource(name="b-2", file="", src="", dest=str(pair[1]), check_cmd=command)
    assert outcomes(give(group((one, b"new"), (two, b"old")))) == ["changed", "unchanged"]
    # Both have the command, and it is about both: it runs once.
    assert (tmp_path / "seen").read_bytes() == b"newold"


def test_a_check_that_may_look_at_its_own_candidate_runs_for_each(pair, tmp_path):
    command = f"cat $CONFPY_SRC >> {tmp_path}/seen"
    give(group(*((resource(path, check_cmd=command), path.name.encode()) for path in pair)))
    assert (tmp_path / "seen").read_bytes() == b"ab"


def test_a_member_that_is_right_is_checked_again_where_another_changes(pair):
    wanted = group((resource(pair[0]), b"new"), (resource(pair[1], check_cmd="false"), b"old"))
    assert outcomes(give(wanted)) == ["held", "failed"]
    assert contents(pair) == [b"old", b"old"]


def test_a_group_that_is_swapped_in_is_checked_once_over_the_targets_themselves(pair, tmp_path):
    command = f"cat {pair[0]} {pair[1]} >> {tmp_path}/seen"
    wanted = [resource(path, check_cmd=command, check_mode="swap") for path in pair]
    assert outcomes(give(group(*((one, b"new") for one in wanted)))) == ["changed", "changed"]
    assert (tmp_path / "seen").read_bytes() == b"newnew"
    assert names(pair[0].parent) == ["a", "b"]


def test_a_group_whose_check_failed_after_the_swap_is_what_it_was_to_the_inode(pair):
    pair[0].chmod(0o600)
    before = [path.stat().st_ino for path in pair]
    missing = pair[0].parent / "c"
    wanted = [resource(path, check_cmd="false", check_mode="swap", mode=0o644) for path in (*pair, missing)]
    assert outcomes(give(group(*((one, b"new") for one in wanted)))) == ["failed", "held", "held"]
    assert [path.stat().st_ino for path in pair] == before
    assert stat.S_IMODE(pair[0].stat().st_mode) == 0o600
    assert names(missing.parent) == ["a", "b"]


# --- groups that share a check after the swap ------------------------------------------------------------------------


class Judge:
    """A check over all files in their places: none of them may hold a word that another one does not allow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"

    def wants(self, condition: str, **more) -> dict[str, object]:
        """Return the options of a resource that has this check."""
        return {"check_cmd": f"echo x >> {self.runs}; {condition}", "check_mode": "swap", "reload_cmd": "true", **more}

    @property
    def count(self) -> int:
        return len(self.runs.read_text().splitlines())


@pytest.fixture
def judge(tmp_path) -> Judge:
    return Judge(tmp_path)


def alone(path, content: bytes, more: dict[str, object]) -> Group:
    return group((resource(path, **more), content), name=str(path))


def test_groups_that_pass_their_check_only_together_are_new_after_one_run_of_it(pair, judge):
    a, b = pair
    wants = judge.wants(f"cmp -s {a} {b}")
    assert outcomes(give(alone(a, b"new", wants), alone(b, b"new", wants))) == ["changed", "changed"]
    assert (contents(pair), judge.count) == ([b"new", b"new"], 1)
    assert names(a.parent) == ["a", "b"]


def test_a_group_that_makes_the_shared_check_fail_fails_alone(pair, judge):
    wants = judge.wants(f"! grep -q bad {pair[0]} {pair[1]}")
    before = pair[0].stat().st_ino
    reports = give(alone(pair[0], b"bad", wants), alone(pair[1], b"new", wants))
    assert outcomes(reports) == ["failed", "changed"]
    assert (reports[0].error.message, reports[0].error.where["did"]) == ("the check exited with 1", "left the old file")
    assert (contents(pair), pair[0].stat().st_ino) == ([b"old", b"new"], before)
    assert judge.count == 4, "together, each alone, the bad one once more since another is new by now"
    assert names(pair[0].parent) == ["a", "b"]


def test_a_group_that_needs_a_later_one_passes_after_it_if_a_third_makes_the_shared_check_fail(pair, judge):
    a, b = pair
    c = a.parent / "c"
    # "a" may only name what "b" has, and nothing may be bad.
    wants = judge.wants(f"grep -q $(cat {a}) {b} && ! grep -q bad {c}")
    a.write_bytes(b"old")
    b.write_bytes(b"old")
    c.write_bytes(b"old")
    wanted = (alone(a, b"new", wants), alone(c, b"bad", wants), alone(b, b"old new", wants))
    assert outcomes(give(*wanted)) == ["changed", "failed", "changed"]
    assert contents((a, b, c)) == [b"new", b"old new", b"old"]
    assert judge.count == 8, "together, then in halves, and those that failed once more"


def test_if_no_group_passes_alone_none_is_checked_again(pair, judge):
    wants = judge.wants("false")
    assert outcomes(give(*(alone(path, b"new", wants) for path in pair))) == ["failed", "failed"]
    assert (contents(pair), judge.count) == ([b"old", b"old"], 1 + 2)


def test_a_group_that_is_unchanged_is_not_swapped_in_with_the_others(pair, judge):
    wants = judge.wants(f"! grep -q bad {pair[1]}")
    assert outcomes(give(alone(pair[0], b"old", wants), alone(pair[1], b"bad", wants))) == ["unchanged", "failed"]
    assert judge.count == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"check_mode": "staged"}, {}),
        ({}, {"check_cmd": "cmp -s A B && true"}),
        ({"check_cmd": "test $CONFPY_SRC"}, {"check_cmd": "test $CONFPY_SRC"}),
    ],
)
def test_what_looks_at_a_candidate_or_at_something_else_is_not_tried_together(pair, one, other):
    both = {"check_cmd": "true", "check_mode": "swap"}
    wanted = [resource(path, **{**both, **more}) for path, more in zip(pair, (one, other), strict=True)]
    assert len(batches([(it, checks_in_place([it])) for it in wanted])) == 2


def test_a_check_that_names_the_target_of_one_is_that_of_another_that_names_it_as_its_candidate(pair):
    wanted = (
        resource(pair[0], check_cmd="check {{.src}}", check_mode="swap"),
        resource(pair[1], check_cmd=f"check {pair[0]}", check_mode="swap"),
    )
    assert len(batches([(it, checks_in_place([it])) for it in wanted])) == 1


def test_more_groups_than_may_be_staged_at_once_are_swapped_in_and_checked_once(tmp_path, judge):
    folder = tmp_path / "many"
    folder.mkdir()
    paths = [folder / str(number) for number in range(84)]
    wants = judge.wants(f"test $(ls {folder} | wc -l) -eq {len(paths)}")
    with descriptors(40):
        reports = give(*(alone(path, b"new", wants) for path in paths))
    assert set(outcomes(reports)) == {"changed"}
    assert judge.count == 1
    assert len(names(folder)) == len(paths)


def test_the_error_of_a_report_holds_no_frame_and_thereby_no_content(pair):
    (report,) = give(alone(pair[0], b"new", {}), disk=Refusing("a"))
    error = report.error
    while error is not None:
        assert error.__traceback__ is None
        error = error.__cause__ or error.__context__


def test_a_group_that_cannot_be_put_in_place_does_not_stop_the_check_of_the_others(pair, judge):
    wants = judge.wants("true")
    reports = give(*(alone(path, b"new", wants) for path in pair), disk=Refusing("a"))
    assert outcomes(reports) == ["failed", "changed"]
    assert reports[0].error.message == "the target cannot be replaced: No space left on device"
    assert contents(pair) == [b"old", b"new"]


def test_a_group_that_cannot_be_put_back_is_reported_torn_and_the_others_are_checked_alone(pair, judge):
    class Half(Disk):
        def rename(self, old, new):
            if old.endswith(".old") and os.path.basename(new) == "b":
                raise OSError(errno.EIO, "Input/output error")
            super().rename(old, new)

    wants = judge.wants(f"! grep -q new {pair[1]} || grep -q old {pair[0]}")
    reports = give(*(alone(path, b"new", wants) for path in pair), disk=Half())
    assert reports[1].torn
    assert reports[1].error.message.startswith("the target is torn: the check exited with 1")
    assert not reports[0].torn
    assert pair[0].read_bytes() == b"old"


class Refusing(Disk):
    """The real disk, on which nothing can be renamed to some names."""

    def __init__(self, *refused: str, times: int = 1000) -> None:
        self.refused, self.times = refused, times

    def rename(self, old, new):
        if os.path.basename(new) in self.refused and self.times:
            self.times -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().rename(old, new)


def test_a_group_whose_second_rename_fails_is_put_back_whole(pair):
    reports = give(group(*((resource(path), b"new") for path in pair)), disk=Refusing("b"))
    assert outcomes(reports) == ["held", "failed"]
    assert reports[1].error.message == "the target cannot be replaced: No space left on device"
    assert contents(pair) == [b"old", b"old"]
    assert names(pair[0].parent) == ["a", "b"]


def test_a_group_that_can_be_neither_new_nor_old_is_reported_torn_and_repaired_by_the_next_delivery(pair):
    class Half(Refusing):
        def rename(self, old, new):
            if old.endswith(".old"):
                raise OSError(errno.EIO, "Input/output error")
            super().rename(old, new)

    wanted = group(*((resource(path), b"new") for path in pair))
    reports = give(wanted, disk=Half("b"))
    assert outcomes(reports) == ["held", "failed"]
    assert reports[1].error.message.startswith("the target is torn: the target cannot be replaced")
    assert f"its old file is {pair[0].parent}/.a.confpy-" in reports[1].error.hint
    assert contents(pair) == [b"new", b"old"]
    assert [report.torn for report in reports] == [True, True]
    again = Group(wanted.name, tuple(replace(one, torn=True) for one in wanted.candidates))
    assert outcomes(give(again)) == ["changed", "changed"], "what is there already owes its check and its reload"


def test_what_was_left_torn_is_checked_even_where_it_is_as_it_should_be(old):
    torn = Candidate(resource(old, check_cmd="false {{.src}}"), b"old", torn=True)
    (report,) = give(Group("f", (torn,)))
    assert isinstance(report.error, CheckError)


def test_a_slice_splits_no_group(tmp_path):
    many = [group(*((resource(tmp_path / f"{at}-{n}"), b"new") for n in range(3)), name=str(at)) for at in range(50)]
    large = group(*((resource(tmp_path / f"l{n}", check_cmd="true {{src}}"), b"new") for n in range(100)), name="l")
    with descriptors(200):
        assert outcomes(give(*many, large)) == ["changed"] * 250
    assert len(names(tmp_path)) == 250


def test_what_comes_from_old_keys_makes_a_target_that_is_missing_and_changes_none(old, tmp_path):
    stays = Candidate(resource(old), b"older", only_missing=True)
    made = Candidate(resource(tmp_path / "g"), b"older", only_missing=True)
    reports = give(Group("f", (stays,)), Group("g", (made,)))
    assert outcomes(reports) == ["unchanged", "changed"]
    assert contents([old, tmp_path / "g"]) == [b"old", b"older"]
    assert inspect(((stays.resource, reports[0].known),), Disk()).drifted == {}


# --- how a target is written -----------------------------------------------------------------------------------------


def test_in_place_keeps_the_inode_and_its_other_names(old):
    os.link(old, old.parent / "other")
    (report,) = run((resource(old, write="inplace"), b"new"))
    assert (report.outcome, report.notes) == ("changed", ())
    assert contents([old, old.parent / "other"]) == [b"new", b"new"]


def test_folders_are_made_where_that_is_asked_for(tmp_path):
    before = os.umask(0o077)
    try:
        wanted = resource(tmp_path / "x" / "y" / "f", mkdir=True, dir_mode=0o751)
        assert outcomes(run((wanted, b"new"))) == ["changed"]
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x", "x/y")] == [0o751, 0o751]


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The place for temporary folders."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("verdict", ["true", "false"])
def test_noop_runs_checks_over_a_candidate_beside_the_target_and_leaves_nothing(old, tmp_path, temporary, verdict):
    check = f"echo {{{{src}}}} $CONFPY_SRC_F >> {temporary}/ran; grep -q new {{{{src}}}} && {verdict}"
    (report,) = run((resource(old, check_cmd=check, backup=2), b"new"), noop=True)
    assert report.outcome == ("would change" if verdict == "true" else "failed")
    seen, named = (temporary / "ran").read_text().split()
    assert seen == named
    assert os.path.dirname(seen) == str(tmp_path)
    assert (old.read_bytes(), names(tmp_path), names(temporary)) == (b"old", ["f", "tmp"], ["ran"])
    if report.error:
        assert (report.error.exit_code, report.error.where.get("did")) == (5, None)


def test_noop_checks_the_format_of_what_it_would_write(old):
    (report,) = run((resource(old, output_format="json"), b"{"), noop=True)
    assert report.error.message.startswith("the rendered file is not json")


def test_noop_holds_a_group_of_which_one_is_rejected(old, tmp_path):
    wanted = [resource(old, group="g"), resource(tmp_path / "g", group="g", check_cmd="false {{src}}")]
    group = Group("g", tuple(Candidate(one, b"new") for one in wanted))
    assert outcomes(list(deliver((group,), Rules(noop=True), Disk(), Shell()))) == ["held", "failed"]
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("more", [{"mkdir": True}, {}])
def test_noop_checks_in_a_temporary_folder_where_that_of_the_target_is_missing(tmp_path, temporary, more):
    check = f"echo {{{{src}}}} >> {temporary}/ran; stat -c %a $(dirname {{{{src}}}}) >> {temporary}/ran"
    wanted = resource(tmp_path / "none" / "f", check_cmd=check, **more)
    (report,) = run((wanted, b"new"), noop=True)
    seen, mode = (temporary / "ran").read_text().split()
    assert (seen.startswith(f"{temporary}/confpy-"), mode) == (True, "700")
    assert (report.outcome, names(tmp_path), names(temporary)) == ("would change", ["tmp"], ["ran"])
    note = f"a delivery would fail: there is no {tmp_path}/none (mkdir = true makes it)"
    assert report.notes == (() if more else (note,))


def test_noop_of_a_user_who_may_not_write_beside_the_target_checks_in_a_temporary_folder(open_folder, monkeypatch):
    folder = open_folder / "etc"
    folder.mkdir(mode=0o755)
    (folder / "f").write_bytes(b"old")
    (open_folder / "tmp").mkdir()
    (open_folder / "tmp").chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder / "tmp"))

    def look(verdict: str) -> tuple[str, tuple[str, ...]]:
        wanted = resource(folder / "f", check_cmd=f"grep -q new {{{{src}}}} && {verdict}")
        (report,) = run((wanted, b"new"), noop=True)
        return report.outcome, report.notes

    if os.geteuid() == 0:
        note = f"checked in a temporary folder: nothing can be put into {folder} (Permission denied)"
        assert as_nobody(lambda: look("true")) == ("would change", (note,))
        assert as_nobody(lambda: look("false")) == ("failed", ())
    assert (names(folder), names(open_folder / "tmp")) == (["f"], [])


def test_noop_keeps_a_candidate_that_it_was_asked_to_keep(tmp_path, temporary):
    wanted = resource(tmp_path / "none" / "f", check_cmd="false {{src}}")
    (report,) = run((wanted, b"new"), noop=True, keep_stage_file=True)
    assert Path(report.error.where["candidate"]).read_bytes() == b"new"
    assert str(report.error.where["candidate"]).startswith(f"{temporary}/")


def test_noop_runs_no_check_that_needs_the_file_in_its_place(old, tmp_path):
    (report,) = run((resource(old, check_cmd="false", check_mode="swap"), b"new"), noop=True)
    assert (report.outcome, report.unchecked) == ("would change", "false")
    assert (old.read_bytes(), names(tmp_path)) == (b"old", ["f"])


def test_noop_with_sync_only_runs_no_check(old, tmp_path):
    disk = Counting()
    for mode in ("staged", "swap"):
        wanted = resource(old, check_cmd="false", check_mode=mode)
        (report,) = run((wanted, b"new"), disk=disk, noop=True, sync_only=True)
        assert (report.outcome, report.unchecked) == ("would change", "")
    assert "create" not in disk.names_of()
    assert names(tmp_path) == ["f"]


def test_noop_makes_no_folder(tmp_path):
    run((resource(tmp_path / "x" / "f", mkdir=True), b"new"), noop=True)
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", ["rename", "inplace"])
def test_so_many_backups_are_made_and_no_sweep_removes_them(tmp_path, write):
    wanted = resource(tmp_path / "f", backup=2, write=write)
    for content in (b"1", b"2", b"2", b"3", b"4"):
        run((wanted, content))
    sweep((wanted.dest,), Disk())
    versions = [".f.confpy-backup-1", ".f.confpy-backup-2", "f"]
    assert names(tmp_path) == versions
    assert contents(tmp_path / name for name in versions) == [b"3", b"2", b"4"]


def test_a_delivery_that_is_repeated_makes_no_backup_twice(old):
    wanted = resource(old, backup=3)
    run((wanted, b"new"), disk=Refusing("f"))
    run((wanted, b"new"))
    assert names(old.parent) == [".f.confpy-backup-1", "f"]


def test_the_access_control_list_and_the_attributes_of_the_old_file_are_preserved(old):
    try:
        os.setxattr(old, "user.colour", b"blue")
    except OSError:
        pytest.fail("the file system of the tests has no attributes")
    assert outcomes(run((resource(old), b"new"))) == ["changed"]
    assert os.getxattr(old, "user.colour") == b"blue"


def test_attributes_that_are_lost_are_one_note(old):
    os.setxattr(old, "user.a", b"1")
    os.setxattr(old, "user.b", b"2")
    (report,) = run((resource(old), b"new"), disk=Unable(give_attribute=refuse))
    assert report.outcome == "changed"
    (note,) = report.notes
    assert note.startswith("attributes of the old file were lost: user.")


@pytest.mark.parametrize(
    ("symlink", "outcome", "is_link"), [("follow", "changed", True), ("replace", "changed", False)]
)
def test_a_link_is_followed_or_replaced_as_is_wished(old, symlink, outcome, is_link):
    link = old.parent / "link"
    link.symlink_to("f")
    wanted = resource(link, symlink=symlink)
    assert outcomes(run((wanted, b"new"))) == [outcome]
    assert link.is_symlink() == is_link
    assert contents([old, link]) == [b"new" if is_link else b"old", b"new"]
    assert outcomes(run((wanted, b"new"))) == ["unchanged"]


def test_a_link_is_rejected_if_asked(old):
    link = old.parent / "link"
    link.symlink_to("f")
    (report,) = run((resource(link, symlink="refuse"), b"new"))
    assert report.error.message == "the target is a link"
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_link_in_a_folder_that_others_may_write_to_is_not_followed(tmp_path, mode):
    (tmp_path / "victim").write_bytes(b"victim")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "f").symlink_to("../victim")
    shared.chmod(mode)
    (report,) = run((resource(shared / "f"), b"new"))
    assert report.notes == ("the link was replaced, not followed: others may write to its folder",)
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert (shared / "f").read_bytes() == b"new"
    assert not (shared / "f").is_symlink()


def test_below_a_root_absolute_links_lead_below_it(tmp_path):
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "link").symlink_to("/etc/f")
    wanted = resource(root / "etc" / "link")
    (report,) = run((wanted, b"new"), root=str(root))
    assert report.outcome == "changed"
    assert (root / "etc" / "f").read_bytes() == b"new"
    assert (root / "etc" / "link").readlink() == Path("/etc/f")
    assert inspect(((wanted, report.known),), Disk(), str(root)).drifted == {}
    (root / "etc" / "f").unlink()
    assert inspect(((wanted, report.known),), Disk(), str(root)).drifted == {"link": "missing"}


def test_a_folder_that_leads_out_of_the_root_is_rejected(tmp_path):
    root = tmp_path / "image"
    root.mkdir()
    (root / "etc").symlink_to(tmp_path)
    (report,) = run((resource(root / "etc" / "f"), b"new"), root=str(root))
    assert report.error.message == "the target lies outside of the root"
    assert names(tmp_path) == ["image"]
