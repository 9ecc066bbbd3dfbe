"""The requests and answers of etcd v2's API. Pure: no I/O, no thread, no time.

The API is described in https://etcd.io/docs/v2.3/api/. A key is a leaf with a value or a folder of keys; each change
has an index, and the last 1,000 of them can be waited for one by one.

What lies below a name that begins with ``_`` is hidden: a read leaves it out, a wait for a past index does not.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from confpy.errors import AccessDenied, NoApi, StoreError, WatchLost
from confpy.frozen import frozen
from confpy.http.body import Headers
from confpy.keys.prefixes import ROOT, ancestors, covers, minimal, normalise, select
from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.stores.answers import UNEXPECTED, parsing, tls_only

Body: TypeAlias = dict[str, Any]

READ_HEADS = 128
"""The most requests of one read; above that, neighbours are read together."""
WATCH_HEADS = 16
"""The most long polls at once; above that, neighbours are polled together."""

_KEY_NOT_FOUND, _UNAUTHORIZED, _INDEX_CLEARED = 100, 110, 401  # etcd's own codes, not those of HTTP


# --- answers ---------------------------------------------------------------------------------------------------------


def not_etcd() -> StoreError:
    """Return the error for an answer that etcd would not give."""
    return StoreError("it answers, but not as etcd v2 does", hint="is this address one of an etcd's client URLs?")


def url_path(path: str, **query: str) -> str:
    """Return what to GET for a raw key."""
    return f"/v2/keys{quote(path.encode('utf-8', 'surrogateescape'))}?{urlencode(query)}"


@frozen
class Position:
    """Which cluster answers, and at which index: the headers of every answer."""

    cluster: str
    index: int

    @classmethod
    def of(cls, headers: Headers) -> Position:
        """Read the headers; raises ``StoreError``."""
        with parsing(not_etcd):
            place = cls(headers.get("X-Etcd-Cluster-Id") or "", int(headers.get("X-Etcd-Index") or ""))
        if not place.cluster:
            raise not_etcd()
        return place


def error_of(status: int, text: bytes) -> StoreError:
    """Return the error for an answer other than 200."""
    try:
        answer = json.loads(text)
        code, said = int(answer.get("errorCode", 0)), str(answer["message"])
        said = f"{said} ({answer['cause']})" if answer.get("cause") else said
    except UNEXPECTED:
        code, said = 0, ""
    said = " ".join(said.split())[:200]
    if code == _INDEX_CLEARED:
        return WatchLost("etcd has forgotten the changes since: it keeps the last 1,000 of all keys")
    if code == _UNAUTHORIZED or status in (401, 403):
        hint = "is the login right (basic_auth, username, password_file), may its role read the keys?"
        return AccessDenied(f"etcd refuses: {said or f'HTTP {status}'}", hint=hint)
    if said:
        return StoreError(f"etcd says: {said}")
    if status == 400 and b"HTTPS" in text:
        return tls_only()
    if status == 404:
        hint = "is it an etcd? 3.4 and 3.5 need --enable-v2; or choose the store etcdv3"
        return NoApi("it has no API v2", hint=hint)
    return not_etcd()


# --- covering many prefixes ------------------------------------------------------------------------------------------


def heads(prefixes: Collection[str], most: int, denied: Collection[str] = ()) -> tuple[str, ...]:
    """Return paths that cover the prefixes: at most ``most`` if possible, and as deep as possible.

    A path that etcd denies is not among them unless it is a prefix, and none is above a hidden name, which it would
    not show.
    """
    chosen = every = minimal(prefixes, lists)
    depth = max((prefix.count(ROOT) for prefix in every), default=0)
    while len(chosen) > most and depth > 0:
        depth -= 1
        fewer = minimal((_cut(prefix, depth, denied) for prefix in every), lists)
        chosen = fewer if len(fewer) < len(chosen) else chosen
    return chosen


def _cut(prefix: str, depth: int, denied: Collection[str]) -> str:
    above = islice(ancestors(prefix), depth, None)
    return next((head for head in above if head not in denied and lists(head, prefix)), prefix)


def lists(prefix: str, key: str) -> bool:
    """Whether a read of the prefix brings the key: it is the prefix or below it, and below no hidden name there."""
    return covers(prefix, key) and "/_" not in key[0 if prefix == ROOT else len(prefix) :]


# --- reading ---------------------------------------------------------------------------------------------------------


class Reading:
    """One read of many prefixes: GET ``next_path``, pass the answer to ``take``."""

    def __init__(self, prefixes: Sequence[str], denied: set[str]) -> None:
        """``denied`` are paths that etcd refused before; it is added to."""
        self._denied = denied
        self._left = deque(heads(prefixes, READ_HEADS, denied))
        self._prefixes = list(dict.fromkeys(prefixes))
        self._listings: dict[str, Listing] = {}
        self._identity = ""

    def next_path(self) -> str | None:
        """Return the path to read next, or None if all is known."""
        return self._left[0] if self._left else None

    def take(self, status: int, headers: Headers, text: bytes) -> None:
        """Take the answer to the last request; raises ``StoreError``, but never ``AccessDenied``."""
        head = self._left[0]
        if status not in (200, 404):
            error = error_of(status, text)
            if not isinstance(error, AccessDenied):
                raise error
            self.deny(error)
            return
        with parsing(not_etcd):
            answer, place = self._answer(status, text), Position.of(headers)
            keys, folders = _spread(answer["node"]) if status == 200 else ({}, [])
        if self._identity not in ("", place.cluster):
            raise StoreError("another cluster answers in the middle of a read")
        self._identity = place.cluster
        below = self._below(head)
        chosen, empty = select(below, keys), select(below, dict.fromkeys(folders))
        self._listings |= {one: Listing(place.index, chosen[one], folders=frozenset(empty[one])) for one in below}
        self._left.popleft()

    def deny(self, error: StoreError) -> None:
        """Record that the last path cannot be read, for ``error``: the prefixes below it are read separately."""
        head = self._left.popleft()
        below = self._below(head)
        if head in below:
            error.at(prefix=head)
            self._listings[head] = Listing(0, error=error)
            below.remove(head)
        else:
            self._denied.add(head)
        self._left.extendleft(reversed(minimal(below, lists)))

    def snapshot(self) -> Snapshot:
        """Return what was read."""
        return Snapshot({prefix: self._listings[prefix] for prefix in self._prefixes}, self._identity)

    def _below(self, head: str) -> list[str]:
        return [prefix for prefix in self._prefixes if lists(head, prefix)]

    def _answer(self, status: int, text: bytes) -> Body:
        try:
            answer: Body = json.loads(text)
        except ValueError:
            raise error_of(status, text) from None
        if status == 404 and answer.get("errorCode") != _KEY_NOT_FOUND:
            raise error_of(status, text)
        return answer


def _spread(node: Body) -> tuple[dict[str, str], list[str]]:
    """Return the leaves at or below a node with their values, and the folders that have none."""
    keys: dict[str, str] = {}
    folders: list[str] = []
    left = [node]
    while left:
        one = left.pop()
        key = one.get("key") or ROOT
        if not one.get("dir"):
            keys[key] = one["value"]
        elif one.get("nodes"):
            left += one["nodes"]
        else:
            folders.append(key)
    return keys, folders


# --- long polls ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pending:
    """What happened below one prefix since the last report."""

    revision: int = 0
    keys: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def drop(self, path: str, revision: int) -> None:
        """Record that a folder was deleted with all that it held."""
        self.keys = {key: value for key, value in self.keys.items() if not covers(path, key)}
        self.folders = {key: value for key, value in self.folders.items() if not covers(path, key)}
        self.deleted[path] = revision


class LongPoll:
    """One long poll after the other below a head: what to request, and what the answers mean."""

    def __init__(self, head: str, cursors: Mapping[str, int], identity: str = "") -> None:
        """``cursors`` are the prefixes below the head, each with the index after which changes are reported."""
        self.head = head
        self._cursors = dict(cursors)
        self._identity = identity
        self._last = min(cursors.values())
        self._pending: dict[str, _Pending] = {}

    def next_path(self) -> str:
        """Return the path to GET next: etcd answers with the first event since, or waits for one."""
        return url_path(self.head, wait="true", recursive="true", waitIndex=str(self._last + 1))

    def begin(self, headers: Headers) -> None:
        """Take the headers, which arrive at once; raises ``WatchLost`` if the index means nothing here."""
        place = Position.of(headers)
        if self._identity not in ("", place.cluster):
            raise WatchLost("another etcd cluster answers at this address")
        if place.index < self._last:
            raise WatchLost("etcd is at an older index than before: was it restored from a backup?")

    def feed(self, text: bytes) -> None:
        """Take one event; raises ``StoreError``."""
        with parsing(not_etcd):
            event = json.loads(text)
            node, before = event["node"], event.get("prevNode") or {}
            key, revision = normalise(node.get("key") or ROOT), int(node["modifiedIndex"])
            self._last = max(self._last, revision)
            was_folder, is_folder = bool(before.get("dir")), bool(node.get("dir"))
            if event["action"] in ("delete", "expire", "compareAndDelete"):
                if is_folder or was_folder:
                    self._drop(key, revision)
                else:
                    self._put(key, revision, None)
                self._keep(key.rpartition(ROOT)[0] or ROOT, revision)
            elif is_folder:
                if before and not was_folder:
                    self._put(key, revision, None)
                self._keep(key, revision)
            else:
                self._put(key, revision, str(node["value"]))

    def take(self) -> list[Changes]:
        """Return the changes since the last call: one value for each prefix that has any."""
        taken = [
            Changes(prefix, pending.revision, pending.keys, deleted=pending.deleted, folders=pending.folders)
            for prefix, pending in self._pending.items()
        ]
        self._pending = {}
        return taken

    def __bool__(self) -> bool:
        """Whether there are changes to take."""
        return bool(self._pending)

    def _put(self, key: str, revision: int, value: str | None) -> None:
        for prefix in ancestors(key):
            if self._matters_to(prefix, key, revision):
                self._of(prefix, revision).keys[key] = revision, value

    def _keep(self, folder: str, revision: int) -> None:
        for prefix in ancestors(folder):
            if self._matters_to(prefix, folder, revision):
                self._of(prefix, revision).folders[folder] = revision

    def _drop(self, folder: str, revision: int) -> None:
        """Record that a folder was deleted: for a prefix below it, that is the prefix."""
        for prefix in self._cursors:
            path = prefix if covers(folder, prefix) else folder
            if self._matters_to(prefix, path, revision):
                self._of(prefix, revision).drop(path, revision)

    def _matters_to(self, prefix: str, key: str, revision: int) -> bool:
        return revision > self._cursors.get(prefix, revision) and lists(prefix, key)

    def _of(self, prefix: str, revision: int) -> _Pending:
        pending = self._pending.setdefault(prefix, _Pending())
        pending.revision = revision
        return pending
