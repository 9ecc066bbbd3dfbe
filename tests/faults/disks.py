"""File systems that a test has for itself, for `with_mounts`: in memory, or in a file, which only root may mount."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.run_as_user import NotAllowedHere
from tests.servers.program import find

ROOT = os.geteuid() == 0
MEGABYTE = 1 << 20


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def in_memory(place: Path, kilobytes: int = 1024) -> Path:
    place.mkdir()
    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "none", place)
    return place


def ext4(place: Path) -> None:
    _in_a_file(place, 8 * MEGABYTE, "mkfs.ext4", "-q")


def with_quota(place: Path, kilobytes: int = 2048) -> None:
    """Mount a Btrfs, which copies on write; all that is in its one folder, ``place``, may take so much room."""
    above = place.with_suffix(".all")
    _in_a_file(above, 128 * MEGABYTE, "mkfs.btrfs", "-q", "--mixed")
    for words in (("quota", "enable"), ("subvolume", "create"), ("qgroup", "limit", f"{kilobytes}k")):
        over = above if words[0] == "quota" else above / "v"
        subprocess.run([find("btrfs"), *words, over], check=True, capture_output=True)
    place.mkdir()
    mount("--bind", above / "v", place)


def fill(place: Path) -> None:
    """Take the last byte of a disk or of a quota."""
    with open(place / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(os.urandom(4096))


def make_room(place: Path) -> None:
    """Take back what ``fill`` took: room that was let go of counts when the file system has settled."""
    (place / "filler").unlink()
    subprocess.run(["sync", "-f", place], check=True)


def _in_a_file(place: Path, size: int, program: str, *flags: str) -> None:
    place.mkdir()
    image = place.with_suffix(".image")
    image.touch()
    os.truncate(image, size)
    subprocess.run([find(program), *flags, image], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True).returncode:
        raise NotAllowedHere("no file can be mounted as a disk here (mount -o loop)")


def supported(name: str) -> bool:
    """Say whether this kernel has a file system."""
    return name in Path("/proc/filesystems").read_text().split()


FILE_SYSTEMS: tuple[Callable[[Path], object], ...] = (in_memory, ext4) if ROOT else (in_memory,)
"""What can be mounted here to try attributes on."""
