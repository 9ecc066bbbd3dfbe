"""Stores of other distributions: entry points of the group ``confpy.stores``.

An entry point ``s3 = "their.module:TheirStore"`` makes ``-backend s3`` known. Looked up only for a name that is none of
confpy's own, so that no installation replaces one of those. What such a store raises that no store may raise is
reported as its error, without a traceback. ``docs/stores/your-own.md`` is the contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from confpy.config.stores import STORES
from confpy.errors import ConfpyError, StoreError, UsageError, bug
from confpy.keys.capabilities import Capabilities
from confpy.keys.snapshot import Changes, Invalidated, PrefixStatus, Snapshot

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from confpy.config.settings import Settings

GROUP = "confpy.stores"
"""The group of entry points."""
NEEDED = ("open", "prefixes", "read", "poll", "watch", "close")
"""What a store has to have, beside ``capabilities``."""


class _Source(NamedTuple):
    """Where a store comes from, for errors."""

    name: str
    distribution: str

    @contextmanager
    def guarded(self, doing: str, kind: type[ConfpyError] = StoreError) -> Iterator[None]:
        """Raise what the block raises as an error of confpy's, without what it says: that may hold a value."""
        try:
            yield
        except ConfpyError:
            raise
        except Exception as error:  # noqa: BLE001 - foreign code
            where = bug(error).message.removeprefix("a bug in confpy: ")
            raise kind(f"the store {self.name!r} failed {doing}: {where}", hint=self.blame) from None

    @property
    def blame(self) -> str:
        """Whom to ask."""
        return f"it is part of {self.distribution}, not of confpy: report it there"


def known() -> list[str]:
    """Return the names of all stores that may be opened, those of other distributions last."""
    from importlib.metadata import entry_points

    others = {point.name for point in entry_points(group=GROUP)} - STORES.keys()
    return [*sorted(STORES), *sorted(others)]


def is_known(name: str) -> bool:
    """Say whether a store of this name may be opened."""
    return name in STORES or name in known()


def options(settings: Settings) -> dict[str, str]:
    """Return the options that the settings give to a store that is not confpy's own; raises ``UsageError``."""
    found: dict[str, str] = {}
    for text in settings.store_options:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise UsageError("a store option is not of the form NAME=VALUE", hint='such as store_options = ["zone=b"]')
        found[name.strip()] = value
    return found


def open_outside(name: str, settings: Settings) -> OutsideStore:
    """Open the store of another distribution; raises ``UsageError`` for an unknown or a broken one."""
    from importlib.metadata import entry_points

    options(settings)
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if not points:
        raise UsageError(f"unknown store {name!r}", hint="choose one of " + ", ".join(known()))
    if len(points) > 1:
        owners = ", ".join(sorted(map(_owner, points.values())))
        raise UsageError(f"more than one distribution has a store {name!r}", hint=f"uninstall all but one of {owners}")
    (point,) = points.values()
    source = _Source(name, _owner(point))
    try:
        found = point.load()
    except ImportError as error:
        reason = f"no module {error.name!r}" if isinstance(error, ModuleNotFoundError) else "an import fails"
        raise UsageError(f"the store {name!r} cannot be loaded: {reason}", hint=source.blame) from None
    except Exception as error:  # noqa: BLE001 - foreign code
        reason = type(error).__name__
        raise UsageError(f"the store {name!r} cannot be loaded: {reason}", hint=source.blame) from None
    capabilities = getattr(found, "capabilities", None)
    lacks = [one for one in NEEDED if not callable(getattr(found, one, None))]
    if not isinstance(capabilities, Capabilities):
        lacks.insert(0, "capabilities")
    if lacks:
        raise UsageError(f"the store {name!r} is none: it lacks {', '.join(lacks)}", hint=source.blame)
    with source.guarded("to open", UsageError):
        return OutsideStore(found.open(settings), source)


def _owner(point: EntryPoint) -> str:
    """Return the distribution that an entry point is from."""
    return "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"


class OutsideStore:
    """A store of another distribution, whose failures are told as its own."""

    def __init__(self, store: Any, source: _Source) -> None:
        self._store = store
        self._source = source
        self.capabilities: Capabilities = store.capabilities

    @classmethod
    def open(cls, settings: Settings) -> OutsideStore:
        """Never called: ``open_outside`` opens the store in it."""
        raise NotImplementedError

    @property
    def node(self) -> str:
        with self._source.guarded("to name its node"):
            return str(getattr(self._store, "node", ""))

    def prefixes(self, path: str) -> tuple[str, ...]:
        with self._source.guarded("to name a prefix", UsageError):
            return tuple(self._store.prefixes(path))

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        with self._source.guarded("to read"):
            snapshot = self._store.read(prefixes, counted)
        if not isinstance(snapshot, Snapshot) or not snapshot.listings.keys() >= set(prefixes):
            message = f"the store {self._source.name!r} failed to read: it returned no snapshot of all prefixes"
            raise StoreError(message, hint=self._source.blame)
        return snapshot

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        with self._source.guarded("to poll"):
            status: PrefixStatus | None = self._store.poll(prefixes)
        return status

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> OutsideStream:
        with self._source.guarded("to watch"):
            return OutsideStream(self._store.watch(cursors, identity), self._source)

    def close(self) -> None:
        with self._source.guarded("to close"):
            self._store.close()


class OutsideStream:
    """A stream of such a store."""

    def __init__(self, stream: Any, source: _Source) -> None:
        self._stream = stream
        self._source = source

    def __iter__(self) -> Iterator[Changes | Invalidated]:
        with self._source.guarded("to follow"):
            for change in self._stream:
                if not isinstance(change, Changes | Invalidated):
                    raise TypeError
                yield change

    def close(self) -> None:
        with self._source.guarded("to end its stream"):
            self._stream.close()
