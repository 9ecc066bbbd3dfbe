"""What must survive a restart: the deliveries that were begun, the reloads that are owed, how many keys there were.

One file per process, in the state folder of its confdir, to which entries are appended (``records.py`` has them,
``book.py`` what they mean). What must not be lost is flushed to disk before the action that it describes; the rest is
left to the kernel. A start takes over what processes that are gone have left (``restart.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from confpy.candidates import OwnedFile
from confpy.errors import ConfpyError
from confpy.events import LogEvent
from confpy.ledger.book import Book
from confpy.ledger.file import LedgerFile, adopt, sync_folders
from confpy.ledger.formats import Entry
from confpy.ledger.history import History
from confpy.ledger.locks import LOCKS, locked
from confpy.ledger.records import (
    GroupChange,
    Record,
    write_counts,
    write_owned,
    write_record,
    write_rejections,
    write_run,
)
from confpy.ledger.restart import Restart
from confpy.ledger.stamps import FEW, load, save
from confpy.messages import Counted, Recovered
from confpy.reload.spec import LastRun, Rejection, ReloadSpec, UnknownReload
from confpy.system.disk import Disk
from confpy.system.filenames import staged_for
from confpy.system.ownership import require_private
from confpy.target.look import digest_at
from confpy.target.replace import remove_old
from confpy.target.stamps import Stamps

OTHERS_TIME = 10.0
"""Seconds that the start waits for another confpy that delivers a target at this moment."""


class Ledger:
    """The ledger of one process. Without a folder it records nothing, and everything else goes on."""

    def __init__(
        self,
        folder: str | None = None,
        disk: Disk | None = None,
        *,
        guard: AbstractContextManager[object] | None = None,
        wall: Callable[[], float] = time.time,
        backend: str = "",
        root: str = "",
    ) -> None:
        """``guard``: keeps threads apart, if there are several; ``wall``: seconds since 1970.

        ``backend``, ``root``: the kind of store, and the tree to deliver into, that the counts of this process are of.
        """
        self.folder = folder or ""
        self.seen = ""
        """Without a folder: the one whose ledgers are read, and left as they are (noop)."""
        self.warning: ConfpyError | None = None
        """Why nothing is recorded."""
        self.history: History | None = None
        """Where deliveries are recorded for people; None: nowhere."""
        self.fewest_stamps = FEW
        """From so many targets on, what was learned of them is saved."""
        self._disk = disk or Disk()
        self._guard = guard or nullcontext()
        self._wall = wall
        self._backend = backend
        self._root = root
        self._book = Book()
        self._file = LedgerFile(self.folder, self._disk)
        self._stamps: Stamps | None = None
        self._numbers = 0
        self._left: set[int] = set()
        """Records whose deliveries are over, or of processes that are gone: what is open in them stays so."""

    @classmethod
    def open(
        cls,
        folder: str | None,
        disk: Disk,
        guard: AbstractContextManager[object] | None = None,
        *,
        wall: Callable[[], float] = time.time,
        backend: str = "",
        root: str = "",
    ) -> Ledger:
        """Return the ledger of a state folder; if that cannot be written, one that records nothing, with a warning."""
        if not folder:
            return cls(None, disk, guard=guard, wall=wall, backend=backend, root=root)
        try:
            disk.make_folder(folder)
            private = require_private(folder, disk, volumes=True)
            disk.close(disk.open_locks(os.path.join(private, LOCKS)))
        except OSError as error:
            ledger = cls(None, disk, guard=guard, wall=wall)
            ledger.warning = ConfpyError(
                f"the ledger cannot be used: {error.strerror}",
                hint="name a folder that confpy may write to (state_dir); until then a reload that fails is "
                "forgotten when confpy ends, and a delivery that is cut off is not recovered",
                folder=folder,
            )
            return ledger
        return cls(private, disk, guard=guard, wall=wall, backend=backend, root=root)

    @property
    def is_incomplete(self) -> bool:
        """Whether the file lacks what this process knows: the disk was full."""
        return self._file.is_incomplete

    def close(self, *, compares: bool = True) -> None:
        """Close the file; one that says nothing is removed.

        ``compares``: the counts of this process's store are wanted by a later start.
        """
        with self._guard:
            if self._file.is_open:
                self._file.close()
                self._book.forget_old(self._wall())
                waits = self._book.runs or self._book.rejections or self._book.owned
                if not (self._book.records or waits or self._has_counts(compares=compares)):
                    self._disk.discard(self._file.path)
                    sync_folders({self.folder}, self._disk)
                else:
                    self._save_stamps()

    def _has_counts(self, *, compares: bool) -> bool:
        if compares:
            return any(self._book.entries())
        return any(backend != self._backend for *_, backend in self._book.counts)

    # --- deliveries ------------------------------------------------------------------------------------------------

    def begin(
        self,
        groups: Iterable[GroupChange],
        reloads: Iterable[ReloadSpec | UnknownReload],
        *,
        is_rollback: bool = False,
        replaces: Iterable[tuple[int, str]] = (),
        reads: Iterable[tuple[str, str, tuple[str, ...]]] = (),
    ) -> int:
        """Record what is about to be done, durably; returns the record's number, 0 without a folder.

        Raises ``OSError`` if it cannot be written.
        """
        if not self.folder:
            return 0
        with self._guard:
            number = self._number()
            record = Record(
                number,
                self._wall(),
                tuple(groups),
                tuple(reloads),
                is_rollback,
                tuple(replaces),
                backend=self._backend,
                root=self._root,
                reads=tuple(reads),
            )
            self._add(write_record(record), durable=True)
            return number

    def in_place(self, record: int, path: str, mark: str) -> None:
        """Record, durably, that a target is about to be overwritten in place; raises ``OSError``."""
        if record:
            with self._guard:
                self._add({"op": "in place", "record": record, "path": path, "mark": mark}, durable=True)

    def check_passed(self, groups: Iterable[tuple[int, str]]) -> None:
        """Record, durably, that the check of swapped-in groups (record and name) has passed: of all of them or none.

        Raises ``OSError``.
        """
        if known := [(record, group) for record, group in groups if record]:
            with self._guard:
                self._add({"op": "checked", "groups": known}, durable=True)

    def done(self, record: int, failed: Iterable[str] = (), *, plain: bool = False) -> None:
        """Record the end of a record, and which of its groups did not become new.

        ``plain``: each target was renamed by itself, so that its content alone shows it; that needs no line.
        """
        if record:
            entry: Entry = {"op": "done", "record": record, "failed": list(failed)}
            with self._guard:
                for older, groups in self._book.over(record, entry["failed"], self._left):
                    names = [group.name for group in groups]
                    self._add_lazily({"op": "taken", "record": older, "groups": names}, durable=True)
                    for change in (change for group in groups for change in group.changes if change.mark):
                        self._remove_old(change.path, change.mark)
                self._book.apply(entry) if plain else self._add_lazily(entry)

    def leave(self, record: int) -> None:
        """Leave a record open: one of its groups is torn. A record that takes its targets ends it."""
        self._left.add(record)

    def is_owing(self, group: str) -> bool:
        """Return whether a group was delivered, and a reload of it is still owed."""
        with self._guard:
            return self._book.is_owing(group)

    def to_undo(self, key: str) -> list[tuple[Record, GroupChange]]:
        """Return what was delivered since a reload last succeeded, and can be undone, in its order."""
        with self._guard:
            return self._book.to_undo(key)

    @property
    def stamps(self) -> Stamps:
        """What is known of the content of targets."""
        if self._stamps is None:
            with self._guard:
                self._stamps = self._stamps or load(self.folder, self._disk)
        return self._stamps

    def save_stamps(self) -> None:
        """Save what was learned of targets, for the next start."""
        with self._guard:
            if self._file.is_open:  # else nothing of this process is to stay in the folder
                self._save_stamps()

    def _save_stamps(self) -> None:
        if self._stamps is not None:
            save(self._stamps, self.folder, self._disk, self.fewest_stamps)

    def locked(self, paths: Iterable[str], seconds: float) -> AbstractContextManager[frozenset[str]]:
        """Lock targets against other processes; the context is those paths that were free within the time."""
        return locked(self.folder, paths, seconds, self._disk)

    # --- reloads and counts ----------------------------------------------------------------------------------------

    def clear(self, key: str, records: Iterable[int]) -> None:
        """Record that these records no longer owe a reload; the old files that it might have needed are removed."""
        known = [number for number in records if number]
        if not self.folder or not known:
            return
        with self._guard:
            freed = self._book.freed(key, known)
            # If a power cut took it away, a rollback would go back behind the files that were read.
            self._add_lazily({"op": "cleared", "key": key, "records": known}, durable=bool(freed))
            for change in freed:
                self._remove_old(change.path, change.mark)
            self._shorten()

    def runs(self, key: str, failures: int, interval: float) -> None:
        """Record that a reload is about to run, so that the next start knows of it if this process ends within it.

        ``failures``: how many runs in a row have not succeeded, this one included. Not flushed: a power cut takes away
        the number of a try, and with it a wait.
        """
        if self._file.is_open:
            with self._guard:
                self._add_lazily(write_run(key, LastRun(self._wall(), failures, interval)))

    def rejected(self, rejections: Mapping[str, Rejection | None]) -> None:
        """Record, durably, which contents were rejected and rolled back; None: forget that."""
        if self.folder:
            with self._guard:
                self._add_lazily(write_rejections(rejections), durable=any(rejections.values()))

    def counted(self, counts: Mapping[str, Counted], identity: str, revision: int, store: str = "") -> None:
        """Record how many keys resources had, and the store that they came from; ``store``: a mounted one, by name."""
        if self.folder:
            with self._guard:
                known = {name: self._book.counts.get((self._root, name, self._backend)) for name in counts}
                # That there were any must not be lost: how many there are by now may be.
                first = any(it.keys and not ((old := known[name]) and old.keys) for name, it in counts.items())
                of, state = store or self._backend, (identity, revision)
                self._add_lazily(write_counts(counts, self._root, of, state, self._wall()), durable=first)
                self._shorten()

    def count_first(self, counts: Iterable[tuple[str, Counted]]) -> None:
        """Record, durably, how many keys resources have whose targets are about to be made from the first ones."""
        if found := dict(counts):
            with self._guard:
                store = self._book.store_of(self._backend)
                self._add_lazily(write_counts(found, self._root, self._backend, store, self._wall()), durable=True)

    def own(self, files: Sequence[OwnedFile], dests: Sequence[str]) -> None:
        """Record which files were made of items, and which targets are ours no more."""
        if self.folder:
            with self._guard:
                self._add_lazily(write_owned(files, dests, self._root))

    # --- the start -------------------------------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Take over what processes that are gone have left: end what was cut off, drop what is no longer owed.

        Killed at any step, and started again, it ends the same.
        """
        if not self.folder:
            if not self.seen:
                return Recovered()
            from confpy.ledger.peek import owned_files  # only a run that changes nothing looks so

            return Recovered(owned=owned_files(self.seen, self._root, self._disk))
        restart = Restart(self.folder, self._disk, self._number, self._wall)
        notes = restart.notes
        try:
            with self._guard:
                self._recover(restart)
        except OSError as error:
            fields = {"error": error.strerror or str(error), "folder": self.folder, "record": "ledger"}
            notes.append(LogEvent("warning", "state.not_saved", fields))
        book = self._book
        identity, revision = book.store_of(self._backend)
        return Recovered(
            book.owed(),
            book.counts_of(self._root),
            identity,
            revision,
            book.mounted_stores(),
            tuple(notes),
            runs=dict(book.runs),
            rejections=self._rejections(),
            in_place=book.in_place(),
            owned=book.owned_in(self._root),
        )

    def _recover(self, restart: Restart) -> None:
        files = adopt(self.folder, self._file.path, self._disk, restart.notes)
        merged = restart.merge(self._book, files)
        paths = sorted({change.path for record in merged.records.values() for change in record.changes})
        with self.locked(paths, OTHERS_TIME) as free:
            if len(free) < len(paths):
                for file in files:
                    self._disk.close(file.descriptor)
                fields = {"did": "left it to the next start", "targets": len(paths)}
                restart.notes.append(LogEvent("warning", "state.busy", fields))
                return
            plans = restart.settle(merged, paths)
            restart.remove_old_files(merged, files)
            merged.forget_old(self._wall())
            self._book = merged
            self._left.update(merged.records)
            try:
                self._file.replace([*merged.entries()], files)
            finally:  # what is half new is put back, even if that cannot be recorded
                for plan in plans:
                    if restart.put_back(plan):
                        self._add_lazily({"op": "done", "record": plan.record.number, "failed": []})
        for name in self._disk.names(self.folder):
            if staged_for(name) is not None:
                self._disk.remove_if_abandoned(os.path.join(self.folder, name))

    def _rejections(self) -> dict[str, Rejection]:
        """Return the rejected contents whose targets still have what was put back: others are no longer held back."""
        in_place = self._book.in_place()
        return {
            name: it
            for name, it in self._book.rejections.items()
            if name in in_place or digest_at(it.path, self._disk) == it.back
        }

    # --- the file --------------------------------------------------------------------------------------------------

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _remove_old(self, path: str, mark: str) -> None:
        remove_old(path, mark, self._disk, self.folder)

    def _add(self, entry: Entry, *, durable: bool) -> None:
        """Write an entry, then apply it; raises ``OSError``."""
        if self._file.is_incomplete:
            self._file.replace([*self._book.entries()])
        self._file.append(entry, durable=durable)
        self._book.apply(entry)

    def _add_lazily(self, entry: Entry, *, durable: bool = False) -> None:
        """Write an entry without which a reload runs once too often, and apply it in any case."""
        try:
            self._add(entry, durable=durable)
        except OSError:
            self._book.apply(entry)
            self._file.is_incomplete = True

    def _shorten(self) -> None:
        if self._file.is_long:
            with suppress(OSError):
                self._file.replace([*self._book.entries()])
