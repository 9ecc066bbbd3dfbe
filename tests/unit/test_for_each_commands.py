"""What the commands that deliver nothing say of a resource with ``for_each``, and of its items."""

from __future__ import annotations

import json

import pytest

from confpy.cli import main


@pytest.fixture
def confpy(tmp_path, capfd, monkeypatch):
    """Return what runs a command over a confdir with virtual hosts, and gives exit code, stdout and log."""
    monkeypatch.setenv("CONFPY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CONFPY_CACHE_DIR", str(tmp_path / "cache"))
    confdir = tmp_path / "confdir"
    (confdir / "conf.d").mkdir(parents=True)
    (confdir / "templates").mkdir()
    (confdir / "conf.d" / "v.toml").write_text(
        f'[template]\nsrc = "v.j2"\ndest = "{tmp_path}/out/{{{{ name }}}}.conf"\nfor_each = "/vhosts/*"\nmkdir = true\n'
    )
    (confdir / "templates" / "v.j2").write_text("{{ item.name }} = {{ item.value }}\n{{ item.key }}\n")
    keys = tmp_path / "keys.json"

    def run(*words: str, **hosts: str) -> tuple[int, str, str]:
        if hosts:
            keys.write_text(json.dumps({"vhosts": hosts}))
        more = ["-backend", "file", "-file", str(keys), "-confdir", str(confdir), "-log-format", "text"]
        try:
            code = main([*words, *more])
        except SystemExit as ended:
            code = ended.code
        out, log = capfd.readouterr()
        return code, out, log

    return run


def test_render_takes_an_item_by_its_name_or_its_target(confpy, tmp_path):
    assert confpy("render", "v:a", a="1", b="2")[:2] == (0, "a = 1\n/vhosts/a\n")
    assert confpy("render", f"{tmp_path}/out/b.conf")[:2] == (0, "b = 2\n/vhosts/b\n")


def test_why_names_the_key_of_an_item(confpy, tmp_path):
    confpy("-onetime", a="1", b="2")
    code, out, _ = confpy("why", f"{tmp_path}/out/a.conf:1")
    assert (code, "keys      /vhosts/a" in out, "resource  v:a" in out) == (0, True, True)
    code, out, _ = confpy("why", "/vhosts/b")
    assert (code, "resource v:b" in out) == (0, True)


def test_diff_shows_what_would_be_new_and_what_would_be_removed_and_changes_nothing(confpy, tmp_path):
    confpy("-onetime", a="1", b="2")
    code, out, _ = confpy("diff", b="2", c="3")
    assert code == 0
    assert "+c = 3" in out
    assert f"--- {tmp_path}/out/a.conf\n+++ /dev/null\n" in out
    assert "-a = 1" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.conf", "b.conf"]


def test_check_finds_nothing_wrong(confpy):
    code, out, _ = confpy("check", a="1")
    assert (code, out) == (0, "1 resource checked: no mistakes found\n")
