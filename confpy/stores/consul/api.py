"""Consul's HTTP API for KV, on one connection."""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from confpy.errors import StoreError, UsageError
from confpy.http.body import read_body
from confpy.http.connection import Connection
from confpy.stores.answers import parsing
from confpy.stores.consul.wire import Answer, differing, error_of, is_fresh, not_consul
from confpy.stores.network import basic_auth, secret

if TYPE_CHECKING:
    from confpy.config.settings import Settings

ANSWER_BYTES = 64 << 20
"""The largest answer that is held in memory: Consul has no pages."""
LEADER, STALE, SURE = "default", "stale", "consistent"
"""Who answers: the leader; any server, from its own copy; the leader, after it has verified that it still is."""


class Credentials(NamedTuple):
    """The credentials for Consul, or for a proxy before it."""

    basic_auth: tuple[bytes, bytes] | None
    token: str | None


class Login:
    """The login; files are read again for each connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self) -> Credentials:
        """Return the current credentials; raises ``UsageError``."""
        token = secret(self._settings.auth_token, self._settings.auth_token_file)
        return Credentials(basic_auth(self._settings), token)

    def now(self) -> Credentials:
        """Return the same; raises ``StoreError``, since a missing file may come back."""
        try:
            return self.read()
        except UsageError as error:
            raise error.copy(StoreError) from error


class Api:
    """Queries of KV on one connection."""

    def __init__(self, connection: Connection, login: Credentials, datacenter: str | None) -> None:
        self.login = login
        connection.login = login.basic_auth
        self._connection = connection
        self._datacenter = datacenter

    def read(self, query: str, consistency: str = LEADER) -> Answer:
        """Return what lies below a string prefix."""
        reply = self._get(query, consistency, {"recurse": 1})
        with parsing(self._not_consul):
            return Answer(reply.at, _items(reply.body) if reply.found else {}, body=reply.body)

    def follow(self, query: str, index: int, wait: float, last: bytes) -> Answer:
        """Return the same after up to ``wait`` seconds while it is at ``index``; at once if that is 0.

        ``last`` is the body of the previous answer, if there is any: then only what differs from it is parsed.
        """
        blocking = {"index": index, "wait": f"{max(1, round(wait))}s"} if index else {}
        reply = self._get(query, LEADER, {**blocking, "recurse": 1})
        if not reply.found:
            return Answer(reply.at, {})
        with parsing(self._not_consul):
            if not last:
                return Answer(reply.at, _items(reply.body), body=reply.body)
            gone, new = differing(last, reply.body)
            return Answer(reply.at, _items(new), _items(gone).keys(), reply.body)

    def read_index(self, query: str, consistency: str = LEADER) -> int:
        """Return the index of a query alone: of the keys come only the names, cut at the next slash."""
        reply = self._get(query, consistency, {"keys": True, "separator": "/"})
        with parsing(self._not_consul):
            json.loads(reply.body if reply.found else b"[]")
        return reply.at

    def _get(self, query: str, consistency: str, options: Mapping[str, object]) -> _Reply:
        try:
            reply, fresh = self._request(query, consistency, options)
            if consistency == STALE and not fresh:
                reply, _ = self._request(query, SURE, options)
        except StoreError as error:
            error.at(node=self._connection.node.url)
            raise
        return reply

    def _request(self, query: str, consistency: str, options: Mapping[str, object]) -> tuple[_Reply, bool]:
        """Return a reply, and whether one from a server's own copy is fresh; raises ``StoreError``."""
        # Bytes of a prefix that are not UTF-8 are surrogates. Consul can hold no such key, and answers so.
        path = "/v1/kv/" + quote(query.encode("utf-8", "surrogateescape"))
        datacenter = {"dc": self._datacenter} if self._datacenter else {}
        mode = {} if consistency == LEADER else {consistency: 1}
        parameters = {**options, **datacenter, **mode}
        headers = {"X-Consul-Token": self.login.token} if self.login.token else {}
        wait = float(str(options.get("wait", "0s"))[:-1])
        with self._connection.bounded(wait * 17 / 16):  # Consul adds up to a sixteenth
            answer = self._connection.get(f"{path}?{urlencode(parameters)}", headers)
            body = read_body(answer, ANSWER_BYTES)
        if answer.status not in (200, 404):
            raise error_of(answer.status, body)
        with parsing(self._not_consul):
            index = max(1, int(answer.headers["X-Consul-Index"]))  # 0 would be answered at once, without end
        return _Reply(answer.status == 200, index, body), is_fresh(answer.headers)

    def _not_consul(self) -> StoreError:
        return not_consul().at(node=self._connection.node.url)

    def close(self) -> None:
        """End the connection. Any thread, any number of times."""
        self._connection.close()


class _Reply(NamedTuple):
    """An answer of Consul's."""

    found: bool
    at: int
    """Its index."""
    body: bytes


def _items(body: bytes) -> dict[str, tuple[int, bytes | None]]:
    """Return the keys of an answer; raises one of ``UNEXPECTED``."""
    return {
        f"/{item['Key']}": (int(item["ModifyIndex"]), None if item["Value"] is None else a2b_base64(item["Value"]))
        for item in json.loads(body.decode("utf-8", "replace"))
    }
