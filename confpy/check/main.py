"""All checks of a confdir, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from confpy.check.findings import Finding, Findings
from confpy.check.resources import check_resources
from confpy.check.settings import check_settings
from confpy.config.settings import Settings
from confpy.errors import ConfpyError
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import normalise
from confpy.stores import open_store
from confpy.stores.outside import is_known


class Checked(NamedTuple):
    """The result of a check."""

    findings: list[Finding]
    resources: int
    answers: list[str]
    """A line for each node that answers."""
    notes: tuple[Finding, ...] = ()
    """What is no mistake: which changes of a resource a running HAProxy follows, and which need a reload."""


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
            open_store(settings.backend, settings).close()
        except ConfpyError as error:
            findings.take(error, str(error.where.get("file", "")))
    capabilities, prefixes = _how_it_reads(settings.backend)
    same = os.path.realpath if host else os.path.normpath
    resources = check_resources(confdir, settings, prefixes, findings, same=same)
    notes: tuple[Finding, ...] = ()
    if resources:
        from confpy.check.templates import TemplateChecks  # brings Jinja

        templates = TemplateChecks(confdir, capabilities, findings, sandbox=settings.sandbox)
        for one in resources:
            templates.check(one)
        notes = tuple(sorted(dict.fromkeys(templates.notes), key=lambda one: (one.file, one.line, one.message)))
    if host:
        from confpy.check.host import check_host

        for one in resources:
            check_host(one, settings, findings)
    answers: list[str] = []
    if connect:
        from confpy.check.connect import check_store

        answers = [*check_store(settings, [one.resource for one in resources], findings)]
    return Checked(findings.sorted(), len(resources), answers, notes)


def _how_it_reads(backend: str) -> tuple[Capabilities, Callable[[str], tuple[str, ...]]]:
    """Return the kind of a store, and what it reads for a path. Its settings do not count: they may name files."""
    try:
        store = open_store(backend, Settings(backend=backend, files=("keys.yaml",)))
    except ConfpyError:  # there is none of that name
        return Capabilities(), lambda path: (normalise(path),)
    store.close()
    return store.capabilities, store.prefixes
