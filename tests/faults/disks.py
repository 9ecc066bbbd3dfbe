"""File systems that a test has for itself, for `with_mounts`: in memory, or in a file, which only root may mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.servers.program import find

ROOT = os.geteuid() == 0
MEGABYTE = 1 << 20


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def in_memory(place: Path) -> None:
    place.mkdir()
    mount("-t", "tmpfs", "none", place)


def ext4(place: Path) -> None:
    _in_a_file(place, 8 * MEGABYTE, "mkfs.ext4", "-q")


def btrfs(place: Path) -> None:
    _in_a_file(place, 128 * MEGABYTE, "mkfs.btrfs", "-q", "--mixed")


def _in_a_file(place: Path, size: int, program: str, *flags: str) -> None:
    place.mkdir()
    image = place.with_suffix(".image")
    image.touch()
    os.truncate(image, size)
    subprocess.run([find(program), *flags, image], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    mount("-o", "loop", image, place)


def supported(name: str) -> bool:
    """Say whether this kernel has a file system."""
    return name in Path("/proc/filesystems").read_text().split()


FILE_SYSTEMS: tuple[Callable[[Path], None], ...] = (in_memory, ext4) if ROOT else (in_memory,)
"""What can be mounted here to try attributes on."""
