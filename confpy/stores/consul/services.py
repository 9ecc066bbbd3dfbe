"""Services are registered with Consul's agent: ``/<service>/<id>`` with the value ``host:port``.

With a TTL the service has a check that we pass; without us it is critical when the TTL ends, and the agent removes it
a minute later. What is ours is told by a mark in its ``meta``. An agent knows no transactions: between the look at the
mark and what follows, another one may register the service.

https://developer.hashicorp.com/consul/api-docs/agent/service
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

from consul.exceptions import NotFound  # type: ignore[import-untyped]

from confpy.errors import UsageError
from confpy.keys.capabilities import Capabilities
from confpy.registration.values import Entry, Standing
from confpy.stores.consul.writing import Client, Writing, at_least

if TYPE_CHECKING:
    from confpy.config.settings import Settings

Result = TypeVar("Result")

MARK = "confpy-registration"
"""The name in ``meta`` whose value tells who has registered a service."""
GONE_AFTER = "1m"
"""How long a service is critical before its agent removes it: no shorter time is taken."""
_NEEDS = "service write"


class ConsulServiceRegistrar:
    """One service of an agent, behind ``confpy.registration.values.Registrar``."""

    capabilities = Capabilities(binary_values=False)

    def __init__(self, writing: Writing, entry: Entry) -> None:
        """Raises ``UsageError`` for a key or a value that is no service."""
        name, slash, identity = entry.key.strip("/").partition("/")
        if not slash or "/" in identity:
            hint = "write it as /SERVICE/ID, such as /web/web-1"
            raise UsageError("the key does not name a service", key=entry.key, hint=hint)
        self._writing = writing
        self._entry = entry
        self._name, self._id = name, identity
        self._address, self._port = _address(entry)
        self._mark = token_hex(8)

    @property
    def node(self) -> str:
        return self._writing.endpoints.node

    @classmethod
    def open(cls, settings: Settings, entry: Entry) -> ConsulServiceRegistrar:
        """Return the registrar of an entry. No traffic yet; raises ``UsageError``."""
        return cls(Writing.open(settings), entry)

    def claim(self, *, takes_over: bool) -> Standing:
        def put(client: Client) -> Standing:
            if not takes_over and (standing := self._standing(client)) != "free":
                return standing
            check = None
            if self._entry.ttl is not None:
                seconds = at_least(self._entry.ttl, 1)
                check = {"ttl": f"{seconds}s", "status": "passing", "DeregisterCriticalServiceAfter": GONE_AFTER}
            client.agent.service.register(
                self._name,
                service_id=self._id,
                address=self._address,
                port=self._port,
                tags=list(self._entry.tags),
                check=check,
                meta={MARK: self._mark},
                replace_existing_checks=True,
            )
            return "held"

        return self._call(put)

    def refresh(self) -> Standing:
        def renew(client: Client) -> Standing:
            standing = self._standing(client)
            if standing == "held" and self._entry.ttl is not None:
                client.agent.check.ttl_pass(f"service:{self._id}")
            return standing

        return self._call(renew)

    def release(self) -> Standing:
        def remove(client: Client) -> Standing:
            standing = self._standing(client)
            if standing == "held":
                client.agent.service.deregister(self._id)
                standing = "free"
            return standing

        return self._call(remove)

    def remove(self, expected: bytes | None) -> bool:
        def remove(client: Client) -> bool:
            found = self._look(client)
            if found is None or (
                expected is not None and (found.get("Address"), found.get("Port")) != (self._address, self._port)
            ):
                return False
            client.agent.service.deregister(self._id)
            return True

        return self._call(remove)

    def close(self) -> None:
        self._writing.endpoints.close()

    def _call(self, call: Callable[[Client], Result]) -> Result:
        return self._writing.call(call, needs=_NEEDS)

    def _look(self, client: Client) -> dict[str, Any] | None:
        found: dict[str, Any] | None = None
        with suppress(NotFound):
            found = client.agent.service_definition(self._id)
        return found

    def _standing(self, client: Client) -> Standing:
        found = self._look(client)
        if found is None:
            return "free"
        return "held" if (found.get("Meta") or {}).get(MARK) == self._mark else "taken"


def _address(entry: Entry) -> tuple[str, int]:
    """Return address and port of a value; raises ``UsageError``."""
    if not entry.value:  # it is only to be removed
        return "", 0
    error = UsageError("the value of a service is not HOST:PORT", key=entry.key, hint="such as 10.0.0.1:8080")
    host, colon, port = entry.value.decode().strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port[:6]) < 1 << 16:
        raise error
    return host, int(port)
