"""What a target is, and how a candidate takes its place: on real files, also if another process interferes."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from confpy.config.resource import Resource
from confpy.errors import TargetError, TargetTorn
from confpy.system import disk as disks
from confpy.system.disk import Disk
from confpy.target.look import look, stamp
from confpy.target.replace import put_back, replace_target, write_in_place
from confpy.target.stage import Staged, discard, stage
from confpy.target.sweep import sweep
from tests.run_as_user import Child, as_nobody

ROOT = os.geteuid() == 0
UID, GID = (12345, 54321) if ROOT else (os.geteuid(), os.getegid())


def resource(dest, **more) -> Resource:
    return Resource(name="web", file="web.toml", src="web.j2", dest=str(dest), **more)


def put(wanted: Resource, content: bytes, disk: Disk | None = None) -> os.stat_result:
    disk = disk or Disk()
    return commit(stage(wanted, look(wanted, disk), content, disk), disk)


def commit(staged: Staged, disk: Disk) -> os.stat_result:
    try:
        return replace_target(staged, disk) or write_in_place(staged, disk)
    finally:
        discard(staged, disk)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


# --- mode and owner --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_a_new_target_is_0644_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        put(resource(tmp_path / "f"), b"new")
    finally:
        os.umask(before)
    assert mode(tmp_path / "f") == 0o644


@pytest.mark.parametrize("old", [0o600, 0o640, 0o755, 0o4711])
def test_the_mode_of_an_existing_target_is_preserved(tmp_path, old):
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "f").chmod(old)
    put(resource(tmp_path / "f"), b"new")
    assert mode(tmp_path / "f") == old


def test_a_mode_that_is_given_wins(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    put(resource(tmp_path / "f", mode=0o604), b"new")
    assert mode(tmp_path / "f") == 0o604


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("uid", "gid"), [(None, None), (UID + ROOT, None), (None, GID + ROOT), (UID + ROOT, GID + ROOT)]
)
def test_the_owner_is_the_one_given_else_that_of_the_target_else_confpys_user(tmp_path, exists, uid, gid):
    path = tmp_path / "f"
    before = (os.geteuid(), os.getegid())
    if exists:
        path.write_bytes(b"old")
        os.chown(path, UID, GID)
        before = (UID, GID)
    put(resource(path, uid=uid, gid=gid), b"new")
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (before[0] if uid is None else uid, before[1] if gid is None else gid)


def test_nobody_else_can_read_a_candidate_before_it_has_its_owner_and_mode(tmp_path):
    seen = []

    class Watched(Disk):
        def write(self, descriptor, content):
            super().write(descriptor, content)
            seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

        def chown(self, descriptor, uid, gid):
            seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            super().chown(descriptor, uid, gid)

    put(resource(tmp_path / "f", mode=0o666, gid=GID), b"secret", Watched())
    assert set(seen) == {0o600}
    assert mode(tmp_path / "f") == 0o666


# --- what a target may be --------------------------------------------------------------------------------------------


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real/f")
    put(resource(tmp_path / "link"), b"new")
    assert (tmp_path / "link").readlink().as_posix() == "real/f"
    assert (tmp_path / "real" / "f").read_bytes() == b"new"
    assert names(tmp_path) == ["link", "real"]
    assert names(tmp_path / "real") == ["f"]


def test_a_link_to_nothing_yet_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("f")
    put(resource(tmp_path / "link"), b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_bytes() == b"new"


def test_a_directory_is_no_target(tmp_path):
    with pytest.raises(TargetError, match="is a directory"):
        put(resource(tmp_path), b"new")


def test_a_socket_is_no_target(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "f"))
        with pytest.raises(TargetError, match="not a regular file"):
            put(resource(tmp_path / "f"), b"new")


def test_a_loop_of_links_is_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(TargetError, match="cannot be read: Too many levels of symbolic links"):
        put(resource(tmp_path / "a"), b"new")


def test_a_missing_folder_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(TargetError, match="No such file") as caught:
        put(resource(tmp_path / "none" / "f"), b"new")
    assert caught.value.hint == "make the folder, or write mkdir = true"
    assert caught.value.where == {"target": str(tmp_path / "none" / "f"), "folder": str(tmp_path / "none")}


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match="Not a directory"):
        put(resource(tmp_path / "file" / "f"), b"new")


def test_a_name_too_long_for_the_candidates_is_an_error(tmp_path):
    put(resource(tmp_path / ("a" * 238)), b"new")
    with pytest.raises(TargetError, match="File name too long") as caught:
        put(resource(tmp_path / ("a" * 239)), b"new")
    assert caught.value.hint == "choose a shorter name: that of a candidate has 17 bytes more"


def test_a_target_with_any_bytes_in_its_name_is_delivered(tmp_path):
    path = tmp_path / "a b\n'\"\\é\udcff"
    put(resource(path), b"new")
    put(resource(path), b"newer")
    assert path.read_bytes() == b"newer"
    assert len(names(tmp_path)) == 1


# --- candidates ------------------------------------------------------------------------------------------------------


def test_a_candidate_lies_hidden_beside_its_target_and_is_whole(tmp_path):
    wanted, disk = resource(tmp_path / "f.conf"), Disk()
    staged = stage(wanted, look(wanted, disk), b"new", disk)
    (name,) = names(tmp_path)
    assert name.startswith(".f.conf.confpy-")
    assert (tmp_path / name).read_bytes() == b"new"
    discard(staged, disk)
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", ["write", "chown", "chmod"])
def test_a_candidate_that_cannot_be_finished_leaves_nothing(tmp_path, step):
    class Full(Disk):
        def __getattribute__(self, name):
            if name == step:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().__getattribute__(name)

    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TargetError):
        put(resource(tmp_path / "f", uid=UID + 1, strict_owner=True), b"new", Full())
    assert names(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == open_before


class Taken(Disk):
    """The first names are taken."""

    def __init__(self, times: int) -> None:
        self.times = times

    def create(self, path, *access):
        self.times -= 1
        if self.times >= 0:
            open(path, "w").close()
        return super().create(path, *access)


def test_a_stage_name_that_is_taken_is_skipped_and_another_tried(tmp_path):
    put(resource(tmp_path / "f"), b"new", Taken(3))
    assert (tmp_path / "f").read_bytes() == b"new"
    assert len(names(tmp_path)) == 4


def test_names_are_not_tried_for_ever(tmp_path):
    with pytest.raises(TargetError, match="File exists"):
        put(resource(tmp_path / "f"), b"new", Taken(1000))
    assert not (tmp_path / "f").exists()


def test_a_link_under_a_stage_name_is_not_written_through(tmp_path):
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / "stage").symlink_to("victim")
    with pytest.raises(FileExistsError):
        Disk().create(str(tmp_path / "stage"))
    assert (tmp_path / "victim").read_bytes() == b"victim"


# --- another process interferes --------------------------------------------------------------------------------------


class Between(Disk):
    """Something happens right after the target was looked up."""

    def __init__(self, act) -> None:
        self.act = act

    def find(self, path):
        status = super().find(path)
        self.act()
        return status


def test_a_fifo_put_in_the_targets_place_while_we_look_is_not_waited_for(tmp_path):
    (tmp_path / "f").write_bytes(b"old")

    def swap():
        (tmp_path / "f").unlink()
        os.mkfifo(tmp_path / "f")

    put(resource(tmp_path / "f"), b"new", Between(swap))
    assert (tmp_path / "f").read_bytes() == b"new"


def test_a_link_put_in_the_targets_place_while_we_look_is_not_followed(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "victim").write_bytes(b"victim")

    def swap():
        (tmp_path / "f").unlink()
        (tmp_path / "f").symlink_to("victim")

    with pytest.raises(TargetError, match="cannot be read"):
        put(resource(tmp_path / "f"), b"new", Between(swap))
    assert (tmp_path / "victim").read_bytes() == b"victim"


def test_a_link_put_in_the_targets_place_before_the_commit_is_replaced_not_followed(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "victim").write_bytes(b"victim")
    wanted, disk = resource(tmp_path / "f"), Disk()
    staged = stage(wanted, look(wanted, disk), b"new", disk)
    (tmp_path / "f").unlink()
    (tmp_path / "f").symlink_to("victim")
    commit(staged, disk)
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not (tmp_path / "f").is_symlink()


def stand_a_fifo(place: Path) -> None:
    os.mkfifo(place, 0o600)


def stand_a_link(place: Path) -> None:
    place.symlink_to("victim")


def stand_another_file(place: Path) -> None:
    os.link(place.parent / "victim", place)


@pytest.mark.parametrize("stand", [stand_a_fifo, stand_a_link, stand_another_file])
def test_in_place_only_the_file_that_was_looked_at_is_written(tmp_path, stand):
    place, victim = tmp_path / "f", tmp_path / "victim"
    place.write_bytes(b"old")
    victim.write_bytes(b"victim")
    victim.chmod(0o600)
    wanted, disk = resource(place, write="inplace", mode=0o644), Disk()
    staged = stage(wanted, look(wanted, disk), b"new", disk)
    place.rename(tmp_path / "aside")  # so that its number is not given to another
    stand(place)
    with pytest.raises(TargetError) as caught:
        commit(staged, disk)
    assert not isinstance(caught.value, TargetTorn)
    assert caught.value.hint or "no regular file" in caught.value.message
    assert victim.read_bytes() == b"victim"
    assert mode(victim) == 0o600
    if not place.is_symlink():
        assert mode(place) == 0o600


@pytest.mark.parametrize("stand", [stand_a_fifo, stand_a_link])
def test_in_place_nothing_but_a_file_is_put_back(tmp_path, stand):
    place, old, victim = tmp_path / "f", tmp_path / "old", tmp_path / "victim"
    old.write_bytes(b"old")
    victim.write_bytes(b"victim")
    stand(place)
    with pytest.raises(OSError, match=r"no regular file|symbolic links"):
        put_back(str(place), str(old), Disk(), in_place=True)
    assert victim.read_bytes() == b"victim"
    assert old.read_bytes() == b"old"


def test_a_link_put_in_a_new_folder_s_place_is_not_followed(tmp_path, monkeypatch):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    make = os.mkdir

    def swapped(path, mode):
        make(path, mode)
        os.rmdir(path)
        os.symlink(private, path)

    monkeypatch.setattr(os, "mkdir", swapped)
    with pytest.raises(NotADirectoryError):
        Disk().make_folders(str(tmp_path / "new"), 0o755)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_file_that_would_fill_the_memory_is_rejected_unread(tmp_path):
    (tmp_path / "f").touch()
    os.truncate(tmp_path / "f", 1 << 40)
    with pytest.raises(TargetError, match="larger than 1 GB"):
        put(resource(tmp_path / "f"), b"new")
    assert names(tmp_path) == ["f"]


def test_a_target_that_became_a_directory_is_an_error_and_leaves_no_stage_file(tmp_path):
    wanted, disk = resource(tmp_path / "f"), Disk()
    staged = stage(wanted, look(wanted, disk), b"new", disk)
    (tmp_path / "f").mkdir()
    with pytest.raises(TargetError, match="cannot be replaced: Is a directory"):
        commit(staged, disk)
    assert names(tmp_path) == ["f"]


def test_what_a_commit_returns_is_confpys_file_even_if_it_was_replaced_at_once(tmp_path):
    class Hasty(Disk):
        def rename(self, old, new):
            super().rename(old, new)
            (tmp_path / "theirs").write_bytes(b"theirs")
            os.rename(tmp_path / "theirs", new)

    status = put(resource(tmp_path / "f"), b"new", Hasty())
    assert stamp(status) != stamp((tmp_path / "f").stat())


# --- sweeping --------------------------------------------------------------------------------------------------------


def stage_and_die(wanted: Resource) -> None:
    """Leave a stage file behind as a killed process does."""
    child = os.fork()
    if child == 0:
        stage(wanted, look(wanted, Disk()), b"dead", Disk())
        os._exit(0)
    os.waitpid(child, 0)


def test_a_sweep_removes_what_the_dead_left_and_nothing_that_lives(tmp_path):
    wanted, disk = resource(tmp_path / "f"), Disk()
    living = stage(wanted, look(wanted, disk), b"new", disk)
    stage_and_die(wanted)
    assert len(names(tmp_path)) == 2
    removed = sweep((wanted.dest,), disk)
    assert len(removed) == 1
    assert names(tmp_path) == [os.path.basename(living.path)]
    commit(living, disk)
    assert (tmp_path / "f").read_bytes() == b"new"
    assert sweep((wanted.dest,), disk) == ()


def test_a_sweep_touches_no_name_but_those_that_confpy_gives(tmp_path):
    others = [
        "f",
        ".f.confpy-backup",
        ".f.confpy-1234567",
        ".f.confpy-123456789",
        ".f.confpy-ABCDEF01",
        ".f.confpy-0a1b2c3d.swp",
        ".g.confpy-0a1b2c3d",
        "f.confpy-0a1b2c3d",
        ".confpy-0a1b2c3d",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / ".f.confpy-00000001").symlink_to("f")
    (tmp_path / ".f.confpy-00000002").mkdir()
    before = names(tmp_path)
    assert sweep((str(tmp_path / "f"), str(tmp_path / "none" / "f")), Disk()) == ()
    assert names(tmp_path) == before


def test_a_sweep_reads_each_folder_once_and_looks_at_no_target(tmp_path):
    class Counting(Disk):
        def __init__(self):
            self.read = []

        def entries(self, folder):
            self.read.append(folder)
            return super().entries(folder)

        def find(self, path):
            raise AssertionError(path)

    dests = [str(tmp_path / f"f{number}") for number in range(9)]
    for dest in dests[:4]:
        stage_and_die(resource(dest))
    disk = Counting()
    assert len(sweep(tuple(dests), disk)) == 4
    assert disk.read == [str(tmp_path)]


def test_a_sweep_looks_where_a_link_leads(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/f")
    stage_and_die(resource(tmp_path / "link"))
    assert len(sweep((str(tmp_path / "link"),), Disk())) == 1
    assert names(tmp_path / "real") == []


def test_a_sweep_follows_links_below_the_root_and_touches_nothing_outside(tmp_path):
    host, image = tmp_path / "host", tmp_path / "image"
    below = image / host.relative_to("/")
    stage_name = ".f.confpy-0123abcd"
    for folder in (host, below):
        folder.mkdir(parents=True)
        (folder / stage_name).touch()
    (image / "absolute").symlink_to(host / "f")
    (image / "dots").symlink_to("../host/f")
    (image / "folder").symlink_to(host)
    dests = tuple(str(image / name) for name in ("absolute", "dots", "folder/f"))
    assert sweep(dests, Disk(), str(image)) == (str(below / stage_name),)
    assert names(host) == [stage_name]


def test_a_sweep_looks_wherever_one_link_after_another_leads(tmp_path):
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to("third")
    (tmp_path / "ring").symlink_to("ring")
    dests = [str(tmp_path / name) for name in ("ring", "first")]
    for name in ("first", "second", "third"):
        (tmp_path / f".{name}.confpy-0123abcd").touch()
    assert len(sweep((*dests,), Disk())) == 3
    assert names(tmp_path) == ["first", "ring", "second"]


@pytest.mark.parametrize("gets_as_far_as", ["lock", "removal"])
def test_a_candidate_that_a_sweep_removed_before_it_was_locked_is_created_again(tmp_path, monkeypatch, gets_as_far_as):
    sweeping = []

    def flock(descriptor, operation):
        if not sweeping:  # the creator is about to lock: the sweep of another process comes first
            (name,) = names(tmp_path)
            sweeping.append(os.open(tmp_path / name, os.O_RDONLY))
            fcntl.flock(sweeping[0], operation)
            if gets_as_far_as == "removal":
                (tmp_path / name).unlink()
                os.close(sweeping[0])
        fcntl.flock(descriptor, operation)

    class Fcntl:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

    Fcntl.flock = staticmethod(flock)
    monkeypatch.setattr(disks, "fcntl", Fcntl)
    put(resource(tmp_path / "f"), b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    if gets_as_far_as == "lock":
        os.close(sweeping[0])
        assert len(sweep((str(tmp_path / "f"),), Disk())) == 1
    assert names(tmp_path) == ["f"]


def test_processes_that_stage_and_sweep_at_once_lose_no_live_candidate(tmp_path):
    def hammer(name: str) -> int:
        wanted, disk = resource(tmp_path / name), Disk()
        for number in range(200):
            put(wanted, str(number).encode(), disk)
            sweep((str(tmp_path / "a"), str(tmp_path / "b")), disk)
        return number

    children = [Child(lambda name=name: hammer(name)) for name in ("a", "b")]
    assert [child.result() for child in children] == [199, 199]
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"199"


# --- not root --------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder():
    """A folder that a user who is not root can reach."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o777)
        yield Path(made)


def failure_of(wanted: Resource) -> tuple[str, str]:
    with pytest.raises(TargetError) as caught:
        put(wanted, b"new")
    return caught.value.message, caught.value.hint


def test_a_folder_that_confpy_may_not_write_to_is_an_error_and_the_old_file_stays(open_folder):
    path = open_folder / "shut" / "f"
    path.parent.mkdir()
    path.write_bytes(b"old")
    path.parent.chmod(0o555)
    message, hint = as_nobody(lambda: failure_of(resource(path)))
    assert message == "the candidate cannot be written beside the target: Permission denied"
    assert hint == "give confpy's user the right to do that"
    assert path.read_bytes() == b"old"
    path.parent.chmod(0o755)


def test_if_the_file_itself_may_be_written_the_error_says_that_a_state_folder_would_do(open_folder):
    path = open_folder / "shut" / "f"
    path.parent.mkdir()
    path.write_bytes(b"old")
    path.chmod(0o666)
    path.parent.chmod(0o555)
    _, hint = as_nobody(lambda: failure_of(resource(path)))
    assert "a state folder to write to" in hint
    _, hint = as_nobody(lambda: failure_of(resource(path, write="rename")))
    assert hint == "give confpy's user the right to do that"
    path.parent.chmod(0o755)


def test_a_target_that_confpy_may_not_read_is_an_error(open_folder):
    path = open_folder / "f"
    path.write_bytes(b"old")
    path.chmod(0)
    message, _ = as_nobody(lambda: failure_of(resource(path)))
    assert message == "the target cannot be read: Permission denied"
    path.chmod(0o600)
    assert path.read_bytes() == b"old"


def test_a_group_that_confpy_is_in_is_given_even_if_the_user_cannot_be(open_folder):
    def deliver() -> tuple[list[str], int, int]:
        path = open_folder / "f"
        own = [*os.getgroups(), os.getegid()][0]
        wanted, disk = resource(path, uid=0, gid=own), Disk()
        staged = stage(wanted, look(wanted, disk), b"new", disk)
        commit(staged, disk)
        return staged.notes, path.stat().st_gid, own

    notes, given, own = as_nobody(deliver)
    assert given == own
    assert notes == [f"owner 0:{own} cannot be given (Operation not permitted)"]
