"""The file of the stamps: what targets had when they were last read, for the next start.

It is never flushed to disk: whatever is wrong with it, its targets are read. It counts for one boot only, since a power
cut may leave a file its times and take away what was written to it.
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from struct import Struct

from confpy.system.disk import Disk
from confpy.system.ownership import is_trusted
from confpy.target.stamps import FIELDS, KEY, SEAL, Stamps

NAME = "stamps"
HEAD = b"confpy stamps 1\n"
"""Its last character but one is the version of the format."""
CHECK = 32
"""Bytes of the digest of all that follows it: a torn file has another."""
PREFIX = Struct(f"<{KEY}s36sI")
"""The key, the boot, and the number of entries: these follow, then their paths, each ended by a null byte."""
SIZE = FIELDS.size + SEAL
FEW = 64
"""Targets that are read faster than the file is written."""
LARGEST = 64 << 20
"""Bytes. A larger file was not written by confpy."""


def load(folder: str, disk: Disk) -> Stamps:
    """Return the stamps that are saved in a state folder; none if they are missing or in doubt."""
    try:
        path = os.path.join(folder, NAME)
        status = disk.find(path) if folder else None
        if status is not None and _is_private(status) and status.st_size <= LARGEST:
            content, status = disk.read_version(path)
            if _is_private(status) and (found := decode(content, disk.boot())) is not None:
                return Stamps(disk, *found)
    except OSError:
        pass
    return Stamps(disk)


def save(stamps: Stamps, folder: str, disk: Disk, fewest: int = FEW) -> None:
    """Save stamps in a state folder if so many were learned: else reading the targets again costs less."""
    if not folder or stamps.learned < fewest:
        return
    try:
        boot, entries = disk.boot(), dict(stamps.entries())
        content = encode(stamps.key, boot, entries)
        if boot and len(content) <= LARGEST:
            disk.write_file(os.path.join(folder, NAME), content, durable=False)
    except OSError:
        pass  # the targets are read


def encode(key: bytes, boot: str, entries: dict[str, bytes]) -> bytes:
    """Return the content of the file."""
    paths = (os.fsencode(path) + b"\0" for path in entries)
    rest = PREFIX.pack(key, boot.encode(), len(entries)) + b"".join((*entries.values(), *paths))
    return HEAD + blake2b(rest, digest_size=CHECK).digest() + rest


def decode(content: bytes, boot: str) -> tuple[bytes, dict[str, bytes]] | None:
    """Return the key and the entries, None if they are in doubt: torn, of another version, or of another boot."""
    begin = len(HEAD) + CHECK
    rest = content[begin:]
    if not content.startswith(HEAD) or content[len(HEAD) : begin] != blake2b(rest, digest_size=CHECK).digest():
        return None
    if len(rest) < PREFIX.size:
        return None
    key, of, count = PREFIX.unpack_from(rest)
    if not boot or of != boot.encode():
        return None
    end = PREFIX.size + count * SIZE
    paths = os.fsdecode(rest[end:]).split("\0")
    found = [rest[place : place + SIZE] for place in range(PREFIX.size, end, SIZE)]
    return (key, dict(zip(paths, found, strict=False))) if len(paths) == count + 1 else None


def _is_private(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and is_trusted(status) and not status.st_mode & (stat.S_IRGRP | stat.S_IROTH)
