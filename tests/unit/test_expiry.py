"""State and compiled templates that nobody uses are removed, and nothing else is."""

from __future__ import annotations

import os
import threading
import time
from random import Random

import pytest

from confpy.ledger import expiry
from confpy.ledger.folder import StateFolder, confdir_of, folder_name
from confpy.ledger.ledger import Ledger
from confpy.ledger.locks import LOCKS
from confpy.ledger.records import Change, GroupChange
from confpy.messages import Counted
from confpy.reload.actions import CommandReload
from confpy.reload.spec import ReloadSpec
from confpy.system.disk import Disk

DAY = 86400.0
NOW = time.time()


@pytest.fixture
def state_dir(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return str(folder)


def enter(state_dir, confdir):
    return expiry.InUse.enter(os.path.join(state_dir, folder_name(confdir)), confdir, Disk())


def make(state_dir, confdir, *, days, **records):
    """Make the state folder of a confdir, last used so many days ago; returns its path."""
    path = os.path.join(state_dir, folder_name(confdir))
    in_use = expiry.InUse.enter(path, confdir, Disk())
    folder = StateFolder(path, pytest.fail)
    for name, record in {"keys": {}, **records}.items():
        folder.write(name.replace("_", "-"), record)
    in_use.leave()
    grow_old(path, days)
    return path


def grow_old(path, days):
    for name in os.listdir(path):
        os.utime(os.path.join(path, name), (NOW - days * DAY,) * 2)


def sweep(state_dir, cache_dir="", now=NOW):
    expiry.sweep(state_dir, str(cache_dir), Disk(), now, Random(1))


@pytest.mark.parametrize("path", ["/etc/confd", "/srv/my-app/conf d", "/.hidden/ż", "/", "/a/b\\x2dc", "/\udcff"])
def test_the_name_of_a_state_folder_tells_its_confdir(path):
    assert confdir_of(folder_name(path)) == path


def test_a_shortened_name_shows_no_confdir_and_one_that_is_not_confpys_is_an_error():
    assert confdir_of(folder_name("/long" * 100)) is None
    for name in ("my folder", "\\x2d\\x2", "a--b/", ".hidden", "a\\x61"):
        with pytest.raises(ValueError, match="state folder"):
            confdir_of(name)


def test_a_folder_that_holds_nothing_is_removed_at_the_end(state_dir):
    enter(state_dir, "/etc/confd").leave()
    assert os.listdir(state_dir) == []


def test_a_folder_that_holds_something_stays(state_dir):
    path = make(state_dir, "/etc/confd", days=0)
    assert sorted(os.listdir(path)) == ["keys.json", LOCKS]


def test_the_last_of_several_processes_removes_the_folder(state_dir):
    first, second = enter(state_dir, "/etc/confd"), enter(state_dir, "/etc/confd")
    first.leave()
    assert os.listdir(state_dir) == ["etc-confd"]
    second.leave()
    assert os.listdir(state_dir) == []


def test_a_folder_that_is_removed_while_another_process_enters_is_made_again(state_dir):
    """Whoever entered holds the lock of the file that is there, whatever others do at the same time."""
    path = os.path.join(state_dir, "etc-confd")
    lost = []

    def come_and_go():
        for _ in range(300):
            in_use = enter(state_dir, "/etc/confd")
            if in_use is None or not os.path.exists(os.path.join(path, LOCKS)):
                lost.append(in_use)
            if in_use is not None:
                in_use.leave()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert os.listdir(state_dir) == []


def test_where_nothing_can_be_written_everything_goes_on(tmp_path):
    (tmp_path / "file").touch()
    assert enter(str(tmp_path / "file"), "/etc/confd") is None


def test_the_state_of_a_confdir_that_is_gone_goes_after_a_month_without_use(state_dir):
    make(state_dir, "/gone/old", days=31)
    young = make(state_dir, "/gone/young", days=29)
    sweep(state_dir)
    assert sorted(os.listdir(state_dir)) == sorted([".swept", os.path.basename(young)])


@pytest.mark.parametrize("folder", ["history", "haproxy"])
def test_a_folder_of_its_own_goes_with_it(state_dir, folder):
    path = make(state_dir, "/srv/gone", days=31)
    folder = os.path.join(path, folder)
    os.mkdir(folder, 0o700)
    with open(os.path.join(folder, "deliveries.log"), "w") as file:
        file.write("x")
    grow_old(path, 31)
    sweep(state_dir)
    assert not os.path.exists(path)


def test_the_state_of_a_confdir_that_is_there_stays_for_ever(state_dir, tmp_path):
    path = make(state_dir, str(tmp_path), days=1000)
    sweep(state_dir)
    assert sorted(os.listdir(path)) == ["keys.json", LOCKS]


def test_a_confdir_whose_path_does_not_fit_into_a_name_is_known_all_the_same(state_dir, tmp_path):
    there = tmp_path.joinpath(*["long" * 20] * 3)
    there.mkdir(parents=True)
    stays = make(state_dir, str(there), days=31)
    goes = make(state_dir, "/gone" + "/long" * 50, days=31)
    sweep(state_dir)
    assert os.path.exists(stays)
    assert not os.path.exists(goes)


def test_a_run_that_changes_nothing_counts_as_use(state_dir):
    path = make(state_dir, "/gone", days=31)
    enter(state_dir, "/gone").leave()
    sweep(state_dir)
    assert os.path.exists(path)


def test_what_is_in_use_stays_however_old_it_is(state_dir):
    path = make(state_dir, "/gone", days=31)
    in_use = enter(state_dir, "/gone")
    grow_old(path, 31)
    sweep(state_dir)
    assert os.path.exists(path)
    in_use.leave()


def test_what_an_earlier_version_uses_stays_too(state_dir):
    """It locks its ledger, and nothing else."""
    path = make(state_dir, "/gone", days=31)
    ledger = Ledger.open(path, Disk())
    ledger.counted({"web": Counted(3)}, "", 1)
    grow_old(path, 31)
    sweep(state_dir)
    assert os.path.exists(path)
    ledger.close()
    grow_old(path, 31)
    sweep(state_dir, now=NOW + 2 * DAY)
    assert not os.path.exists(path)


def owing(path):
    """Leave a ledger that owes a reload."""
    ledger = Ledger.open(path, Disk())
    change = Change("web", "/web", "/web", None, "00", 1, "", "true")
    record = ledger.begin([GroupChange("web", (change,))], [ReloadSpec("true", CommandReload("true"), 1.0)])
    ledger.done(record)
    ledger.close()


@pytest.mark.parametrize("what", ["debt", "hold", "set aside"])
def test_what_is_not_over_stays_for_half_a_year(state_dir, what):
    path = make(state_dir, "/gone", days=0, **({"held_web": {"reason": "gone"}} if what == "hold" else {}))
    if what == "debt":
        owing(path)
    if what == "set aside":
        os.rename(path + "/keys.json", path + "/keys.json.set-aside")
    grow_old(path, 179)
    sweep(state_dir)
    assert os.path.exists(path)
    grow_old(path, 181)
    sweep(state_dir, now=NOW + 2 * DAY)
    assert not os.path.exists(path)


def test_what_is_no_state_folder_is_left_alone(state_dir):
    for name, files in {
        "Documents": ["letter"],
        "gone": [LOCKS, "letter"],
        "empty": [],
        "other": ["keys.json"],
    }.items():
        os.mkdir(os.path.join(state_dir, name), 0o700)
        for file in files:
            open(os.path.join(state_dir, name, file), "w").close()
        grow_old(os.path.join(state_dir, name), 1000)
    os.symlink("Documents", os.path.join(state_dir, "link"))
    sweep(state_dir)
    left = [(folder, sorted(files)) for folder, _, files in sorted(os.walk(state_dir))[1:]]
    assert [files for _, files in left] == [["letter"], [], ["letter", LOCKS], ["keys.json"]]


def test_a_folder_that_others_may_write_to_is_left_alone(state_dir):
    path = make(state_dir, "/gone", days=31)
    os.chmod(path, 0o777)
    sweep(state_dir)
    assert os.path.exists(path)


def test_compiled_templates_go_after_a_month_without_use_and_nothing_else_does(state_dir, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    old, young, stage, other = "a" * 40, "b" * 40, f".{'c' * 40}.01234567", "README"
    for name, days in {old: 31, young: 29, stage: 31, other: 31}.items():
        (cache / name).touch()
        os.utime(cache / name, (NOW - days * DAY,) * 2)
    sweep(state_dir, cache)
    assert sorted(os.listdir(cache)) == sorted([".swept", young, other])


def test_without_a_folder_of_compiled_templates_the_working_directory_is_left_alone(state_dir, tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    sweep(state_dir, "")
    assert not (tmp_path / ".swept").exists()


def test_a_sweep_is_made_once_a_day(state_dir):
    sweep(state_dir)
    path = make(state_dir, "/gone", days=31)
    sweep(state_dir, now=NOW + 0.5 * DAY)
    assert os.path.exists(path)
    sweep(state_dir, now=NOW + 1.5 * DAY)
    assert not os.path.exists(path)


def test_a_sweep_looks_at_a_bounded_number_of_folders(state_dir, monkeypatch):
    monkeypatch.setattr(expiry, "MOST", 3)
    for number in range(10):
        make(state_dir, f"/gone/{number}", days=31)
    sweep(state_dir)
    left = [name for name in os.listdir(state_dir) if name != ".swept"]
    assert len(left) in {7, 8}  # one of the three may have been the sweep's own file
