"""Images for tests: there is no registry, so that they are made of what this machine has."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.servers.docker import Docker, busybox_root
from tests.servers.program import find

C_LIBRARY = ("libc", "libdl", "libm", "libpthread", "libresolv", "librt", "libutil", "libnss_dns", "libnss_files")
"""What each machine has of glibc; the files of some are empty since 2.34, and still asked for by older programs."""
HAPROXY_TEMPLATE = """\
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend web
  bind :8080
  http-request return status 200 content-type text/plain string "{{ getv('/web/text') }}"
"""
"""A HAProxy whose answer is a key of the store."""


def root_with(folder: Path, *programs: str) -> Path:
    """Fill a folder with a shell, a C library, and programs of this machine with what they ask for; returns it."""
    busybox_root(folder)
    asked = _libraries(find("ls"))
    (library,) = (path for path in asked if path.name.startswith("libc.so"))
    asked += (path for name in C_LIBRARY for path in library.parent.glob(f"{name}.so.[0-9]*"))
    for program in programs:
        _copy(Path(find(program)), folder / "usr" / "local" / "bin" / program)
        asked += _libraries(find(program))
    for path in asked:
        _copy(path, folder / str(path).lstrip("/"))
    for name in ("etc", "proc", "run", "var"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    return folder


def _libraries(binary: str) -> list[Path]:
    """Return the libraries that a program asks for, and their loader."""
    asked = subprocess.run(["ldd", binary], check=True, capture_output=True, text=True, timeout=30).stdout
    return [Path(library) for library in re.findall(r"(/\S+) \(0x", asked)]


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
