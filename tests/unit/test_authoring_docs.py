"""The commands in the manual for authors of templates run, and print what the manual says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from confpy import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "template-authors.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


COMMANDS = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
SHOWN = [block.removeprefix("$ ").partition("\n")[::2] for block in blocks("text") if block.startswith("$ ")]


@pytest.fixture
def place(tmp_path, monkeypatch, capfd):
    """The example for HAProxy as ``/etc/confpy``, and the page's file with keys."""
    confdir = tmp_path / "confpy"
    shutil.copytree(ROOT / "examples" / "haproxy", confdir)
    resource = confdir / "conf.d" / "haproxy.toml"
    resource.write_text(resource.read_text().replace("/etc/haproxy", f"{tmp_path}/haproxy"))
    (confdir / "keys.yaml").write_text(blocks("yaml")[0])
    (tmp_path / "haproxy").mkdir()
    monkeypatch.chdir(confdir)
    monkeypatch.delenv("CONFPY_CONFDIR", raising=False)

    def run(line: str) -> tuple[int, str]:
        words = shlex.split(line.replace("/etc/confpy", str(confdir)))
        assert words.pop(0) == "confpy"
        # The store of the page is not here.
        words = words[: words.index("-backend")] if "-backend" in words else words
        if words[0] != "test" and "-data" not in words:
            words += ["-data", "keys.yaml"]
        if words[0] == "keys":
            words += ["-confdir", str(confdir)]
        code = cli.main(words)
        return code, capfd.readouterr().out.replace(str(tmp_path), "/etc")

    run("confpy render haproxy -confdir /etc/confpy")
    (tmp_path / "haproxy" / "haproxy.cfg").write_text(run("confpy render haproxy -confdir /etc/confpy")[1])
    return run


def test_the_page_has_commands():
    assert len(COMMANDS) >= 5
    assert SHOWN


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_page_runs(place, line):
    code, out = place(line)
    assert (code, bool(out)) == (0, True)


@pytest.mark.parametrize(("line", "shown"), SHOWN)
def test_a_command_prints_what_the_page_shows(place, line, shown):
    code, out = place(line)
    # A file counts no revisions.
    assert (code, out) == (0, re.sub(r"^  revision .*\n", "", shown, flags=re.MULTILINE))
