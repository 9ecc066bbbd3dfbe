"""Images for tests: there is no registry, so that they are made of what this machine has."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.servers.docker import Docker, busybox_root
from tests.servers.program import find


def root_with(folder: Path, *programs: str) -> Path:
    """Fill a folder with a shell, and programs of this machine with the libraries that they ask for; returns it."""
    busybox_root(folder)
    for program in programs:
        found = Path(find(program)).resolve()
        _copy(found, folder / "usr" / "local" / "bin" / program)
        asked = subprocess.run(["ldd", found], check=True, capture_output=True, text=True, timeout=30).stdout
        for library in re.findall(r"(/\S+) \(0x", asked):
            _copy(Path(library), folder / library.lstrip("/"))
    for name in ("etc", "proc", "run", "var"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    return folder


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.resolve(), target)


def added_size(engine: Docker, image: str, base: str, folder: Path) -> int:
    """Return the bytes of the layers that an image adds to its base, compressed as a registry keeps them."""
    own, below = (
        engine.call("image", "inspect", "--format={{len .RootFS.Layers}}", one).stdout for one in (image, base)
    )
    archive = folder / "image.tar"
    engine.call("save", f"--output={archive}", image)
    subprocess.run(["tar", "-C", folder, "-xf", archive], check=True, timeout=100)
    manifest = (folder / "manifest.json").read_text()
    layers = re.findall(r'"([^"]+/layer\.tar|blobs/sha256/[^"]+)"', manifest.partition('"Layers"')[2])
    assert len(layers) == int(own), manifest
    return sum(_compressed(folder / layer) for layer in layers[int(below) :])


def _compressed(path: Path) -> int:
    return len(subprocess.run(["gzip", "-c", path], check=True, capture_output=True, timeout=100).stdout)
