"""Answers what templates ask of the world: on workers, within seconds, and never with an exception."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from confpy.errors import ConfpyError, TemplateError
from confpy.system.abandonable import CallGroup, call_within
from confpy.system.reading import read_up_to
from confpy.templates.cache import CodeCache
from confpy.templates.lookup import Lookup, describe
from confpy.templates.results import JINJA_NAMES, Compiled, CompileResult, Service, TemplateMissing

if TYPE_CHECKING:
    from confpy.templates.compiler import Compiler

PATIENCE = 5.0
"""Seconds that an answer may take."""
AT_ONCE = 8
"""Lookups that are answered at the same time."""
LARGEST = 16 * 1024 * 1024
"""Bytes that a template may have."""
LARGEST_FILE = 1024 * 1024
"""Bytes that a watched file may have."""
SAVES = 20
"""How many times as long as a write of the cache takes must pass until the next one."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""Without O_NONBLOCK a pipe in the place of a template would block."""


class _Text(NamedTuple):
    """A template's text: many templates may have the same."""

    source: str
    digest: str
    made: CompileResult


class Resolver:
    """The I/O side of rendering. Called from several threads at once."""

    def __init__(
        self,
        *,
        folder: str,
        cache_dir: str | None,
        sandbox: bool = False,
    ) -> None:
        """``folder`` is ``templates/``."""
        self._folder = folder
        self._sandbox = sandbox
        self._cache = CodeCache(cache_dir, os.path.abspath(folder), self._made_with) if cache_dir else None
        # Filled by whichever thread comes first: a second one would put the same there.
        self._compiler: Compiler | None = None
        self._next_save = 0.0
        """When the cache may be written again, as monotonic time."""
        self._guard = threading.Lock()
        """Held while what is known changes: a text is in the cache only if it is known here."""
        self._known: dict[Lookup, Compiled] = {}
        self._texts: dict[str, _Text] = {}
        self._abandoned: set[Lookup] = set()
        """What a call that nobody waits for any more still asks: a mount that hangs is asked once, not for ever."""

    def resolve(self, lookup: Lookup) -> object:
        """Return the answer to one lookup, as ``resolve_all`` gives it."""
        facts: dict[Lookup, object] = {}
        for answers in self.resolve_all((lookup,)):
            facts |= answers
        return facts[lookup]

    def resolve_all(self, lookups: Sequence[Lookup]) -> Iterator[Mapping[Lookup, object]]:
        """Yield the answers within seconds, those that are ready together; one that hangs delays no other.

        An answer is a ``ConfpyError`` that says why there is none, or of ``template`` a ``Compiled``; of ``ip`` and
        ``interface`` a tuple of addresses; of ``srv`` a tuple of ``Service``; of ``exists`` a bool; of ``file`` the
        content; of ``hash`` its digest.
        """
        hanging = self._abandoned.intersection(lookups)
        if hanging:
            yield {lookup: TemplateError(f"{self._told(lookup)}: still no answer") for lookup in hanging}
        # Templates are quick, unless their mount hangs: they come first. Others wait for a name server or any mount.
        asked = sorted((one for one in lookups if one not in hanging), key=lambda lookup: lookup.kind != "template")
        others = sum(lookup.kind != "template" for lookup in asked)
        threads = min(others + (others < len(asked)), AT_ONCE)
        files = _Files(self._folder)
        ended: set[Lookup] = set()
        calls = CallGroup([partial(self._answer, lookup, files, ended) for lookup in asked])
        left = len(asked)
        for outcomes in calls.outcomes(PATIENCE, threads, AT_ONCE):
            left -= len(outcomes)
            if not left:
                self._save()
            facts = {}
            for number, outcome in outcomes:
                lookup = asked[number]
                facts[lookup] = self._failure(lookup, outcome, ended) if isinstance(outcome, BaseException) else outcome
            yield facts

    def _answer(self, lookup: Lookup, files: _Files, ended: set[Lookup]) -> object:
        try:
            return self._template(lookup, files) if lookup.kind == "template" else ANSWERS[lookup.kind](lookup.name)
        finally:
            ended.add(lookup)
            self._abandoned.discard(lookup)

    def _failure(self, lookup: Lookup, error: BaseException, ended: set[Lookup]) -> ConfpyError:
        """Return the answer to a lookup that failed: a template that cannot be answered must not stop a worker."""
        what = self._told(lookup)
        if isinstance(error, ConfpyError):
            return error if lookup.kind == "template" else type(error)(f"{what}: {error.message}", hint=error.hint)
        if isinstance(error, TimeoutError):
            self._abandoned.add(lookup)
            if lookup in ended:
                self._abandoned.discard(lookup)
            return TemplateError(f"{what}: no answer within {PATIENCE:g} s")
        if isinstance(error, OSError) and error.strerror:
            return TemplateError(f"{what}: {error.strerror}")
        return TemplateError(f"{what}: {type(error).__name__}")

    def _told(self, lookup: Lookup) -> str:
        """Name a lookup, without what may be a value."""
        if lookup.kind == "template":  # whoever includes it knows whether its name may be told
            return describe(lookup, lambda _: True)
        return describe(lookup, lambda one: any(one in found.needs for found in tuple(self._known.values())))

    # --- templates ---------------------------------------------------------------------------------------------------

    def _template(self, lookup: Lookup, files: _Files) -> Compiled:
        path = os.path.join(self._folder, lookup.name)
        content, confined = files.read(path)
        digest = sha256(content).hexdigest()
        known = self._known.get(lookup)
        if known is not None and (known.digest, known.file, known.confined) == (digest, path, confined):
            return known
        key, text, is_new = self._text(lookup, path, digest, content)
        source, digest, made = text
        compiled = Compiled(
            lookup.name, path, digest, confined, source, made.code, made.needs, made.engine, made.warnings
        )
        with self._guard:
            if is_new and self._cache is not None:
                self._cache.add(key, made)
            self._texts[key] = text
            self._known[lookup] = compiled
        return compiled

    def _text(self, lookup: Lookup, path: str, digest: str, content: bytes) -> tuple[str, _Text, bool]:
        """Return a text with its code, from memory, from the cache, or compiled: its key, and whether it is new."""
        keys = _keys(lookup, digest)
        for key in keys:
            text = self._texts.get(key)
            if text is not None:
                return key, text, False
        source = content.decode("utf-8", "surrogateescape")
        cache, made = self._cache, None
        if cache is not None:
            for key in keys:
                made = cache.load(key)
                if made is not None:
                    break
        if made is not None:
            return key, _Text(source, digest, made), False
        made = self._compile(source, lookup, path)
        return keys[made.names_itself], _Text(source, digest, made), True

    def _compile(self, source: str, lookup: Lookup, path: str) -> CompileResult:
        from confpy.templates import compiler as choose  # brings jinja2

        if self._compiler is None:
            self._compiler = choose.Compiler(sandbox=self._sandbox)
        return self._compiler.compile(source, lookup, path)

    def _made_with(self) -> str:
        import jinja2  # the first template is about to be rendered

        import confpy

        return f"confpy={confpy.__version__} jinja2={jinja2.__version__} sandbox={self._sandbox}"

    def close(self) -> None:
        """Write to the cache what was not written yet."""
        self._save(at_end=True)

    def _save(self, *, at_end: bool = False) -> None:
        """Write what was compiled to the cache, and forget the texts that no template has any more.

        The cache is written as a whole: where lookups follow each other closely, not for each of them.
        """
        cache = self._cache
        writes = cache is not None and cache.is_new and (at_end or time.monotonic() >= self._next_save)
        if writes or len(self._texts) > len(self._known):
            with self._guard:
                in_use = self._in_use()
                self._texts = {key: text for key, text in self._texts.items() if key in in_use}
            if cache is not None and writes:
                began = time.monotonic()
                with suppress(TimeoutError, RuntimeError):  # it hangs, or there is no thread: they are compiled again
                    call_within(PATIENCE, partial(cache.save, self._texts_in_use))
                ended = time.monotonic()
                self._next_save = ended + SAVES * (ended - began)
        if cache is not None:
            cache.forget()

    def _in_use(self) -> set[str]:
        return {key for lookup, one in self._known.items() for key in _keys(lookup, one.digest)}

    def _texts_in_use(self) -> set[str]:
        with self._guard:
            return self._in_use()


def _keys(lookup: Lookup, digest: str) -> tuple[str, str]:
    """Return what code depends on: for all templates with a text, and for one whose name stands in its code."""
    kind = "jinja" if lookup.name.endswith(JINJA_NAMES) else "go" if lookup.name.endswith(".tmpl") else ""
    key = " ".join((digest, lookup.engine, kind, *lookup.delimiters))
    return key, f"{key}\0{lookup.name}"


class _Files:
    """Reads templates. Links in the paths of their folders are followed once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folders: dict[str, str] = {}

    def read(self, path: str) -> tuple[bytes, bool]:
        """Return a file's content, and whether it lies below the root, all links followed; raises ``TemplateError``."""
        folder, name = os.path.split(path)
        file = os.path.join(self._resolve(folder), name)
        try:
            descriptor = os.open(file, _READ | os.O_NOFOLLOW)
        except OSError:  # a link, or an error, which comes again
            file = os.path.realpath(path)
            descriptor = _open(file, path)
        return _content(descriptor, path), file.startswith(self._resolve(self._root) + "/")

    def _resolve(self, folder: str) -> str:
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = os.path.realpath(folder)
        return real


def read_source(path: str) -> str:
    """Return a template's text, any bytes in it as surrogates; raises ``TemplateError``."""
    return _content(_open(path, path), path).decode("utf-8", "surrogateescape")


def _open(file: str, path: str) -> int:
    try:
        return os.open(file, _READ)
    except (FileNotFoundError, NotADirectoryError):
        raise TemplateMissing(f"there is no template {path}", hint="src is relative to templates/") from None
    except OSError as error:
        raise TemplateError(f"cannot read {path}: {error.strerror}") from None


def _content(descriptor: int, path: str) -> bytes:
    """Return the content of a template that was opened, and close it."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TemplateError(f"{path} is not a file")
        content = read_up_to(descriptor, status.st_size, LARGEST)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise TemplateError(f"{path} is larger than {LARGEST >> 20} MiB")
    return content


def addresses(name: str) -> tuple[str, ...]:
    """Return the addresses of a host name, sorted as text; a literal is its own. Raises ``TemplateError``."""
    import socket  # most templates need none

    from confpy.templates.validators import literal_address

    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a name"
        raise TemplateError(reason) from None
    return tuple(sorted({literal_address(str(peer[0])) for *_, peer in found}))


def services(name: str) -> tuple[Service, ...]:
    """Return the SRV records of a name, sorted as confd sorts them. Raises ``TemplateError``."""
    import dns.exception  # most templates need none, and it is large
    import dns.resolver

    try:
        answer = dns.resolver.Resolver().resolve(name, "SRV", search=True, lifetime=PATIENCE - 0.5)
    except dns.exception.DNSException as error:
        raise TemplateError(type(error).__name__) from None
    found = {Service(str(record.target), record.port, record.priority, record.weight) for record in answer}
    return tuple(sorted(found, key=lambda service: "".join(map(str, service))))


def interface(name: str) -> tuple[str, ...]:
    """Return the first IPv4 address and the IPv6 addresses of a network interface; none where there is no such."""
    import fcntl  # most templates need none
    import socket
    from ipaddress import IPv6Address

    found = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            # netdevice(7): SIOCGIFADDR takes a name of 16 bytes, the address stands in bytes 20 to 24.
            answer = fcntl.ioctl(asked, 0x8915, name.encode()[:15].ljust(40, b"\0"))
        found.append(socket.inet_ntoa(answer[20:24]))
    except OSError:
        pass
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            rows = [row.split() for row in table]
    except OSError:
        rows = []
    found += [str(IPv6Address(int(row[0], 16))) for row in rows if row[-1] == name]
    return tuple(found)


def read_file(path: str) -> bytes:
    """Return the content of a watched file, of regular ones alone. Raises ``OSError`` and ``TemplateError``."""
    # Without O_NONBLOCK a FIFO would block; O_NOCTTY: a terminal must not become the controlling one.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TemplateError("it is no regular file")
    with open(descriptor, "rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise TemplateError(f"it is larger than {LARGEST_FILE >> 20} MiB")
    return content


def _exists(path: str) -> bool:
    """Say whether a path exists; only "not found" means that it does not."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return True


def _text_of(path: str) -> str:
    return read_file(path).decode("utf-8", "surrogateescape")


def _hash_of(path: str) -> str:
    return sha256(read_file(path)).hexdigest()


ANSWERS: dict[str, Callable[[str], object]] = {
    "ip": addresses,
    "srv": services,
    "exists": _exists,
    "interface": interface,
    "file": _text_of,
    "hash": _hash_of,
}
"""Kind of a lookup, but for ``template`` → what answers it, given its name."""
