"""The environment as a store: ``DB_MAX_CONN`` is the key ``/db/max/conn``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from confpy.config.settings import SECRET_VARIABLES
from confpy.errors import StoreError
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import ROOT, select
from confpy.keys.snapshot import Listing, Snapshot

if TYPE_CHECKING:
    from confpy.config.settings import Settings


def _fold(path: str) -> str:
    return "/" + path.lower().replace("_", "/").strip("/")


class EnvStore:
    """The variables that this process was started with. ``docs/stores/env.md`` is the contract."""

    capabilities = Capabilities(binary_keys=True, text_prefixes=True, spells=_fold)
    node = ""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._hidden = SECRET_VARIABLES | (added_by_python() if environment is None else frozenset())

    @classmethod
    def open(cls, settings: Settings) -> EnvStore:  # noqa: ARG003 - there is nothing to set
        return cls()

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Fold a path as names are folded: ``/My_App`` is read, and stripped, as ``/my/app``."""
        return (_fold(path),)

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        """Match names in upper case, as confd does: one with small letters where the prefix stands needs ``/``."""
        # Small letters sort after capitals: of FOO and foo, both /foo, FOO comes last here and wins.
        names = {
            ROOT + name.replace("_", "/"): value
            for name, value in sorted(self._environment.items(), reverse=True)
            if name not in self._hidden
        }
        chosen = select({prefix.upper() for prefix in (*prefixes, *counted)}, names)
        return Snapshot(
            listings={
                prefix: Listing(0, {key.lower(): value for key, value in chosen[prefix.upper()].items()})
                for prefix in prefixes
            },
            counts={prefix: len({key.lower() for key in chosen[prefix.upper()]}) for prefix in counted},
        )

    def poll(self, prefixes: Sequence[str]) -> None:  # noqa: ARG002
        return None

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> NoReturn:  # noqa: ARG002
        raise StoreError("the environment cannot be watched", hint="it does not change while a process runs")

    def close(self) -> None:
        pass


def added_by_python() -> frozenset[str]:
    """Return the variable that Python itself sets without a locale (PEP 538): it was not given as a key."""
    if os.environ.get("LC_CTYPE") not in {"C.UTF-8", "C.utf8", "UTF-8"}:
        return frozenset()
    try:
        with open("/proc/self/environ", "rb") as file:  # as it was when the process began
            given = any(variable.startswith(b"LC_CTYPE=") for variable in file.read().split(b"\0"))
    except OSError:
        return frozenset()
    return frozenset() if given else frozenset({"LC_CTYPE"})
