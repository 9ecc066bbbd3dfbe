"""The self-contained folder: confpy with its libraries and a Python of its own, for images and hosts that have none."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import bundle
from source import EPOCH, ROOT, mark

from confpy import __version__

HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "python"
"""Sources, compiler, and the Pythons that were built; may be removed at any time, and must be for newer sources."""
RELEASE = "bookworm"
SOURCES = ("python3.11", "openssl", "zlib", "libffi")
PYTHON = "python3.11"
"""What runs during the build, and compiles modules to bytecode: a Python of the same version as the sources."""
ZIG = "ziglang==0.17.1"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
LIBCS = {"glibc": "linux-gnu.2.28", "musl": "linux-musl"}
"""What zig calls them. 2.28 is the glibc of Debian 10 and RHEL 8; confpy makes calls that older ones do not have."""
NOT_TAKEN = (
    "ctypes/test", "curses", "dbm", "distutils", "ensurepip", "idlelib", "lib2to3", "msilib", "pydoc_data",
    "site-packages", "sqlite3", "test", "tkinter", "turtledemo", "unittest/test", "venv", "xmlrpc",
)  # fmt: skip
"""Folders of Python's library by which nothing of confpy's works."""


def architecture() -> str:
    """Return what Debian calls this machine; raises ``SystemExit`` for one that the folder is not built for."""
    for name, machine in MACHINES.items():
        if machine == platform.machine():
            return name
    sys.exit(f"scripts/package: there is no folder for {platform.machine()}: name one with --arch")


def build(out: Path, libraries: Path, work: Path, *, libc: str, arch: str | None) -> Path:
    """Build the folder, and return the path of its archive: ``confpy/bin/confpy`` and all that it needs but a libc.

    ``arch``: this machine's if it is ``None``.
    """
    arch = arch or architecture()
    python = interpreter(libc, arch)
    folder = work / f"{libc}-{arch}" / "confpy"
    (folder / "bin").mkdir(parents=True)
    shutil.copy(python / "confpy", folder / "bin")
    (folder / "bin" / "python").symlink_to("confpy")
    shutil.copytree(libraries, folder / "lib")
    mark(folder / "lib", installed_as="folder")
    shutil.copytree(python / "lib", folder / "lib", dirs_exist_ok=True)
    shutil.copytree(python / "licences", folder / "licences")
    compile_all(folder / "lib")
    path = out / f"confpy-{__version__}-{libc}-{arch}.tar.gz"
    _archive(folder, path)
    return path


def compile_all(folder: Path) -> None:
    """Compile each module of a folder, and remove its source: tracebacks name lines, and do not show them."""
    options = ["-q", "-b", "--invalidation-mode", "unchecked-hash", "-s", str(folder)]
    subprocess.run([PYTHON, "-ISm", "compileall", *options, str(folder)], check=True)
    for source in folder.rglob("*.py"):
        source.unlink()


def interpreter(libc: str, arch: str) -> Path:
    """Return a folder with Python: ``confpy``, its executable, ``lib`` and ``licences``.

    It is built for the first caller, which takes four minutes on two cores, and kept for those that ask again.
    """
    target = f"{MACHINES[arch]}-{LIBCS[libc]}"
    made = CACHE / f"{target}-{recipe()}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(made, target)
    return made


def recipe() -> str:
    """Return a name for all that a build depends on but the sources."""
    parts = [RELEASE, ZIG, *NOT_TAKEN, *((HERE / name).read_text() for name in ("launcher.c", "python.sh"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _make(made: Path, target: str) -> None:
    sources, work = _sources(), CACHE / "work"
    shutil.rmtree(work, ignore_errors=True)
    zig = {"ZIG": str(_zig()), "ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig"), "ZIG_LOCAL_CACHE_DIR": str(CACHE / "zig")}
    # Debian's own first: it is of the very version of the sources.
    python = shutil.which(PYTHON, path=f"/usr/bin:{os.environ['PATH']}") or PYTHON
    environment = {**os.environ, **zig, "PYTHON": python}
    subprocess.run([HERE / "python.sh", sources, target, work], check=True, env=environment)
    shutil.copytree(
        sources / PYTHON / "Lib", work / "lib", ignore=lambda folder, names: _ignored(sources, folder, names)
    )
    (work / "licences").mkdir()
    for name in SOURCES:
        shutil.copy(sources / name / "debian" / "copyright", work / "licences" / name)
    ready = made.with_suffix(".new")
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir()
    for name in ("confpy", "lib", "licences"):
        (work / name).rename(ready / name)
    ready.rename(made)
    shutil.rmtree(work)


def _ignored(sources: Path, folder: str, names: list[str]) -> set[str]:
    inside = Path(folder).relative_to(sources / PYTHON / "Lib")
    return {name for name in names if str(inside / name) in NOT_TAKEN or name == "__pycache__"}


def _zig() -> Path:
    """Return the compiler, from Python's package index."""
    folder = CACHE / ZIG
    if not folder.exists():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        bundle.pip("install", "--no-compile", "--target", str(new), ZIG)
        new.rename(folder)
    return folder / "ziglang" / "zig"


def _sources() -> Path:
    """Return a folder with the unpacked sources, from this machine's mirrors; its apt is not changed."""
    folder, new = CACHE / "sources", CACHE / "sources.new"
    if folder.exists():
        return folder
    stable, updates = _mirrors("Debian", RELEASE), _mirrors("Debian-Security", f"{RELEASE}-security")
    try:
        _fetch(new, [*stable, *updates])
    except subprocess.CalledProcessError:
        if not updates:
            raise
        # A mirror may list what it does not have yet.
        print("scripts/package: fetching sources without the latest security updates", file=sys.stderr)
        _fetch(new, stable)
    for name in SOURCES:
        (unpacked,) = (path for path in new.glob(f"{name}-*") if path.is_dir())
        unpacked.rename(new / name)
    for path in new.iterdir():
        if path.is_file():
            path.unlink()
    new.rename(folder)
    return folder


def _fetch(folder: Path, mirrors: list[str]) -> None:
    """Download the sources and unpack them into a new folder. Raises ``CalledProcessError``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        apt = Path(name)
        for one in (apt / "lists" / "partial", apt / "cache" / "archives" / "partial"):
            one.mkdir(parents=True)
        (apt / "sources.list").write_text("".join(mirrors))
        own = (
            f"Dir::Etc::SourceList={apt}/sources.list", "Dir::Etc::SourceParts=/dev/null",
            f"Dir::State::Lists={apt}/lists", f"Dir::Cache={apt}/cache", "APT::Sandbox::User=root",
            "Acquire::Languages=none",
        )  # fmt: skip
        options = ("-qq", *(f"-o{option}" for option in own))
        subprocess.run(["apt-get", *options, "update"], check=True)
        # The lists are signed, and have the digests of the sources.
        subprocess.run(["apt-get", *options, "source", *SOURCES], check=True, cwd=folder, stdout=subprocess.DEVNULL)


def _mirrors(label: str, suite: str) -> list[str]:
    """Return a line of sources.list for a mirror of this machine's apt; none where it has none of this kind."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Label: {label}"]
    found = subprocess.run([*command, "Component: main"], check=True, capture_output=True, text=True).stdout.split()
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return [f"deb-src [signed-by={key}] {found[0]} {suite} main\n"] if found else []


def _archive(folder: Path, path: Path) -> None:
    """Write a folder to a compressed archive, as root's, with one time for all: the same bytes each time."""

    def entry(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mtime = EPOCH
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, EPOCH) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for one in [folder, *sorted(folder.rglob("*"))]:
            archive.add(one, str(one.relative_to(folder.parent)), recursive=False, filter=entry)
