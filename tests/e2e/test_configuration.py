"""Resources and templates that are edited while confpy runs: taken as they are, without a restart."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, pass_time, shows
from tests.waiting import wait_until


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    found = Installation(tmp_path)
    found.write("app: {a: one, b: two, c: three}")
    found.add("a")
    return found


def test_resources_come_change_and_go_without_a_restart(installation):
    with installation.start() as confpy:
        shows(installation.folder / "a", "one\n")
        b = installation.add("b")
        confpy.says("resource.added", resource="b")
        shows(b, "two\n")
        installation.add("b", keys="['/app/c']", mode="'0600'")
        confpy.says("resource.edited", resource="b")
        wait_until(lambda: b.stat().st_mode & 0o777 == 0o600, what="the new mode")
        (installation.confdir / "conf.d" / "b.toml").unlink()
        confpy.says("resource.removed", resource="b")
        installation.write("app: {a: four, b: five, c: six}")
        shows(installation.folder / "a", "four\n")
        assert b.exists(), "its target is left alone"
        assert b.read_text() != "six\n"


def test_an_edited_template_is_rendered_and_a_broken_one_keeps_the_target_and_says_where(installation):
    a = installation.folder / "a"
    template = installation.confdir / "templates" / "a.j2"
    with installation.start() as confpy:
        shows(a, "one\n")
        template.write_text('new {{ getv("/app/a") }}\n')
        shows(a, "new one\n")
        template.write_text("{% if %}\n")
        failed = confpy.says("resource.failed", resource="a", template="a.j2")
        assert failed["line"] == 1
        assert a.read_text() == "new one\n"
        template.write_text('mended {{ getv("/app/a") }}\n')
        shows(a, "mended one\n")


def test_a_broken_edit_keeps_what_ran_and_says_what_is_wrong(installation):
    a, file = installation.folder / "a", installation.confdir / "conf.d" / "a.toml"
    good = file.read_text()
    with installation.start() as confpy:
        shows(a, "one\n")
        file.write_text("[template]\nsrc = \n")
        refused = confpy.says("resource.invalid", resource="a")
        assert refused["file"] == str(file)
        installation.write("app: {a: still}")
        shows(a, "still\n")
        file.write_text(good + "mode = '0640'\n")
        confpy.says("resource.edited", resource="a")
        wait_until(lambda: a.stat().st_mode & 0o777 == 0o640, what="the mended edit")


def test_an_edit_that_says_the_same_delivers_nothing(installation):
    with installation.start("-watch") as confpy:
        confpy.says("resource.changed", resource="a")
        confpy.says("confpy.ready")
        first = len(confpy.events)
        installation.add("a")
        os.utime(installation.confdir / "templates" / "a.j2")
        pass_time(2)
        assert confpy.events[first:] == []


def test_a_new_prefix_is_read_and_a_target_that_moves_leaves_the_old_one(installation):
    with installation.start() as confpy:
        shows(installation.folder / "a", "one\n")
        installation.add("a", '{{ getv("/app/b") }}\n', keys="['/app/b']", dest=f"'{installation.folder}/elsewhere'")
        confpy.says("resource.edited", resource="a")
        shows(installation.folder / "elsewhere", "two\n")
        assert (installation.folder / "a").read_text() == "one\n"


def test_a_hangup_reads_resources_where_nothing_tells_of_edits(installation):
    with installation.start() as confpy:
        shows(installation.folder / "a", "one\n")
        confpy.process.send_signal(signal.SIGHUP)
        confpy.says("signal.received")
        b = installation.add("b")
        confpy.process.send_signal(signal.SIGHUP)
        shows(b, "two\n")


def test_a_kubernetes_volume_that_swaps_its_data_link_is_followed(installation, tmp_path):
    """A ConfigMap is a folder of links into ``..data``, itself a link that is replaced in one step."""
    volume = tmp_path / "volume"
    first, second = volume / "..1", volume / "..2"
    for version in (first, second):
        version.mkdir(parents=True)
    dest = tmp_path / "k"
    lines = f"[template]\nsrc = 'k.j2'\nkeys = ['/app']\ndest = '{dest}'\n"
    (first / "k.toml").write_text(lines)
    (second / "k.toml").write_text(lines + "mode = '0600'\n")
    (first / "k.j2").write_text('first {{ getv("/app/a") }}\n')
    (second / "k.j2").write_text('second {{ getv("/app/a") }}\n')
    (volume / "..data").symlink_to("..1")
    for name in ("k.toml", "k.j2"):
        (volume / name).symlink_to(f"..data/{name}")
    (installation.confdir / "conf.d" / "k.toml").symlink_to(volume / "k.toml")
    (installation.confdir / "templates" / "k.j2").symlink_to(volume / "k.j2")
    with installation.start():
        shows(dest, "first one\n")
        (volume / "..new").symlink_to("..2")
        (volume / "..new").replace(volume / "..data")
        shows(dest, "second one\n")
        wait_until(lambda: dest.stat().st_mode & 0o777 == 0o600, what="the resource of the new version")


def test_a_confdir_that_vanishes_for_a_moment_changes_nothing(installation):
    with installation.start():
        shows(installation.folder / "a", "one\n")
        away = installation.folder / "away"
        installation.confdir.rename(away)
        installation.write("app: {a: meanwhile}")
        shows(installation.folder / "a", "meanwhile\n")
        away.rename(installation.confdir)
        installation.add("b")
        installation.write("app: {a: after, b: new}")
        shows(installation.folder / "b", "new\n")
        shows(installation.folder / "a", "after\n")


def test_a_hangup_after_a_resource_and_its_target_were_removed_makes_nothing_again(installation):
    gone = [installation.add(name) for name in ("b", "c")]
    # Polling: a look at the targets comes with the hangup alone.
    with installation.start("-interval", "1h") as confpy:
        for dest in (installation.folder / "a", *gone):
            wait_until(dest.exists, what=f"{dest} is there")
        for _ in gone:
            confpy.says("resource.changed")
        for dest in gone:
            (installation.confdir / "conf.d" / f"{dest.name}.toml").unlink()
            dest.unlink()
        confpy.process.send_signal(signal.SIGHUP)
        confpy.says("resource.removed")
        pass_time(1)
        assert not any(event["event"] == "target.drifted" for event in confpy.events)
        assert not any(dest.exists() for dest in gone)


def test_a_program_that_rewrites_its_own_file_is_restarted_a_few_times_and_named(installation):
    runs, dest = installation.folder / "runs", installation.folder / "a"
    rewrites = f"'echo x >> {runs}; echo its-own >> {dest}'"  # as Redis Sentinel does at each start
    installation.add("a", reload_cmd=rewrites)
    once = installation.add("b", write_once="true", reload_cmd=f"'echo its-own >> {installation.folder / 'b'}'")
    with installation.start("-watch", "-resync", "1s") as confpy:
        contested = confpy.says("target.contested", resource="a", seconds=30)
        assert "write_once = true" in contested["hint"]
        wait_until(lambda: len(runs.read_text().splitlines()) == 4, what="the restart of the third restore")
        pass_time(5)
        assert len(runs.read_text().splitlines()) == 4
        assert once.read_text() == "two\nits-own\n"
        installation.write("app: {a: new, b: newer}")
        wait_until(lambda: dest.read_text().startswith("new\n"), what="new keys")
        pass_time(1)
        assert once.read_text() == "two\nits-own\n"
        once.unlink()
        wait_until(
            lambda: once.exists() and once.read_text() == "newer\nits-own\n", what="it is made where it is missing"
        )
        assert not any(
            event["event"] == "target.drifted" and event["drift"] != "missing"
            for event in confpy.events
            if event.get("resource") == "b"
        )
