"""Keys are put into ZooKeeper as ephemeral nodes: they go with the session, which has the TTL as its timeout.

Kazoo keeps the session alive, over broken connections too. Without a TTL, the node stays.

https://zookeeper.apache.org/doc/current/zookeeperProgrammers.html#Ephemeral+Nodes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
)

from confpy.errors import StoreError
from confpy.keys.prefixes import ROOT, ancestors
from confpy.registration.values import Entry, Standing
from confpy.stores.zookeeper.client import SESSION, Request, Session, ZooKeeper, connect, refusal
from confpy.stores.zookeeper.store import ZooKeeperStore

if TYPE_CHECKING:
    from kazoo.client import KazooClient

    from confpy.config.settings import Settings

_TRIES = 3
"""How often a request is made anew because the node changed meanwhile."""
_CHANGED = (BadVersionError, NodeExistsError, NoNodeError, RolledBackError)


class _Found(NamedTuple):
    """The node as it is."""

    value: bytes
    version: int
    session: int
    """Whose it is; 0: it is not ephemeral."""


class ZooKeeperRegistrar:
    """One entry in ZooKeeper, behind ``confpy.registration.values.Registrar``."""

    capabilities = ZooKeeperStore.capabilities

    def __init__(self, zookeeper: ZooKeeper, entry: Entry) -> None:
        self._zookeeper = zookeeper
        self._entry = entry
        self._session: Session | None = None
        self._ours: set[int] = set()
        """All sessions that were ours: the node of one that was lost goes a moment later."""

    @property
    def node(self) -> str:
        return self._zookeeper.endpoints.node

    @classmethod
    def open(cls, settings: Settings, entry: Entry) -> ZooKeeperRegistrar:
        """Return the registrar of an entry. No traffic yet; raises ``UsageError``."""
        return cls(connect(settings), entry)

    def claim(self, *, takes_over: bool) -> Standing:
        session = self._alive()
        for _ in range(_TRIES):
            found = self._look(session)
            if not takes_over and found is not None and not self._is_left_behind(found):
                return self._standing(found)
            if self._put(session, found):
                return "held"
        raise _too_fast()

    def refresh(self) -> Standing:
        found = self._look(self._alive())
        return "free" if found is None or self._is_left_behind(found) else self._standing(found)

    def release(self) -> Standing:
        session = self._alive()
        for _ in range(_TRIES):
            found = self._look(session)
            if found is None:
                return "free"
            if not self._is_left_behind(found) and self._standing(found) == "taken":
                return "taken"
            if self._delete(session, found):
                return "free"
        raise _too_fast()

    def remove(self, expected: bytes | None) -> bool:
        session = self._alive()
        for _ in range(_TRIES):
            found = self._look(session)
            if found is None or expected not in (None, found.value):
                return False
            if self._delete(session, found):
                return True
        raise _too_fast()

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
        self._zookeeper.close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def _alive(self) -> Session:
        """Return the session, a new one if the server has ended it; raises ``StoreError``."""
        session = self._session
        if session is None or session.has_ended:
            if session is not None:
                session.close()
            session = self._session = self._zookeeper.session(seconds=self._entry.ttl or SESSION, reconnects=True)
            self._ours.add(_identity(session))
        return session

    def _look(self, session: Session) -> _Found | None:
        answer = self._ask(session, lambda kazoo: kazoo.get_async(self._entry.key))
        if isinstance(answer, NoNodeError):
            return None
        value, stat = self._insist(answer)
        return _Found(value, int(stat.version), int(stat.ephemeralOwner))

    def _is_left_behind(self, found: _Found) -> bool:
        """Whether the node is that of a session of ours that has ended."""
        own = 0 if self._session is None else _identity(self._session)
        return found.session in self._ours and found.session != own

    def _standing(self, found: _Found) -> Standing:
        is_ours = self._entry.ttl is None or found.session in self._ours
        return "held" if is_ours and found.value == self._entry.value else "taken"

    def _put(self, session: Session, found: _Found | None) -> bool:
        """Put the node in place of what was found; returns whether that was still so."""
        key, value, is_ephemeral = self._entry.key, self._entry.value, self._entry.ttl is not None
        if found is None:
            for above in sorted(one for one in ancestors(key) if one not in (ROOT, key)):
                answer = self._ask(session, lambda kazoo, path=above: kazoo.create_async(path))  # type: ignore[misc]
                if not isinstance(answer, NodeExistsError):
                    self._insist(answer)
            answer = self._ask(session, lambda kazoo: kazoo.create_async(key, value, ephemeral=is_ephemeral))
        elif not is_ephemeral and not found.session:
            answer = self._ask(session, lambda kazoo: kazoo.set_async(key, value, found.version))
        else:

            def replace(kazoo: KazooClient) -> Any:
                transaction = kazoo.transaction()
                transaction.delete(key, found.version)
                transaction.create(key, value, ephemeral=is_ephemeral)
                return transaction.commit_async()

            results = self._insist(self._ask(session, replace))
            answer = next((one for one in results if isinstance(one, KazooException)), None)
        return self._was_carried_out(answer)

    def _delete(self, session: Session, found: _Found) -> bool:
        answer = self._ask(session, lambda kazoo: kazoo.delete_async(self._entry.key, found.version))
        return self._was_carried_out(answer)

    def _was_carried_out(self, answer: Any) -> bool:
        if isinstance(answer, _CHANGED):
            return False
        self._insist(answer)
        return True

    def _ask(self, session: Session, request: Request) -> Any:
        """Return the answer to a request, an error that is about it as that; raises ``StoreError``."""
        try:
            (answer,) = session.gather([request])
        except StoreError as error:
            raise error.at(node=self.node) from None
        return answer

    def _insist(self, answer: Any) -> Any:
        """Return an answer that is no error; raises ``StoreError``."""
        if isinstance(answer, NoAuthError):
            hint = "the ACL of the node, or of the one above it, has to let username create and delete"
            raise StoreError("zookeeper: it denies the request", node=self.node, hint=hint)
        if isinstance(answer, NotEmptyError):
            hint = "a node with a TTL has none: name another key"
            raise StoreError("zookeeper: there are keys below the key", node=self.node, hint=hint)
        if isinstance(answer, KazooException):
            raise refusal(answer).at(node=self.node)
        return answer


def _identity(session: Session) -> int:
    """Return the id of a session, as nodes have it."""
    return int((session.kazoo.client_id or (0,))[0])


def _too_fast() -> StoreError:
    return StoreError("zookeeper: the node changes faster than a request about it is carried out")
