"""The commands that make the running process equal to the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confpy.frozen import define, field
from confpy.haproxy.commands import Unsafe, command
from confpy.haproxy.data import data_questions, data_steps
from confpy.haproxy.values import (
    BackendChange,
    Command,
    Difference,
    Left,
    Plan,
    Process,
    ReloadNeeded,
    Running,
    RunningServer,
    Server,
    ServerChange,
)
from confpy.haproxy.verify import CHECKED, CONFIGURED, DRAIN, MAINTENANCE, STOPPED, differs, name_of, weight_differs
from confpy.haproxy.words import is_taken, options

ADDED = ("New server registered.",)
REMOVED = ("Server deleted.",)
WAITED = ("Done.", "Interrupted.…")
"""A wait ends early where the connection is closed."""
BUSY = (
    "Server still has connections attached to it, cannot remove it.",
    # Those of the file that have ``resolvers``, for one.
    "This server cannot be removed at runtime due to other configuration elements pointing to it.",
)
"""Answers after which a server stays in maintenance."""
MOVED = ("IP changed from …", "port changed from …", "no need to change …", "nothing changed")
OLD = "HAProxy before 3.0 adds and removes no servers safely"
SLOTS = "render a fixed number of servers: slots() gives each key its own"


def questions(difference: Difference, running: Running | None = None) -> tuple[str, ...]:
    """Return the commands whose answers ``steps`` and ``unequal`` still need, given those that are known."""
    running = running or Running()
    asked = [f"show servers state {backend.name}" for backend in difference.backends]
    if any(not backend.inherits for backend in difference.backends):
        asked.append("show env HAPROXY_CFGFILES")
    asked += data_questions(difference.data, running)
    return tuple([one for one in dict.fromkeys(asked) if one not in running.asked])


def steps(difference: Difference, running: Running, process: Process, left: Sequence[Left] = ()) -> Plan | ReloadNeeded:
    """Return the commands that remain to be sent: none for what the process has already.

    ``left``: the servers that earlier plans left in maintenance.
    """
    made = _Made(process, {one.path: one for one in left})
    for backend in difference.backends:
        try:
            needed = made.follow(backend, running)
        except Unsafe as error:
            needed = ReloadNeeded(str(error), backend.file, backend.line)
        if needed is not None:
            return needed
    for change in difference.data:
        sent = data_steps(change, running, difference.contents)
        if isinstance(sent, ReloadNeeded):
            return sent
        made.data += sent
        made.changed += bool(sent)
    return made.plan()


def left_over(left: Sequence[Left]) -> Difference:
    """Return the difference whose plan removes what earlier plans left in maintenance, where it is idle by now."""
    changes: dict[str, list[ServerChange]] = {}
    for one in left:
        server = Server(one.name, "", 0, one.words, is_backup=one.is_backup)
        changes.setdefault(one.backend, []).append(ServerChange(None, (server,)))
    return Difference(tuple([BackendChange(name, "", 0, tuple(servers)) for name, servers in changes.items()]))


@define
class _Made:
    """The plan in the making."""

    process: Process
    left: dict[str, Left]
    commands: list[Command] = field(default_factory=list)
    moved: list[Command] = field(default_factory=list)
    """What makes servers ready that have another address: from 3.0 on HAProxy sets it a moment after its answer."""
    data: list[Command] = field(default_factory=list)
    last: list[Command] = field(default_factory=list)
    """Removals: they follow all else."""
    added: int = 0
    removed: int = 0
    changed: int = 0
    stays: list[Left] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)

    def plan(self) -> Plan:
        moment = (command("wait", "1ms", accepts=WAITED),) if self.moved else ()
        commands = (*self.commands, *moment, *self.moved, *self.data, *self.last)
        return Plan(commands, self.added, self.removed, self.changed, tuple(self.stays), tuple(self.by_hand))

    def follow(self, backend: BackendChange, running: Running) -> ReloadNeeded | None:
        """Add the commands for a backend, or return what stands in the way."""
        servers = running.servers.get(backend.name)
        if backend.is_new or backend.is_gone:
            return self._whole(backend, servers)
        if servers is None and backend.names and any(change.previous for change in backend.changes):
            return ReloadNeeded("HAProxy has no servers in this backend", backend.file, backend.line)
        servers = servers or {}
        alone = backend.inherits or running.files == (backend.file,)
        inherited = "" if alone else "what it inherits may stand in another file"
        for change in backend.changes:
            name = name_of(change)
            one = servers.get(name)
            if change.server is None:
                if one is not None:
                    self._remove(backend, change.previous[-1], one)
                continue
            server = change.server
            left = self.left.get(f"{backend.name}/{name}")
            is_other = left is not None and (left.words, left.is_backup) != (server.words, server.is_backup)
            if one is not None and (is_other or not change.previous):
                why = self._take_back(backend, server, one)
            elif one is not None:
                why = self._change(backend, change, one, servers)
            else:
                why = backend.adds or inherited or self._add(backend, server)
            if why:
                hint = SLOTS if why == OLD else ""
                return ReloadNeeded(why, server.file, server.line, hint)
        if backend.is_complete:
            for name, one in servers.items():
                if name not in backend.names:
                    # The options that it has are not known: it never comes back with others.
                    self._remove(backend, Server(name, one.address, one.port, ("\0",)), one)
        return None

    def _whole(self, backend: BackendChange, servers: Mapping[str, RunningServer] | None) -> ReloadNeeded | None:
        """Add or remove a backend with its servers; it takes no requests before it is whole."""
        what = "backend removed" if backend.is_gone else "backend added"
        if self.process.version < (3, 4) or backend.adds:
            hint = "HAProxy adds and removes backends while it runs from 3.4 on"
            return ReloadNeeded(backend.adds or what, backend.file, backend.line, hint)
        if backend.is_gone:
            if servers is not None:
                self.last.append(command("unpublish", "backend", backend.name, accepts=("Backend unpublished.",)))
                for change in backend.changes:
                    if (one := servers.get(name_of(change))) is not None:
                        self._remove(backend, change.previous[-1], one)
                self.last.append(
                    command("del", "backend", backend.name, accepts=("Backend deleted.", "…\nBackend deleted."))
                )
            return None
        if servers is None:
            words = (backend.name, "from", backend.defaults, "mode", backend.mode)
            self.commands.append(command("add", "backend", *words, accepts=("New backend registered.",)))
        for change in backend.changes:
            one = (servers or {}).get(name_of(change))
            assert change.server is not None
            # One that is there is of this very backend: a plan that was cut off has added it.
            if one is not None and not differs(change, one):
                continue
            why = self._add(backend, change.server) if one is None else self._finish(backend, change.server, one)
            if why:
                return ReloadNeeded(why, change.server.file, change.server.line)
        self.commands.append(command("publish", "backend", backend.name, accepts=("Backend published.",)))
        return None

    # --- one server --------------------------------------------------------------------------------------------------

    def _add(self, backend: BackendChange, server: Server) -> str:
        """Add a server; returns why that cannot be done."""
        if not self.process.has_dynamic_servers:
            return OLD
        if server.problem or not server.address:
            return server.problem or "the address of a server is not an IP address"
        words = list(server.words)
        words += ["check"] if server.is_checked else []
        words += ["agent-check"] if server.has_agent else []
        words += ["backup"] if server.is_backup else []
        words += ["disabled"] if server.is_disabled else []
        words += ["weight", str(server.weight)] if server.is_weighted else []
        words += ["maxconn", str(server.maxconn)] if server.maxconn else []
        given = options(tuple(words))
        if isinstance(given, str):
            return "it has an option that is not known"
        for option in given:
            if not is_taken(option, self.process.version, self.process.words):
                return f"{option} is not taken at run time by HAProxy {'.'.join(map(str, self.process.version))}"
        path = f"{backend.name}/{server.name}"
        self.commands.append(command("add", "server", path, _endpoint(server), *words, accepts=ADDED))
        self._enable(path, server)
        if not server.is_disabled:
            self.commands.append(command("set", "server", path, "state", "ready"))
        self.added += 1
        return ""

    def _enable(self, path: str, server: Server) -> None:
        if server.is_checked:
            self.commands.append(command("enable", "health", path))
        if server.has_agent:
            self.commands.append(command("enable", "agent", path))

    def _finish(self, backend: BackendChange, server: Server, one: RunningServer) -> str:
        """Make a server anew of which a plan that was cut off has sent a part."""
        path = f"{backend.name}/{server.name}"
        if not one.admin & MAINTENANCE:
            self.commands.append(command("set", "server", path, "state", "maint"))
        if one.agent & CHECKED:
            self.commands.append(command("disable", "agent", path))
        self.commands.append(command("del", "server", path, accepts=REMOVED))
        return self._add(backend, server)

    def _take_back(self, backend: BackendChange, server: Server, one: RunningServer) -> str:
        """Bring back a server that was left in maintenance, or that a plan has added before it was cut off."""
        path = f"{backend.name}/{server.name}"
        left = self.left.get(path)
        if left is not None and (left.words, left.is_backup) == (server.words, server.is_backup):
            if server.name in backend.order:
                return "a server whose order counts is still there with its connections"
            if bool(one.check & CONFIGURED) >= server.is_checked and bool(one.agent & CONFIGURED) >= server.has_agent:
                self._apply(path, server, -1, one, others=False)
                self.added += 1
                return ""
        if not self.process.has_dynamic_servers:
            return OLD
        return backend.adds or self._finish(backend, server, one)

    def _remove(self, backend: BackendChange, server: Server, one: RunningServer) -> None:
        path = f"{backend.name}/{server.name}"
        if one.agent & CHECKED:
            self.last.append(command("disable", "agent", path))
        if not one.admin & MAINTENANCE:
            self.last.append(command("set", "server", path, "state", "maint"))
            self.removed += 1
        left = Left(backend.name, server.name, server.words, server.is_backup)
        if self.process.has_dynamic_servers and not backend.adds:
            self.last.append(command("del", "server", path, accepts=REMOVED, tolerates=BUSY, leaves=left))
        else:
            self.stays.append(left)

    def _change(
        self, backend: BackendChange, change: ServerChange, one: RunningServer, servers: Mapping[str, RunningServer]
    ) -> str:
        server, path = change.server, f"{backend.name}/{name_of(change)}"
        assert server is not None
        if not change.is_asked:
            if one.admin & (MAINTENANCE | DRAIN) and not server.is_disabled:
                self.by_hand.append(path)
            if not differs(change, one):
                return ""
        if server.is_checked and not one.check & CONFIGURED:
            return "a check that was not configured when HAProxy started"
        if server.has_agent and not one.agent & CONFIGURED:
            return "an agent-check that was not configured when HAProxy started"
        if backend.weights and weight_differs(server, one, is_asked=change.is_asked):
            return backend.weights
        if not change.is_asked:
            self._move(path, server, one)
            if weight_differs(server, one, is_asked=False):
                self.commands.append(command("set", "server", path, "weight", str(server.weight)))
            self.changed += 1
            return ""
        limits = {old.maxconn for old in change.previous} | {server.maxconn}
        if "minconn" in server.words and len(limits) > 1:
            return "maxconn changed beside minconn"
        others = any(
            other.operation != STOPPED and not other.admin & (MAINTENANCE | DRAIN)
            for name, other in servers.items()
            if name != server.name
        )
        count = len(self.commands)
        self._apply(path, server, server.maxconn if len(limits) == 1 else -1, one, others=others)
        self.changed += len(self.commands) > count
        return ""

    def _apply(self, path: str, server: Server, maxconn: int, one: RunningServer, *, others: bool) -> None:
        """Make a server that is there equal to the file.

        ``maxconn``: what it has now; ``others``: its backend has other servers that are up.
        """
        send = self.commands.append
        is_out = bool(one.admin & (MAINTENANCE | DRAIN))
        moves = (one.address, one.port) != (server.address, server.port)
        if server.is_disabled and not one.admin & MAINTENANCE:
            send(command("set", "server", path, "state", "maint"))
        elif moves and not is_out and (one.operation == STOPPED or others):
            # It becomes another server: no request goes to it before it has its own address, unless there is no other
            # server; and the checks of one that is down begin anew, as after a reload.
            state = "maint" if one.operation == STOPPED else "drain"
            send(command("set", "server", path, "state", state))
            is_out = True
        self._move(path, server, one)
        if not server.has_agent and server.weight != one.weight:
            send(command("set", "server", path, "weight", str(server.weight)))
        if server.maxconn != maxconn:
            send(command("set", "maxconn", "server", path, str(server.maxconn)))
        for kind, is_on, was_on in (
            ("agent", server.has_agent, bool(one.agent & CHECKED)),
            ("health", server.is_checked, bool(one.check & CHECKED)),
        ):
            if is_on != was_on:
                send(command("enable" if is_on else "disable", kind, path))
        if server.is_disabled and server.is_checked and not one.check & CHECKED:
            # A check pauses when maintenance begins, not when it is enabled there. No request goes to it meanwhile.
            send(command("set", "server", path, "state", "drain"))
            send(command("set", "server", path, "state", "maint"))
        if not server.is_checked and one.check & CHECKED and one.operation == STOPPED and not server.is_disabled:
            send(command("set", "server", path, "health", "up"))
        if is_out and not server.is_disabled:
            ready = command("set", "server", path, "state", "ready")
            (self.moved if moves and self.process.version >= (3, 0) else self.commands).append(ready)

    def _move(self, path: str, server: Server, one: RunningServer) -> None:
        if (one.address, one.port) != (server.address, server.port):
            port = ("port", str(server.port)) if server.port else ()
            self.commands.append(command("set", "server", path, "addr", server.address, *port, accepts=MOVED))


def _endpoint(server: Server) -> str:
    host = f"[{server.address}]" if ":" in server.address else server.address
    return f"{host}:{server.port}" if server.port else host
