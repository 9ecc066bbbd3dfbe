"""Files as a store: YAML, JSON and TOML documents, every leaf a key, or one plain value per file.

``docs/stores/file.md`` is the contract.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeAlias

from confpy.errors import StoreError, UsageError
from confpy.events import LogEvent
from confpy.keys.capabilities import Capabilities
from confpy.keys.glob import compile_glob
from confpy.keys.prefixes import ancestors, normalise, select
from confpy.keys.snapshot import Invalidated, Listing, Snapshot
from confpy.stores.document import leaves, leaves_of_mapping
from confpy.system.filenames import is_skipped

if TYPE_CHECKING:
    from confpy.config.settings import Settings
    from confpy.system.watching import Folder

POLL = 10.0
"""Seconds between checks of files whose changes the system does not report (network file systems)."""

DOCUMENTS = (".yaml", ".yml", ".json", ".toml")
"""Endings of names that make a file a document."""
LARGEST_VALUE = 1 << 20
"""Bytes of a plain value: as many as Kubernetes allows a Secret or a ConfigMap to have."""

Format: TypeAlias = Literal["auto", "document", "plain"]
Stamps = tuple[tuple[str, int, int, int, int], ...]


class FileStore:
    """Files and folders of files; a later file overrides an earlier one key by key."""

    capabilities = Capabilities(watches=True, names_deletions=False, text_prefixes=True)
    node = ""

    def __init__(self, files: Sequence[str], names: str = "*", form: Format = "auto") -> None:
        """``names`` is a glob: which names to read in a folder. Raises ``UsageError``.

        ``form``: what the files are. ``auto``: documents, but where no name in a folder ends as that of a document, a
        file whose content is no mapping is a plain value.
        """
        if not files:
            raise UsageError("the file store has no files", hint="name files or folders with -file")
        try:
            self._names = compile_glob(names).whole
        except ValueError as error:
            raise UsageError(str(error), hint="-filter takes a glob such as *.yaml") from None
        self._files = tuple(files)
        self._form = form
        self._lock = threading.Lock()
        self._generation = 0
        self._digest = b""
        self._watches: set[FileWatch] = set()
        self._closed = False
        self._notes: list[LogEvent] = []
        """What the next snapshot has to report."""

    @classmethod
    def open(cls, settings: Settings) -> FileStore:
        return cls(settings.files, settings.filter, settings.file_format)

    def prefixes(self, path: str) -> tuple[str, ...]:
        return (path if path.startswith("/") else f"/{path}",)

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        """Read all files.

        A document that is missing or malformed stops the read, as no key is known to be gone then. A plain value that
        cannot be read is an error of the prefixes that it stands below.
        """
        keys: dict[str, str] = {}
        failed: dict[str, StoreError] = {}
        digest = hashlib.blake2b()
        contents = list(self._contents(digest))
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed")
            if digest.digest() != self._digest:
                self._digest = digest.digest()
                self._generation += 1
            generation = self._generation
        for root, files in groupby(contents, lambda entry: entry[0]):
            self._take(root, [(file, content) for _, file, content in files], keys, failed)
        notes, self._notes = tuple(self._notes), []
        chosen = select({*prefixes, *counted}, keys)
        wrong = _failures(prefixes, failed)
        return Snapshot(
            listings={
                prefix: Listing(generation, error=wrong[prefix])
                if prefix in wrong
                else Listing(generation, chosen[prefix])
                for prefix in prefixes
            },
            counts={prefix: len(chosen[prefix]) for prefix in counted},
            notes=notes,
        )

    def _take(
        self,
        root: str,
        files: Sequence[tuple[str, bytes | OSError]],
        keys: dict[str, str],
        failed: dict[str, StoreError],
    ) -> None:
        """Take the keys of one of the paths that the store was given; raises ``StoreError``."""
        form = self._form
        if form == "auto" and ([root] == [file for file, _ in files] or any(it.endswith(DOCUMENTS) for it, _ in files)):
            form = "document"
        for file, content in files:
            if isinstance(content, OSError) and (form != "plain" or file == root):
                # Its keys are unknown.
                raise StoreError(f"cannot read the file: {content.strerror}", file=file) from content
            found = None if form == "plain" or isinstance(content, OSError) else _document(form, file, content)
            if found is not None:
                keys.update(found)
                continue
            key = normalise(os.path.relpath(file, root if file != root else os.path.dirname(root)))
            failed.pop(key, None)
            try:
                keys[key] = _plain_value(content)
            except StoreError as error:
                error.at(key=key, file=file)
                failed[key] = error

    def has_notes(self) -> bool:
        """Whether the next snapshot would have something to report."""
        return bool(self._notes)

    def poll(self, prefixes: Sequence[str]) -> None:  # noqa: ARG002 - only the content can tell
        return None

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> FileWatch:  # noqa: ARG002 - files have none
        # Loaded with the first watch: a one-shot run never follows.
        from confpy.system.watching import Folder

        folder = Folder(self._files, self._note_unwatched)
        with self._lock:
            known = all(cursor == self._generation for cursor in cursors.values())
            watch = FileWatch(self, folder, self._digest if known else b"")
            self._watches.add(watch)
            closed = self._closed
        if closed:
            watch.close()
            raise StoreError("the store is closed")
        return watch

    def _note_unwatched(self, error: OSError) -> None:
        from confpy.system.watching import why_unwatched

        failure = StoreError(f"the files cannot be watched: {error.strerror}", hint=why_unwatched(error))
        self._notes.append(
            LogEvent("warning", "store.unwatched", {**failure.fields(), "did": f"looks every {POLL:g} s"})
        )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            watches = list(self._watches)
        for watch in watches:
            watch.close()

    def forget(self, watch: FileWatch) -> None:
        """A watch has ended."""
        with self._lock:
            self._watches.discard(watch)

    def digest(self) -> bytes:
        """Return a digest of all files."""
        digest = hashlib.blake2b()
        for _ in self._contents(digest):
            pass
        return digest.digest()

    def stamps(self) -> Stamps:
        """Return stamps of all files: other content has other stamps, unless written within one tick of the clock."""
        return tuple(_stamp(file) for _, file in self._list())

    def _contents(self, digest: hashlib.blake2b) -> Iterator[tuple[str, str, bytes | OSError]]:
        """Yield every file with its content, or why it cannot be read, and add all of it to the digest.

        Before each stands the path that it was found at or below.
        """
        for root, file in self._list():
            content: bytes | OSError
            try:
                content = _read(file)
            except OSError as error:
                content = error
            note = b"errno %d" % (content.errno or 0) if isinstance(content, OSError) else content
            digest.update(b"%s\0%d\0%s" % (os.fsencode(file), len(note), note))
            yield root, file, content

    def _list(self) -> Iterator[tuple[str, str]]:
        for root in self._files:
            yield from ((root, file) for file in self._walk(root, ()))

    def _walk(self, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
        """Yield the files of a folder in lexical order, through links; a link back to a folder above ends there."""
        try:
            with os.scandir(path) as entries:
                status = os.stat(path)
                names = sorted(entry.name for entry in entries)
        except OSError:  # no folder; that a file cannot be read is seen when it is read
            yield path
            return
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        for name in names:
            file = os.path.join(path, name)
            if is_skipped(name) if self._form == "plain" else name.startswith("."):
                continue
            if os.path.isdir(file):
                yield from self._walk(file, (*above, identity))
            elif self._names.fullmatch(name):
                yield file


class FileWatch:
    """Yields once if the content of the files differs from that at the cursor, and then for each change."""

    def __init__(self, store: FileStore, folder: Folder, digest: bytes) -> None:
        self._store = store
        self._folder = folder
        self._digest = digest
        self._closed = False

    def __iter__(self) -> Iterator[Invalidated]:
        while not self._closed:
            stamps = self._store.stamps()
            digest = self._store.digest()
            if digest != self._digest or self._store.has_notes():
                self._digest = digest
                yield Invalidated()
            while not (self._closed or self._folder.wait(POLL) or self._store.stamps() != stamps):
                pass

    def close(self) -> None:
        self._closed = True
        self._folder.close()
        self._store.forget(self)


def _read(file: str) -> bytes:
    """Return a file's content; raises ``OSError``, also for a FIFO, which might never end, unless a shell made it."""
    if file.startswith("/dev/"):  # <(…) is /dev/fd/63
        with open(file, "rb") as stream:
            return stream.read()
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return stream.read()


def _document(form: Format, file: str, content: bytes) -> Iterable[tuple[str, str]] | None:
    """Return the keys of a document; None if it is none and ``form`` allows that. Raises ``StoreError``."""
    if form == "document":
        return leaves(file, content)
    try:
        return leaves_of_mapping(file, content)
    except StoreError as error:
        error.hint = "if it is no document but one value, say -file-format plain"
        raise


def _failures(prefixes: Iterable[str], failed: Mapping[str, StoreError]) -> dict[str, StoreError]:
    """Return for each prefix the first of the errors at, above or below it: of a folder only its path is known."""
    wrong = {prefix: next(iter(found.values())) for prefix, found in select(prefixes, failed).items() if found}
    for prefix in prefixes if failed else ():
        wrong.update((prefix, failed[above]) for above in ancestors(prefix) if above in failed and prefix not in wrong)
    return wrong


def _plain_value(content: bytes | OSError) -> str:
    """Return the value that a file holds, less one line end; raises ``StoreError``."""
    if isinstance(content, OSError):
        raise StoreError(f"cannot read the file: {content.strerror}")
    if len(content) > LARGEST_VALUE:
        raise StoreError(f"the file is larger than {LARGEST_VALUE >> 20} MiB, too large for one value")
    if b"\0" in content:
        raise StoreError("the file holds a NUL, which no value may")
    end = 2 if content.endswith(b"\r\n") else 1 if content.endswith(b"\n") else 0
    return content[: len(content) - end].decode("utf-8", "surrogateescape")


def _stamp(file: str) -> tuple[str, int, int, int, int]:
    try:
        status = os.stat(file)
    except OSError as error:
        return (file, -1, -1, -1, error.errno or 0)
    return (file, status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
