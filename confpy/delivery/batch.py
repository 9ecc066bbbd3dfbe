"""One batch's way from bytes to targets: compare, stage, check, commit. Nothing is committed unchecked.

A group goes as a whole: where one of its members fails, none of them is new; a group that fails stops no other. Groups
go through the steps together so that many share one sync and one record; a reload is no part of it (``agent.py``).

Groups that share a check over files in their places go on trial together: the check looks at all of them, and none may
pass without the others. Where it refuses them, each is tried alone, and those that it refuses once more after the rest.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from resource import RLIMIT_NOFILE, getrlimit
from typing import TypeAlias

from confpy.agent.batches import batches, checks_in_place
from confpy.clock import LONGEST
from confpy.config.resource import Resource, reload_of
from confpy.errors import CheckError, ConfpyError, TargetError, TargetTorn
from confpy.frozen import frozen, replace
from confpy.ledger.ledger import BUSY, PATIENCE, Ledger
from confpy.ledger.records import Change, Debt, Deed
from confpy.messages import Candidate, DeliveredState, Group, Outcome, Report
from confpy.system.disk import Disk, token
from confpy.system.placeholders import Command, command_line, fill_command, names_candidate
from confpy.system.subprocesses import Shell
from confpy.target.failures import failure
from confpy.target.look import Current, differences, digest, look, stamp
from confpy.target.replace import back_up, preserve_old, put_back, replace_target, write_in_place, write_stream
from confpy.target.stage import NOT_BESIDE, Staged, changes, close, discard, stage, stage_apart

SLICE = 64
"""Candidates staged at once: each holds a descriptor."""
SHARE = 16
"""One part in so many of our descriptors is what a slice may take: other batches and the store want some, too."""
SYNC_ALL_FROM = 32
"""From so many candidates on, one ``syncfs`` is cheaper than a sync for each."""
OF_ONE = re.compile(r"CONFPY_(SRC|DEST|RESOURCE)\b")
"""Variables whose value is another for each member of a group."""


@frozen
class Rules:
    """What holds for every delivery."""

    noop: bool = False
    """Say what would change, check it as far as that needs no file in its place, and leave everything as it is."""
    sync_only: bool = False
    """Write, but run no check and no reload."""
    keep_stage_file: bool = False
    """Leave the candidate of a failed check where it was staged, to be looked at."""
    no_reload: bool = False
    """Check and write, but owe no reload."""
    root: str = ""
    """A folder out of which no link may lead; empty: any may."""


def deliver(
    groups: tuple[Group, ...], rules: Rules, disk: Disk, shell: Shell, ledger: Ledger | None = None
) -> tuple[Report, ...]:
    """Deliver groups; returns a report for each candidate, in their order, and raises nothing for what fails."""
    return _Batch(rules, disk, shell, ledger or Ledger()).deliver(groups)


@dataclass(slots=True)
class _Member:
    """One candidate on its way."""

    candidate: Candidate
    current: Current | None = None
    found: list[str] = field(default_factory=list)
    """What is other than it should be."""
    staged: Staged | None = None
    kept: str = ""
    """Where the old file is kept."""
    mark: str = field(default_factory=token)
    status: os.stat_result | None = None
    """What was put there."""
    notes: list[str] = field(default_factory=list)
    """What to say of it where it is only checked (noop)."""

    @property
    def resource(self) -> Resource:
        return self.candidate.resource

    @property
    def was(self) -> Current:
        assert self.current is not None
        return self.current

    @property
    def path(self) -> str:
        return self.was.path

    def source(self) -> str:
        """Return where a check finds what is to be checked."""
        return self.staged.path if self.staged is not None and self.status is None else self.resource.dest


@dataclass(slots=True)
class _Job:
    """One group on its way."""

    name: str
    members: list[_Member]
    swap: bool
    rollback: bool
    record: int = 0
    deed: Deed | None = None
    """What the ledger knows of it."""
    new: bool = False
    """All of it is committed."""
    torn: bool = False
    """It could be neither committed nor put back."""

    @property
    def changed(self) -> list[_Member]:
        return [member for member in self.members if member.staged is not None]

    @property
    def differing(self) -> list[_Member]:
        return [member for member in self.members if member.found]

    @property
    def files(self) -> list[_Member]:
        """What changes and takes the place of a file."""
        return [member for member in self.changed if not member.was.stream]

    @property
    def streams(self) -> list[_Member]:
        """What changes and is written to a stream: the last step, since nothing takes it back."""
        return [member for member in self.changed if member.was.stream]

    @property
    def recorded(self) -> list[_Member]:
        """What the ledger is told of: what was written to a stream can be neither seen nor put back."""
        return [member for member in self.differing if not member.was.stream]

    @property
    def keeps(self) -> bool:
        """Whether its old files may have to be put back."""
        return self.swap or self.rollback or len(self.differing) > 1

    @property
    def shared(self) -> tuple[str, ...]:
        """The checks that it goes on trial for together with other groups."""
        return checks_in_place(member.resource for member in self.members) if self.swap else ()

    @property
    def time(self) -> float:
        """Seconds that its checks may take; those without a limit do not count: nobody waits for ever."""
        limits = (member.resource.check_cmd_timeout for member in self.members if member.resource.check_cmd)
        return sum(limit for limit in limits if limit < LONGEST)

    def forget(self) -> None:
        """Forget a try that left nothing behind. The marks stay: the ledger knows them."""
        for member in self.members:
            member.staged, member.status, member.kept = None, None, ""


DeniedPrefix: TypeAlias = tuple[_Member, CheckError]
"""A check that said no, and whose it is."""


class _Batch:
    """Groups that share their syncs and their record."""

    def __init__(self, rules: Rules, disk: Disk, shell: Shell, ledger: Ledger) -> None:
        self._rules = rules
        self._disk = disk
        self._shell = shell
        self._ledger = ledger
        self._root = disk.resolve(rules.root) if rules.root else ""
        self._reloads = not (rules.sync_only or rules.no_reload)
        self._began = time.monotonic()
        self._reports: dict[str, Report] = {}
        self._records: dict[int, list[_Job]] = {}
        self._private = ""
        """A folder for candidates that cannot lie beside their targets, made when it is needed."""
        self._put_back_in: set[str] = set()
        """Folders in which a trial was taken back, to be synced before the ledger says that it is over."""

    def deliver(self, groups: tuple[Group, ...]) -> tuple[Report, ...]:
        try:
            return self._deliver_all(groups)
        finally:
            if self._private:
                self._remove_private_folder()

    def _deliver_all(self, groups: tuple[Group, ...]) -> tuple[Report, ...]:
        jobs = [job for job in map(self._job, groups) if self._differs(job)]
        if self._rules.noop:
            for some in _slices(jobs):
                self._only_check(some)
            return tuple(self._reports[one.resource.name] for group in groups for one in group.candidates)
        tried = batches([(job, job.shared) for job in jobs])
        for some in _slices([job for job, *others in tried if not others]):
            self._deliver(some, jobs)
        for some in tried:
            if len(some) > 1:
                self._try_together(some, jobs)
        self._settle(jobs)
        return tuple(self._reports[one.resource.name] for group in groups for one in group.candidates)

    def _job(self, group: Group) -> _Job:
        members = [_Member(one) for one in group.candidates]
        swap = any(it.resource.check_mode == "swap" and it.resource.check_cmd for it in members)
        rollback = any(it.resource.reload_cmd and it.resource.on_reload_failure == "rollback" for it in members)
        return _Job(group.name, members, swap and not self._rules.sync_only, rollback and self._reloads)

    def _deliver(self, jobs: list[_Job], all_jobs: list[_Job]) -> None:
        """Deliver groups that do not depend on each other."""
        with self._locked(jobs, max(job.time for job in jobs)) as free:
            ready = self._prepare(jobs, free)
            self._record(ready, all_jobs)
            for job in sorted(ready, key=lambda job: job.swap):
                self._commit(job)

    def _only_check(self, jobs: list[_Job]) -> None:
        """Check groups where that needs no file in its place, and leave nothing behind."""
        with self._locked(jobs, 0.0):
            for job in jobs:
                if self._check_format(job) and (job.swap or self._stage_to_check(job)):
                    self._report_only(job)
                self._discard(job.changed)

    def _stage_to_check(self, job: _Job) -> bool:
        """Run a group's checks over candidates that only they see. False where its reports are already made."""
        if not self._runs_checks(job):
            return True
        for member in job.differing:
            try:
                member.staged = self._stage_where_possible(member)
            except TargetError as error:
                self._fail(job, member, error)
                return False
        return self._check_staged(job)

    def _stage_where_possible(self, member: _Member) -> Staged:
        """Stage a candidate beside its target, else in a temporary folder; raises ``TargetError``."""
        folder = os.path.dirname(member.path)
        if member.was.stream or self._disk.stat(folder) is None:
            return self._stage_apart(member)
        try:
            return stage(member.resource, member.was, member.candidate.content, self._disk)
        except TargetError as error:
            reason = error.__cause__
            if not isinstance(reason, OSError) or reason.errno not in NOT_BESIDE:
                raise
            member.notes.append(f"checked in a temporary folder: nothing can be put into {folder} ({reason.strerror})")
        return self._stage_apart(member)

    def _report_only(self, job: _Job) -> None:
        for member in job.members:
            if not member.found:
                self._unchanged(member)
                continue
            folder = os.path.dirname(member.path)
            if not (member.resource.mkdir or member.was.stream or self._disk.stat(folder)):
                member.notes.append(f"a delivery would fail: there is no {folder} (mkdir = true makes it)")
            check = member.resource.check_cmd if job.swap else None
            self._report(
                member,
                "would change",
                notes=tuple(member.notes),
                differs=tuple(member.found),
                unchecked=command_line(check) if check is not None else "",
            )

    def _try_together(self, jobs: list[_Job], all_jobs: list[_Job]) -> None:
        """Put groups that share a check on trial together; where it refuses them, each alone."""
        with self._locked(jobs, 3 * sum(job.time for job in jobs)) as free:
            swapped_unchecked = self._put_on_trial(jobs, free, all_jobs)
            refusal = self._check(swapped_unchecked)
            if refusal is None:
                self._finish(swapped_unchecked)
            elif len(swapped_unchecked) == 1:
                self._refuse(swapped_unchecked[0], *refusal)
            else:
                self._try_each([job for job in swapped_unchecked if self._take_back(job, refusal)], free, all_jobs)

    def _try_each(self, jobs: list[_Job], free: frozenset[str], all_jobs: list[_Job]) -> None:
        """Put each group on trial alone; those that are refused once more, where others have become new since."""
        refused = []
        new = 0
        for job in jobs:
            if (refusal := self._try_alone(job, free, all_jobs)) is not None:
                refused.append((job, refusal, new))
            new += job.new
        for job, refusal, before in refused:
            again = self._try_alone(job, free, all_jobs) if new > before else refusal
            if again is not None:
                self._refuse(job, *again)
            new += job.new

    def _try_alone(self, job: _Job, free: frozenset[str], all_jobs: list[_Job]) -> DeniedPrefix | None:
        """Put a group on trial; returns why it was refused and put back. None: its reports are made."""
        if not self._differs(job) or not self._put_on_trial([job], free, all_jobs):
            return None
        refusal = self._check([job])
        if refusal is None:
            self._finish([job])
            return None
        return refusal if self._take_back(job, refusal) else None

    def _put_on_trial(self, jobs: list[_Job], free: frozenset[str], all_jobs: list[_Job]) -> list[_Job]:
        """Put groups in place before they are checked; returns those that are there."""
        found = []
        for some in _slices(jobs):
            ready = self._prepare(some, free)
            self._record(ready, all_jobs)
            found += self._put_in_place(ready)
            for job in some:
                self._discard(job.files)  # a descriptor each: there may be more of them than we may have open
        return found

    def _take_back(self, job: _Job, refusal: DeniedPrefix) -> bool:
        """Put back a group that was refused, to try it again. False where that failed, and is reported."""
        if self._put_back(job):
            _, error = refusal
            own = error.copy(CheckError)
            self._undo(job, next(member for member in job.files if member.status is not None), own)
            return False
        self._discard(job.streams)
        self._put_back_in |= {os.path.dirname(member.path) for member in job.files}
        job.forget()
        return True

    @contextmanager
    def _locked(self, jobs: list[_Job], seconds: float) -> Iterator[frozenset[str]]:
        """Keep other processes, which may take so long, away from the targets; yields the paths that are ours."""
        paths = [member.path for job in jobs for member in job.differing]
        with self._ledger.locked(paths, max(PATIENCE, seconds)) as free:
            try:
                yield free
            finally:
                # Whatever stops the slice as a whole, a bug of ours included, leaves nothing on trial, no candidate and
                # no descriptor.
                for job in jobs:
                    if job.keeps and not (job.new or job.torn):
                        self._put_back(job)
                    self._discard(job.changed)

    # --- before anything is new ------------------------------------------------------------------------------------

    def _differs(self, job: _Job) -> bool:
        """Look at a group. False where its reports are already made."""
        for member in job.members:
            try:
                member.current = look(member.resource, self._disk, self._root)
            except TargetError as error:
                self._fail(job, member, error)
                return False
            there = member.current.status is not None and not member.current.stream
            stays = member.candidate.only_missing and there
            stays = stays or (member.resource.write_once and (there or member.current.linked))
            wanted = member.candidate.content
            written = member.current.stream and member.candidate.delivered == digest(wanted)
            right = stays or written
            member.found = [] if right else differences(member.resource, member.current, wanted)
            if member.candidate.again and not stays:
                member.found = member.found or [member.candidate.again]
        if job.differing:
            return True
        for member in job.members:
            self._unchanged(member)
        return False

    def _prepare(self, jobs: list[_Job], free: frozenset[str]) -> list[_Job]:
        """Stage groups and check what can be checked there; returns those that may take their places."""
        staged = [job for job in jobs if self._own(job, free) and self._stage(job)]
        return [job for job in self._sync(staged) if self._check_format(job) and (job.swap or self._check_staged(job))]

    def _own(self, job: _Job, free: frozenset[str]) -> bool:
        """Say whether a group's targets are ours for now, and still other than they should be."""
        # What was seen before the locks were there may be what another confpy has mended since.
        if self._ledger.folder and not self._differs(job):
            return False
        for member in job.differing:
            if member.path not in free:
                self._fail(job, member, TargetError(BUSY, hint="it is tried again", target=member.resource.dest))
                return False
        return True

    def _stage(self, job: _Job) -> bool:
        """Stage what differs. False where the reports are already made."""
        for member in job.differing:
            content = member.candidate.content
            try:
                if member.was.stream:
                    looked_at = self._runs_checks(job) or self._rules.keep_stage_file
                    bare = Staged(member.resource, member.was, content, "", -1)
                    member.staged = self._stage_apart(member) if looked_at else bare
                    continue
                staged = stage(member.resource, member.was, content, self._disk, self._ledger.folder)
                status = self._disk.fstat(staged.descriptor)
            except TargetError as error:
                self._fail(job, member, error)
                return False
            except OSError as error:
                discard(staged, self._disk)
                self._fail(job, member, failure("the candidate cannot be looked at", member.resource, error))
                return False
            if member.candidate.again or changes(staged, status):
                member.staged = staged
            else:
                discard(staged, self._disk)
                member.found = []
        if not job.changed:
            for member in job.members:
                self._unchanged(member)
        return bool(job.changed)

    def _runs_checks(self, job: _Job) -> bool:
        return not self._rules.sync_only and any(member.resource.check_cmd is not None for member in job.members)

    def _stage_apart(self, member: _Member) -> Staged:
        """Stage a candidate that is only checked in a folder of ours; raises ``TargetError``."""
        if not self._ledger.folder and not self._private:
            try:
                self._private = self._disk.make_private_folder()
            except OSError as error:
                raise failure("no temporary folder can be made", member.resource, error) from error
        folder = self._ledger.folder or self._private
        return stage_apart(member.resource, member.was, member.candidate.content, self._disk, folder)

    def _remove_private_folder(self) -> None:
        if not any(one.error is not None and "candidate" in one.error.where for one in self._reports.values()):
            with suppress(OSError):
                self._disk.remove_folder(self._private)

    def _sync(self, jobs: list[_Job]) -> list[_Job]:
        """Bring the candidates to the platter before any of them takes a target's name; returns what is down."""
        descriptors = [it.staged.descriptor for job in jobs for it in job.files if it.staged is not None]
        if len(descriptors) >= SYNC_ALL_FROM and self._disk.sync_all(descriptors):
            return jobs
        return [job for job in jobs if self._sync_one(job)]

    def _sync_one(self, job: _Job) -> bool:
        for member in job.files:
            if member.staged is not None:
                try:
                    self._disk.sync(member.staged.descriptor)
                except OSError as error:
                    self._fail(job, member, failure("the candidate cannot be synced", member.resource, error))
                    return False
        return True

    def _check_format(self, job: _Job) -> bool:
        for member in job.differing:
            if member.resource.output_format is not None:
                from confpy.delivery.output_format import parse

                try:
                    parse(member.candidate.content, member.resource.output_format)
                except CheckError as error:
                    self._refuse(job, member, error)
                    return False
        return True

    def _check_staged(self, job: _Job) -> bool:
        if (refusal := self._check([job])) is not None:
            self._refuse(job, *refusal)
        return refusal is None

    def _check(self, jobs: Sequence[_Job]) -> DeniedPrefix | None:
        """Run the checks of groups over what is staged, or over the targets where they are there on trial."""
        if self._rules.sync_only:
            return None
        ran: set[Command] = set()
        for job in jobs:
            sources = {f"CONFPY_SRC_{_variable(it.resource.name)}": it.source() for it in job.members}
            for member in job.members:
                resource, source = member.resource, member.source()
                if resource.check_cmd is None:
                    continue
                command = fill_command(resource.check_cmd, source, resource.dest)
                if command in ran and _shared(command, job.swap):
                    continue
                ran.add(command)
                try:
                    check(resource, source, self._shell, sources)
                except CheckError as error:
                    return member, error
        return None

    # --- what the ledger is told -----------------------------------------------------------------------------------

    def _record(self, ready: list[_Job], all_jobs: list[_Job]) -> None:
        """Write down what is about to be done: for all groups of the batch at once, as far as it is known."""
        if not self._ledger.folder:
            return
        unsaid = [job for job in ready if self._needs_record(job) and job.deed != self._deed(job)]
        if not unsaid:
            return
        if not self._records:
            later = [job for job in all_jobs if not self._reported(job) and job not in ready]
            unsaid += (job for job in later if self._needs_record(job))
        self._begin(unsaid)

    def _begin(self, jobs: list[_Job]) -> None:
        debts: dict[str, Debt] = {}
        for job in jobs:
            job.deed = self._deed(job)
            for member in job.recorded if self._reloads else ():
                if (debt := _debt(member.resource)) is not None:
                    before = debts.get(debt.key, debt)
                    debts[debt.key] = replace(debt, timeout=max(debt.timeout, before.timeout))
        try:
            wanted = [member.resource for job in jobs for member in job.differing]
            reads = [(one.name, one.strip, one.reads) for one in wanted]
            record = self._ledger.begin([job.deed for job in jobs if job.deed], debts.values(), reads=reads)
        except OSError as error:
            for job in jobs:
                self._unkept(job, error)
            return
        self._records[record] = jobs
        for job in jobs:
            job.record = record

    def _unkept(self, job: _Job, error: OSError) -> None:
        for member in job.changed:
            assert member.staged is not None
            member.staged.note(f"the ledger cannot be written ({error.strerror}): a kill now may lose the reload")

    def _needs_record(self, job: _Job) -> bool:
        owes = self._reloads and any(member.resource.reload_cmd is not None for member in job.recorded)
        return (
            owes
            or (job.keeps and bool(job.recorded))
            or any(it.staged is not None and it.staged.in_place for it in job.members)
        )

    def _deed(self, job: _Job) -> Deed:
        return Deed(job.name, tuple(self._change(job, it) for it in job.recorded), job.swap, job.rollback)

    def _change(self, job: _Job, member: _Member) -> Change:
        debt = _debt(member.resource) if self._reloads else None
        in_place = member.staged is not None and member.staged.in_place
        return Change(
            member.resource.name,
            member.resource.dest,
            member.path,
            member.was.digest,
            digest(member.candidate.content).hex(),
            member.candidate.keys,
            member.mark if job.keeps or in_place else "",
            debt.key if debt else "",
            in_place,
        )

    # --- the commit ------------------------------------------------------------------------------------------------

    def _commit(self, job: _Job) -> None:
        """Put a group in place as a whole, or leave the old files as they are."""
        if not self._put_in_place([job]):
            return
        if job.swap and (refusal := self._check([job])) is not None:
            self._refuse(job, *refusal)
        else:
            self._finish([job])

    def _put_in_place(self, jobs: list[_Job]) -> list[_Job]:
        """Put each group in place as a whole; returns those that are: of the others the old files are back."""
        kept = [job for job in jobs if not job.keeps or self._keep_all(job)]
        self._sync_folders({os.path.dirname(it.kept) for job in kept for it in job.files if it.kept})
        return [job for job in kept if self._put_all(job)]

    def _keep_all(self, job: _Job) -> bool:
        for member in job.files:
            try:
                self._keep(member)
            except TargetError as error:
                self._undo(job, member, error)
                return False
        return True

    def _put_all(self, job: _Job) -> bool:
        for member in job.files:
            try:
                self._back_up(member)
                self._put(job, member)
            except TargetError as error:
                self._undo(job, member, error)
                return False
        return True

    def _finish(self, jobs: Sequence[_Job]) -> None:
        """Take groups that are in place, and right there, for new."""
        jobs = [job for job in jobs if self._write_streams(job)]
        passed = [job for job in jobs if job.swap]
        if len(passed) > 1:
            # None of them may be new without the others: a power cut takes no rename back once they have passed.
            self._sync_folders({os.path.dirname(it.path) for job in passed for it in job.files})
        try:
            self._ledger.passed((job.record, job.name) for job in passed)
        except OSError as error:
            for job in passed:
                self._unkept(job, error)
        for job in jobs:
            self._report_new(job)

    def _write_streams(self, job: _Job) -> bool:
        """Write what cannot be taken back. False where that failed: the files are back then, and it is reported."""
        for member in job.streams:
            try:
                write_stream(member.resource, member.was, member.candidate.content, self._disk)
            except TargetError as error:
                self._undo(job, member, error)
                return False
            self._discard([member])
            member.status = member.was.status
        return True

    def _report_new(self, job: _Job) -> None:
        job.new = True
        for member in job.members:
            if member.staged is None or member.status is None:
                self._unchanged(member)
                continue
            identity = None if member.was.stream else stamp(member.status)
            known = DeliveredState(digest(member.candidate.content), identity)
            if member.candidate.again or changes(member.staged, member.status):
                self._report(member, "changed", known=known, notes=tuple(member.staged.notes), record=job.record)
            else:
                self._report(member, "unchanged", known=known)

    def _keep(self, member: _Member) -> None:
        assert member.staged is not None
        member.kept = preserve_old(member.staged, member.mark, self._disk, self._ledger.folder)

    def _back_up(self, member: _Member) -> None:
        assert member.staged is not None
        if member.resource.backup:
            try:
                back_up(member.was, member.resource.backup, self._disk, self._ledger.folder)
            except OSError as error:
                raise failure("the old version cannot be saved", member.resource, error) from error

    def _put(self, job: _Job, member: _Member) -> None:
        """Put one candidate in its target's place."""
        staged = member.staged
        assert staged is not None
        status = replace_target(staged, self._disk)
        if status is None:
            if self._ledger.folder:
                # Told first: a copy that no record names would stay for good.
                self._tell_in_place(job, member)
                if not member.kept or os.path.dirname(member.kept) != self._ledger.folder:
                    self._disk.discard(member.kept)
                    self._keep(member)
                    self._sync_folders({os.path.dirname(member.kept)})
            status = write_in_place(staged, self._disk)
            discard(staged, self._disk)
        member.status = status

    def _tell_in_place(self, job: _Job, member: _Member) -> None:
        try:
            if not job.record:
                self._begin([job])
            elif job.deed is not None and not any(it.in_place and it.path == member.path for it in job.deed.changes):
                self._ledger.in_place(job.record, member.path, member.mark)
        except OSError as error:
            self._unkept(job, error)

    def _undo(self, job: _Job, culprit: _Member, error: ConfpyError) -> None:
        """Put back what is already new of a group that failed, and report it."""
        job.torn = isinstance(error, TargetTorn)
        new = [member.resource.dest for member in job.files if member.status is not None]
        if reason := self._put_back(job):
            job.torn = True
            error = _torn(error, reason)
        elif new:
            error.at(did=f"put back {', '.join(new)}")
        self._fail(job, culprit, error)

    def _put_back(self, job: _Job) -> str:
        """Put back what is already new of a group, in reverse; returns why that failed, empty where it did not."""
        failed = ""
        for member in reversed(job.files):
            if member.status is not None:
                in_place = member.staged is not None and member.staged.in_place
                try:
                    put_back(member.path, member.kept, self._disk, in_place=in_place)
                except OSError as error:
                    failed = f"{member.resource.dest}: {error.strerror}; its old file is {member.kept}"
                else:
                    member.status, member.kept = None, ""
        return failed

    # --- the end ---------------------------------------------------------------------------------------------------

    def _settle(self, jobs: list[_Job]) -> None:
        """Make the renames last, then let go of what they might have been undone with."""
        touched = [member for job in jobs for member in job.files]
        folders = {os.path.dirname(it.path) for it in touched} | self._put_back_in
        for folder, reason in self._sync_folders(folders).items():
            for member in touched:
                report = self._reports[member.resource.name]
                if os.path.dirname(member.path) == folder and report.outcome == "changed":
                    note = f"the folder could not be synced ({reason}): a power cut may undo this"
                    self._reports[report.resource] = replace(report, notes=(*report.notes, note))
        for member in (it for job in jobs if not job.torn and not self._may_roll_back(job) for it in job.members):
            if member.kept:
                self._disk.discard(member.kept)
        for record, of_record in self._records.items():
            if any(job.torn for job in of_record):
                self._ledger.leave(record)
            else:
                failed = [job.name for job in of_record if not job.new or job.record != record]
                plain = not any(change.mark for job in of_record if job.deed for change in job.deed.changes)
                in_place = any(it.staged is not None and it.staged.in_place for job in of_record for it in job.members)
                self._ledger.done(record, failed, plain=plain and not in_place and not failed)

    def _may_roll_back(self, job: _Job) -> bool:
        """Say whether a group's old files stay: until its reloads, or older ones of its group, have succeeded."""
        if not (job.new and job.rollback and job.record and job.deed is not None):
            return False
        return any(change.key for change in job.deed.changes) or self._ledger.is_unpaid(job.name)

    def _sync_folders(self, folders: set[str]) -> dict[str, str]:
        """Bring folders to the platter; returns those where that failed, each with the reason."""
        failed = {}
        for folder in sorted(folders):
            try:
                self._disk.sync_folder(folder)
            except OSError as error:
                failed[folder] = error.strerror or str(error)
        return failed

    def _refuse(self, job: _Job, member: _Member, error: CheckError) -> None:
        """Drop a group that a check said no to."""
        if not self._rules.noop:
            error.at(did="kept the old file" if len(job.members) == 1 else "kept the old files")
        if self._rules.keep_stage_file and member.staged is not None and member.status is None:
            error.at(candidate=member.staged.path)
            close(member.staged, self._disk)
        self._undo(job, member, error)

    def _discard(self, members: Iterable[_Member]) -> None:
        """Remove the candidates that did not become targets, and let go of the others."""
        for member in members:
            if member.staged is None or member.staged.descriptor < 0:
                continue
            if member.status is None:
                discard(member.staged, self._disk)
            else:
                close(member.staged, self._disk)

    def _fail(self, job: _Job, culprit: _Member, error: ConfpyError) -> None:
        """Report a group that stays as it is: one member is at fault, the others are held."""
        self._discard(job.changed)
        name = culprit.resource.name
        for member in job.members:
            if member is culprit:
                self._report(member, "failed", error=error.at(resource=name))
            else:
                message = f"held back: {name}, of its group {job.name}, failed"
                kind = TargetError if job.torn and isinstance(error, TargetError) else type(error)
                held = kind(message, resource=member.resource.name, target=member.resource.dest)
                self._report(member, "held", error=held)
            if job.torn:
                self._reports[member.resource.name] = replace(self._reports[member.resource.name], torn=True)

    def _reported(self, job: _Job) -> bool:
        return job.members[0].resource.name in self._reports

    def _unchanged(self, member: _Member) -> None:
        current = member.was
        if current.stream:
            known = DeliveredState(member.candidate.delivered, None)
        else:
            identity = stamp(current.status) if current.status else None
            known = DeliveredState(digest(current.content or b""), identity)
        self._report(member, "unchanged", known=known)

    def _report(
        self,
        member: _Member,
        outcome: Outcome,
        *,
        error: ConfpyError | None = None,
        known: DeliveredState | None = None,
        notes: tuple[str, ...] = (),
        record: int = 0,
        differs: tuple[str, ...] = (),
        unchecked: str = "",
    ) -> None:
        name = member.resource.name
        took = time.monotonic() - self._began
        self._reports[name] = Report(
            name, outcome, error, known, notes, record=record, took=took, differs=differs, unchecked=unchecked
        )


def _torn(error: ConfpyError, reason: str) -> ConfpyError:
    """Return the error of a group that failed and could not be put back; another step keeps its class and exit code."""
    kind = TargetTorn if isinstance(error, TargetError) else type(error)
    where = {name: value for name, value in error.where.items() if name != "did"}
    message = f"the target is torn: {error.message}, and what is new already cannot be put back"
    return kind(message, hint=reason, **where)


def _slices(jobs: list[_Job]) -> Iterator[list[_Job]]:
    """Yield groups whose candidates can be staged at once; one that is larger than that is alone."""
    most = max(1, min(SLICE, getrlimit(RLIMIT_NOFILE)[0] // SHARE))
    some: list[_Job] = []
    size = 0
    for job in jobs:
        if some and size + len(job.differing) > most:
            yield some
            some, size = [], 0
        some.append(job)
        size += len(job.differing)
    if some:
        yield some


def _debt(resource: Resource) -> Debt | None:
    """Return the reload that a change of a resource owes."""
    if (command := reload_of(resource)) is None:
        return None
    key, timeout = command.describe(), resource.reload_cmd_timeout
    return Debt(key, command, timeout, resource.verify_cmd, resource.on_reload_failure)


def _shared(command: Command, swap: bool) -> bool:
    """Say whether one run of a command speaks for all members of a group that have it.

    On trial it looks at the targets. Staged, it does so only where it names the members that it wants to see: one that
    reads its variables inside, unseen by us, is another for each.
    """
    text = command_line(command)
    return not OF_ONE.search(text) and (swap or "CONFPY_SRC_" in text)


def _variable(name: str) -> str:
    return re.sub("[^A-Z0-9]", "_", name.upper())


def check(resource: Resource, candidate: str, shell: Shell, sources: Mapping[str, str]) -> None:
    """Run a resource's check over its candidate; raises ``CheckError``. ``sources`` are further variables."""
    assert resource.check_cmd is not None
    command = fill_command(resource.check_cmd, candidate, resource.dest)
    own = {"CONFPY_SRC": candidate, "CONFPY_DEST": resource.dest, "CONFPY_RESOURCE": resource.name}
    ran = shell.run(command, {**sources, **own}, resource.check_cmd_timeout)
    if ran.failure:
        error = ran.error(CheckError, "check", command)
        if names_candidate(resource.check_cmd):
            from confpy.delivery import fragments  # where a check fails

            error.hint = error.hint or fragments.hint_of(ran.tail, candidate)
        raise error
