"""Keys are put into etcd v2 with a TTL, and renewed and removed only at the index at which they were ours.

See "Atomic Compare-and-Swap" and "Refreshing key TTL" in https://etcd.io/docs/v2.3/api/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

from confpy.config.stores.etcd import ETCDV2
from confpy.errors import AccessDenied, StoreError, UsageError
from confpy.http.body import read_body
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.registration.values import Entry, Standing
from confpy.stores.answers import UNEXPECTED, parsing
from confpy.stores.etcd.v2 import Api, Etcd2Store, Login
from confpy.stores.etcd.v2_wire import Body, error_of, not_etcd, url_path
from confpy.stores.network import basic_auth, etcd_scheme, open_endpoints

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")

ANSWER_BYTES = 32 << 20
_NOT_FOUND, _TEST_FAILED, _EXISTS = 100, 101, 105  # https://etcd.io/docs/v2.3/errorcode/
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_REFRESHES = (2, 3)
"""The first version that renews a TTL without an event; before that ``refresh`` would write an empty value."""


class Etcd2Registrar:
    """One entry in etcd v2, behind ``confpy.registration.values.Registrar``."""

    capabilities = Etcd2Store.capabilities

    def __init__(self, endpoints: Endpoints, login: Login, entry: Entry) -> None:
        self._endpoints = endpoints
        self._login = login
        self._entry = entry
        self._value = entry.value.decode()
        self._index = 0
        """At which the key was written by us; 0: it was not."""
        self._is_unsure = False
        """A write had no answer: then the value tells whether the key is ours."""
        self._refreshes: bool | None = None
        """Whether this etcd renews a TTL without an event."""

    @property
    def node(self) -> str:
        return self._endpoints.node

    @classmethod
    def open(cls, settings: Settings, entry: Entry) -> Etcd2Registrar:
        """Return the registrar of an entry. No traffic yet; raises ``UsageError``."""
        login = partial(basic_auth, settings)
        login()
        return cls(open_endpoints("etcd v2", ETCDV2, settings, scheme=etcd_scheme(settings)), login, entry)

    def claim(self, *, takes_over: bool) -> Standing:
        return self._call(lambda requests: self._claim(requests, takes_over=takes_over))

    def refresh(self) -> Standing:
        return self._call(self._refresh)

    def release(self) -> Standing:
        return self._call(self._release)

    def remove(self, expected: bytes | None) -> bool:
        query = {} if expected is None else {"prevValue": expected.decode("utf-8", "replace")}
        return self._call(lambda requests: requests.ask("DELETE", query)[0] == 0)

    def close(self) -> None:
        self._endpoints.close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def _call(self, call: Callable[[_Requests], Result]) -> Result:
        def on(connection: Connection) -> Result:
            try:
                connection.login = self._login()
            except UsageError as error:
                raise error.copy(StoreError) from error
            return call(_Requests(Api(connection, set(self._endpoints)), self._entry.key))

        try:
            return self._endpoints.with_failover(on)
        except AccessDenied as error:
            error.hint = "is the login right (basic_auth, username, password_file), may its role write the key?"
            raise

    def _claim(self, requests: _Requests, *, takes_over: bool) -> Standing:
        if not takes_over and (standing := self._look(requests)) != "free":
            return standing
        code, _ = self._write(requests, {} if takes_over else {"prevExist": "false"})
        return "held" if not code else "taken"

    def _refresh(self, requests: _Requests) -> Standing:
        if self._entry.ttl is None:
            return self._look(requests)
        code, _ = self._write(requests, {"prevIndex": str(self._index)}, renews=True)
        if code == _TEST_FAILED and self._look(requests) == "held":  # our last write had no answer
            code, _ = self._write(requests, {"prevIndex": str(self._index)}, renews=True)
        return "held" if not code else "free" if code == _NOT_FOUND else "taken"

    def _look(self, requests: _Requests) -> Standing:
        code, node = requests.ask("GET", {"quorum": "true"})
        if code == _NOT_FOUND:
            return "free"
        with parsing(not_etcd):
            index, is_same = int(node["modifiedIndex"]), node.get("value") == self._value
        if is_same and (self._is_unsure or self._entry.ttl is None):
            self._index, self._is_unsure = index, False
        return "held" if is_same and index == self._index else "taken"

    def _release(self, requests: _Requests) -> Standing:
        if self._entry.ttl is None:
            code, _ = requests.ask("DELETE", {"prevValue": self._value})
            return "taken" if code == _TEST_FAILED else "free"
        if self._is_unsure or not self._index:
            standing = self._look(requests)
            if standing != "held":
                return standing
        code, _ = requests.ask("DELETE", {"prevIndex": str(self._index)})
        self._index = 0
        return "taken" if code == _TEST_FAILED else "free"

    def _write(self, requests: _Requests, query: dict[str, str], *, renews: bool = False) -> tuple[int, Body]:
        """Put the key; returns etcd's error code, 0 where it was put, and the key as it is."""
        form = {"value": self._value}
        if self._entry.ttl is not None:
            form["ttl"] = str(math.ceil(self._entry.ttl))
        if renews:
            if self._refreshes is None:
                self._refreshes = requests.version() >= _REFRESHES
            if self._refreshes:
                form = {"ttl": form["ttl"], "refresh": "true"}
        was_unsure, self._is_unsure = self._is_unsure, True
        code, node = requests.ask("PUT", query, form)
        self._is_unsure = was_unsure and code == _TEST_FAILED
        if not code:
            with parsing(not_etcd):
                self._index = int(node["modifiedIndex"])
        return code, node


class _Requests:
    """Requests about one key, on one connection."""

    def __init__(self, api: Api, key: str) -> None:
        self._api = api
        self._key = key

    def ask(self, method: str, query: dict[str, str], form: dict[str, str] | None = None) -> tuple[int, Body]:
        """Return etcd's error code if a comparison failed, else 0; and the key; raises ``StoreError``."""
        body = None if form is None else urlencode(form).encode()
        with self._api.connection.bounded():
            path = url_path(self._key, **query)
            response = self._api.request(method, path, _FORM if body is not None else {}, body)
            text = read_body(response, ANSWER_BYTES)
        try:
            answer: Body = json.loads(text)
            code = int(answer.get("errorCode", 0))
        except UNEXPECTED:
            raise error_of(response.status, text) from None
        if code in (_NOT_FOUND, _TEST_FAILED, _EXISTS):
            return code, {}
        if response.status not in (200, 201):
            raise error_of(response.status, text)
        with parsing(not_etcd):
            return 0, dict(answer["node"])

    def version(self) -> tuple[int, ...]:
        """Return which etcd answers, as far as it says; raises ``StoreError``."""
        with self._api.connection.bounded():
            text = read_body(self._api.get("/version"), ANSWER_BYTES)
        try:
            return tuple(int(part) for part in json.loads(text)["etcdserver"].split(".", 2)[:2])
        except UNEXPECTED:  # etcd 0.4 says "etcd 0.4.9"
            return (0,)
