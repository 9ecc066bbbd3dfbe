"""Keys are put into Consul's KV locked by a session with a TTL, and removed only while it holds them.

A session ends between one and two of its TTLs after it was renewed last (Consul doubles it), so it gets half of the
key's; with ``behavior: delete`` its keys go with it. A plain put of somebody else leaves the lock: then the value says
that the key is no longer ours, and we unlock it.

https://developer.hashicorp.com/consul/docs/automate/session and /consul/api-docs/txn
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import TYPE_CHECKING, Any, NamedTuple

from consul.exceptions import ClientError, NotFound  # type: ignore[import-untyped]

from confpy.errors import StoreError
from confpy.registration.values import Entry, Standing
from confpy.stores.consul.store import ConsulStore
from confpy.stores.consul.writing import Client, Writing, at_least

if TYPE_CHECKING:
    from confpy.config.settings import Settings

SHORTEST, LONGEST = 10, 86400
"""Seconds of a session's TTL."""
_TRIES = 3
"""How often a transaction is made anew because the key changed meanwhile."""
_NEEDS = "key write and session write"


class _Found(NamedTuple):
    """The key as it is."""

    modified: int
    """The index at which it was written."""
    value: bytes
    session: str
    flags: int


class ConsulRegistrar:
    """One entry in Consul's KV, behind ``confpy.registration.values.Registrar``."""

    capabilities = ConsulStore.capabilities

    def __init__(self, writing: Writing, entry: Entry) -> None:
        self._writing = writing
        self._entry = entry
        self._key = entry.key.lstrip("/")
        self._session = ""

    @property
    def node(self) -> str:
        return self._writing.endpoints.node

    @classmethod
    def open(cls, settings: Settings, entry: Entry) -> ConsulRegistrar:
        """Return the registrar of an entry. No traffic yet; raises ``UsageError``."""
        return cls(Writing.open(settings), entry)

    def claim(self, *, takes_over: bool) -> Standing:
        return self._writing.call(lambda client: self._claim(client, takes_over=takes_over), needs=_NEEDS)

    def refresh(self) -> Standing:
        return self._writing.call(self._refresh, needs=_NEEDS)

    def release(self) -> Standing:
        return self._writing.call(self._release, needs=_NEEDS)

    def remove(self, expected: bytes | None) -> bool:
        return self._writing.call(lambda client: self._remove(client, expected), needs="key write")

    def close(self) -> None:
        self._writing.endpoints.close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def _claim(self, client: Client, *, takes_over: bool) -> Standing:
        if not takes_over and (standing := self._standing(client)[0]) != "free":
            return standing
        for _ in range(_TRIES):
            if self._put(client, takes_over=takes_over):
                return "held"
            if not takes_over and (standing := self._standing(client)[0]) != "free":
                return standing
            self._session = ""  # the servers have forgotten it
        raise StoreError("Consul does not carry out the transaction that puts the key")

    def _put(self, client: Client, *, takes_over: bool) -> bool:
        value = b2a_base64(self._entry.value, newline=False).decode()
        if self._entry.ttl is None:
            if takes_over:
                return self._transact(client, {"Verb": "set", "Value": value})
            return self._transact(client, {"Verb": "cas", "Value": value, "Index": 0})
        if not self._session:
            ttl = min(LONGEST, at_least(self._entry.ttl / 2, SHORTEST))
            self._session = str(
                client.session.create("confpy register", checks=[], lock_delay=0, behavior="delete", ttl=ttl)
            )
        # "lock" would take a key that nobody has locked, and would not take one that somebody has.
        first = {"Verb": "delete"} if takes_over else {"Verb": "cas", "Value": value, "Index": 0}
        return self._transact(client, first, {"Verb": "lock", "Value": value, "Session": self._session})

    def _refresh(self, client: Client) -> Standing:
        if self._entry.ttl is not None:
            try:
                client.session.renew(self._session)
            except NotFound:
                self._session = ""
        return self._standing(client)[0]

    def _look(self, client: Client) -> _Found | None:
        _, found = client.kv.get(self._key)
        if found is None:
            return None
        session = str(found.get("Session") or "")
        return _Found(int(found["ModifyIndex"]), found["Value"] or b"", session, int(found["Flags"]))

    def _standing(self, client: Client) -> tuple[Standing, int]:
        """Return how the key stands, and at which index; with the value of somebody else our session lets go of it.

        That session would take it along when it ends.
        """
        for _ in range(_TRIES):
            found = self._look(client)
            if found is None:
                return "free", 0
            is_locked = bool(self._session) and found.session == self._session
            if found.value == self._entry.value and (is_locked or self._entry.ttl is None):
                return "held", found.modified
            if not is_locked:
                return "taken", found.modified
            value = b2a_base64(found.value, newline=False).decode()
            unlock = {"Verb": "unlock", "Value": value, "Flags": found.flags, "Session": self._session}
            if self._transact(client, {"Verb": "check-index", "Index": found.modified}, unlock):
                return "taken", found.modified
        raise _too_fast()

    def _release(self, client: Client) -> Standing:
        if self._entry.ttl is not None and not self._session:
            return "free"
        for _ in range(_TRIES):
            standing, index = self._standing(client)
            if standing != "held":
                break
            if self._transact(client, {"Verb": "delete-cas", "Index": index}):
                standing = "free"
                break
        else:
            raise _too_fast()
        if self._session:
            client.session.destroy(self._session)
            self._session = ""
        return standing

    def _remove(self, client: Client, expected: bytes | None) -> bool:
        for _ in range(_TRIES):
            found = self._look(client)
            if found is None or expected not in (None, found.value):
                return False
            if self._transact(client, {"Verb": "delete-cas", "Index": found.modified}):
                return True
        raise _too_fast()

    def _transact(self, client: Client, *operations: dict[str, Any]) -> bool:
        """Carry out all operations on the key, or none; returns whether they were."""
        try:
            client.txn.put([{"KV": {"Key": self._key, **one}} for one in operations])
        except ClientError:  # 409
            return False
        return True


def _too_fast() -> StoreError:
    return StoreError("the key changes faster than Consul carries out a transaction on it")
