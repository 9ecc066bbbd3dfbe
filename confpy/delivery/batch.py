"""Delivers a batch: compare, stage, check, commit. Nothing is committed unchecked.

Groups go through the steps together so that many share one sync and one record of the ledger; a group that fails stops
no other. A reload is no part of it (``agent/reloads.py``).

Groups that share a check over files in their places are swapped in together before it runs: it reads all of them, and
none may pass without the others. If it fails, they are halved until those stand alone that fail: of many, one bad one
costs two checks per halving, and the others are committed. Those that failed are tried once more after the rest, on
which they may rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from confpy.agent.batches import batches
from confpy.candidates import Group, Report
from confpy.delivery.context import Context, PrivateFolder, Rules
from confpy.delivery.group import GroupDelivery, begin_record, first_counts
from confpy.delivery.member import Member
from confpy.errors import CheckError
from confpy.ledger.ledger import Ledger
from confpy.ledger.locks import PATIENCE
from confpy.system.disk import Disk
from confpy.system.placeholders import Command
from confpy.system.subprocesses import Shell
from confpy.target.look import Folders

SLICE = 512
"""Candidates staged at once: each holds a descriptor, whose lock keeps the sweep of another confpy away."""
SHARE = 4
"""A slice takes at most this part (one in so many) of the descriptors that are free: other batches and the store need
some, too."""
FEW = 8
"""Candidates for which there are descriptors without asking."""
SYNC_ALL_FROM = 32
"""From so many candidates on, one ``syncfs`` is cheaper than a sync for each."""

MOST_CHECKS = 256
"""Checks of one delivery over files in their places. With these, about 20 bad ones of a thousand are found."""

CheckFailure: TypeAlias = tuple[Member, CheckError]
"""A check that failed, and whose it is."""


def deliver(
    groups: tuple[Group, ...], rules: Rules, disk: Disk, shell: Shell, ledger: Ledger | None = None
) -> tuple[Report, ...]:
    """Deliver groups; returns a report for each candidate, in their order, and raises nothing for what fails."""
    private = PrivateFolder(disk)
    folders = Folders(disk, rules.root)
    context = Context(rules, disk, shell, ledger or Ledger(), folders, private, time.monotonic())
    deliveries = [GroupDelivery(group, context) for group in groups]
    try:
        Batch(context).deliver(deliveries)
    finally:
        reports = tuple(one.report for group in deliveries for one in group.members if one.report is not None)
        if not any(one.error is not None and "candidate" in one.error.where for one in reports):
            private.remove()
    return reports


class FailedGroup(NamedTuple):
    """A group whose check failed, and that was put back."""

    group: GroupDelivery
    member: Member
    error: CheckError
    committed: int
    """How many others had been committed by then."""


class Halving:
    """Groups that share a check, and have failed it together."""

    def __init__(
        self,
        groups: list[GroupDelivery],
        failure: CheckFailure,
        free: frozenset[str],
        all_groups: list[GroupDelivery],
    ) -> None:
        """``free``: the paths that are locked by this process. ``all_groups``: those of the batch."""
        self.groups = groups
        self.failure = failure
        """Of the last check that failed over several of them."""
        self.free = free
        self.all_groups = all_groups
        self.checks = 1
        self.committed = 0
        self.failed: list[FailedGroup] = []

    @property
    def is_over(self) -> bool:
        """Whether no more is tried: so many checks tell that the fault lies elsewhere."""
        return self.checks >= MOST_CHECKS

    def add(self, group: GroupDelivery, failure: CheckFailure) -> None:
        """Take it that a group failed alone."""
        member, error = failure
        self.failed.append(FailedGroup(group, member, error, self.committed))

    def give_up(self, groups: list[GroupDelivery]) -> None:
        """Take it that groups are not tried any more: they failed together with others."""
        for group in groups:
            member = next((one for one in group.members if one.differs), group.members[0])
            error = self.failure[1].copy(CheckError)
            error.hint = f"{MOST_CHECKS} checks have not found all that is wrong: the rest is tried later"
            self.failed.append(FailedGroup(group, member, error, self.committed))


class Batch:
    """Groups that share their syncs and their record."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ledger = context.ledger
        self._undone_in: set[str] = set()
        """Folders in which a swap was undone, to be synced before the ledger says that it is over."""

    def deliver(self, groups: Sequence[GroupDelivery]) -> None:
        """Deliver groups; each member has its report afterwards."""
        differing = [group for group in groups if group.look()]
        if self._context.rules.noop:
            for some in _slices(differing, self._context.disk):
                self._only_check(some)
            return
        connected = batches([(group, group.shared_checks) for group in differing])
        alone = [group for group, *others in connected if not others]
        for some in _slices(alone, self._context.disk):
            self._deliver(some, differing)
        for some in connected:
            if len(some) > 1:
                self._check_together(some, differing)
        self._settle(differing)

    def _only_check(self, groups: list[GroupDelivery]) -> None:
        """Check groups where that needs no file in its place, and leave nothing behind (noop)."""
        with self._locked(groups, 0.0):
            for group in groups:
                if group.check_format() and (group.swap or self._check_apart(group)):
                    for member in group.members:
                        if member.differs:
                            member.report_would_change(swap=group.swap)
                        else:
                            member.report_unchanged()
                group.discard(group.changed)

    def _check_apart(self, group: GroupDelivery) -> bool:
        """Run a group's checks over candidates that only they see. False if its reports are made."""
        return not group.runs_checks or (group.stage_to_check() and self._check_staged(group))

    def _deliver(self, groups: list[GroupDelivery], all_groups: list[GroupDelivery]) -> None:
        """Deliver groups that do not depend on each other."""
        with self._locked(groups, max(group.check_time for group in groups)) as free:
            ready = self._prepare(groups, free)
            self._record(ready, all_groups)
            for group in sorted(ready, key=lambda group: group.swap):
                if not self._put_in_place([group]):
                    continue
                if group.swap and (failure := self._check([group])) is not None:
                    group.reject(*failure)
                else:
                    self._finish([group])

    # --- groups that share a check over files in their places ------------------------------------------------------

    def _check_together(self, groups: list[GroupDelivery], all_groups: list[GroupDelivery]) -> None:
        """Swap in groups that share a check before it runs; if it fails, each alone."""
        with self._locked(groups, 3 * sum(group.check_time for group in groups)) as free:
            swapped = self._swap_in(groups, free, all_groups)
            failure = self._check(swapped)
            if failure is None:
                self._finish(swapped)
            elif len(swapped) == 1:
                swapped[0].reject(*failure)
            else:
                back = [group for group in swapped if self._take_back(group, failure)]
                self._find_bad(Halving(back, failure, free, all_groups))

    def _find_bad(self, halving: Halving) -> None:
        """Commit what passes of groups that have failed together, and reject what fails alone."""
        self._halve(halving.groups, halving)
        failed, halving.failed = halving.failed, []
        # What failed before others were committed may rest on them.
        again = [one for one in failed if halving.committed > one.committed]
        final = [one for one in failed if halving.committed <= one.committed]
        if len(again) == 1:
            self._try([again[0].group], halving)
        elif again:
            self._halve([one.group for one in again], halving, is_known_bad=False)
        for one in (*final, *halving.failed):
            one.group.reject(one.member, one.error)

    def _halve(self, groups: list[GroupDelivery], halving: Halving, *, is_known_bad: bool = True) -> None:
        """Try groups, and halves of them where that fails. ``is_known_bad``: together they have failed already."""
        if not groups:
            return
        if len(groups) == 1 or not is_known_bad:
            groups = self._try(groups, halving)
            if len(groups) < 2:
                return
        middle = (len(groups) + 1) // 2
        first, rest = groups[:middle], groups[middle:]
        before = halving.committed
        self._halve(first, halving, is_known_bad=False)
        # Where all of the first half has passed, the bad one is in the other.
        passed = all(group.committed for group in first) and halving.committed > before
        self._halve(rest, halving, is_known_bad=passed)

    def _try(self, groups: list[GroupDelivery], halving: Halving) -> list[GroupDelivery]:
        """Swap in groups and check them; returns those that failed and were put back, to be halved.

        One that fails alone is added to the failed ones. The others have their reports. When too many checks have run,
        or the commands are being stopped, nothing is tried any more: all that is left has failed.
        """
        if halving.is_over or self._context.shell.is_ending:
            halving.give_up(groups)
            return []
        self._context.folders.forget()
        # Nothing of them is in place: what was seen of their targets may have changed since.
        differing = [group for group in groups if group.look()]
        swapped = self._swap_in(differing, halving.free, halving.all_groups) if differing else []
        if not swapped:
            return []
        failure = self._check(swapped)
        halving.checks += 1
        if failure is None:
            self._finish(swapped)
            halving.committed += sum(group.committed for group in swapped)
            return []
        back = [group for group in swapped if self._take_back(group, failure)]
        if len(back) == 1:
            halving.add(back[0], failure)
        else:
            halving.failure = failure
        return back

    def _swap_in(
        self, groups: list[GroupDelivery], free: frozenset[str], all_groups: list[GroupDelivery]
    ) -> list[GroupDelivery]:
        """Put groups in place before they are checked; returns those that are there."""
        swapped = []
        for some in _slices(groups, self._context.disk):
            ready = self._prepare(some, free)
            self._record(ready, all_groups)
            swapped += self._put_in_place(ready)
            for group in some:
                group.discard(group.files)  # a descriptor each: there may be more of them than may be open
        return swapped

    def _take_back(self, group: GroupDelivery, failure: CheckFailure) -> bool:
        """Put back a group whose check failed, to try it again. False if that failed, and is reported."""
        if group.put_back():
            _, error = failure
            own = error.copy(CheckError)
            group.undo(next(member for member in group.files if member.status is not None), own)
            return False
        group.discard(group.streams)
        self._undone_in |= {member.folder for member in group.files}
        group.reset()
        return True

    # --- the steps that groups take together -----------------------------------------------------------------------

    @contextmanager
    def _locked(self, groups: list[GroupDelivery], seconds: float) -> Iterator[frozenset[str]]:
        """Keep other processes, which may take so long, away from the targets; yields the paths that are locked."""
        paths = [member.path for group in groups for member in group.differing]
        with self._ledger.locked(paths, max(PATIENCE, seconds)) as free:
            self._context.folders.forget()  # others may have had the targets meanwhile
            try:
                yield free
            finally:
                # Whatever stops the slice as a whole, a bug in confpy included, leaves no unchecked file in place, no
                # candidate and no descriptor.
                for group in groups:
                    if group.preserves and not (group.committed or group.torn):
                        group.put_back()
                    group.discard(group.changed)

    def _prepare(self, groups: list[GroupDelivery], free: frozenset[str]) -> list[GroupDelivery]:
        """Stage groups and check what can be checked there; returns those that may take their places."""
        staged = [group for group in groups if group.look_again(free) and group.stage()]
        return [
            group for group in self._sync(staged) if group.check_format() and (group.swap or self._check_staged(group))
        ]

    def _sync(self, groups: list[GroupDelivery]) -> list[GroupDelivery]:
        """Flush the candidates to disk before any of them takes a target's name; returns those that are flushed."""
        staged = [it.staged for group in groups for it in group.files if it.staged is not None]
        descriptors = [one.descriptor for one in staged if one.descriptor >= 0]
        if len(descriptors) >= SYNC_ALL_FROM and self._context.disk.sync_all(descriptors):
            return groups
        return [group for group in groups if group.sync()]

    def _check_staged(self, group: GroupDelivery) -> bool:
        if (failure := self._check([group])) is not None:
            group.reject(*failure)
        return failure is None

    def _check(self, groups: Sequence[GroupDelivery]) -> CheckFailure | None:
        """Run the checks of groups over what is staged, or over the targets if they are swapped in."""
        ran: set[Command] = set()
        for group in groups:
            if (failure := group.check(ran)) is not None:
                # A check that reads files in their places may quote any of them.
                if any(member.resource.sensitive for one in groups for member in one.members):
                    failure[1].hide_output()
                return failure
        return None

    def _record(self, ready: list[GroupDelivery], all_groups: list[GroupDelivery]) -> None:
        """Record what is about to be done: for all groups of the batch at once, as far as it is known."""
        if not self._ledger.folder:
            return
        self._ledger.count_first(first_counts(ready))
        groups = [group for group in ready if group.needs_record and not group.is_recorded]
        if not groups:
            return
        if not any(group.records for group in all_groups):
            later = [group for group in all_groups if not group.reported and group not in ready]
            groups += (group for group in later if group.needs_record)
        begin_record(groups, self._context)

    def _put_in_place(self, groups: list[GroupDelivery]) -> list[GroupDelivery]:
        """Put each group in place as a whole; returns those that are: of the others the old files are back."""
        preserved = [group for group in groups if group.preserve()]
        self._context.sync_folders({os.path.dirname(it.old) for group in preserved for it in group.files if it.old})
        return [group for group in preserved if group.put()]

    def _finish(self, groups: Sequence[GroupDelivery]) -> None:
        """Commit groups that are in place and have passed their checks."""
        groups = [group for group in groups if group.write_streams()]
        passed = [group for group in groups if group.swap]
        if len(passed) > 1:
            # None of them may be new without the others: a power cut takes no rename back once they have passed.
            self._context.sync_folders({it.folder for group in passed for it in group.files})
        try:
            self._ledger.check_passed((group.record, group.id) for group in passed)
        except OSError as error:
            for group in passed:
                group.note_unrecorded(error)
        for group in groups:
            group.commit()

    # --- the end ---------------------------------------------------------------------------------------------------

    def _settle(self, groups: list[GroupDelivery]) -> None:
        """Make the renames last, then remove what they might have been undone with."""
        self._sync_folders([member for group in groups for member in group.files])
        for group in groups:
            group.remove_old()
        self._end_records(groups)

    def _sync_folders(self, put: list[Member]) -> None:
        failed = self._context.sync_folders({member.folder for member in put} | self._undone_in)
        for member in put if failed else ():
            if (reason := failed.get(member.folder)) and member.report and member.report.outcome == "changed":
                member.add_note(f"the folder could not be synced ({reason}): a power cut may undo this")

    def _end_records(self, groups: list[GroupDelivery]) -> None:
        """Tell the ledger which groups of each record did not become new."""
        records: dict[int, list[GroupDelivery]] = {}
        for group in groups:
            for record in group.records:
                records.setdefault(record, []).append(group)
        for record, of_record in sorted(records.items()):
            if any(group.torn for group in of_record):
                self._ledger.leave(record)
                continue
            failed = [group.id for group in of_record if not group.committed or group.record != record]
            by_content = not any(
                any(it.in_place for it in group.members)
                or (group.change and any(it.mark for it in group.change.changes))
                for group in of_record
            )
            self._ledger.done(record, failed, plain=by_content and not failed)


def _slices(groups: list[GroupDelivery], disk: Disk) -> Iterator[list[GroupDelivery]]:
    """Yield groups whose candidates can be staged at once; a group that is larger than that is alone."""
    some: list[GroupDelivery] = []
    size, most = 0, FEW
    for group in groups:
        count = len(group.differing)
        if some and size + count > most:
            most = max(FEW, min(SLICE, disk.free_descriptors() // SHARE))
            if size + count > most:
                yield some
                some, size, most = [], 0, FEW
        some.append(group)
        size += count
    if some:
        yield some
