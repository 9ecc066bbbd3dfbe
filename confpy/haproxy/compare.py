"""What differs between two contents of HAProxy's files, or which line cannot be followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from confpy.haproxy.lexer import Unreadable
from confpy.haproxy.sections import CONDITIONS, KEYWORDS, KINDS, Section, ServerLine, Words, read_sections
from confpy.haproxy.servers import read_server
from confpy.haproxy.values import BackendChange, DataChange, Difference, Files, ReloadNeeded, Server, ServerChange
from confpy.haproxy.words import NAME

BACKENDS = frozenset({"backend", "listen"})
HASHES = frozenset({"source", "uri", "url_param", "hdr", "rdp-cookie", "hash"})
"""Algorithms that choose a server by a hash."""
DYNAMIC = frozenset({"roundrobin", "leastconn", "random", "first"})
COUNTS = HASHES | {"first", "static-rr"}
"""Algorithms that go by the number of a server, which is its place in the file if it has no ``id``."""
MODES = frozenset({("tcp",), ("http",)})


def compare(old: Files, new: Files, *begun: Files) -> Difference | ReloadNeeded:
    """Return what differs, or what cannot be followed.

    ``old``: what the process has read. ``begun``: contents of plans that were begun and may have been carried out in
    part; a server that any of them changed is compared too.
    """
    return _compare((old, *begun), new, is_whole=False)


def whole(files: Files) -> Difference | ReloadNeeded:
    """Return a difference with all servers and entries, none of them changed: what the process is compared with."""
    return _compare((files,), files, is_whole=True)


def is_configuration(content: bytes) -> bool:
    """Say whether a file is one of the configuration: its first word begins a section, or is a condition."""
    at = 0
    while at < len(content):
        end = content.find(b"\n", at)
        line = content[at : end if end >= 0 else len(content)]
        words = line.split(b"#", 1)[0].split(None, 1)
        if words:
            return words[0].decode("latin-1") in KINDS or words[0].startswith(b".")
        at += len(line) + 1
    return False


class _Needed(Exception):
    def __init__(self, why: str, file: str = "", line: int = 0, hint: str = "") -> None:
        super().__init__(why)
        self.needed = ReloadNeeded(why, file, line, hint)


def _compare(olds: Sequence[Files], new: Files, *, is_whole: bool) -> Difference | ReloadNeeded:
    configuration = [path for path in new if is_configuration(new[path])]
    try:
        backends = tuple(_backends(olds, new, configuration, is_whole=is_whole))
    except _Needed as error:
        return error.needed
    data = {path: content for path, content in new.items() if path not in configuration}
    changes = []
    for path in dict.fromkeys([*data, *(path for old in olds for path in old if path not in new)]):
        contents = [old.get(path) for old in olds]
        if is_whole or any(content != data.get(path) for content in contents):
            changes.append(DataChange(path, contents[0], data.get(path)))
    return Difference(backends, tuple(changes), tuple(configuration), data)


def _backends(
    olds: Sequence[Files], new: Files, configuration: Sequence[str], *, is_whole: bool
) -> Iterator[BackendChange]:
    for old in olds:
        for path, content in old.items():
            if path not in configuration and is_configuration(content):
                raise _Needed("a file of the configuration is gone, or begins with no section any more", path)
    known: dict[bytes, Words] = {}
    for path in configuration:
        if any(path not in old or not is_configuration(old[path]) for old in olds):
            raise _Needed("a file of the configuration is new", path)
        if is_whole or any(old[path] != new[path] for old in olds):
            yield from _File(path, known, is_whole=is_whole).compare(olds, new[path])


class _File:
    """The comparison of one file of a configuration."""

    def __init__(self, path: str, known: dict[bytes, Words], *, is_whole: bool) -> None:
        self._path = path
        self._known = known
        self._is_whole = is_whole

    def compare(self, olds: Sequence[Files], content: bytes) -> Iterator[BackendChange]:
        new = self._read(content, "")
        previous = [
            self._read(old, "HAProxy has read a file that ") for old in dict.fromkeys(each[self._path] for each in olds)
        ]
        whole_ones = [section for section in new if _is_simple(section)]
        whole_ones += [section for sections in previous for section in sections if _is_simple(section)]
        everywhere = [{section.header for section in sections} for sections in (new, *previous)]
        # Backends that come and go as a whole: they stand in some of the contents only.
        passing = {one.header for one in whole_ones if not all(one.header in headers for headers in everywhere)}
        added = [section for section in new if section.header in passing]
        for section in added:
            yield self._whole_backend(section, is_gone=False)
        for gone in {one.name: one for one in whole_ones if one.header in passing - everywhere[0]}.values():
            yield self._whole_backend(gone, is_gone=True)
        new, *previous = ([one for one in each if one.header not in passing] for each in (new, *previous))
        for sections in previous:
            self._hold_equal(sections, new)
        for number, section in enumerate(new):
            if section.kind in BACKENDS:
                change = self._backend(section, [sections[number] for sections in previous])
                if change is not None:
                    yield change
            elif any(sections[number].servers != section.servers for sections in previous):
                self._refuse_servers(section, [sections[number] for sections in previous])

    def _whole_backend(self, section: Section, *, is_gone: bool) -> BackendChange:
        """Return a backend that comes or goes with all of its servers."""
        self._hold_followable(section, set(section.servers), ())
        servers = [read_server(name, line, self._path) for name, line in section.servers.items()]
        for server in servers:
            self._hold_server(server, ())
        return BackendChange(
            section.name,
            self._path,
            0 if is_gone else section.line,
            tuple([ServerChange(None, (server,)) if is_gone else ServerChange(server) for server in servers]),
            _order(section),
            _adds(section),
            _weights(section),
            section.inherits,
            frozenset(section.servers),
            is_new=not is_gone,
            is_gone=is_gone,
            defaults=section.header[3],
            mode=section.settings.get("mode", ("", "tcp"))[1],
        )

    def _read(self, content: bytes, said: str) -> list[Section]:
        try:
            return read_sections(content, self._known)
        except Unreadable as error:
            why, line = error.args
            raise _Needed(f"{said}{why}", self._path, 0 if said else line) from None

    def _refuse_servers(self, section: Section, olds: Sequence[Section]) -> None:
        for old in olds:
            for name, server in section.servers.items():
                before = old.servers.get(name)
                if before is None or _text(before) != _text(server):
                    raise _Needed(f"a server in {section.kind}", self._path, server.line)
            if old.servers.keys() - section.servers.keys():
                raise _Needed(f"a server in {section.kind}", self._path, section.line)

    # --- what has to be equal ----------------------------------------------------------------------------------------

    def _hold_equal(self, old: Sequence[Section], new: Sequence[Section]) -> None:
        for before, after in zip_longest(old, new):
            if before is None:
                raise _Needed(f"{after.kind} added", self._path, after.line)
            if after is None or before.header != after.header:
                raise self._of_sections(before, after, old, new)
            if before.lines != after.lines:
                self._hold_lines(before, after)

    def _of_sections(
        self, before: Section, after: Section | None, old: Sequence[Section], new: Sequence[Section]
    ) -> _Needed:
        if after is None or before.header not in {section.header for section in new}:
            if after is not None and (before.kind, before.name) == (after.kind, after.name):
                return _Needed(f"{after.kind} changed", self._path, after.line)
            return _Needed(f"{before.kind} removed", self._path)
        if after.header not in {section.header for section in old}:
            return _Needed(f"{after.kind} added", self._path, after.line)
        return _Needed("the order of the sections changed", self._path, after.line)

    def _hold_lines(self, before: Section, after: Section) -> None:
        """Raise for the first line of a section that differs."""
        old, new, numbers = before.lines, after.lines, after.numbers
        at = next(at for at, (one, other) in enumerate(zip_longest(old, new)) if one != other)
        if at < len(old) and (at == len(new) or old[at + 1 :][:1] == [new[at]]):
            line = numbers[at] if at < len(new) else after.line
            raise _Needed(f"{_first(old[at])} removed", self._path, line)
        is_added = at == len(old) or new[at + 1 :][:1] == [old[at]]
        raise _Needed(f"{_first(new[at])} {'added' if is_added else 'changed'}", self._path, numbers[at])

    # --- servers -----------------------------------------------------------------------------------------------------

    def _backend(self, section: Section, olds: Sequence[Section]) -> BackendChange | None:
        touched: set[str] = set()
        for old in olds:
            touched |= old.servers.keys() - section.servers.keys()
            for name, (words, inherited, _) in section.servers.items():
                before = old.servers.get(name)
                # The words of equal lines are one tuple, most of the time.
                if before is None or (before[0] is not words and before[0] != words) or before[1] != inherited:
                    touched.add(name)
        order = _order(section)
        moved = any(not _follows(_order(old), order) for old in olds)
        if not touched and not moved and not self._is_whole:
            return None
        self._hold_followable(section, touched, olds)
        adds = _adds(section)
        if adds and any(old.servers.keys() != section.servers.keys() for old in olds):
            place = section.places.get("balance", section.line)
            raise _Needed(adds, self._path, place, "balance roundrobin, leastconn or random can be followed")
        if moved:
            raise _Needed("the order of servers that are tried in turn changed", self._path, section.line)
        changes: list[ServerChange] = []
        for name, line in section.servers.items():
            if name in touched or self._is_whole:
                server = read_server(name, line, self._path)
                previous = tuple(
                    read_server(name, old.servers[name], self._path) for old in olds if name in old.servers
                )
                if name in touched:
                    self._hold_server(server, previous)
                changes.append(ServerChange(server, previous, name in touched))
        gone: dict[str, list[Server]] = {}
        for old in olds:
            for name, line in old.servers.items():
                if name not in section.servers:
                    gone.setdefault(name, []).append(read_server(name, line, self._path))
        changes += [ServerChange(None, tuple(previous)) for previous in gone.values()]
        return BackendChange(
            section.name,
            self._path,
            section.line,
            tuple(changes),
            order,
            adds,
            _weights(section),
            section.inherits,
            frozenset(section.servers),
            self._is_whole,
        )

    def _hold_followable(self, section: Section, touched: set[str], olds: Sequence[Section]) -> None:
        """Raise if nothing of a backend can be followed."""
        line = self._line_of(section, touched)
        if not NAME.fullmatch(section.name):
            why = f"the name of a {section.kind} holds a character that is not sent"
        elif section.unknown or any(old.unknown for old in olds):
            why = "a word at the beginning of a line is not known: it may begin a section"
            line = section.unknown or line
        elif section.is_uncertain or touched & section.conditional:
            why = "a server depends on .if"
        elif section.settings.get("mode", ("", "tcp"))[1:2] not in MODES:
            why = "servers of this mode are not followed"
        else:
            return
        raise _Needed(why, self._path, line)

    def _line_of(self, section: Section, touched: set[str]) -> int:
        lines = [section.servers[name].line for name in touched if name in section.servers]
        return min(lines, default=section.line)

    def _hold_server(self, server: Server, previous: Sequence[Server]) -> None:
        """Raise if what changed of a server cannot be followed in any version."""
        # Where only address, weight or state change, the other options are not sent.
        if server.problem and (not previous or not server.is_read or not NAME.fullmatch(server.name)):
            raise _Needed(f"a server changed, and {server.problem}", self._path, server.line)
        if not server.address:
            hint = "write an IP address: confpy's lookup_ip asks for it at each render"
            raise _Needed("the address of a server is not an IP address", self._path, server.line, hint)
        for before in previous:
            if not before.is_read:
                raise _Needed("a server changed, whose options were not known", self._path, server.line)
            if before.words != server.words or before.is_backup != server.is_backup:
                raise _Needed("the options of a server changed", self._path, server.line)
            if not before.address or bool(before.port) != bool(server.port):
                raise _Needed("the address of a server changed its form", self._path, server.line)


def _is_simple(section: Section) -> bool:
    """Say whether a backend is what its defaults say, but for its mode and its servers: one that can come and go."""
    return (
        section.kind == "backend"
        and section.header[2:3] == ("from",)
        and len(section.header) == 4
        and section.inherits
        and NAME.fullmatch(section.header[3]) is not None
        and not (section.is_conditional or section.is_uncertain or section.unknown or section.conditional)
        and all(line[0] == "mode" for line in section.lines)
    )


def _algorithm(section: Section) -> str:
    balance = section.settings.get("balance", ("balance", "roundrobin"))
    return balance[1].partition("(")[0] if len(balance) > 1 else ""


def _is_dynamic(section: Section) -> bool:
    algorithm = _algorithm(section)
    return algorithm in DYNAMIC or (
        algorithm in HASHES and section.settings.get("hash-type", ())[1:2] == ("consistent",)
    )


def _adds(section: Section) -> str:
    """Return why no server can be added to a backend or removed from it."""
    algorithm = _algorithm(section)
    if section.is_conditional:
        return "what it inherits depends on .if"
    if {"dispatch", "option transparent"} & section.settings.keys():
        return "it has an address of its own instead of servers"
    if not _is_dynamic(section):
        return f"balance {algorithm if algorithm in COUNTS else 'of this kind'} is not dynamic"
    if algorithm in COUNTS and not all(map(_is_keyed, section.servers.values())):
        return f"balance {algorithm} depends on the place of a server in the file"
    return ""


def _weights(section: Section) -> str:
    """Return why the weight of a server cannot be changed."""
    if section.is_conditional:
        return "what it inherits depends on .if"
    return "" if _is_dynamic(section) else "the weight of a server cannot be changed with this balance"


def _is_keyed(line: ServerLine) -> bool:
    """Say whether a server has a place of its own, wherever its line stands."""
    words = (*line.inherited, *line.words[3:])
    at = words.index("hash-key") if "hash-key" in words else len(words)
    return "id" in words or words[at + 1 : at + 2] in {("addr",), ("addr-port",), ("guid",)}


def _order(section: Section) -> tuple[str, ...]:
    """Return the servers whose order counts."""
    if _algorithm(section) in COUNTS:
        return tuple([name for name, line in section.servers.items() if not _is_keyed(line)])
    if section.settings.get("option allbackups", ("no",))[0] != "no":
        return ()
    return tuple(
        [name for name, (words, inherited, _) in section.servers.items() if "backup" in words or "backup" in inherited]
    )


def _follows(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Say whether the new order is the old one without some, and with others after them."""
    remaining = set(new)
    stay = tuple([name for name in old if name in remaining])
    return new[: len(stay)] == stay


def _text(server: ServerLine) -> tuple[Words, Words]:
    return server.words, server.inherited


def _first(words: Words) -> str:
    """Return what a line begins with, if it is a word of HAProxy's: any other may be the value of a key."""
    return words[0] if words[0] in KEYWORDS | CONDITIONS else "a line"
