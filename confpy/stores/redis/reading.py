"""Reading a Redis: names by SCAN, what they hold in pipelines of a bounded size, and what the server is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from confpy.errors import AccessDenied, StoreError
from confpy.stores.answers import parsing
from confpy.stores.redis.client import Command, Session, bulk, refusal
from confpy.stores.redis.contents import Found, Names, notifies

SCAN_COUNT = 1000
"""Names that one step of SCAN looks at."""
BATCH = 64
"""Names that are read together."""
VALUE_BYTES = 4 << 20
"""The largest value: Redis itself allows 512 MB."""
HASH_FIELDS = 1000
"""Fields of a hash that are read at once."""


class Server(NamedTuple):
    """What a server says of itself."""

    identity: str
    """The history of changes that it continues; empty: it does not say."""
    previous: str
    """The one that it continued as a replica before."""
    notifies: bool | None
    """Whether it sends keyspace notifications for every change; None: it does not say."""


class Holding(NamedTuple):
    """What a number of names hold."""

    found: dict[str, Found]
    """Raw key → what its name holds."""
    denied: dict[str, StoreError]
    """Raw key → why it cannot be read."""
    others: dict[str, str]
    """Raw key → a type that has no keys here."""


def examine(session: Session) -> Server:
    """Return what a server says of itself; raises ``StoreError`` for one that confpy cannot read."""
    info, events = session.run(("INFO",), ("CONFIG", "GET", "notify-keyspace-events"))
    facts: dict[str, str] = {}
    if not isinstance(info, ResponseError):
        with parsing(_unexpected):
            facts = dict(line.split(":", 1) for line in bulk(info).splitlines() if ":" in line)
    elif str(info).startswith(("NOAUTH", "MOVED")):
        raise refusal(info)
    if facts.get("redis_mode") == "cluster":
        raise StoreError("it is a node of a Redis Cluster", hint="confpy reads a single Redis, or its replicas")
    if facts.get("redis_mode") == "sentinel":
        raise StoreError("it is a sentinel", hint="name the Redis that it watches over, and the replicas")
    if facts.get("role") == "slave" and facts.get("master_link_status") != "up":
        raise StoreError("it is a replica without a link to its master", hint="it may lack keys: is the master down?")
    sends: bool | None = None
    if not isinstance(events, ResponseError):
        with parsing(_unexpected):
            sends = notifies(bulk(events[1]) if len(events) > 1 else "")
    return Server(facts.get("master_replid", ""), facts.get("master_replid2", ""), sends)


def scan(session: Session, pattern: str) -> Iterator[Sequence[str]]:
    """Yield names that match a glob, some of them more than once: every one that is there all the time."""
    cursor = 0
    while True:
        with parsing(_unexpected):
            after, found = session.ask("SCAN", cursor, "MATCH", encoded(pattern), "COUNT", SCAN_COUNT)
            cursor, names = int(after), [bulk(name) for name in found]
        if names:
            yield names
        if cursor == 0:
            return


def fetch(session: Session, names: Names, keys: Iterable[str]) -> Holding:
    """Read what the names of some keys hold, all together."""
    wanted = {key: encoded(names.name(key)) for key in keys}
    found: dict[str, Found] = dict.fromkeys(wanted)
    denied: dict[str, StoreError] = {}
    others: dict[str, str] = {}
    unsure: dict[str, str] = {}
    # One byte more than a value may have. Of an empty string and of no key at all, the answer is the same.
    for key, reply in _replies(session, "GETRANGE", wanted, 0, VALUE_BYTES):
        if not isinstance(reply, ResponseError):
            if len(reply) > VALUE_BYTES:
                message = f"the value of a key is larger than {VALUE_BYTES >> 20} MiB, too large for confpy"
                denied[key] = AccessDenied(message, key=key)
            elif reply:
                found[key] = bulk(reply)
            else:
                unsure[key] = "EXISTS"
        elif str(reply).startswith("WRONGTYPE"):
            unsure[key] = "TYPE"
        else:
            denied[key] = _denial(reply, key)
    empty = [key for key, command in unsure.items() if command == "EXISTS"]
    for key, reply in _replies(session, "EXISTS", {key: wanted[key] for key in empty}):
        if reply == 1:
            found[key] = ""
    hashes = []
    for key, reply in _replies(session, "TYPE", {key: wanted[key] for key in unsure if key not in empty}):
        if reply == b"hash":
            hashes.append(key)
        elif isinstance(reply, bytes) and reply not in (b"none", b"string"):
            others[key] = bulk(reply)
    for key in hashes:
        found[key] = _fields(session, names, key, wanted[key])
    return Holding(found, denied, others)


def _replies(session: Session, command: str, names: dict[str, bytes], *arguments: int) -> Iterator[tuple[str, Any]]:
    commands: list[Command] = [(command, name, *arguments) for name in names.values()]
    return zip(names, session.run(*commands) if commands else [], strict=True)


def _fields(session: Session, names: Names, key: str, name: bytes) -> dict[str, str] | None:
    """Return the fields of a hash as keys; None if it is none any more."""
    fields: dict[str, str] = {}
    cursor = 0
    while True:
        (reply,) = session.run(("HSCAN", name, cursor, "COUNT", HASH_FIELDS))
        if isinstance(reply, ResponseError):
            if str(reply).startswith("WRONGTYPE"):  # a notification tells of what it is now
                return None
            raise refusal(reply)
        with parsing(_unexpected):
            cursor = int(reply[0])
            for field, value in zip(reply[1][::2], reply[1][1::2], strict=True):
                below = names.field(key, bulk(field))
                if below is not None and len(value) <= VALUE_BYTES:
                    fields[below] = bulk(value)
        if cursor == 0:
            return fields


def _denial(reply: ResponseError, key: str) -> StoreError:
    said = str(reply)
    if "permissions to run" in said or "can't run this command" in said:
        raise refusal(reply)
    error = refusal(reply)
    if type(reply).__name__ != "NoPermissionError" and not said.startswith("NOPERM"):
        raise error
    hint = "give the user of the ACL a pattern that may read it"
    return AccessDenied("Redis refuses a key of the prefix: permission denied", hint=hint, key=key)


def encoded(text: str) -> bytes:
    """Return a name as Redis has it."""
    return text.encode("utf-8", "surrogateescape")


def _unexpected() -> StoreError:
    return StoreError("its answer is not Redis'", hint="is it the right port?")
