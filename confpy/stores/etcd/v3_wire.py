"""The requests and answers of etcd v3's JSON gateway. Pure: no I/O, no thread, no time.

The gateway speaks the messages of ``rpc.proto`` as JSON (https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/): bytes
in base64, 64-bit integers as strings, zero values left out. ``v3_permissions`` says which ranges a prefix is.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from confpy.errors import AccessDenied, NoApi, StoreError, WatchLost
from confpy.http.body import TooLarge
from confpy.keys.prefixes import ROOT, covers
from confpy.keys.snapshot import Changes, Invalidated, PrefixStatus
from confpy.stores.answers import UNEXPECTED, parsing, tls_only
from confpy.stores.etcd.v3_permissions import Denied, Grants, Range, alone, below, whole

Body: TypeAlias = dict[str, Any]

TXN_OPERATIONS = 128
"""The most operations of one transaction (etcd's default ``--max-txn-ops``)."""
_PERMISSION_DENIED, _UNAVAILABLE, _UNAUTHENTICATED = 7, 14, 16  # https://grpc.io/docs/guides/status-codes/
_LOGGED_OUT = (
    "invalid auth token",  # it expired, or etcd was restarted and forgot it
    "user name is empty",
    "revision in header is old",  # the users changed since
    "revision of auth store is old",
)


class Compacted(StoreError):
    """The revision of a read was compacted."""


class LoggedOut(StoreError):
    """etcd wants a token, or another one."""


# --- texts, bytes, answers -------------------------------------------------------------------------------------------


def to_text(base64: str) -> str:
    """Return a key or a value of an answer as text; any bytes survive."""
    return a2b_base64(base64).decode("utf-8", "surrogateescape")


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def not_etcd() -> StoreError:
    """Return the error for an answer that etcd would not give."""
    return StoreError("it answers, but not as etcd v3 does", hint="is this address one of an etcd's client URLs?")


def error_of(status: int, text: bytes) -> StoreError:
    """Return the error for an answer other than 200."""
    try:
        answer = json.loads(text)
        said, code = answer.get("error") or answer["message"], answer.get("code")
    except UNEXPECTED:
        if status == 400 and b"HTTPS" in text:
            return tls_only()
        if status == 400 and b"CommonName" in text:  # it could be taken for the login of a user
            return StoreError(
                "the gateway of an etcd that has users takes no client certificate with a common name (CN)",
                hint="show one without, and log in with username and password_file",
            )
        if status == 404:
            hint = "is its JSON gateway on, is this address one of its client URLs, and not for its peers?"
            return NoApi(not_etcd().message, hint=hint)
        return not_etcd()
    if code == _UNAVAILABLE and "etcdserver: " not in str(said):
        return StoreError(
            f"the gateway of etcd cannot reach its own etcd: {_reason(str(said))}",
            hint="if it stays so: with --client-cert-auth, etcd's certificate must be for clients, too "
            "(extendedKeyUsage clientAuth)",
        )
    return _error_in(str(said), code)


def _reason(said: str) -> str:
    return " ".join(said.rpartition("desc = ")[2].removeprefix("etcdserver: ").split())[:200]


def _error_in(said: str, code: object = None) -> StoreError:
    reason = _reason(said)
    if "received message larger than max" in reason:  # etcd 3.3's gateway
        return TooLarge("an answer is larger than the gateway of etcd passes on")
    if "required revision has been compacted" in reason:
        return Compacted("the history was compacted while it was read")
    if "invalid user ID or password" in reason:
        return AccessDenied(
            "etcd does not know the user, or the password is wrong", hint="look at username and password_file"
        )
    if code == _UNAUTHENTICATED or any(one in reason for one in _LOGGED_OUT):
        return LoggedOut(f"etcd does not take the login: {reason}", hint="does it stay so? then look at etcd's log")
    if code == _PERMISSION_DENIED or "permission denied" in reason:
        return Denied(f"etcd refuses: {reason}", hint="grant the role read access to the prefixes")
    return StoreError(f"etcd says: {reason}")


def gateway_path(status: int, text: bytes) -> str:
    """Return where the gateway is, by the answer to ``/version``; raises ``StoreError``.

    See "etcd version and its API path" in https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/.
    """
    if status != 200:
        raise error_of(400, text)
    with parsing(not_etcd):
        version = tuple(int(part) for part in json.loads(text)["etcdserver"].split(".", 2)[:2])
        if version >= (3, 4):
            return "/v3/"
        return "/v3beta/" if version == (3, 3) else "/v3alpha/"


# --- ranges ----------------------------------------------------------------------------------------------------------


def range_request(start: bytes, end: bytes, revision: int = 0, **options: object) -> Body:
    request: Body = {"key": _base64(start), **options}
    if end:
        request["range_end"] = _base64(end)
    if revision:
        request["revision"] = str(revision)
    return {"request_range": request}


class Span(NamedTuple):
    """What is asked of a prefix: all of it, or a part."""

    prefix: str
    start: bytes
    end: bytes


class StatusRequest:
    """One status query for many prefixes, at one revision: send ``next_request``, pass the answer to ``take``.

    It takes two ranges for a prefix, the key itself and what is below: neighbours would spoil newest and count.
    A prefix that may not be read is left out.
    """

    def __init__(self, prefixes: Sequence[str], grants: Grants | None = None) -> None:
        self._rest = deque(
            Span(prefix, *part) for prefix in dict.fromkeys(prefixes) for part in _counted_parts(prefix, grants)
        )
        self._requested: list[str] = []
        self._newest = {span.prefix: 0 for span in self._rest}
        self._counts = dict(self._newest)
        self._revision = 0
        self._identity = ""
        self._term = ""

    def next_request(self) -> Body | None:
        """Return the next transaction, or None if all is known."""
        if not self._rest and self._revision:
            return None
        page = [self._rest.popleft() for _ in range(min(TXN_OPERATIONS, len(self._rest)))]
        self._requested = [span.prefix for span in page]
        newest = {"sort_target": "MOD", "sort_order": "DESCEND", "limit": "1", "keys_only": True}
        return {"success": [range_request(span.start, span.end, self._revision, **newest) for span in page]}

    def take(self, answer: Body) -> None:
        """Take the answer to the last request; raises ``StoreError``."""
        with parsing(not_etcd):
            self._revision = self._revision or int(answer["header"]["revision"])
            self._identity = str(answer["header"]["cluster_id"])
            self._term = str(answer["header"].get("raft_term", ""))
            for prefix, response in zip(self._requested, answer.get("responses", ()), strict=True):
                found = response["response_range"]
                self._counts[prefix] += int(found.get("count", 0))
                for pair in found.get("kvs", ()):
                    self._newest[prefix] = max(self._newest[prefix], int(pair["mod_revision"]))

    def origin(self) -> tuple[str, str, int]:
        """Return which state of which cluster answered: its id, the term of its leader, the revision."""
        return self._identity, self._term, self._revision

    def status(self) -> PrefixStatus:
        """Return the status of the prefixes."""
        return PrefixStatus(self._identity, self._revision, self._newest, self._counts)


def _counted_parts(prefix: str, grants: Grants | None) -> Sequence[Range]:
    if grants is not None and whole(prefix) not in (readable := grants.readable(prefix)):
        return readable
    return [below(prefix)] if prefix == ROOT else [alone(prefix), below(prefix)]


# --- watches ---------------------------------------------------------------------------------------------------------


class Watches:
    """The watches of one stream: what to send, and what its lines mean.

    Order holds within a watch only. If a prefix takes two, for the key itself and for what is below it, only changes of
    the second one are reported; a change of the key means that the prefix has to be read.
    """

    def __init__(self, cursors: Mapping[str, int], identity: str = "", grants: Grants | None = None) -> None:
        """Raises ``Denied`` for a prefix of which nothing may be read."""
        self._cursors = cursors
        self._identity = identity
        self._spans = [
            Span(prefix, *part)
            for prefix in cursors
            for part in ([whole(prefix)] if grants is None else _watched_parts(prefix, grants))
        ]
        self._unanswered = deque(self._spans)
        self._prefixes: dict[str, str] = {}
        self._key_watches: set[str] = set()
        """The watches of single keys, beside those of what is below them."""
        self._key_changed = False
        self._parts: dict[str, dict[str, tuple[int, str | None]]] = {}
        """By watch: the events of a revision of which not all fragments have come."""
        self._complete: dict[str, dict[str, tuple[int, str | None]]] = {}

    def body(self) -> bytes:
        """Return what opens them all: one message per line, with ``fragment``, so that answers are bounded."""
        lines = []
        for prefix, start, end in self._spans:
            create = {
                "key": _base64(start),
                "range_end": _base64(end),
                "start_revision": str(self._cursors[prefix] + 1),
                "fragment": True,
            }
            lines.append(json.dumps({"create_request": create}))
        return "\n".join(lines).encode()

    @property
    def established(self) -> bool:
        """Whether etcd has created each of them."""
        return not self._unanswered

    def feed(self, line: bytes) -> None:
        """Take one line of the stream; raises ``WatchLost`` or ``StoreError``."""
        with parsing(not_etcd):
            message = json.loads(line)
            if error := message.get("error"):
                if isinstance(error, str):
                    raise _error_in(error)
                failure = _error_in(error["message"], error.get("grpc_code") or error.get("code"))
                raise WatchLost(failure.message) if isinstance(failure, TooLarge) else failure
            result = message["result"]
            header, watch = result["header"], result.get("watch_id", "0")
            if self._identity and str(header["cluster_id"]) != self._identity:
                raise WatchLost("another etcd cluster answers at this address")
            if result.get("created"):
                # Answers come in the order of the requests. A watch that is denied at once has the id -1.
                span = self._unanswered.popleft()
                self._prefixes[watch] = prefix = span.prefix
                if not span.end and self._unanswered and self._unanswered[0].prefix == prefix:
                    self._key_watches.add(watch)
                if int(header.get("revision", 0)) < self._cursors[prefix] and not result.get("canceled"):
                    raise WatchLost("etcd is at an older revision than before: was it restored from a backup?")
            if result.get("canceled"):
                raise self._canceled(self._prefixes[watch], result)
            if watch in self._key_watches:
                self._key_changed = self._key_changed or bool(result.get("events"))
            else:
                self._record(self._prefixes[watch], result.get("events", ()), more=result.get("fragment", False))

    def take(self) -> list[Changes | Invalidated]:
        """Return what was completed since the last call: one value for each watch that has any."""
        taken: list[Changes | Invalidated] = [
            Changes(prefix, max(revision for revision, _ in keys.values()), keys)
            for prefix, keys in self._complete.items()
        ]
        self._complete = {}
        if self._key_changed:
            self._key_changed = False
            taken.append(Invalidated())
        return taken

    def _canceled(self, prefix: str, result: Body) -> StoreError:
        if int(result.get("compact_revision", 0)):
            return WatchLost(
                f"etcd has forgotten the changes after revision {self._cursors[prefix]}: "
                f"it was compacted at {result['compact_revision']}"
            )
        error = _error_in(str(result.get("cancel_reason") or "the watch was canceled"))
        return error.about(prefix) if isinstance(error, AccessDenied) else error.at(prefix=prefix)

    def _record(self, prefix: str, events: Sequence[Body], *, more: bool) -> None:
        parts = self._parts.setdefault(prefix, {})
        for event in events:
            pair = event["kv"]
            key = to_text(pair["key"])
            if covers(prefix, key):
                value = None if event.get("type") == "DELETE" else to_text(pair.get("value", ""))
                parts[key] = int(pair["mod_revision"]), value
        if not more:
            del self._parts[prefix]
            if parts:
                self._complete.setdefault(prefix, {}).update(parts)


def _watched_parts(prefix: str, grants: Grants) -> Sequence[Range]:
    if not (parts := grants.readable(prefix)):
        raise grants.denial(prefix)
    return parts
