"""The Debian package: confpy with its libraries in a folder of its own, for the system's Python."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path

import bundle
import man
from licences import copyright_file
from source import EPOCH, ROOT, mark

from confpy import __version__

HERE = Path(__file__).resolve().parent / "debian"
LIBRARIES = "usr/lib/confpy"
MAINTAINER = (
    f"{os.environ.get('DEBFULLNAME', 'The confpy authors')} <{os.environ.get('DEBEMAIL', 'confpy@confpy.invalid')}>"
)
"""Who answers for this package: who builds it, as Debian's tools are told (dch(1)), else an address that cannot exist
(RFC 2606, 2), since the project has none."""
SHELLS = {
    "bash": "usr/share/bash-completion/completions/confpy",
    "zsh": "usr/share/zsh/vendor-completions/_confpy",
    "fish": "usr/share/fish/vendor_completions.d/confpy.fish",
}
COMMAND = f"""\
#!/usr/bin/python3 -IS
import sys

sys.path.insert(0, "/{LIBRARIES}")

from confpy.__main__ import main

sys.exit(main())
"""
"""Isolated (-I), without the machine's other packages (-S): neither variables nor the folder in which it is called
decide what root's daemon imports."""


def build(out: Path, libraries: Path, work: Path) -> Path:
    """Build the package of a folder of libraries with ``dpkg-deb``, and return its path."""
    root = work / "deb"
    shutil.copytree(libraries, root / LIBRARIES)
    mark(root / LIBRARIES, installed_as="deb")
    _write(root / "usr/bin/confpy", COMMAND, 0o755)
    _write(root / "usr/share/man/man1/confpy.1.gz", _gzip(man.page()))
    for shell, path in SHELLS.items():
        _write(root / path, _completion(shell))
    unit = (ROOT / "examples/systemd/confpy.service").read_text()
    _write(root / "usr/lib/systemd/system/confpy.service", unit)
    for name in ("conf.d", "templates"):
        (root / "etc/confpy" / name).mkdir(parents=True)
    _write(root / "etc/confpy/confpy.toml", (HERE / "confpy.toml").read_text())
    _write(root / "usr/share/python3/runtime.d/confpy.rtupdate", (HERE / "rtupdate").read_text(), 0o755)
    documents = root / "usr/share/doc/confpy"
    _write(documents / "copyright", _move_licences(root / LIBRARIES))
    _write(documents / "changelog.gz", _gzip(_changelog()))
    _write(documents / "NEWS.gz", _gzip((ROOT / "CHANGELOG.md").read_text()))
    size = sum(path.stat().st_size for path in bundle.files(root)) // 1024
    control = (HERE / "control").read_text().format(version=__version__, size=size, maintainer=MAINTAINER)
    _write(root / "DEBIAN/control", control)
    _write(root / "DEBIAN/conffiles", "/etc/confpy/confpy.toml\n")
    _write(root / "DEBIAN/md5sums", _sums(root))
    for name in ("postinst", "prerm", "postrm"):
        _write(root / "DEBIAN" / name, (HERE / name).read_text(), 0o755)
    path = out / f"confpy_{__version__}_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(path)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    for one in [root, *root.rglob("*")]:
        if one.is_dir():
            one.chmod(0o755)
        os.utime(one, (EPOCH, EPOCH))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return path


def _completion(shell: str) -> str:
    """Return what ``confpy completion SHELL`` prints."""
    command = [sys.executable, "-m", "confpy", "completion", shell]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout


def _move_licences(libraries: Path) -> str:
    """Take licences, and what else is of no use to Python, from the metadata; return the copyright file."""
    text = copyright_file(libraries, LIBRARIES, (ROOT / "LICENSE").read_text())
    for metadata in libraries.glob("*.dist-info"):
        for path in metadata.iterdir():
            if path.name not in {"METADATA", "WHEEL"}:
                bundle.remove(path)
    return text


def _changelog() -> str:
    date = formatdate(EPOCH)
    return (
        f"confpy ({__version__}) unstable; urgency=medium\n\n  * See /usr/share/doc/confpy/NEWS.gz.\n\n"
        f" -- {MAINTAINER}  {date}\n"
    )


def _sums(root: Path) -> str:
    names = (path for path in bundle.files(root) if "DEBIAN" not in path.parts)
    return "".join(f"{_md5(path)}  {path.relative_to(root)}\n" for path in names)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _gzip(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def _write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
