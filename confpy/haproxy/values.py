"""A change of HAProxy's files as values: servers, differences, commands, and why a reload is needed instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from confpy.frozen import NOTHING, frozen

Files: TypeAlias = Mapping[str, bytes]
"""Path of a target → its content: the files of one configuration, and the maps, ACL files and certificates it names."""


@frozen
class ReloadNeeded:
    """Why a change cannot be followed through the runtime API."""

    why: str
    """For people, without the value of a key."""
    file: str = ""
    line: int = 0
    """The line of the new file, of the old one if it is gone there; from 1; 0: the whole file, or none."""
    hint: str = ""
    """What to write instead; empty: a reload is the way to do this."""


@frozen
class Avoided:
    """A change that the running process has taken without a reload."""

    plan: str
    """Servers and entries that came, went and changed: ``+2 -1 ~1``."""
    left: tuple[str, ...] = ()
    """Removed servers (``backend/server``) that stay in maintenance, because they have connections."""
    by_hand: tuple[str, ...] = ()
    """Servers in an administrative state that the files do not ask for: left alone."""


@frozen
class Server:
    """A server of a backend, with what it inherits from ``default-server``."""

    name: str
    address: str
    """An IP address as ``show servers state`` writes it; empty: a name or another form that is not followed."""
    port: int
    """0: that of the client's connection."""
    words: tuple[str, ...]
    """The options that have no field here, in order: a server that has others is another one."""
    weight: int = 1
    is_weighted: bool = False
    """The file gives its weight."""
    maxconn: int = 0
    """0: no limit."""
    is_disabled: bool = False
    is_checked: bool = False
    has_agent: bool = False
    """An agent is asked, who may change weight and state."""
    is_backup: bool = False
    file: str = ""
    line: int = 0
    problem: str = ""
    """Why it cannot be named in a command; empty: it can."""
    is_read: bool = True
    """False: it has an option that is not known; then ``words`` holds all of them, and no other field any."""


@frozen
class ServerChange:
    """A server that is to be compared with the running one."""

    server: Server | None
    """As the new file has it; None: it has to go."""
    previous: tuple[Server, ...] = ()
    """As the process may have it now; empty: it is new."""
    is_asked: bool = True
    """The files changed it: the state that they give wins over what somebody has set by hand."""


@frozen
class BackendChange:
    """A backend whose servers are to be compared with the running ones."""

    name: str
    file: str
    line: int
    changes: tuple[ServerChange, ...]
    order: tuple[str, ...] = ()
    """The servers whose order counts: those that are tried one after the other."""
    adds: str = ""
    """Why no server can be added or removed at run time, whatever the version; empty: nothing stands in the way."""
    weights: str = ""
    """Why the weight of a server cannot be changed."""
    inherits: bool = True
    """What it inherits is known; False: only if the process has read no other file."""
    names: frozenset[str] = frozenset()
    """All servers of the new file."""
    is_complete: bool = False
    """Whatever the process has beyond ``names`` has to go."""
    is_new: bool = False
    """The backend itself may have to be added, and all of its servers with it."""
    is_gone: bool = False
    """The backend itself has to go."""
    defaults: str = ""
    """The section of defaults that it names, and its mode: what a new one is made from."""
    mode: str = ""


@frozen
class DataChange:
    """A file beside the configuration: a map, a list of an ACL, a certificate, a crt-list."""

    path: str
    old: bytes | None
    """As the process has read it; None: it was not there."""
    new: bytes | None
    """None: it is gone."""


@frozen
class Difference:
    """What can be changed in a running process; all else is equal."""

    backends: tuple[BackendChange, ...] = ()
    data: tuple[DataChange, ...] = ()
    """What these are is known to the process alone: it lists its maps and certificates."""
    files: tuple[str, ...] = ()
    """The files of the configuration, without the data."""
    contents: Files = NOTHING
    """The new content of each data file, changed or not: a crt-list names certificates."""

    def __bool__(self) -> bool:
        return bool(self.backends or self.data)


@frozen
class Left:
    """A removed server that stays in maintenance, because it has connections or the version cannot remove it."""

    backend: str
    name: str
    words: tuple[str, ...]
    """The options that it was made with: it may come back only with the same."""
    is_backup: bool = False

    @property
    def path(self) -> str:
        return f"{self.backend}/{self.name}"


@frozen
class Command:
    """A command of the runtime API."""

    text: str
    accepts: tuple[str, ...]
    """Answers that mean success: each a whole answer, or its beginning if it ends with ``…``; "" is the empty one."""
    payload: str = ""
    """Lines that are sent after ``<<``; empty: none."""
    leaves: Left | None = None
    """What stays in maintenance if the answer is one of ``tolerates``."""
    tolerates: tuple[str, ...] = ()
    """Answers after which the plan goes on: what was to be removed has connections."""
    is_secret: bool = False
    """The payload holds a key: it is sent only to a trusted peer, and never shown."""


@frozen
class Plan:
    """The commands that make the running process equal to the files."""

    commands: tuple[Command, ...]
    added: int = 0
    removed: int = 0
    changed: int = 0
    left: tuple[Left, ...] = ()
    """Servers that stay in maintenance whatever the answers are."""
    by_hand: tuple[str, ...] = ()
    """Servers (``backend/server``) in an administrative state that nobody wrote into the files: left alone."""

    @property
    def summary(self) -> str:
        """Say what is done: ``+2 -1 ~1``; empty: nothing."""
        counts = (("+", self.added), ("-", self.removed), ("~", self.changed))
        return " ".join(f"{sign}{count}" for sign, count in counts if count)

    @property
    def is_secret(self) -> bool:
        return any(command.is_secret for command in self.commands)


@frozen
class RunningServer:
    """A server as ``show servers state`` shows it."""

    name: str
    address: str
    port: int
    admin: int
    """Bits: 1 maintenance, 2 inherited maintenance, 4 disabled in the file, 8 drain, 32 without address."""
    operation: int
    """0 stopped, 1 starting, 2 running, 3 stopping."""
    weight: int
    initial_weight: int
    check: int
    """Bits: 2 configured, 4 enabled, 8 paused."""
    agent: int
    fqdn: str = ""


@frozen
class Process:
    """A worker of HAProxy."""

    version: tuple[int, ...]
    pid: int
    uptime: float
    """Seconds."""
    words: frozenset[str] | None = None
    """What ``add server help`` lists, from 3.2 on; None: not asked, or not known to the process."""

    @property
    def has_dynamic_servers(self) -> bool:
        """Servers can be added and removed: before 3.0 that crashed it, or cost the reuse of connections."""
        return self.version >= (3, 0)


@frozen
class Running:
    """What the process has answered."""

    asked: frozenset[str] = frozenset()
    """The commands whose answers are in it."""
    servers: Mapping[str, Mapping[str, RunningServer]] = NOTHING
    """Backend → its servers in their order."""
    files: tuple[str, ...] = ()
    """The files of its configuration in their order; empty: not known."""
    maps: Mapping[str, int] = NOTHING
    """File → the version that ``prepare map`` will give."""
    acls: Mapping[str, int] = NOTHING
    entries: Mapping[str, tuple[str, ...]] = NOTHING
    """File of a map or an ACL → its entries in their order, each ``key value``."""
    certificates: Mapping[str, str] = NOTHING
    """File → the SHA-1 fingerprint of its certificate in capital hexadecimal digits; empty: not asked, or none."""
    lists: Mapping[str, tuple[str, ...]] = NOTHING
    """crt-list → its lines, each with ``:NUMBER`` after its certificate; empty: not asked."""
