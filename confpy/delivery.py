"""One batch's way from bytes to targets: compare, stage, check, commit. Nothing is committed unchecked.

Each candidate stands alone: one that fails leaves its old target whole and stops no other. They go through the steps
together so that many share one sync; a reload is no part of it (``agent.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from confpy import target
from confpy.command import Shell
from confpy.disk import Disk
from confpy.errors import CheckError, ConfpyError, TargetError
from confpy.model import Candidate, Group, Inspected, Known, Outcome, Report, Resource, Stamp
from confpy.placeholders import fill

SLICE = 64
"""Candidates staged at once: each holds a descriptor, of which a process often has no more than 1,024."""
SYNC_ALL_FROM = 32
"""From so many candidates on, one ``syncfs`` is cheaper than a sync for each."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every delivery."""

    noop: bool = False
    """Say what would change, write nothing, run nothing."""
    sync_only: bool = False
    """Write, but run no check and no reload."""
    keep_stage_file: bool = False
    """Leave the candidate of a failed check where it was staged, to be looked at."""


def deliver(groups: tuple[Group, ...], rules: Rules, disk: Disk, shell: Shell) -> tuple[Report, ...]:
    """Deliver groups; returns a report for each candidate, in their order, and raises nothing for what fails."""
    candidates = tuple(one for group in groups for one in group.candidates)
    reports: list[Report] = []
    for start in range(0, len(candidates), SLICE):
        reports += _Slice(rules, disk, shell).deliver(candidates[start : start + SLICE])
    return tuple(reports)


class _Slice:
    """Candidates that go through the steps together."""

    def __init__(self, rules: Rules, disk: Disk, shell: Shell) -> None:
        self._rules = rules
        self._disk = disk
        self._shell = shell
        self._began = time.monotonic()
        self._reports: dict[str, Report] = {}

    def deliver(self, candidates: tuple[Candidate, ...]) -> list[Report]:
        staged: list[target.Staged] = []
        try:
            staged += (one for one in map(self._stage, candidates) if one is not None)
            committed = [one for one in self._sync(staged) if self._check(one) and self._commit(one)]
        finally:
            # Whatever stops the slice as a whole, a bug of ours included, leaves no candidate and no descriptor behind.
            for one in staged:
                if one.descriptor >= 0:
                    target.discard(one, self._disk)
        self._sync_folders(committed)
        return [self._reports[candidate.resource.name] for candidate in candidates]

    def _stage(self, candidate: Candidate) -> target.Staged | None:
        """Compare, and stage what differs. None where the report is already made."""
        resource = candidate.resource
        try:
            current = target.look(resource, self._disk)
            found = target.differences(resource, current, candidate.content)
            if not found:
                self._report(resource, "unchanged", known=_known(current, candidate.content))
                return None
            if self._rules.noop:
                self._report(resource, "would change", notes=tuple(found))
                return None
            staged = target.stage(resource, current, candidate.content, self._disk)
        except TargetError as error:
            self._fail(resource, error)
            return None
        if target.changes(staged, self._disk.fstat(staged.descriptor)):
            return staged
        target.discard(staged, self._disk)
        self._report(resource, "unchanged", known=_known(current, candidate.content))
        return None

    def _sync(self, staged: list[target.Staged]) -> list[target.Staged]:
        """Bring the candidates to the platter before any of them takes a target's name; returns those that are."""
        if len(staged) >= SYNC_ALL_FROM and self._disk.sync_all([one.descriptor for one in staged]):
            return staged
        return [one for one in staged if self._sync_one(one)]

    def _sync_one(self, staged: target.Staged) -> bool:
        try:
            self._disk.sync(staged.descriptor)
        except OSError as error:
            target.discard(staged, self._disk)
            self._fail(staged.resource, target.failure("the candidate cannot be synced", staged.resource, error))
            return False
        return True

    def _sync_folders(self, committed: list[target.Staged]) -> None:
        """Make the renames last."""
        for folder in sorted({os.path.dirname(one.current.path) for one in committed}):
            try:
                self._disk.sync_folder(folder)
            except OSError as error:
                for one in committed:
                    if os.path.dirname(one.current.path) == folder:
                        report = self._reports[one.resource.name]
                        note = f"the folder could not be synced ({error.strerror}): a power cut may undo this"
                        self._reports[one.resource.name] = replace(report, notes=(*report.notes, note))

    def _check(self, staged: target.Staged) -> bool:
        resource = staged.resource
        try:
            if resource.output_format is not None:
                from confpy.output import parse

                parse(staged.content, resource.output_format)
            if resource.check_cmd is not None and not self._rules.sync_only:
                check(resource, staged.path, self._shell)
        except CheckError as error:
            error.at(did="kept the old file")
            if self._rules.keep_stage_file:
                error.at(candidate=staged.path)
                target.close(staged, self._disk)
            else:
                target.discard(staged, self._disk)
            self._fail(resource, error)
            return False
        return True

    def _commit(self, staged: target.Staged) -> bool:
        try:
            status = target.commit(staged, self._disk)
        except TargetError as error:
            self._fail(staged.resource, error)
            return False
        known = Known(target.digest(staged.content), target.stamp(status))
        if target.changes(staged, status):
            self._report(staged.resource, "changed", known=known, notes=tuple(staged.notes))
        else:
            self._report(staged.resource, "unchanged", known=known)
        return True

    def _fail(self, resource: Resource, error: ConfpyError) -> None:
        self._report(resource, "failed", error=error.at(resource=resource.name))

    def _report(
        self,
        resource: Resource,
        outcome: Outcome,
        *,
        error: ConfpyError | None = None,
        known: Known | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        took = time.monotonic() - self._began
        self._reports[resource.name] = Report(resource.name, outcome, error, known, notes, took=took)


def _known(current: target.Current, content: bytes) -> Known:
    return Known(target.digest(content), target.stamp(current.status) if current.status else None)


def environment(src: str, dest: str, resource: str) -> Mapping[str, str]:
    """Return the variables that a command finds beside ours."""
    return {"CONFPY_SRC": src, "CONFPY_DEST": dest, "CONFPY_RESOURCE": resource}


def check(resource: Resource, candidate: str, shell: Shell) -> None:
    """Run a resource's check over its candidate; raises ``CheckError``."""
    assert resource.check_cmd is not None
    command = fill(resource.check_cmd, candidate, resource.dest)
    ran = shell.run(command, environment(candidate, resource.dest, resource.name), resource.check_cmd_timeout)
    if ran.failure:
        raise ran.error(CheckError, "check", command)


def inspect(targets: tuple[tuple[Resource, Known], ...], disk: Disk) -> Inspected:
    """See whether the targets are still what was delivered. Reads only those that somebody touched."""
    drifted: dict[str, str] = {}
    stamps: dict[str, Stamp] = {}
    for resource, known in targets:
        try:
            status = disk.stat(resource.dest)
            if status is None:
                drifted[resource.name] = "missing"
                continue
            seen = target.stamp(status)
            if seen == known.stamp:
                continue
            current = target.look(resource, disk)
            content = current.content or b""
            found = target.differences(resource, current, content)
            if target.digest(content) != known.digest:
                found.insert(0, "content")
            if found:
                drifted[resource.name] = ", ".join(found)
            else:
                stamps[resource.name] = seen
        except OSError as error:
            drifted[resource.name] = f"cannot be seen: {error.strerror}"
        except TargetError as error:
            drifted[resource.name] = error.message
    return Inspected(drifted, stamps)
