"""What of the running process is not as the files ask."""

from __future__ import annotations

from confpy.haproxy.data import data_differs
from confpy.haproxy.values import Difference, Running, RunningServer, Server, ServerChange

MAINTENANCE = 1
"""Set at run time, or as the file asks: `disabled` gives it, too."""
DRAIN = 8
STOPPED = 0
CHECKED = 4
CONFIGURED = 2


def unequal(difference: Difference, running: Running) -> tuple[str, ...]:
    """Return the servers (``backend/server``) and files that are not as the difference asks."""
    wrong: list[str] = []
    for backend in difference.backends:
        servers = running.servers.get(backend.name, {})
        if backend.is_gone or (backend.is_new and backend.name not in running.servers):
            wrong += [backend.name] if backend.is_new or backend.name in running.servers else []
            continue
        wrong += [
            f"{backend.name}/{name_of(change)}"
            for change in backend.changes
            if differs(change, servers.get(name_of(change)))
        ]
        if backend.is_complete:
            wrong += [
                f"{backend.name}/{name}"
                for name, one in servers.items()
                if name not in backend.names and not one.admin & MAINTENANCE
            ]
        order = [name for name in servers if name in backend.order]
        if backend.order and order != list(backend.order):
            wrong.append(backend.name)
    wrong += [change.path for change in difference.data if data_differs(change, running)]
    return tuple(wrong)


def name_of(change: ServerChange) -> str:
    """Return the name of the server, which may be gone from the file."""
    return (change.server or change.previous[0]).name


def differs(change: ServerChange, running: RunningServer | None) -> bool:
    """Say whether a server is not as the files ask."""
    server = change.server
    if server is None:
        return running is not None and not running.admin & MAINTENANCE
    if running is None:
        return True
    if not server.address:
        return False
    if (running.address, running.port) != (server.address, server.port):
        return True
    if not server.is_read:
        return False
    if weight_differs(server, running, is_asked=change.is_asked):
        return True
    if not change.is_asked:
        return False
    return (
        bool(running.admin & MAINTENANCE) != server.is_disabled
        or bool(running.admin & DRAIN)
        or bool(running.check & CHECKED) != server.is_checked
        or bool(running.agent & CHECKED) != server.has_agent
    )


def weight_differs(server: Server, running: RunningServer, *, is_asked: bool) -> bool:
    """Say whether the weight has to be set; an agent gives its own."""
    if server.has_agent or server.weight == running.weight:
        return False
    # Whoever changed it at run time may have meant to; unless the process has read another weight than the file gives.
    return is_asked or running.initial_weight != server.weight
