"""Further stores in the one tree of keys: the table ``[mounts]``, and the settings of each store in it.

A store has its own settings. Those of the store that confpy runs with never hold for another server: a token that was
given for the one must not be sent to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from confpy.config import confd
from confpy.config.settings import MOUNTS, OPTIONS, ROWS, STORE_SETTINGS, Settings
from confpy.config.stores import STORES
from confpy.config.toml import EMPTY, mend, plain
from confpy.config.tools import take_tools_variables
from confpy.errors import ConfpyError, UsageError
from confpy.keys.prefixes import normalise

ADDRESSES = frozenset({"nodes", "srv_domain", "srv_record", "files"})
"""The settings that say which server, or which files, a store is."""
EXAMPLE = 'write such as "/secrets" = { backend = "file", file = ["/run/secrets.yaml"] }'

Values = dict[str, object]


def read_mounts(table: Mapping[str, object], path: str, warnings: list[ConfpyError]) -> dict[str, Values]:
    """Return the settings of each mounted store, by mount, as its table has them; raises ``UsageError``."""
    found: dict[str, Values] = {}
    written: dict[str, str] = {}
    for mount, options in table.items():
        where = {"file": path, "key": f"{MOUNTS}.{mount}"}
        point = _point(mount, where)
        if point in found:
            raise UsageError(f"two stores are mounted at {point}", hint="give each a mount of its own", **where)
        if not isinstance(options, dict):
            raise UsageError(f"the mount {mount} is no table", hint=EXAMPLE, **where)
        found[point] = read_store(options, where, warnings)
        written[point] = mount
    return found


def _point(mount: str, where: Mapping[str, str]) -> str:
    """Return a mount without a slash at its end; raises ``UsageError`` where it is none."""
    if not mount.startswith("/"):
        hint = f'a mount is a path in the tree of keys: write "/{mount.lstrip("/")}"'
        raise UsageError(f"the mount {mount!r} is relative", hint=hint, **where)
    point = mount.rstrip("/")
    if not point:
        raise UsageError("nothing can be mounted at /", hint="backend names the store that is there", **where)
    if normalise(point) != point or any(not char.isprintable() for char in point):
        hint = f'write "{normalise(point)}"' if point.isprintable() else "it holds what cannot be shown"
        raise UsageError(f"the mount {mount!r} is no plain path", hint=hint, **where)
    return point


def read_store(table: Mapping[str, object], where: Mapping[str, str], warnings: list[ConfpyError]) -> Values:
    """Return the settings of one store by their names; raises ``UsageError``."""
    known = {plain(key): option for option in OPTIONS for key in option.keys}
    words = {plain(word.name): word for word in confd.WORDS}
    values: Values = {}
    for key, value in table.items():
        option, word = known.get(plain(key)), words.get(plain(key))
        at = {**where, "key": f"{where['key']}.{key}"}
        if option is not None and option.name in STORE_SETTINGS | {"backend"}:
            if value not in EMPTY:
                values[option.name] = option.kind.read(value, key, as_text=False, **at)
        elif option is not None:
            hint = "write it above all tables"
            warnings.append(UsageError(f"{key} is no setting of a store, ignored", hint=hint, **at))
        elif word is not None:
            hint = word.hint or "it has no meaning here"
            warnings.append(UsageError(f"{key} has no meaning here, ignored", hint=hint, **at))
        else:
            names = [name for option in OPTIONS if option.name in STORE_SETTINGS for name in option.keys[:1]]
            raise UsageError(f"unknown setting {key}", hint=mend(key, [*names, "backend"]), **at)
    backend = values.get("backend")
    if not backend:
        raise UsageError("the store has no backend", hint=EXAMPLE, **where)
    if backend not in STORES and not _is_outside(str(backend)):
        hint = mend(str(backend), STORES) or "choose one of " + ", ".join(sorted(STORES))
        raise UsageError(f"unknown store {backend!r}", hint=hint, **{**where, "key": f"{where['key']}.backend"})
    return values


def settle_mounts(values: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, Settings]:
    """Return the settings of each mounted store. ``values``: those of the run, with the tables as they were read."""
    tables = cast("Mapping[str, Values]", values[MOUNTS])
    return {mount: settle_store(table, values, environ) for mount, table in tables.items()}


def settle_store(table: Values, run: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """Return the settings of a store. ``run``: those of the store that confpy runs with, and of its folders.

    What the table does not set is, for a store of the same servers without an address of its own, as confpy's store has
    it. For one of other servers it is what the variables of that store's own tools say.
    """
    own: dict[str, Any] = dict(table)
    backend, main = str(own["backend"]), str(run.get("backend", ROWS["backend"].default))
    if same_servers(backend, main) and not ADDRESSES & own.keys():
        own = {name: value for name, value in run.items() if name in STORE_SETTINGS} | own
    elif not same_servers(backend, main):
        take_tools_variables(backend, environ, own, {})
    # Not the run's confdir: the API of etcd that is recorded for it is that of another store.
    return Settings(**{**own, "confdir": f"{run.get('confdir', '')}/[{MOUNTS}]", "noop": True})


def same_servers(one: str, other: str) -> bool:
    """Say whether two kinds of store are kept by the same servers, as Consul's keys and its catalogue are."""
    ports = [STORES[name].port if name in STORES else 0 for name in (one, other)]
    return one == other or (ports[0] > 0 and ports[0] == ports[1])


def _is_outside(backend: str) -> bool:
    """Say whether another distribution has a store of this name, as ``confpy.stores.outside`` opens it."""
    from importlib.metadata import entry_points  # most stores are confpy's own

    return any(entry_points(group="confpy.stores", name=backend))
