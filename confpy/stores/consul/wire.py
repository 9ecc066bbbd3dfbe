"""Consul's KV as it answers: which queries bring which prefixes, and what is new in an answer. Pure.

A blocking query brings everything below a *string* prefix, and its index: nothing below it changed after that. A raw
key is ``/`` and Consul's key; what a string prefix brings beside the path (``a/bc`` for ``/a/b``) is left out here.

The index of a query is where the newest key below it was written or deleted. It is good for one thing only: if it is
as before, nothing changed. It moves without a change (an empty tree has the index of all keys), and it goes back when
Consul forgets an old deletion, or when the servers were restored from a snapshot
(https://developer.hashicorp.com/consul/api-docs/features/blocking).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import NamedTuple, TypeAlias

from confpy.errors import AccessDenied, StoreError, WatchLost
from confpy.http.body import Headers
from confpy.keys.prefixes import ROOT, ancestors
from confpy.keys.snapshot import Changes
from confpy.stores.answers import tls_only

QUERIES = 16
"""The most queries that one confpy keeps open: Consul refuses a client that has many connections."""
FRESH_MS = 2000
"""How long the leader may have been silent to a server whose own copy is believed."""
COMPARED_BYTES = 1 << 20
"""The largest answer that is stored to compare the next one with."""
REMEMBERED = 10_000
"""How many deletions below a prefix are remembered, for streams that begin before them."""

Keys: TypeAlias = Mapping[str, tuple[int, bytes | None]]
"""Raw key → its ModifyIndex and its value."""


class Answer(NamedTuple):
    """What one query brought."""

    at: int
    """Its index."""
    keys: Keys
    gone: AbstractSet[str] | None = None
    """None where ``keys`` are all there are. Otherwise they are those that differ from the previous answer, and these
    are the ones that differed there."""
    body: bytes = b""
    """As it came."""


def is_fresh(headers: Headers) -> bool:
    """Whether a server that answered from its own copy follows a leader, and heard from it a moment ago.

    Without a leader, servers have answered with nothing at all (https://github.com/hashicorp/consul-template/issues/1131).
    """
    silence = headers.get("X-Consul-LastContact") or ""
    return headers.get("X-Consul-KnownLeader") == "true" and silence.isdecimal() and int(silence) <= FRESH_MS


def to_text(value: bytes | None) -> str:
    """Return a value as text; any bytes survive. A directory's placeholder has none."""
    return (value or b"").decode("utf-8", "surrogateescape")


def error_of(status: int, body: bytes) -> StoreError:
    """Return the error that an answer other than 200 and 404 stands for."""
    said = " ".join(body.decode("utf-8", "replace").split())[:200]
    if "ACL not found" in said:
        return StoreError("Consul does not know the token", hint="is it the right one (auth_token), was it deleted?")
    if status == 401:
        return StoreError("it wants a login, or another one", hint="give basic_auth, username and password")
    if status == 400 and "HTTPS" in said:
        return tls_only()
    if said.startswith("<"):
        return StoreError(
            f"it answers {status}, with a page", kind=("page", status), hint="if it is a proxy: does it reach Consul?"
        )
    if status == 403:
        return AccessDenied(f"Consul refuses: {said}", hint="give the token a policy that may list the prefix")
    if "No path to datacenter" in said:
        return StoreError("Consul does not know the datacenter", hint="is it spelled right (datacenter)?")
    if status >= 500 or status == 429:
        return StoreError(f"Consul says: {said}")
    return not_consul()


def not_consul() -> StoreError:
    """Return the error for an answer that Consul would not give."""
    return StoreError("it answers, but not as Consul does", hint="is this the address of a Consul's HTTP API?")


# --- which queries ---------------------------------------------------------------------------------------------------


class Cover(NamedTuple):
    """The queries that bring some prefixes."""

    queries: dict[str, tuple[str, ...]]
    """Consul's string prefix → the prefixes that it brings."""
    denied: tuple[str, ...]
    """Prefixes without any query that the token may make."""


def cover(
    prefixes: Iterable[str],
    weights: Mapping[str, int],
    denied: AbstractSet[str] = frozenset(),
    *,
    most: int = QUERIES,
) -> Cover:
    """Choose at most ``most`` string prefixes that bring all ``prefixes``, each about as many keys.

    ``weights`` says how many keys a prefix holds, where that is known. ``denied`` are string prefixes that the token
    may not list: what lies below them is queried separately, and only then the queries can be more than ``most``.
    """
    spelled = {prefix.removeprefix(ROOT): prefix for prefix in prefixes}
    if not spelled:
        return Cover({}, ())

    def urgency(group: Sequence[str]) -> tuple[bool, int]:
        return _head(group) in denied, sum(weights.get(spelled[name], 1) for name in group)

    groups = [sorted(spelled)]
    done: list[list[str]] = []
    while groups:
        group = max(groups, key=urgency)
        groups.remove(group)
        head = _head(group)
        parts = [list(part) for _, part in groupby(group, key=lambda name: name[len(head) : len(head) + 1])]
        must = head in denied
        # A prefix that is itself the head brings the others whatever is done with them.
        may = group[0] != head and len(groups) + len(done) + len(parts) <= most
        if len(parts) > 1 and (must or may):
            groups += parts
        else:
            done.append(group)
    queries: dict[str, tuple[str, ...]] = {}
    without: list[str] = []
    for group in sorted(done):
        head = _head(group)
        query = f"{head}/" if head in denied else _sendable(head)
        if query in denied or query == ROOT:
            without += [spelled[name] for name in group]
        else:
            wide = next((one for one in queries if query.startswith(one)), query)
            queries[wide] = (*queries.get(wide, ()), *(spelled[name] for name in group))
    return Cover(queries, tuple(without))


def last_resort(prefix: str) -> str:
    """Return the narrowest query that brings a prefix and all below it."""
    return "" if prefix == ROOT else prefix.removeprefix(ROOT) + ROOT


def _head(names: Sequence[str]) -> str:
    """Return what sorted names begin with."""
    first, last = names[0], names[-1]
    length = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:length]


def _sendable(head: str) -> str:
    """Return the string prefix without a ``.`` or ``..`` at its end, where URLs take it for a step."""
    above, slash, last = head.rpartition(ROOT)
    return above + slash if last in (".", "..") else head


# --- what differs ----------------------------------------------------------------------------------------------------

_NEXT = b'},{"LockIndex":'
"""Where one key's item ends and the next begins. Never within a name: there, a quote has a backslash before it."""


def differing(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Return of two answers the items from the first to the last that differ, each part as a list of its own.

    A query brings thousands of keys, mostly for one that is new; to take all of them apart costs milliseconds.
    """
    if not all(answer[:1] == b"[" and answer[-1:] == b"]" for answer in (before, after)):
        return before, after
    start = before.rfind(_NEXT, 0, _common(before, after)) + 2  # 1 where there is none: after the bracket
    same = _common_end(before, after, min(len(before), len(after)) - start)
    end = before.find(_NEXT, len(before) - same)
    rest = len(before) - (end + 1) if end >= 0 else 1
    return b"[%b]" % before[start : len(before) - rest], b"[%b]" % after[start : len(after) - rest]


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes at the beginning are the same."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_end(one: bytes, other: bytes, most: int) -> int:
    """Return how many bytes at the end are the same, ``most`` at most."""
    low, high = 0, most
    ends = len(one), len(other)
    while low < high:
        middle = (low + high + 1) // 2
        # Turning both round, to compare beginnings, takes ten times as long.
        if one[ends[0] - middle : ends[0] - low] == other[ends[1] - middle : ends[1] - low]:
            low = middle
        else:
            high = middle - 1
    return low


# --- what is new -----------------------------------------------------------------------------------------------------


class Reported:
    """What was reported to the mirror of one prefix: where a stream begins, and by which a deletion is found."""

    def __init__(self, revision: int, keys: Mapping[str, int]) -> None:
        self.revision = revision
        self.keys = dict(keys)
        """Raw key → its ModifyIndex."""
        self._deleted: dict[str, int] = {}
        self._since = revision

    def read(self, revision: int, keys: Mapping[str, int]) -> None:
        """Record what a read brought as of ``revision``; later reports of a stream stay."""
        missing = [key for key, index in self.keys.items() if key not in keys and index <= revision]
        self.record(revision, dict.fromkeys(missing, (revision, None)))
        for key, index in keys.items():
            if self._deleted.get(key, 0) <= revision and self.keys.get(key, 0) <= index:
                self.keys[key] = index
                self._deleted.pop(key, None)

    def record(self, revision: int, news: Mapping[str, tuple[int, str | None]]) -> None:
        """Record what a stream brought."""
        for key, (index, value) in news.items():
            if value is None:
                self.keys.pop(key, None)
                self._deleted[key] = index
            else:
                self.keys[key] = index
                self._deleted.pop(key, None)
        self.revision = max(self.revision, revision)
        if len(self._deleted) > REMEMBERED:
            self._deleted.clear()
            self._since = self.revision

    def at(self, cursor: int) -> dict[str, int]:
        """Return the keys that may be known to whoever has all reports up to ``cursor``; raises ``WatchLost``."""
        if cursor < self._since:
            raise WatchLost(f"the deletions after index {cursor} are not known any more")
        known = {key: index for key, index in self.keys.items() if index <= cursor}
        return known | {key: 0 for key, index in self._deleted.items() if index > cursor}


def contradicts(answer: Answer, reported: Iterable[Reported]) -> bool:
    """Whether an answer is older than what was reported, or lacks a key of it."""
    return any(answer.at < one.revision or not one.keys.keys() <= answer.keys.keys() for one in reported)


class BlockingQuery:
    """One blocking query of a stream: its last answer, and what is new in the next one."""

    def __init__(
        self,
        query: str,
        prefixes: Iterable[str],
        known: Mapping[str, int],
        index: int,
        cursor: int = 0,
        *,
        last: bytes = b"",
    ) -> None:
        """``known``: raw key → ModifyIndex, as reported. ``index``: where to wait from, 0 for an answer at once.

        ``cursor``: up to where all of its prefixes were reported; what is new to them has a higher index. ``last``: the
        body of an answer that brought what is known, if there is one.
        """
        self.query = query
        self.index = index
        self.since = index
        """The index to wait from next."""
        self.prefixes = frozenset(prefixes)
        self.last = last
        """The body of the last answer, to compare the next one with; empty where that is not stored."""
        self._known = dict(known)
        self._cursor = cursor

    def take(self, answer: Answer, *, early: bool = False) -> list[Changes]:
        """Return what changed, by prefix; raises ``WatchLost`` if the servers have an older state than before.

        ``early``: it arrived long before the end of its wait. Servers that are restored from a snapshot end a query so,
        with their previous content; a query that continued from there would wait for an index that they do not reach.
        """
        index, keys, gone = answer.at, answer.keys, answer.gone
        news: dict[str, dict[str, tuple[int, str | None]]] = {}
        restored = False
        for key, (modified, value) in keys.items():
            before = self._known.get(key)
            if modified != before:
                restored = restored or modified < (before or 0)
                for prefix in self._above(key):
                    news.setdefault(prefix, {})[key] = modified, to_text(value)
        lost = (self._known.keys() if gone is None else self._known.keys() & gone) - keys.keys()
        for key in lost:
            for prefix in self._above(key):
                news.setdefault(prefix, {})[key] = index, None
        # A write or a deletion has a higher index than all before it: with a lower one, it is not new but old.
        if restored or (news and index < max(self.index, self._cursor)):
            raise WatchLost("Consul's index went back: was it replaced, or restored from a snapshot?")
        if gone is None:
            self._known = {key: modified for key, (modified, _) in keys.items()}
        else:
            for key in lost:
                del self._known[key]
            self._known |= {key: modified for key, (modified, _) in keys.items()}
        self.last = answer.body if len(answer.body) <= COMPARED_BYTES else b""
        self.since = 0 if early and index == self.index else index
        self.index = index
        return [Changes(prefix, index, changed) for prefix, changed in news.items()]

    def _above(self, key: str) -> list[str]:
        return [prefix for prefix in ancestors(key) if prefix in self.prefixes]
