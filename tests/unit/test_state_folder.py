"""What survives a restart: records that are whole, private, and never fatal."""

from __future__ import annotations

import json
import os
import stat

import pytest

from confpy.config.settings import Settings
from confpy.ledger.folder import LARGEST, StateFolder, folder_name
from confpy.system.disk import Disk

RECORD = {"any": ["thing", 1, None], "value": "żółw \udcff\x00"}


@pytest.fixture
def logged():
    return []


@pytest.fixture
def folder(tmp_path, logged):
    return StateFolder(str(tmp_path / "state" / "etc-confpy"), logged.append)


def events(logged):
    return [(event.level, event.event, event.fields["record"]) for event in logged]


def test_a_record_is_read_as_it_was_written_by_whoever_comes_next(folder, logged):
    assert folder.read("owed") is None
    assert folder.write("owed", {"before": 1})
    assert folder.write("owed", RECORD)
    assert folder.write("other", {})
    again = StateFolder(folder.path, logged.append)
    assert (again.read("owed"), again.read("other"), again.read("none")) == (RECORD, {}, None)
    assert logged == []


def test_a_record_of_megabytes_is_saved(folder):
    record = {f"/key/{number}": "x" * 1000 for number in range(5_000)}
    assert folder.write("good", record)
    assert folder.read("good") == record


def test_nobody_else_may_look_and_nothing_is_left_beside(folder):
    umask = os.umask(0)
    try:
        folder.write("owed", RECORD)
        folder.write("owed", RECORD)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.dirname(folder.path)).st_mode) == 0o755
    assert os.listdir(folder.path) == ["owed.json"]
    assert stat.S_IMODE(os.stat(folder.path + "/owed.json").st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"format":1,"record":{"a"',
        b"\0" * 100,
        b"[" * 100_000,
        b"[]",
        b"null",
        b'{"a":1}',
        b'{"format":1,"record":[]}',
        b'{"format":2,"record":{}}',
        b'{"format":"\\ud800","record":{}}',
    ],
    ids=lambda content: content[:20].decode(),
)
def test_what_is_no_record_is_set_aside_once_and_in_the_way_of_nothing(folder, logged, content):
    folder.write("owed", {})
    path = folder.path + "/owed.json"
    with open(path, "wb") as file:
        file.write(content)
    assert folder.read("owed") is None
    assert folder.read("owed") is None
    assert events(logged) == [("warning", "state.quarantined", "owed")]
    with open(logged[0].fields["file"], "rb") as file:
        assert file.read() == content
    assert folder.write("owed", RECORD)
    assert folder.read("owed") == RECORD


@pytest.mark.parametrize(
    "make",
    [os.mkdir, os.mkfifo, lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), LARGEST + 1)],
    ids=["folder", "fifo", "huge"],
)
def test_what_is_no_file_of_confpys_is_set_aside_unread(folder, logged, make):
    folder.write("other", {})
    make(folder.path + "/owed.json")
    assert folder.read("owed") is None
    assert events(logged) == [("warning", "state.quarantined", "owed")]
    assert folder.write("owed", RECORD)


def test_a_link_is_not_followed(folder, logged, tmp_path):
    folder.write("owed", {"mine": 1})
    os.rename(folder.path + "/owed.json", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder.path + "/owed.json")
    assert folder.read("owed") is None
    assert folder.write("owed", {"mine": 2})
    assert json.loads((tmp_path / "elsewhere").read_bytes())["record"] == {"mine": 1}
    assert folder.read("owed") == {"mine": 2}


def test_where_nothing_can_be_saved_that_is_logged_once_for_each_record(tmp_path, logged):
    (tmp_path / "file").touch()
    folder = StateFolder(str(tmp_path / "file" / "etc-confpy"), logged.append)
    for name in ("owed", "owed", "good"):
        assert folder.read(name) is None
        assert not folder.write(name, {})
    assert events(logged) == [("warning", "state.not_saved", "owed"), ("warning", "state.not_saved", "good")]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(folder, logged, mode):
    folder.write("owed", RECORD)
    os.chmod(folder.path, mode)
    assert folder.read("owed") is None
    assert not folder.write("owed", {})
    assert events(logged) == [("warning", "state.not_saved", "owed")]
    os.chmod(folder.path, 0o700)
    assert folder.read("owed") == RECORD


class Failing(Disk):
    """A disk that fails at the step with this number, and counts."""

    def __init__(self, at):
        self.left = at

    def __getattribute__(self, name):
        if name in ("write", "sync", "rename", "sync_folder"):
            self.left -= 1
            if not self.left:
                raise OSError(28, "No space left on device")
        return super().__getattribute__(name)


def test_a_disk_that_fails_at_any_step_leaves_the_record_before_or_the_new_one(tmp_path, logged):
    for step in range(1, 10):
        path = str(tmp_path / str(step))
        StateFolder(path, logged.append).write("owed", {"before": 1})
        written = StateFolder(path, logged.append, Failing(step)).write("owed", RECORD)
        found = StateFolder(path, logged.append).read("owed")
        assert os.listdir(path) == ["owed.json"]
        if written:
            assert found == RECORD
            break
        assert found in ({"before": 1}, RECORD)
    assert step == 5
    assert events(logged) == [("warning", "state.not_saved", "owed")] * 4


def test_a_stage_that_a_killed_confpy_left_is_swept(folder):
    folder.write("owed", {})
    os.close(os.open(folder.path + "/.owed.stage", os.O_CREAT | os.O_RDWR, 0o600))
    assert folder.write("owed", RECORD)
    assert os.listdir(folder.path) == ["owed.json"]


@pytest.mark.parametrize(
    ("confdir", "name"),
    [
        ("/etc/confd", "etc-confd"),
        ("/srv/my-app/conf d", "srv-my\\x2dapp-conf\\x20d"),
        ("/.hidden/ż", "\\x2ehidden-\\xc5\\xbc"),
        ("/", "-"),
    ],
)
def test_the_folder_is_called_after_the_confdir_as_systemd_escapes_paths(confdir, name):
    assert folder_name(confdir) == name


def test_long_paths_get_names_that_differ_and_fit():
    names = {folder_name("/" + "long/" * 100 + str(number)) for number in range(100)}
    assert len(names) == 100
    assert all(len(name) <= 200 for name in names)
    assert len({folder_name(path) for path in ("/a/b", "/a-b", "/a\\x2db", "/a")}) == 4


def test_each_confdir_has_a_folder_of_its_own_whatever_way_leads_there(tmp_path, logged):
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to("one")

    def path(confdir):
        return StateFolder.of(
            Settings(confdir=str(tmp_path / confdir), state_dir=str(tmp_path / "s")), logged.append
        ).path

    assert path("one") == path("link") == path("two/../one")
    assert path("one") != path("two")
    assert os.path.dirname(path("one")) == str(tmp_path / "s")
