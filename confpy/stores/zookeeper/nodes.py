"""Walking a tree of nodes, and what of it is a key: one with data, or one that never had children.

A node that has children, or had some, and no data is a folder and no key: services that are all gone leave one behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from kazoo.exceptions import KazooException, NoAuthError, NoNodeError

from confpy.errors import AccessDenied, StoreError
from confpy.keys.prefixes import ROOT, covers
from confpy.stores.zookeeper.client import PIPELINED, Session, refusal

SYSTEM = "/zookeeper"
"""What ZooKeeper keeps for itself: no part of what lies below ``/``."""

Callback = Callable[[Any], object]


class Walked(NamedTuple):
    """What a walk brought."""

    keys: dict[str, str | None]
    """Path of each node → its value; None where it is no key."""
    denied: dict[str, StoreError]
    """Path → why it cannot be read."""


def lists(prefix: str, key: str) -> bool:
    """Say whether a read of a prefix brings a key."""
    return covers(prefix, key) and not (prefix == ROOT and covers(SYSTEM, key))


class Walk:
    """Reads nodes with all that is below them, in steps of a bounded size."""

    def __init__(
        self,
        paths: Iterable[str],
        watch: Callback | None = None,
        *,
        seen: set[str] | None = None,
        roots: Collection[str] = (),
    ) -> None:
        """``watch`` is told once of the next change of each node, and of one of the ``roots`` that comes into being.

        ``seen``: nodes that are not read where they are met below others; those that are read are added.
        """
        self.watch = watch
        self.seen = set() if seen is None else seen
        self._roots = roots
        self._waiting = sorted(set(paths), reverse=True)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def step(self, session: Session) -> Walked:
        """Read the next nodes; raises ``StoreError``."""
        paths = [self._waiting.pop() for _ in range(min(PIPELINED, len(self._waiting)))]
        self.seen.update(paths)
        walked, parents = self._read(session, paths)
        for parent, children in self._children(session, parents, walked.denied):
            if children and walked.keys.get(parent) == "":
                walked.keys[parent] = None
            above = "" if parent == ROOT else parent
            new = [path for child in children if (path := f"{above}/{child}") not in self.seen and path != SYSTEM]
            self.seen.update(new)
            self._waiting += new
        return walked

    def _read(self, session: Session, paths: Collection[str]) -> tuple[Walked, list[str]]:
        """Return what the nodes hold, and those of them that have children, or may get some that are to be told of."""
        watch = self.watch
        answers = session.gather([lambda kazoo, path=path: kazoo.get_async(path, watch=watch) for path in paths])  # type: ignore[misc]
        keys: dict[str, str | None] = {}
        denied: dict[str, StoreError] = {}
        parents: list[str] = []
        absent: list[str] = []
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, NoNodeError):
                keys[path] = None
                self.seen.discard(path)
                if path in self._roots:
                    absent.append(path)
            elif isinstance(answer, NoAuthError):
                denied[path] = _denial(path)
            elif isinstance(answer, KazooException):
                raise refusal(answer)
            else:
                data, stat = answer
                is_key = bool(data) or (stat.cversion == 0 and path != ROOT)
                keys[path] = (data or b"").decode("utf-8", "surrogateescape") if is_key else None
                if stat.numChildren or (watch is not None and not stat.ephemeralOwner):
                    parents.append(path)
        if watch is not None and absent:
            # A watch of a node that is not there can only be set by asking whether it is.
            there = session.gather([lambda kazoo, path=path: kazoo.exists_async(path, watch=watch) for path in absent])  # type: ignore[misc]
            self._waiting += (path for path, stat in zip(absent, there, strict=True) if stat is not None)
        return Walked(keys, denied), parents

    def _children(
        self, session: Session, parents: Collection[str], denied: dict[str, StoreError]
    ) -> Iterator[tuple[str, list[str]]]:
        watch = self.watch
        requests = [lambda kazoo, path=path: kazoo.get_children_async(path, watch=watch) for path in parents]
        for path, answer in zip(parents, session.gather(requests) if requests else [], strict=True):
            if isinstance(answer, NoAuthError):
                denied[path] = _denial(path)
            elif isinstance(answer, NoNodeError):
                continue  # a watch, or the next read, tells of what became of it
            elif isinstance(answer, KazooException):
                raise refusal(answer)
            else:
                yield path, answer


def _denial(path: str) -> StoreError:
    hint = "give username and password_file of a user that its ACL lets read it"
    return AccessDenied("ZooKeeper refuses a node of the prefix: permission denied", hint=hint, key=path)
