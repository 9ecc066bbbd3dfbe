"""A reload that fails: tried again, taken back, or left, as the resource says."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.house import House, pass_time, shows
from tests.waiting import wait_until


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = House(tmp_path)
    found.write("app: {a: good}")
    return found


def refusing(house: House, word: str = "bad") -> str:
    """Return a reload that notes what it reads, and fails for one content."""
    return f"'cat {house.folder}/a >> {house.folder}/read; ! grep -q {word} {house.folder}/a'"


def read(house: House) -> list[str]:
    return (house.folder / "read").read_text().split()


def test_a_rollback_brings_the_old_file_back_and_reloads_it(house):
    a = house.add("a", reload_cmd=refusing(house), on_reload_failure="'rollback'")
    with house.start() as confpy:
        confpy.says("resource.changed", resource="a")
        house.write("app: {a: bad}")
        confpy.says("reload.failed", did="puts the old files back (rollback)")
        confpy.says("reload.rolled_back", resource="a")
        assert a.read_text() == "good\n"
        assert read(house)[:3] == ["good", "bad", "good"]
        house.write("app: {a: better}")
        confpy.says("resource.changed", resource="a")
        assert a.read_text() == "better\n"


def test_what_was_refused_is_tried_ever_more_rarely_and_comes_through_in_the_end(house):
    gate = house.folder / "gate"
    command = f"'echo >> {house.folder}/runs; ! grep -q bad {house.folder}/a || test -e {gate}'"
    a = house.add("a", reload_cmd=command, on_reload_failure="'rollback'", retry_refused="'0s'")
    runs = house.folder / "runs"
    with house.start() as confpy:
        shows(a, "good\n")
        house.write("app: {a: bad}")
        waits = []
        for _ in range(4):
            event = confpy.says("reload.rolled_back", seconds=60)
            waits.append(float(event["timestamp"][17:26]) + 60 * float(event["timestamp"][14:16]))
        assert len(runs.read_text().splitlines()) <= 9
        assert waits[-1] - waits[0] > 0.1 + 0.2 + 0.4, "the waits do not start over"
        gate.touch()
        shows(a, "bad\n", seconds=60)
        confpy.says("resource.changed", resource="a", seconds=60)


def test_verify_counts_as_part_of_the_reload(house):
    a = house.add("a", reload_cmd="'true'", verify_cmd=refusing(house), on_reload_failure="'rollback'")
    with house.start() as confpy:
        confpy.says("resource.changed", resource="a")
        house.write("app: {a: bad}")
        failed = confpy.says("reload.failed")
        assert "verify" in failed["error"]
        confpy.says("reload.rolled_back")
        assert a.read_text() == "good\n"


def test_keep_leaves_the_new_file_and_says_so_once(house):
    a = house.add("a", reload_cmd=refusing(house), on_reload_failure="'keep'")
    with house.start("-watch", "-resync", "1s") as confpy:
        confpy.says("resource.changed", resource="a")
        house.write("app: {a: bad}")
        confpy.says("reload.failed", did="left it so (on_reload_failure)")
        pass_time(3)
        assert a.read_text() == "bad\n"
        assert read(house) == ["good", "bad"]


def test_one_shot_rolls_back_and_ends_with_7(house):
    a = house.add("a", reload_cmd=refusing(house), on_reload_failure="'rollback'")
    assert house.once().code == 0
    house.write("app: {a: bad}")
    ended = house.once()
    assert ended.code == 7
    assert ended.find("reload.rolled_back")
    assert a.read_text() == "good\n"
    house.write("app: {a: good}")
    assert house.once().names == ["onetime.done"]


def test_a_rollback_takes_back_the_whole_group_and_all_commits_since_the_last_success(house):
    house.write("app: {a: good, b: good}")
    gate = house.folder / "gate"
    command = f"'test ! -e {gate} || ! grep -q bad {house.folder}/a'"
    both = {"group": "'lb'", "reload_cmd": command, "on_reload_failure": "'rollback'", "keys": "['/app']"}
    a, b = house.add("a", **both), house.add("b", **both)
    with house.start() as confpy:
        shows(a, "good\n")
        shows(b, "good\n")
        confpy.says("resource.changed")
        gate.touch()
        house.write("app: {a: bad, b: new}")
        confpy.says("reload.rolled_back")
        wait_until(lambda: (a.read_text(), b.read_text()) == ("good\n", "good\n"), what="both are back")


def test_what_the_next_start_finds_refused_is_taken_back_too(house):
    hang, begun = house.folder / "hang", house.folder / "begun"
    command = f"'touch {begun}; while test -e {hang}; do sleep 0.05; done; ! grep -q bad {house.folder}/a'"
    a = house.add("a", reload_cmd=command, on_reload_failure="'rollback'")
    with house.start() as confpy:
        confpy.says("resource.changed", resource="a")
        hang.touch()
        begun.unlink()
        house.write("app: {a: bad}")
        wait_until(begun.exists, what="the reload runs")
        confpy.process.kill()
    assert a.read_text() == "bad\n"
    hang.unlink()
    with house.start() as confpy:
        confpy.says("reload.failed", did="puts the old files back (rollback)")
        confpy.says("reload.rolled_back", resource="a")


def refuse(house, **more: str) -> Path:
    """Add a resource whose reload notes what it reads, and refuses one content unless a gate is open."""
    command = (
        f"'cat {house.folder}/a >> {house.folder}/read; ! grep -q bad {house.folder}/a || test -e {house.folder}/gate'"
    )
    return house.add("a", **{"reload_cmd": command, "on_reload_failure": "'rollback'", **more})


def test_what_was_refused_is_not_tried_again_by_time_nor_by_another_start(house):
    a = refuse(house)
    with house.start("-watch", "-resync", "1s") as confpy:
        confpy.says("resource.changed", resource="a")
        house.write("app: {a: bad}")
        confpy.says("reload.rolled_back", resource="a")
        failed = confpy.says("resource.failed", resource="a")
        assert (failed["attempt"], 500 < failed["retry_in"] < 700) == (1, True)
        assert "SIGHUP" in failed["hint"]
        pass_time(3)
        assert read(house) == ["good", "bad", "good"]
        confpy.process.kill()
    with house.start("-watch", "-resync", "1s") as confpy:
        failed = confpy.says("resource.failed", resource="a")
        assert "refused this content" in failed["error"]
        pass_time(2)
    ended = house.once()
    assert ended.code == 7
    assert "retry_refused" in ended.find("resource.failed", resource="a")["hint"]
    assert read(house) == ["good", "bad", "good"]
    assert a.read_text() == "good\n"


def test_what_was_refused_is_tried_again_at_sighup(house):
    a = refuse(house)
    with house.start() as confpy:
        confpy.says("resource.changed", resource="a")
        house.write("app: {a: bad}")
        confpy.says("reload.rolled_back", resource="a")
        (house.folder / "gate").touch()
        confpy.process.send_signal(signal.SIGHUP)
        confpy.says("resource.changed", resource="a")
        assert a.read_text() == "bad\n"


@pytest.mark.parametrize("what", ["keys", "template", "command", "retry_refused", "watched file"])
def test_what_was_refused_is_tried_again_with_other_keys_another_template_or_another_command(house, what):
    (house.folder / "cert").write_text("old")
    always = {"keys": "['/app']", "watch_files": f"['{house.folder}/cert']"}
    a = refuse(house, **always)
    with house.start("-watch", "-resync", "1s") as confpy:
        confpy.says("resource.changed", resource="a")
        house.write("app: {a: bad}")
        confpy.says("reload.rolled_back", resource="a")
        if what == "keys":
            house.write("app: {a: fine}")
        elif what == "template":
            (house.confdir / "templates" / "a.j2").write_text("fine\n")
        elif what == "watched file":
            (house.folder / "gate").touch()
            (house.folder / "cert").write_text("new")
        else:
            change = {"reload_cmd": "'true'"} if what == "command" else {"retry_refused": "'1s'"}
            (house.folder / "gate").touch()
            refuse(house, **always, **change)
        confpy.says("resource.changed", resource="a")
        assert a.read_text() == ("fine\n" if what in {"keys", "template"} else "bad\n")


def test_what_was_refused_and_is_in_its_place_by_now_needs_no_other_try(house):
    a = refuse(house)
    assert house.once().code == 0
    house.write("app: {a: bad}")
    assert house.once().find("reload.rolled_back")
    a.write_text("bad\n")
    ended = house.once()
    assert (ended.code, [event for event in ended.events if event["event"] == "resource.failed"]) == (0, [])


def test_a_rollback_whose_reload_succeeds_at_its_second_try_is_told_of_as_a_rollback(house):
    runs = house.folder / "runs"
    a = house.add("a", reload_cmd=f"'echo >> {runs}; test $(wc -l < {runs}) -ne 2 -a $(wc -l < {runs}) -ne 3'",
                  on_reload_failure="'rollback'")  # fmt: skip
    with house.start() as confpy:
        confpy.says("resource.changed", resource="a")
        house.write("app: {a: bad}")
        failed = confpy.says("reload.failed", did="the old files are back; their reload stays owed")
        assert failed["resource"] == "a"
        confpy.says("reload.rolled_back", resource="a")
        assert a.read_text() == "good\n"
        assert not [event for event in confpy.events if event["event"] == "reload.recovered"]
