"""What is answered to which path: views of the status, and the sign of life of the owner."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from confpy.frozen import frozen
from confpy.status import page
from confpy.status.inquiries import ALIVE, Inquiries, Seen, Wanted
from confpy.status.model import Status, as_json
from confpy.status.page import Page, Shown
from confpy.status.readiness import Readiness, judge, stores_answer
from confpy.status.redaction import for_everybody, without_secrets
from confpy.status.request import Request
from confpy.status.response import HTML, JSON, Response, text

if TYPE_CHECKING:
    from confpy.status.metrics import Metrics

Additions = Callable[[Status], Shown]
"""Returns the diffs and the history that the page shows; not called where content is not shown."""
View = Callable[[Request, Seen], Response]
MOST_LINES = 20
REUSE = 5
"""For how many times as long as an answer took to make it is used."""
NO_METRICS = "/metrics needs the Python package prometheus_client, which is not installed as it should be"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@frozen
class _Kept:
    """An answer that may be used again."""

    status: Status | None
    """What it was made of."""
    responds: bool
    shown: Shown | None
    response: Response
    until: float
    """Monotonic time until which it is used though there is a newer status."""


@frozen
class _Endpoint:
    view: View
    wanted: Callable[[Request], Wanted]


def _any(_: Request) -> Wanted:
    return Wanted()


def _alive(_: Request) -> Wanted:
    return Wanted(age=ALIVE)


def _started(_: Request) -> Wanted:
    # The fork waits as long for its backend.
    return Wanted(until=lambda status: status.is_started)


class Endpoints:
    """The table of paths."""

    def __init__(
        self,
        inquiries: Inquiries,
        *,
        shows_content: bool,
        max_stale: float,
        additions: Additions | None = None,
    ) -> None:
        """``shows_content``: whoever asks may see what the targets hold. ``max_stale``: as ``judge`` takes it."""
        self._inquiries = inquiries
        self._shows_content = shows_content
        self._max_stale = max_stale
        self._additions = additions
        self._host = page.hostname()
        self._page = Page()
        self._metrics: Metrics | None = None
        self._kept: dict[str, _Kept] = {}
        self._newest: tuple[Status, Shown, str] | None = None
        """Of which status the view has which version."""
        self._table: Mapping[str, _Endpoint] = {
            "/healthz": _Endpoint(self._health, _alive),
            "/health": _Endpoint(self._health, _alive),
            "/readyz": _Endpoint(self._readiness, self._strictly),
            "/ready": _Endpoint(self._readiness, _started),
            "/ready/detailed": _Endpoint(self._detailed, _started),
            "/metrics": _Endpoint(self._measured, _any),
            "/status": _Endpoint(self._status, _any),
            "/": _Endpoint(self._whole, _any),
            "/view": _Endpoint(self._view, _any),
        }

    def answer(self, request: Request, reply: Callable[[Response], None]) -> None:
        """Answer a request, as ``StatusServer`` has it done."""
        endpoint = self._table.get(request.path)
        if endpoint is not None:
            self._inquiries.want(endpoint.wanted(request), lambda seen: reply(endpoint.view(request, seen)))
        elif request.path == "/favicon.ico":
            reply(Response(204, HTML, b""))
        else:
            asset = self._page.asset(request.path.removeprefix("/"))
            reply(asset or text(404, f"there is nothing here; there is {', '.join(sorted(self._table))}\n"))

    # --- probes ------------------------------------------------------------------------------------------------------

    def _keep(self, key: str, seen: Seen, shown: Shown | None, make: Callable[[], Response]) -> Response:
        """Return what was made of the same status before, or make it.

        What takes long is used for some times as long, even where the status is newer: however many ask, they cost
        confpy a part of one processor only.
        """
        began = time.monotonic()
        kept = self._kept.get(key)
        if (
            kept is not None
            and (kept.responds, kept.shown) == (seen.responds, shown)
            and (kept.status is seen.status or began < kept.until)
        ):
            return kept.response
        response = make()
        ended = time.monotonic()
        self._kept[key] = _Kept(seen.status, seen.responds, shown, response, ended + REUSE * (ended - began))
        return response

    def _health(self, _: Request, seen: Seen) -> Response:
        return text(200, "ok") if seen.responds else text(503, _frozen(seen))

    def _strictly(self, request: Request) -> Wanted:
        return Wanted(until=stores_answer, asks_stores=True) if self._is_strict(request) else Wanted()

    def _is_strict(self, request: Request) -> bool:
        return bool("strict" in request.query or self._max_stale)

    def _readiness(self, request: Request, seen: Seen) -> Response:
        if seen.status is None or not seen.responds:
            return text(503, _frozen(seen))
        status = self._visible(seen.status)
        readiness = judge(status, max_stale=self._max_stale, asked=self._is_strict(request))
        wrong = readiness.troubles if "strict" in request.query else readiness.lasting
        if not readiness.is_started:
            wrong = readiness.troubles
        if readiness.is_started and not wrong:
            return text(200, "ok")
        lines = [str(trouble) for trouble in wrong[:MOST_LINES]]
        if len(wrong) > MOST_LINES:
            lines.append(f"and {len(wrong) - MOST_LINES} more")
        return text(503, "".join(f"{line}\n" for line in ("not ready", *lines)))

    def _detailed(self, _: Request, seen: Seen) -> Response:
        began = time.monotonic()
        status = self._visible(seen.status) if seen.status else None
        is_ready = status is not None and seen.responds and status.is_started
        details = {store.label: "up" if store.is_up else "away" for store in status.stores} if status else {}
        found = {
            "healthy": is_ready,
            "message": "started" if is_ready else "not started yet" if seen.responds else _frozen(seen).strip(),
            "duration_ms": round((time.monotonic() - began) * 1000),
            "details": details,
            "checked_at": datetime.now(UTC).isoformat(),
        }
        return Response(200 if is_ready else 503, JSON, json.dumps(found).encode() + b"\n")

    # --- for programs ------------------------------------------------------------------------------------------------

    def _measured(self, request: Request, seen: Seen) -> Response:
        if seen.status is None:
            return text(503, _frozen(seen))
        if self._metrics is None:
            try:
                from confpy.status.metrics import Metrics  # brings prometheus_client: 1.3 MiB that probes do without
            except ImportError as error:
                return text(500, f"{NO_METRICS}: {error}\n")

            self._metrics = Metrics()
        metrics, status = self._metrics, seen.status
        # One of two, so that nobody can have it made in a hundred ways.
        accept = OPENMETRICS if "application/openmetrics-text" in request.accept else ""

        def make() -> Response:
            return metrics.respond(status, self._judge(status), accept, is_healthy=seen.responds)

        return self._keep(f"/metrics {accept}", seen, None, make)

    def _status(self, _: Request, seen: Seen) -> Response:
        if seen.status is None:
            return text(503, _frozen(seen))
        status = seen.status

        def make() -> Response:
            found = {**as_json(self._visible(status)), "is_healthy": seen.responds}
            return Response(200 if seen.responds else 503, JSON, json.dumps(found).encode() + b"\n")

        return self._keep("/status", seen, None, make)

    # --- for people --------------------------------------------------------------------------------------------------

    def _whole(self, _: Request, seen: Seen) -> Response:
        if seen.status is None:
            return text(503, _frozen(seen))
        status, shown = seen.status, self._shown(seen)
        return self._keep("/", seen, shown, lambda: self._page.whole(self._visible(status), shown))

    def _view(self, request: Request, seen: Seen) -> Response:
        if seen.status is None:
            return text(503, _frozen(seen))
        status, shown = seen.status, self._shown(seen)
        newest = self._newest
        if newest is None or newest[0] is not status or newest[1] != shown:
            newest = self._newest = status, shown, page.version(self._visible(status), shown)
        if newest[2] == request.etag:
            return page.not_modified(request.etag, status.now)
        return self._keep("/view", seen, shown, lambda: self._page.view(self._visible(status), shown))

    def _shown(self, seen: Seen) -> Shown:
        assert seen.status is not None
        more = self._additions(seen.status) if self._additions is not None and self._shows_content else Shown()
        notice = "" if seen.responds else _frozen(seen).strip()
        return Shown(self._host, more.diffs, more.history, notice)

    def _visible(self, status: Status) -> Status:
        return without_secrets(status) if self._shows_content else for_everybody(status)

    def _judge(self, status: Status) -> Readiness:
        return judge(status, max_stale=self._max_stale)


def _frozen(seen: Seen) -> str:
    if seen.responds:
        return "there is no status: a bug in confpy, see its log\n"
    return f"the main thread of confpy has not answered for {seen.age:.0f} s\n"
