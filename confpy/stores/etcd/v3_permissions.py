"""Which ranges of keys etcd v3 lets a user read. Pure: no I/O, no thread, no time.

A prefix is one range of etcd: from ``/a/b`` up to, not including, ``/a/b0``, since ``0`` follows ``/``. Between the
key ``/a/b`` and the first one below ``/a/b/`` lie *neighbours* (``/a/b-c``, ``/a/b.d``), which confpy drops.

A role that may read ``--prefix /a/b/`` may read neither the neighbours nor the key ``/a/b``: what it may read of the
prefix is a *part*. etcd denies a whole request for one key that is not granted, and does not say which.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from confpy.errors import AccessDenied
from confpy.keys.prefixes import ROOT

Range: TypeAlias = tuple[bytes, bytes]
"""First key and end, which is not in it: ``b""`` for the one key alone, ``b"\\0"`` for all that follow."""

_ALL: Range = (b"\0", b"\0")


class Denied(AccessDenied):
    """The user may not read something."""


def whole(prefix: str) -> Range:
    """Return the range of the prefix with what lies below, and with its neighbours."""
    if prefix == ROOT:
        return _ALL  # also keys without a leading slash
    key = to_bytes(prefix)
    return key, key + b"0"


def below(prefix: str) -> Range:
    """Return the range of what lies below the prefix."""
    if prefix == ROOT:
        return _ALL
    key = to_bytes(prefix)
    return key + b"/", key + b"0"


def alone(prefix: str) -> Range:
    """Return the range of the key that is spelled as the prefix."""
    return to_bytes(prefix), b""


def to_bytes(text: str) -> bytes:
    """Return the bytes of a raw key or of a value."""
    return text.encode("utf-8", "surrogateescape")


class Grants(NamedTuple):
    """What the roles of a user may read."""

    user: str
    roles: tuple[str, ...]
    spans: tuple[Range, ...]
    """Sorted and disjoint; an end is always the first key that is not in it, ``b""`` if there is none."""

    @classmethod
    def of(cls, user: str, roles: Sequence[str], permissions: Iterable[Mapping[str, str]]) -> Grants:
        """Merge the permissions of all roles, each as the gateway writes it."""
        spans: list[Range] = []
        reads = (one for one in permissions if one.get("permType", "READ") in ("READ", "READWRITE"))
        decoded = (tuple(a2b_base64(one.get(name, "")) for name in ("key", "range_end")) for one in reads)
        for start, end in sorted(_span((key, range_end)) for key, range_end in decoded):
            if spans and _reaches(spans[-1][1], start):
                before = spans[-1]
                spans[-1] = before[0], max(before[1], end) if before[1] and end else b""
            else:
                spans.append((start, end))
        return cls(user, tuple(roles), tuple(spans))

    def allow(self, wanted: Range) -> bool:
        """Whether all of the range may be read."""
        first, last = _span(wanted)
        return any(start <= first and (not end or (last and last <= end)) for start, end in self.spans)

    def readable(self, prefix: str) -> tuple[Range, ...]:
        """Return the whole prefix if it may be read, else those of its parts that may be."""
        if self.allow(whole(prefix)):
            return (whole(prefix),)
        parts = ((b"/", b"0"),) if prefix == ROOT else (alone(prefix), below(prefix))
        return tuple(part for part in parts if self.allow(part))

    def denial(self, prefix: str) -> Denied:
        """Return the error for a prefix that may not be read."""
        if not self.roles:
            reason, hint = "has no role", f"etcdctl user grant-role {self.user} ROLE"
        else:
            reason = "may not read it"
            below_it = prefix if prefix.endswith(ROOT) else prefix + ROOT
            hint = f"etcdctl role grant-permission {self.roles[0]} read --prefix {below_it}"
        return Denied(f"etcd refuses: the user {self.user} {reason}", hint=f"grant it: {hint}", prefix=prefix)


def _span(wanted: Range) -> Range:
    start, end = wanted
    if end == b"\0":
        return start, b""
    return start, end or start + b"\0"


def _reaches(end: bytes, start: bytes) -> bool:
    return not end or end >= start
