"""The server for the status of a daemon: only loaded with ``-status-addr``."""

from __future__ import annotations

from collections.abc import Callable

from confpy.config.address import parse_address
from confpy.config.settings import Settings
from confpy.events import LogEvent
from confpy.status.endpoints import Additions, Endpoints
from confpy.status.inquiries import Ask, Inquiries
from confpy.status.listening import Listener
from confpy.status.request import own_hosts
from confpy.status.server import StatusServer


def serve(
    settings: Settings, ask: Ask, log: Callable[[LogEvent], None], additions: Additions | None = None
) -> StatusServer:
    """Return a server that answers at ``status_addr``; raises ``UsageError`` where it cannot listen there.

    ``ask``: as ``Inquiries`` takes it.
    """
    address = parse_address(settings.status_addr or "")
    inquiries = Inquiries(ask)
    endpoints = Endpoints(inquiries, shows_content=address.is_unix, max_stale=settings.max_stale, additions=additions)
    hosts = None if address.is_unix else own_hosts(settings.status_hosts, is_local=address.is_local)
    server = StatusServer(
        Listener(address),
        endpoints.answer,
        hosts,
        tick=inquiries.tick,
        failed=lambda error: log(LogEvent("error", "status.failed", error.fields())),
    )
    inquiries.wake = server.wake
    server.start()
    log(LogEvent("info", "status.served", {"address": str(address), "others": not address.is_local}))
    return server
