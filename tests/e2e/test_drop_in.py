"""What installations of confd rely on, beyond their templates: names of files, variables, places."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.running import run_once


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
