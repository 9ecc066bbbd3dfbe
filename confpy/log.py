"""The log: one line an event, on stderr, and never a reason to fail.

structlog writes the lines. It brings asyncio and ssl with it, so it is loaded when the first line is written that is
not the last one, too: a one-shot run that finds everything in order says only that, and does not pay for it.
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
"""How long a full pipe may hold up a line before the rest of it is given up."""
CLAIMED = frozenset({"exc_info", "exception", "stack"})
"""Fields that structlog's text renderer would write on lines of their own."""

Event = dict[str, object]


class Log:
    """Where lines go. Any thread may write."""

    def __init__(self, level: Level = "info", form: Literal["auto", "text", "json"] = "auto") -> None:
        self._stderr = _stderr()
        self.configure(level, form)

    def configure(self, level: Level = "info", form: Literal["auto", "text", "json"] = "auto") -> None:
        """Set the lowest level to write, and how lines look."""
        self._least = WEIGHTS[level]
        self._form = form
        self._say: Callable[[Event], None] | None = None

    def write(
        self, level: Level, event: str, fields: Mapping[str, object] | None = None, *, last: bool = False
    ) -> None:
        """Write one line; raises nothing. ``event`` is what happened to what (``resource.changed``).

        ``last``: no other is expected to follow.
        """
        if self._stderr is None or WEIGHTS[level] < self._least:
            return
        # Named twice: it comes first, and no field can take its place.
        head: Event = {"timestamp": "", "level": level, "event": event}
        try:
            whole = {**head, **(fields or {}), **head}
            if self._say is None and last and not _takes_colour(self._stderr):
                self._stderr.write(_plainly(whole, self._form))
                return
            if self._say is None:
                self._say = _open(self._stderr, self._form)
            self._say(whole)
        except Exception as error:  # noqa: BLE001  # without a descriptor to spare, structlog cannot even be imported
            self._stderr.write(f"{level} {event} {quote(fields)} unformatted={quote(error)}\n".encode())

    def from_error(self, error: ConfpyError, event: str = "confpy.failed", level: Level = "error") -> None:
        """Write the line that tells of an error; raises nothing."""
        self.write(level, event, error.fields())


class Stderr(io.FileIO):
    """The descriptor itself: no buffer that fails later, and a write that fails is over.

    Nothing is written that is not known to fit: a reader that stopped would hold up the owner for ever.
    """

    _patience = PATIENCE_MS
    _torn = False
    """The line before ended in its middle."""

    def write(self, line: ReadableBuffer, /) -> int:
        whole = memoryview(line)
        rest = memoryview(b"\n" + bytes(line)) if self._torn else whole
        try:
            while rest and self._wait():
                # What polls as writable takes so many bytes without waiting (pipe(7)).
                rest = rest[super().write(rest[: select.PIPE_BUF]) or 0 :]
        except OSError:
            pass
        self._torn = 0 < len(rest) < len(whole) or (self._torn and bool(rest))
        return max(0, len(whole) - len(rest))

    def _wait(self) -> bool:
        room = select.poll()
        room.register(self, select.POLLOUT)
        ready = bool(room.poll(self._patience))
        # Once given up it is not waited for again, until it takes something: else each line would cost that time.
        self._patience = PATIENCE_MS if ready else 0
        return ready


def _stderr() -> Stderr | None:
    """Return stderr, or None where it was closed when we started: its number belongs to what was opened next."""
    try:
        return None if sys.stderr is None else Stderr(sys.stderr.fileno(), "wb", closefd=False)
    except (OSError, ValueError):
        return None


def _open(stderr: Stderr, form: str) -> Callable[[Event], None]:
    from structlog import BytesLogger

    # It holds a lock while it writes: lines longer than a pipe takes at once stay apart.
    logger = BytesLogger(stderr)
    render = _json_lines() if form == "json" else _text_lines(_takes_colour(stderr))
    return lambda event: logger.msg(render(event).encode("utf-8", "backslashreplace"))


def _plainly(event: Event, form: str) -> bytes:
    """Return the very line that structlog would write without colours."""
    now = time.time()
    day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    if form == "json":
        return json.dumps({**event, "timestamp": f"{day}.{int(now % 1 * 1e6):06}Z"}).encode() + b"\n"
    head = [f"{day}Z", str(event.pop("level")), quote(event.pop("event"))]
    del event["timestamp"]
    rest = [f"{name}_={quote(value)}" if name in CLAIMED else f"{name}={quote(value)}" for name, value in event.items()]
    return " ".join((*head, *rest)).encode("utf-8", "backslashreplace") + b"\n"


def _takes_colour(stderr: Stderr) -> bool:
    """Say whether a person reads this in colours: https://no-color.org, and terminals that can only print."""
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
    """Return a value as text lines show it: quoted where it has spaces, escaped where a terminal would act on it."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    shown = "".join(char if char.isprintable() and char not in '"\\' else json.dumps(char)[1:-1] for char in text)
    return shown if shown == text and text and not set(text) & {" ", "="} else f'"{shown}"'
