"""py-consul's client over confpy's own connections: their deadlines, their login, their errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import consul.base  # type: ignore[import-untyped]
from consul.exceptions import ConsulException  # type: ignore[import-untyped]

from confpy.config.stores.consul import CONSUL
from confpy.errors import AccessDenied
from confpy.http.body import read_body
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.stores.answers import parsing
from confpy.stores.consul.api import Credentials, Login
from confpy.stores.consul.wire import error_of, not_consul
from confpy.stores.network import open_endpoints

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")

ANSWER_BYTES = 16 << 20
_MEANT = (200, 404, 409)
"""Answers that say something of the key or the session; 409: a transaction was not carried out."""


class _HTTP(consul.base.HTTPClient):  # type: ignore[misc]  # py-consul is not typed
    """What py-consul sends its requests by."""

    def __init__(self, connection: Connection, credentials: Credentials, datacenter: str | None) -> None:
        super().__init__()
        self._connection = connection
        self._token = credentials.token
        self._datacenter = datacenter
        connection.login = credentials.basic_auth

    def get(self, callback: Any, path: str, params: Any = None, headers: Any = None, raw: bool = False) -> Any:  # noqa: ARG002
        return callback(self._request("GET", path, params))

    def put(self, callback: Any, path: str, params: Any = None, data: str | bytes = "", headers: Any = None) -> Any:  # noqa: ARG002
        return callback(self._request("PUT", path, params, data))

    def delete(self, callback: Any, path: str, params: Any = None, data: str | bytes = "", headers: Any = None) -> Any:  # noqa: ARG002
        return callback(self._request("DELETE", path, params, data))

    def post(self, callback: Any, path: str, params: Any = None, data: str = "", headers: Any = None) -> Any:  # noqa: ARG002
        return callback(self._request("POST", path, params, data))

    def close(self) -> None:
        """The connection is closed by whoever opened it."""

    def _request(self, method: str, path: str, params: Any, data: str | bytes = "") -> consul.base.Response:
        query = list(params or ())
        if self._datacenter and not path.startswith("/v1/agent/") and "dc" not in dict(query):
            query.append(("dc", self._datacenter))
        target = quote(path.encode("utf-8", "surrogateescape"), safe="/:") + (f"?{urlencode(query)}" if query else "")
        # Not py-consul's headers: a variable of the environment overrides the token in them.
        headers = {"X-Consul-Token": self._token} if self._token else {}
        body = data.encode() if isinstance(data, str) else data
        with self._connection.bounded():
            answer = self._connection.request(method, target, headers, body if method != "GET" else None)
            text = read_body(answer, ANSWER_BYTES)
        if answer.status not in _MEANT:
            raise error_of(answer.status, text)
        index = answer.headers.get("X-Consul-Index") or "1"
        return consul.base.Response(answer.status, {"X-Consul-Index": index}, text.decode("utf-8", "replace"))


class Client(consul.base.Consul):  # type: ignore[misc]  # py-consul is not typed
    """py-consul's client on one connection."""

    def __init__(self, http: _HTTP) -> None:
        self._http = http
        super().__init__(host="localhost", port=0, scheme="http", verify=True)

    def http_connect(self, *_: Any, **__: Any) -> _HTTP:
        return self._http


class Writing:
    """The nodes of a Consul that is written to."""

    def __init__(self, endpoints: Endpoints, login: Login, datacenter: str | None) -> None:
        self.endpoints = endpoints
        self._login = login
        self._datacenter = datacenter

    @classmethod
    def open(cls, settings: Settings) -> Writing:
        """Return what the settings describe. No traffic yet; raises ``UsageError``."""
        login = Login(settings)
        login.read()
        return cls(open_endpoints("consul", CONSUL, settings), login, settings.datacenter)

    def call(self, call: Callable[[Client], Result], *, needs: str) -> Result:
        """Return what ``call`` returns for a node that works; raises ``StoreError``.

        ``needs``: what a token needs that Consul denies this.
        """
        try:
            return self.endpoints.with_failover(partial(self._on, call))
        except AccessDenied as error:
            error.hint = f"give the token a policy with {needs}"
            raise

    def _on(self, call: Callable[[Client], Result], connection: Connection) -> Result:
        client = Client(_HTTP(connection, self._login.now(), self._datacenter))
        try:
            with parsing(not_consul):
                return call(client)
        except ConsulException:
            raise not_consul() from None  # its message may hold the whole answer


def at_least(seconds: float, least: int) -> int:
    """Return whole seconds, rounded up."""
    return max(least, math.ceil(seconds))
