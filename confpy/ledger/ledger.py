"""What must survive a restart: the deliveries that were begun, the reloads that are owed, how many keys there were.

One file a process, in the state folder of its confdir: lines that are only ever added (``repair.py`` knows what they
mean). What must not be lost is synced before the deed that it speaks of; the rest is written and left to the kernel.
A lock tells that the process lives; what the dead left is taken over at the next start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from confpy.errors import ConfpyError, TargetTorn
from confpy.events import LogEvent
from confpy.frozen import frozen
from confpy.ledger.records import (
    FORMAT,
    Book,
    Debt,
    Deed,
    Entry,
    Record,
    Verdict,
    end,
    judge,
    prune,
    read_lines,
    read_old_files,
    undoing,
    write_counts,
    write_line,
    write_record,
    write_rejections,
    write_run,
)
from confpy.messages import Counted, LastRun, Recovered, Rejection
from confpy.system.disk import Disk, token
from confpy.system.filenames import staged_for
from confpy.system.ownership import require_private
from confpy.target.look import digest, digest_at
from confpy.target.replace import old_paths, put_back, remove_old

NAME, ENDING = "ledger-", ".log"
HEAD: Entry = {"ledger": FORMAT}
LARGE = 1 << 20
"""Bytes above which a ledger is written anew, without what is over."""
LOCKS = "targets.lock"
PLACES = 1 << 62
"""Bytes of the file of locks, none of which is ever written."""
PATIENCE = 30.0
"""Seconds that a delivery waits, at least, for another confpy that delivers the same target."""
BUSY = "another confpy delivers this target"
OTHERS_TIME = 10.0
"""Seconds that the start waits for another confpy that delivers a target at this moment."""


@frozen
class _File:
    """A ledger, open and locked."""

    path: str
    descriptor: int
    content: bytes = b""


class Ledger:
    """The ledger of one process. Without a folder it keeps nothing, and all else goes on."""

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
        """``guard``: what keeps threads apart, where there are several; ``wall``: seconds since 1970.

        ``backend``, ``root``: the kind of store, and the tree to deliver into, that the counts of this process are of.
        """
        self.folder = folder or ""
        self.warning: ConfpyError | None = None
        """Why nothing is kept, or not everything."""
        self._disk = disk or Disk()
        self._guard = guard or nullcontext()
        self._wall = wall
        self._backend = backend
        self._root = root
        self._book = Book()
        self._path = ""
        self._file = -1
        self._size = 0
        self._shortest = 0
        """Bytes of it when it was last written anew."""
        self._numbers = 0
        self._lacks = False
        """It does not say all that is believed: the disk was full."""
        self._left: set[int] = set()
        """Records whose deliveries are over, or of processes that are no more: what is open in them stays so."""

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
        """Return the ledger of a state folder; one that keeps nothing, and says so, where that cannot be written."""
        ledger = cls(folder, disk, guard=guard, wall=wall, backend=backend, root=root)
        if folder:
            try:
                disk.make_folder(folder)
                ledger.folder = require_private(folder, disk, volumes=True)
                disk.close(disk.open_locks(os.path.join(ledger.folder, LOCKS)))
            except OSError as error:
                ledger = cls(None, disk, guard=guard, wall=wall)
                ledger.warning = ConfpyError(
                    f"the ledger cannot be used: {error.strerror}",
                    hint="name a folder that confpy may write to (state_dir); until then a reload that fails is "
                    "forgotten when confpy ends, and a delivery that is cut off is not mended",
                    folder=folder,
                )
        return ledger

    def close(self, *, compares: bool = True) -> None:
        """Let go of the file; one that says nothing is removed.

        ``compares``: the counts of this process's store are wanted by a later start.
        """
        with self._guard:
            if self._file >= 0:
                self._disk.close(self._file)
                self._file = -1
                self._book.forget_old(self._wall())
                waits = self._book.runs or self._book.rejections
                if not (self._book.records or waits or self._has_counts(compares=compares)):
                    self._disk.discard(self._path)
                    self._sync_folders({self.folder})

    def _has_counts(self, *, compares: bool) -> bool:
        if compares:
            return any(self._book.entries())
        return any(backend != self._backend for *_, backend in self._book.counts)

    # --- deliveries ------------------------------------------------------------------------------------------------

    def begin(
        self,
        deeds: Iterable[Deed],
        debts: Iterable[Debt],
        *,
        restores: bool = False,
        instead: Iterable[tuple[int, str]] = (),
        reads: Iterable[tuple[str, str, tuple[str, ...]]] = (),
    ) -> int:
        """Note what is about to be done, durably; returns the record's number, 0 where nothing is kept.

        Raises ``OSError`` where it cannot be written.
        """
        if not self.folder:
            return 0
        with self._guard:
            number = self._next()
            record = Record(
                number,
                self._wall(),
                tuple(deeds),
                tuple(debts),
                restores,
                tuple(instead),
                backend=self._backend,
                root=self._root,
                reads=tuple(reads),
            )
            self._add(write_record(record), durable=True)
            return number

    def in_place(self, record: int, path: str, mark: str) -> None:
        """Note, durably, that a target is about to be written where it stands; raises ``OSError``."""
        if record:
            with self._guard:
                self._add({"op": "in place", "record": record, "path": path, "mark": mark}, durable=True)

    def passed(self, groups: Iterable[tuple[int, str]]) -> None:
        """Note, durably, that groups on trial (record and name) are right: all of them or none; raises ``OSError``."""
        if known := [(record, group) for record, group in groups if record]:
            with self._guard:
                self._add({"op": "passed", "groups": known}, durable=True)

    def done(self, record: int, failed: Iterable[str] = (), *, plain: bool = False) -> None:
        """Note that a record came to its end, and which of its groups did not become new.

        ``plain``: each target was renamed by itself, so that its content alone will tell; that needs no line.
        """
        if record:
            entry: Entry = {"op": "done", "record": record, "failed": list(failed)}
            with self._guard:
                for older, deeds in self._book.over(record, entry["failed"], self._left):
                    groups = [deed.group for deed in deeds]
                    self._add_lazily({"op": "taken", "record": older, "groups": groups}, durable=True)
                    for change in (change for deed in deeds for change in deed.changes if change.mark):
                        self._forget(change.path, change.mark)
                self._book.apply(entry) if plain else self._add_lazily(entry)

    def leave(self, record: int) -> None:
        """Leave a record open: one of its groups is torn. Whatever takes up its targets is the end of it."""
        self._left.add(record)

    def is_unpaid(self, group: str) -> bool:
        """Say whether a group has been delivered, and a reload of it is still owed."""
        with self._guard:
            return self._book.is_unpaid(group)

    def to_undo(self, key: str) -> list[tuple[Record, Deed]]:
        """Return what was delivered since a reload last succeeded, and may be taken back, in its order."""
        with self._guard:
            return self._book.rolls_back(key)

    # --- debts and counts ------------------------------------------------------------------------------------------

    def paid(self, key: str, records: Iterable[int]) -> None:
        """Note that a reload is owed no more by these records; the old files that it might have wanted go."""
        known = [number for number in records if number]
        if not self.folder or not known:
            return
        with self._guard:
            freed = self._book.freed(key, known)
            # Forgotten by a power cut, a rollback would go back behind the files that were read.
            self._add_lazily({"op": "paid", "key": key, "records": known}, durable=bool(freed))
            for change in freed:
                self._forget(change.path, change.mark)
            self._shorten()

    def runs(self, key: str, failures: int, interval: float) -> None:
        """Note that a reload is about to run, so that the next start knows of it where this process ends within it.

        ``failures``: how many runs in a row have not succeeded, this one included. Not synced: what a power cut takes
        away is the number of a try, and with it a wait.
        """
        if self._file >= 0:
            with self._guard:
                self._add_lazily(write_run(key, LastRun(self._wall(), failures, interval)))

    def rejected(self, rejections: Mapping[str, Rejection | None]) -> None:
        """Note, durably, which contents were refused and rolled back; None: forget that."""
        if self.folder:
            with self._guard:
                self._add_lazily(write_rejections(rejections), durable=any(rejections.values()))

    def counted(self, counts: Mapping[str, Counted], identity: str, revision: int) -> None:
        """Note how many keys resources had, and of which store they came."""
        if self.folder:
            with self._guard:
                known = {name: self._book.counts.get((self._root, name, self._backend)) for name in counts}
                # That there were any is what must not be lost: how many they are by now may be.
                first = any(it.keys and not ((old := known[name]) and old.keys) for name, it in counts.items())
                store = (identity, revision)
                self._add_lazily(write_counts(counts, self._root, self._backend, store, self._wall()), durable=first)
                self._shorten()

    # --- locks -----------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, paths: Iterable[str], seconds: float) -> Iterator[frozenset[str]]:
        """Keep other processes away from targets; yields those paths that were free within the time."""
        if not self.folder:
            yield frozenset(paths)
            return
        places = {path: int.from_bytes(digest(os.fsencode(path))[:8], "big") % PLACES for path in paths}
        try:
            descriptor = self._disk.open_locks(os.path.join(self.folder, LOCKS))
        except OSError:  # the folder is gone, no descriptor is left: a delivery is worth more than its lock
            yield frozenset(places)
            return
        try:
            # In one order for all: two that wait for each other would wait for ever.
            got = set(places.values())
            with suppress(OSError):  # a file system that cannot lock now: as above
                got = self._disk.lock(descriptor, sorted(got), seconds)
            yield frozenset(path for path, place in places.items() if place in got)
        finally:
            self._disk.close(descriptor)

    # --- the start -------------------------------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Take over what the dead left: end what was cut off, drop what is owed for contents that are gone.

        Killed at any step, and started again, it ends the same.
        """
        if not self.folder:
            return Recovered()
        notes: list[LogEvent] = []
        try:
            with self._guard:
                self._recover(notes)
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
            tuple(notes),
            runs=dict(book.runs),
            rejections=self._rejections(),
            in_place=book.in_place(),
        )

    def _rejections(self) -> dict[str, Rejection]:
        """Return the refused contents in whose places the files from before still are: else nothing is to be kept."""
        in_place = self._book.in_place()
        return {
            name: it
            for name, it in self._book.rejections.items()
            if name in in_place or digest_at(it.path, self._disk) == it.back
        }

    def _recover(self, notes: list[LogEvent]) -> None:
        files = self._adopt(notes)
        merged = self._merge(files)
        paths = sorted({change.path for record in merged.records.values() for change in record.changes})
        with self.locked(paths, OTHERS_TIME) as free:
            if len(free) < len(paths):
                for file in files:
                    self._disk.close(file.descriptor)
                notes.append(
                    LogEvent("warning", "state.busy", {"did": "left it to the next start", "targets": len(paths)})
                )
                return
            to_do = self._judge(merged, {path: digest_at(path, self._disk) for path in paths}, notes)
            marks = merged.marks()
            # Also those that were removed already: a power cut may have brought them back.
            over = [old for file in files for old in read_old_files(file.content) if old[1] not in marks]
            for path, mark in dict.fromkeys(over):
                self._forget(path, mark)
            # For good, before the ledger that speaks of them goes.
            self._sync_folders({self.folder, *(os.path.dirname(path) for path, _ in over)} if over else ())
            merged.forget_old(self._wall())
            self._book = merged
            self._left.update(merged.records)
            try:
                self._write_anew(files)
            finally:  # what is half new is put back, also where that cannot be noted
                for verdict in to_do:
                    self._put_back(verdict, notes)
        self._sweep()

    def _adopt(self, notes: list[LogEvent]) -> list[_File]:
        """Lock the ledgers of the dead."""
        files = []
        for name in sorted(self._disk.names(self.folder)):
            path = os.path.join(self.folder, name)
            if not name.startswith(NAME) or not name.endswith((ENDING, f".v{FORMAT}")) or path == self._path:
                continue
            descriptor = self._disk.adopt(path)
            if descriptor is None:
                continue
            content = self._disk.read(path)
            version = next(read_lines(content), HEAD).get("ledger")
            if version == FORMAT:
                # What is done now rests on it: its process may have died before it was on the platter.
                self._disk.sync(descriptor)
                files.append(_File(path, descriptor, content))
                continue
            aside = f"{path.removesuffix(ENDING)}.v{version}" if isinstance(version, int) else f"{path}.set-aside"
            self._disk.rename(path, aside)
            self._disk.close(descriptor)
            fields = {"error": "it was written by another version of confpy", "file": aside, "record": "ledger"}
            notes.append(LogEvent("warning", "state.quarantined", fields))
        if files:
            self._disk.sync_folder(self.folder)
        return files

    def _merge(self, files: list[_File]) -> Book:
        """Return one book of all that the files say, its records numbered anew."""
        books = [self._book]
        for file in files:
            book = Book()
            for entry in read_lines(file.content):
                # The head, or an entry whose record went with a torn line.
                with suppress(LookupError, TypeError, ValueError, AttributeError):
                    book.apply(entry)
            books.append(book)
        merged = Book()
        for book in sorted(books, key=lambda book: book.at):
            merged.take(book, self._next)
        return merged

    def _judge(self, book: Book, found: dict[str, str | None], notes: list[LogEvent]) -> list[Verdict]:
        """End the records that are open, as far as that is a matter of words; returns what is to be put back.

        Whatever is put back is a record of its own before it is done: it may be cut off, too, and the programs may have
        read what is there now.
        """
        kept: dict[str, str] = {}
        folders = set()
        for record in book.records.values():
            for change in () if record.done else record.changes:
                wanted = change.new if record.restores else change.old
                for place in old_paths(change.path, change.mark, self.folder) if change.mark else ():
                    link = wanted is None and self._disk.read_link(place) is not None
                    if link or (wanted is not None and digest_at(place, self._disk) == wanted):
                        kept[change.mark] = place
                folders.add(os.path.dirname(change.path))
                with suppress(OSError):
                    if change.in_place and found[change.path]:
                        self._sync(change.path)
        self._sync_folders(folders)
        to_do = []
        for verdict in [*judge(book, found, kept)]:
            notes += (_torn(it.resource, it.dest, "the old file is gone") for it in verdict.lost)
            notes += _told(verdict)
            record, restores = verdict.record, verdict.record.restores
            found.update((it.change.path, it.change.new if restores else it.change.old) for it in verdict.steps)
            if not verdict.lost and not (restores and verdict.steps):
                end(book, record, found)
            if verdict.steps and not restores:
                verdict = undoing(verdict, self._next(), self._wall())  # noqa: PLW2901 - what is done about it
                book.records[verdict.record.number] = verdict.record
            if verdict.steps:
                to_do.append(verdict)
        prune(book, found)
        return to_do

    def _put_back(self, verdict: Verdict, notes: list[LogEvent]) -> None:
        """Do what was decided, and end the record where that was all."""
        whole = not verdict.lost
        for step in verdict.steps:
            change = step.change
            try:
                if step.kept and change.in_place:
                    self._sync(step.kept)
                put_back(change.path, step.kept, self._disk, in_place=change.in_place)
            except OSError as error:
                whole = False
                notes.append(_torn(change.resource, change.dest, error.strerror or str(error)))
        self._sync_folders({os.path.dirname(step.change.path) for step in verdict.steps})
        if whole:
            for step in verdict.steps:
                self._forget(step.change.path, step.change.mark)
            self._add_lazily({"op": "done", "record": verdict.record.number, "failed": []})

    def _sync(self, path: str) -> None:
        """Bring a file and its name to the platter: whoever wrote it died, perhaps before that."""
        descriptor = self._disk.open_existing(path)
        try:
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._disk.sync_folder(os.path.dirname(path))

    def _write_anew(self, files: list[_File]) -> None:
        """Make one ledger of several, or a short one of a long one. The new one is whole before an old one goes."""
        entries = [*self._book.entries()]
        content = b"".join(map(write_line, [HEAD, *entries]))
        if entries and self._file < 0 and len(files) == 1 and files[0].content.startswith(content):
            # It says so already, but for a torn end: it is taken over as it is.
            self._path, self._file, self._size = files[0].path, files[0].descriptor, len(content)
            self._disk.truncate(self._file, self._size)
            return
        if self._file >= 0:
            files = [*files, _File(self._path, self._file)]
        if entries:
            self._create(entries)
        else:
            self._file = -1
        self._lacks = False
        for file in files:
            self._disk.discard(file.path)
            self._disk.close(file.descriptor)
        # No power cut shall bring back a ledger that is over: it would be believed.
        self._sync_folders({self.folder})

    def _sync_folders(self, folders: Iterable[str]) -> None:
        for folder in sorted(folders):
            with suppress(OSError):
                self._disk.sync_folder(folder)

    def _sweep(self) -> None:
        """Remove the candidates that the dead left in our folder."""
        for name in self._disk.names(self.folder):
            if staged_for(name) is not None:
                self._disk.remove_if_abandoned(os.path.join(self.folder, name))

    # --- the file --------------------------------------------------------------------------------------------------

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def _forget(self, path: str, mark: str) -> None:
        remove_old(path, mark, self._disk, self.folder)

    def _create(self, entries: Iterable[Entry]) -> None:
        """Make a new file of these entries, durably, and all at once: a part of them would be believed."""
        path = os.path.join(self.folder, f"{NAME}{token()}{ENDING}")
        content = b"".join(map(write_line, [HEAD, *entries]))
        self._file = self._disk.write_new_file(path, content)
        self._path, self._size = path, len(content)
        self._shortest = self._size

    def _add(self, entry: Entry, *, durable: bool) -> None:
        """Write an entry, then believe it; raises ``OSError``."""
        if self._lacks:
            self._write_anew([])
        if self._file < 0:
            self._create([entry])
        else:
            line = write_line(entry)
            try:
                self._disk.write(self._file, line)
                if durable:
                    self._disk.sync(self._file)
            except OSError:
                with suppress(OSError):
                    self._disk.truncate(self._file, self._size)
                raise
            self._size += len(line)
        self._book.apply(entry)

    def _add_lazily(self, entry: Entry, *, durable: bool = False) -> None:
        """Write what is only missed as a reload too many, and believe it in any case."""
        try:
            self._add(entry, durable=durable)
        except OSError:
            self._book.apply(entry)
            self._lacks = True

    def _shorten(self) -> None:
        if self._size > max(LARGE, 2 * self._shortest):
            with suppress(OSError):
                self._write_anew([])


def _told(verdict: Verdict) -> Iterator[LogEvent]:
    did = "brought the rollback to its end" if verdict.record.restores else "put the old files back"
    if verdict.steps:
        names = ", ".join(dict.fromkeys(step.change.resource for step in verdict.steps))
        yield LogEvent("warning", "delivery.recovered", {"resource": names, "did": did})


def _torn(resource: str, dest: str, reason: str) -> LogEvent:
    error = TargetTorn(f"the target is torn: {reason}", resource=resource, target=dest)
    return LogEvent("error", "delivery.torn", error.fields())
