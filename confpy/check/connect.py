"""Whether the store answers: each of its nodes is asked for the keys of all resources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confpy.check.findings import Finding, Findings
from confpy.config.resource import Resource
from confpy.config.settings import Settings
from confpy.errors import ConfpyError
from confpy.frozen import replace
from confpy.keys.mounts import Mounts
from confpy.stores import open_store
from confpy.stores.mounted import MountedStore


def check_store(settings: Settings, resources: Sequence[Resource], findings: Findings) -> Iterator[str]:
    """Yield a line for each node that answers, and add those that do not."""
    mounts = Mounts(settings.mounts)
    groups = mounts.split(list(dict.fromkeys(prefix for resource in resources for prefix in resource.prefixes)))
    for mount, of in (("", settings), *settings.mounts.items()):
        yield from _check_store(of, mount, mounts, groups.get(mount, []), findings)


def _check_store(
    settings: Settings, mount: str, mounts: Mounts, prefixes: Sequence[str], findings: Findings
) -> Iterator[str]:
    at = f" at {mount}" if mount else ""
    for node in settings.nodes or ("",):
        name = (f"the node {node}" if node else f"the store {settings.backend}") + at
        try:
            store = MountedStore(open_store(settings.backend, _with_node(settings, node)), mount, mounts.below(mount))
            try:
                snapshot = store.read(prefixes)
            finally:
                store.close()
        except ConfpyError as error:
            _take(findings, error, name)
            continue
        failed = {listing.error for listing in snapshot.listings.values() if listing.error is not None}
        for failure in failed:
            _take(findings, failure, name)
        if not failed:
            yield f"{name} answers"


def _with_node(settings: Settings, node: str) -> Settings:
    if not node:
        return settings
    return replace(settings, nodes=(node,))


def _take(findings: Findings, error: ConfpyError, name: str) -> None:
    where = "".join(f" ({key} {error.where[key]})" for key in ("prefix", "file", "key") if key in error.where)
    message = f"{name}: {error.message}{where}"
    findings.add(Finding("error", message, error.hint))
