"""Answers what templates ask of the world: on workers, within seconds, and never with an exception."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from confpy.errors import ConfpyError, TemplateError
from confpy.system.abandonable import call_within
from confpy.templates.cache import CodeCache
from confpy.templates.lookup import Lookup
from confpy.templates.results import Compiled, CompileResult, Service, TemplateMissing

if TYPE_CHECKING:
    from confpy.templates.compiler import Compiler

PATIENCE = 5.0
"""Seconds that an answer may take."""
LARGEST = 16 * 1024 * 1024
"""Bytes that a template may have."""
LARGEST_FILE = 1024 * 1024
"""Bytes that a watched file may have."""


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
        self._cache_dir = cache_dir
        self._sandbox = sandbox
        # Filled by whichever thread comes first: a second one would put the same there.
        self._compiler: Compiler | None = None
        self._cache: CodeCache | None = None
        self._known: dict[Lookup, Compiled] = {}
        self._abandoned: set[Lookup] = set()
        """What a call that nobody waits for any more still asks: a mount that hangs is asked once, not for ever."""

    def resolve(self, lookup: Lookup) -> object:
        """Return the answer within seconds, or the ``ConfpyError`` that says why there is none.

        ``template`` → ``Compiled``; ``ip``, ``interface`` → a tuple of addresses; ``srv`` → a tuple of ``Service``;
        ``exists`` → bool; ``file`` → the content; ``hash`` → its digest.
        """
        answers: dict[str, Callable[[], object]] = {
            "template": lambda: self._template(lookup),
            "ip": lambda: addresses(lookup.name),
            "srv": lambda: services(lookup.name),
            "exists": lambda: _exists(lookup.name),
            "interface": lambda: interface(lookup.name),
            "file": lambda: read_file(lookup.name).decode("utf-8", "surrogateescape"),
            "hash": lambda: sha256(read_file(lookup.name)).hexdigest(),
        }

        ended = []

        def answer() -> object:
            try:
                return answers[lookup.kind]()
            finally:
                ended.append(True)
                self._abandoned.discard(lookup)

        what = self._told(lookup)
        if lookup in self._abandoned:
            return TemplateError(f"{what}: still no answer")
        try:
            return call_within(PATIENCE, answer)
        except ConfpyError as error:
            return error if lookup.kind == "template" else type(error)(f"{what}: {error.message}", hint=error.hint)
        except TimeoutError:
            self._abandoned.add(lookup)
            if ended:
                self._abandoned.discard(lookup)
            return TemplateError(f"{what}: no answer within {PATIENCE:g} s")
        except OSError as error:
            return TemplateError(f"{what}: {error.strerror or type(error).__name__}")
        except Exception as error:  # noqa: BLE001 - a template that cannot be answered must not stop a worker
            return TemplateError(f"{what}: {type(error).__name__}")

    def _told(self, lookup: Lookup) -> str:
        """Name a lookup: one that stands in no template word for word may be made of a key's value."""
        kind = {"template": "the template", "ip": "the addresses of", "srv": "the SRV records of", "exists": "the path"}
        kind |= {"interface": "the addresses of the interface", "file": "the file", "hash": "the file"}
        # Files stand in the resource.
        known = lookup.kind in {"template", "file", "hash"} or any(
            lookup in one.needs for one in tuple(self._known.values())
        )
        return f"{kind[lookup.kind]} {repr(lookup.name) if known else 'a name that is not shown, as it may be a value'}"

    def _template(self, lookup: Lookup) -> Compiled:
        name = lookup.name
        path = os.path.join(self._folder, name)
        file = os.path.realpath(path)
        content = _read(file, path)
        digest = sha256(content).hexdigest()
        confined = file.startswith(os.path.realpath(self._folder) + "/")
        known = self._known.get(lookup)
        if known is not None and (known.digest, known.file, known.confined) == (digest, path, confined):
            return known
        source = content.decode("utf-8", "surrogateescape")
        cache = self._code_cache()
        made = cache.load(lookup, path, digest) if cache else None
        if made is None:
            made = self._compile(source, lookup, path)
            if cache:
                cache.save(lookup, path, digest, made)
        compiled = Compiled(name, path, digest, confined, source, made.code, made.needs, made.engine, made.warnings)
        self._known[lookup] = compiled
        return compiled

    def _compile(self, source: str, lookup: Lookup, path: str) -> CompileResult:
        from confpy.templates import compiler as choose  # brings jinja2

        if self._compiler is None:
            self._compiler = choose.Compiler(sandbox=self._sandbox)
        return self._compiler.compile(source, lookup, path)

    def _code_cache(self) -> CodeCache | None:
        if self._cache_dir is None:
            return None
        if self._cache is None:
            import jinja2  # the first template is about to be rendered

            import confpy

            made_with = f"confpy={confpy.__version__} jinja2={jinja2.__version__} sandbox={self._sandbox}"
            self._cache = CodeCache(self._cache_dir, made_with)
        return self._cache


def read_source(path: str) -> str:
    """Return a template's text, any bytes in it as surrogates; raises ``TemplateError``."""
    return _read(path, path).decode("utf-8", "surrogateescape")


def _read(file: str, path: str) -> bytes:
    try:
        # Without O_NONBLOCK a pipe in the place of a template would block.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise TemplateMissing(f"there is no template {path}", hint="src is relative to templates/") from None
    except OSError as error:
        raise TemplateError(f"cannot read {path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TemplateError(f"{path} is not a file")
    with open(descriptor, "rb") as opened:
        content = opened.read(LARGEST + 1)
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
