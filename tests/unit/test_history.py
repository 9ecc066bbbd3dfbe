"""The history on disk: what it records, what of old contents it keeps, and that it is never worth a delivery."""

from __future__ import annotations

import os
import stat

import pytest

from confpy.candidates import Candidate, Group
from confpy.config.resource import Resource
from confpy.delivery.batch import deliver
from confpy.delivery.context import Rules
from confpy.errors import TargetError, UsageError
from confpy.frozen import fields, replace
from confpy.history.records import HistoryEntry, Previous, ReloadEnd
from confpy.ledger import history as module
from confpy.ledger.formats import write_line
from confpy.ledger.history import LOG, History
from confpy.ledger.ledger import Ledger
from confpy.ledger.undo import find, plan
from confpy.system.disk import Disk
from confpy.system.subprocesses import Shell


class NoLinks(Disk):
    def link(self, old, new):  # noqa: ARG002 - the interface is that of the real one
        raise OSError(18, "Invalid cross-device link")


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(0o700)
    return folder


@pytest.fixture(params=[Disk, NoLinks], ids=["linked", "copied"])
def disk(request):
    return request.param()


def resource(path, **more) -> Resource:
    return Resource(name=os.path.basename(path), file="f.toml", src="t", dest=str(path), **more)


class Deliverer:
    """Delivers as the daemon does, and records it as the agent has it recorded."""

    def __init__(self, state, disk, **more):
        self.disk = disk
        self.lines = []
        self.ledger = Ledger.open(str(state), disk)
        self.ledger.history = self.history = History(str(state), disk, log=self.lines.append, **more)
        self.count = 0

    def deliver(self, *wanted, group="", trigger="change", undoes=()):
        """Deliver contents together, as (resource, content); return the reports."""
        self.count += 1
        one = Group(group or wanted[0][0].dest, tuple(Candidate(it, content) for it, content in wanted), not group)
        reports = deliver((one,), Rules(), self.disk, Shell(), self.ledger)
        self.history.write(
            HistoryEntry(
                float(self.count), f"d{self.count}", one.id, report.resource, it.dest, report.previous,
                "" if it.sensitive else report.known.digest.hex(), trigger, undoes=undoes, keeps=it.keeps_content,
            )
            for (it, _), report in zip(wanted, reports, strict=True) if report.outcome == "changed"
        )  # fmt: skip
        return reports

    @property
    def kept(self):
        names = os.listdir(self.history.folder) if os.path.isdir(self.history.folder) else []
        return sorted(name for name in names if name != LOG)


@pytest.fixture
def deliverer(state, disk):
    return Deliverer(state, disk)


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_each_delivery_is_recorded_with_what_the_target_was(deliverer, tmp_path):
    one = resource(tmp_path / "f", mode=0o640)
    for content in (b"1", b"2", b"3"):
        deliverer.deliver((one, content))
    first, second, third = deliverer.history.read()
    assert first.previous.digest is None, "there was no file"
    assert [deliverer.history.content(entry.previous) for entry in (second, third)] == [b"1", b"2"]
    assert second.previous.mode == 0o640
    assert second.new == third.previous.digest


def test_no_more_contents_are_kept_than_history_says_and_the_oldest_go(state, disk, tmp_path):
    deliverer = Deliverer(state, disk, most=3)
    one, other = resource(tmp_path / "f"), resource(tmp_path / "g")
    deliverer.deliver((other, b"x"))
    deliverer.deliver((other, b"y"))
    for number in range(9):
        deliverer.deliver((one, b"%d" % number))
        assert len(deliverer.kept) <= 4
    entries = [entry for entry in deliverer.history.read() if entry.resource == "f"]
    assert [deliverer.history.content(entry.previous) for entry in entries] == [b"5", b"6", b"7"]
    again = Deliverer(state, disk, most=3)
    again.deliver((one, b"10"))
    assert len(again.kept) == 4, "also after a restart"


def test_all_of_them_together_have_a_limit_and_the_oldest_of_all_go(state, disk, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    deliverer = Deliverer(state, disk)
    for number in range(30):
        deliverer.deliver((resource(tmp_path / f"f{number % 3}"), b"%d" % number * 40))
        assert sum(os.path.getsize(f"{deliverer.history.folder}/{name}") for name in deliverer.kept) <= 1000
    assert deliverer.history.content(deliverer.history.read()[-1].previous) == b"26" * 40


def test_nobody_else_may_read_what_is_kept(deliverer, state, tmp_path):
    one = resource(tmp_path / "f")
    deliverer.deliver((one, b"1"))
    deliverer.deliver((one, b"2"))
    assert stat.S_IMODE(os.stat(state / "history").st_mode) == 0o700
    if isinstance(deliverer.disk, NoLinks):
        (name,) = deliverer.kept
        assert stat.S_IMODE(os.stat(state / "history" / name).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(state / "history" / LOG).st_mode) == 0o600


def test_a_link_costs_a_delivery_one_call_and_no_byte(state, tmp_path):
    calls = []

    class Counting(Disk):
        def link(self, old, new):
            calls.append((old, new))
            super().link(old, new)

    deliverer = Deliverer(state, Counting())
    one = resource(tmp_path / "f")
    deliverer.deliver((one, b"1"))
    deliverer.deliver((one, b"2"))
    calls.clear()
    inode = os.stat(one.dest).st_ino
    deliverer.deliver((one, b"3"))
    ((_, kept),) = calls
    assert os.stat(kept).st_ino == inode


def test_nothing_is_kept_of_a_sensitive_resource_unless_it_says_so_and_no_hash(state, disk, tmp_path):
    deliverer = Deliverer(state, disk)
    for name, more in (("a", {}), ("b", {"undo": True})):
        one = resource(tmp_path / name, sensitive=True, **more)
        deliverer.deliver((one, b"hunter1"))
        deliverer.deliver((one, b"hunter2"))
    entries = deliverer.history.read()
    assert [entry.new for entry in entries] == [""] * 4
    assert {entry.previous.digest for entry in entries} <= {None, ""}
    assert len(deliverer.kept) == 1
    assert deliverer.history.content(entries[-1].previous) == b"hunter1"


def test_what_was_kept_of_a_resource_that_becomes_sensitive_goes(deliverer, tmp_path):
    one = resource(tmp_path / "f")
    deliverer.deliver((one, b"1"))
    deliverer.deliver((one, b"2"))
    deliverer.deliver((replace(one, sensitive=True), b"3"))
    assert deliverer.kept == []


def test_a_target_that_is_written_in_place_is_copied(state, tmp_path):
    deliverer = Deliverer(state, Disk())
    one = resource(tmp_path / "f", write="inplace")
    deliverer.deliver((one, b"1"))
    deliverer.deliver((one, b"2"))
    assert deliverer.history.content(deliverer.history.read()[-1].previous) == b"1"


def test_a_delivery_that_fails_keeps_nothing(deliverer, tmp_path):
    one = resource(tmp_path / "f", check_cmd="! grep -q bad {{.dest}}", check_mode="swap")
    deliverer.deliver((one, b"1"))
    deliverer.deliver((one, b"bad"))
    assert deliverer.kept == []
    assert len(deliverer.history.read()) == 1


# --- never worth a delivery ------------------------------------------------------------------------------------------


def test_a_history_that_cannot_be_written_is_logged_once_and_stops_nothing(deliverer, state, tmp_path):
    (state / "history").write_text("a file in its place")
    one = resource(tmp_path / "f")
    for content in (b"1", b"2", b"3"):
        (report,) = deliverer.deliver((one, content))
        assert report.outcome == "changed"
    assert [line.event for line in deliverer.lines] == ["state.not_saved"]


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b'{"torn', b'00000000 {"history":1}\n'])
def test_a_file_that_is_torn_from_its_beginning_is_set_aside_with_a_line(deliverer, state, tmp_path, content):
    (state / "history").mkdir(0o700)
    (state / "history" / LOG).write_bytes(content)
    deliverer.deliver((resource(tmp_path / "f"), b"1"))
    assert len(deliverer.history.read()) == 1
    assert [line.event for line in deliverer.lines] == ["state.quarantined"]
    assert (state / "history" / f"{LOG}.set-aside").read_bytes() == content


def test_a_torn_end_costs_one_entry(deliverer, state, tmp_path):
    one = resource(tmp_path / "f")
    deliverer.deliver((one, b"1"))
    with open(state / "history" / LOG, "r+b") as file:
        file.truncate(os.path.getsize(file.name) - 9)
    deliverer.deliver((one, b"2"))
    assert [entry.at for entry in deliverer.history.read()] == [2.0]


def test_the_file_is_written_anew_when_it_has_grown(deliverer, state, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 4000)
    one = resource(tmp_path / "f")
    for number in range(60):
        deliverer.deliver((one, b"%d" % number))
    assert os.path.getsize(state / "history" / LOG) < 12_000, "sixty are 20,000 bytes"
    assert len(deliverer.history.read()) == 10


def test_what_is_written_anew_says_what_the_whole_file_said(deliverer, tmp_path):
    targets = [resource(tmp_path / name) for name in "fgh"]
    for number in range(40):
        deliverer.deliver((targets[number % 7 % 3], b"%d" % number))
        if number % 5 == 0:
            names = tuple((f"d{one}", target.name) for one in range(number - 20, number + 2) for target in targets)
            deliverer.history.write((), [ReloadEnd(names, f"failed {number}", float(number))])
    content = (tmp_path / "state/history" / LOG).read_bytes()
    shorter = module.shorten(b"torn" + content + b"0000 torn", 3)
    assert len(shorter) < len(content) / 2
    assert module.read(shorter, 3) == module.read(content, 3)
    assert len(module.read(shorter, 3)) == 9


def test_two_confpys_write_into_one_history(state, tmp_path):
    one, other = Deliverer(state, Disk()), Deliverer(state, Disk())
    other.count = 100
    for number in range(3):
        one.deliver((resource(tmp_path / "f"), b"%d" % number))
        other.deliver((resource(tmp_path / "g"), b"%d" % number))
    assert len(one.history.read()) == len(other.history.read()) == 6


def test_a_reload_ends_an_entry_later(deliverer, tmp_path):
    deliverer.deliver((resource(tmp_path / "f"), b"1"))
    deliverer.history.write((), [ReloadEnd((("d1", "f"),), "the reload exited with 1", 0.5)])
    (entry,) = deliverer.history.read()
    assert (entry.reload, entry.reload_took) == ("the reload exited with 1", 0.5)
    deliverer.history.write((), [ReloadEnd((("d1", "f"),), "", 0.25)])
    assert deliverer.history.read()[0].reload == "succeeded"
    deliverer.history.write((), [ReloadEnd((("d1", "f"),), "", 0.01, avoided=True)])
    assert deliverer.history.read()[0].reload == "avoided"


# --- what an undo puts back ------------------------------------------------------------------------------------------


def test_an_undo_takes_back_the_last_delivery_and_the_next_one_that_before_it(deliverer, tmp_path):
    one = resource(tmp_path / "f")
    for content in (b"1", b"2", b"3"):
        deliverer.deliver((one, content))
    for content in (b"2", b"1"):
        previous, undoes = find(deliverer.history, one, [one], deliverer.disk)
        assert previous["f"].content == content
        deliverer.deliver((one, content), trigger="undo", undoes=undoes)
    with pytest.raises(UsageError, match="there was no file before"):
        find(deliverer.history, one, [one], deliverer.disk)


def test_a_group_goes_back_to_before_the_last_delivery_of_the_one_that_is_named(deliverer, tmp_path):
    a, b = resource(tmp_path / "a", group="g"), resource(tmp_path / "b", group="g")
    deliverer.deliver((a, b"a1"), (b, b"b1"), group="g")
    deliverer.deliver((a, b"a2"), (b, b"b1"), group="g")
    deliverer.deliver((a, b"a2"), (b, b"b2"), group="g")
    previous, undoes = find(deliverer.history, a, [a, b], deliverer.disk)
    assert {name: it.content for name, it in previous.items()} == {"a": b"a1", "b": b"b1"}
    assert undoes == ("d2", "d3")
    previous, undoes = find(deliverer.history, b, [a, b], deliverer.disk)
    assert {name: it.content for name, it in previous.items()} == {"a": b"a2", "b": b"b1"}
    assert undoes == ("d3",)


def test_a_content_that_somebody_wrote_to_is_not_put_back(deliverer, tmp_path):
    one = resource(tmp_path / "f")
    deliverer.deliver((one, b"1"))
    deliverer.deliver((one, b"2"))
    (name,) = deliverer.kept
    with open(os.path.join(deliverer.history.folder, name), "ab") as file:
        file.write(b"more")
    with pytest.raises(UsageError, match="not what it was"):
        find(deliverer.history, one, [one], deliverer.disk)


def test_what_cannot_be_put_back_says_why(deliverer, tmp_path):
    one, stream = resource(tmp_path / "f", sensitive=True), resource(tmp_path / "s")
    with pytest.raises(UsageError, match="no delivery of it"):
        find(deliverer.history, one, [one], deliverer.disk)
    deliverer.deliver((one, b"1"))
    deliverer.deliver((one, b"2"))
    with pytest.raises(UsageError, match="is not kept") as caught:
        find(deliverer.history, one, [one], deliverer.disk)
    assert "sensitive" in caught.value.hint
    deliverer.history.write([HistoryEntry(1.0, "x", "target s", "s", stream.dest, None, "")])
    with pytest.raises(UsageError, match="a stream"):
        find(deliverer.history, stream, [stream], deliverer.disk)
    lone = resource(tmp_path / "t", group="g")
    deliverer.deliver((lone, b"1"))
    deliverer.deliver((lone, b"2"))
    with pytest.raises(TargetError, match="is missing"):
        find(deliverer.history, lone, [lone, resource(tmp_path / "nothing", group="g")], deliverer.disk)


def test_what_a_rollback_took_back_is_not_undone_again(tmp_path):
    one = resource(tmp_path / "f")
    entries = [
        HistoryEntry(1.0, "d1", "target f", "f", one.dest, Previous("f", "0"), "1"),
        HistoryEntry(2.0, "d2", "target f", "f", one.dest, Previous("f", "1"), "2"),
        HistoryEntry(3.0, "d2-back", "", "f", one.dest, None, "", "rollback", undoes=("d2",)),
    ]
    found, undoes = plan(entries, one, [one])
    assert (found["f"].delivery, undoes) == ("d1", ("d1",))


def test_entries_of_earlier_versions_which_name_each_value_are_read(deliverer, state, tmp_path):
    deliverer.deliver((resource(tmp_path / "f"), b"1"))
    (entry,) = deliverer.history.read()
    named = {name: it for name, it in fields(entry).items() if it and name != "keeps"}
    assert entry.previous is not None
    named["previous"] = {"path": entry.previous.path, "digest": None}
    (state / "history" / LOG).write_bytes(write_line(module.HEAD) + write_line({"op": "delivered", **named}))
    assert History(str(state)).read() == [entry]


def test_the_order_of_an_entrys_values_is_that_of_the_file():
    names = "at delivery group resource target previous new trigger revision keys more_keys check took owes reload"
    assert " ".join(module.ENTRY_FIELDS) == f"{names} reload_took undoes keeps"
    assert " ".join(module.PREVIOUS_FIELDS) == "path digest mode uid gid kept"
