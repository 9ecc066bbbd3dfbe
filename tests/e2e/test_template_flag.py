"""``confpy -template SRC:DEST[:RELOAD]``: files without a confdir, of which nothing else is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.running import Confpy, command, environment, run_once
from tests.waiting import wait_until


@pytest.fixture
def flags(tmp_path):
    """Templates by both languages, and the flags for them; all that confpy could write to is a folder of the test."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.cfg.j2").write_text('{{ getv("/a") }}\n')
    (tmp_path / "in" / "b.tmpl").write_text('{{ getv "/b/c" }}\n')
    (tmp_path / "keys.yaml").write_text("a: 1\nb: {c: 2}\n")
    return ["-backend", "file", "-file", str(tmp_path / "keys.yaml")]


def made(folder: Path) -> list[str]:
    """Return what a run has made beside its targets."""
    places = [Path("/dev/shm"), folder / "state", folder / "cache", folder / "tmp"]
    return [str(one) for place in places if place.is_dir() for one in place.iterdir() if "confpy-template" in one.name]


def test_files_are_made_once_and_nothing_else_is_left(flags, tmp_path):
    reload = f"echo $CONFPY_DEST >> {tmp_path}/log"
    more = ("-template", f"in/a.cfg.j2:{tmp_path}/out/a.cfg:{reload}", "-template", f"in/b.tmpl:{tmp_path}/out/b")
    ended = run_once(*more, *flags, folder=tmp_path)
    assert ended.code == 0, ended.log
    assert (tmp_path / "out/a.cfg").read_text() == "1\n"
    assert (tmp_path / "out/b").read_text() == "2\n"
    assert (tmp_path / "log").read_text() == f"{tmp_path}/out/a.cfg\n"
    assert made(tmp_path) == []
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "cache").exists()


def test_a_key_keeps_the_others_out(flags, tmp_path):
    ended = run_once("-template", f"in/b.tmpl:{tmp_path}/b", "-key", "/a", *flags, folder=tmp_path)
    assert ended.code == 4
    assert not (tmp_path / "b").exists()
    ended = run_once("-template", f"in/b.tmpl:{tmp_path}/b", "-key", "/a", "-key", "/b", *flags, folder=tmp_path)
    assert ended.code == 0


def test_a_program_that_takes_the_place_of_confpy_finds_the_file_and_nothing_else(flags, tmp_path):
    ended = subprocess.run(
        [*command("-onetime", "-template", f"in/a.cfg.j2:{tmp_path}/a", *flags), "--", sys.executable, "-c",
         f"print(open({str(tmp_path / 'a')!r}).read())"],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.strip()) == (0, "1")
    assert made(tmp_path) == []


def test_a_daemon_follows_the_store_and_the_template_and_leaves_nothing(flags, tmp_path):
    target = tmp_path / "a"
    with Confpy("-watch", "-template", f"in/a.cfg.j2:{target}", *flags, folder=tmp_path) as confpy:
        confpy.says("confpy.ready", seconds=60)
        (tmp_path / "keys.yaml").write_text("a: 3\nb: {c: 2}\n")
        wait_until(lambda: target.read_text() == "3\n", what="the new key")
        (tmp_path / "in" / "a.cfg.j2").write_text('new {{ getv("/a") }}\n')
        wait_until(lambda: target.read_text() == "new 3\n", what="the new template")
        assert made(tmp_path)
        assert confpy.stop() == 0
    assert made(tmp_path) == []


def test_where_there_is_no_place_in_memory_the_temporary_folder_serves(flags, tmp_path):
    (tmp_path / "tmp").mkdir()
    without = "import confpy.daemon.made_confdir as made; made.MEMORY = '/none'"
    code = f"{without}; from confpy.cli import main; raise SystemExit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", code, "-onetime", "-template", f"in/a.cfg.j2:{tmp_path}/a", *flags],
        cwd=tmp_path, env={**environment(tmp_path), "TMPDIR": str(tmp_path / "tmp")}, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0
    assert (tmp_path / "a").read_text() == "1\n"
    assert os.listdir(tmp_path / "tmp") == []
