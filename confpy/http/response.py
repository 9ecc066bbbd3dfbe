"""HTTP/1.1 as a client speaks it (RFC 9112): what is sent, and an answer as it is read.

Not by ``http.client``: that loads ``ssl``, and the parser of mail for the head of each answer: 11 ms of a start of 129.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from io import BufferedReader

LINE_BYTES = 65536
"""The longest line of a head."""
_LINES = 100
"""The most lines of a head."""
_STATUS = re.compile(rb"HTTP/1\.(\d+)[ \t]+(\d{3})(?:[ \t]+([^\r\n]*))?\r?\n")
_LENGTH = re.compile("[0-9]{1,18}")
SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;|\Z)")
"""The size of a chunk; extensions may follow. Neither a sign nor what else ``int`` takes."""


class NotHTTP(Exception):
    """An answer is not HTTP, or was broken off."""


class Disconnected(ConnectionResetError):
    """The server ended the connection instead of answering."""


def request_bytes(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return a request; raises ``ValueError`` for what would end a line, or is not text of HTTP."""
    lines = {**headers, "Accept-Encoding": "identity"}
    if body is not None or method in ("PATCH", "POST", "PUT"):
        lines["Content-Length"] = str(len(body or b""))
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    if " " in path or any(not line.isprintable() for line in head):
        raise ValueError("a line of the request holds a space or a control character")
    return "\r\n".join([*head, "\r\n"]).encode("latin-1") + (body or b"")


class Fields:
    """The fields of a head, by their names in any case; several of one name are one, with commas between."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, name: str, /) -> str | None:
        return self._values.get(name.lower())

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def add(self, name: str, value: str) -> None:
        name = name.lower()
        self._values[name] = f"{self._values[name]}, {value}" if name in self._values else value


class Response:
    """An answer: ``begin`` reads its head, ``read`` its body. They raise ``OSError`` and ``NotHTTP``."""

    def __init__(self, end: socket.socket, method: str) -> None:
        """``method`` is that of the request: the answers to some have no body."""
        self.status = 0
        self.reason = ""
        self.headers = Fields()
        self.chunked = False
        self.rest: int | None = None
        """How many bytes of the body are still to be read; None where only its end will tell."""
        self._has_body = method not in ("HEAD", "CONNECT")
        self.reusable = False
        """Whether the connection takes another request once the body is read."""
        # A file of the socket, since another thread may close that while this one reads: the number of its descriptor
        # is not given to anything else before the file is closed as well.
        self.source: BufferedReader | None = end.makefile("rb")

    def begin(self) -> None:
        """Read the head."""
        newer = self._read_status()
        while 100 <= self.status < 200 and self.status != 101:
            self.headers = Fields()
            self._read_fields()
            newer = self._read_status()
        self._read_fields()
        self.chunked = (self.headers.get("Transfer-Encoding") or "").lower() == "chunked"
        length = self.headers.get("Content-Length") or ""
        if not self._has_body or self.status < 200 or self.status in (204, 304):
            self.rest, self.chunked = 0, False
        elif not self.chunked and _LENGTH.fullmatch(length):
            self.rest = int(length)
        kept = (self.headers.get("Connection") or "").lower()
        self.reusable = (self.rest is not None or self.chunked) and (
            "close" not in kept if newer else "keep-alive" in kept
        )
        if self.rest == 0:
            self.close()

    def _read_status(self) -> bool:
        """Read the first line; return whether it is of HTTP/1.1."""
        line = self._line()
        if not line:
            raise Disconnected("the connection was ended without an answer")
        found = _STATUS.fullmatch(line)
        if found is None:
            raise NotHTTP("the first line of the answer is not HTTP")
        self.status, self.reason = int(found[2]), (found[3] or b"").decode("latin-1").strip()
        return int(found[1]) > 0

    def _read_fields(self) -> None:
        name = ""
        for _ in range(_LINES):
            line = self._line()
            if line in (b"\r\n", b"\n"):
                return
            text = line.decode("latin-1")
            if not line.endswith(b"\n"):
                break
            before, colon, value = text.partition(":")
            if text[0] in " \t" and name:  # a folded line
                self.headers.add(name, text.strip())
                continue
            name = before.rstrip()
            if not colon or not name:
                break
            self.headers.add(name, value.strip())
        raise NotHTTP("the head of the answer is not HTTP, or was broken off")

    def _line(self) -> bytes:
        assert self.source is not None
        return self.source.readline(LINE_BYTES)

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes of the body, fewer at its end, and none after it."""
        source = self.source
        if source is None:
            return b""
        if self.chunked:
            return self._read_chunks(source, size)
        data = source.read(size if self.rest is None else min(size, self.rest))
        if self.rest is not None:
            self.rest -= len(data)
        if not self.rest and (self.rest == 0 or not data):
            self.close()
        elif len(data) < size:  # it was broken off
            self.reusable = False
            self.close()
        return data

    def _read_chunks(self, source: BufferedReader, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and self._chunk(source):
            assert self.rest is not None
            piece = source.read(min(size, self.rest))
            self.rest -= len(piece)
            size -= len(piece)
            if not piece or (self.rest == 0 and source.readline(LINE_BYTES) not in (b"\r\n", b"\n")):
                raise NotHTTP("the body of the answer was broken off")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _chunk(self, source: BufferedReader) -> bool:
        """Begin the next chunk if none is being read; return whether there is one."""
        if self.rest:
            return True
        found = SIZE.match(source.readline(LINE_BYTES).rstrip(b"\r\n"))
        if found is None:
            raise NotHTTP("the body of the answer is not HTTP, or was broken off")
        self.rest = int(found[1], 16)
        if self.rest == 0:
            while source.readline(LINE_BYTES) not in (b"\r\n", b"\n", b""):  # trailers
                pass
            self.close()
        return self.rest > 0

    @property
    def ended(self) -> bool:
        """Whether all of it was read."""
        return self.source is None

    def close(self) -> None:
        """Read no more of it. Any thread, any number of times."""
        source, self.source = self.source, None
        if source is not None:
            with suppress(OSError):
                source.close()
