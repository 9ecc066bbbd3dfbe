"""The packages that ``scripts/package`` builds, installed as a user would install them, and used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.packages import built

KIB = 1024

pytestmark = pytest.mark.timeout(300)  # the first test builds the packages, whose libraries are fetched


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the zipapp."""
    return built("zipapp")


@pytest.fixture
def confdir(tmp_path) -> Path:
    for name, text in {
        "conf.d/web.toml": f'[template]\nsrc = "web.j2"\ndest = "{tmp_path}/web.conf"\nkeys = ["/web"]\n',
        "templates/web.j2": "listen {{ getv('/web/port') }}\n",
    }.items():
        path = tmp_path / "confdir" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "confdir"


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command in an environment without a trace of this one; return what it prints."""
    clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(env or {})}
    ended = subprocess.run(command, env=clean, cwd="/", capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def delivers(confpy: list[str | Path], confdir: Path) -> bool:
    """Say whether this command renders a file from the environment."""
    state = ("-state-dir", confdir.parent / "state", "-cache-dir", confdir.parent / "cache")
    run(*confpy, "-onetime", "-backend", "env", "-confdir", confdir, *state, env={"WEB_PORT": "8080"})
    return (confdir.parent / "web.conf").read_text() == "listen 8080\n"


def test_the_zipapp_needs_nothing_but_python(packages, confdir):
    assert (packages / "confpy.pyz").stat().st_size < 6 * KIB * KIB
    # Isolated, and without the folders of installed packages.
    python = [sys.executable, "-IS"]
    assert delivers([*python, packages / "confpy.pyz"], confdir)
    run(*python, packages / "confpy.pyz", "init", "haproxy", confdir.parent / "new")
    run(*python, packages / "confpy.pyz", "check", "-confdir", confdir.parent / "new")
    about = json.loads(run(*python, packages / "confpy.pyz", "version", "-json"))
    assert (about["installed_as"], about["path"]) == ("zipapp", f"{packages}/confpy.pyz/confpy")
    loaded = "import sys; sys.path.insert(0, sys.argv[1]); import etcd3gw, consul, watchdog.observers, yaml, structlog"
    run(*python, "-c", loaded, packages / "confpy.pyz")
