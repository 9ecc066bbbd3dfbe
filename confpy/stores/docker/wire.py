"""What is asked of an engine, and what its answers mean. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

from confpy.errors import StoreError
from confpy.stores.answers import UNEXPECTED, tls_only

NEWEST = (1, 52)
"""The newest version of the API that this module knows. An engine or a proxy that speaks none so old is asked for what
it speaks itself: what is read here has not changed since 1.21."""
EVENTS = {
    "type": ["container", "network"],
    # Podman calls two of them otherwise: it filters by "died" and "remove".
    "event": [
        "start", "restart", "die", "died", "stop", "cleanup", "destroy", "remove", "rename", "pause", "unpause",
        "health_status", "connect", "disconnect", "update",
    ],
}  # fmt: skip
"""The events that can change a key. Health checks cause others, three at each run, which are none of ours."""
_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})", re.ASCII)
_DATE = re.compile(r"\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Engine(NamedTuple):
    """What an engine said of itself."""

    version: str
    """The version of the API to speak, such as 1.41; empty: the paths without one."""
    newest: str = ""
    """The newest that it speaks."""
    podman: bool = False


class Event(NamedTuple):
    """Something happened to a container."""

    container: str
    """Its id."""
    action: str
    at: float
    """Seconds since 1970 by the engine's clock."""


def chosen(newest: str) -> str:
    """Return the version to speak to an engine whose newest is this one."""
    found = _VERSION.fullmatch(newest)
    if found is None:
        return ""
    return "{}.{}".format(*min((int(found[1]), int(found[2])), NEWEST))


def path(engine: Engine, name: str, **parameters: object) -> str:
    """Return the path of a request; parameters that are no text are sent as JSON."""
    version = f"/v{engine.version}" if engine.version else ""
    texts = {
        key: one if isinstance(one, str) else json.dumps(one, separators=(",", ":")) for key, one in parameters.items()
    }
    query = "&".join(f"{key}={quote(text, safe='')}" for key, text in texts.items())
    return f"{version}/{name}" + (f"?{query}" if query else "")


def listing(engine: Engine, ids: Iterable[str] | None, **filters: list[str]) -> str:
    """Return the path of the list of those containers, or of all, that run, are paused or being restarted."""
    wanted: dict[str, list[str]] = {**({} if ids is None else {"id": sorted(ids)}), **filters}
    if engine.podman:  # without a filter it leaves out the paused ones
        wanted["status"] = ["running", "paused"]
    return path(engine, "containers/json", **({"filters": wanted} if wanted else {}))


def event(line: bytes) -> Event | None:
    """Return the event of a line of the stream, None for one that is about no container; raises ``StoreError``."""
    try:
        said: Mapping[str, Any] = json.loads(line)
        actor = said.get("Actor") or {}
        action = str(said.get("Action") or said.get("status") or "").partition(":")[0]
        kind = said.get("Type") or "container"
        # Docker's event of a network is about the network, Podman's about the container.
        of_network = kind == "network" and str((actor.get("Attributes") or {}).get("container") or "")
        one = of_network or str(actor.get("ID") or said.get("id") or "")
        nanoseconds, seconds = said.get("timeNano"), said.get("time")
        at = int(nanoseconds) / 1e9 if nanoseconds else float(seconds or 0)
    except UNEXPECTED:
        raise StoreError("an event of the engine is not what Docker and Podman send") from None
    return Event(one, action, at) if one and kind in ("container", "network") else None


def seconds(date: str | None) -> float | None:
    """Return the moment of a ``Date`` header in seconds since 1970, None for another text."""
    found = _DATE.fullmatch(date or "")
    if found is None or found[2] not in _MONTHS:
        return None
    from calendar import timegm

    day, year, hour, minute, second = (int(found[number]) for number in (1, 3, 4, 5, 6))
    return float(timegm((year, _MONTHS.index(found[2]) + 1, day, hour, minute, second)))


class WrongVersion(StoreError):
    """The engine does not speak this version of its API."""


def error_of(status: int, body: bytes, asked: str) -> StoreError:
    """Return the error that an answer other than 200 to GET ``asked`` stands for."""
    text = " ".join(body.decode("utf-8", "replace").split())[:200]
    said = text
    with suppress(*UNEXPECTED):
        said = str(json.loads(body)["message"])[:200]
    name = asked.partition("?")[0]
    if status == 400 and "HTTPS" in text:
        return tls_only()
    if status == 400 and ("too old" in said or "too new" in said):
        return WrongVersion(f"it refuses the version: {said}")
    if status in (401, 403, 405):
        hint = (
            "does a proxy before it allow GET of /_ping, /version, /events and /containers/…, with and without /v1.NN?"
        )
        return StoreError(f"GET {name} is refused (HTTP {status})", hint=hint)
    if status >= 500 and not text.startswith("<"):
        return StoreError(f"the engine says: {said}")
    return StoreError(
        f"it answers GET {name} with HTTP {status}, not as an engine does",
        kind=("not an engine", status),
        hint="is this the socket of a Docker or Podman engine?",
    )


def not_an_engine() -> StoreError:
    """Return the error for an answer that no engine would give."""
    return StoreError("it answers, but not as an engine does", hint="is this the socket of a Docker or Podman engine?")
