"""One candidate on its way to its target, and the report of it."""

from __future__ import annotations

import os
import time

from confpy.candidates import Candidate, DeliveredState, Outcome, Report
from confpy.config.resource import Resource
from confpy.delivery.context import Context
from confpy.errors import ConfpyError, TargetError, forget_frames
from confpy.events import Level, LogEvent
from confpy.frozen import define, field, replace
from confpy.history.records import UNDO, Previous
from confpy.system.disk import token
from confpy.system.placeholders import command_line
from confpy.target.failures import failure
from confpy.target.look import Current, Wanted, differences, digest, look, require_own_file, why_it_stays
from confpy.target.replace import back_up, preserve_old, put_back, write_stream
from confpy.target.stage import NOT_BESIDE, Staged, changes, close, discard, stage, stage_apart
from confpy.target.stamps import stamp


@define
class Member:
    """A candidate of a group. Its methods raise ``TargetError``; what follows for the group is decided there."""

    candidate: Candidate
    context: Context
    current: Current | None = None
    differs: list[str] = field(default_factory=list)
    """What differs from what it should be."""
    staged: Staged | None = None
    old: str = ""
    """Where the old file is preserved."""
    status: os.stat_result | None = None
    """What was put in place."""
    notes: list[str] = field(default_factory=list)
    """What to report of it if it is only checked (noop)."""
    report: Report | None = None
    previous: Previous | None = None
    """What the target was, for the history."""
    _mark: str = ""
    _digest: bytes = b""
    _old_digest: str | None = ""

    @property
    def mark(self) -> str:
        """Part of the name of the old file. It stays the same in a second try: the ledger holds it."""
        self._mark = self._mark or token()
        return self._mark

    @property
    def digest(self) -> bytes:
        """That of the candidate's content."""
        self._digest = self._digest or digest(self.candidate.content)
        return self._digest

    @property
    def old_digest(self) -> str | None:
        """That of what the target was, as the ledger stores it; None if there was no file."""
        if self._old_digest == "":
            self._old_digest = self.before.digest
        return self._old_digest

    @property
    def resource(self) -> Resource:
        return self.candidate.resource

    @property
    def before(self) -> Current:
        """What the target was, once it has been looked at."""
        assert self.current is not None
        return self.current

    @property
    def path(self) -> str:
        return self.before.path

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)

    @property
    def source(self) -> str:
        """Where a check finds what is to be checked."""
        path = self.staged.path if self.staged is not None and self.status is None else ""
        return path or self.resource.dest

    @property
    def in_place(self) -> bool:
        """Whether its target is written in place."""
        return self.staged is not None and self.staged.in_place

    # --- before it is in place -------------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare the target with the candidate."""
        context = self.context
        self._old_digest = ""
        if self.candidate.gone:
            self._look_at_gone()
            return
        if self.candidate.twin:
            require_own_file(self.resource, self.candidate.twin, context.folders)
        wanted = Wanted(self.candidate.content, self.digest, context.ledger.stamps, self.current)
        current = self.current = look(self.resource, context.disk, context.folders, wanted)
        there = current.status is not None and not current.stream
        stays = self.candidate.only_missing and there
        stays = stays or (self.resource.write_once and (there or current.linked))
        written = current.stream and self.candidate.delivered == self.digest
        self.differs = [] if stays or written else differences(self.resource, current, self.candidate.content)
        if self.candidate.again and not stays:
            self.differs = self.differs or [self.candidate.again]

    def _look_at_gone(self) -> None:
        """Compare a target that is to be removed with what was delivered: what is not as it was stays."""
        current = self.current = look(self.resource, self.context.disk, self.context.folders)
        is_there = current.status is not None or current.linked
        link = self.context.disk.read_link(self.resource.dest) is not None
        reason = why_it_stays(self.candidate.owned, current, self.old_digest, link=link) if is_there or link else ""
        self.differs = ["to be removed"] if is_there and not reason else []
        self.notes = [f"its key is gone, but {reason}: the file stays, and is not confpy's any more"] * bool(reason)

    def stage(self, *, inspected: bool) -> None:
        """Write the candidate beside its target, unless it would change nothing.

        ``inspected``: a stream has no file beside it, but checks or people are to read the candidate.
        """
        disk, content = self.context.disk, self.candidate.content
        if self.candidate.gone:
            self.staged = Staged(self.resource, self.before, content, "", -1)
            return
        if self.before.stream:
            bare = Staged(self.resource, self.before, content, "", -1)
            self.staged = self._stage_apart() if inspected else bare
            return
        staged = stage(self.resource, self.before, content, disk, self.context.ledger.folder)
        self.tell("debug", "target.staged", staged=staged.path, bytes=len(content))
        if self.before.content != content or self.candidate.again:
            self.staged = staged
            return
        try:
            status = disk.fstat(staged.descriptor)
        except OSError as error:
            discard(staged, disk)
            raise failure("the candidate cannot be looked at", self.resource, error) from error
        if changes(staged, status):
            self.staged = staged
        else:
            discard(staged, disk)
            self.differs = []

    def stage_to_check(self) -> None:
        """Stage a candidate that is only checked (noop): beside its target, else in a temporary folder."""
        if self.candidate.gone:
            return
        if self.before.stream or self.context.disk.stat(self.folder) is None:
            self.staged = self._stage_apart()
            return
        try:
            self.staged = stage(self.resource, self.before, self.candidate.content, self.context.disk)
        except TargetError as error:
            reason = error.__cause__
            if not isinstance(reason, OSError) or reason.errno not in NOT_BESIDE:
                raise
            self.notes.append(
                f"checked in a temporary folder: nothing can be put into {self.folder} ({reason.strerror})"
            )
            self.staged = self._stage_apart()

    def _stage_apart(self) -> Staged:
        """Stage a candidate that is only checked in a folder of confpy's."""
        folder = self.context.ledger.folder
        try:
            folder = folder or self.context.private.path
        except OSError as error:
            raise failure("no temporary folder can be made", self.resource, error) from error
        staged = stage_apart(self.resource, self.before, self.candidate.content, self.context.disk, folder)
        self.tell("debug", "target.staged", staged=staged.path, bytes=len(self.candidate.content))
        return staged

    def sync(self) -> None:
        """Flush the candidate to disk."""
        if self.staged is not None and self.staged.descriptor >= 0:
            try:
                self.context.disk.sync(self.staged.descriptor)
            except OSError as error:
                raise failure("the candidate cannot be synced", self.resource, error) from error

    def discard(self) -> None:
        """Remove a candidate that did not become its target, and close one that did."""
        if self.staged is None or self.staged.descriptor < 0:
            return
        if self.status is None:
            discard(self.staged, self.context.disk)
        else:
            close(self.staged, self.context.disk)

    def leave_staged(self) -> str:
        """Close the candidate and leave its file for inspection; returns its path, empty if it is not staged."""
        if self.staged is None or self.status is not None:
            return ""
        close(self.staged, self.context.disk)
        return self.staged.path

    def tell(self, level: Level, event: str, **fields: object) -> None:
        """Log a step, where somebody reads them."""
        if (tell := self.context.rules.tell) is not None:
            tell(LogEvent(level, event, {"resource": self.resource.name, "file": self.source, **fields}))

    def remove(self) -> os.stat_result:
        """Remove the target; returns what it was."""
        status = self.before.status
        assert status is not None
        try:
            self.context.disk.remove(self.path)
        except OSError as error:
            raise failure("the target cannot be removed", self.resource, error) from error
        return status

    def put(self, status: os.stat_result) -> None:
        """Take it that the candidate is in its target's place."""
        self.status = status
        how = "removed" if self.candidate.gone else "written in place" if self.in_place else "renamed"
        self.tell("debug", "target.replaced", how=how)

    # --- in place --------------------------------------------------------------------------------------------------

    def preserve(self) -> None:
        """Preserve the old file."""
        assert self.staged is not None
        self.old = preserve_old(self.staged, self.mark, self.context.disk, self.context.ledger.folder)

    def back_up(self) -> None:
        """Copy the old file to the newest backup, if the resource asks for it."""
        if self.resource.backup:
            try:
                back_up(self.before, self.resource.backup, self.context.disk, self.context.ledger.folder)
            except OSError as error:
                raise failure("the old version cannot be saved", self.resource, error) from error

    def keep_previous(self) -> None:
        """Take for the history what the target is, as a second name of the old file where that is possible."""
        history, resource, current = self.context.ledger.history, self.resource, self.before
        if history is None:
            return
        kept, content = "", None
        if resource.keeps_content and self.candidate.trigger != UNDO and current.content is not None:
            # Without a digest it could not be seen whether somebody has written to the old file meanwhile.
            if not (resource.sensitive or self.in_place):
                kept = history.keep(self.path, len(current.content))
            content = None if kept else current.content
        known = "" if resource.sensitive or current.linked else self.old_digest
        status = current.status
        what = (current.mode, status.st_uid, status.st_gid) if status is not None else (0, -1, -1)
        self.previous = Previous(self.path, known, *what, kept, content)

    def drop_previous(self, *, is_overwritten: bool = False) -> None:
        """Forget the second name of the old file: it is back, or (``is_overwritten``) is written in place."""
        history = self.context.ledger.history
        if self.previous is not None and history is not None and self.previous.kept:
            history.discard(self.previous.kept)
            content = self.before.content if is_overwritten else None
            self.previous = replace(self.previous, kept="", content=content)

    def write_stream(self) -> None:
        write_stream(self.resource, self.before, self.candidate.content, self.context.disk)
        self.tell("debug", "target.replaced", how="written as a stream")
        self.discard()
        self.status = self.before.status

    def put_back(self) -> None:
        """Put the old file back; raises ``OSError``."""
        put_back(self.path, self.old, self.context.disk, in_place=self.in_place)
        self.status, self.old = None, ""

    def reset(self) -> None:
        """Forget a try that left nothing behind."""
        self.staged, self.status, self.old = None, None, ""

    # --- its report ------------------------------------------------------------------------------------------------

    def report_unchanged(self) -> None:
        current = self.before
        if self.candidate.gone:
            self._report("unchanged", notes=tuple(self.notes))
            return
        if current.stream:
            known = DeliveredState(self.candidate.delivered, None)
        else:
            identity = stamp(current.status) if current.status else None
            same = current.content == self.candidate.content
            known = DeliveredState(self.digest if same else digest(current.content or b""), identity)
        self._report("unchanged", known=known)

    def report_delivered(self, record: int) -> None:
        """Report a candidate that is in place, one that changed nothing included."""
        if self.staged is None or self.status is None:
            self.report_unchanged()
            return
        if self.candidate.gone:
            self._report("changed", record=record)
            return
        identity = None if self.before.stream else stamp(self.status)
        known = DeliveredState(self.digest, identity)
        if self.candidate.again or changes(self.staged, self.status):
            self._report("changed", known=known, notes=tuple(self.staged.notes), record=record)
        else:
            self.drop_previous()
            self._report("unchanged", known=known)

    def report_would_change(self, *, swap: bool) -> None:
        """Report what a delivery would do (noop). ``swap``: its check needs it in its place, and was not run."""
        needs_folder = not (self.candidate.gone or self.resource.mkdir or self.before.stream)
        if needs_folder and not self.context.disk.stat(self.folder):
            self.notes.append(f"a delivery would fail: there is no {self.folder} (mkdir = true makes it)")
        check = self.resource.check_cmd if swap else None
        self._report(
            "would change",
            notes=tuple(self.notes),
            differs=tuple(self.differs),
            unchecked=command_line(check) if check is not None else "",
        )

    def report_failed(self, error: ConfpyError, *, torn: bool) -> None:
        self._report("failed", error=error.at(resource=self.resource.name), torn=torn)

    def report_held(self, error: ConfpyError, *, torn: bool) -> None:
        """Report a member that is not at fault, but stays as it is."""
        self._report("held", error=error, torn=torn)

    def add_note(self, note: str) -> None:
        """Add a note to the report that has been made."""
        assert self.report is not None
        self.report = replace(self.report, notes=(*self.report.notes, note))

    def _report(
        self,
        outcome: Outcome,
        *,
        error: ConfpyError | None = None,
        known: DeliveredState | None = None,
        notes: tuple[str, ...] = (),
        record: int = 0,
        torn: bool = False,
        differs: tuple[str, ...] = (),
        unchecked: str = "",
    ) -> None:
        if error is not None:
            forget_frames(error)
        took = time.monotonic() - self.context.began
        name = self.resource.name
        previous = self.previous if outcome == "changed" else None
        old = self.old_digest or "" if outcome == "changed" and not self.before.stream else ""
        path = self.path if self.resource.item is not None and self.current is not None else ""
        facts = (notes, record, torn, differs, unchecked, took, old, previous, path)
        self.report = Report(name, outcome, error, known, *facts)
