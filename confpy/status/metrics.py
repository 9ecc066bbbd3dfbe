"""The status as metrics of Prometheus, with prometheus_client: gauges that stay while something is wrong.

A counter of failures cannot be alerted on: it stands still between two tries. No label has anything of the store's, so
that no key makes a time series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from confpy.status.model import ResourceStatus, Status
from confpy.status.readiness import Readiness
from confpy.status.response import Response

FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "confpy_build_info": ("The version of confpy; always 1.", ("version",)),
    "confpy_healthy": ("1 if the main thread makes progress, as /healthz.", ()),
    "confpy_ready": ("1 once confpy has started, as /readyz.", ()),
    "confpy_well": ("1 if nothing is wrong, as /readyz?strict.", ()),
    "confpy_resources": ("How many resources are in this state.", ("state",)),
    "confpy_config_last_reload_successful": (
        "0 while the newest configuration of a resource was not delivered, or its program has not loaded it.",
        ("resource",),
    ),
    "confpy_config_last_reload_success_timestamp_seconds": (
        "When a resource was last delivered, and its program, if it has a reload, has loaded it.",
        ("resource",),
    ),
    "confpy_resource_last_delivery_timestamp_seconds": (
        "When confpy last replaced the target; 0: not since it started.",
        ("resource",),
    ),
    "confpy_resource_failed": ("1 while a resource cannot be delivered.", ("resource",)),
    "confpy_held_back": ("1 while a resource keeps its previous file on purpose, and why.", ("resource", "reason")),
    "confpy_reload_owed": ("1 while the reload of a resource has not succeeded yet.", ("resource",)),
    "confpy_reload_owed_since_seconds": ("Since when it is owed; only while it is.", ("resource",)),
    "confpy_reload_failures": ("How many runs of the owed reload have failed in a row.", ("resource",)),
    "confpy_reloads": ("Reloads that have ended, by their result.", ("result",)),
    "confpy_reloads_avoided": ("Reloads that were not needed: the running program was told of the change.", ()),
    "confpy_commits": ("Targets that were replaced.", ()),
    "confpy_store_up": ("1 if the store was read, and answered when it was asked last.", ("store",)),
    "confpy_store_last_success_timestamp_seconds": ("When the store last answered.", ("store",)),
    "confpy_store_resync_seconds": ("How often the store is asked at least.", ("store",)),
    "confpy_store_denied_prefixes": ("How many prefixes the store denies.", ("store",)),
}
"""Family → its help, and its labels."""
COUNTERS = frozenset({"confpy_reloads", "confpy_reloads_avoided", "confpy_commits"})
"""Those that only grow; their samples end in ``_total``."""
FORK_FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "confd_templates_loaded": ("Number of template resources currently loaded.", ()),
    "confd_backend_healthy": ("Whether the backend is healthy (1) or not (0).", ("backend",)),
    "confd_template_cache_hits": ("Renders of a template that was compiled already.", ()),
    "confd_file_changed": ("Total number of files that were changed.", ()),
}
"""Those of confd's fork that mean something here, for its dashboards."""
_FORK_COUNTERS = frozenset({"confd_template_cache_hits", "confd_file_changed"})

Sample = tuple[str, tuple[str, ...], float]
"""Family, values of its labels, value."""


def samples(status: Status, readiness: Readiness, *, is_healthy: bool) -> Iterator[Sample]:
    """Yield what is measured, for all families but the fork's."""
    yield "confpy_build_info", (status.version,), 1
    yield "confpy_healthy", (), is_healthy
    yield "confpy_ready", (), status.is_started
    yield "confpy_well", (), is_healthy and readiness.is_well
    states = [one.state for one in status.resources]
    for state in dict.fromkeys(("current", *states)):
        yield "confpy_resources", (state,), states.count(state)
    for one in status.resources:
        yield from _of_resource(one)
    for reload in status.reloads:
        for name in reload.resources:
            yield "confpy_reload_owed_since_seconds", (name,), reload.since
            yield "confpy_reload_failures", (name,), reload.attempts
    for result, count in (("success", status.totals.reloads), ("failure", status.totals.failed_reloads)):
        yield "confpy_reloads", (result,), count
    yield "confpy_reloads_avoided", (), status.totals.avoided
    yield "confpy_commits", (), status.totals.commits
    for store in status.stores:
        yield "confpy_store_up", (store.label,), store.is_up
        yield "confpy_store_last_success_timestamp_seconds", (store.label,), store.answered_at
        yield "confpy_store_resync_seconds", (store.label,), store.period
        yield "confpy_store_denied_prefixes", (store.label,), len(store.denied)


def _of_resource(one: ResourceStatus) -> Iterator[Sample]:
    name = (one.name,)
    yield "confpy_config_last_reload_successful", name, one.state not in {"failed", "owed", "held"}
    yield "confpy_config_last_reload_success_timestamp_seconds", name, one.loaded_at
    yield "confpy_resource_last_delivery_timestamp_seconds", name, one.changed_at
    yield "confpy_resource_failed", name, one.state == "failed"
    yield "confpy_reload_owed", name, bool(one.reload)
    if one.state == "held":
        yield "confpy_held_back", (one.name, one.cause or "held"), 1


def fork_samples(status: Status) -> Iterator[Sample]:
    """Yield what confd's fork would measure."""
    yield "confd_templates_loaded", (), len(status.resources)
    for store in status.stores:
        yield "confd_backend_healthy", (store.label,), store.is_up
    yield "confd_template_cache_hits", (), max(0, status.totals.renders - len(status.resources))
    yield "confd_file_changed", (), status.totals.commits


class Metrics(Collector):
    """The registry of the process, and what the status adds to it."""

    def __init__(self) -> None:
        self._process = ProcessCollector(registry=None)
        self._families: Sequence[Metric] = ()

    def respond(self, status: Status, readiness: Readiness, accept: str, *, is_healthy: bool) -> Response:
        """Return the metrics in the format that ``accept`` asks for."""
        own = samples(status, readiness, is_healthy=is_healthy)
        self._families = [
            *_gather(FAMILIES, COUNTERS, own),
            *_gather(FORK_FAMILIES, _FORK_COUNTERS, fork_samples(status)),
        ]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._process)
        registry.register(self)
        encode, kind = choose_encoder(accept)
        return Response(200, kind, encode(registry))

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gather(
    families: dict[str, tuple[str, tuple[str, ...]]], counters: frozenset[str], measured: Iterable[Sample]
) -> list[Metric]:
    found: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for name, (help_, labels) in families.items():
        kind = CounterMetricFamily if name in counters else GaugeMetricFamily
        found[name] = kind(name, help_, labels=labels)
    # Two of one name and labels would spoil the whole scrape.
    for (name, values), value in {(name, values): value for name, values, value in measured}.items():
        found[name].add_metric(values, float(value))
    return list(found.values())
