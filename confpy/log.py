"""The log: one line per event on stderr; a failed write is ignored.

structlog writes the lines. It imports asyncio and ssl, so it is loaded with the first line that is not also the last:
a one-shot that finds everything up to date logs only that, and does not load it.
"""

from __future__ import annotations

import io
import json
import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from confpy.errors import ConfpyError
from confpy.events import Level

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WEIGHTS: Mapping[Level, int] = {"debug": 0, "info": 1, "warning": 2, "error": 3}
PATIENCE_MS = 100
"""How long a line waits for a full pipe before the rest of it is dropped."""
CLAIMED = frozenset({"exc_info", "exception", "stack"})
"""Fields that structlog's text renderer would write on separate lines."""

Event = dict[str, object]


class Log:
    """The log. Any thread may write."""

    def __init__(self, level: Level = "info", form: Literal["auto", "text", "json"] = "auto") -> None:
        self._stderr = _stderr()
        self.configure(level, form)

    def configure(self, level: Level = "info", form: Literal["auto", "text", "json"] = "auto") -> None:
        """Set the lowest level to write, and how lines look."""
        self._least = WEIGHTS[level]
        self._form = form
        self._write: Callable[[Event], None] | None = None

    def write(
        self, level: Level, event: str, fields: Mapping[str, object] | None = None, *, last: bool = False
    ) -> None:
        """Write one line; raises nothing. ``event`` is a name such as ``resource.changed``.

        ``last``: no other is expected to follow.
        """
        if self._stderr is None or WEIGHTS[level] < self._least:
            return
        # Given twice: it comes first, and no field can override it.
        head: Event = {"timestamp": "", "level": level, "event": event}
        try:
            whole = {**head, **(fields or {}), **head}
            if self._write is None and last and not _takes_colour(self._stderr):
                self._stderr.write(_plainly(whole, self._form))
                return
            if self._write is None:
                self._write = _open(self._stderr, self._form)
            self._write(whole)
        except Exception as error:  # noqa: BLE001  # without a descriptor to spare, structlog cannot even be imported
            self._stderr.write(f"{level} {event} {quote(fields)} unformatted={quote(error)}\n".encode())

    def from_error(self, error: ConfpyError, event: str = "confpy.failed", level: Level = "error") -> None:
        """Write the line for an error; raises nothing."""
        self.write(level, event, error.fields())


class Stderr(io.FileIO):
    """The descriptor itself, without a buffer that could fail later.

    Writes only what fits: a reader that has stopped must not block confpy.
    """

    _patience = PATIENCE_MS
    _torn = False
    """The previous line was cut off."""

    def write(self, line: ReadableBuffer, /) -> int:
        whole = memoryview(line)
        rest = memoryview(b"\n" + bytes(line)) if self._torn else whole
        try:
            while rest and self._wait():
                # A pipe that polls as writable takes PIPE_BUF bytes without blocking (pipe(7)).
                rest = rest[super().write(rest[: select.PIPE_BUF]) or 0 :]
        except OSError:
            pass
        self._torn = 0 < len(rest) < len(whole) or (self._torn and bool(rest))
        return max(0, len(whole) - len(rest))

    def _wait(self) -> bool:
        poll = select.poll()
        poll.register(self, select.POLLOUT)
        ready = bool(poll.poll(self._patience))
        # After a timeout it is not waited for until it takes something: else each line would cost that time.
        self._patience = PATIENCE_MS if ready else 0
        return ready


def _stderr() -> Stderr | None:
    """Return stderr, or None if it was closed at the start: its number may now be that of another file."""
    try:
        return None if sys.stderr is None else Stderr(sys.stderr.fileno(), "wb", closefd=False)
    except (OSError, ValueError):
        return None


def _open(stderr: Stderr, form: str) -> Callable[[Event], None]:
    from structlog import BytesLogger

    # It holds a lock while it writes: long lines are not interleaved.
    logger = BytesLogger(stderr)
    render = _json_lines() if form == "json" else _text_lines(_takes_colour(stderr))
    return lambda event: logger.msg(render(event).encode("utf-8", "backslashreplace"))


def _plainly(event: Event, form: str) -> bytes:
    """Return the same line that structlog would write without colours."""
    now = time.time()
    day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    if form == "json":
        return json.dumps({**event, "timestamp": f"{day}.{int(now % 1 * 1e6):06}Z"}).encode() + b"\n"
    head = [f"{day}Z", str(event.pop("level")), quote(event.pop("event"))]
    del event["timestamp"]
    rest = [f"{name}_={quote(value)}" if name in CLAIMED else f"{name}={quote(value)}" for name, value in event.items()]
    return " ".join((*head, *rest)).encode("utf-8", "backslashreplace") + b"\n"


def _takes_colour(stderr: Stderr) -> bool:
    """Return whether stderr is a terminal with colours (https://no-color.org, TERM)."""
    return stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _json_lines() -> Callable[[Event], str]:
    from structlog.processors import JSONRenderer, TimeStamper

    stamp, render = TimeStamper(fmt="iso", utc=True), JSONRenderer()
    return lambda event: str(render(None, "", stamp(None, "", event)))


def _text_lines(colours: bool) -> Callable[[Event], str]:
    from structlog import dev
    from structlog.processors import TimeStamper

    dim, bold, reset = (dev.DIM, dev.BRIGHT, dev.RESET_ALL) if colours else ("", "", "")
    styles = {"debug": dev.DIM, "info": dev.GREEN, "warning": dev.YELLOW, "error": dev.RED} if colours else {}
    stamp = TimeStamper(fmt="%Y-%m-%dT%H:%M:%SZ", utc=True)
    render = dev.ConsoleRenderer(
        sort_keys=False,
        columns=[
            dev.Column("timestamp", dev.KeyValueColumnFormatter(None, dim, reset, value_repr=str)),
            dev.Column("level", lambda _, level: f"{styles.get(str(level), '')}{level}{reset}"),
            dev.Column("event", dev.KeyValueColumnFormatter(None, bold, reset, value_repr=quote)),
            dev.Column("", dev.KeyValueColumnFormatter(dim, "", reset, value_repr=quote)),
        ],
    )

    def line(event: Event) -> str:
        fields = {f"{key}_" if key in CLAIMED else key: value for key, value in event.items()}
        return render(None, "", stamp(None, "", fields))

    return line


def quote(value: object) -> str:
    """Return a value for a text line: quoted if it has spaces, escaped if a terminal would act on it."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    shown = "".join(char if char.isprintable() and char not in '"\\' else json.dumps(char)[1:-1] for char in text)
    return shown if shown == text and text and not set(text) & {" ", "="} else f'"{shown}"'
