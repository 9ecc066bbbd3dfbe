"""All checks of a confdir, one after the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from confpy.check.findings import Finding, Findings
from confpy.check.resources import check_resources
from confpy.check.settings import check_settings
from confpy.config.settings import Settings
from confpy.errors import ConfpyError
from confpy.stores import OpenStore, open_store
from confpy.stores.memory import MemoryStore
from confpy.stores.outside import is_known
from confpy.stores.tree import Stores, open_stores


class Checked(NamedTuple):
    """The result of a check."""

    findings: list[Finding]
    resources: int
    answers: list[str]
    """A line for each node that answers."""
    notes: tuple[Finding, ...] = ()
    """What is no mistake: which changes of a resource a running HAProxy follows, and which need a reload; which keys
    of mounted stores a prefix does not concern."""


def check(
    confdir: str, flags: Mapping[str, str], environ: Mapping[str, str], *, host: bool = False, connect: bool = False
) -> Checked:
    """Return all that is wrong with a confdir. Raises nothing for what it finds.

    ``host``: also look for the users, folders and commands of this machine; otherwise, files of the confdir alone are
    read, and the result is the same on every machine. ``connect``: also ask the store.
    """
    findings = Findings()
    if not os.path.isdir(confdir):
        return Checked([Finding("error", "there is no such folder", "", confdir)], 0, [])
    loaded = check_settings(confdir, flags, environ, findings)
    if loaded is None:
        return Checked(findings.sorted(), 0, [])
    settings = loaded.settings
    if (host or connect) and is_known(settings.backend):
        try:
            open_stores(settings).close()
        except ConfpyError as error:
            mount = f"the store at {error.where['mount']}: " if "mount" in error.where else ""
            error.message = mount + error.message
            findings.take(error, str(error.where.get("file", "")))
    stores = Stores(_unread(settings.backend), {mount: _unread(of.backend) for mount, of in settings.mounts.items()})
    same = os.path.realpath if host else os.path.normpath
    resources = check_resources(confdir, settings, stores.prefixes, findings, same=same)
    if resources:
        from confpy.check.templates import TemplateChecks  # brings Jinja

        templates = TemplateChecks(confdir, stores, findings, sandbox=settings.sandbox)
        for one in resources:
            templates.check(one)
        findings.notes += templates.notes
    if host:
        from confpy.check.host import check_host

        for one in resources:
            check_host(one, settings, findings)
    answers: list[str] = []
    if connect:
        from confpy.check.connect import check_store

        answers = [*check_store(settings, [one.resource for one in resources], findings)]
    notes = sorted(dict.fromkeys(findings.notes), key=lambda one: (one.file, one.line, one.message))
    return Checked(findings.sorted(), len(resources), answers, tuple(notes))


def _unread(backend: str) -> OpenStore:
    """Return a store of a kind, closed, for what it can do, and what it reads for a path.

    Its settings do not count: they may name files.
    """
    try:
        store = open_store(backend, Settings(backend=backend, files=("keys.yaml",)))
    except ConfpyError:  # there is none of that name
        return MemoryStore()
    store.close()
    return store
