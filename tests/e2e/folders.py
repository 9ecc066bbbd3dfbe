"""The self-contained folder for tests. Its Python takes minutes to build: in the background, while other tests run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.running import ROOT

MODULE = "tests/e2e/test_folder.py"
TOOLS = ("apt-get", "dpkg-source", "make", "perl", "python3.11", "readelf", "xz")
BUILD = "import folder; folder.interpreter('glibc', folder.architecture())"
_builders: list[subprocess.Popen[bytes]] = []


def missing() -> str:
    """Say what is missing here to build the folder; empty if nothing is."""
    found = [tool for tool in TOOLS if not shutil.which(tool)]
    return f"these are not installed: {', '.join(found)}; scripts/test installs them" if found else ""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folder's tests last."""
    items.sort(key=lambda item: item.nodeid.startswith(MODULE))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start to build its Python if it is going to be tested.

    Each process of xdist does; all but one wait for that one. A test that needs a build that failed repeats it.
    """
    wanted = any(item.nodeid.startswith(MODULE) for item in session.items)
    if wanted and not session.config.option.collectonly and not missing():
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = ["nice", sys.executable, "-c", BUILD]
        _builders.append(subprocess.Popen(command, cwd=ROOT / "packaging", start_new_session=True, **quiet))


def pytest_unconfigure() -> None:
    """End a build that nobody waits for any more."""
    for builder in _builders:
        with suppress(ProcessLookupError):
            os.killpg(builder.pid, signal.SIGTERM)
        builder.wait()


def build(out: Path) -> Path:
    """Build the folder for this machine and glibc; return its archive."""
    command = [sys.executable, "build.py", "folder", "--out", str(out)]
    ended = subprocess.run(command, cwd=ROOT / "packaging", capture_output=True, text=True, timeout=800, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (archive,) = out.glob("*.tar.gz")
    return archive
