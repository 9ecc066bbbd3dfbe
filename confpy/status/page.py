"""The status as a page for people: HTML, a style sheet and a script, all of confpy's own.

Jinja escapes whatever a value holds. The page is whole without the script, which asks for ``/view`` once a second.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from confpy.frozen import NOTHING, frozen
from confpy.status.model import PASSING, ResourceStatus, State, Status, troubles
from confpy.status.response import CSS, HTML, SCRIPT, Response

ASSETS = {"page.css": CSS, "page.js": SCRIPT}
TEMPLATES = ("page.html", "view.html")
MOST_TROUBLES = 10
MOST_ROWS = 200
"""Resources that the page lists, those that need attention first: more take long to be made, and to be read."""

STATES: Mapping[str, tuple[str, str]] = {
    "current": ("good", "✓"),
    "up": ("good", "✓"),
    "waiting": ("busy", "…"),
    "delivering": ("busy", "…"),
    "owed": ("warn", "↻"),
    "stale": ("warn", "!"),
    "drifted": ("warn", "!"),
    "held": ("warn", "‖"),
    "failed": ("bad", "✗"),
    "away": ("bad", "✗"),
}
"""State → how serious it is, and a sign beside the word: colours alone tell nothing to who cannot see them."""
_WORST_FIRST: Sequence[State] = (
    "failed", "held", "drifted", "stale", "owed", "delivering", "waiting", "current",
)  # fmt: skip


@frozen
class Delivery:
    """A delivery of the history, as the page shows it."""

    resource: str
    target: str
    at: float
    """Seconds since 1970 UTC."""
    revision: int
    what: str


@frozen
class Shown:
    """What the page shows besides the status."""

    host: str = ""
    diffs: Mapping[str, Sequence[str]] = NOTHING
    """Target → the lines of the diff of its last change; none for those that are not to be shown."""
    history: Sequence[Delivery] = ()
    """The last ones, the newest first."""
    notice: str = ""
    """What is wrong with the status itself: the daemon does not answer."""


class Page:
    """Makes the page; its files are read once, so that an upgrade of the package does not mix two versions."""

    def __init__(self) -> None:
        self._sources = {name: _read(name) for name in (*TEMPLATES, *ASSETS)}
        self._environment: Environment | None = None

    def asset(self, name: str) -> Response | None:
        """Return a file that the page needs; None where there is none of this name."""
        kind = ASSETS.get(name)
        return Response(200, kind, self._sources[name].encode()) if kind else None

    def whole(self, status: Status, shown: Shown) -> Response:
        """Return the page."""
        return self._respond("page.html", status, shown, 503 if shown.notice else 200)

    def view(self, status: Status, shown: Shown) -> Response:
        """Return what the script replaces."""
        return self._respond("view.html", status, shown, 503 if shown.notice else 200)

    def _respond(self, name: str, status: Status, shown: Shown, code: int) -> Response:
        etag = version(status, shown)
        body = (
            self._jinja().get_template(name).render(status=status, now=status.now, page=_summary(status, shown, etag))
        )
        return Response(code, HTML, body.encode("utf-8", "backslashreplace"), {"ETag": etag, "Date": _date(status.now)})

    def _jinja(self) -> Environment:
        if self._environment is None:
            loader = DictLoader({name: self._sources[name] for name in TEMPLATES})
            self._environment = Environment(
                loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
            )
            self._environment.filters.update(_FILTERS)
        return self._environment


def _summary(status: Status, shown: Shown, etag: str) -> Mapping[str, Any]:
    wrong = [shown.notice] if shown.notice else []
    wrong += troubles(status)
    more = len(wrong) - MOST_TROUBLES
    count = len(status.resources)
    bad = sum(one.state != "current" and one.cause not in PASSING for one in status.resources)
    if shown.notice:
        summary, tone = "confpy does not answer", "bad"
    elif not wrong:
        summary, tone = f"All is well: {_count(count, 'resource')}", "good"
    elif bad:
        summary, tone = f"{bad} of {_count(count, 'resource')} {'needs' if bad == 1 else 'need'} attention", "bad"
    else:
        summary, tone = wrong[0][:1].upper() + wrong[0][1:], "warn"
    return {
        "title": f"{summary} – confpy {shown.host}".rstrip(),
        "host": shown.host,
        "summary": summary,
        "tone": tone,
        "troubles": [*wrong[:MOST_TROUBLES], *([f"and {more} more"] if more > 0 else [])],
        "resources": sorted(status.resources, key=_order)[:MOST_ROWS],
        "more": max(0, count - MOST_ROWS),
        "diffs": shown.diffs,
        "history": shown.history,
        "etag": etag,
    }


def _order(one: ResourceStatus) -> tuple[int, str]:
    return _WORST_FIRST.index(one.state), one.name


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def not_modified(etag: str, at: float) -> Response:
    """Return the answer to who has this version; ``at``: seconds since 1970 UTC."""
    return Response(304, HTML, b"", {"ETag": etag, "Date": _date(at)})


def version(status: Status, shown: Shown) -> str:
    """Return a name for what is shown, but for the ages in it, which the script counts on by itself."""
    shape = (status.is_started, status.is_stopping, status.pid, status.resources, status.stores, status.reloads, shown)
    steady = repr(shape) + repr(list(troubles(status)))
    return f'"{hashlib.sha256(steady.encode("utf-8", "backslashreplace")).hexdigest()[:24]}"'


def _read(name: str) -> str:
    # Not by its path: in a zipapp it has none.
    return (files("confpy.status") / name).read_text("utf-8")


def hostname() -> str:
    return socket.gethostname()


def iso(at: float) -> str:
    """Return a time as HTML has it, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def ago(at: float, now: float) -> str:
    """Return how long ago a time is, or in how much time it comes."""
    seconds = now - at
    return f"{span(seconds)} ago" if seconds >= -0.5 else f"in {span(seconds)}"


def span(seconds: float) -> str:
    size = abs(round(seconds))
    if size < 60:
        return f"{size} s"
    if size < 3600:
        return f"{size // 60} min"
    return f"{size // 3600} h" if size < 172800 else f"{size // 86400} d"


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _side(line: str) -> str:
    return {"+": "good", "-": "bad"}.get(line[:1], "")


_FILTERS: Mapping[str, Callable[..., str]] = {
    "iso": iso,
    "ago": ago,
    "side": _side,
    "tone": lambda state: STATES[state][0],
    "sign": lambda state: STATES[state][1],
}
