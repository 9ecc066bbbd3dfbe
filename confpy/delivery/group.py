"""One group's transaction: look, stage, check, put in place, then commit or undo.

A group goes as a whole: if one of its members fails, none of them is new.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from confpy.agent.batches import checks_in_place
from confpy.candidates import Group
from confpy.clock import LONGEST
from confpy.delivery.context import Context
from confpy.delivery.member import Member
from confpy.errors import CheckError, ConfpyError, TargetError, TargetTorn
from confpy.frozen import replace
from confpy.ledger.locks import BUSY
from confpy.ledger.records import Change, GroupChange
from confpy.messages import Counted
from confpy.reload.spec import ReloadSpec
from confpy.system.placeholders import Command
from confpy.target.replace import replace_target, write_in_place
from confpy.target.stage import discard


class GroupDelivery:
    """The delivery of one group. A method that returns False has made the reports of its members."""

    def __init__(self, group: Group, context: Context) -> None:
        self.name = group.name
        self.id = group.id
        self.members = [Member(one, context) for one in group.candidates]
        self._context = context
        resources = [member.resource for member in self.members]
        swap = any(one.check_mode == "swap" and one.check_cmd for one in resources)
        self.swap = swap and not context.rules.sync_only
        """It is in place before it is checked."""
        rollback = any(one.reload_cmd and one.on_reload_failure == "rollback" for one in resources)
        self.rollback = rollback and context.reloads
        """Its old files may have to be put back when its reload fails."""
        self.records: list[int] = []
        """The ledger's records that it is in, the last one the one that counts."""
        self.change: GroupChange | None = None
        """What the ledger holds of it."""
        self.committed = False
        self.torn = False
        """It could be neither committed nor put back."""

    @property
    def record(self) -> int:
        return self.records[-1] if self.records else 0

    @property
    def changed(self) -> list[Member]:
        return [member for member in self.members if member.staged is not None]

    @property
    def differing(self) -> list[Member]:
        return [member for member in self.members if member.differs]

    @property
    def files(self) -> list[Member]:
        """What changes and takes the place of a file."""
        return [member for member in self.changed if not member.before.stream]

    @property
    def streams(self) -> list[Member]:
        """What changes and is written to a stream: the last step, since nothing takes it back."""
        return [member for member in self.changed if member.before.stream]

    @property
    def recorded(self) -> list[Member]:
        """What the ledger records: what was written to a stream can be neither seen nor put back."""
        return [member for member in self.differing if not member.before.stream]

    @property
    def preserves(self) -> bool:
        """Whether its old files may have to be put back."""
        return self.swap or self.rollback or len(self.differing) > 1

    @property
    def shared_checks(self) -> tuple[str, ...]:
        """The checks over files in place that it may share with other groups."""
        return checks_in_place(member.resource for member in self.members) if self.swap else ()

    @property
    def check_time(self) -> float:
        """Seconds that its checks may take; those without a limit do not count: nobody waits for ever."""
        limits = (member.resource.check_cmd_timeout for member in self.members if member.resource.check_cmd)
        return sum(limit for limit in limits if limit < LONGEST)

    @property
    def runs_checks(self) -> bool:
        return not self._context.rules.sync_only and any(it.resource.check_cmd is not None for it in self.members)

    @property
    def reported(self) -> bool:
        return self.members[0].report is not None

    # --- before anything is in place -------------------------------------------------------------------------------

    def look(self) -> bool:
        """Compare its targets with its candidates. False if there is nothing to do."""
        for member in self.members:
            try:
                member.look()
            except TargetError as error:
                self.fail(member, error)
                return False
        if self.differing:
            return True
        for member in self.members:
            member.report_unchanged()
        return False

    def look_again(self, free: frozenset[str]) -> bool:
        """Return whether its targets are locked by this process (``free``) and still differ."""
        # What was seen before they were locked may have been corrected by another confpy since.
        if self._context.ledger.folder and not self.look():
            return False
        for member in self.differing:
            if member.path not in free:
                self.fail(member, TargetError(BUSY, hint="it is tried again", target=member.resource.dest))
                return False
        return True

    def stage(self) -> bool:
        """Stage what differs."""
        inspected = self.runs_checks or self._context.rules.keep_stage_file
        for member in self.differing:
            try:
                member.stage(inspected=inspected)
            except TargetError as error:
                self.fail(member, error)
                return False
        if not self.changed:
            for member in self.members:
                member.report_unchanged()
        return bool(self.changed)

    def stage_to_check(self) -> bool:
        """Stage what differs so that only checks see it (noop)."""
        for member in self.differing:
            try:
                member.stage_to_check()
            except TargetError as error:
                self.fail(member, error)
                return False
        return True

    def sync(self) -> bool:
        """Flush its candidates to disk."""
        for member in self.files:
            try:
                member.sync()
            except TargetError as error:
                self.fail(member, error)
                return False
        return True

    def check_format(self) -> bool:
        """Parse the candidates whose resources name a format."""
        for member in self.differing:
            if member.resource.output_format is not None and not member.candidate.gone:
                from confpy.delivery.check import parse  # needed only by resources that are checked

                try:
                    parse(member.candidate.content, member.resource.output_format)
                except CheckError as error:
                    self.reject(member, error)
                    return False
        return True

    def check(self, ran: set[Command]) -> tuple[Member, CheckError] | None:
        """Run its checks over what is staged, or over the targets if they are in place; returns the one that failed.

        ``ran``: commands that need not run again, those of this group are added.
        """
        if not self.runs_checks:
            return None
        from confpy.delivery import check  # needed only by resources that are checked

        sources = {f"CONFPY_SRC_{check.variable(it.resource.name)}": it.source for it in self.members}
        for member in self.members:
            if member.resource.check_cmd is None:
                continue
            command = check.command_of(member.resource, member.source)
            if member.candidate.gone and not (self.swap and check.is_shared(command, swap=True)):
                continue  # there is no file to look at
            if command in ran and check.is_shared(command, swap=self.swap):
                continue
            ran.add(command)
            try:
                check.run_check(member.resource, member.source, self._context.shell, sources)
            except CheckError as error:
                return member, error
            member.tell("debug", "check.passed")
        return None

    # --- what the ledger records -----------------------------------------------------------------------------------

    @property
    def needs_record(self) -> bool:
        if any(it.resource.item is not None for it in self.recorded):
            return True  # what is ours is known by the records
        owes = self._context.reloads and any(it.resource.reload_cmd is not None for it in self.recorded)
        return owes or (self.preserves and bool(self.recorded)) or any(it.in_place for it in self.members)

    @property
    def planned(self) -> GroupChange:
        """What is about to be done, for the ledger."""
        reloads, preserves = self._context.reloads, self.preserves
        changes = (_change(it, reloads=reloads, preserves=preserves) for it in self.recorded)
        return GroupChange(self.id, tuple(changes), self.swap, self.rollback)

    @property
    def is_recorded(self) -> bool:
        """Whether the ledger holds what is about to be done."""
        return self.change is not None and self.change == self.planned

    def note_unrecorded(self, error: OSError) -> None:
        for member in self.changed:
            assert member.staged is not None
            member.staged.note(f"the ledger cannot be written ({error.strerror}): a kill now may lose the reload")

    def _record_in_place(self, member: Member) -> None:
        try:
            if not self.record:
                begin_record([self], self._context)
            elif self.change is not None and not any(
                it.in_place and it.path == member.path for it in self.change.changes
            ):
                self._context.ledger.in_place(self.record, member.path, member.mark)
        except OSError as error:
            self.note_unrecorded(error)

    # --- in place --------------------------------------------------------------------------------------------------

    def preserve(self) -> bool:
        """Preserve the old files, if they may have to be put back."""
        for member in self.files if self.preserves else ():
            try:
                member.preserve()
            except TargetError as error:
                self.undo(member, error)
                return False
        return True

    def put(self) -> bool:
        """Put its candidates in their targets' places, all or none of them."""
        for member in self.files:
            try:
                member.back_up()
                member.keep_previous()
                self._put(member)
            except TargetError as error:
                self.undo(member, error)
                return False
        return True

    def _put(self, member: Member) -> None:
        """Put one candidate in its target's place."""
        context, staged = self._context, member.staged
        assert staged is not None
        if member.candidate.gone:
            member.put(member.remove())
            return
        status = replace_target(staged, context.disk)
        if status is None:
            if context.ledger.folder:
                # Recorded first: a copy that no record names would stay for good.
                self._record_in_place(member)
                if not member.old or os.path.dirname(member.old) != context.ledger.folder:
                    context.disk.discard(member.old)
                    member.preserve()
                    context.sync_folders({os.path.dirname(member.old)})
            member.drop_previous(is_overwritten=True)
            status = write_in_place(staged, context.disk)
            discard(staged, context.disk)
        member.put(status)

    def write_streams(self) -> bool:
        """Write what cannot be taken back; if that fails, the files are put back."""
        for member in self.streams:
            try:
                member.write_stream()
            except TargetError as error:
                self.undo(member, error)
                return False
        return True

    def commit(self) -> None:
        """Report a group that is in place and passed its checks."""
        self.committed = True
        for member in self.members:
            member.report_delivered(self.record)

    # --- undone ----------------------------------------------------------------------------------------------------

    def undo(self, culprit: Member, error: ConfpyError) -> None:
        """Put back what is in place of a group that failed, and report it."""
        self.torn = isinstance(error, TargetTorn)
        put = [member.resource.dest for member in self.files if member.status is not None]
        if reason := self.put_back():
            self.torn = True
            error = _torn(error, reason)
        elif put:
            error.at(did=f"put back {', '.join(put)}")
        self.fail(culprit, error)

    def put_back(self) -> str:
        """Put the old files back, in reverse; returns why that failed, empty if it did not."""
        failed = ""
        for member in reversed(self.files):
            if member.status is not None:
                try:
                    member.put_back()
                except OSError as error:
                    failed = f"{member.resource.dest}: {error.strerror}; its old file is {member.old}"
            member.drop_previous()
        return failed

    def reject(self, member: Member, error: CheckError) -> None:
        """Drop a group whose check failed."""
        member.tell("debug", "check.failed", error=error.message)
        if not self._context.rules.noop:
            error.at(did="left the old file" if len(self.members) == 1 else "left the old files")
        if self._context.rules.keep_stage_file and (path := member.leave_staged()):
            error.at(candidate=path)
        self.undo(member, error)

    def fail(self, culprit: Member, error: ConfpyError) -> None:
        """Report a group that stays as it is: one member is at fault, the others are held."""
        self.discard(self.changed)
        name = culprit.resource.name
        kind = TargetError if isinstance(error, TargetError) else type(error)
        for member in self.members:
            if member is culprit:
                member.report_failed(error, torn=self.torn)
            else:
                message = f"held back: {name}, of its group {self.name}, failed"
                held = kind(message, resource=member.resource.name, target=member.resource.dest)
                member.report_held(held, torn=self.torn)

    def discard(self, members: Iterable[Member]) -> None:
        """Remove the candidates that did not become targets, and close the others."""
        for member in members:
            member.discard()

    def reset(self) -> None:
        """Forget a try that left nothing behind."""
        for member in self.members:
            member.reset()

    # --- the end ---------------------------------------------------------------------------------------------------

    def remove_old(self) -> None:
        """Remove the preserved old files, if nothing can need them any more."""
        if self.torn or self._may_roll_back:
            return
        for member in self.members:
            if member.old:
                self._context.disk.discard(member.old)

    @property
    def _may_roll_back(self) -> bool:
        """Whether its old files stay: until its reloads, or older ones of its group, have succeeded."""
        if not (self.committed and self.rollback and self.record and self.change is not None):
            return False
        return any(change.key for change in self.change.changes) or self._context.ledger.is_owing(self.id)


def first_counts(groups: Iterable[GroupDelivery]) -> Iterator[tuple[str, Counted]]:
    """Yield the counts that the ledger needs before targets are new, by resource; those of a record are in that."""
    for group in groups:
        for member in group.members:
            candidate = member.candidate
            if not (candidate.first_keys or candidate.first_parts) or member.staged is None:
                continue
            one = candidate.resource
            if candidate.first_keys and not group.needs_record:
                yield one.name, Counted(candidate.keys, "", one.reads, one.strip)
            for name, keys, reads in candidate.first_parts:  # no record has those
                yield name, Counted(keys, "", reads, one.strip)


def begin_record(groups: Sequence[GroupDelivery], context: Context) -> None:
    """Record what groups are about to do, with the reloads that they will owe. A failure is noted in their reports."""
    reloads: dict[str, ReloadSpec] = {}
    for group in groups:
        group.change = group.planned
        for member in group.recorded if context.reloads else ():
            if (spec := member.resource.reload_spec) is not None:
                known = reloads.get(spec.key, spec)
                runtime = spec.runtime if spec.runtime == known.runtime else None
                reloads[spec.key] = replace(spec, timeout=max(spec.timeout, known.timeout), runtime=runtime)
    try:
        wanted = [member.resource for group in groups for member in group.differing]
        reads = [(one.name, one.strip, one.reads) for one in wanted]
        record = context.ledger.begin([group.change for group in groups if group.change], reloads.values(), reads=reads)
    except OSError as error:
        for group in groups:
            group.note_unrecorded(error)
        return
    for group in groups:
        group.records.append(record)
        for member in group.recorded:
            member.tell("debug", "delivery.recorded", record=record)


def _change(member: Member, *, reloads: bool, preserves: bool) -> Change:
    """Return what the ledger records of one target. ``preserves``: its old file may have to be put back."""
    spec = member.resource.reload_spec if reloads else None
    item, owned = member.resource.item, member.candidate.owned
    return Change(
        member.resource.name,
        member.resource.dest,
        member.path,
        member.old_digest,
        None if member.candidate.gone else member.digest.hex(),
        member.candidate.keys,
        member.mark if preserves or member.in_place else "",
        spec.key if spec else "",
        member.in_place,
        of=item.of if item is not None else "",
        item=item.name if item is not None else "",
        ours=owned is not None and (owned.path, owned.digest) == (member.path, member.old_digest),
    )


def _torn(error: ConfpyError, reason: str) -> ConfpyError:
    """Return the error of a group that failed and could not be put back; of another step it keeps class and code."""
    kind = TargetTorn if isinstance(error, TargetError) else type(error)
    where = {name: value for name, value in error.where.items() if name != "did"}
    message = f"the target is torn: {error.message}, and what is new already cannot be put back"
    return kind(message, hint=reason, **where)
