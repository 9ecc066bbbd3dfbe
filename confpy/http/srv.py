"""Nodes from DNS: the SRV records that name them, and the order in which to try them (RFC 2782)."""

from __future__ import annotations

import time
from collections.abc import Sequence

import dns.exception
import dns.name
import dns.resolver

from confpy.errors import StoreError, UsageError
from confpy.frozen import frozen
from confpy.http.addresses import Node, parse_nodes

_HINT = "is the name spelled right, does DNS work?"


@frozen
class Record:
    """An SRV record, and the scheme of the nodes that it names."""

    name: str
    scheme: str


def record(name: str, scheme: str) -> Record:
    """Return the record of that name; raises ``UsageError`` for a name that DNS cannot hold.

    ``scheme`` is for services whose name does not end in ``-ssl``.
    """
    try:
        dns.name.from_text(name)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise UsageError(f"{name!r} is not the name of an SRV record", hint="as in _etcd._tcp.example.com") from error
    return Record(name, "https" if name.partition(".")[0].lower().endswith("-ssl") else scheme)


def find(wanted: Sequence[Record], seconds: float) -> tuple[Node, ...]:
    """Return the nodes of the first record that exists, in the order in which to try them; raises ``StoreError``.

    A name without a dot at its end is looked up in the domains of the resolver's search list, too.
    """
    deadline = time.monotonic() + seconds
    for record in wanted:
        try:
            left = max(0.01, deadline - time.monotonic())
            answer = dns.resolver.Resolver().resolve(record.name, "SRV", search=True, lifetime=left)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            continue
        except dns.exception.DNSException as error:
            raise StoreError(f"the SRV record {record.name} {_reason(error, seconds)}", hint=_HINT) from error
        found = answer.rrset.processing_order() if answer.rrset else []
        return _nodes(record, [(str(one.target), one.port) for one in found])  # type: ignore[attr-defined]
    names = ", ".join(record.name for record in wanted)
    if len(wanted) == 1:
        raise StoreError(f"the SRV record {names} does not exist", hint=_HINT)
    raise StoreError(f"none of the SRV records {names} exists", hint=_HINT)


def _nodes(record: Record, targets: Sequence[tuple[str, int]]) -> tuple[Node, ...]:
    texts = [f"{record.scheme}://{name.rstrip('.')}:{port}" for name, port in targets if name != "."]
    if not texts:
        raise StoreError(f"the SRV record {record.name} says that there is no such service", hint=_HINT)
    try:
        return parse_nodes(texts, scheme=record.scheme, port=0)
    except UsageError as error:
        raise StoreError(f"the SRV record {record.name}: {error.message}") from error


def _reason(error: dns.exception.DNSException, seconds: float) -> str:
    if isinstance(error, dns.resolver.LifetimeTimeout):
        return f"could not be looked up within {seconds:g} s"
    if isinstance(error, dns.resolver.NoNameservers):
        return "is one that no name server could answer for"
    return f"could not be looked up ({type(error).__name__})"
