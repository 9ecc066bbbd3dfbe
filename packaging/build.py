"""Build confpy's packages: ``scripts/package KIND... [--out DIR]``."""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path

import bundle
import deb
import folder
import source

KINDS = ("wheel", "sdist", "zipapp", "deb", "folder")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/package", description="Build packages of confpy.")
    parser.add_argument("kinds", nargs="+", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--out", type=Path, default=source.ROOT / "dist", help="folder to write them to (dist)")
    parser.add_argument("--libc", choices=sorted(folder.LIBCS), default="glibc", help="of a folder (glibc)")
    parser.add_argument("--arch", choices=sorted(folder.MACHINES), help="of a folder (this machine's)")
    arguments = parser.parse_args()
    os.umask(0o022)  # modes are part of the packages, and not the builder's affair
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        copied = source.copy(work / "source")
        wheel = source.wheel(arguments.out if "wheel" in arguments.kinds else work, copied)
        if "wheel" in arguments.kinds:
            _say(wheel)
        if "sdist" in arguments.kinds:
            _say(source.sdist(arguments.out, source.copy(work / "sdist"), wheel))
        of_target = partial(folder.build, libc=arguments.libc, arch=arguments.arch)
        makers = {"zipapp": bundle.zipapp, "deb": deb.build, "folder": of_target}
        makers = {kind: make for kind, make in makers.items() if kind in arguments.kinds}
        if makers:
            bundle.libraries(work / "libraries", wheel)
        for make in makers.values():
            _say(make(arguments.out, work / "libraries", work))


def _say(path: Path) -> None:
    print(f"{path} {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
