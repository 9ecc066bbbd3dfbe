"""Keys are put into etcd v3 with a lease, and removed only while they have it: by etcd3gw's leases and transactions.

A put of anybody else takes the key away from our lease, so the lease tells whether the key is ours.
"""

from __future__ import annotations

import math
from binascii import b2a_base64
from collections.abc import Callable
from json import loads
from typing import TYPE_CHECKING, Any, TypeVar, cast

from etcd3gw.client import Etcd3Client
from etcd3gw.lease import Lease

from confpy.config.stores.etcd import ETCDV3
from confpy.errors import AccessDenied, StoreError
from confpy.http.connection import Connection
from confpy.http.endpoints import Endpoints
from confpy.registration.values import Entry, Standing
from confpy.stores.answers import parsing
from confpy.stores.etcd.v3 import Etcd3Store
from confpy.stores.etcd.v3_gateway import Gateway, Login, Paths
from confpy.stores.etcd.v3_wire import Body, not_etcd
from confpy.stores.network import etcd_scheme, open_endpoints

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")

NO_SESSION = object()
"""Stands for the session of requests that etcd3gw would open."""
_NO_LEASE = "requested lease not found"


class Client(Etcd3Client):
    """etcd3gw's client over a connection of confpy's own: its deadlines, its login, its errors."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(session=cast("Any", NO_SESSION), api_path="")
        self._gateway = gateway

    def get_url(self, path: str) -> str:
        return path.lstrip("/")

    def post(self, url: str, *_: Any, json: Any = None, data: str = "", **__: Any) -> Any:
        return self._gateway.post(url, loads(data) if json is None else json)[0]


class Etcd3Registrar:
    """One entry in etcd v3, behind ``confpy.registration.values.Registrar``."""

    capabilities = Etcd3Store.capabilities

    def __init__(self, endpoints: Endpoints, login: Login, entry: Entry) -> None:
        self._endpoints = endpoints
        self._login = login
        self._paths: Paths = {}
        self._entry = entry
        self._key = _base64(entry.key.encode("utf-8", "surrogateescape"))
        self._value = _base64(entry.value)
        self._lease = 0
        """What our key is bound to; 0: there is none."""

    @property
    def node(self) -> str:
        return self._endpoints.node

    @classmethod
    def open(cls, settings: Settings, entry: Entry) -> Etcd3Registrar:
        """Return the registrar of an entry. No traffic yet; raises ``UsageError``."""
        login = Login(settings)
        if login.user:
            login.password()
        return cls(open_endpoints("etcd v3", ETCDV3, settings, scheme=etcd_scheme(settings)), login, entry)

    def claim(self, *, takes_over: bool) -> Standing:
        return self._call(lambda client: self._claim(client, takes_over=takes_over))

    def refresh(self) -> Standing:
        return self._call(self._refresh)

    def release(self) -> Standing:
        return self._call(self._release)

    def remove(self, expected: bytes | None) -> bool:
        compare = [] if expected is None else [self._compare("VALUE", value=_base64(expected))]
        return self._call(lambda client: self._delete(client, compare))

    def close(self) -> None:
        self._endpoints.close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def _call(self, call: Callable[[Client], Result]) -> Result:
        def on(connection: Connection) -> Result:
            with parsing(not_etcd):
                return call(Client(Gateway(connection, self._paths, self._login)))

        try:
            return self._endpoints.with_failover(on)
        except AccessDenied as error:
            error.hint = "grant the role write access to the key"
            raise
        except StoreError as error:
            if "too large" in error.message:
                error.hint = "etcd takes requests of 1.5 MiB (--max-request-bytes)"
            raise

    def _claim(self, client: Client, *, takes_over: bool) -> Standing:
        if not takes_over and (standing := self._look(client)) != "free":
            return standing
        try:
            return self._put(client, takes_over=takes_over)
        except StoreError as error:
            if _NO_LEASE not in error.message:
                raise
        self._lease = 0  # it expired after it was granted
        return self._put(client, takes_over=takes_over)

    def _put(self, client: Client, *, takes_over: bool) -> Standing:
        put: Body = {"key": self._key, "value": self._value}
        if self._entry.ttl is not None:
            self._lease = self._lease or client.lease(math.ceil(self._entry.ttl)).id
            put["lease"] = self._lease
        compare = [] if takes_over else [self._compare("CREATE", create_revision=0)]
        answer = client.transaction({"compare": compare, "success": [{"request_put": put}], "failure": []})
        return "held" if answer.get("succeeded") else "taken"

    def _refresh(self, client: Client) -> Standing:
        if self._entry.ttl is not None and Lease(self._lease, client).refresh() <= 0:
            self._lease = 0
        return self._look(client)

    def _look(self, client: Client) -> Standing:
        answer = cast("Body", client.post("kv/range", json={"key": self._key}))
        for found in answer.get("kvs", ()):
            if self._entry.ttl is None:
                return "held" if found.get("value", "") == self._value else "taken"
            return "held" if self._lease and int(found.get("lease", 0)) == self._lease else "taken"
        return "free"

    def _release(self, client: Client) -> Standing:
        is_ours = self._compare("VALUE", value=self._value)
        if self._entry.ttl is not None:
            if not self._lease:
                return "free"
            is_ours = self._compare("LEASE", lease=self._lease)
        standing: Standing = "free" if self._delete(client, [is_ours]) else self._look(client)
        if self._lease:
            try:
                Lease(self._lease, client).revoke()
            except StoreError as error:
                if _NO_LEASE not in error.message:
                    raise
            self._lease = 0
        return standing

    def _delete(self, client: Client, compare: list[Body]) -> bool:
        """Delete the key if the comparisons hold; returns whether it was there and they did."""
        delete = {"request_delete_range": {"key": self._key}}
        answer = cast("Body", client.transaction({"compare": compare, "success": [delete], "failure": []}))
        if not answer.get("succeeded"):
            return False
        return int(answer["responses"][0]["response_delete_range"].get("deleted", 0)) > 0

    def _compare(self, target: str, **what: object) -> Body:
        return {"key": self._key, "target": target, "result": "EQUAL", **what}


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
