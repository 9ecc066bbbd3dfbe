"""Bodies of answers: whole ones, and those that do not end."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from confpy.errors import StoreError, WatchLost
from confpy.http.response import SIZE, NotHTTP, Response

if TYPE_CHECKING:
    from confpy.http.connection import Connection

_PIECE = 65536
_HEAD_BYTES = 1024


class Headers(Protocol):
    """The headers of an answer, by their names in any case."""

    def get(self, name: str, /) -> str | None: ...


class TooLarge(StoreError):
    """An answer is larger than the caller wants to hold."""


def read_body(response: Response, limit: int) -> bytes:
    """Return the body of an answer; raises ``TooLarge`` above ``limit`` bytes, else as ``Response``."""
    pieces: list[bytes] = []
    size = 0
    while piece := response.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise TooLarge(f"an answer is larger than {limit >> 20} MB")
    if response.rest:
        raise NotHTTP("the body of the answer was broken off")
    return b"".join(pieces)


def await_body(response: Response) -> None:
    """Wait, without a limit, until the body of an answer begins to arrive, or ends."""
    if (source := response.source) is not None:
        with suppress(ValueError):  # closed by another thread a moment ago
            source.peek(1)


class Stream:
    """The body of an answer that does not end, as it arrives: never waits for more than there is."""

    def __init__(self, connection: Connection, response: Response) -> None:
        self.node = connection.node
        self._connection = connection
        # Not by the response itself, which waits for a whole chunk where only a part of it, or its end, has arrived.
        self._source = response.source
        self._chunks = Chunks() if response.chunked else None

    def read(self) -> bytes | None:
        """Return what has arrived, waiting if nothing has; None at the end of the body. Raises ``StoreError``.

        It may be empty if only the coding around the body has arrived: waiting for more would delay what came before.
        """
        with self._connection.described():
            raw = self._received()
            if self._chunks is None or not raw:
                return raw or None
            body = self._chunks.feed(raw)
            return None if self._chunks.ended and not body else body

    def _received(self) -> bytes:
        try:
            return self._source.read1(_PIECE) if self._source is not None else b""
        except ValueError:  # closed by another thread a moment ago
            return b""

    def arrived(self) -> bool:
        """Whether ``read`` would return at once."""
        return self._connection.arrived()

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._connection.close()


class Chunks:
    """A parser of the chunked transfer coding, however its bytes are split (RFC 9112, 7.1). Raises ``StoreError``."""

    def __init__(self) -> None:
        self.ended = False
        self._head = b""
        """The beginning of a chunk's first line whose end has not arrived."""
        self._rest = 0
        """Bytes of the chunk still to arrive, with the two of its line end."""

    def feed(self, raw: bytes) -> bytes:
        """Return the body's bytes among ``raw``."""
        data, at = self._head + raw, 0
        self._head = b""
        body: list[bytes] = []
        while at < len(data) and not self.ended:
            if self._rest:
                taken = min(self._rest, len(data) - at)
                body.append(data[at : at + min(taken, max(0, self._rest - 2))])
                self._rest -= taken
                at += taken
                continue
            end = data.find(b"\r\n", at)
            if end < 0 and len(data) - at < _HEAD_BYTES:
                self._head = data[at:]
                break
            found = SIZE.match(data, at, end) if end >= 0 else None
            if found is None:
                raise StoreError("the stream is not HTTP")
            size = int(found[1], 16)
            self._rest, self.ended, at = size + 2, size == 0, end + 2
        return b"".join(body)


class Lines:
    """Splits bytes into lines, however they arrive. Raises ``WatchLost`` for a line longer than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their ends and without the empty ones."""
        *whole, rest = data.split(b"\n")
        lines = []
        for piece in whole:
            self._hold(piece)
            lines.append(b"".join(self._pieces))
            self._pieces, self._length = [], 0
        self._hold(rest)
        return [line for line in lines if line.strip()]

    def _hold(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length > self._limit:
            raise WatchLost(f"one line of the stream is longer than {self._limit >> 20} MB")
