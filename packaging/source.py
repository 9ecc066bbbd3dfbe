"""The checkout as packages are made from it: a clean copy that says from which commit, and its sdist and wheel.

The same commit gives the same bytes (https://reproducible-builds.org): all times are ``EPOCH``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from confpy import __version__

ROOT = Path(__file__).resolve().parent.parent
NO_SOURCES = frozenset(
    {".cache", ".git", ".hypothesis", ".mypy_cache", ".ruff_cache", ".venv", "__pycache__", "build", "dist"}
)
"""What a checkout without git may have beside its sources."""
BUILD = "confpy/build.json"
"""What ``confpy version`` reads."""


def git(*arguments: str) -> str | None:
    """Return what git says of the checkout; ``None`` if this is none, such as an sdist, or there is no git."""
    try:
        ended = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return ended.stdout if ended.returncode == 0 and (ROOT / ".git").exists() else None


EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct") or 1577836800)
"""The time of all files, in seconds: that of the commit, unless the builder says another one; a zip has none before
1980."""


def copy(folder: Path) -> Path:
    """Copy the sources into a folder, and note there from which commit they are; returns it."""
    for name in _names():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        target.chmod(0o755 if os.access(ROOT / name, os.X_OK) else 0o644)
    if commit := revision():
        mark(folder, revision=commit)
    return folder


def revision() -> str | None:
    """Return the commit, with a "+" if files differ from it; ``None`` if it is not known."""
    if built := (ROOT / BUILD).exists() and json.loads((ROOT / BUILD).read_text()):
        return str(built["revision"])
    commit = git("rev-parse", "HEAD")
    return commit and commit.strip() + ("+" if git("status", "--porcelain") else "")


def mark(folder: Path, **said: str) -> None:
    """Add to what ``confpy version`` tells of the confpy in this folder."""
    path = folder / BUILD
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **said}) + "\n")


def wheel(out: Path, source: Path) -> Path:
    """Build the wheel of a copy into a folder, and return its path."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    subprocess.run([*command, "--wheel-dir", str(out), str(source)], check=True, env=environment)
    return out / f"confpy-{__version__}-py3-none-any.whl"


def sdist(out: Path, source: Path, wheel: Path) -> Path:
    """Make the sdist of a copy in a folder; returns its path.

    It is the whole checkout, tests and scripts too, and the metadata of the wheel
    (https://packaging.python.org/en/latest/specifications/source-distribution-format/).
    """
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"confpy-{__version__}.dist-info/METADATA")
    name = f"confpy-{__version__}"
    path = out / f"{name}.tar.gz"
    files = {str(path.relative_to(source)): path for path in sorted(source.rglob("*")) if path.is_file()}
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=EPOCH) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        _add(archive, f"{name}/PKG-INFO", metadata)
        for relative, one in files.items():
            _add(archive, f"{name}/{relative}", one.read_bytes(), one.stat().st_mode & 0o777)
    return path


def _names() -> list[str]:
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is not None:
        return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    names = (path for path in found if not NO_SOURCES.intersection(path.parts) and path.name != "PKG-INFO")
    return sorted(str(path) for path in names if ".egg-info" not in str(path))


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), mode, EPOCH
    archive.addfile(entry, io.BytesIO(content))
