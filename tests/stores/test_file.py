"""The file store: the contract, and what editors, deployments and Kubernetes do to files."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import tempfile
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from watchdog.observers.inotify import InotifyEmitter

import confpy.stores.file
import confpy.system.watching
from confpy.errors import StoreError
from confpy.stores.file import FileStore
from confpy.system.watching import Folder
from tests.run_as_user import as_nobody
from tests.stores.contract import WatchContract, following
from tests.waiting import wait_until


def document(keys) -> bytes:
    """Keys as YAML, values of any bytes included."""
    return "".join(f"{json.dumps(key, ensure_ascii=False)}: {_scalar(value)}\n" for key, value in keys.items()).encode()


def _scalar(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return "!!binary " + base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
    return json.dumps(value, ensure_ascii=False)


def replace(path, content: str | bytes) -> None:
    """Put a whole new file in the place of another, as careful programs do."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content if isinstance(content, bytes) else content.encode())
    new.replace(path)


class TestFileStore(WatchContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.file = tmp_path / "keys.yaml"
        self.keys = {}
        self.file.write_bytes(b"")

    def open(self):
        return FileStore([str(self.file)])

    def write(self, keys):
        self.keys.update(keys)
        self.keys = {key: value for key, value in self.keys.items() if value is not None}
        replace(self.file, document(self.keys))


def test_a_file_that_may_not_be_read_stops_the_read_and_is_named():
    """A later file overrides an earlier one: without it, no key is known to be what it should be."""

    def fail():
        with closing(FileStore([name])) as store, pytest.raises(StoreError) as caught:
            store.read(["/a"])
        return str(caught.value)

    with tempfile.TemporaryDirectory() as name:  # nobody may not enter what pytest makes
        folder = Path(name)
        folder.chmod(0o755)
        for file in ("open.yaml", "shut.yaml"):
            (folder / file).write_text("a: 1")
        with closing(FileStore([name])) as store:
            assert store.read(["/a"]).listings["/a"].keys == {"/a": "1"}
        (folder / "shut.yaml").chmod(0)
        said = as_nobody(fail)
        assert "Permission denied" in said
        assert str(folder / "shut.yaml") in said


@contextmanager
def followed(*paths, names="*"):
    store = FileStore([str(path) for path in paths], names)
    with closing(store), following(store, store.read(["/"])) as seen:
        yield seen


@pytest.fixture(autouse=True)
def _only_events_tell(request, monkeypatch):
    """Without the slow poll, so that a test fails when an event was missed."""
    monkeypatch.setattr(confpy.stores.file, "POLL", 60.0)


def test_a_file_written_in_place_is_seen(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    with followed(file) as seen:
        file.write_text("a: 2")
        seen.wait_for({"/a": "2"})


def test_a_file_that_is_replaced_again_and_again_is_seen(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 0")
    with followed(file) as seen:
        for n in range(1, 6):
            replace(file, f"a: {n}")
            seen.wait_for({"/a": str(n)})


def test_a_file_that_vanishes_and_comes_back_is_seen(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    with closing(FileStore([str(file)])) as store:
        revision = store.read(["/"]).listings["/"].revision
        with closing(store.watch({"/": revision})) as stream:
            changes = iter(stream)
            file.rename(tmp_path / "elsewhere")
            next(changes)
            with pytest.raises(StoreError):
                store.read(["/"])
            (tmp_path / "elsewhere").rename(file)
            next(changes)
            assert store.read(["/"]).listings["/"].keys == {"/a": "1"}


def test_a_malformed_file_stops_the_read_and_its_mending_is_seen(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: [")
    with closing(FileStore([str(file)])) as store:
        with pytest.raises(StoreError):
            store.read(["/"])
        with closing(store.watch({"/": 1})) as stream:
            replace(file, "a: [1]")
            next(iter(stream))
            assert store.read(["/"]).listings["/"].keys == {"/a/0": "1"}


def test_the_swapped_link_of_a_kubernetes_volume_is_seen(tmp_path):
    def publish(version, text):
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        (folder / "keys.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        return folder

    old = publish("one", "a: 1")
    (tmp_path / "keys.yaml").symlink_to("..data/keys.yaml")
    with followed(tmp_path) as folder, followed(tmp_path / "keys.yaml") as file:
        for version, text, keys in (("two", "a: 2", {"/a": "2"}), ("three", "b: 3", {"/b": "3"})):
            new = publish(version, text)
            shutil.rmtree(old)
            old = new
            folder.wait_for(keys)
            file.wait_for(keys)


def test_a_link_to_a_file_elsewhere_is_followed_there(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "conf").mkdir()
    real = tmp_path / "real" / "a.yaml"
    real.write_text("a: 1")
    (tmp_path / "conf" / "a.yaml").symlink_to(real)
    with followed(tmp_path / "conf") as folder, followed(tmp_path / "conf" / "a.yaml") as file:
        replace(real, "a: 2")
        folder.wait_for({"/a": "2"})
        file.wait_for({"/a": "2"})


def test_a_folder_on_the_way_that_is_a_swapped_link_is_seen(tmp_path):
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "a.yaml").write_text(f"release: {release}")
    (tmp_path / "current").symlink_to("one")
    with followed(tmp_path / "current" / "a.yaml") as seen:
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "current")
        seen.wait_for({"/release": "two"})
        replace(tmp_path / "two" / "a.yaml", "release: three")
        seen.wait_for({"/release": "three"})


def test_a_folder_that_is_replaced_is_followed_in_its_new_form(tmp_path):
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "a.yaml").write_text("a: 1")
    with followed(folder) as seen:
        folder.rename(tmp_path / "old")
        folder.mkdir()
        (folder / "a.yaml").write_text("a: 2")
        seen.wait_for({"/a": "2"})
        replace(folder / "a.yaml", "a: 3")
        seen.wait_for({"/a": "3"})


def test_a_folder_far_above_that_is_replaced_is_seen(tmp_path):
    file = tmp_path / "release" / "etc" / "conf" / "a.yaml"
    for number, release in enumerate(("release", "next"), 1):
        folder = tmp_path / release / "etc" / "conf"
        folder.mkdir(parents=True)
        (folder / "a.yaml").write_text(f"a: {number}")
    with followed(file) as of_file, followed(file.parent) as of_folder:
        (tmp_path / "release").rename(tmp_path / "old")
        (tmp_path / "next").rename(tmp_path / "release")
        for seen in (of_file, of_folder):
            seen.wait_for({"/a": "2"})
        replace(file, "a: 3")
        for seen in (of_file, of_folder):
            seen.wait_for({"/a": "3"})


def test_a_folder_deep_down_takes_no_more_threads_than_any_other(tmp_path):
    folders = [tmp_path / "conf", tmp_path.joinpath(*"abcdefghijk", "conf")]
    threads = []
    for folder in folders:
        folder.mkdir(parents=True)
        before = threading.active_count()
        with closing(Folder([str(folder), str(folder.parent / "not" / "yet")])):
            threads.append(threading.active_count() - before)
    assert threads[0] == threads[1] <= 6  # two folders, and two threads for each in older releases of watchdog


def test_files_and_folders_that_are_added_and_removed_are_seen(tmp_path):
    folder = tmp_path / "conf"
    folder.mkdir()
    with followed(folder, names="*.yaml") as seen:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "a.yaml").write_text("a: 1")
        (folder / "deep" / "er" / "a.txt").write_text("]")
        seen.wait_for({"/a": "1"})
        replace(folder / "b.yaml", "a: 2\nb: 2")
        seen.wait_for({"/a": "1", "/b": "2"})
        shutil.rmtree(folder / "deep")
        seen.wait_for({"/a": "2", "/b": "2"})


def test_a_folder_that_is_not_there_yet_is_seen_when_it_comes(tmp_path):
    file = tmp_path / "not" / "yet" / "a.yaml"
    with closing(FileStore([str(file)])) as store:
        with pytest.raises(StoreError):
            store.read(["/"])
        with closing(store.watch({"/": 1})) as stream:
            file.parent.mkdir(parents=True)
            file.write_text("a: 1")
            next(iter(stream))
            assert store.read(["/"]).listings["/"].keys in ({"/a": "1"}, {})
            wait_until(lambda: store.read(["/"]).listings["/"].keys == {"/a": "1"}, what="the file is whole")


def test_what_no_event_reported_is_found_by_the_poll(tmp_path, monkeypatch):
    monkeypatch.setattr(confpy.stores.file, "POLL", 0.05)
    monkeypatch.setattr(Folder, "_count", lambda _: None)
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    with followed(file) as seen:
        replace(file, "a: 2")
        seen.wait_for({"/a": "2"})


def test_a_file_that_was_only_touched_stirs_nobody(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    with closing(FileStore([str(file)])) as store:
        revision = store.read(["/"]).listings["/"].revision
        changes_seen = []
        with closing(store.watch({"/": revision})) as stream:
            follower = threading.Thread(target=lambda: changes_seen.extend(stream))
            follower.start()
            os.utime(file)
            replace(file, "a: 1")
            with closing(Folder([str(file)])) as folder:
                file.touch()
                assert folder.wait(5)
            assert not changes_seen
            replace(file, "a: 2")
            wait_until(lambda: changes_seen, what="the change has been reported")
        follower.join(5)
        assert not follower.is_alive()


def test_the_same_content_has_the_same_revision(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    store = FileStore([str(file)])
    revisions = [store.read(["/"]).listings["/"].revision for _ in range(3)]
    file.write_text("a: 2")
    revisions.append(store.read(["/"]).listings["/"].revision)
    assert revisions == [1, 1, 1, 2]


def test_reading_a_folder_does_not_stir_it(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1")
    with closing(Folder([str(tmp_path)])) as folder:
        while folder.wait(0.2):
            pass
        (tmp_path / "a.yaml").read_text()
        os.listdir(tmp_path)
        assert not folder.wait(0.3)


def test_reading_and_syncing_a_folder_brings_no_event(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("a: 1")
    queue_event, queued = InotifyEmitter.queue_event, []

    def recorded(emitter, event):
        queued.append(event)
        queue_event(emitter, event)

    monkeypatch.setattr(InotifyEmitter, "queue_event", recorded)
    with closing(Folder([str(tmp_path)])) as folder:
        while folder.wait(0.2):
            pass
        queued.clear()
        (tmp_path / "a.yaml").read_text()
        descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
        (tmp_path / "b.yaml").write_text("a: 1")
        assert folder.wait(5)
    assert {os.path.basename(event.src_path) for event in queued} == {"b.yaml", tmp_path.name}


def test_a_folder_below_one_that_was_replaced_is_noticed_at_the_next_recheck(tmp_path):
    folders = tmp_path / "up" / "conf", tmp_path / "new" / "conf"
    for path in folders:
        path.mkdir(parents=True)
    with closing(Folder([str(folders[0])], recheck=0.05)) as folder:
        while folder.wait(0.2):
            pass
        (tmp_path / "up").rename(tmp_path / "old")
        (tmp_path / "new").rename(tmp_path / "up")
        assert folder.wait(1)
        (folders[0] / "x").write_text("x")
        assert folder.wait(1)


def test_a_folder_says_nothing_of_its_neighbours(tmp_path):
    (tmp_path / "own").mkdir()
    with closing(Folder([str(tmp_path / "own")])) as folder:
        while folder.wait(0.2):
            pass
        (tmp_path / "theirs").write_text("x")
        assert not folder.wait(0.3)
        (tmp_path / "own" / "x").write_text("x")
        assert folder.wait(5)


@pytest.fixture
def without_inotify(monkeypatch):
    """No inotify instance is left; set to False, there is one again."""
    state = {"missing": True}
    real = InotifyEmitter.on_thread_start

    def start(emitter):
        if state["missing"]:
            raise OSError(errno.EMFILE, "inotify instance limit reached")
        real(emitter)

    monkeypatch.setattr(InotifyEmitter, "on_thread_start", start)
    monkeypatch.setattr(confpy.system.watching, "RECHECK", 0.01)
    monkeypatch.setattr(confpy.system.watching, "POLL", 0.05)
    return state


def test_where_inotify_is_used_up_the_folder_looks_itself_and_says_so_once(tmp_path, without_inotify):
    (tmp_path / "deep").mkdir()
    reported = []
    with closing(Folder([str(tmp_path), str(tmp_path / "not" / "yet")], reported.append)) as folder:
        for change in (
            lambda: (tmp_path / "deep" / "x").write_text("x"),
            lambda: (tmp_path / "deep" / "x").chmod(0o600),
            lambda: (tmp_path / "deep" / "x").rename(tmp_path / "deep" / "y"),
            lambda: (tmp_path / "deep" / "link").symlink_to("y"),
            lambda: (tmp_path / "deep" / "y").write_text("longer"),
            lambda: shutil.rmtree(tmp_path / "deep"),
            lambda: (tmp_path / "not" / "yet").mkdir(parents=True),
        ):
            change()
            assert folder.wait(30)
        assert not folder.wait(0.2)
    assert [error.errno for error in reported] == [errno.EMFILE]


def test_inotify_is_used_again_as_soon_as_it_can_be(tmp_path, without_inotify, monkeypatch):
    reported = []
    with closing(Folder([str(tmp_path)], reported.append)) as folder:
        without_inotify["missing"] = False
        assert folder.wait(30), "what changed before it was watched must be looked at"
        monkeypatch.setattr(confpy.system.watching, "POLL", 1000.0)
        (tmp_path / "x").write_text("x")
        assert folder.wait(30)
    assert len(reported) == 1


# --- one plain value a file ------------------------------------------------------------------------------------------


def plain_files(folder, **files: str | bytes):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def keys_of(*paths, form="auto", prefix="/"):
    with closing(FileStore([str(path) for path in paths], form=form)) as store:
        return dict(store.read([prefix]).listings[prefix].keys)


def test_a_folder_of_plain_files_has_a_key_for_each(tmp_path):
    folder = plain_files(tmp_path / "secrets", password="s3cret: x\n", port="8080\n", empty="", lines="a\nb\n\n")
    (folder / "tls").mkdir()
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    plain_files(folder / "tls", crt=pem + "\r\n", truth="yes\n", octal="0644")
    found = keys_of(folder, form="plain")
    assert found == {
        "/password": "s3cret: x", "/port": "8080", "/empty": "", "/lines": "a\nb\n",
        "/tls/crt": pem, "/tls/truth": "yes", "/tls/octal": "0644",
    }  # fmt: skip
    (folder / "password").write_text("s3cret")
    assert keys_of(folder) == {**found, "/password": "s3cret"}, "without a mapping among them auto takes it so too"


def test_a_kubernetes_volume_is_read_once_and_its_dotfiles_are_keys_where_plain_is_said(tmp_path):
    plain_files(tmp_path / "..2026_01_01", **{".dockerconfigjson": "{}", "token": "t\n", "._x": "mac"})
    (tmp_path / "..data").symlink_to("..2026_01_01")
    for name in (".dockerconfigjson", "token", "._x"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert keys_of(tmp_path, form="plain") == {"/.dockerconfigjson": "{}", "/token": "t"}
    assert keys_of(tmp_path) == {"/token": "t"}


def test_any_bytes_but_a_nul_are_a_value(tmp_path):
    folder = plain_files(tmp_path / "s", raw=b"\xff\xfe \x80\n", other="x")
    assert keys_of(folder, form="plain") == {"/raw": "\udcff\udcfe \udc80", "/other": "x"}


def test_a_file_named_by_itself_is_a_document_unless_plain_is_said(tmp_path):
    folder = plain_files(tmp_path / "s", token="a: b\n")
    assert keys_of(folder / "token") == {"/a": "b"}
    assert keys_of(folder / "token", form="plain") == {"/token": "a: b"}


def test_a_mapping_under_a_plain_name_stays_a_document(tmp_path):
    folder = plain_files(tmp_path / "s", config="web:\n  port: 8080\n", token="t")
    assert keys_of(folder) == {"/web/port": "8080", "/token": "t"}


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.json", "a.toml"])
def test_one_name_of_a_document_makes_all_of_a_folder_documents(tmp_path, name):
    folder = plain_files(tmp_path / "s", **{name: "", "token": "t"})
    with pytest.raises(StoreError, match="mapping"):
        keys_of(folder)


@pytest.mark.parametrize("broken", ["web: [", "web:\n  - a\n b: c", b"\xff\xfe\xff"])
def test_a_document_that_is_broken_in_the_middle_of_an_edit_never_becomes_a_value(tmp_path, broken):
    folder = plain_files(tmp_path / "s", config=broken)
    with pytest.raises(StoreError) as caught:
        keys_of(folder)
    assert caught.value.where["file"] == str(folder / "config")
    assert "-file-format plain" in caught.value.hint


@pytest.mark.parametrize("bad", [b"a\0b", b"x" * ((1 << 20) + 1)], ids=["nul", "large"])
def test_one_bad_value_stops_only_what_reads_it(tmp_path, bad):
    folder = plain_files(tmp_path / "s", good="1\n", bad=bad)
    with closing(FileStore([str(folder)], form="plain")) as store:
        listings = store.read(["/", "/good", "/bad", "/bad/below"]).listings
    assert {prefix for prefix, listing in listings.items() if listing.error} == {"/", "/bad", "/bad/below"}
    assert listings["/good"].keys == {"/good": "1"}
    assert listings["/bad"].error.where == {"key": "/bad", "file": str(folder / "bad")}


def test_a_value_or_a_folder_that_may_not_be_read_stops_only_what_reads_it(tmp_path):
    folder = plain_files(tmp_path / "s", good="1", bad="2")
    plain_files(folder / "closed", x="3")
    (folder / "bad").chmod(0)
    (folder / "closed").chmod(0)
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)

    def read():
        with closing(FileStore([str(folder)], form="plain")) as store:
            listings = store.read(["/good", "/bad", "/closed/x"]).listings
        return {prefix: bool(listing.error) for prefix, listing in listings.items()}

    try:
        assert as_nobody(read) == {"/good": False, "/bad": True, "/closed/x": True}
    finally:
        (folder / "closed").chmod(0o755)


@pytest.mark.parametrize("form", ["auto", "plain", "document"])
def test_a_folder_that_is_not_there_means_that_no_key_is_known(tmp_path, form):
    with pytest.raises(StoreError, match="cannot read"):
        keys_of(tmp_path / "none", form=form)


def test_a_folder_on_a_file_system_that_tells_nothing_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(confpy.system.watching, "UNREPORTED", ("",))  # every type begins so
    monkeypatch.setattr(confpy.system.watching, "RECHECK", 0.01)
    monkeypatch.setattr(confpy.system.watching, "POLL", 0.05)
    monkeypatch.setattr(Folder, "_count", lambda _: None)
    with closing(Folder([str(tmp_path)])) as folder:
        (tmp_path / "x").write_text("x")
        assert folder.wait(30)


def test_a_store_whose_files_cannot_be_watched_says_so_in_its_next_answer(tmp_path, without_inotify, monkeypatch):
    monkeypatch.setattr(confpy.stores.file, "POLL", 0.05)
    (tmp_path / "a.yaml").write_text("a: 1")
    with closing(FileStore([str(tmp_path / "a.yaml")])) as store:
        revision = store.read(["/"]).listings["/"].revision
        with closing(store.watch({"/": revision})) as stream:
            changes = iter(stream)
            next(changes)
            (note,) = store.read(["/"]).notes
            assert note.event == "store.unwatched"
            assert "fs.inotify.max_user_instances" in note.fields["hint"]
            assert store.read(["/"]).notes == ()
            replace(tmp_path / "a.yaml", "a: 2")
            next(changes)
