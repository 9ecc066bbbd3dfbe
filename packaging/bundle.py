"""confpy and its libraries in one folder, with their bytecode: what all packages but the wheel are made from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNUSED = ("setuptools", "_distutils_hack", "pkg_resources", "bin", "wrapt-stubs")
"""What the libraries bring and confpy never imports: pbr asks for setuptools, for builds alone."""
LEFT_OUT = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "__pycache__"})
OFTEN_LOADED = ("click", "confpy", "jinja2", "markupsafe", "prometheus_client", "structlog", "watchdog", "yaml")
"""What runs load, and is compiled in the zipapp; the others are for SRV records and for writing to stores."""
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1577836800"))
"""The time of all files (https://reproducible-builds.org/specs/source-date-epoch/); a zip knows none before 1980."""


def wheel(out: Path, python: str = sys.executable) -> Path:
    """Build the wheel into a folder, and return its path."""
    before = set(out.glob("*.whl"))
    _pip(python, "wheel", "--no-deps", "--wheel-dir", str(out), str(ROOT))
    return next(iter(set(out.glob("*.whl")) - before), None) or max(out.glob("confpy-*.whl"))


def libraries(folder: Path, wheel: Path, *, pure: bool, python: str = sys.executable) -> None:
    """Install the wheel and its libraries into a folder, for this Python. ``pure``: nothing that was compiled from C.

    Without C, jinja2 escapes and yaml parses by their own Python; both look the same to confpy.
    """
    _pip(python, "install", "--no-compile", "--target", str(folder), str(wheel))
    for path in [*folder.iterdir()]:
        if path.name in UNUSED or path.name.partition("-")[0] in UNUSED or path.suffix in {".pth", ".txt"}:
            _remove(path)
    for path in [*folder.rglob("*")]:
        is_of_library = path.relative_to(folder).parts[0] != "confpy"
        is_unused = path.name in LEFT_OUT or path.suffix in {".pyi", ".pyx", ".pxd", ".c", ".h"}
        if is_unused or (is_of_library and path.name == "tests") or (pure and path.suffix == ".so"):
            _remove(path)


def compile_all(folders: Iterable[Path], *, beside: bool, python: str = sys.executable) -> None:
    """Compile all modules of these folders. ``beside``: beside the source, where a zip is searched for them.

    The bytecode is not compared with the source: the two come and go together, and no time of a file matters.
    """
    form = ["-b"] if beside else []
    mode = ["--invalidation-mode", "unchecked-hash"]
    # The folder's own name would show in tracebacks.
    paths = [str(folder) for folder in folders]
    names = ["-s", os.path.commonpath([os.path.dirname(path) for path in paths])]
    command = [python, "-m", "compileall", "-q", *form, *mode, *names, *paths]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})


def zipapp(out: Path, wheel: Path, work: Path, python: str = sys.executable) -> Path:
    """Make ``confpy.pyz``, which any Python ≥ 3.11 runs; return its path.

    Its bytecode is of one version of Python; others compile the sources that stand beside it, at each start.
    """
    folder = work / "zipapp"
    libraries(folder, wheel, pure=True, python=python)
    compile_all((folder / name for name in OFTEN_LOADED), beside=True, python=python)
    (folder / "__main__.py").write_text("import sys\n\nfrom confpy.__main__ import main\n\nsys.exit(main())\n")
    path = out / "confpy.pyz"
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for source in files(folder):
                _add(archive, source, str(source.relative_to(folder)))
    path.chmod(0o755)
    return path


def files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, always in the same order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _add(archive: zipfile.ZipFile, source: Path, name: str) -> None:
    import time

    entry = zipfile.ZipInfo(name, time.gmtime(EPOCH)[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, source.read_bytes())


def _pip(python: str, *arguments: str) -> None:
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
