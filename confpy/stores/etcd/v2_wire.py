"""What to ask of etcd v2's API, and how to read what it answers. Pure: no I/O, no thread, no time.

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
"""The most requests of one read; beyond that, neighbours are read together."""
WATCH_HEADS = 16
"""The most requests that wait at once; beyond that, neighbours are waited for together."""

_KEY_NOT_FOUND, _UNAUTHORIZED, _INDEX_CLEARED = 100, 110, 401  # etcd's own codes, not those of HTTP


# --- answers ---------------------------------------------------------------------------------------------------------


def not_etcd() -> StoreError:
    """Return the error for an answer that etcd would not give."""
    return StoreError("it answers, but not as etcd v2 does", hint="is this address one of an etcd's client URLs?")


def url_path(path: str, **query: str) -> str:
    """Return what to GET for a raw key."""
    return f"/v2/keys{quote(path.encode('utf-8', 'surrogateescape'))}?{urlencode(query)}"


@frozen
class Place:
    """Whose answer it is, and from when: what the headers of every answer say."""

    cluster: str
    index: int

    @classmethod
    def of(cls, headers: Headers) -> Place:
        """Read the headers; raises ``StoreError``."""
        with parsing(not_etcd):
            place = cls(headers.get("X-Etcd-Cluster-Id") or "", int(headers.get("X-Etcd-Index") or ""))
        if not place.cluster:
            raise not_etcd()
        return place


def refusal(status: int, text: bytes) -> StoreError:
    """Return the error that an answer other than 200 stands for."""
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


def heads(prefixes: Collection[str], most: int, refused: Collection[str] = ()) -> tuple[str, ...]:
    """Return paths that cover the prefixes: at most ``most``, where that can be, and as deep as that can be.

    A path that etcd refused is not among them unless it is a prefix, and none lies above a hidden name, below which
    it would show nothing.
    """
    chosen = every = minimal(prefixes, lists)
    depth = max((prefix.count(ROOT) for prefix in every), default=0)
    while len(chosen) > most and depth > 0:
        depth -= 1
        fewer = minimal((_cut(prefix, depth, refused) for prefix in every), lists)
        chosen = fewer if len(fewer) < len(chosen) else chosen
    return chosen


def _cut(prefix: str, depth: int, refused: Collection[str]) -> str:
    above = islice(ancestors(prefix), depth, None)
    return next((head for head in above if head not in refused and lists(head, prefix)), prefix)


def lists(prefix: str, key: str) -> bool:
    """Say whether a read of the prefix brings the key: it is the prefix or below it, and below no hidden name there."""
    return covers(prefix, key) and "/_" not in key[0 if prefix == ROOT else len(prefix) :]


# --- reading ---------------------------------------------------------------------------------------------------------


class Reading:
    """One read of many prefixes: read what ``ask`` says, give ``take`` the answer."""

    def __init__(self, prefixes: Sequence[str], refused: set[str]) -> None:
        """``refused`` are paths that etcd refused before; it is added to."""
        self._refused = refused
        self._left = deque(heads(prefixes, READ_HEADS, refused))
        self._prefixes = list(dict.fromkeys(prefixes))
        self._listings: dict[str, Listing] = {}
        self._identity = ""

    def ask(self) -> str | None:
        """Return the path to read next, or None where all is known."""
        return self._left[0] if self._left else None

    def take(self, status: int, headers: Headers, text: bytes) -> None:
        """Take the answer to what was asked last; raises ``StoreError``, and ``AccessDenied`` never."""
        head = self._left[0]
        if status not in (200, 404):
            error = refusal(status, text)
            if not isinstance(error, AccessDenied):
                raise error
            self.refuse(error)
            return
        with parsing(not_etcd):
            answer, place = self._answer(status, text), Place.of(headers)
            keys, folders = _spread(answer["node"]) if status == 200 else ({}, [])
        if self._identity not in ("", place.cluster):
            raise StoreError("another cluster answers in the middle of a read")
        self._identity = place.cluster
        mine = self._below(head)
        chosen, empty = select(mine, keys), select(mine, dict.fromkeys(folders))
        self._listings |= {one: Listing(place.index, chosen[one], folders=frozenset(empty[one])) for one in mine}
        self._left.popleft()

    def refuse(self, error: StoreError) -> None:
        """Take it that what was asked last cannot be read, as ``error`` says: ask for the prefixes below it alone."""
        head = self._left.popleft()
        mine = self._below(head)
        if head in mine:
            error.at(prefix=head)
            self._listings[head] = Listing(0, error=error)
            mine.remove(head)
        else:
            self._refused.add(head)
        self._left.extendleft(reversed(minimal(mine, lists)))

    def snapshot(self) -> Snapshot:
        """Return what was read."""
        return Snapshot({prefix: self._listings[prefix] for prefix in self._prefixes}, self._identity)

    def _below(self, head: str) -> list[str]:
        return [prefix for prefix in self._prefixes if lists(head, prefix)]

    def _answer(self, status: int, text: bytes) -> Body:
        try:
            answer: Body = json.loads(text)
        except ValueError:
            raise refusal(status, text) from None
        if status == 404 and answer.get("errorCode") != _KEY_NOT_FOUND:
            raise refusal(status, text)
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


# --- waiting ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _News:
    """What happened below one prefix since it was last told."""

    revision: int = 0
    keys: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def drop(self, path: str, revision: int) -> None:
        """Note that a folder went, with all that it held."""
        self.keys = {key: value for key, value in self.keys.items() if not covers(path, key)}
        self.folders = {key: value for key, value in self.folders.items() if not covers(path, key)}
        self.deleted[path] = revision


class Waiting:
    """One wait after the other for what happens below a head: what to ask, and what the answers mean."""

    def __init__(self, head: str, cursors: Mapping[str, int], identity: str = "") -> None:
        """``cursors`` are the prefixes below the head, each with the index after which it is to be told."""
        self.head = head
        self._cursors = dict(cursors)
        self._identity = identity
        self._last = min(cursors.values())
        self._news: dict[str, _News] = {}

    def ask(self) -> str:
        """Return what to GET next: etcd answers with the first event since, or when there is one."""
        return url_path(self.head, wait="true", recursive="true", waitIndex=str(self._last + 1))

    def begin(self, headers: Headers) -> None:
        """Take the headers, which come at once; raises ``WatchLost`` where the index does not count here."""
        place = Place.of(headers)
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
        """Return what happened since the last call: one value for each prefix that has news."""
        taken = [
            Changes(prefix, news.revision, news.keys, deleted=news.deleted, folders=news.folders)
            for prefix, news in self._news.items()
        ]
        self._news = {}
        return taken

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._news)

    def _put(self, key: str, revision: int, value: str | None) -> None:
        for prefix in ancestors(key):
            if self._concerns(prefix, key, revision):
                self._of(prefix, revision).keys[key] = revision, value

    def _keep(self, folder: str, revision: int) -> None:
        for prefix in ancestors(folder):
            if self._concerns(prefix, folder, revision):
                self._of(prefix, revision).folders[folder] = revision

    def _drop(self, folder: str, revision: int) -> None:
        """A folder went: for a prefix below it, that is the prefix."""
        for prefix in self._cursors:
            path = prefix if covers(folder, prefix) else folder
            if self._concerns(prefix, path, revision):
                self._of(prefix, revision).drop(path, revision)

    def _concerns(self, prefix: str, key: str, revision: int) -> bool:
        return revision > self._cursors.get(prefix, revision) and lists(prefix, key)

    def _of(self, prefix: str, revision: int) -> _News:
        news = self._news.setdefault(prefix, _News())
        news.revision = revision
        return news
