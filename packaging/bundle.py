"""confpy and its libraries in one folder, with their bytecode: what all packages but the wheel are made from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from source import EPOCH, mark

UNUSED = ("setuptools", "_distutils_hack", "pkg_resources", "bin", "wrapt-stubs")
"""What the libraries bring and confpy never imports: pbr asks for setuptools, for builds alone."""
LEFT_OUT = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "__pycache__"})
OFTEN_LOADED = ("click", "confpy", "jinja2", "markupsafe", "prometheus_client", "structlog", "watchdog", "yaml")
"""What runs load, and is compiled in the zipapp; the others are for SRV records and for writing to stores."""


def libraries(folder: Path, wheel: Path) -> None:
    """Install the wheel and its libraries into a folder, without what was compiled from C for one Python.

    jinja2 then escapes, and yaml parses, by Python of their own; both look the same to confpy. The ``RECORD`` of each
    still lists what was left out.
    """
    pip("install", "--no-compile", "--target", str(folder), str(wheel))
    for path in [*folder.iterdir()]:
        if path.name in UNUSED or path.name.partition("-")[0] in UNUSED or path.suffix in {".pth", ".txt"}:
            remove(path)
    for path in [*folder.rglob("*")]:
        is_of_library = path.relative_to(folder).parts[0] != "confpy"
        is_unused = path.name in LEFT_OUT or path.suffix in {".so", ".pyi", ".pyx", ".pxd", ".c", ".h"}
        if is_unused or (is_of_library and path.name == "tests"):
            remove(path)
    for path in folder.rglob("*.py"):
        # Modules are not executable, and the interpreter that some name ("python") is not on each machine.
        if (content := path.read_bytes()).startswith(b"#!"):
            path.write_bytes(b"#" + content[content.index(b"\n") :])


def compile_beside(folder: Path, names: Iterable[str]) -> None:
    """Compile these packages of a folder, each module beside its source: a zip is searched for bytecode there.

    The bytecode is not compared with the source: the two come and go together, and no time of a file matters.
    """
    # -s: the folder, which is gone later, would show in tracebacks.
    options = ["-q", "-b", "--invalidation-mode", "unchecked-hash", "-s", str(folder)]
    command = [sys.executable, "-m", "compileall", *options, *(str(folder / name) for name in names)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})


def zipapp(out: Path, libraries: Path, work: Path) -> Path:
    """Make ``confpy.pyz`` of a folder of libraries, which any Python ≥ 3.11 runs; return its path.

    Its bytecode is of one version of Python; others compile the sources that stand beside it, at each start.
    """
    folder = work / "zipapp"
    shutil.copytree(libraries, folder)
    mark(folder, installed_as="zipapp")
    compile_beside(folder, OFTEN_LOADED)
    (folder / "__main__.py").write_text("import sys\n\nfrom confpy.__main__ import main\n\nsys.exit(main())\n")
    path = out / "confpy.pyz"
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for source in (path for path in files(folder) if path.name != "RECORD"):
                _add(archive, source, str(source.relative_to(folder)))
    path.chmod(0o755)
    return path


def files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, always in the same order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _add(archive: zipfile.ZipFile, source: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, time.gmtime(EPOCH)[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, source.read_bytes())


def pip(*arguments: str) -> None:
    """Run pip, quietly."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
