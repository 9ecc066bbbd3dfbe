"""The server for the status of a daemon: only loaded with ``-status-addr``."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

from confpy.config.address import parse_address
from confpy.config.settings import Settings
from confpy.events import LogEvent
from confpy.ledger.history import History
from confpy.status.additions import Additions
from confpy.status.endpoints import NO_METRICS, Endpoints
from confpy.status.inquiries import Ask, Inquiries
from confpy.status.listening import Listener
from confpy.status.request import own_hosts
from confpy.status.server import StatusServer
from confpy.system.disk import Disk


def serve(
    settings: Settings, ask: Ask, log: Callable[[LogEvent], None], history: History | None, disk: Disk
) -> StatusServer:
    """Return a server that answers at ``status_addr``; raises ``UsageError`` where it cannot listen there.

    ``ask``: as ``Inquiries`` takes it. ``history``: None where none is kept.
    """
    address = parse_address(settings.status_addr or "")
    inquiries = Inquiries(ask)
    added: Additions | None = None
    if address.is_unix and history is not None:
        from confpy.daemon.additions import HistoryOnPage

        path = history.path
        added = Additions(HistoryOnPage(history, disk), lambda: _version(path))
    endpoints = Endpoints(inquiries, shows_content=address.is_unix, max_stale=settings.max_stale, additions=added)
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
    if find_spec("prometheus_client") is None:  # found, not loaded: that is left to the first scrape
        did, hint = "answers everything else", "pip install prometheus-client, or install confpy anew"
        log(LogEvent("error", "status.failed", {"error": NO_METRICS, "did": did, "hint": hint}))
    return server


def _version(path: str) -> object:
    """Return what changes with a file; raises ``OSError``."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns
