"""Files that need each other are new together or not at all, with the programs that read them as the judges."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, Program, pass_time, shows
from tests.e2e.running import ROOT
from tests.faults.disks import in_memory, mount
from tests.run_as_user import with_mounts
from tests.servers.program import find
from tests.waiting import wait_until

CONFIG = """\
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend web
    {{ getv("/app/bind") }}
    default_backend web
backend web
    server a 127.0.0.1:1
"""
PLAIN = "app: {bind: 'bind 127.0.0.1:65000', pem: '# none yet'}"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    found = Installation(tmp_path)
    found.write(PLAIN)
    command = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=web -keyout key -out crt"
    subprocess.run([find("openssl"), *command.split()], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "web.pem").write_text((tmp_path / "crt").read_text() + (tmp_path / "key").read_text())
    return found


def furnish(installation: Installation, program: Program, check: str, mode: str) -> tuple[Path, Path]:
    """Write the group of a configuration and its list of certificates; returns the targets."""
    both = {"keys": "['/app']", "group": "'lb'", "reload_cmd": program.failing(0)}
    more = {"check_cmd": f"'''{check}'''", "check_mode": f"'{mode}'"}
    certs = installation.add("certs", '{{ getv("/app/pem") }}\n', **both)
    return installation.add("config", CONFIG, **both, **more), certs


def with_tls(installation: Installation, pem: str) -> str:
    """Return keys with which the configuration needs the list, and the list is not empty."""
    return f"app: {{bind: 'bind 127.0.0.1:65000 ssl crt-list {installation.folder}/certs', pem: {pem}}}"


def test_a_configuration_and_its_certificates_that_pass_only_together_are_swapped_in_and_reloaded_once(installation):
    program = Program(installation.folder)
    config, certs = furnish(installation, program, f"haproxy -c -f {installation.folder}/config", "swap")
    with installation.start() as confpy:
        wait_until(lambda: program.count == 1, what="the first reload")
        before = (config.read_bytes(), certs.read_bytes(), config.stat().st_ino, certs.stat().st_ino)
        installation.write(with_tls(installation, f"{installation.folder}/missing.pem"))
        failed = confpy.says("resource.failed", resource="config")
        assert "missing.pem" in failed["output"]
        after = (config.read_bytes(), certs.read_bytes(), config.stat().st_ino, certs.stat().st_ino)
        assert after == before, "the old files are back, to the inode"
        assert program.count == 1, "nothing is reloaded for files that did not stay"
        installation.write(with_tls(installation, f"{installation.folder}/web.pem"))
        shows(certs, f"{installation.folder}/web.pem\n")
        wait_until(lambda: program.count == 2, what="the second reload")
        assert "crt-list" in config.read_text()
        pass_time(1)
    assert program.count == 2
    assert [path.name for path in installation.folder.iterdir() if ".confpy-" in path.name] == []


def test_each_for_itself_they_would_not_pass(installation):
    program = Program(installation.folder)
    config, certs = furnish(installation, program, "haproxy -c -f {{.src}}", "staged")
    assert installation.once().code == 0
    installation.write(with_tls(installation, f"{installation.folder}/web.pem"))
    ended = installation.once("-report", str(installation.folder / "report"))
    assert ended.code == 5
    assert "# none yet" in certs.read_text(), "the other of the group stays, too"
    assert "crt-list" not in config.read_text()


def test_a_staged_check_finds_the_candidates_of_the_others(installation):
    program = Program(installation.folder)
    trial = installation.folder / "trial"
    check = f'sed "s#{installation.folder}/certs#$CONFPY_SRC_CERTS#" {{{{.src}}}} > {trial}; haproxy -c -f {trial}'
    config, certs = furnish(installation, program, check, "staged")
    assert installation.once().code == 0
    installation.write(with_tls(installation, f"{installation.folder}/web.pem"))
    assert installation.once().code == 0
    assert "crt-list" in config.read_text()
    assert "web.pem" in certs.read_text()
    assert program.count == 2


def test_a_member_that_cannot_be_rendered_holds_the_group_and_no_other(installation):
    program = Program(installation.folder)
    config, _ = furnish(installation, program, "true {{.src}}", "staged")
    other = installation.add("other", '{{ getv("/app/pem") }}\n', keys="['/app']")
    with installation.start() as confpy:
        shows(other, "# none yet\n")
        before = wait_until(lambda: config.exists() and config.read_text(), what="the configuration")
        installation.write("app: {pem: new}")
        confpy.says("resource.failed", resource="config")
        shows(other, "new\n")
        assert (config.read_text(), (installation.folder / "certs").read_text()) == (before, "# none yet\n")
        installation.write("app: {pem: newer, bind: 'bind 127.0.0.1:65001'}")
        shows(installation.folder / "certs", "newer\n")
        wait_until(lambda: "65001" in config.read_text(), what="the other file of the group, which is renamed after it")


def test_a_fragment_is_tried_in_its_place_by_the_program_that_includes_it(installation):
    program = Program(installation.folder)
    main = installation.folder / "nginx.conf"
    main.write_text(
        f"pid {installation.folder}/pid;\nerror_log {installation.folder}/log;\nevents {{}}\n"
        f"http {{ access_log off; include {installation.folder}/site.conf; }}\n"
    )
    installation.write("app: {site: 'server { listen 127.0.0.1:65002; }'}")
    installation.add(
        "site", '{{ getv("/app/site") }}\n', dest=f"'{installation.folder}/site.conf'", check_mode="'swap'",
        check_cmd=f"'nginx -t -c {main}'", reload_cmd=program.failing(0),
    )  # fmt: skip
    site = installation.folder / "site.conf"
    with installation.start() as confpy:
        shows(site, "server { listen 127.0.0.1:65002; }\n")
        wait_until(lambda: program.count == 1, what="the reload")
        installation.write("app: {site: 'server { lisn 65002; }'}")
        failed = confpy.says("resource.failed", resource="site")
        assert "lisn" in failed["output"]
        assert site.read_text() == "server { listen 127.0.0.1:65002; }\n"
        installation.write("app: {site: 'server { listen 127.0.0.1:65003; }'}")
        shows(site, "server { listen 127.0.0.1:65003; }\n")
        wait_until(lambda: program.count == 2, what="the second reload")


# --- a disk that fails between two renames ---------------------------------------------------------------------------

STOP_BEFORE_THE_SECOND = """\
import os, time
rename = os.rename
def stop(old, new):
    if new.endswith("/second/b") and os.path.exists("gate"):
        os.rename("gate", "reached")
        while os.path.exists("reached"):
            time.sleep(0.01)
    rename(old, new)
os.rename = stop
"""


def two_folders(installation: Installation, program: Program, **more: str) -> tuple[Path, Path]:
    """Add a group of two, each with a file system of its own; returns its targets."""
    dests = installation.folder / "first" / "a", installation.folder / "second" / "b"
    both = {"group": "'lb'", "reload_cmd": program.failing(0), **more}
    for dest in dests:
        in_memory(dest.parent)
        installation.add(dest.name, dest=f"'{dest}'", **both)
    installation.write(f"app: {{a: {'old' * 30_000}, b: {'old' * 30_000}}}")
    return dests


def contents(*dests: Path) -> list[str]:
    return [dest.read_text().strip()[-3:] for dest in dests]


def turn_read_only(folder: Path) -> None:
    mount("--bind", folder, folder)
    mount("-o", "remount,bind,ro", folder)


@pytest.mark.parametrize(
    "more", [{}, {"check_mode": "'swap'", "check_cmd": "'true'"}, {"on_reload_failure": "'rollback'"}]
)
def test_a_group_whose_second_folder_turns_read_only_between_the_renames_is_put_back_and_comes_later(tmp_path, more):
    def story() -> None:
        installation, program = Installation(tmp_path), Program(tmp_path)
        a, b = two_folders(installation, program, **more)
        (tmp_path / "sitecustomize.py").write_text(STOP_BEFORE_THE_SECOND)
        with installation.start(more={"PYTHONPATH": f"{tmp_path}:{ROOT}"}) as confpy:
            wait_until(lambda: program.count == 1, what="the first reload")
            confpy.says("resource.changed", resource="b")
            before = a.stat().st_ino, b.stat().st_ino
            (tmp_path / "gate").touch()
            installation.write("app: {a: new, b: new}")
            wait_until((tmp_path / "reached").exists, what="the second rename")
            assert contents(a, b) == ["new", "old"]
            turn_read_only(b.parent)
            (tmp_path / "reached").unlink()
            failed = confpy.says("resource.failed", resource="b")
            assert failed["error"] == "the target cannot be replaced: Read-only file system"
            assert (failed["target"], failed["did"]) == (str(b), f"put back {a}")
            assert contents(a, b) == ["old", "old"]
            assert (a.stat().st_ino, b.stat().st_ino) == before, "the old files are back, to the inode"
            pass_time(0.5)
            assert (contents(a, b), program.count) == (["old", "old"], 1)
            mount("-o", "remount,bind,rw", b.parent)
            shows(b, "new\n", seconds=60)
            shows(a, "new\n")
            wait_until(lambda: program.count == 2, what="the reload")
            pass_time(0.5)
        assert (contents(a, b), program.count) == (["new", "new"], 2)
        # What could not be removed from the folder at that time is gone at the latest with the next start.
        assert {event["event"] for event in installation.once().events} <= {"stage.removed", "onetime.done"}
        assert (os.listdir(a.parent), os.listdir(b.parent)) == (["a"], ["b"])

    with_mounts(story)


def test_what_a_folder_that_stays_read_only_still_holds_of_a_group_is_removed_by_a_later_start(tmp_path):
    def story() -> None:
        installation, program = Installation(tmp_path), Program(tmp_path)
        a, b = two_folders(installation, program)
        (tmp_path / "sitecustomize.py").write_text(STOP_BEFORE_THE_SECOND)
        with installation.start(more={"PYTHONPATH": f"{tmp_path}:{ROOT}"}) as confpy:
            wait_until(lambda: program.count == 1, what="the first reload")
            (tmp_path / "gate").touch()
            installation.write("app: {a: new, b: new}")
            wait_until((tmp_path / "reached").exists, what="the second rename")
            turn_read_only(b.parent)
            (tmp_path / "reached").unlink()
            confpy.says("resource.failed", resource="b")
        assert (contents(a, b), len(os.listdir(b.parent))) == (["old", "old"], 3)
        mount("-o", "remount,bind,rw", b.parent)
        assert installation.once().code == 0
        assert (contents(a, b), program.count) == (["new", "new"], 2)
        assert (os.listdir(a.parent), os.listdir(b.parent)) == (["a"], ["b"])

    with_mounts(story)


def test_a_group_whose_second_file_finds_no_room_in_its_place_is_put_back_and_comes_later(tmp_path):
    def story() -> None:
        installation, program = Installation(tmp_path), Program(tmp_path)
        gate = tmp_path / "gate"
        # The check sees the candidates, and leaves no room for what comes after it.
        crowd = f"test ! -e {gate} || cat /dev/zero > {tmp_path}/second/filler; true"
        a, b = two_folders(installation, program, write="'inplace'", check_cmd=f"'{crowd} {{{{.src}}}}'")
        with installation.start() as confpy:
            wait_until(lambda: program.count == 1, what="the first reload")
            gate.touch()
            new = "new" * 60_000
            installation.write(f"app: {{a: {new}, b: {new}}}")
            failed = confpy.says("resource.failed", resource="b")
            assert failed["error"] == "the target cannot be replaced: No space left on device"
            assert (failed["target"], failed["did"]) == (str(b), f"put back {a}")
            assert [dest.read_text() for dest in (a, b)] == ["old" * 30_000 + "\n"] * 2
            assert program.count == 1
            gate.unlink()
            (b.parent / "filler").unlink()
            shows(b, f"{new}\n", seconds=60)
            shows(a, f"{new}\n")
            wait_until(lambda: program.count == 2, what="the reload")
            pass_time(0.5)
        assert program.count == 2
        assert (os.listdir(a.parent), os.listdir(b.parent)) == (["a"], ["b"])
        assert installation.once().names == ["onetime.done"]

    with_mounts(story)
