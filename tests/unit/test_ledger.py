"""What survives a restart: on real files, with the process's death played by a ledger that is let go of."""

from __future__ import annotations

import errno
import json
import os
import stat
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from confpy.candidates import Candidate, Group, Report
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.delivery.rollback import restore
from confpy.frozen import replace
from confpy.ledger.book import Book
from confpy.ledger.file import LARGE
from confpy.ledger.formats import FORMAT, read_lines, write_line
from confpy.ledger.ledger import Ledger
from confpy.ledger.records import Change, GroupChange, Record, read_record, write_record
from confpy.ledger.recovery import plan
from confpy.messages import Counted, Recovered
from confpy.reload.actions import (
    CommandReload,
    HttpReload,
    ReloadAction,
    SignalReload,
    SocketReload,
    Verifier,
    VerifyCommand,
    VerifyProgram,
)
from confpy.reload.runtime_target import RuntimeTarget
from confpy.reload.spec import LastRun, PendingReload, Rejection, ReloadSpec
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from tests.run_as_user import Child, as_nobody

RELOAD = "systemctl reload it"


def keys_of(recovered: Recovered) -> dict[str, int]:
    """Return how many keys each resource had when it was last delivered."""
    return {name: counts[-1].keys for name, counts in recovered.counts.items()}


class Counting(Disk):
    """The real disk; counts what is written to it and synced of the ledger."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.syncs = 0
        self.files: set[int] = set()

    def create(self, path, *access):
        descriptor = super().create(path, *access)
        if os.path.basename(path).startswith(".ledger"):
            self.files.add(descriptor)
        return descriptor

    def write(self, descriptor, content):
        if descriptor in self.files:
            self.written.append(content)
        super().write(descriptor, content)

    def sync(self, descriptor):
        self.syncs += descriptor in self.files
        super().sync(descriptor)

    def close(self, descriptor):
        self.files.discard(descriptor)
        super().close(descriptor)


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def start(state: Path, disk: Disk | None = None) -> tuple[Ledger, Recovered]:
    ledger = Ledger.open(str(state), disk or Disk())
    return ledger, ledger.recover()


def die(ledger: Ledger) -> None:
    """End as a kill ends: nothing is written, the lock goes."""
    if ledger._file.is_open:
        os.close(ledger._file._descriptor)


def resource(dest: Path, **more) -> Resource:
    return Resource(name=dest.name, file="", src="", dest=str(dest), **{"reload_cmd": CommandReload(RELOAD), **more})


def give(ledger: Ledger, *wanted: tuple[Resource, bytes], disk: Disk | None = None, **rules) -> list[Report]:
    groups: dict[str, list[Candidate]] = {}
    for one, content in wanted:
        groups.setdefault(one.group or one.name, []).append(Candidate(one, content, keys=3))
    made = tuple(Group(name, tuple(candidates)) for name, candidates in groups.items())
    return list(deliver(made, Rules(**rules), disk or Disk(), Shell(), ledger))


def files(state: Path) -> list[str]:
    return sorted(os.listdir(state))


# --- debts -----------------------------------------------------------------------------------------------------------


def test_a_reload_that_was_not_run_is_owed_by_the_next_start_and_the_one_after(state, out):
    ledger, _ = start(state)
    (report,) = give(ledger, (resource(out / "f", verify_cmd=VerifyCommand(("true",)), reload_cmd_timeout=7.0), b"new"))
    assert report.record
    die(ledger)
    for _ in range(2):
        ledger, recovered = start(state)
        (owed,) = recovered.reloads
        verify = VerifyCommand(("true",))
        spec = ReloadSpec(RELOAD, CommandReload(RELOAD), 7.0, verify)
        assert owed == PendingReload(spec, ("f",), (str(out / "f"),), owed.records)
        die(ledger)
    ledger, recovered = start(state)
    ledger.clear(RELOAD, recovered.reloads[0].records)
    die(ledger)
    assert start(state)[1].reloads == ()


def test_how_often_a_reload_was_run_in_vain_is_known_to_the_next_start_until_it_succeeds(state, out):
    ledger, _ = start(state)
    ledger._wall = lambda: 1000.0
    (report,) = give(ledger, (resource(out / "f"), b"new"))
    ledger.runs(RELOAD, 1, 0.0)
    ledger.runs(RELOAD, 2, 0.0)
    die(ledger)
    for _ in range(2):
        ledger, recovered = start(state)
        assert recovered.runs == {RELOAD: LastRun(1000.0, 2, 0.0)}
        die(ledger)
    ledger, recovered = start(state)
    ledger.clear(RELOAD, recovered.reloads[0].records)
    die(ledger)
    assert start(state)[1].runs == {}
    assert report.record


@pytest.mark.parametrize(("later", "left"), [(30.0, {RELOAD: LastRun(1000.0, 0, 60.0)}), (61.0, {})])
def test_a_run_that_succeeded_is_known_for_its_interval(state, out, later, left):
    ledger, _ = start(state)
    ledger._wall = lambda: 1000.0
    (report,) = give(ledger, (resource(out / "f"), b"new"))
    ledger.runs(RELOAD, 1, 60.0)
    ledger.clear(RELOAD, [report.record])
    die(ledger)
    ledger = Ledger.open(str(state), Disk())
    ledger._wall = lambda: 1000.0 + later
    assert ledger.recover().runs == left


def test_the_note_of_a_run_is_not_synced_and_makes_no_ledger(state, out):
    disk = Counting()
    ledger, _ = start(state, disk)
    ledger.runs(RELOAD, 1, 0.0)
    assert files(state) == ["targets.lock"]
    give(ledger, (resource(out / "f"), b"new"), disk=disk)
    syncs = disk.syncs
    ledger.runs(RELOAD, 1, 0.0)
    assert disk.syncs == syncs
    ledger.close()


def rejected(ledger: Ledger, out: Path) -> Rejection:
    """Deliver, deliver again, roll that back, and note it."""
    web = resource(out / "f", on_reload_failure="rollback")
    (report,) = give(ledger, (web, b"good"))
    ledger.clear(RELOAD, [report.record])
    give(ledger, (web, b"bad"))
    restored = restore(RELOAD, ledger, Disk())
    digest, path, back = restored.rejected["f"]
    assert (digest, path) == (sha256(b"bad").hexdigest(), str(out / "f"))
    assert back == sha256(b"good").hexdigest()
    rejection = Rejection(digest, path, back, "reload", 1e12, 2)
    ledger.rejected({"f": rejection})
    (put_back,) = restored.reports
    ledger.clear(RELOAD, [put_back.record])
    return rejection


def test_what_a_reload_rejected_is_known_to_the_next_start(state, out):
    ledger, _ = start(state)
    rejection = rejected(ledger, out)
    for _ in range(2):
        die(ledger)
        ledger, recovered = start(state)
        assert recovered.rejections == {"f": rejection}
        assert recovered.in_place == frozenset()
    ledger.rejected({"f": None})
    die(ledger)
    assert start(state)[1].rejections == {}


def test_a_rollback_is_known_as_a_rejection_though_its_process_ends_before_it_records_one(state, out):
    ledger, _ = start(state)
    web = resource(out / "f", on_reload_failure="rollback")
    (report,) = give(ledger, (web, b"good"))
    ledger.clear(RELOAD, [report.record])
    for times in (1, 2):
        give(ledger, (web, b"bad"))
        restore(RELOAD, ledger, Disk())
        die(ledger)
        ledger, recovered = start(state)
        rejection = recovered.rejections["f"]
        assert (rejection.digest, rejection.times) == (sha256(b"bad").hexdigest(), times)
        ledger.clear(RELOAD, recovered.reloads[0].records)


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"by hand")])
def test_a_rejection_holds_only_as_long_as_the_previous_file_is_there(state, out, change):
    ledger, _ = start(state)
    rejected(ledger, out)
    die(ledger)
    change(out / "f")
    assert start(state)[1].rejections == {}


def test_what_was_rejected_and_is_tried_again_is_marked_and_forgotten_when_its_reload_succeeds(state, out):
    ledger, _ = start(state)
    rejection = rejected(ledger, out)
    give(ledger, (resource(out / "f", on_reload_failure="rollback"), b"bad"))
    die(ledger)
    ledger, recovered = start(state)
    assert (recovered.rejections, recovered.in_place) == ({"f": rejection}, {"f"})
    ledger.clear(RELOAD, recovered.reloads[0].records)
    die(ledger)
    assert start(state)[1].rejections == {}


def test_a_rejection_that_nobody_asks_for_is_forgotten_after_a_month(state, out):
    ledger, _ = start(state)
    rejection = rejected(ledger, out)
    ledger.rejected({"f": replace(rejection, at=1000.0)})
    die(ledger)
    assert start(state)[1].rejections == {}


def test_a_ledger_of_the_first_version_is_read(state, out):
    """As it was written before the runs of a reload, and lists of lines for a socket, were known."""
    digest = sha256(b"new").hexdigest()
    (out / "f").write_bytes(b"new")
    key, path = "'reload' to unix:/s", str(out / "f")
    change = {"resource": "f", "dest": path, "path": path, "old": None, "new": digest, "keys": 3, "key": key}
    reload = {"key": key, "command": {"path": "/s", "line": "reload"}, "timeout": 7.0, "verify": None}
    group = {"group": "f", "changes": [change]}
    state.mkdir(mode=0o700)
    entries = [
        {"ledger": 1},
        {"op": "begin", "number": 1, "at": 1000.0, "deeds": [group], "debts": [reload]},
        {"op": "done", "record": 1, "failed": []},
        {"op": "counted", "at": 1000.0, "counts": {"f": 3}, "identity": "i", "revision": 9},
    ]
    (state / "ledger-00000000.log").write_bytes(b"".join(map(write_line, entries)))
    ledger, recovered = start(state)
    (owed,) = recovered.reloads
    assert (owed.spec.action, owed.spec.timeout, owed.dests) == (SocketReload("/s", "reload"), 7.0, (str(out / "f"),))
    counts = {name: [one.keys for one in counted] for name, counted in recovered.counts.items()}
    assert (counts, recovered.identity, recovered.revision) == ({"f": [3]}, "i", 9)
    assert recovered.notes == ()
    ledger.close()


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(b"theirs"), lambda path: path.unlink()])
def test_a_reload_for_a_content_that_is_gone_is_owed_no_more(state, out, harm):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"new"), (resource(out / "g"), b"new"))
    harm(out / "f")
    die(ledger)
    (owed,) = start(state)[1].reloads
    assert owed.resources == ("g",)


@pytest.mark.parametrize("rules", [{"sync_only": True}, {"noop": True}, {"no_reload": True}])
def test_runs_that_reload_nothing_owe_nothing(state, out, rules):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"new"), **rules)
    die(ledger)
    assert start(state)[1].reloads == ()


def test_a_check_that_said_no_owes_nothing(state, out):
    (out / "f").write_bytes(b"old")
    ledger, _ = start(state)
    give(ledger, (resource(out / "f", check_cmd="false"), b"new"), (resource(out / "g"), b"new"))
    die(ledger)
    (owed,) = start(state)[1].reloads
    assert owed.resources == ("g",)


@pytest.mark.parametrize(
    "command",
    [
        CommandReload("kill -HUP $(cat /run/it.pid)"),
        CommandReload(("kill", "-HUP", "")),
        SignalReload("HUP", pidfile="/run/it.pid"),
        HttpReload("POST", "http://localhost/reload"),
        SocketReload("/run/it.sock", "reload"),
        SocketReload("/run/it.sock", "clear map /m", ("add map /m a b", "show map"), "^$"),
    ],
)
def test_every_kind_of_reload_survives(state, out, command: ReloadAction):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f", reload_cmd=command), b"new"))
    die(ledger)
    assert start(state)[1].reloads[0].spec.action == command


@pytest.mark.parametrize(
    "verify",
    [
        None,
        VerifyCommand("true"),
        VerifyCommand(("test", "")),
        VerifyProgram("nginx"),
        VerifyProgram("haproxy", "/s"),
    ],
)
def test_every_kind_of_verify_survives(state, out, verify: Verifier | None):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f", verify_cmd=verify), b"new"))
    die(ledger)
    assert start(state)[1].reloads[0].spec.verifier == verify


def test_a_runtime_target_survives(state, out):
    ledger, _ = start(state)
    target = RuntimeTarget(("unix:/run/haproxy/admin.sock", "127.0.0.1:9999"))
    give(ledger, (resource(out / "f", reload_haproxy=target), b"new"))
    die(ledger)
    assert start(state)[1].reloads[0].spec.runtime == target


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_reload_that_is_owed_with_and_without_a_runtime_target_is_made(state, out, together, order):
    """Told alone, the running program would not have the file of the other resource."""
    ledger, _ = start(state)
    target = RuntimeTarget(("unix:/run/haproxy/admin.sock",))
    both = [(resource(out / "f", reload_haproxy=target), b"new"), (resource(out / "g"), b"new")]
    wanted = [both[number] for number in order]
    for some in [wanted] if together else [[one] for one in wanted]:
        give(ledger, *some)
    die(ledger)
    (owed,) = start(state)[1].reloads
    assert (owed.spec.runtime, sorted(owed.resources)) == (None, ["f", "g"])


def test_a_thousand_that_share_a_reload_cost_two_writes_and_one_sync(state, out):
    disk = Counting()
    ledger, _ = start(state, disk)
    give(ledger, (resource(out / "first"), b"new"), disk=disk)
    disk.written.clear()
    disk.syncs = 0
    reports = give(ledger, *((resource(out / str(n)), b"%d" % n) for n in range(1000)), disk=disk)
    assert {report.outcome for report in reports} == {"changed"}
    (record,) = {report.record for report in reports}
    ledger.clear(RELOAD, (record,))
    assert (len(disk.written), disk.syncs) == (2, 1)
    die(ledger)
    assert len(start(state)[1].counts) == 1001


def test_the_record_is_on_the_disk_before_the_first_target_is_new(state, out):
    steps = []

    class Watching(Counting):
        def sync(self, descriptor):
            steps.extend(["ledger"] if descriptor in self.files else [])
            super().sync(descriptor)

        def rename(self, old, new):
            steps.append("named" if "ledger" in new else "rename")
            super().rename(old, new)

    disk = Watching()
    ledger, _ = start(state, disk)
    give(ledger, *((resource(out / str(n)), b"new") for n in range(3)), disk=disk)
    assert steps == ["ledger", "named", "rename", "rename", "rename"]


def test_a_lone_target_without_a_reload_leaves_no_trace(state, out):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f", reload_cmd=None), b"new"))
    ledger.close()
    assert files(state) == ["targets.lock"]


def test_one_that_owes_nothing_and_counted_nothing_removes_its_file(state, out):
    ledger, _ = start(state)
    ledger.counted({}, "", 0)
    assert len(files(state)) == 2
    ledger.close()
    assert files(state) == ["targets.lock"]


# --- counts ----------------------------------------------------------------------------------------------------------


def test_counts_come_with_the_commit_and_by_themselves(state, out):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"new"), (resource(out / "g", check_cmd="false"), b"new"))
    ledger.counted({"h": Counted(12)}, "cluster", 99)
    ledger.close()
    recovered = start(state)[1]
    assert (keys_of(recovered), recovered.identity, recovered.revision) == ({"f": 3, "h": 12}, "cluster", 99)


# --- the file --------------------------------------------------------------------------------------------------------


def torn(state: Path, at: int) -> None:
    (path,) = state.glob("ledger-*")
    path.write_bytes(path.read_bytes()[:at])


def test_a_ledger_cut_anywhere_loses_only_what_was_not_written(state, out):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"new"))
    give(ledger, (resource(out / "g", reload_cmd=CommandReload("other")), b"new"))
    die(ledger)
    (path,) = state.glob("ledger-*")
    whole = path.read_bytes()
    first = whole.index(b"\n", whole.index(b"\n") + 1)
    for at in [*range(0, len(whole), 23), first - 1, first, first + 1]:
        torn(state, at) if at else path.write_bytes(b"")
        ledger, recovered = start(state)
        keys = {owed.spec.key for owed in recovered.reloads}
        assert (RELOAD in keys) == (at >= first)
        # It goes on behind what was whole.
        ledger.counted({"z": Counted(at)}, "", 0)
        die(ledger)
        again, recovered = start(state)
        assert keys_of(recovered)["z"] == at
        die(again)
        for left in state.glob("ledger-*"):
            left.unlink()
        path.write_bytes(whole)


def test_a_torn_line_in_the_middle_hides_no_other(state, out):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"new"))
    die(ledger)
    (path,) = state.glob("ledger-*")
    head, begin, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([head, b"00000000 {}", b"\x00\xff", begin[:40], begin, b""]))
    assert start(state)[1].reloads[0].resources == ("f",)


def test_a_ledger_of_another_version_is_set_aside_and_found_again_by_that_version(state, out, monkeypatch):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"new"))
    die(ledger)
    with monkeypatch.context() as newer:
        newer.setattr("confpy.ledger.file.READABLE", {FORMAT + 1})
        newer.setattr("confpy.ledger.file.HEAD", {"ledger": FORMAT + 1})
        ledger, recovered = start(state)
        assert recovered.reloads == ()
        (note,) = recovered.notes
        assert note.event == "state.quarantined"
        ledger.counted({"n": Counted(1)}, "", 0)
        die(ledger)
    ledger, recovered = start(state)
    assert recovered.reloads[0].resources == ("f",)
    assert [note.event for note in recovered.notes] == ["state.quarantined"]
    die(ledger)


def test_a_file_that_is_not_confpys_is_set_aside(state):
    state.mkdir(mode=0o700)
    (state / "ledger-00000000.log").write_bytes(write_line({"ledger": "mine"}))
    assert start(state)[1].notes[0].fields["file"] == str(state / "ledger-00000000.log.set-aside")


def test_ledgers_of_ended_processes_become_one_and_those_of_live_ones_stay(state, out):
    ledgers = [Ledger.open(str(state), Disk()) for _ in range(3)]
    for number, ledger in enumerate(ledgers):
        give(ledger, (resource(out / str(number)), b"new"))
    die(ledgers[0])
    die(ledgers[1])
    assert len(list(state.glob("ledger-*"))) == 3
    _, recovered = start(state)
    assert recovered.reloads[0].resources == ("0", "1")
    assert len(set(recovered.reloads[0].records)) == 2
    assert len(list(state.glob("ledger-*"))) == 2


def test_a_long_ledger_is_written_anew_while_it_is_used(state, out):
    ledger, _ = start(state)
    (owes,) = give(ledger, (resource(out / "f"), b"new"))
    for number in range(40):
        ledger.counted({f"{'n' * 50_000}": Counted(number)}, "", number)
    (path,) = state.glob("ledger-*")
    assert path.stat().st_size < LARGE
    die(ledger)
    recovered = start(state)[1]
    assert recovered.reloads[0].resources == ("f",)
    assert recovered.revision == 39
    assert owes.record


def test_a_ledger_is_for_our_eyes_only(state, out):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"new"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}


# --- where it cannot be written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_to_is_not_used(state, out, mode):
    state.mkdir()
    state.chmod(mode)
    ledger, recovered = start(state)
    assert ledger.warning.message.startswith("the ledger cannot be used")
    assert recovered == Recovered()
    assert give(ledger, (resource(out / "f"), b"new"))[0].outcome == "changed"
    assert files(state) == []


def test_a_folder_that_cannot_be_made_is_one_warning_and_all_goes_on(tmp_path, out):
    (tmp_path / "file").touch()
    ledger, _ = start(tmp_path / "file" / "state")
    assert ledger.warning.where["folder"] == str(tmp_path / "file" / "state")
    ledger.clear(RELOAD, (1,))
    ledger.counted({"f": Counted(1)}, "", 0)
    assert give(ledger, (resource(out / "f"), b"new"))[0].record == 0
    ledger.close()


def test_a_state_folder_of_another_user_is_not_used(state):
    state.mkdir(mode=0o755)
    assert as_nobody(lambda: Ledger.open(str(state), Disk()).warning is not None)


def test_a_full_state_folder_stops_no_delivery_and_says_so(state, out):
    class Full(Counting):
        def write(self, descriptor, content):
            if descriptor in self.files:
                os.write(descriptor, content[:9])
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(descriptor, content)

    disk = Full()
    ledger, _ = start(state, disk)
    (report,) = give(ledger, (resource(out / "f"), b"new"), disk=disk)
    assert report.outcome == "changed"
    assert report.notes == ("the ledger cannot be written (No space left on device): a kill now may lose the reload",)
    assert files(state) == ["targets.lock"]


def test_what_a_full_disk_left_out_of_the_ledger_is_written_with_the_next_line(state, out):
    class Filling(Counting):
        full = False

        def write(self, descriptor, content):
            if self.full and descriptor in self.files:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(descriptor, content)

    disk = Filling()
    ledger, _ = start(state, disk)
    (report,) = give(ledger, (resource(out / "f"), b"new"), disk=disk)
    disk.full = True
    ledger.counted({"f": Counted(3)}, "cluster", 7)
    ledger.clear(RELOAD, [report.record])
    disk.full = False
    give(ledger, (resource(out / "g", reload_cmd=CommandReload("another")), b"new"), disk=disk)
    die(ledger)
    _, recovered = start(state)
    assert [owed.spec.key for owed in recovered.reloads] == ["another"]
    assert keys_of(recovered) == {"f": 3, "g": 3}
    assert len(files(state)) == 2


def test_a_part_of_a_new_ledger_is_never_believed(state, out):
    (out / "f").write_bytes(b"old")

    class Killed(BaseException):
        pass

    class Deadly(Disk):
        """The process dies when it writes its ledger, at a line's end."""

        def write(self, descriptor, content):
            if content.count(b"\n") > 2:
                os.write(descriptor, b"\n".join(content.split(b"\n")[:-2]) + b"\n")
                raise Killed
            super().write(descriptor, content)

    ledger, _ = start(state)
    give(ledger, (resource(out / "g"), b"new"), (resource(out / "f", check_mode="swap", check_cmd="true"), b"new"))
    die(ledger)
    before = [path for path in state.iterdir() if path.name.startswith("ledger-")]
    with pytest.raises(Killed):
        start(state, Deadly())
    assert [path for path in state.iterdir() if path.name.startswith("ledger-")] == before


def test_a_ledger_that_cannot_be_shortened_stays_the_one(state, out, monkeypatch):
    class Filling(Disk):
        full = False

        def create(self, path, *access):
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().create(path, *access)

    disk = Filling()
    ledger, _ = start(state, disk)
    give(ledger, (resource(out / "f"), b"new"))
    monkeypatch.setattr("confpy.ledger.file.LARGE", 0)
    disk.full = True
    ledger.counted({"f": Counted(3)}, "cluster", 7)
    ledger.counted({"f": Counted(4)}, "cluster", 8)
    die(ledger)
    _, recovered = start(state)
    assert keys_of(recovered) == {"f": 4}
    assert [owed.spec.key for owed in recovered.reloads] == [RELOAD]


def test_a_kill_or_a_power_cut_right_after_the_first_keys_were_delivered_loses_not_that_there_were_any(state, out):
    class Killed(BaseException):
        pass

    class Deadly(Counting):
        """The process dies after the rename; what of the ledger was not synced by then is lost."""

        lost = False

        def rename(self, old, new):
            super().rename(old, new)
            if new.startswith(str(out)):
                assert self.syncs
                raise Killed

    disk = Deadly()
    ledger, _ = start(state, disk)
    candidate = Candidate(resource(out / "f", reload_cmd=None), b"new", keys=2, first_keys=True)
    with pytest.raises(Killed):
        deliver((Group("f", (candidate,)),), Rules(), disk, Shell(), ledger)
    assert (out / "f").read_bytes() == b"new"
    die(ledger)
    assert keys_of(start(state)[1]) == {"f": 2}


def test_a_lone_target_whose_keys_the_ledger_knows_of_is_replaced_without_a_word_in_it(state, out):
    disk = Counting()
    ledger, _ = start(state, disk)
    candidate = Candidate(resource(out / "f", reload_cmd=None), b"new", keys=2)
    deliver((Group("f", (candidate,)),), Rules(), disk, Shell(), ledger)
    assert (disk.written, disk.syncs) == ([], 0)


def test_each_kind_of_store_and_each_tree_has_counts_and_a_store_of_its_own(state):
    for backend, root, keys in (("etcd", "", 3), ("etcdv3", "", 4), ("etcd", "/img", 5), ("etcd", "", 6)):
        ledger = Ledger.open(str(state), Disk(), backend=backend, root=root)
        ledger.recover()
        ledger.counted({"web": Counted(keys, backend, ("/app",), "/")}, f"cluster of {backend}", keys)
        ledger.close()
    found = {}
    for backend, root in (("etcd", ""), ("etcdv3", ""), ("etcd", "/img"), ("env", "/img"), ("env", "/none")):
        ledger = Ledger.open(str(state), Disk(), backend=backend, root=root)
        recovered = ledger.recover()
        found[backend, root] = [(one.backend, one.keys) for one in recovered.counts.get("web", ())], recovered.identity
        ledger.close()
    both = [("etcdv3", 4), ("etcd", 6)]
    assert found == {
        ("etcd", ""): (both, "cluster of etcd"),
        ("etcdv3", ""): (both, "cluster of etcdv3"),
        ("etcd", "/img"): ([("etcd", 5)], "cluster of etcd"),
        ("env", "/img"): ([("etcd", 5)], ""),
        ("env", "/none"): ([], ""),
    }


def test_a_record_of_a_delivery_says_what_was_read_from_which_store(state, out):
    ledger = Ledger.open(str(state), Disk(), backend="etcdv3", root="/img")
    ledger.recover()
    resource = Resource(
        "f", "f.toml", "t", str(out / "f"), "/app", ("/app/a", "/app/b"), reload_cmd=CommandReload("true")
    )
    deliver((Group("f", (Candidate(resource, b"new", 3),)),), Rules(), Disk(), Shell(), ledger)
    ledger.close()
    again = Ledger.open(str(state), Disk(), backend="etcdv3", root="/img")
    assert again.recover().counts == {"f": (Counted(3, "etcdv3", ("/app/a", "/app/b"), "/app"),)}
    again.close()


def test_the_ledger_of_the_first_version_is_read_for_whichever_store_runs(state):
    """Lines as confpy wrote them before counts belonged to a store."""
    state.mkdir(parents=True, exist_ok=True)
    record = {
        "op": "begin", "number": 1, "at": 5.0, "debts": [],
        "deeds": [{"group": "b", "changes": [
            {"resource": "b", "dest": "/out/b", "path": "/out/b", "old": None, "new": "00", "keys": 2},
        ]}],
    }  # fmt: skip
    entries = [
        {"ledger": 1},
        {"op": "counted", "at": 4.0, "counts": {"a": 3, "b": 1}, "identity": "cluster", "revision": 9},
        record,
        {"op": "done", "record": 1, "failed": []},
    ]
    state.chmod(0o700)
    (state / "ledger-00000000.log").write_bytes(b"".join(map(write_line, entries)))
    ledger = Ledger.open(str(state), Disk(), backend="etcdv3")
    recovered = ledger.recover()
    assert recovered.counts == {"a": (Counted(3),), "b": (Counted(2),)}
    assert (recovered.identity, recovered.revision) == ("cluster", 9)
    ledger.counted({"a": Counted(4, "etcdv3", ("/a",), "/")}, "cluster", 10)
    ledger.close()
    again = Ledger.open(str(state), Disk(), backend="etcdv3")
    assert again.recover().counts == {"b": (Counted(2),), "a": (Counted(4, "etcdv3", ("/a",), "/"),)}
    again.close()


def test_an_older_delivery_found_to_have_ended_counts_less_than_a_newer_one(state, out):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"none"))
    (report,) = give(ledger, (rolling(out / "f"), b"many"))
    ledger.counted({"f": Counted(7)}, "cluster", 9)
    ledger.clear(RELOAD, range(1, report.record + 1))
    die(ledger)
    _, recovered = start(state)
    assert keys_of(recovered) == {"f": 7}


def test_what_the_start_puts_back_is_reloaded(state, out):
    for name in "ab":
        (out / name).write_bytes(b"old")
    wanted = [resource(out / name, group="g") for name in "ab"]

    class Killed(BaseException):
        pass

    class Deadly(Disk):
        """The process dies at the second rename, and does nothing more."""

        renames = 0

        def rename(self, old, new):
            self.renames += 1
            if self.renames > 1:
                raise Killed
            super().rename(old, new)

        def remove(self, path):
            raise Killed(path)

    ledger, _ = start(state)
    with pytest.raises(Killed):
        give(ledger, *((one, b"new") for one in wanted), disk=Deadly())
    assert sorted(path.read_bytes() for path in out.iterdir() if path.name in "ab") == [b"new", b"old"]
    die(ledger)
    ledger, recovered = start(state)
    assert [(out / name).read_bytes() for name in "ab"] == [b"old", b"old"]
    assert [(owed.spec.key, owed.resources) for owed in recovered.reloads] == [(RELOAD, ("a",))]
    ledger.clear(RELOAD, recovered.reloads[0].records)
    die(ledger)
    assert start(state)[1].reloads == ()


def test_a_torn_delivery_is_over_when_the_next_takes_up_its_target_and_no_start_puts_it_back(state, out):
    (out / "f").write_bytes(b"old")

    class Failing(Disk):
        def overwrite(self, descriptor, content):
            os.truncate(descriptor, len(content) // 4)
            raise OSError(errno.EIO, "Input/output error")

    wanted = resource(out / "f", write="inplace", reload_cmd=None)
    ledger, _ = start(state)
    (report,) = give(ledger, (wanted, b"torn"), disk=Failing())
    assert report.torn
    (report,) = give(ledger, (wanted, b"new"))
    assert report.outcome == "changed"
    (out / "f").write_bytes(b"theirs")
    ledger.close()
    start(state)
    assert (out / "f").read_bytes() == b"theirs"
    assert os.listdir(out) == ["f"]


# --- locks -----------------------------------------------------------------------------------------------------------


def test_a_target_that_another_confpy_delivers_is_waited_for_and_then_reported(state, out, monkeypatch):
    monkeypatch.setattr("confpy.delivery.batch.PATIENCE", 0.1)
    mine, other = (Ledger.open(str(state), Disk()) for _ in range(2))
    with other.locked([str(out / "f")], 0):
        reports = give(mine, (resource(out / "f"), b"new"), (resource(out / "g"), b"new"))
    assert [report.outcome for report in reports] == ["failed", "changed"]
    assert reports[0].error.message == "another confpy delivers this target"
    assert give(mine, (resource(out / "f"), b"new"))[0].outcome == "changed"


def test_what_another_confpy_made_right_while_we_waited_is_left_alone(state, out):
    class Late(Disk):
        def lock(self, *arguments):
            (out / "f").write_bytes(b"new")
            return super().lock(*arguments)

    ledger, _ = start(state)
    assert give(ledger, (resource(out / "f"), b"new"), disk=Late())[0].outcome == "changed"
    (out / "f").unlink()
    late = Ledger.open(str(state), Late())
    assert give(late, (resource(out / "f"), b"new"))[0].outcome == "unchanged"


def test_a_lock_ends_with_its_process(state, out):
    path = str(out / "f")

    def hold() -> None:
        with Ledger.open(str(state), Disk()).locked([path], 0) as free:
            assert free == {path}
            os._exit(0)

    child = os.fork()
    if child == 0:
        hold()
    os.waitpid(child, 0)
    with Ledger.open(str(state), Disk()).locked([path], 0) as free:
        assert free == {path}


# --- rollback --------------------------------------------------------------------------------------------------------


def rolling(path: Path, **more) -> Resource:
    return resource(path, on_reload_failure="rollback", **more)


@pytest.mark.parametrize("write", ["rename", "inplace"])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_rollback_goes_back_to_what_the_reload_last_took(state, out, write, restarts):
    wanted = rolling(out / "f", write=write)
    (out / "f").write_bytes(b"zero")
    (out / "f").chmod(0o640)
    ledger, _ = start(state)
    for content in (b"first", b"good", b"bad", b"worse"):
        (report,) = give(ledger, (wanted, content))
        if content == b"good":
            ledger.clear(RELOAD, range(1, report.record + 1))
    if restarts:
        die(ledger)
        ledger, _ = start(state)
    (back,) = restore(RELOAD, ledger, Disk()).reports
    assert back.outcome == "changed"
    assert (out / "f").read_bytes() == b"good"
    assert stat.S_IMODE((out / "f").stat().st_mode) == 0o640
    die(ledger)
    ledger, recovered = start(state)
    (owed,) = recovered.reloads
    ledger.clear(RELOAD, owed.records)
    assert os.listdir(out) == ["f"]
    assert not [name for name in files(state) if name.startswith(".")]
    assert restore(RELOAD, ledger, Disk()).reports == ()


def test_a_rollback_takes_back_whole_groups_and_what_did_not_exist(state, out):
    (out / "a").write_bytes(b"old")
    wanted = [rolling(out / "a", group="g"), resource(out / "b", group="g", reload_cmd=CommandReload("another"))]
    ledger, _ = start(state)
    give(ledger, *((one, b"new") for one in wanted), (resource(out / "c"), b"new"))
    reports = restore(RELOAD, ledger, Disk()).reports
    assert [(report.resource, report.outcome, report.known is None) for report in reports] == [
        ("a", "changed", False),
        ("b", "changed", True),
    ]
    assert sorted(os.listdir(out)) == ["a", "c"]
    assert (out / "a").read_bytes() == b"old"


def test_a_rollback_takes_back_what_came_later_to_another_member_of_the_group(state, out):
    for name in "ab":
        (out / name).write_bytes(b"old")
    a, b = rolling(out / "a", group="g"), resource(out / "b", group="g", reload_cmd=None)
    ledger, _ = start(state)
    (first, _) = give(ledger, (a, b"new"), (b, b"old"))
    give(ledger, (a, b"new"), (b, b"newer"))
    assert [report.outcome for report in restore(RELOAD, ledger, Disk()).reports] == ["changed", "changed"]
    assert [(out / name).read_bytes() for name in "ab"] == [b"old", b"old"]
    ledger.clear(RELOAD, range(1, 9))
    assert first.record
    assert sorted(os.listdir(out)) == ["a", "b"]
    assert not any(ledger._book.records)


def test_what_came_to_a_group_after_its_reload_had_succeeded_preserves_no_old_file(state, out):
    (out / "b").write_bytes(b"old")
    a, b = rolling(out / "a", group="g"), resource(out / "b", group="g", reload_cmd=None)
    ledger, _ = start(state)
    (first, _) = give(ledger, (a, b"new"), (b, b"old"))
    give(ledger, (a, b"new"), (b, b"newer"))
    ledger.clear(RELOAD, [first.record])
    give(ledger, (a, b"new"), (b, b"newest"))
    assert sorted(os.listdir(out)) == ["a", "b"]
    assert not any(ledger._book.records)


def test_a_rollback_owes_the_reloads_of_the_other_members_for_what_is_back(state, out):
    (out / "a").write_bytes(b"old")
    ledger, _ = start(state)
    other = resource(out / "b", group="g", reload_cmd=CommandReload("another"))
    give(ledger, (rolling(out / "a", group="g"), b"new"), (other, b"new"))
    (owed,) = restore(RELOAD, ledger, Disk()).owed
    assert (owed.spec.key, owed.resources, owed.dests) == ("another", ("b",), (str(out / "b"),))
    assert owed.records


def test_a_rollback_goes_as_far_back_as_there_are_old_files(state, out):
    (out / "f").write_bytes(b"first")
    ledger, _ = start(state)
    give(ledger, (rolling(out / "f"), b"second"))
    (old,) = set(os.listdir(out)) - {"f"}
    give(ledger, (rolling(out / "f"), b"third"))
    (out / old).unlink()
    (report,) = restore(RELOAD, ledger, Disk()).reports
    assert report.outcome == "changed"
    assert (out / "f").read_bytes() == b"second"


def test_what_cannot_be_put_back_stays_owed(state, out):
    (out / "f").write_bytes(b"first")
    ledger, _ = start(state)
    give(ledger, (rolling(out / "f"), b"second"))
    (old,) = set(os.listdir(out)) - {"f"}
    (out / old).unlink()
    (report,) = restore(RELOAD, ledger, Disk()).reports
    assert report.error.message == "the old file is gone: the target cannot be put back"
    die(ledger)
    _, recovered = start(state)
    assert [owed.spec.key for owed in recovered.reloads] == [RELOAD]


def test_a_rollback_leaves_what_another_program_has_changed(state, out):
    (out / "f").write_bytes(b"old")
    ledger, _ = start(state)
    give(ledger, (rolling(out / "f"), b"new"))
    (out / "f").write_bytes(b"theirs")
    (report,) = restore(RELOAD, ledger, Disk()).reports
    assert report.error.message == "somebody else has changed the target: it is left alone"
    assert (out / "f").read_bytes() == b"theirs"


def test_the_old_file_goes_when_the_reload_has_succeeded(state, out):
    (out / "f").write_bytes(b"old")
    ledger, _ = start(state)
    (report,) = give(ledger, (rolling(out / "f"), b"new"))
    assert len(os.listdir(out)) == 2
    ledger.clear(RELOAD, (report.record,))
    assert os.listdir(out) == ["f"]


# --- the decision ----------------------------------------------------------------------------------------------------


def record(number: int = 1, *, swap: bool = False, in_place: bool = False, **more) -> Record:
    changes = tuple(
        Change(name, f"/{name}", f"/{name}", "old", "new", mark=f"{name}{number}", key="k", in_place=in_place)
        for name in ("a", "b")
    )
    spec = ReloadSpec("k", CommandReload("k"), 1.0)
    return Record(number, float(number), (GroupChange("g", changes, swap=swap),), (spec,), **more)


def steps(found: dict[str, str | None], *records: Record) -> list[str]:
    book = Book({one.number: one for one in records})
    old_files = {change.mark: f"old {change.mark}" for one in records for change in one.changes}
    return [step.change.mark for one in plan(book, found, old_files) for step in one.steps]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("old", "old", []),
        ("new", "old", ["a1"]),
        ("old", "new", ["b1"]),
        ("new", "new", []),
        ("new", "theirs", []),
        ("theirs", "old", []),
        ("new", None, []),
        ("", "new", []),
    ],
)
def test_a_group_that_is_half_new_goes_back_and_nothing_else_does(a, b, expected):
    assert steps({"/a": a, "/b": b}, record()) == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"), [("new", "new", ["a1", "b1"]), ("new", "theirs", ["a1"]), ("old", "old", [])]
)
def test_a_swapped_in_group_goes_back_as_far_as_it_is_confpys(a, b, expected):
    assert steps({"/a": a, "/b": b}, record(swap=True)) == expected


def test_a_swapped_in_group_whose_check_has_passed_stays():
    assert steps({"/a": "new", "/b": "new"}, record(swap=True, check_passed=("g",))) == []


def test_a_group_of_which_somebody_removed_a_member_after_its_delivery_stays_unchanged(state, out):
    """The line that it was done is lost by a power cut: its old files, which went before that, say so."""
    for name in "ab":
        (out / name).write_bytes(b"old")
    ledger, _ = start(state)
    give(ledger, *((resource(out / name, group="g"), b"new") for name in "ab"))
    die(ledger)
    (path,) = state.glob("ledger-*")
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if b'"op":"done"' not in line))
    (out / "b").write_bytes(b"old")
    _, recovered = start(state)
    assert recovered.notes == ()
    assert (out / "a").read_bytes() == b"new"
    assert keys_of(recovered) == {"a": 3, "b": 3}


def test_a_target_that_cannot_be_put_back_does_not_lose_the_counts_of_others_in_its_record(state, out):
    """The line that it was done is lost by a power cut, and another program has written the file in place since."""
    for name in "ab":
        (out / name).write_bytes(b"old")
    ledger, _ = start(state)
    give(ledger, (resource(out / "a", write="inplace"), b"new"), (resource(out / "b"), b"new"))
    die(ledger)
    (path,) = state.glob("ledger-*")
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if b'"op":"done"' not in line))
    (out / "a").write_bytes(b"theirs")
    _, recovered = start(state)
    assert [note.event for note in recovered.notes] == ["delivery.torn"]
    assert keys_of(recovered) == {"b": 3}


def test_what_is_torn_in_place_goes_back_with_its_group():
    assert steps({"/a": "new", "/b": "half"}, record(in_place=True)) == ["a1", "b1"]


def test_a_group_that_a_later_record_took_up_is_over():
    assert steps({"/a": "new", "/b": "old"}, record(1), record(2, done=True)) == []


def test_another_group_of_the_same_record_is_not():
    two = record(1)
    others = tuple(replace(change, path=f"/other{change.path}", mark=f"o{change.mark}") for change in two.changes)
    first = replace(two, groups=(*two.groups, GroupChange("h", others)))
    found = {"/a": "new", "/b": "new", "/other/a": "new", "/other/b": "old"}
    assert steps(found, first, record(2)) == ["oa1"]


@pytest.mark.parametrize(("passed", "left"), [((), ("a1", "b1", "c1")), (("g", "h"), ())])
def test_groups_that_were_swapped_in_together_stay_together_or_go_back_together(passed, left):
    one = record(swap=True, check_passed=passed)
    other = GroupChange("h", (Change("c", "/c", "/c", "old", "new", mark="c1"),), swap=True)
    assert steps(dict.fromkeys(("/a", "/b", "/c"), "new"), replace(one, groups=(*one.groups, other))) == [*left]


def test_a_rollback_that_was_cut_off_goes_on():
    assert steps({"/a": "old", "/b": "new"}, record(is_rollback=True)) == ["a1"]


def test_a_record_reads_as_it_was_written():
    one = record(7, swap=True, in_place=True, is_rollback=True, replaces=((3, "h"),), check_passed=("g",), done=True)
    (entry,) = read_lines(write_line(write_record(one)))
    assert read_record(entry) == one
    assert json.dumps(entry)


def test_paths_of_any_bytes_survive(state, out):
    ledger, _ = start(state)
    give(ledger, (resource(out / "a\n\udcff é"), b"new"))
    die(ledger)
    assert start(state)[1].reloads[0].dests == (str(out / "a\n\udcff é"),)


def test_two_starts_at_once_share_what_ended_processes_left_without_doubling_it(state, out):
    ledger, _ = start(state)
    give(ledger, (resource(out / "f"), b"new"))
    die(ledger)
    children = [Child(lambda: len(start(state)[1].reloads)) for _ in range(8)]
    # One that starts when another has ended finds the debt again; none loses it.
    assert max(child.result() for child in children) == 1
    assert len(start(state)[1].reloads) == 1


def test_lines_that_hold_no_entry_are_dropped():
    deep = b"[" * 100_000
    lines = [
        write_line([1]),
        write_line("x"),
        write_line(None),
        b"%08x %s\n" % (zlib.crc32(deep), deep),
    ]
    assert list(read_lines(b"".join([*lines, write_line({"op": "any"})]))) == [{"op": "any"}]


def test_locks_that_cannot_be_had_hold_up_no_delivery(state):
    class Unlocking(Disk):
        def lock(self, *_):
            raise OSError(errno.EIO, "I/O error")

    ledger = Ledger.open(str(state), Unlocking())
    with ledger.locked(["/a", "/b"], 1.0) as free:
        assert free == {"/a", "/b"}
    ledger.close()


@pytest.mark.parametrize(
    "entry",
    [
        {"op": "begin", "number": "x"},
        {"op": "begin", "number": 1, "groups": ["x"]},
        {"op": "begin", "number": 1, "reloads": [3]},
        {"op": "counted", "counts": ["a"], "identity": 1, "revision": None, "at": "now"},
        {"op": "cleared", "records": 7},
        {"op": "no such operation"},
        {"op": "run", "key": "r", "at": None, "failures": "x"},
    ],
)
def test_an_entry_that_is_not_understood_stops_no_start_and_is_set_aside_with_a_warning(state, entry):
    state.mkdir(mode=0o700)
    lines = [write_line({"ledger": FORMAT}), write_line(entry)]
    (state / "ledger-00000000.log").write_bytes(b"".join(lines))
    ledger = Ledger.open(str(state), Disk())
    recovered = ledger.recover()
    assert recovered.reloads == ()
    (note,) = recovered.notes
    aside = state / "ledger-00000000.log.set-aside"
    assert (note.level, note.event, note.fields["file"]) == ("warning", "state.quarantined", str(aside))
    assert aside.read_bytes() == b"".join(lines)
    ledger.close()


# --- what only a newer version knows ---------------------------------------------------------------------------------


UNKNOWN = {
    "an action of another kind": {"action": {"kind": "grpc", "service": "lb"}},
    "an action without a kind": {"action": {"pidfile": "/run/lb.pid"}},
    "an action with another field": {"action": {"kind": "signal", "signal": "HUP", "cgroup": "lb"}},
    "an action with a field missing": {"action": {"kind": "signal"}},
    "a verifier of another kind": {"verifier": {"kind": "metrics", "url": "http://lb/"}},
    "a verifier with another field": {"verifier": {"kind": "program", "program": "nginx", "port": 80}},
    "a reload with another field": {"attempts": 3},
    "another policy": {"on_failure": "page somebody"},
}


def put(state: Path, *entries) -> Path:
    state.mkdir(mode=0o700, exist_ok=True)
    path = state / "ledger-00000000.log"
    path.write_bytes(b"".join(map(write_line, ({"ledger": FORMAT}, *entries))))
    return path


def begun(out: Path, name: str, reload: dict[str, object], **more: object) -> dict[str, object]:
    """A record of one file that was replaced, and of its reload."""
    (out / name).write_bytes(b"new")
    change = {"resource": name, "dest": str(out / name), "path": str(out / name), "old": None, "key": "reload it"}
    change |= {"new": sha256(b"new").hexdigest(), **more}
    written = {"key": "reload it", "action": {"kind": "command", "command": "true"}, "timeout": 1.0, **reload}
    return {
        "op": "begin", "number": 1, "at": 5.0, "groups": [{"name": name, "changes": [change]}], "reloads": [written],
    }  # fmt: skip


@pytest.mark.parametrize("unknown", UNKNOWN.values(), ids=UNKNOWN)
def test_a_reload_that_is_not_known_stays_in_the_ledger_with_a_warning_at_each_start(state, out, unknown):
    record = begun(out, "f", unknown)
    put(state, record, {"op": "done", "record": 1, "failed": []})
    for _ in range(2):
        ledger, recovered = start(state)
        assert recovered.reloads == ()
        (note,) = recovered.notes
        assert (note.level, note.event) == ("warning", "state.quarantined")
        assert (note.fields["command"], note.fields["resource"], note.fields["record"]) == ("reload it", "f", "ledger")
        # Another reload is owed and cleared meanwhile.
        (report,) = give(ledger, (resource(out / "other"), str(recovered).encode()[:9] + os.urandom(4)))
        ledger.clear(RELOAD, (report.record,))
        die(ledger)
    (path,) = state.glob("ledger-*.log")
    (written,) = [entry for entry in read_lines(path.read_bytes()) if entry.get("op") == "begin"][:1]
    assert written["reloads"] == record["reloads"]
    assert written["groups"] == record["groups"]


@pytest.mark.parametrize("unknown", UNKNOWN.values(), ids=UNKNOWN)
def test_files_are_put_back_also_where_their_reload_is_not_known(state, out, unknown):
    (out / "b").write_bytes(b"old")
    record = begun(out, "a", unknown)
    # The group was cut off: a is new, b is not yet.
    change = {"resource": "b", "dest": str(out / "b"), "path": str(out / "b"), "keys": 1, "mark": "m"}
    change |= {"old": sha256(b"old").hexdigest(), "new": sha256(b"new").hexdigest()}
    record["groups"][0]["changes"].append(change)
    put(state, record)
    ledger, recovered = start(state)
    assert not (out / "a").exists()
    assert (out / "b").read_bytes() == b"old"
    assert "delivery.recovered" in [note.event for note in recovered.notes]
    assert recovered.reloads == ()
    die(ledger)


def test_a_reload_that_is_not_known_is_dropped_once_its_target_has_another_content(state, out):
    put(state, begun(out, "f", UNKNOWN["an action of another kind"]), {"op": "done", "record": 1, "failed": []})
    (out / "f").write_bytes(b"by hand")
    ledger, recovered = start(state)
    assert (recovered.reloads, recovered.notes) == ((), ())
    ledger.close()


def test_a_change_with_a_field_that_is_not_known_is_recovered_and_its_ledger_set_aside(state, out):
    path = put(state, begun(out, "f", {}, acl="user:lb:r"), {"op": "done", "record": 1, "failed": []})
    before = path.read_bytes()
    ledger, recovered = start(state)
    assert [owed.resources for owed in recovered.reloads] == [("f",)]
    (note,) = recovered.notes
    assert (note.event, "'acl'" in str(note.fields["error"])) == ("state.quarantined", True)
    assert (state / "ledger-00000000.log.set-aside").read_bytes() == before
    die(ledger)
    assert start(state)[1].notes == ()


@pytest.mark.parametrize("version", [1, FORMAT])
def test_the_reload_of_a_ledger_that_has_kinds_or_none_is_the_same(state, out, version):
    record = begun(out, "f", {})
    if version == 1:
        record["deeds"] = [{"group": one["name"], "changes": one["changes"]} for one in record.pop("groups")]
        record["debts"] = [{"key": "reload it", "command": ["kill", "-HUP", "7"], "timeout": 1.0, "verify": "check"}]
        del record["reloads"]
    else:
        action = {"kind": "command", "command": ["kill", "-HUP", "7"]}
        record["reloads"][0] |= {"action": action, "verifier": {"kind": "command", "command": "check"}}
    path = put(state, record, {"op": "done", "record": 1, "failed": []})
    path.write_bytes(path.read_bytes().replace(write_line({"ledger": FORMAT}), write_line({"ledger": version})))
    (owed,) = start(state)[1].reloads
    assert owed.spec == ReloadSpec("reload it", CommandReload(("kill", "-HUP", "7")), 1.0, VerifyCommand("check"))


def test_the_groups_of_a_ledger_of_the_first_version_have_the_ids_of_now():
    written = [
        {"ledger": 1},
        {"op": "begin", "deeds": [{"group": "web"}, {"group": "/out/a"}], "instead": [[1, "web"]]},
        {"op": "passed", "groups": [[2, "web"]]},
        {"op": "done", "failed": ["/out/a"]},
    ]
    _, begun, passed, done = read_lines(b"".join(map(write_line, written)))
    assert [group["name"] for group in begun["groups"]] == ["group web", "target /out/a"]
    assert (begun["replaces"], passed["groups"]) == ([[1, "group web"]], [[2, "group web"]])
    assert done["failed"] == ["target /out/a"]


def test_a_group_that_has_the_name_of_a_target_is_another_than_the_resource_that_has_the_target():
    assert Group("/out/a", ()).id != Group("/out/a", (), is_lone=True).id
