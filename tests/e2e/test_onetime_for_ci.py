"""One-shot in builds and init containers: it waits as long as it may, lists what failed, and leaves a report."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, Program
from tests.e2e.running import command, environment, read_events
from tests.servers.etcd import Etcd
from tests.waiting import wait_until


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_a_store_that_comes_up_late_is_waited_for(tmp_path):
    with Etcd(started=False) as etcd:
        installation = Installation(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
        dest = installation.add("web")
        flags = [*installation.where, "-onetime", "-retry-for", "2m"]
        began = time.monotonic()
        running = subprocess.Popen(
            command(*flags), env=environment(tmp_path), stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        threading.Event().wait(6)
        assert running.poll() is None, "it waits"
        etcd.start()
        etcd.put("/app/web", "late")
        _, log = running.communicate(timeout=60)
        assert running.returncode == 0, read_events(log)
        assert time.monotonic() - began < 40, "it does not sleep through the store's start"
        assert dest.read_text() in {"late\n", "none\n"}, "the key may be put after the store is up"


def test_a_store_that_stays_away_ends_it_with_3_when_the_time_is_over(tmp_path):
    with Etcd(started=False) as etcd:
        installation = Installation(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
        installation.add("web")
        began = time.monotonic()
        ended = installation.once("-retry-for", "3s")
        assert ended.code == 3
        assert 3 <= time.monotonic() - began < 10
        began = time.monotonic()
        assert installation.once().code == 3
        assert time.monotonic() - began < 3, "without -retry-for it does not wait"


def test_all_failures_are_listed_at_the_end_and_the_smallest_code_counts(tmp_path, program):
    installation = Installation(tmp_path)
    installation.write("app: {fine: x}")
    installation.add("checked", check_cmd="'false {{.src}}'")
    installation.add("rendered", '{{ getv("/app/missing") }}')
    installation.add("reloaded", reload_cmd=program.closed())
    installation.add("placed", dest=f"'{tmp_path}/nowhere/placed'")
    installation.add("fine")
    installation.add("pathless", src="'nowhere.j2'")
    (installation.confdir / "conf.d" / "broken.toml").write_text("[template]\n")
    report = tmp_path / "report.json"
    ended = installation.once("-report", str(report))
    assert ended.code == 2
    last = ended.find("onetime.failed")
    assert ended.events[-1]["event"] in {"onetime.failed", "reload.owed"}
    assert last["failures"] == 6
    assert all(name in last["each"] for name in ("broken", "checked", "rendered", "pathless", "reloaded", "placed"))
    (installation.confdir / "conf.d" / "broken.toml").unlink()
    assert installation.once().code == 4
    found = {one["resource"]: one for one in json.loads(report.read_text())}
    assert {name: (one["outcome"], one["stage"], one["changed"]) for name, one in found.items()} == {
        "broken": ("failed", "resource", False),
        "checked": ("failed", "check", False),
        "rendered": ("failed", "template", False),
        "pathless": ("failed", "template", False),
        "reloaded": ("changed", "reload", True),
        "placed": ("failed", "target", False),
        "fine": ("changed", "", True),
    }
    assert all(bool(one["error"]) == bool(one["stage"]) for one in found.values())
    lines = report.read_text().splitlines()
    assert len(lines) == len(found) + 2, "a line for each, between the brackets"
    installation.once("-report", str(report))
    again = {one["resource"]: one["outcome"] for one in json.loads(report.read_text())}
    assert again["fine"] == "unchanged"


def test_a_report_that_cannot_be_written_is_said_and_is_an_error(tmp_path):
    installation = Installation(tmp_path)
    installation.add("web")
    ended = installation.once("-report", str(tmp_path / "nowhere" / "report"))
    assert ended.code == 6
    assert ended.find("confpy.failed")["file"] == str(tmp_path / "nowhere" / "report")
    assert (tmp_path / "web").exists()


def test_no_reload_checks_and_does_not_reload(tmp_path, program):
    installation = Installation(tmp_path)
    dest = installation.add("web", reload_cmd=program.failing(0))
    refused = installation.add("refused", check_cmd="'false {{.src}}'", reload_cmd=program.failing(0))
    assert installation.once("-no-reload").code == 5
    assert (dest.exists(), refused.exists(), program.count) == (True, False, 0)


def test_root_puts_every_target_below_it_and_leaves_owners_alone(tmp_path):
    installation = Installation(tmp_path)
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    installation.add("web", dest="'/etc/web.conf'", owner="'nobody'", check_cmd="'grep -q none {{.src}}'")
    ended = installation.once("-root", str(image), "-no-reload")
    assert ended.code == 0, ended.events
    built = image / "etc" / "web.conf"
    assert built.read_text() == "none\n"
    assert built.stat().st_uid == image.stat().st_uid
    assert not Path("/etc/web.conf").exists()


def test_below_the_root_missing_folders_are_made_unless_a_resource_says_no(tmp_path):
    installation = Installation(tmp_path)
    image = tmp_path / "image"
    image.mkdir()
    installation.add("web", dest="'/etc/haproxy/web.conf'")
    installation.add("no", dest="'/etc/none/no.conf'", mkdir="false")
    ended = installation.once("-root", str(image), "-no-reload")
    assert ended.code == 6
    assert (image / "etc" / "haproxy" / "web.conf").read_text() == "none\n"
    assert ended.find("resource.failed")["hint"] == "make the folder, or write mkdir = true"
    assert not (image / "etc" / "none").exists()


def test_a_missing_folder_without_a_root_is_not_made_and_the_hint_says_how(tmp_path):
    installation = Installation(tmp_path)
    installation.add("web", dest=f"'{tmp_path}/none/web.conf'")
    ended = installation.once()
    assert ended.code == 6
    assert ended.find("resource.failed")["hint"] == "make the folder, or write mkdir = true"


def test_nothing_leads_out_of_the_root(tmp_path):
    installation = Installation(tmp_path)
    image, host = tmp_path / "image", tmp_path / "host"
    for folder in (image, host):
        folder.mkdir()
    (image / "etc").symlink_to(host)
    (image / "opt").symlink_to(host / "missing")
    installation.add("dangling", dest="'/opt/new/f.conf'")
    installation.add("linked", dest="'/etc/linked.conf'")
    installation.add("dots", dest="'/../host/dots.conf'", mkdir="true")
    ended = installation.once("-root", str(image), "-no-reload")
    assert ended.code == 6
    for name in ("linked", "dangling"):
        assert ended.find("resource.failed", resource=name)["error"] == "the target lies outside of the root"
    assert list(host.iterdir()) == []
    assert (image / "host" / "dots.conf").exists()


def test_what_the_dead_left_is_swept_below_the_root_and_not_outside(tmp_path):
    installation = Installation(tmp_path)
    image, host = tmp_path / "image", tmp_path / "host"
    below = image / host.relative_to("/")
    left = [folder / ".web.conf.confpy-0123abcd" for folder in (host, below)]
    for stage in left:
        stage.parent.mkdir(parents=True)
        stage.touch()
    (image / "web.conf").symlink_to(host / "web.conf")
    installation.add("web", dest="'/web.conf'")
    with installation.start("-watch", "-root", str(image)):
        wait_until(lambda: not left[1].exists(), what="what lay below the root is swept")
    assert left[0].exists()


def test_a_check_that_hangs_ends_with_its_own_time_not_with_that_of_the_run(tmp_path):
    installation = Installation(tmp_path)
    installation.add("web", check_cmd="'sleep 60 # {{.src}}'", check_cmd_timeout="'1s'")
    began = time.monotonic()
    assert installation.once("-timeout", "2s").code == 5
    assert time.monotonic() - began < 15
