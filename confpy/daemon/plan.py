"""What a delivery would change: a one-shot run that delivers nothing (noop), and keeps what it rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confpy.candidates import Candidate, Report
from confpy.config.settings import Settings
from confpy.daemon.daemon import Daemon
from confpy.daemon.jobs import Jobs, Ports
from confpy.delivery.context import Rules
from confpy.errors import ConfpyError, TargetError
from confpy.events import Level
from confpy.frozen import NOTHING, replace
from confpy.log import Log
from confpy.messages import Deliver, Delivered
from confpy.stores.tree import open_stores
from confpy.target.look import Current, Folders, look

SAID = frozenset({"resource.would_change", "check.skipped", "resource.held"})
"""What the plan says itself, and the log need not."""


class Planned(NamedTuple):
    """What would become of one resource."""

    candidate: Candidate
    current: Current | None
    """None if the target cannot be read."""
    report: Report


class Plan(NamedTuple):
    """The result of a run."""

    code: int
    """Its exit code: of what failed."""
    planned: Mapping[str, Planned]
    """By resource: those that could be rendered."""
    outcomes: Sequence[Mapping[str, object]]
    """Of all resources, as ``-report`` has them."""
    held: Mapping[str, str] = NOTHING
    """Resource → why it is held, after ``confpy undo``."""


def make_plan(settings: Settings, warnings: Sequence[ConfpyError], log: Log) -> Plan:
    """Render with the keys as they are now, and run the checks that need no file in its place; raises ``UsageError``.

    Nothing is changed, and nothing is kept: neither state nor compiled templates.
    """
    settings = replace(settings, onetime=True, noop=True, watch=False, report=None, cache_dir=None)
    quiet = _Quiet(log)
    for warning in warnings:
        quiet.write("warning", "settings.warning", warning.fields())
    planned: dict[str, Planned] = {}
    stores = open_stores(settings)
    daemon = Daemon(settings, stores, quiet, jobs=lambda ports, rules: _PlanJobs(ports, rules, planned))
    code = daemon.run()
    return Plan(code, planned, daemon.outcomes(), daemon.held_by_people())


class _PlanJobs(Jobs):
    """Jobs that keep what is to be delivered, and what became of it."""

    def __init__(self, ports: Ports, rules: Rules, planned: dict[str, Planned]) -> None:
        super().__init__(ports, rules)
        self._disk = ports.disk
        self._folders = Folders(ports.disk, rules.root)
        self._planned = planned

    def deliver(self, action: Deliver) -> Delivered:
        """As ``Jobs.deliver``; on a worker's thread, and each resource once."""
        delivered = super().deliver(action)
        reports = {report.resource: report for report in delivered.reports}
        for group in action.groups:
            for candidate in group.candidates:
                name = candidate.resource.name
                try:
                    current = look(candidate.resource, self._disk, self._folders)
                except TargetError:
                    current = None
                self._planned[name] = Planned(candidate, current, reports[name])
        return delivered


class _Quiet(Log):
    """A log without what the plan says."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def write(self, level: Level, event: str, fields: Mapping[str, object] | None = None) -> None:
        if event not in SAID:
            self._log.write(level, event, fields)
