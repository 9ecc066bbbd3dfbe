"""What a HAProxy has taken: the content that it last read, or was changed to, and which worker that was.

The next plan is made against it. It is kept in the state folder, without keys, one file for each socket; a file that is
lost, torn or of another worker costs a reload, and never leads to a wrong plan.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import blake2b, sha256
from typing import Any

from confpy.frozen import NOTHING, fields, frozen
from confpy.haproxy.values import Left
from confpy.system.disk import Disk
from confpy.system.ownership import is_trusted

HEAD = b"confpy haproxy 1\n"
"""Its last character but one is the version of the format."""
CHECK = 32
"""Bytes of the digest of all that follows it."""
SECRET = b"PRIVATE KEY"
"""What a file of this kind is not kept for: of its content the digest is enough to see a change."""
LARGEST = 256 << 20
"""Bytes. A larger file was not written by confpy."""


@frozen
class Worker:
    """A process that answers on a socket."""

    boot: str
    """Which start of the machine it lives in."""
    pid: int
    """Its number, as it sees it itself."""
    start: float
    """When it was started, in seconds of ``RuntimePorts.seconds``."""
    slack: float = 0.0
    """Seconds that this may be off: its answer took some time."""


@frozen
class Taken:
    """What a worker has taken."""

    worker: Worker
    digests: Mapping[str, str]
    """Target → the digest of its content; a target without a file is not in it."""
    files: Mapping[str, bytes]
    """Target → its content, where that is kept."""
    begun: Mapping[str, bytes] = NOTHING
    """Target → the content that a plan was leading to when it was cut off, where that is another; empty: it was not."""
    offset: float = 0.0
    """What a clock of seconds since 1970 was ahead of ``RuntimePorts.seconds``: another one was set since."""
    left: tuple[Left, ...] = ()
    """Servers that stay in maintenance, as they have connections."""


def digest(content: bytes) -> str:
    """Return what tells a content from others."""
    return sha256(content).hexdigest()


def is_kept(content: bytes) -> bool:
    """Return whether a content may stand in the state folder."""
    return SECRET not in content


class TakenFolder:
    """The records of all sockets, in a folder of the state folder; without one, in memory alone."""

    def __init__(self, folder: str, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._known: dict[str, tuple[bytes, Taken | None]] = {}
        """Socket → the identity of its file, empty if there is none, and what is in it."""
        self.compared: set[str] = set()
        """Sockets whose worker was compared with its files as a whole in this run."""

    def get(self, socket: str) -> Taken | None:
        """Return what is recorded of a socket; None: nothing that can be used."""
        known = self._known.get(socket)
        if not self._folder:
            return known[1] if known is not None else None
        try:
            path = self._path(socket)
            status = self._disk.find(path)
            if status is None:
                return known[1] if known is not None and not known[0] else None
            if not is_trusted(status) or status.st_size > LARGEST:
                return None
            if known is not None and known[0] == _identity(status):
                return known[1]
            content, status = self._disk.read_version(path)
        except OSError:
            return None
        taken = decode(content)
        self._known[socket] = _identity(status), taken
        return taken

    def put(self, socket: str, taken: Taken) -> None:
        """Record it, for later runs as far as that is possible. It outlives this process, but not a power cut."""
        self._known[socket] = b"", taken
        if not self._folder:
            return
        try:
            self._disk.make_folder(self._folder)
            self._disk.write_file(self._path(socket), encode(socket, taken), durable=False)
            if (status := self._disk.find(self._path(socket))) is not None:
                self._known[socket] = _identity(status), taken
        except OSError:
            # An older one would lead to a wrong plan.
            self._disk.discard(self._path(socket))

    def forget(self, socket: str) -> None:
        """Record that what it has taken is not known."""
        self._known.pop(socket, None)
        if self._folder:
            self._disk.discard(self._path(socket))

    def _path(self, socket: str) -> str:
        return os.path.join(self._folder, sha256(socket.encode("utf-8", "surrogateescape")).hexdigest()[:32])


def _identity(status: os.stat_result) -> bytes:
    """Return what another version of a file does not share: each is written as a new file."""
    return b"%d %d %d %d" % (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)


def encode(socket: str, taken: Taken) -> bytes:
    """Return the content of a record's file."""
    names = [name for name, content in taken.files.items() if is_kept(content)]
    begun = [(name, content if is_kept(content) else b"") for name, content in taken.begun.items()]
    head = {
        "socket": socket,
        "worker": [*fields(taken.worker).values()],
        "digests": dict(taken.digests),
        "files": [[name, len(taken.files[name])] for name in names],
        "begun": [[name, len(content)] for name, content in begun],
        "offset": taken.offset,
        "left": [fields(one) for one in taken.left],
    }
    contents = [*(taken.files[name] for name in names), *(content for _, content in begun)]
    rest = b"".join((json.dumps(head).encode(), b"\n", *contents))
    return HEAD + blake2b(rest, digest_size=CHECK).digest() + rest


def decode(written: bytes) -> Taken | None:
    """Return what ``encode`` has written; None if it is torn, or of another version."""
    rest = written[len(HEAD) + CHECK :]
    if written[: len(HEAD)] != HEAD or written[len(HEAD) : -len(rest)] != blake2b(rest, digest_size=CHECK).digest():
        return None
    line, _, content = rest.partition(b"\n")
    try:
        head: dict[str, Any] = json.loads(line)
        parts: list[dict[str, bytes]] = []
        place = 0
        for part in ("files", "begun"):
            parts.append({})
            for name, size in head[part]:
                parts[-1][str(name)] = content[place : place + size]
                place += size
        boot, pid, start, slack = head["worker"]
        left = tuple(Left(**{**one, "words": tuple(one["words"])}) for one in head["left"])
        worker = Worker(str(boot), int(pid), float(start), float(slack))
        files, begun = parts
        return Taken(worker, dict(head["digests"]), files, begun, float(head["offset"]), left)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
