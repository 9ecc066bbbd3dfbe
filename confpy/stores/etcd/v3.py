"""etcd v3, over its JSON gateway: read at one revision, ask cheaply, follow on one stream.

etcd3gw knows where the gateway is and how it is called on each version of etcd. Its ``watch`` and its way to encode
keys are not used: the one is silent when the server restarts or compacts, the other loses keys that are not latin-1.
``docs/decisions/0003-etcd3-over-the-gateway.md`` says why it is done so.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import requests
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception

from confpy.errors import AccessDenied, StoreError, UsageError
from confpy.http.addresses import Node, etcd_scheme
from confpy.http.body import Lines, Stream, TooLarge, read_body
from confpy.http.pool import Nodes, Wire, open_nodes
from confpy.http.tls import secret
from confpy.keys.prefixes import ROOT
from confpy.keys.snapshot import Changes, Invalidated, PrefixStatus, Snapshot
from confpy.stores import Capabilities
from confpy.stores.etcd.v3_permissions import Denied, Grants
from confpy.stores.etcd.v3_wire import (
    PAGE_BYTES,
    PAGE_KEYS,
    READ_BYTES,
    Body,
    Compacted,
    LoggedOut,
    Reading,
    StatusRequest,
    Watches,
    refusal,
    understood,
)

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")

PORT = 2379
ANSWER_BYTES = 16 << 20
"""The largest answer, and the longest line of a stream, that is held in memory."""
READ_TIMES = READ_BYTES // PAGE_BYTES
"""How many times the time for one answer a read may take, all its pages together: enough for the largest."""
_BATCH_BYTES = 8 << 20
"""How much of what has already come is put together at most."""
_VERSION_BYTES = 1 << 20
_READ_ATTEMPTS = 3
"""How often a read begins again because the history was compacted under it."""
_REFUSED = 5.0
"""Seconds until a read tries again what the user may not read. They add to the wait of who asks (``refusals``)."""


class Etcd3Store:
    """The keys of an etcd v3 cluster, behind ``confpy.stores.Store``."""

    capabilities = Capabilities(
        remote=True, value_bytes=3 << 19, binary_keys=True, watches=True
    )  # etcd --max-request-bytes

    def __init__(self, nodes: Nodes, login: Login) -> None:
        self._nodes = nodes
        self._login = login
        self._paths: dict[Node, str] = {}
        """Where each node's gateway is (``/v3/``, ``/v3beta/``), once it has said so."""
        self._page_keys = PAGE_KEYS

    @classmethod
    def open(cls, settings: Settings) -> Etcd3Store:
        """Make the store that the settings describe. No traffic yet; raises ``UsageError``."""
        nodes = open_nodes("etcd", settings, default=("127.0.0.1",), port=PORT, scheme=etcd_scheme(settings))
        login = Login(settings)
        login.password()
        return cls(nodes, login)

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the key as given and, where the user wrote no leading slash, with one, too: etcd keeps both."""
        if path in ("", ROOT):
            return (ROOT,)
        return (path,) if path.startswith(ROOT) else (ROOT + path, path)

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        """Read all prefixes at one revision, in ⌈prefixes/128⌉ requests where the pages suffice.

        What the user may not read is the error of its listing; the rest is read without it.
        """
        return self._nodes.talk(lambda wire: self._read(self._gateway(wire), prefixes, counted))

    def _gateway(self, wire: Wire) -> _Gateway:
        return _Gateway(wire, self._paths, self._login)

    def _read(self, gateway: _Gateway, prefixes: Sequence[str], counted: Sequence[str]) -> Snapshot:
        end = time.monotonic() + READ_TIMES * self._nodes.read_timeout
        for _ in range(_READ_ATTEMPTS - 1):
            with suppress(Compacted):
                return self._read_once(gateway, prefixes, counted, end)
        return self._read_once(gateway, prefixes, counted, end)

    def _read_once(self, gateway: _Gateway, prefixes: Sequence[str], counted: Sequence[str], end: float) -> Snapshot:
        reading = Reading(prefixes, counted, page_keys=self._page_keys)
        if grants := self._login.lately(_REFUSED):
            reading.restrict(grants)
        hidden, learned = grants is not None, False
        while (request := reading.ask()) is not None:
            if time.monotonic() > end:
                hint = "is etcd overloaded? let resources name fewer keys, or raise read_timeout"
                raise StoreError(f"not all was read within {READ_TIMES * self._nodes.read_timeout:g} s", hint=hint)
            try:
                reading.take(*gateway.post("kv/txn", request))
            except TooLarge:
                if not reading.shrink():
                    raise
            except Denied:
                if learned:
                    raise
                reading.restrict(gateway.learn())
                hidden = learned = True
        if not hidden:
            self._login.grants = None  # what was refused once, is not any more, or not asked for
        self._page_keys = reading.page_keys
        return reading.snapshot()

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus:
        """Say how the prefixes stand, for a few hundred bytes each and whatever they hold."""
        return self._nodes.talk(lambda wire: self._knowing(self._gateway(wire), self._poll, prefixes))

    def _knowing(self, gateway: _Gateway, turn: Callable[..., Result], *arguments: object) -> Result:
        """Take a turn with what is known of the user's grants; where etcd refuses that, once more with the new ones."""
        try:
            return turn(gateway, self._login.grants, *arguments)
        except Denied:
            return turn(gateway, gateway.learn(), *arguments)

    def _poll(self, gateway: _Gateway, grants: Grants | None, prefixes: Sequence[str]) -> PrefixStatus:
        asking = StatusRequest(prefixes, grants)
        while (request := asking.ask()) is not None:
            answer, _ = gateway.post("kv/txn", request)
            asking.take(answer)
        return asking.status()

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> Etcd3Stream:
        """Follow every prefix on one stream; returns when etcd has answered for each of them.

        Raises ``AccessDenied``, with the prefix, for one that may not be read.
        """

        def follow(wire: Wire) -> Etcd3Stream:
            return self._knowing(self._gateway(wire), self._watch, cursors, identity)

        return self._nodes.talk(follow, keep=True)

    def _watch(
        self, gateway: _Gateway, grants: Grants | None, cursors: Mapping[str, int], identity: str
    ) -> Etcd3Stream:
        def establish() -> Etcd3Stream:
            watches = Watches(cursors, identity, grants)
            with gateway.wire.bounded():
                stream = Etcd3Stream(gateway.stream("watch", watches.body()), watches)
                while not watches.established:
                    stream.receive()
            return stream

        return gateway.logged_in(establish)

    def close(self) -> None:
        """Cut every connection; what waits raises ``StoreError``, what iterates ends."""
        self._nodes.close()


class Etcd3Stream:
    """Changes as etcd sends them. What has come already is put together for each watch; nothing is waited for."""

    def __init__(self, stream: Stream, watches: Watches) -> None:
        self._stream = stream
        self._watches = watches
        self._lines = Lines(ANSWER_BYTES)
        self._closed = False

    def __iter__(self) -> Iterator[Changes | Invalidated]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after what came whole before it."""
        failure: StoreError | None = None
        while not self._closed:
            yield from self._watches.take()
            if failure is not None and not self._closed:
                self._stream.close()
                raise failure.at(node=self._stream.node.url)
            try:
                size = self.receive()
                while size < _BATCH_BYTES and self._stream.arrived():
                    size += self.receive()
            except StoreError as error:
                failure = error

    def receive(self) -> int:
        """Take what has come, waiting where nothing has; returns how many bytes it was. Raises ``StoreError``."""
        data = self._stream.read()
        if data is None:
            raise StoreError("etcd closed the stream")
        for line in self._lines.feed(data):
            self._watches.feed(line)
        return len(data)

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._closed = True
        self._stream.close()


class Login:
    """Who logs in, and what etcd gave for it: one token for all nodes, since they tell each other.

    etcd is only shown the password when it asks who we are; without users it does not.
    """

    def __init__(self, settings: Settings) -> None:
        self.user = settings.username
        self.lock = threading.Lock()
        """Held by whoever logs in: others wait for the token."""
        self.token = ""
        self.grants: Grants | None = None
        """What the user may read, once something was refused."""
        self._settings = settings
        self._learned_at = 0.0

    def password(self) -> str:
        """Return the password as it is now; raises ``UsageError``."""
        if self._settings.basic_auth and not self.user:
            raise UsageError("basic_auth is on without a user", hint="give username")
        return secret(self._settings.password, self._settings.password_file) or ""

    def renew(self, token: str) -> None:
        """Take a new token, and forget what was known with the old one."""
        self.token, self.grants = token, None

    def learn(self, grants: Grants) -> Grants:
        """Take what etcd says that the user may read."""
        self.grants, self._learned_at = grants, time.monotonic()
        return grants

    def lately(self, seconds: float) -> Grants | None:
        """Return what the user may read, where that was learned less than this many seconds ago."""
        return self.grants if time.monotonic() - self._learned_at < seconds else None


class _Gateway:
    """One wire to an etcd, as etcd3gw finds its gateway."""

    def __init__(self, wire: Wire, paths: dict[Node, str], login: Login) -> None:
        node = wire.node
        self.wire = wire
        self._login = login
        self._paths = paths
        self._client = Etcd3Client(
            host=node.host,
            port=node.port,
            protocol=node.scheme,
            api_path=paths.get(node),
            session=_Versions(wire),  # type: ignore[arg-type]  # no more than that is asked of it
        )

    def post(self, path: str, body: Body) -> tuple[Body, int]:
        """Return the answer and its size in bytes; raises ``StoreError``, ``TooLarge`` above ``ANSWER_BYTES``."""
        return self.logged_in(lambda: self._post(path, body))

    def logged_in(self, ask: Callable[[], Result]) -> Result:
        """Ask, and where etcd wants a login for it, or another one, log in and ask once more."""
        token = self._login.token
        try:
            return ask()
        except LoggedOut as error:
            self._log_in(token, error)
            return ask()

    def learn(self) -> Grants:
        """Ask what the user may read. To be called where etcd has refused something; raises that where nobody is."""
        user = self._login.user
        if not user:
            raise Denied("etcd refuses: permission denied", hint="give username and password_file")
        answer, _ = self.post("auth/user/get", {"name": user})
        with understood():
            roles = tuple(map(str, answer.get("roles", ())))
        answers = [self.post("auth/role/get", {"role": role})[0] for role in roles]
        with understood():
            grants = Grants.of(user, roles, [one for answer in answers for one in answer.get("perm", ())])
        return self._login.learn(grants)

    def _log_in(self, stale: str, wanted: LoggedOut) -> None:
        """Get another token than the stale one, unless somebody else just did; raises ``StoreError``."""
        user = self._login.user
        if not user:
            wanted.hint = "give username and password_file; for etcd's gateway, a client certificate is no login"
            raise wanted
        with self._login.lock:
            if self._login.token != stale:
                return
            self._login.token = ""  # etcd refuses even the login that comes with a stale one
            try:
                answer, _ = self._post("auth/authenticate", {"name": user, "password": self._login.password()})
            except UsageError as error:
                raise error.copy(StoreError) from error
            except AccessDenied as error:
                error.at(user=user)
                raise
            with understood():
                self._login.renew(str(answer["token"]))

    def _post(self, path: str, body: Body) -> tuple[Body, int]:
        with self.wire.bounded():
            text = read_body(self._open(path, json.dumps(body).encode()), ANSWER_BYTES)
        with understood():
            answer: Body = json.loads(text)
        return answer, len(text)

    def stream(self, path: str, body: bytes) -> Stream:
        """Return the answer as a stream; raises ``StoreError``."""
        # Without "close", Go throws away what it has not read of a request when it begins to answer (server.go,
        # writeHeader): the later ones of many watches would never be created.
        # "hasleader": a member that is cut off from its cluster ends the stream, instead of being silent on it.
        headers = {"Connection": "close", "Grpc-Metadata-hasleader": "true"}
        return Stream(self.wire, self._open(path, body, **headers))

    def _open(self, path: str, body: bytes, **headers: str) -> requests.Response:
        if token := self._login.token:
            headers["Authorization"] = token
        response = self.wire.post(self._url(path), body, **headers)
        if response.status_code == requests.codes.ok:
            return response
        if response.status_code == requests.codes.not_found:
            self._paths.pop(self.wire.node, None)  # another version of etcd than it was?
        raise refusal(response.status_code, read_body(response, ANSWER_BYTES))

    def _url(self, path: str) -> str:
        """Return the URL of ``path``; etcd3gw asks the node for its version first, where we do not know it yet."""
        try:
            with understood():
                url: str = self._client.get_url(path)
        except Etcd3Exception as error:
            if isinstance(error.__context__, requests.RequestException):
                raise error.__context__ from error
            raise refusal(400, (error.detail_text or "").encode()) from error
        self._paths[self.wire.node] = self._client.api_path
        return url


class _Versions:
    """What etcd3gw asks for a node's version by: no more is read than a version needs, no redirect is followed."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def get(self, url: str, **_: object) -> _Version:
        """Return the answer; raises ``StoreError``."""
        answer = self._wire.get(url, {})
        return _Version(answer.status_code, answer.reason, read_body(answer, _VERSION_BYTES).decode("utf-8", "replace"))


class _Version(NamedTuple):
    """An answer, as etcd3gw takes it apart."""

    status_code: int
    reason: str
    text: str

    def json(self) -> Any:
        return json.loads(self.text)
