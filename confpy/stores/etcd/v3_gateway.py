"""The login to etcd v3, and its requests over the JSON gateway."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from confpy.errors import AccessDenied, StoreError, UsageError
from confpy.http.addresses import Node
from confpy.http.body import Stream, read_body
from confpy.http.connection import Connection
from confpy.stores.answers import parsing
from confpy.stores.etcd.v3_permissions import Denied, Grants
from confpy.stores.etcd.v3_wire import Body, LoggedOut, error_of, gateway_path, not_etcd
from confpy.stores.network import secret

if TYPE_CHECKING:
    from confpy.config.settings import Settings
    from confpy.http.response import Response

Result = TypeVar("Result")
Paths: TypeAlias = dict[Node, str]
"""Where the gateway of each node is (``/v3/``, ``/v3beta/``), once that is known."""

ANSWER_BYTES = 16 << 20
"""The largest answer, and the longest line of a stream, that is held in memory."""
_VERSION_BYTES = 1 << 20


class Login:
    """The user, and the token that etcd gave: one for all nodes, which share their tokens.

    The password is sent only if etcd wants a login; without users it does not.
    """

    def __init__(self, settings: Settings) -> None:
        self.user = settings.username
        self.lock = threading.Lock()
        """Held while logging in: other threads wait for the token."""
        self.token = ""
        self.grants: Grants | None = None
        """What the user may read, once something was denied."""
        self._settings = settings
        self._learned_at = 0.0

    def password(self) -> str:
        """Return the current password; raises ``UsageError``."""
        if self._settings.basic_auth and not self.user:
            raise UsageError("basic_auth is on without a user", hint="give username")
        return secret(self._settings.password, self._settings.password_file) or ""

    def renew(self, token: str) -> None:
        """Take a new token, and forget the grants of the old one."""
        self.token, self.grants = token, None

    def learn(self, grants: Grants) -> Grants:
        """Record what the user may read."""
        self.grants, self._learned_at = grants, time.monotonic()
        return grants

    def lately(self, seconds: float) -> Grants | None:
        """Return what the user may read, if that was learned less than this many seconds ago."""
        return self.grants if time.monotonic() - self._learned_at < seconds else None


class Gateway:
    """The JSON gateway of one etcd."""

    def __init__(self, connection: Connection, paths: Paths, login: Login) -> None:
        self.connection = connection
        self._paths = paths
        self._login = login

    def post(self, path: str, body: Body) -> tuple[Body, int]:
        """Return the answer and its size in bytes; raises ``StoreError``, ``TooLarge`` above ``ANSWER_BYTES``."""
        return parsed(self.fetch(path, body))

    def fetch(self, path: str, body: Body) -> bytes:
        """Return the answer as it came; raises as ``post``."""
        return self.logged_in(lambda: self._post(path, body))

    def send(self, path: str, body: Body) -> Callable[[], bytes]:
        """Send a request; return what returns as ``fetch`` does, to be called before anything else is sent."""
        token = self._login.token
        with self.connection.bounded():
            self._send(path, json.dumps(body).encode())

        def receive() -> bytes:
            try:
                with self.connection.bounded():
                    return read_body(self._opened(), ANSWER_BYTES)
            except LoggedOut as error:
                self._log_in(token, error)
                return self._post(path, body)

        return receive

    def logged_in(self, call: Callable[[], Result]) -> Result:
        """Call; if etcd wants a login, or another token, log in and call once more."""
        token = self._login.token
        try:
            return call()
        except LoggedOut as error:
            self._log_in(token, error)
            return call()

    def learn(self) -> Grants:
        """Return what the user may read. To be called when etcd has denied something; raises that without a user."""
        user = self._login.user
        if not user:
            raise Denied("etcd refuses: permission denied", hint="give username and password_file")
        answer, _ = self.post("auth/user/get", {"name": user})
        with parsing(not_etcd):
            roles = tuple(map(str, answer.get("roles", ())))
        answers = [self.post("auth/role/get", {"role": role})[0] for role in roles]
        with parsing(not_etcd):
            grants = Grants.of(user, roles, [one for answer in answers for one in answer.get("perm", ())])
        return self._login.learn(grants)

    def _log_in(self, stale: str, wanted: LoggedOut) -> None:
        """Get another token than the stale one, unless another thread just did; raises ``StoreError``."""
        user = self._login.user
        if not user:
            wanted.hint = "give username and password_file; for etcd's gateway, a client certificate is no login"
            raise wanted
        with self._login.lock:
            if self._login.token != stale:
                return
            self._login.token = ""  # etcd rejects even a login with a stale token
            try:
                text = self._post("auth/authenticate", {"name": user, "password": self._login.password()})
            except UsageError as error:
                raise error.copy(StoreError) from error
            except AccessDenied as error:
                error.at(user=user)
                raise
            with parsing(not_etcd):
                self._login.renew(str(json.loads(text)["token"]))

    def _post(self, path: str, body: Body) -> bytes:
        with self.connection.bounded():
            self._send(path, json.dumps(body).encode())
            return read_body(self._opened(), ANSWER_BYTES)

    def stream(self, path: str, body: bytes) -> Stream:
        """Return the answer as a stream. To be called within ``bounded``; raises ``StoreError``."""
        # Without "close", Go discards what it has not read of a request when it begins to answer (server.go,
        # writeHeader): the later ones of many watches would never be created.
        # "hasleader": a member that is cut off from its cluster ends the stream, instead of being silent on it.
        headers = {"Connection": "close", "Grpc-Metadata-hasleader": "true"}
        self._send(path, body, **headers)
        return Stream(self.connection, self._opened())

    def _send(self, path: str, body: bytes, **headers: str) -> None:
        # Without "Accept", etcd takes the user of the gateway's own certificate for the one who asks.
        headers["Accept"] = "application/json"
        if token := self._login.token:
            headers["Authorization"] = token
        headers["Content-Type"] = "application/json"
        self.connection.send("POST", self._path() + path, headers, body)

    def _opened(self) -> Response:
        response = self.connection.receive()
        if response.status == 200:
            return response
        if response.status == 404:
            self._paths.pop(self.connection.node, None)  # another version of etcd than it was?
        raise error_of(response.status, read_body(response, ANSWER_BYTES))

    def _path(self) -> str:
        """Return where the gateway is, by the version of the node."""
        node = self.connection.node
        if node not in self._paths:
            response = self.connection.get("/version")
            self._paths[node] = gateway_path(response.status, read_body(response, _VERSION_BYTES))
        return self._paths[node]


def parsed(text: bytes) -> tuple[Body, int]:
    """Return an answer and its size in bytes; raises ``StoreError``."""
    with parsing(not_etcd):
        answer: Body = json.loads(text)
    return answer, len(text)
