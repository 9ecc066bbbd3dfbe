"""One read of many prefixes of etcd v3: which ranges it asks for, and what they bring. Pure.

A prefix is a range of its own, 128 of them in a transaction. More than that which lie directly below one path, the
*siblings*, are read as one range where little else lies between them: a range for each costs etcd more than the keys in
it. Whether that is so, a first, small transaction tells.
"""

from __future__ import annotations

import math
from binascii import a2b_base64
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confpy.errors import StoreError
from confpy.keys.prefixes import ROOT, covers
from confpy.keys.snapshot import Listing, Snapshot
from confpy.stores.answers import parsing
from confpy.stores.etcd.v3_permissions import Grants, alone, below, whole
from confpy.stores.etcd.v3_wire import TXN_OPERATIONS, Body, not_etcd, range_request, to_text

PAGE_BYTES = 4 << 20
"""How large an answer should be, as JSON: 3 MB of data, since the gateway of etcd 3.3 takes 4 MB from its etcd."""
PAGE_KEYS = 16_384
"""The most keys of one page while nothing is known about their size."""
READ_BYTES = 256 << 20
"""The largest read in total, as JSON: more is not configuration, but other data, or a broken server."""
KEY_BYTES = 128
"""What a key counts at least: the memory that an empty one takes."""
SIBLINGS = 64
"""So many prefixes directly below one path may be read as one range."""
_PARENTS = 16
"""Of so many paths at most."""
_ASIDE = 4
"""One of so many keys may lie between siblings without being wanted, and so may that part of the bytes of a page."""

_FEW = 128
"""So many keys more may be there in any case."""
_PIECE_KEYS = 4096
"""About so many keys are read at once: while confpy takes those that came, etcd has the next."""
_SAMPLE = 16
"""Prefixes whose keys tell how many others have."""


class _Span(NamedTuple):
    """What is still to be read of a prefix, or of siblings."""

    prefix: str
    """Of siblings: the path that they lie directly below."""
    start: bytes
    end: bytes
    siblings: tuple[str, ...] = ()
    """In the order of their keys; none where the span is that of one prefix."""


class Reading:
    """One read of many prefixes at one revision, page by page: send ``next_request``, pass the answer to ``take``.

    If etcd denies the request, ``restrict`` the read to what may be read, and send the next one.
    """

    def __init__(self, prefixes: Sequence[str], counted: Sequence[str] = (), *, page_keys: int = PAGE_KEYS) -> None:
        self.page_keys = page_keys
        """The most keys of the next page: adapts to the sizes seen."""
        self._keys: dict[str, dict[str, str]] = {prefix: {} for prefix in prefixes}
        spans = [_Span(prefix, *whole(prefix)) for prefix in self._keys]
        self._parents: list[str] = []
        """Paths that many prefixes lie directly below, where they do not fit in one transaction."""
        if len(spans) > TXN_OPERATIONS:
            parents = Counter(map(_parent, self._keys)).most_common(_PARENTS)
            self._parents = [one for one, number in parents if one and number >= SIBLINGS]
        if self._parents:
            # From everywhere: the first ones may be of another kind.
            sample = spans[:: len(spans) // _SAMPLE][:_SAMPLE]
            chosen = set(sample)
            spans = [*sample, *(span for span in spans if span not in chosen)]
        self._spans = deque(spans)
        self._wanted_counts = tuple(dict.fromkeys(counted))
        self._to_count = deque(dict.fromkeys((*self._parents, *counted)))
        self._counts: dict[str, int] = {}
        self._requested: list[_Span] = []
        self._ahead: list[_Span] = []
        """Requested before the answer to the last request was taken."""
        self._counted: list[str] = []
        self._grants: Grants | None = None
        self._size = 0
        self._revision = 0
        self._identity = ""

    def next_request(self) -> Body | None:
        """Return the next transaction, or None if all is read.

        Prefixes to count fill the space that those to read leave; the others are left out.
        """
        self._spans.extendleft(reversed(self._requested))  # of an answer that never came
        self._requested, self._counted = [], []
        if not self._spans and (self._revision or not (self._to_count or self._grants)):
            return None
        room = _SAMPLE if self._parents and not self._revision else TXN_OPERATIONS
        if self._spans and self._spans[0].siblings:
            room = 1
        while self._spans and len(self._requested) < min(room, self.page_keys):
            if self._requested and self._spans[0].siblings:
                break
            self._requested.append(self._spans.popleft())
        limit = self.page_keys // max(1, len(self._requested))
        requests = [range_request(span.start, span.end, self._revision, limit=str(limit)) for span in self._requested]
        while self._to_count and len(requests) < TXN_OPERATIONS:
            cover = self._to_count.popleft()
            self._counted.append(cover)
            requests.append(range_request(*below(cover), self._revision, count_only=True))
        return {"success": requests}

    def request_ahead(self) -> Body | None:
        """Return a transaction that follows whatever the answer to the last one is; None if that decides.

        To be sent before the last answer is taken, so that etcd works meanwhile. Its own is taken after that one.
        """
        if not (self._revision and self._requested and self._spans and self._spans[0].siblings) or self._to_count:
            return None
        span = self._spans.popleft()
        self._ahead = [span]
        return {"success": [range_request(span.start, span.end, self._revision, limit=str(self.page_keys))]}

    def take(self, answer: Body, size: int) -> None:
        """Take the answer of ``size`` bytes to the earliest open request; raises ``StoreError``."""
        is_first = not self._revision
        with parsing(not_etcd):
            self._pin(answer["header"])
            ranges = [response["response_range"] for response in answer.get("responses", ())]
            if len(ranges) != len(self._requested) + len(self._counted):
                raise not_etcd()
            rest: list[_Span] = []
            for span, found in zip(self._requested, ranges, strict=False):
                aside = self._store(span, found.get("kvs", ()))
                if found.get("more"):
                    rest += self._rest(span, a2b_base64(found["kvs"][-1]["key"]) + b"\0", apart=_ASIDE * aside > size)
            for cover, found in zip(self._counted, ranges[len(self._requested) :], strict=True):
                self._counts[cover] = int(found.get("count", 0))
            keys = sum(len(found.get("kvs", ())) for found in ranges)
        self._size += max(size, KEY_BYTES * keys)
        if self._size > READ_BYTES:
            raise self._too_much()
        if is_first and self._spans:
            self._join(keys, len(self._requested))
        self._requested, self._ahead, self._counted = self._ahead, [], []
        self._spans.extendleft(reversed(rest))
        if keys:
            self.page_keys = max(1, min(PAGE_KEYS, self.page_keys * 4, PAGE_BYTES * keys // size))

    def restrict(self, grants: Grants) -> None:
        """Drop from the rest of the read what may not be read."""
        self._grants = grants
        rest = [*self._requested, *self._spans]
        self._spans.clear()
        for span in rest:
            for one in (span,) if grants.allow((span.start, span.end)) else _apart(span, span.start):
                if grants.allow((one.start, one.end)):
                    self._spans.append(one)
                else:
                    self._spans.extend(_Span(one.prefix, *part) for part in grants.readable(one.prefix))
        self._to_count = deque(cover for cover in [*self._counted, *self._to_count] if grants.allow(below(cover)))
        self._requested, self._counted = [], []

    def shrink(self) -> bool:
        """Let the next request be the last page with fewer keys, as it was too large; False if it had only one."""
        self._to_count.extendleft(reversed(self._counted))
        self._counted = []
        if self._requested and self._requested[0].siblings:
            self._requested = _apart(self._requested[0], self._requested[0].start)
            return True
        if self.page_keys == 1:
            return False
        self.page_keys = max(1, min(self.page_keys // 64, len(self._requested)))
        return True

    def snapshot(self) -> Snapshot:
        """Return what was read."""
        listings = {prefix: self._listing(prefix, keys) for prefix, keys in self._keys.items()}
        counts = {cover: self._counts[cover] for cover in self._wanted_counts if cover in self._counts}
        return Snapshot(listings, self._identity, counts)

    def _listing(self, prefix: str, keys: Mapping[str, str]) -> Listing:
        if self._grants is not None and not keys:
            # A user who may read only the key, and finds none, probably lacks the grant for what is below it.
            readable = self._grants.readable(prefix)
            if not readable or readable == (alone(prefix),):
                return Listing(0, error=self._grants.denial(prefix))
        return Listing(self._revision, keys)

    def _too_much(self) -> StoreError:
        fullest = max(self._keys, key=lambda prefix: len(self._keys[prefix]))
        hint = f"most keys are below {fullest}: let resources name what they need of it"
        return StoreError(f"what is to be read is larger than {READ_BYTES >> 20} MB", hint=hint)

    def _pin(self, header: Body) -> None:
        self._revision = self._revision or int(header["revision"])
        self._identity = self._identity or str(header["cluster_id"])
        if self._identity != str(header["cluster_id"]):
            raise StoreError("another cluster answers in the middle of a read")

    # --- one prefix --------------------------------------------------------------------------------------------------

    def _store(self, span: _Span, pairs: Sequence[Body]) -> int:
        """Take keys; return how many bytes are of keys between siblings that none of them covers."""
        if span.siblings:
            return self._store_siblings(span, pairs)
        prefix = span.prefix
        stored = self._keys[prefix]
        below = ("" if prefix == ROOT else prefix) + ROOT
        for pair in pairs:
            key = to_text(pair["key"])
            if key.startswith(below) or covers(prefix, key):
                value = pair.get("value")
                stored[key] = to_text(value) if value else ""
        return 0

    def _rest(self, span: _Span, start: bytes, *, apart: bool) -> list[_Span]:
        """Return what is left of a span from a key on; ``apart``: of siblings, each by itself."""
        if start <= span.start:  # otherwise the same page would be read for ever
            raise not_etcd()
        if span.siblings:
            left = _apart(span, start)
            if apart or not left:
                return left
            return [span._replace(start=start, siblings=tuple(one.prefix for one in left))]
        # Neighbours sort before all that is below the prefix, and one page of them is enough.
        return [span._replace(start=start if span.prefix == ROOT else max(start, below(span.prefix)[0]))]

    # --- siblings ----------------------------------------------------------------------------------------------------

    def _join(self, keys: int, prefixes: int) -> None:
        """Read siblings as one range where there is little else. ``keys`` are below a sample of ``prefixes``."""
        wanted = Counter(map(_parent, self._keys))
        spans: dict[str, list[_Span]] = {}
        for parent in self._parents:
            estimate = wanted[parent] * keys / max(1, prefixes)
            if self._counts.get(parent, math.inf) <= _FEW + estimate * (1 + 1 / _ASIDE):
                spans[parent] = []
        others: list[_Span] = []
        for span in self._spans:
            is_whole = (span.start, span.end) == whole(span.prefix)
            spans.get(_parent(span.prefix) if is_whole else "", others).append(span)
        for found in spans.values():
            found.sort(key=lambda span: span.start)
            step = max(SIBLINGS, round(_PIECE_KEYS * prefixes / max(1, keys)))
            end = b""
            for first in range(0, len(found), step):
                piece = found[first : first + step]
                start, end = max(end, piece[0].start), max(end, *(span.end for span in piece))
                if self._grants is None or self._grants.allow((start, end)):
                    siblings = tuple(span.prefix for span in piece)
                    others.append(_Span(_parent(siblings[0]), start, end, siblings))
                else:
                    others += piece
        self._spans = deque(others)

    def _store_siblings(self, span: _Span, pairs: Sequence[Body]) -> int:
        cut = len(span.prefix) + 1
        aside = 0
        below, stored = "\0", None
        for pair in pairs:
            key = to_text(pair["key"])
            value = pair.get("value")
            if not key.startswith(below):
                end = key.find(ROOT, cut)
                prefix = key if end < 0 else key[:end]
                # It may also be one that another span brings: that is at the same revision.
                below, stored = prefix + ROOT, self._keys.get(prefix)
            if stored is None:
                aside += KEY_BYTES + len(value or "")
            else:
                stored[key] = to_text(value) if value else ""
        return aside


def _parent(prefix: str) -> str:
    return prefix.rpartition(ROOT)[0]


def _apart(span: _Span, start: bytes) -> list[_Span]:
    """Return the siblings of a span, each by itself, as far as they lie at or after a key; else the span."""
    if not span.siblings:
        return [span]
    ranges = ((prefix, *whole(prefix)) for prefix in span.siblings)
    return [_Span(prefix, max(first, start), end) for prefix, first, end in ranges if end > start]
