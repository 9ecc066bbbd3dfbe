"""Every step on the way of a change, for a log at level debug: what was asked for, and what came back. Pure.

Loaded at that level only. Names, counts and revisions are told, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from confpy.events import LogEvent, abbreviate
from confpy.keys.snapshot import Invalidated
from confpy.messages import (
    Action,
    Changed,
    Deliver,
    Delivered,
    Inspect,
    Listed,
    Load,
    Lost,
    Message,
    Opened,
    Poll,
    Polled,
    Read,
    Reloaded,
    Resolve,
    Resolved,
    Unwatch,
    Watch,
)
from confpy.templates.lookup import HIDDEN, Lookup

IsLiteral = Callable[[Lookup], bool]
"""Says whether a look-up stands in a template word for word: any other may be made of a key's value."""


def describe(messages: Iterable[Message], actions: Iterable[Action], is_literal: IsLiteral) -> list[LogEvent]:
    """Return the lines of one step of the agent: its messages, then its actions."""
    found = [_of_message(message, is_literal) for message in messages]
    found += [_of_action(action, is_literal) for action in actions]
    return [event for event in found if event is not None]


def _asked(lookups: Iterable[Lookup], is_literal: IsLiteral) -> str:
    return abbreviate([f"{one.kind} {one.name if is_literal(one) else HIDDEN}" for one in lookups])


def _of_message(message: Message, is_literal: IsLiteral) -> LogEvent | None:
    match message:
        case Listed(read=number, snapshot=snapshot, error=error):
            if snapshot is None:
                return LogEvent("debug", "read.failed", {"read": number, **(error.fields() if error else {})})
            counts = {"keys": sum(len(one.keys) for one in snapshot.listings.values())}
            revision = max((one.revision for one in snapshot.listings.values()), default=0)
            return LogEvent("debug", "read.ended", {"read": number, **counts, "revision": revision})
        case Polled(poll=number, status=status, error=error):
            failed = {"error": error.message} if error else {}
            revision = 0 if status is None else status.revision
            return LogEvent("debug", "poll.ended", {"poll": number, "revision": revision, **failed})
        case Opened(stream=number):
            return LogEvent("debug", "stream.opened", {"stream": number})
        case Changed(stream=number, changes=changes):
            if isinstance(changes, Invalidated):
                return LogEvent("debug", "stream.invalidated", {"stream": number})
            keys = [*changes.keys, *changes.deleted]
            what = {"keys": len(keys), "changed": abbreviate(keys), "revision": changes.revision}
            return LogEvent("debug", "stream.changed", {"stream": number, "prefix": changes.prefix, **what})
        case Lost(stream=number, error=error):
            return LogEvent("debug", "stream.ended", {"stream": number, "error": error.message})
        case Resolved(facts=facts):
            return LogEvent("debug", "lookup.answered", {"asked": _asked(facts, is_literal)})
        case Delivered(batch=number, reports=reports):
            outcomes = abbreviate([f"{one.resource} {one.outcome}" for one in reports])
            return LogEvent("debug", "delivery.ended", {"delivery": number, "outcomes": outcomes})
        case Reloaded(key=key, error=error, took=took, by=by):
            how = {"error": error.message} if error else {"succeeded": message.needed is None}
            means = {} if by == "reload" else {"by": by}
            return LogEvent("debug", "reload.ended", {"command": key, **how, **means, "took": round(took, 3)})
        case _:
            return None


def _of_action(action: Action, is_literal: IsLiteral) -> LogEvent | None:
    match action:
        case Load():
            return LogEvent("debug", "resources.read", {"what": "conf.d"})
        case Read(read=number, prefixes=prefixes):
            return LogEvent("debug", "read.started", {"read": number, "prefix": abbreviate(prefixes)})
        case Poll(poll=number, prefixes=prefixes):
            return LogEvent("debug", "poll.started", {"poll": number, "prefix": abbreviate(prefixes)})
        case Watch(stream=number, cursors=cursors):
            after = {"prefix": abbreviate(list(cursors)), "after": min(cursors.values(), default=0)}
            return LogEvent("debug", "stream.opening", {"stream": number, **after})
        case Unwatch(stream=number):
            return LogEvent("debug", "stream.closed", {"stream": number})
        case Resolve(lookups=lookups):
            return LogEvent("debug", "lookup.asked", {"asked": _asked(lookups, is_literal)})
        case Deliver(batch=number, groups=groups):
            names = [one.resource.name for group in groups for one in group.candidates]
            return LogEvent("debug", "delivery.started", {"delivery": number, "resource": abbreviate(names)})
        case Inspect(targets=targets):
            return LogEvent("debug", "targets.inspected", {"targets": len(targets)})
        case _:
            return None
