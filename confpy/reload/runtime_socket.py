"""HAProxy's admin sockets (management guide, "Unix Socket commands"): one connection, one list of answers."""

from __future__ import annotations

import os
import socket as sockets
import stat
import struct
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from confpy.reload.runtime_ports import Doubt

if TYPE_CHECKING:
    from confpy.haproxy.values import Command

MOST_BYTES = 15 << 10
"""What is sent before its answers are read: HAProxy's buffer (``tune.bufsize``) has 16 KiB by default."""
LONGEST_ANSWERS = 128 << 20
"""Bytes that are read for one part that was sent. No HAProxy has so many servers."""
PROMPT = b"\n> "
"""Ends each answer in the interactive mode: a line of an answer cannot begin so."""
OF_MASTER = b"\nmaster> "
"""What ends the answers of a master."""
PAYLOAD = b"+ "
"""What HAProxy writes for each line of a payload."""
CREDENTIALS = struct.Struct("3i")
"""``struct ucred``: process, user, group."""


class Sockets:
    """Admin sockets that are there."""

    def exchange(
        self, socket: str, commands: Sequence[Command], seconds: float, users: Collection[int] | None = None
    ) -> list[str]:
        """As in ``Talks``."""
        until = time.monotonic() + seconds
        answers: list[str] = []
        with _connect(socket, seconds) as stream:
            if users is not None:
                _check_peer(socket, stream, {0, os.geteuid(), *users})
            rest = b""
            for part, count in _parts(commands):
                # "prompt" makes the ends of answers visible, some of which have no empty line, and takes many lines.
                is_first = not answers
                _send(stream, b"prompt\n" * is_first + part, until)
                found, rest = _receive(stream, count + is_first, rest, until)
                answers += found
        return answers[1:]


def _check_peer(socket: str, stream: sockets.socket, allowed: Collection[int]) -> None:
    """Raise ``Doubt`` or ``OSError`` if anybody but these users may be at the other end, or may be there next time."""
    path = socket.removeprefix("unix:")
    if path == socket:
        raise Doubt("a key is sent to a Unix socket only", hint="name a stats socket that is a file")
    user = CREDENTIALS.unpack(stream.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, CREDENTIALS.size))[1]
    if user not in allowed:
        raise Doubt(f"the user {user} listens on the admin socket, and is not HAProxy's: no key is sent there")
    folder = os.path.realpath(os.path.dirname(path))
    for step in accumulate(folder.strip("/").split("/"), "{}/{}".format, initial=""):
        found = os.lstat(step or "/")
        is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in allowed or is_open or not stat.S_ISDIR(found.st_mode):
            hint = "let the folder belong to root or HAProxy, and nobody else write there"
            raise Doubt(f"others may put a socket of their own into {step or '/'}: no key is sent there", hint=hint)


def _connect(socket: str, seconds: float) -> sockets.socket:
    path = socket.removeprefix("unix:")
    if path != socket:
        stream = sockets.socket(sockets.AF_UNIX)
        address: str | tuple[str, int] = path
    else:
        host, _, port = socket.rpartition(":")
        stream = sockets.socket(sockets.AF_INET6 if "[" in host else sockets.AF_INET)
        address = (host.strip("[]"), int(port))
    stream.settimeout(max(seconds, 0.001))
    try:
        stream.connect(address)
    except BaseException:
        stream.close()
        raise
    return stream


def _send(stream: sockets.socket, part: bytes, until: float) -> None:
    stream.settimeout(max(until - time.monotonic(), 0.001))
    stream.sendall(part)


def _parts(commands: Sequence[Command]) -> Iterator[tuple[bytes, int]]:
    """Yield what to send at once, and how many answers it has."""
    part, count = b"", 0
    for command in commands:
        line = command.text.encode("latin-1")
        if b"\n" in line or b";" in line:  # the pure half made it: a mistake there must not become a second command
            raise Doubt("a command would not be one command")
        line += b"\n" if not command.payload else b" <<\n%s\n\n" % command.payload.rstrip("\n").encode("latin-1")
        if part and len(part) + len(line) > MOST_BYTES:
            yield part, count
            part, count = b"", 0
        part, count = part + line, count + 1
    if part:
        yield part, count


def _receive(stream: sockets.socket, count: int, rest: bytes, until: float) -> tuple[list[str], bytes]:
    """Return so many answers, and what was received after them; ``rest``: what was received before."""
    answers: list[str] = []
    pieces, new, size = [rest], rest, 0
    while True:
        # Only what is new may hold the next prompt: an answer of megabytes is searched once.
        if PROMPT in new:
            data, place = b"".join(pieces), 0
            while len(answers) < count and (end := data.find(PROMPT, place)) >= 0:
                answers.append(_text(data[place:end]))
                place = end + len(PROMPT)
            new = data[place:]
            if len(answers) == count:
                return answers, new
            pieces = [new]
        stream.settimeout(max(until - time.monotonic(), 0.001))
        piece = stream.recv(1 << 16)
        size += len(piece)
        if not piece:
            raise Doubt("HAProxy closed the connection before it had answered")
        if size > LONGEST_ANSWERS:
            raise Doubt("HAProxy's answer does not end")
        new = new[-len(OF_MASTER) :] + piece
        if new.endswith(OF_MASTER):
            raise Doubt("the admin socket is that of HAProxy's master", hint="name a `stats socket` of its global")
        pieces.append(piece)


def _text(answer: bytes) -> str:
    while answer.startswith(PAYLOAD):
        answer = answer[len(PAYLOAD) :]
    return answer.decode("latin-1").strip("\n")
