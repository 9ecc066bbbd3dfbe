"""Images of confpy, HAProxy and etcd, each for a container of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.servers.docker import Docker, busybox_root
from tests.servers.images import root_with

ROOT = Path(__file__).parents[2]
FETCHED_HAPROXY = ROOT / ".cache" / "haproxy"
USER = 10001
IMAGE_PATH = "/usr/local/bin:/usr/bin:/bin"

CONFPY_VOLUMES = [
    f"{source}:{target}:ro"
    for source, target in {
        "/usr/lib": "/usr/lib",
        "/usr/lib64": "/usr/lib64",
        sys.base_prefix: "/opt/python",
        sysconfig.get_path("purelib"): "/opt/libraries",
        str(ROOT / "confpy"): "/opt/package/confpy",
    }.items()
    if Path(source).exists()
]
"""What the containers of ``import_confpy`` get of this machine, so that no image has a copy of Python."""
CONFPY = """#!/bin/sh
export PYTHONPATH=/opt/package:/opt/libraries PYTHONDONTWRITEBYTECODE=1
exec /opt/python/{python} -m confpy "$@"
"""


def import_confpy(engine: Docker, name: str, folder: Path) -> None:
    """Make an image of confpy for user 10001, whose containers need ``CONFPY_VOLUMES``."""
    root = busybox_root(folder)
    python = os.path.relpath(os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix))
    program = root / "bin" / "confpy"
    program.write_text(CONFPY.format(python=python))
    program.chmod(0o755)
    interpreter = root / "bin" / "python3"
    interpreter.write_text(f'#!/bin/sh\nexec /opt/python/{python} "$@"\n')
    interpreter.chmod(0o755)
    for link in ("lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    for path in ("etc/confpy", "var/lib/confpy", "var/cache/confpy", "run", "proc", "opt"):
        (root / path).mkdir(parents=True)
    for path in ("var/lib/confpy", "var/cache/confpy"):
        os.chown(root / path, USER, USER)
    _import_as_is(engine, name, root, "USER 10001:10001", 'ENTRYPOINT ["confpy"]')


def import_haproxy(engine: Docker, name: str, folder: Path) -> None:
    """Make an image of the newest HAProxy that is here."""
    if not FETCHED_HAPROXY.exists():
        engine.import_image(name, root_with(folder, "haproxy"))
        return
    root = busybox_root(folder)
    shutil.copytree(FETCHED_HAPROXY, root / "opt" / "haproxy", symlinks=True)
    program = root / "bin" / "haproxy"
    program.write_text('#!/bin/sh\nexec /opt/haproxy/haproxy "$@"\n')
    program.chmod(0o755)
    (root / "run").mkdir()
    engine.import_image(name, root)


def import_etcd(engine: Docker, name: str, folder: Path) -> None:
    """Make an image of etcd for user 10001, with a folder for its data."""
    root = root_with(folder, "etcd", "etcdctl")
    (root / "data").mkdir(mode=0o700)
    os.chown(root / "data", USER, USER)
    _import_as_is(engine, name, root, "USER 10001:10001", "ENV ETCDCTL_API=3")


def _import_as_is(engine: Docker, name: str, root: Path, *changes: str) -> None:
    """Import a root with the owners that its folders have."""
    tar = root.with_suffix(".tar")
    subprocess.run(["tar", "-C", root, "-cf", tar, "."], check=True, timeout=100)
    engine.import_image(name, tar, f"ENV PATH={IMAGE_PATH}", *changes)
    tar.unlink()
