"""How a running confpy is, as a value: what it waits for, what failed, what it owes. Pure.

The agent makes a ``Status`` (``Agent.status``), and every view is a function of it alone: ``confpy status``, the page,
the metrics, readiness and what systemd shows. Times are seconds since 1970 UTC; 0 stands for never, or not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from confpy.frozen import frozen

State: TypeAlias = Literal["current", "waiting", "delivering", "owed", "stale", "drifted", "held", "failed"]
"""How a resource is, from the best to the worst:

* ``current``: its target is as the store wants it, and its program has read it.
* ``waiting``: there is something to deliver, and it waits for something that is under way.
* ``delivering``: a worker has it.
* ``owed``: its target is new, and the reload of its program has not succeeded yet.
* ``stale``: its target was made from cached keys, since the store has not been read.
* ``drifted``: something else has changed its target, and it is left so for now.
* ``held``: it is kept back on purpose, and its target is an older one.
* ``failed``: it could not be delivered.
"""

Cause: TypeAlias = Literal[
    "",
    "settle",
    "read",
    "lookup",
    "command",
    "first try",
    "group",
    "pass",
    "delivery",
    "worker",
    "reload",
    "reload after deliveries",
    "min_reload_interval",
    "splay",
    "reload retry",
    "rollback",
    "cached keys",
    "drift",
    "on_drift",
    "keys suspect",
    "rejected content",
    "noop",
    "invalid file",
    "store away",
    "prefix denied",
    "missing key",
    "backoff",
    "undo",
]
"""What a resource waits for, in a word; ``why`` says it in a sentence. Empty: for nothing.

``read``: the first read of its keys. ``command``: a command that another delivery or a reload uses. ``first try``: that
of a resource that shares its check. ``pass``: the next step. ``delivery``: the end of its delivery. ``backoff``: the
next try after an error.
"""

PASSING = frozenset({"settle", "read", "lookup", "command", "first try", "pass", "delivery", "worker"})
"""Causes that end by themselves, soon."""


@frozen
class Trouble:
    """Something that is not well."""

    subject: str
    """As ``resource haproxy``."""
    why: str
    since: float

    def __str__(self) -> str:
        return f"{self.subject}: {self.why}"


@frozen
class Totals:
    """What has happened since the start."""

    commits: int = 0
    """Targets that were replaced."""
    reloads: int = 0
    """Runs of reloads that succeeded."""
    failed_reloads: int = 0
    """And those that failed."""
    renders: int = 0
    avoided: int = 0
    """Reloads that were not needed: the running program was told of what had changed."""


@frozen
class ResourceStatus:
    """One resource."""

    name: str
    target: str
    """Empty where its file is invalid, so that its target is not known."""
    group: str = ""
    """What it is delivered with; empty: it is in no group."""
    state: State = "current"
    cause: Cause = ""
    why: str = ""
    """A sentence; empty where it is current."""
    since: float = 0.0
    """When this state began."""
    changed_at: float = 0.0
    """When this confpy last changed its target."""
    loaded_at: float = 0.0
    """When it was last as it should be: delivered, and its program, where it has a reload, has loaded it."""
    revision: int = 0
    """The store's revision that its target was made from; 0: it is not known."""
    digest: str = ""
    """The SHA-256 of its target as last delivered or compared, in hexadecimal; empty where it is sensitive."""
    reload: str = ""
    """The reload that is owed for it, as ``ReloadStatus.command``; empty: none."""
    error: Mapping[str, str | int] | None = None
    """Why it could not be delivered: the fields of its log line."""
    next_at: float = 0.0
    """When it is looked at next without being asked."""
    sensitive: bool = False
    """Its content is secret: it is not shown, and neither is its digest."""
    is_public: bool = False
    """Its option ``mode`` lets everybody read its target."""
    items: int | None = None
    """How many files it makes, with ``for_each``: the row is that of all of them, as bad as the worst. None: one."""
    failing: tuple[str, ...] = ()
    """Of these, the names of the first that have failed."""


@frozen
class StoreStatus:
    """One store."""

    name: str
    """Its kind, as the setting ``backend`` has it."""
    nodes: tuple[str, ...] = ()
    """Its addresses as they are set, without passwords."""
    is_up: bool = False
    """It was read, and answered when it was asked last."""
    revision: int = 0
    """Its newest revision that is known."""
    answered_at: float = 0.0
    """When it last answered, or a stream of it brought something."""
    stream: Literal["", "open", "opening", "waiting"] = ""
    """Its stream of changes; empty: none is used. ``waiting``: for the next try to open it."""
    error: Mapping[str, str | int] | None = None
    """Why it cannot be read: the fields of the log line."""
    next_at: float = 0.0
    """When it is asked next."""
    denied: tuple[str, ...] = ()
    """Prefixes that it denies."""
    period: float = 0.0
    """It is asked at least every so many seconds."""
    node: str = ""
    """The address of the one that answered last; empty: none did, or it has none."""
    mount: str = ""
    """Where it is mounted in the tree of keys; empty: at ``/``."""

    @property
    def label(self) -> str:
        """What people call it: its kind and, of a mounted one, its mount."""
        return f"{self.name} at {self.mount}" if self.mount else self.name


@frozen
class ReloadStatus:
    """One reload that is owed."""

    command: str
    resources: tuple[str, ...] = ()
    since: float = 0.0
    """Since when it is owed."""
    attempts: int = 0
    """How many runs in a row have failed."""
    is_running: bool = False
    waits_for: str = ""
    """What it waits for, as a sentence; empty: it runs, or starts next."""
    cause: Cause = "reload"
    next_at: float = 0.0
    """When it is tried next; 0: when what it waits for has ended."""
    error: Mapping[str, str | int] | None = None
    """Why its last run failed."""
    needed: str = ""
    """Why the running program could not be told of the change, and has to be reloaded; empty: it was not asked."""


@frozen
class Status:
    """A running confpy at one moment."""

    version: str
    pid: int
    confdir: str
    backend: str
    mode: str
    """``watch``, ``poll`` or ``onetime``; with ``noop`` behind it, such as ``watch noop``."""
    since: float
    """When it started."""
    now: float
    """When this was made."""
    is_started: bool
    """It has started: see ``confpy.agent.started``. Once true it stays so."""
    resources: tuple[ResourceStatus, ...] = ()
    stores: tuple[StoreStatus, ...] = ()
    reloads: tuple[ReloadStatus, ...] = ()
    is_stopping: bool = False
    """It was asked to stop."""
    started_at: float = 0.0
    """When ``is_started`` became true."""
    totals: Totals = Totals()
    missing: tuple[str, ...] = ()
    """Targets that were not there when it was looked last, so that it has not started."""


LATE = 30.0
"""Seconds after which what still waits, or a reload that is still to come, is counted as a trouble."""


def find_troubles(status: Status, *, late: float = LATE) -> Iterator[Trouble]:
    """Yield what is not well. ``late``: see ``LATE``."""
    if not status.is_started:
        missing = f": there is no {', '.join(status.missing)}" if status.missing else ""
        yield Trouble("confpy", f"it has not started yet{missing}", status.since)
    for store in status.stores:
        if not store.is_up:
            why = str((store.error or {}).get("error", "it has not answered yet"))
            yield Trouble(f"store {store.label}", why, store.answered_at or status.since)
    for one in status.resources:
        if one.state == "current":
            continue
        is_under_way = one.state in {"waiting", "delivering"} and one.cause in PASSING
        is_passing = is_under_way or (one.state == "owed" and one.error is None)
        # A delivery takes as long as its check may.
        since = max(one.since, one.next_at) if one.cause == "delivery" else one.since
        if not is_passing or status.now - since > late:
            yield Trouble(f"resource {one.name}", one.why, one.since)
    resources = {one.name for one in status.resources if one.state != "current"}
    for reload in status.reloads:
        if resources.isdisjoint(reload.resources) and (reload.error or status.now - reload.since > late):
            yield Trouble(f"reload {reload.command}", reload.waits_for or "it is owed", reload.since)


def troubles(status: Status, *, late: float = LATE) -> Iterator[str]:
    """Yield a line for each thing that is not well. ``late``: see ``LATE``."""
    return map(str, find_troubles(status, late=late))


def is_well(status: Status, *, late: float = LATE) -> bool:
    """Say whether nothing is wrong: it has started, its stores answer, and each target is as it should be."""
    return next(troubles(status, late=late), None) is None


def as_json(status: Status) -> dict[str, object]:
    """Return a status as JSON takes it, with what follows from it (``docs/status.md``)."""
    from confpy.frozen import fields

    found = fields(status)
    for name in ("resources", "stores", "reloads"):
        found[name] = [{key: _plain(value) for key, value in fields(one).items()} for one in found[name]]
    found["totals"] = fields(status.totals)
    problems = list(troubles(status))
    return {**found, "missing": list(status.missing), "is_well": not problems, "troubles": problems}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
