"""Each way of installing in a clean Debian, as docs/installing.md says it: three commands to a followed key."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from confpy import __version__
from tests.e2e.packages import built
from tests.e2e.roots import Root, needs_roots
from tests.e2e.running import ROOT
from tests.pages import blocks
from tests.waiting import wait_until

LIMIT = 120
"""Seconds from the first command to the file."""
PAGE = ROOT / "docs" / "installing.md"
WAYS = {"pipx": "wheel", "pip": "wheel", "sdist": "wheel", "One file": "zipapp", "Debian package": "deb"}
"""Section of the page → what ``confpy version`` says of such an installation."""
COMPILED = {
    "pipx": "~/.local/pipx/venvs/confpy/lib/python3.*/site-packages",
    "pip": "/opt/confpy/lib/python3.*/site-packages",
    "sdist": "/opt/confpy/lib/python3.*/site-packages",
    "Debian package": "/usr/lib/confpy",
}
"""Section of the page → where its modules are; bytecode in one file is a matter of tests/e2e/test_packages.py."""


@pytest.fixture
def root(tmp_path) -> Iterator[Root]:
    """A clean root with what ``scripts/package`` made."""
    needs_roots()
    with Root(tmp_path) as root:
        for package in built("wheel", "sdist", "zipapp", "deb").glob("confpy[-_.]*"):
            root.take(package)
        yield root


def commands(section: str, number: int = 0) -> list[str]:
    """Return the commands in a block of a section of the page."""
    lines = PAGE.read_text().splitlines()
    (start,) = (at for at, line in enumerate(lines, 1) if line == f"## {section}")
    found = [block for block in blocks(PAGE) if block.line > start and block.language == "sh"]
    return found[number].text.splitlines()


@pytest.mark.timeout(300)  # the first of them also builds the packages and the root
@pytest.mark.parametrize("section", WAYS)
def test_three_commands_lead_from_nothing_to_a_file_that_follows_a_key(root, etcd, section, record_property):
    *install, follow = commands(section)
    assert len(install) <= 2
    # As images have it: nothing may rely on bytecode that is written when confpy runs.
    variables = {"PYTHONDONTWRITEBYTECODE": "1", "CONFPY_NODES": f"http://127.0.0.1:{etcd.port}"}
    begun = time.monotonic()
    for command in install:
        root.run(command, variables, seconds=LIMIT)
    running = root.start(f"echo $$ > /run/pid; exec {follow}", variables)
    etcd.put("/services/web/backends/web-1", "10.0.0.1:8080")
    target = root.path / "root/etc/haproxy/haproxy.cfg"
    wait_until(
        lambda: target.exists() and "10.0.0.1:8080" in target.read_text(),
        seconds=LIMIT - (time.monotonic() - begun),
        what=f"the file follows within {LIMIT} s from the start of {install[0]!r}",
    )
    record_property("installed", (section, time.monotonic() - begun))
    etcd.put("/services/web/backends/web-1", "10.0.0.2:8080")
    wait_until(lambda: "10.0.0.2:8080" in target.read_text(), seconds=20, what="the file follows the next change")
    root.run("kill $(cat /run/pid)")
    said, _ = running.communicate(timeout=20)
    assert running.returncode == 0, said
    confpy = follow.split()[0]
    about = json.loads(root.run(f"{confpy} version -json"))
    assert (about["version"], about["installed_as"]) == (__version__, WAYS[section])
    assert about["revision"]
    assert None not in about["libraries"].values()
    if place := COMPILED.get(section):
        sources, bytecode = (
            root.run(f"find {place} -name '*.{kind}' -path '*/confpy/*' | wc -l") for kind in ("py", "pyc")
        )
        assert int(sources) > 300
        assert sources == bytecode
    if section == "pip":
        check_installation_without_network(root)


def check_installation_without_network(root: Root) -> None:
    """Install from a folder of wheels into a new environment, as the page says it."""
    download, install = commands("pip", 1)
    root.run(download)
    root.run("python3 -m venv --clear /opt/confpy")
    root.run(f"unshare --net {install}; /opt/confpy/bin/confpy version")
