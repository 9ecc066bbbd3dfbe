"""What installations of confd rely on, beyond their templates: names of files, variables, places."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.e2e.running import run_once
from tests.servers.program import find


def confdir_of(folder: Path, resources: dict[str, str], templates: dict[str, str]) -> Path:
    """Make a confdir: path below ``conf.d`` → what stands below ``[template]``, path below ``templates`` → text."""
    for below, files in (("conf.d", resources), ("templates", templates)):
        (folder / below).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = folder / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"[template]\n{text}" if below == "conf.d" else text)
    return folder


def test_a_hidden_resource_is_delivered_and_what_its_name_leaves_out_is_told_once_at_debug(tmp_path):
    resource = f'src = ".env.tmpl"\ndest = "{tmp_path}/env"\nkeys = ["/a"]\n'
    confdir = confdir_of(tmp_path / "confd", {".env.toml": resource, "._env.toml": ""}, {".env.tmpl": '{{getv "/a"}}'})
    flags = ("-backend", "env", "-confdir", str(confdir), "-log-level", "debug")
    ended = run_once(*flags, folder=tmp_path, more={"A": "1"})
    assert (ended.code, (tmp_path / "env").read_text()) == (0, "1")
    assert ended.find("file.left_out")["file"] == str(confdir / "conf.d" / "._env.toml")
    assert ended.find("resource.changed")["resource"] == ".env"


def test_a_variable_that_the_fork_reads_is_left_to_the_templates_of_who_calls_confd_and_told_of(tmp_path):
    resource = f'src = "a.tmpl"\ndest = "{tmp_path}/a"\nkeys = ["/a"]\n'
    template = '{{getv "/a"}} {{getenv "CONFD_PREFIX"}}'
    flags = (
        "-backend",
        "env",
        "-confdir",
        str(confdir_of(tmp_path / "confd", {"a.toml": resource}, {"a.tmpl": template})),
    )
    ended = run_once(*flags, folder=tmp_path, more={"A": "1", "CONFD_PREFIX": "/prod", "CONFD_NOOP": "true"})
    assert (ended.code, (tmp_path / "a").read_text()) == (0, "1 /prod")
    line = ended.find("settings.left_alone", level="info")
    assert line["variables"] == "CONFD_NOOP, CONFD_PREFIX"
    ended = run_once("env", *flags[2:], folder=tmp_path, more={"PROD_A": "2", "CONFD_PREFIX": "/prod"})
    assert (ended.code, (tmp_path / "a").read_text()) == (0, "2 /prod")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_user_without_folders_of_the_system_has_state_and_cache_at_home_and_no_warning():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        os.chmod(folder, 0o755)
        run_at_home(Path(folder))


def run_at_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    resource = f'src = "a.tmpl"\ndest = "{home}/a"\nkeys = ["/a"]\nreload_cmd = "true"\n'
    flags = ("-backend", "env", "-confdir", str(confdir_of(tmp_path / "confd", {"a.toml": resource}, {"a.tmpl": "x"})))
    os.chown(home, 65534, 65534)
    user = (find("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups")
    own = {"HOME": str(home), "CONFPY_STATE_DIR": "", "CONFPY_CACHE_DIR": ""}
    ended = run_once(*flags, folder=tmp_path, more=own, user=user)
    assert ended.code == 0
    assert [one for one in ended.events if one["level"] != "info"] == []
    assert list((home / ".local" / "state" / "confpy").rglob("ledger*"))
    assert list((home / ".cache" / "confpy").iterdir())
