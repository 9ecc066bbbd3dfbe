"""The log: one line per event on stderr; a failed write is ignored.

structlog writes the lines of a terminal with colours. It imports asyncio and ssl, 50 ms of a start and 3 MiB of a
daemon; the same lines without colours need nothing of it.
"""

from __future__ import annotations

import io
import json
import os
import select
import sys
import threading
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
PRIORITIES: Mapping[Level, bytes] = {"debug": b"<7>", "info": b"<6>", "warning": b"<4>", "error": b"<3>"}
"""What begins a line for the journal: the level of syslog(3), which journald takes off."""
CLAIMED = frozenset({"exc_info", "exception", "stack"})
"""Fields that structlog's text renderer would write on separate lines."""

Event = dict[str, object]


class Log:
    """The log. Any thread may write."""

    def __init__(self, level: Level = "info", form: Literal["auto", "text", "json"] = "auto") -> None:
        self._stderr = _stderr()
        self._priorities = PRIORITIES if self._stderr is not None and _is_journal(self._stderr.fileno()) else {}
        self._guard = threading.Lock()
        """Long lines are not interleaved."""
        self.configure(level, form)

    def configure(self, level: Level = "info", form: Literal["auto", "text", "json"] = "auto") -> None:
        """Set the lowest level to write, and how lines look."""
        self._least = WEIGHTS[level]
        self.tells_steps = level == "debug"
        """Whether each step on the way of a change is written."""
        self._form = form
        self._render: Callable[[Event], str] | None = None

    def write(self, level: Level, event: str, fields: Mapping[str, object] | None = None) -> None:
        """Write one line; raises nothing. ``event`` is a name such as ``resource.changed``."""
        if self._stderr is None or WEIGHTS[level] < self._least:
            return
        # Given twice: it comes first, and no field can override it.
        head: Event = {"timestamp": "", "level": level, "event": event}
        try:
            if self._render is None:
                self._render = _renderer(self._stderr, self._form)
            line = self._render({**head, **(fields or {}), **head})
        except Exception as error:  # noqa: BLE001  # without a descriptor to spare, structlog cannot even be imported
            line = f"{level} {event} {quote(fields)} unformatted={quote(error)}"
        with self._guard:
            priority = self._priorities.get(level, b"")
            self._stderr.write(priority + line.encode("utf-8", "backslashreplace") + b"\n")

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


def _is_journal(descriptor: int) -> bool:
    """Return whether a descriptor is the stream that systemd has connected to its journal, systemd.exec(5)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not device.isdecimal() or not inode.isdecimal():
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (int(device), int(inode))


def _renderer(stderr: Stderr, form: str) -> Callable[[Event], str]:
    if form == "json":
        return _json_line
    return _coloured_lines() if _takes_colour(stderr) else _text_line


def _json_line(event: Event) -> str:
    now = time.time()
    event["timestamp"] = f"{_second(now)}.{int(now % 1 * 1e6):06}Z"
    return json.dumps(event, default=repr)


def _text_line(event: Event) -> str:
    head = f"{_second(time.time())}Z {event.pop('level')} {quote(event.pop('event'))}"
    del event["timestamp"]
    rest = [f"{name}_={quote(value)}" if name in CLAIMED else f"{name}={quote(value)}" for name, value in event.items()]
    return " ".join((head, *rest))


def _second(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))


def _takes_colour(stderr: Stderr) -> bool:
    """Return whether stderr is a terminal with colours (https://no-color.org, TERM)."""
    return stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _coloured_lines() -> Callable[[Event], str]:
    """Return what makes the same line as ``_text_line``, with colours."""
    from structlog import dev
    from structlog.processors import TimeStamper

    dim, bold, reset = dev.DIM, dev.BRIGHT, dev.RESET_ALL
    styles = {"debug": dev.DIM, "info": dev.GREEN, "warning": dev.YELLOW, "error": dev.RED}
    stamp = TimeStamper(fmt="%Y-%m-%dT%H:%M:%SZ", utc=True)
    render = dev.ConsoleRenderer(
        sort_keys=False,
        columns=[
            dev.Column("timestamp", dev.KeyValueColumnFormatter(None, dim, reset, value_repr=str)),
            dev.Column("level", lambda _, level: f"{styles[str(level)]}{level}{reset}"),
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
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text if text and " " not in text and "=" not in text else f'"{text}"'
    shown = "".join(char if char.isprintable() and char not in '"\\' else json.dumps(char)[1:-1] for char in text)
    return f'"{shown}"'
