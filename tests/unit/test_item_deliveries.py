"""Items of ``for_each`` on their way to real files: removed, put back, halved, and what of them is ours."""

from __future__ import annotations

import math
import os
from hashlib import sha256

import pytest

from confpy.candidates import Candidate, Group, OwnedFile
from confpy.config.resource import Item, Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.delivery.rollback import restore
from confpy.ledger.ledger import Ledger
from confpy.reload.actions import CommandReload
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell
from confpy.target.sweep import sweep


class Sites:
    """A folder of files, one per item, a check over all of them in their places, and a ledger."""

    def __init__(self, folder, **more) -> None:
        self.folder, self.state = folder / "sites", folder / "state"
        self.folder.mkdir()
        self.runs = folder / "runs"
        self.disk = Disk()
        self.more = {"reload_cmd": CommandReload("reload"), **more}
        self.ledger = self.open()

    def open(self) -> Ledger:
        self.ledger = Ledger.open(str(self.state), self.disk, backend="file")
        self.recovered = self.ledger.recover()
        return self.ledger

    @property
    def owned(self) -> dict[str, OwnedFile]:
        """What a start knows to be ours."""
        self.ledger.close()
        self.open()
        return {one.item: one for one in self.recovered.owned}

    def checked(self, condition: str) -> None:
        self.more |= {"check_cmd": f"echo x >> {self.runs}; {condition}", "check_mode": "swap"}

    @property
    def checks(self) -> int:
        return len(self.runs.read_text().splitlines())

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.conf")

    def resource(self, name: str) -> Resource:
        item = Item("v", name, f"/vhosts/{name}")
        return Resource(f"v:{name}", "v.toml", "t", self.path(name), item=item, **self.more)

    def group(self, name: str, content: str | None, owned: OwnedFile | None = None, **more) -> Group:
        resource = self.resource(name)
        gone = content is None
        one = Candidate(resource, b"" if gone else content.encode(), gone=gone, owned=owned, **more)
        return Group(resource.dest, (one,), is_lone=True)

    def deliver(self, *groups: Group, **rules):
        return deliver(groups, Rules(**rules), self.disk, Shell(), self.ledger)

    def put(self, **contents: str | None):
        """Deliver contents as an agent would that knows what is ours."""
        owned = {one.item: one for one in self.ledger._book.owned.values()}
        return self.deliver(*(self.group(name, text, owned.get(name)) for name, text in contents.items()))

    def files(self) -> dict[str, str]:
        found = sorted(self.folder.iterdir())
        return {path.name.removesuffix(".conf"): path.read_text() for path in found}


@pytest.fixture
def sites(tmp_path) -> Sites:
    return Sites(tmp_path)


def outcomes(reports) -> list[str]:
    return [report.outcome for report in reports]


# --- removed ---------------------------------------------------------------------------------------------------------


def test_a_file_of_an_item_that_is_gone_is_removed_with_the_delivery_of_the_others(sites):
    sites.put(a="1", b="1")
    (sites.folder / "theirs.conf").write_text("theirs")
    assert outcomes(sites.put(a=None, b="2", c="1")) == ["changed"] * 3
    assert sites.files() == {"b": "2", "c": "1", "theirs": "theirs"}
    assert sites.owned.keys() == {"b", "c"}
    assert {name: one.digest for name, one in sites.owned.items()} == {
        name: sha256(text.encode()).hexdigest() for name, text in (("b", "2"), ("c", "1"))
    }


def test_what_is_ours_is_known_after_a_restart_whether_or_not_there_is_a_reload(tmp_path):
    sites = Sites(tmp_path, reload_cmd=None)
    sites.put(a="1")
    assert sites.owned["a"] == OwnedFile("v:a", "v", "a", sites.path("a"), sites.path("a"), sha256(b"1").hexdigest())
    sites.put(a=None)
    assert (sites.files(), sites.owned) == ({}, {})


def test_a_file_that_somebody_has_changed_stays_and_is_ours_no_more(sites):
    sites.put(a="1")
    (sites.folder / "a.conf").write_text("theirs")
    (report,) = sites.put(a=None)
    assert (report.outcome, sites.files()) == ("unchanged", {"a": "theirs"})
    assert report.notes[0].startswith("its key is gone, but somebody else has changed it: the file stays")


def test_a_link_in_the_place_of_a_file_stays_and_so_does_what_it_leads_to(sites, tmp_path):
    sites.put(a="1")
    (tmp_path / "elsewhere").write_text("1")
    os.unlink(sites.path("a"))
    os.symlink(tmp_path / "elsewhere", sites.path("a"))
    (report,) = sites.put(a=None)
    assert report.outcome == "unchanged"
    assert "a link or another file is in its place" in report.notes[0]
    assert (tmp_path / "elsewhere").read_text() == "1"
    assert os.path.islink(sites.path("a"))


def test_a_link_stays_though_its_file_was_delivered_through_it(sites, tmp_path):
    (tmp_path / "elsewhere").write_text("0")
    os.symlink(tmp_path / "elsewhere", sites.path("a"))
    sites.put(a="1")
    assert (tmp_path / "elsewhere").read_text() == "1"
    (report,) = sites.put(a=None)
    assert (report.outcome, (tmp_path / "elsewhere").read_text()) == ("unchanged", "1")
    assert "a link or another file is in its place" in report.notes[0]


def test_a_target_that_became_a_link_is_in_the_manifest_once(sites, tmp_path):
    sites.put(a="1")
    os.rename(sites.path("a"), tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", sites.path("a"))
    sites.put(a="2")
    assert sites.owned["a"].path == str(tmp_path / "elsewhere")
    assert len(sites.recovered.owned) == 1


def test_what_no_manifest_names_is_never_removed(sites):
    (sites.folder / "a.conf").write_text("1")
    (report,) = sites.deliver(sites.group("a", None))
    assert (report.outcome, sites.files()) == ("unchanged", {"a": "1"})


def test_a_file_that_is_gone_already_is_no_error(sites):
    sites.put(a="1")
    os.unlink(sites.path("a"))
    (report,) = sites.put(a=None)
    assert (report.outcome, report.error, report.notes) == ("unchanged", None, ())


def test_without_a_delivery_the_removal_is_announced(sites):
    sites.put(a="1")
    owned = sites.owned["a"]
    (report,) = sites.deliver(sites.group("a", None, owned), noop=True)
    assert (report.outcome, report.differs, sites.files()) == ("would change", ("to be removed",), {"a": "1"})


def test_a_backup_is_kept_of_a_file_that_is_removed(tmp_path):
    sites = Sites(tmp_path, backup=1)
    sites.put(a="1")
    sites.put(a=None)
    assert sites.files() == {".a.conf.confpy-backup-1": "1"}


# --- a check in place ------------------------------------------------------------------------------------------------


def test_if_the_check_fails_what_was_removed_is_put_back(sites):
    sites.put(a="1", b="1")
    before = os.stat(sites.path("a"))
    sites.checked(f"test -e {sites.path('a')}")
    first, second = sites.put(a=None, b="2")
    assert (first.outcome, second.outcome) == ("failed", "changed")
    assert first.error.where["did"] == "left the old file"
    assert sites.files() == {"a": "1", "b": "2"}
    assert os.stat(sites.path("a")).st_ino == before.st_ino
    assert sites.owned.keys() == {"a", "b"}


@pytest.mark.parametrize("count", [2, 7, 64, 200])
@pytest.mark.parametrize("place", [0.4, 1.0])
def test_one_bad_item_of_many_is_found_by_halving_and_the_others_are_delivered(sites, count, place):
    sites.checked(f"! grep -q bad {sites.folder}/*.conf")
    bad = f"s{round(place * (count - 1)):04}"
    reports = sites.put(**{name: "bad" if name == bad else "good" for name in (f"s{one:04}" for one in range(count))})
    assert [report.resource for report in reports if report.error] == [f"v:{bad}"]
    assert sites.files().keys() == {f"s{one:04}" for one in range(count)} - {bad}
    assert sites.checks <= 2 * math.log2(count) + 8


def test_several_bad_items_are_all_found_and_a_file_of_theirs_that_was_there_stays(sites):
    names = [f"s{one:02}" for one in range(40)]
    sites.put(**dict.fromkeys(names, "old"))
    sites.checked(f"! grep -q bad {sites.folder}/*.conf")
    bad = {"s03", "s04", "s31"}
    reports = sites.put(**{name: "bad" if name in bad else "new" for name in names})
    assert {report.resource for report in reports if report.error} == {f"v:{name}" for name in bad}
    assert sites.files() == {name: "old" if name in bad else "new" for name in names}


def test_two_items_that_need_each_other_are_delivered_beside_a_bad_one(sites):
    a, b, folder = sites.path("a"), sites.path("z"), sites.folder
    sites.checked(f"if test -e {a}; then test -e {b}; fi && ! grep -q bad {folder}/*.conf")
    contents = {"a": "needs z", **{f"m{one}": "good" for one in range(6)}, "m3": "bad", "z": "good"}
    reports = sites.put(**contents)
    assert [report.resource for report in reports if report.error] == ["v:m3"]


def test_a_check_that_always_fails_runs_a_bounded_number_of_times_and_nothing_is_new(sites, monkeypatch):
    monkeypatch.setattr("confpy.delivery.batch.MOST_CHECKS", 24)
    names = [f"s{one:03}" for one in range(100)]
    sites.checked("false")
    reports = sites.put(**dict.fromkeys(names, "new"))
    assert outcomes(reports) == ["failed"] * len(names)
    assert sites.files() == {}
    assert sites.checks == 24


def test_a_check_of_each_candidate_rejects_the_bad_one_alone(sites):
    sites.more |= {"check_cmd": f"echo x >> {sites.runs}; ! grep -q bad {{{{.src}}}}"}
    sites.put(a="good", b="bad", c="good")
    assert sites.files() == {"a": "good", "c": "good"}
    sites.put(a=None)
    assert sites.files() == {"c": "good"}
    assert sites.checks == 3, "there is nothing to look at for what is removed"


# --- taken back ------------------------------------------------------------------------------------------------------


def test_a_rollback_brings_back_what_was_removed_and_removes_what_was_new(tmp_path):
    sites = Sites(tmp_path, on_reload_failure="rollback")
    sites.put(a="1", b="1")
    sites.ledger.clear("reload", [1])
    reports = sites.put(a=None, b="2", c="1")
    restored = restore("reload", sites.ledger, sites.disk)
    assert sites.files() == {"a": "1", "b": "1"}
    assert {report.resource: report.outcome for report in restored.reports} == dict.fromkeys(
        (report.resource for report in reports), "changed"
    )
    assert restored.rejected["v:a"] == ("", sites.path("a"), sha256(b"1").hexdigest())
    assert sites.owned.keys() == {"a", "b"}


def test_a_foreign_file_that_a_rollback_puts_back_is_not_ours(tmp_path):
    sites = Sites(tmp_path, on_reload_failure="rollback")
    (sites.folder / "a.conf").write_text("theirs")
    sites.put(a="1")
    assert sites.owned.keys() == {"a"}
    restore("reload", sites.ledger, sites.disk)
    assert (sites.files(), sites.owned) == ({"a": "theirs"}, {})


# --- the folder ------------------------------------------------------------------------------------------------------


class IgnoringCase(Disk):
    """A disk whose names are the same whatever their case."""

    def find(self, path):
        folder, name = os.path.split(path)
        names = os.listdir(folder) if os.path.isdir(folder) else []
        same = next((one for one in names if one.casefold() == name.casefold()), name)
        return super().find(os.path.join(folder, same))


def test_names_that_differ_in_case_are_two_files_or_one_as_the_file_system_says(sites):
    twin = {"twin": sites.path("a")}
    assert outcomes(sites.deliver(sites.group("a", "1"), sites.group("A", "2", **twin))) == ["changed", "changed"]
    sites.disk = IgnoringCase()
    os.unlink(sites.path("A"))
    (report,) = sites.deliver(sites.group("A", "2", **twin))
    assert report.error.message == f"its file is that of another item: {sites.path('a')}"
    assert sites.files() == {"a": "1"}


def test_the_sweep_finds_what_a_killed_confpy_left_of_any_item(sites):
    for name in (".gone.conf.confpy-01234567", ".other.txt.confpy-01234567"):
        (sites.folder / name).write_text("")
    swept = sweep((str(sites.folder / "{{ name }}.conf"),), sites.disk)
    assert swept == (str(sites.folder / ".gone.conf.confpy-01234567"),)
