"""Which container confpy runs in: by the files that an engine mounts, by the control group, by the host name.

Each of them fails alone: rootless Podman has a private control group, a container may have any host name, and one that
shares the namespaces of another has the files of that one.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable

from confpy.stores.docker.containers import Container

_ID = re.compile(r"[/-]([0-9a-f]{64})(?=[/.]|$)", re.MULTILINE)
_SHORT = re.compile("[0-9a-f]{12}")
_MOUNTED = (" /etc/hostname ", " /etc/hosts ", " /etc/resolv.conf ", " /run/.containerenv ")
"""Where engines mount files of a container's own; elsewhere there may be those of others."""
_MARKS = (".dockerenv", "run/.containerenv")


def find_own(root: str = "/", hostname: str | None = None) -> tuple[Callable[[Container], bool], bool]:
    """Return whether a container is the one that confpy runs in, and whether confpy runs in one at all."""
    lines = _read(os.path.join(root, "proc/self/mountinfo")).splitlines()
    mounted = "\n".join(line.split(" - ")[0] for line in lines if any(one in line for one in _MOUNTED))
    grouped = _read(os.path.join(root, "proc/self/cgroup"))
    ids = {*_ID.findall(mounted.replace(" ", "/")), *_ID.findall(grouped)}
    inside = bool(ids) or any(os.path.exists(os.path.join(root, mark)) for mark in _MARKS)
    name = socket.gethostname() if hostname is None else hostname
    short = name if inside and _SHORT.fullmatch(name) else ""

    def is_own(container: Container) -> bool:
        return container.id in ids or (not ids and bool(short) and container.id.startswith(short))

    return is_own, inside


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read(1 << 20)
    except OSError:
        return ""
