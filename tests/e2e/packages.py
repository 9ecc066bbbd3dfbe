"""The packages that ``scripts/package`` makes of this checkout: built once, shared by all tests."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.running import ROOT

CACHE = ROOT / ".cache" / "packages"
SOURCES = ("confpy", "packaging", "examples", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
"""What packages are made of."""


def built(*kinds: str) -> Path:
    """Return a folder with these packages; the first call builds them, and removes older ones."""
    folder = CACHE / _state()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for other in CACHE.iterdir():
            if other.is_dir() and other != folder:
                shutil.rmtree(other)
        if missing := [kind for kind in kinds if not (folder / kind).exists()]:
            build(*missing, out=folder)
            for kind in missing:
                (folder / kind).touch()
    return folder


def build(*kinds: str, out: Path) -> None:
    """Build packages into a folder; fails with what was said."""
    command = [sys.executable, "build.py", *kinds, "--out", str(out)]
    ended = subprocess.run(command, cwd=ROOT / "packaging", check=False, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _state() -> str:
    """Return a digest of all that packages are made of, and of the Python that makes them."""
    digest = hashlib.sha256(sys.version.encode())
    for name in SOURCES:
        for path in sorted([*(ROOT / name).rglob("*"), ROOT / name]):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
