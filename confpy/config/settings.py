"""The table of settings.

A row of the table is a field of ``Settings``: its name, type and default, and beside them how it is written and what
it is for. Flags, ``CONFPY_*`` variables, the keys of ``confpy.toml``, ``--help`` and ``docs/settings.md`` all come
from these rows. ``sources.py`` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

from confpy.config import confd
from confpy.config.kinds import (
    ADDRESS,
    BOOLEAN,
    COUNT,
    DURATION,
    FOLDER,
    LIST,
    PATH,
    PAUSE,
    PROGRAM,
    SIGNAL,
    SIGNALS,
    TEXT,
    TIMEOUT,
    choice,
)
from confpy.config.options import Option, Row, setting
from confpy.config.stores import tools_variables
from confpy.config.stores.consul import CatalogSettings, ConsulSettings
from confpy.config.stores.docker import DockerSettings
from confpy.config.stores.file import FileSettings
from confpy.config.stores.network import NetworkSettings
from confpy.config.stores.redis import RedisSettings
from confpy.events import Level
from confpy.frozen import NOTHING, fields, frozen

CONFDIRS = ("/etc/confpy", "/etc/confd")
FILES = ("confpy.toml", "confd.toml")
CACHE_DIR = "/var/cache/confpy"
STATE_DIR = "/var/lib/confpy"
MOUNTS = "mounts"
"""The table of the file that mounts further stores."""

RUNNING = "Running"
FOLDERS = "Folders and files"
STORE = "The store"
DELIVERING = "Delivering"
LOGS = "Logs"
STATUS = "Status and metrics"
_OWN = (RUNNING, FOLDERS, STORE, DELIVERING, LOGS, STATUS)

T = TypeVar("T")


ROWS: dict[str, Row] = {}
"""Setting → row: filled by ``with_rows``."""


def with_rows(cls: type[T]) -> type[T]:
    """Return a class without bases that also has the rows of its bases, as fields with their defaults."""
    body = {name: value for name, value in vars(cls).items() if name not in {"__dict__", "__weakref__"}}
    for base in cls.__bases__:
        ROWS.update({name: row for name, row in vars(base).items() if isinstance(row, Row)})
    ROWS.update({name: row for name, row in body.items() if isinstance(row, Row)})
    types = {name: kind for one in (*cls.__bases__, cls) for name, kind in one.__annotations__.items()}
    defaults = {name: row.default for name, row in ROWS.items()}
    return type(cls.__name__, (), {**body, **defaults, "__annotations__": types})


@frozen
@with_rows
class Settings(NetworkSettings, FileSettings, ConsulSettings, CatalogSettings, DockerSettings, RedisSettings):
    """The settings of one run. Durations are seconds."""

    onetime: bool = setting(RUNNING, False, BOOLEAN, "Deliver everything once and exit.")
    watch: bool = setting(RUNNING, False, BOOLEAN, "Follow the store and deliver each change as it comes.")
    interval: float = setting(RUNNING, 600.0, DURATION, "How often to read the store when not watching.")
    resync: float = setting(
        RUNNING, 60.0, DURATION, "How often to compare with the store, and to check targets, when watching."
    )
    settle: float = setting(RUNNING, 0.1, PAUSE, "How long a burst of changes must be quiet before it is delivered.")
    max_wait: float = setting(RUNNING, 2.0, PAUSE, "How long a burst may delay its delivery, or deliveries a reload.")
    noop: bool = setting(
        RUNNING,
        False,
        BOOLEAN,
        "Log what would change, run the checks that need no file in its place, and change nothing.",
    )
    sync_only: bool = setting(RUNNING, False, BOOLEAN, "Run no check and no reload command.")
    stop_timeout: float = setting(RUNNING, 8.0, PAUSE, "How long work in progress may take after a signal to stop.")
    stop_signals: tuple[str, ...] = setting(
        RUNNING,
        (),
        SIGNALS,
        "Signals to stop at, besides TERM, INT, QUIT and USR1. May be repeated, or comma-separated.",
        unset="none; as PID 1 without a terminal also WINCH",
    )
    exec: tuple[str, ...] | None = setting(
        RUNNING,
        None,
        PROGRAM,
        "Run this program when the targets are there, supervise it, and end with it; all that follows is its command.",
    )
    exec_stop_signal: str | None = setting(
        RUNNING, None, SIGNAL, "With -exec: the signal that stops the program.", unset="the one that confpy got"
    )
    exec_stop_timeout: float = setting(
        RUNNING, 8.0, PAUSE, "With -exec: how long the program may take to stop before it is killed."
    )
    allow_empty: bool = setting(RUNNING, False, BOOLEAN, "With -onetime: a confdir without resources is not an error.")
    allow_stale: bool = setting(
        RUNNING, False, BOOLEAN, "With -onetime: if the store is down, create missing targets from cached keys."
    )
    retry_for: float = setting(RUNNING, 0.0, PAUSE, "With -onetime: how long to wait for a store that is down.")
    timeout: float = setting(RUNNING, 60.0, DURATION, "With -onetime: how long the delivery may take after that.")
    ready_timeout: float = setting(
        RUNNING,
        30.0,
        PAUSE,
        "How long a store that does not answer may hold up the start, if every target exists.",
    )
    no_reload: bool = setting(RUNNING, False, BOOLEAN, "Run checks, but no reloads.")
    root: str | None = setting(
        RUNNING, None, FOLDER, "Put every target below this folder, create missing folders, and set no owners."
    )
    report: str | None = setting(
        RUNNING, None, PATH, "With -onetime: write the outcome of each resource to this file, as JSON."
    )

    confdir: str = setting(
        FOLDERS,
        CONFDIRS[0],
        FOLDER,
        "The folder with conf.d/ and templates/.",
        unset="/etc/confpy if it exists, else /etc/confd",
    )
    config_file: str | None = setting(
        FOLDERS,
        None,
        PATH,
        "The settings file.",
        unset=f"confpy.toml, else confd.toml, in the confdir, else {CONFDIRS[-1]}/{FILES[-1]}",
        keys=(),
    )
    cache_dir: str | None = setting(
        FOLDERS,
        None,
        FOLDER,
        "The folder for compiled templates.",
        unset=f"$CACHE_DIRECTORY, else {CACHE_DIR}; if that is not writable and confpy is not root: "
        "$XDG_CACHE_HOME/confpy, else ~/.cache/confpy",
    )

    state_dir: str | None = setting(
        FOLDERS,
        None,
        FOLDER,
        "The folder for what must survive a restart.",
        unset=f"$STATE_DIRECTORY, else {STATE_DIR}; if that is not writable and confpy is not root: "
        "$XDG_STATE_HOME/confpy, else ~/.local/state/confpy",
    )

    backend: str = setting(STORE, "etcd", TEXT, "The store to read keys from: etcd, consul, docker, file, env …")
    prefix: str = setting(
        STORE, "", TEXT, "Prefix for the keys of every resource, overriding the resource's own prefix."
    )
    store_options: tuple[str, ...] = setting(
        STORE,
        (),
        LIST._replace(metavar="NAME=VALUE"),
        "An option of a store that another package brings. May be repeated, or comma-separated.",
        flag="store-option",
        keys=("store_options", "store_option"),
    )
    join_prefixes: bool = setting(STORE, False, BOOLEAN, "Prepend -prefix to the resource's own prefix instead.")

    check_cmd_timeout: float = setting(DELIVERING, 30.0, TIMEOUT, "How long a check_cmd may take; 0: no limit.")
    reload_cmd_timeout: float = setting(DELIVERING, 60.0, TIMEOUT, "How long a reload_cmd may take; 0: no limit.")
    on_reload_failure: Literal["retry", "rollback", "keep"] = setting(
        DELIVERING, "retry", choice("retry", "rollback", "keep"), "What to do if a reload fails."
    )
    retry_refused: float = setting(
        DELIVERING,
        600.0,
        PAUSE,
        "When to retry content that was rolled back; doubled each time, up to a day.",
    )
    min_reload_interval: float = setting(
        DELIVERING, 0.0, PAUSE, "Minimum time between two reloads by the same command."
    )
    splay: float = setting(DELIVERING, 0.0, PAUSE, "Delay each reload by a random time up to this.")
    on_shrink: Literal["confirm", "keep", "render"] = setting(
        DELIVERING, "confirm", choice("confirm", "keep", "render"), "What to do if keys seem to have vanished."
    )
    shrink_grace: float = setting(DELIVERING, 30.0, PAUSE, "How long to wait before vanished keys are read again.")
    on_drift: Literal["restore", "warn"] = setting(
        DELIVERING, "restore", choice("restore", "warn"), "What to do if somebody else changes a target."
    )
    strict_owner: bool = setting(
        DELIVERING, False, BOOLEAN, "Fail, instead of warning, if a target's owner cannot be set."
    )
    history: int = setting(
        DELIVERING, 10, COUNT, "How many deliveries of each target confpy history shows, and confpy undo can take back."
    )
    keep_stage_file: bool = setting(DELIVERING, False, BOOLEAN, "Leave failed candidates in place for inspection.")
    sandbox: bool = setting(DELIVERING, False, BOOLEAN, "Render untrusted templates in a sandbox (slower).")

    log_level: Level = setting(
        LOGS,
        "info",
        choice("debug", "info", "warning", "error", trace="debug", warn="warning", fatal="error", panic="error"),
        "The lowest level to log.",
    )
    log_format: Literal["text", "json", "auto"] = setting(
        LOGS, "auto", choice("auto", "text", "json"), "The format of log lines; auto: text, coloured on a terminal."
    )

    status_addr: str | None = setting(
        STATUS,
        None,
        ADDRESS,
        "Serve status, metrics and probes over HTTP: 127.0.0.1:PORT, unix:PATH, or :PORT for all addresses.",
    )
    status_hosts: tuple[str, ...] = setting(
        STATUS,
        (),
        LIST,
        "Host names by which -status-addr may be called, besides this machine's name and IP addresses.",
    )
    max_stale: float = setting(
        STATUS,
        0.0,
        PAUSE,
        "How long something may be wrong before /readyz turns false; 0: once ready, it stays so.",
    )

    mounts: Mapping[str, Settings] = NOTHING
    """Where further stores are mounted in the tree of keys → the settings of each: ``[mounts]`` of the file."""
    ignored_variables: tuple[str, ...] = ()
    """Variables that are set, and are settings only if confpy is called like confd's fork."""
    origins: Mapping[str, str] = NOTHING
    """Setting → where its value comes from, if it is not the default."""

    def __repr__(self) -> str:
        shown = {name: value for name, value in fields(self).items() if name not in ROWS or not ROWS[name].kind.secret}
        return f"Settings({shown})"

    def origin(self, name: str) -> str:
        """Return the origin of a value: ``flag -interval``, ``variable CONFPY_INTERVAL``, ``file …``, ``default``."""
        return self.origins.get(name, "default")


STORE_SETTINGS = frozenset(name for name, row in ROWS.items() if row.group not in _OWN)
"""The settings of stores: which keys they have, how they are reached, and what logs in to them."""
_OF_STORES = tuple(dict.fromkeys(row.group for row in ROWS.values() if row.group not in _OWN))
GROUPS = (RUNNING, FOLDERS, STORE, *_OF_STORES, DELIVERING, LOGS, STATUS)
"""The headings of the help and of the manual, in their order."""


def _options() -> Iterator[Option]:
    for name, row in ROWS.items():
        unset = row.unset
        if unset and (tools := tools_variables(name)):
            unset = f"{tools}, else {unset}"
        words = tuple(word for word in confd.WORDS if name in word.means)
        confds = (confd.variable(called) for called in (name, *(word.name for word in words)))
        yield Option(
            name=name,
            kind=row.kind,
            default=row.default,
            group=row.group,
            help=row.help,
            unset=unset,
            flag=row.flag or name.replace("_", "-"),
            keys=(name,) if row.keys is None else row.keys,
            variables=(f"CONFPY_{name.upper()}", *filter(None, confds)),
            words=words,
        )


OPTIONS = tuple(sorted(_options(), key=lambda option: GROUPS.index(option.group)))
SECRET_VARIABLES = frozenset(variable for option in OPTIONS if option.kind.secret for variable in option.variables)
"""Variables with secrets, which commands and templates do not get."""
