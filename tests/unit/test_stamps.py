"""Unchanged targets are recognised without reading them, and every doubt means that they are read."""

import errno
import hashlib
import os
from contextlib import suppress

import pytest

from confpy.candidates import Candidate, Group
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.ledger import stamps as file
from confpy.ledger.ledger import Ledger
from confpy.messages import Counted
from confpy.system import mounts
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.stamps import COARSE, FINE, is_settled, stamp

MANY = file.FEW + 3


class Reading(Disk):
    """The real disk, whose clock runs a minute ahead: no file is too young. It knows what was read."""

    later = 60_000_000_000

    def __init__(self) -> None:
        self.was_read: list[str] = []
        self.resolved: list[str] = []

    def clock(self):
        return super().clock() + self.later

    def read_version(self, path):
        self.was_read.append(path)
        return super().read_version(path)

    def resolve(self, path):
        self.resolved.append(path)
        return super().resolve(path)

    def devices(self, _kinds):
        return frozenset({self.device})

    device = os.stat("/tmp").st_dev
    """Wherever these tests run, their file system counts as one of this machine."""


class Confpy:
    """One process after another over the same targets."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.out = folder / "out"
        self.out.mkdir()
        Reading.device = os.stat(folder).st_dev

    @property
    def file(self):
        return self.state / file.NAME

    def contents(self) -> dict[str, bytes]:
        return {f"f{number}": b"password = hunter%d\n" % number for number in range(MANY)}

    def run(self, contents=None, *, noop=False, disk=None, save=True, **options) -> tuple[dict[str, str], list[str]]:
        """Deliver in a process of its own; returns the outcomes that are not "unchanged", and what was read."""
        disk = disk or Reading()
        ledger = Ledger.open(None if noop else str(self.state), disk)
        ledger.counted({"f0": Counted(1)}, "", 1)
        groups = []
        for name, content in (self.contents() if contents is None else contents).items():
            resource = Resource(name=name, file="", src="", dest=str(self.out / name), **options)
            groups.append(Group(resource.dest, (Candidate(resource, content),), is_lone=True))
        disk.was_read.clear()
        reports = deliver(tuple(groups), Rules(noop=noop), disk, Shell(), ledger)
        was_read = [os.path.basename(path) for path in disk.was_read if os.path.dirname(path) == str(self.out)]
        if save:
            ledger.close()
        return {it.resource: it.outcome for it in reports if it.outcome != "unchanged"}, was_read


@pytest.fixture
def confpy(tmp_path):
    found = Confpy(tmp_path)
    found.run()
    found.run()  # it learns what the first has written: that was younger than the grain of the clock
    return found


def test_an_unchanged_target_is_not_read_by_the_next_start(confpy):
    assert confpy.run() == ({}, [])


def test_what_was_just_written_is_read_once_more(tmp_path):
    confpy = Confpy(tmp_path)
    outcomes, _ = confpy.run()
    assert set(outcomes.values()) == {"changed"}
    assert confpy.run()[1] != []
    assert confpy.run()[1] == []


def keep_times(path, act):
    """Do something to a file and give it back its time of modification."""
    before = path.stat()
    act()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def overwrite(path):
    keep_times(path, lambda: path.write_bytes(path.read_bytes().upper()))


def replace(path):
    def act():
        other = path.with_name("other")
        other.write_bytes(path.read_bytes().upper())
        other.chmod(0o644)
        other.rename(path)

    keep_times(path, act)


def swap_in_a_link(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().upper())
    path.unlink()
    path.symlink_to(other)


def exchange(path):
    """Two targets take each other's names: sizes, times and owners are all those of files that are known."""
    other = path.with_name("f2")
    path.rename(path.with_name("x"))
    other.rename(path)
    path.with_name("x").rename(other)


@pytest.mark.parametrize(
    "harm", [overwrite, replace, swap_in_a_link, exchange, os.unlink, lambda path: os.truncate(path, 3)]
)
def test_whatever_differs_is_seen_and_mended(confpy, harm):
    harm(confpy.out / "f1")
    outcomes, _ = confpy.run()
    assert outcomes["f1"] == "changed"
    assert {name: (confpy.out / name).read_bytes() for name in confpy.contents()} == confpy.contents()
    assert confpy.run()[0] == {}


def test_a_mode_that_differs_is_seen_and_mended(confpy):
    assert confpy.run(mode=0o644) == ({}, [])
    (confpy.out / "f1").chmod(0o666)
    assert confpy.run(mode=0o644)[0] == {"f1": "changed"}
    assert (confpy.out / "f1").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_owner_that_differs_is_seen_and_mended(confpy):
    os.chown(confpy.out / "f1", 12345, 0)
    assert confpy.run(uid=0)[0] == {"f1": "changed"}
    assert (confpy.out / "f1").stat().st_uid == 0


def test_a_directory_or_a_fifo_in_its_place_is_seen(confpy):
    (confpy.out / "f1").unlink()
    (confpy.out / "f1").mkdir()
    assert confpy.run()[0] == {"f1": "failed"}


def test_a_link_in_its_place_is_refused_where_it_is_to_be(confpy):
    swap_in_a_link(confpy.out / "f1")
    assert confpy.run(symlink="refuse")[0] == {"f1": "failed"}


def test_another_content_is_delivered_over_a_target_that_is_known(confpy):
    wanted = {**confpy.contents(), "f1": b"password = hunter9\n"}
    assert confpy.run(wanted) == ({"f1": "changed"}, ["f1"])
    assert (confpy.out / "f1").read_bytes() == wanted["f1"]


def test_a_target_that_changes_is_read_once(confpy):
    disk = Reading()
    assert confpy.run({"f1": b"new"}, disk=disk) == ({"f1": "changed"}, ["f1"])


# --- what is believed ------------------------------------------------------------------------------------------------


def status_of(path, **times):
    fields = {"st_dev": 1, "st_ino": 2, "st_size": 3, "st_mtime_ns": 0, "st_ctime_ns": 0, **times}
    return type("Status", (), fields)()


@pytest.mark.parametrize(
    ("changed", "age", "settled"),
    [
        (10**18 + 1, FINE, True),
        (10**18 + 1, FINE - 1, False),
        (10**18, FINE, False),  # kept in whole seconds
        (10**18, COARSE, True),
        (10**18, COARSE - 1, False),
        (10**18 + 1, -1, False),  # the clock was set back
    ],
)
def test_times_that_a_second_write_might_have_left_are_not_believed(changed, age, settled):
    assert is_settled(status_of("f", st_ctime_ns=changed), changed + age) is settled


def test_a_time_of_modification_in_the_future_is_not_believed():
    assert not is_settled(status_of("f", st_mtime_ns=2 * 10**18, st_ctime_ns=10**18 + 1), 15 * 10**17)


def test_stamps_differ_in_each_of_their_fields():
    fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    assert len({stamp(status_of("f", **{field: 9})) for field in fields} | {stamp(status_of("f"))}) == 6


class OnANetwork(Reading):
    def devices(self, _kinds):
        return frozenset()


def test_a_target_on_a_file_system_that_may_be_late_is_read(confpy):
    assert len(confpy.run(disk=OnANetwork())[1]) == MANY


class Young(Reading):
    later = -60_000_000_000


def test_young_targets_are_neither_learned_nor_saved(tmp_path):
    confpy = Confpy(tmp_path)
    confpy.run(disk=Young())
    for name in confpy.contents():
        os.utime(confpy.out / name)
    confpy.run(disk=Young())
    assert not confpy.file.exists()


# --- the file --------------------------------------------------------------------------------------------------------


def test_any_part_of_the_file_is_no_file(confpy):
    whole = confpy.file.read_bytes()
    assert file.decode(whole, Disk().boot()) is not None
    assert {file.decode(whole[:size], Disk().boot()) for size in range(len(whole))} == {None}


def test_a_file_with_any_other_byte_is_no_file(confpy):
    whole = confpy.file.read_bytes()
    for place in range(0, len(whole), 7):
        other = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        assert file.decode(other, Disk().boot()) is None


def of_another_version(path):
    path.write_bytes(path.read_bytes().replace(b"stamps 1", b"stamps 2", 1))


def make_huge(path):
    os.truncate(path, file.LARGEST + 1)


def to_a_folder(path):
    path.unlink()
    path.mkdir()


def to_a_fifo(path):
    path.unlink()
    os.mkfifo(path, 0o600)


def to_a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "harm",
    [
        os.unlink,
        of_another_version,
        make_huge,
        to_a_folder,
        to_a_fifo,
        to_a_link,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(os.urandom(1000)),
        lambda path: path.chmod(0o644),
        lambda path: path.chmod(0o620),
        pytest.param(
            lambda path: os.chown(path, 12345, 0),
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
        ),
    ],
)
def test_with_a_file_that_is_lost_or_in_doubt_all_targets_are_read(confpy, harm):
    harm(confpy.file)
    assert confpy.run() == ({}, [*confpy.contents()])


def test_stamps_of_another_boot_are_not_believed(confpy):
    class Rebooted(Reading):
        def boot(self):
            return super().boot()[::-1]

    assert len(confpy.run(disk=Rebooted())[1]) == MANY


def test_without_a_name_of_the_boot_nothing_is_saved(tmp_path):
    class Nameless(Reading):
        def boot(self):
            return ""

    confpy = Confpy(tmp_path)
    confpy.run(disk=Nameless())
    assert len(confpy.run(disk=Nameless())[1]) == MANY
    assert not confpy.file.exists()


def test_the_file_is_private_and_no_content_can_be_found_by_it(confpy):
    assert confpy.file.stat().st_mode & 0o777 == 0o600
    written = confpy.file.read_bytes()
    for content in confpy.contents().values():
        for digest in (content, hashlib.sha256(content).digest(), hashlib.blake2b(content, digest_size=16).digest()):
            assert digest not in written


def test_each_file_has_a_key_of_its_own(confpy):
    first = file.decode(confpy.file.read_bytes(), Disk().boot())
    confpy.file.unlink()
    confpy.run()
    second = file.decode(confpy.file.read_bytes(), Disk().boot())
    assert first[0] != second[0]
    assert {it[-16:] for it in first[1].values()}.isdisjoint(it[-16:] for it in second[1].values())


def test_a_disk_that_cannot_take_it_stops_nothing(confpy):
    class Full(Reading):
        def write_file(self, *_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    confpy.file.unlink()
    assert confpy.run(disk=Full())[0] == {}
    assert not confpy.file.exists()


def test_it_is_not_flushed_to_disk(confpy):
    synced = []

    class Syncing(Reading):
        def sync(self, descriptor):
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    confpy.file.unlink()
    confpy.run(disk=Syncing())
    assert confpy.file.exists()
    assert not [path for path in synced if file.NAME in path]


def test_noop_neither_writes_nor_reads_it(confpy):
    before = confpy.file.stat()
    assert confpy.run(noop=True) == ({}, [*confpy.contents()])
    assert confpy.file.stat() == before


def test_a_few_targets_are_not_worth_a_file(tmp_path):
    confpy = Confpy(tmp_path)
    for _ in range(3):
        confpy.run({"f1": b"content"})
    assert not confpy.file.exists()


def test_what_another_tree_has_is_kept_and_what_is_gone_is_forgotten(confpy):
    others = {f"g{number}": b"other" for number in range(MANY)}
    (confpy.out / "f1").unlink()
    for _ in range(2):
        confpy.run(others)
    assert confpy.run(others) == ({}, [])
    known = file.decode(confpy.file.read_bytes(), Disk().boot())[1]
    assert known.keys() == {str(confpy.out / name) for name in (*others, *confpy.contents())} - {str(confpy.out / "f1")}


def test_paths_of_any_bytes_are_kept():
    names = {os.fsdecode(b"/a/\xff\n"): b"1" * file.SIZE, "/b/ü": b"2" * file.SIZE}
    written = file.encode(b"k" * 16, "b" * 36, names)
    assert file.decode(written, "b" * 36) == (b"k" * 16, names)


def test_a_folder_is_resolved_once_however_many_targets_it_has(confpy):
    disk = Reading()
    confpy.run(disk=disk)
    assert disk.resolved.count(str(confpy.out)) == 1


def test_a_folder_whose_link_leads_elsewhere_once_the_targets_are_locked_is_not_written(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("one")

    class Moving(Disk):
        def open_locks(self, path):
            with suppress(FileExistsError):
                os.symlink("two", tmp_path / "new")
            with suppress(FileNotFoundError):
                os.rename(tmp_path / "new", tmp_path / "link")
            return super().open_locks(path)

    ledger = Ledger(str(tmp_path), Moving())
    resource = Resource(name="f", file="", src="", dest=str(tmp_path / "link" / "f"))
    group = Group(resource.dest, (Candidate(resource, b"new"),), is_lone=True)
    (report,) = deliver((group,), Rules(), Moving(), Shell(), ledger)
    assert report.outcome == "failed"  # the lock is of another file: it is tried again
    assert not (tmp_path / "one" / "f").exists()


def test_the_mounts_and_the_boot_of_this_machine_are_known(tmp_path):
    disk = Disk()
    assert len(disk.boot()) in (0, 36)
    proc = os.stat("/proc").st_dev
    assert proc in disk.devices({"proc"})
    assert proc not in disk.devices({"ext4", "tmpfs"})


def test_mounts_are_read_whatever_optional_fields_they_have():
    lines = (
        b"22 27 0:21 / /proc rw,relatime shared:5 master:2 - proc proc rw",
        rb"27 1 253:1 / /a\040-\040b rw - ext4 /dev/vda1 rw,errors=remount-ro",
        b"30 27 0:40 / /net rw - nfs4 server:/x rw",
        b"31 27 8:300 /sub /c rw propagate_from:3 - ext4 /dev/sd rw",
    )
    found = mounts.devices(b"\n".join(lines) + b"\n", {"ext4"})
    assert found == {os.makedev(253, 1), os.makedev(8, 300)}
