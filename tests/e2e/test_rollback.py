"""A reload that fails: tried again, taken back, or left, as the resource says."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, pass_time, shows
from tests.waiting import wait_until


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    found = Installation(tmp_path)
    found.write("app: {a: good}")
    return found


def refusing(installation: Installation, word: str = "bad") -> str:
    """Return a reload that notes what it reads, and fails for one content."""
    return f"'cat {installation.folder}/a >> {installation.folder}/read; ! grep -q {word} {installation.folder}/a'"


def read(installation: Installation) -> list[str]:
    return (installation.folder / "read").read_text().split()


def test_a_rollback_brings_the_old_file_back_and_reloads_it(installation):
    a = installation.add("a", reload_cmd=refusing(installation), on_reload_failure="'rollback'")
    with installation.start() as confpy:
        confpy.says("resource.changed", resource="a")
        installation.write("app: {a: bad}")
        confpy.says("reload.failed", did="puts the previous files back (rollback)")
        confpy.says("reload.rolled_back", resource="a")
        assert a.read_text() == "good\n"
        assert read(installation)[:3] == ["good", "bad", "good"]
        installation.write("app: {a: better}")
        confpy.says("resource.changed", resource="a")
        assert a.read_text() == "better\n"


def test_what_was_refused_is_tried_ever_more_rarely_and_comes_through_in_the_end(installation):
    gate = installation.folder / "gate"
    command = f"'echo >> {installation.folder}/runs; ! grep -q bad {installation.folder}/a || test -e {gate}'"
    a = installation.add("a", reload_cmd=command, on_reload_failure="'rollback'", retry_refused="'0s'")
    runs = installation.folder / "runs"
    with installation.start() as confpy:
        shows(a, "good\n")
        installation.write("app: {a: bad}")
        waits = []
        for _ in range(4):
            event = confpy.says("reload.rolled_back", seconds=60)
            waits.append(float(event["timestamp"][17:26]) + 60 * float(event["timestamp"][14:16]))
        assert len(runs.read_text().splitlines()) <= 9
        assert waits[-1] - waits[0] > 0.1 + 0.2 + 0.4, "the waits do not start over"
        gate.touch()
        shows(a, "bad\n", seconds=60)
        confpy.says("resource.changed", resource="a", seconds=60)


def test_verify_counts_as_part_of_the_reload(installation):
    a = installation.add("a", reload_cmd="'true'", verify_cmd=refusing(installation), on_reload_failure="'rollback'")
    with installation.start() as confpy:
        confpy.says("resource.changed", resource="a")
        installation.write("app: {a: bad}")
        failed = confpy.says("reload.failed")
        assert "verify" in failed["error"]
        confpy.says("reload.rolled_back")
        assert a.read_text() == "good\n"


def test_keep_leaves_the_new_file_and_says_so_once(installation):
    a = installation.add("a", reload_cmd=refusing(installation), on_reload_failure="'keep'")
    with installation.start("-watch", "-resync", "1s") as confpy:
        confpy.says("resource.changed", resource="a")
        installation.write("app: {a: bad}")
        confpy.says("reload.failed", did="leaves it so (on_reload_failure)")
        pass_time(3)
        assert a.read_text() == "bad\n"
        assert read(installation) == ["good", "bad"]


def test_one_shot_rolls_back_and_ends_with_7(installation):
    a = installation.add("a", reload_cmd=refusing(installation), on_reload_failure="'rollback'")
    assert installation.once().code == 0
    installation.write("app: {a: bad}")
    ended = installation.once()
    assert ended.code == 7
    assert ended.find("reload.rolled_back")
    assert a.read_text() == "good\n"
    installation.write("app: {a: good}")
    assert installation.once().names == ["onetime.done"]


def test_a_rollback_takes_back_the_whole_group_and_all_commits_since_the_last_success(installation):
    installation.write("app: {a: good, b: good}")
    gate = installation.folder / "gate"
    command = f"'test ! -e {gate} || ! grep -q bad {installation.folder}/a'"
    both = {"group": "'lb'", "reload_cmd": command, "on_reload_failure": "'rollback'", "keys": "['/app']"}
    a, b = installation.add("a", **both), installation.add("b", **both)
    with installation.start() as confpy:
        shows(a, "good\n")
        shows(b, "good\n")
        confpy.says("resource.changed")
        gate.touch()
        installation.write("app: {a: bad, b: new}")
        confpy.says("reload.rolled_back")
        wait_until(lambda: (a.read_text(), b.read_text()) == ("good\n", "good\n"), what="both are back")


def test_what_the_next_start_finds_refused_is_taken_back_too(installation):
    hang, begun = installation.folder / "hang", installation.folder / "begun"
    command = f"'touch {begun}; while test -e {hang}; do sleep 0.05; done; ! grep -q bad {installation.folder}/a'"
    a = installation.add("a", reload_cmd=command, on_reload_failure="'rollback'")
    with installation.start() as confpy:
        confpy.says("resource.changed", resource="a")
        hang.touch()
        begun.unlink()
        installation.write("app: {a: bad}")
        wait_until(begun.exists, what="the reload runs")
        confpy.process.kill()
    assert a.read_text() == "bad\n"
    hang.unlink()
    with installation.start() as confpy:
        confpy.says("reload.failed", did="puts the previous files back (rollback)")
        confpy.says("reload.rolled_back", resource="a")


def refuse(installation, **more: str) -> Path:
    """Add a resource whose reload notes what it reads, and refuses one content unless a gate is open."""
    folder = installation.folder
    command = f"'cat {folder}/a >> {folder}/read; ! grep -q bad {folder}/a || test -e {folder}/gate'"
    return installation.add("a", **{"reload_cmd": command, "on_reload_failure": "'rollback'", **more})


def test_what_was_refused_is_not_tried_again_by_time_nor_by_another_start(installation):
    a = refuse(installation)
    with installation.start("-watch", "-resync", "1s") as confpy:
        confpy.says("resource.changed", resource="a")
        installation.write("app: {a: bad}")
        confpy.says("reload.rolled_back", resource="a")
        failed = confpy.says("resource.failed", resource="a")
        assert (failed["attempt"], 500 < failed["retry_in"] < 700) == (1, True)
        assert "SIGHUP" in failed["hint"]
        pass_time(3)
        assert read(installation) == ["good", "bad", "good"]
        confpy.process.kill()
    with installation.start("-watch", "-resync", "1s") as confpy:
        failed = confpy.says("resource.failed", resource="a")
        assert "rejected this content" in failed["error"]
        pass_time(2)
    ended = installation.once()
    assert ended.code == 7
    assert "retry_refused" in ended.find("resource.failed", resource="a")["hint"]
    assert read(installation) == ["good", "bad", "good"]
    assert a.read_text() == "good\n"


def test_what_was_refused_is_tried_again_at_sighup(installation):
    a = refuse(installation)
    with installation.start() as confpy:
        confpy.says("resource.changed", resource="a")
        installation.write("app: {a: bad}")
        confpy.says("reload.rolled_back", resource="a")
        (installation.folder / "gate").touch()
        confpy.process.send_signal(signal.SIGHUP)
        confpy.says("resource.changed", resource="a")
        assert a.read_text() == "bad\n"


@pytest.mark.parametrize("what", ["keys", "template", "command", "retry_refused", "watched file"])
def test_what_was_refused_is_tried_again_with_other_keys_another_template_or_another_command(installation, what):
    (installation.folder / "cert").write_text("old")
    always = {"keys": "['/app']", "watch_files": f"['{installation.folder}/cert']"}
    a = refuse(installation, **always)
    with installation.start("-watch", "-resync", "1s") as confpy:
        confpy.says("resource.changed", resource="a")
        installation.write("app: {a: bad}")
        confpy.says("reload.rolled_back", resource="a")
        if what == "keys":
            installation.write("app: {a: fine}")
        elif what == "template":
            (installation.confdir / "templates" / "a.j2").write_text("fine\n")
        elif what == "watched file":
            (installation.folder / "gate").touch()
            (installation.folder / "cert").write_text("new")
        else:
            change = {"reload_cmd": "'true'"} if what == "command" else {"retry_refused": "'1s'"}
            (installation.folder / "gate").touch()
            refuse(installation, **always, **change)
        confpy.says("resource.changed", resource="a")
        assert a.read_text() == ("fine\n" if what in {"keys", "template"} else "bad\n")


def test_what_was_refused_and_is_in_its_place_by_now_needs_no_other_try(installation):
    a = refuse(installation)
    assert installation.once().code == 0
    installation.write("app: {a: bad}")
    assert installation.once().find("reload.rolled_back")
    a.write_text("bad\n")
    ended = installation.once()
    assert (ended.code, [event for event in ended.events if event["event"] == "resource.failed"]) == (0, [])


def test_a_rollback_whose_reload_succeeds_at_its_second_try_is_told_of_as_a_rollback(installation):
    runs = installation.folder / "runs"
    a = installation.add("a", reload_cmd=f"'echo >> {runs}; test $(wc -l < {runs}) -ne 2 -a $(wc -l < {runs}) -ne 3'",
                  on_reload_failure="'rollback'")  # fmt: skip
    with installation.start() as confpy:
        confpy.says("resource.changed", resource="a")
        installation.write("app: {a: bad}")
        failed = confpy.says("reload.failed", did="the previous files are back; their reload stays owed")
        assert failed["resource"] == "a"
        confpy.says("reload.rolled_back", resource="a")
        assert a.read_text() == "good\n"
        assert not [event for event in confpy.events if event["event"] == "reload.recovered"]
