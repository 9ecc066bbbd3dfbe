"""The sections of a configuration: what stands in each beside its servers, and what its servers inherit."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from confpy.frozen import define, field
from confpy.haproxy.lexer import EMPTY, VARIABLE, Unreadable, read_words


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


KINDS = _set(
    "acme backend cache crt-store defaults fcgi-app frontend global healthcheck http-errors listen log-forward "
    "log-profile mailers namespace_list peers program resolvers ring traces userlist"
)
"""The words that begin a section, of all versions up to 3.5."""
PROXIES = frozenset({"defaults", "frontend", "listen", "backend"})
CONDITIONS = frozenset({".if", ".elif", ".else", ".endif"})
KEYWORDS = _set(
    "acl appsession backlog balance bind block capture clitcpka-cnt clitcpka-idle clitcpka-intvl clitimeout "
    "compression contimeout cookie declare default-server default_backend description disabled dispatch "
    "dynamic-cookie-key email-alert enabled error-log-format errorfile errorfiles errorloc errorloc302 "
    "errorloc303 external-check filter force-be-switch force-persist fullconn grace guid hash-balance-factor "
    "hash-preserve-affinity hash-type http-after-response http-check http-error http-request http-response "
    "http-reuse http-send-name-header id ignore-persist load-server-state-from-file log log-format "
    "log-format-sd log-steps log-tag max-keep-alive-queue max-session-srv-conns maxconn mode monitor "
    "monitor-net monitor-uri no option persist quic-initial rate-limit redirect retries retry-on server "
    "server-state-file-name server-template source srvtcpka-cnt srvtcpka-idle srvtcpka-intvl srvtimeout "
    "ssl-f-use stats stick stick-table tcp-check tcp-request tcp-response timeout transparent unique-id-format "
    "unique-id-header use-fcgi-app use-server use_backend usesrc"
)
"""What may begin a line of a proxy. Another word may begin a section in a version that is not known here."""

Words: TypeAlias = tuple[str, ...]


class ServerLine(NamedTuple):
    """A ``server`` line, or one of those that ``server-template`` stands for. There may be thousands."""

    words: Words
    """All of them: ``server``, name, address, options."""
    inherited: Words
    """The words of ``default-server`` that precede it, in order."""
    line: int


@define
class Section:
    """A section as it stands in a file."""

    kind: str
    """Empty: the lines before the first section."""
    header: Words
    line: int
    name: str = ""
    lines: list[Words] = field(default_factory=list)
    """All lines but those of servers."""
    numbers: list[int] = field(default_factory=list)
    """Where each of them stands."""
    servers: dict[str, ServerLine] = field(default_factory=dict)
    shared: Words = ()
    """The words of its ``default-server``, after those that it inherits."""
    settings: dict[str, Words] = field(default_factory=dict)
    """The last ``balance``, ``mode`` and so on, its own or inherited."""
    places: dict[str, int] = field(default_factory=dict)
    """Where those stand."""
    is_conditional: bool = False
    """What it says of its servers, or what it inherits, depends on ``.if``."""
    is_uncertain: bool = False
    """Its beginning depends on ``.if``: its lines may belong to the section before it."""
    inherits: bool = True
    """Its defaults are known: they stand in the same file, or it names them."""
    unknown: int = 0
    """The first line that begins with a word that is not known; 0: none does."""
    conditional: set[str] = field(default_factory=set)
    """Names of servers between ``.if`` and ``.endif``."""


SETTINGS = frozenset({"balance", "hash-type", "mode", "dispatch", "option transparent", "option allbackups"})
"""Lines of a proxy that decide what can be done with its servers."""


def read_sections(content: bytes, known: dict[bytes, Words]) -> list[Section]:
    """Return the sections of a file; raises ``Unreadable`` with the number of the line as its second argument."""
    return _Reader().read(content, known)


class _Reader:
    def __init__(self) -> None:
        self._sections = [Section("", (), 0)]
        self._defaults: dict[str, Section] = {}
        self._last: Section | None = None
        """The last section of defaults."""
        self._depth = 0
        """How many ``.if`` are open."""
        self._is_certain = True
        """False after a section that begins between ``.if`` and ``.endif``: the lines that follow may be of another."""

    def read(self, content: bytes, known: dict[bytes, Words]) -> list[Section]:
        section = self._sections[-1]
        for number, words in read_words(content, known):
            if not words:
                continue
            first = words[0]
            if first == "server" and not self._depth and section.kind in PROXIES:
                if self._is_certain and len(words) > 2 and words[1] not in section.servers:
                    section.servers[words[1]] = ServerLine(words, section.shared, number)
                else:
                    self._add_server(number, words)
            elif first in KINDS:
                self._begin(number, words)
                section = self._sections[-1]
            else:
                self._add(number, words)
        if self._depth:
            raise Unreadable("an .if lacks its .endif", content.count(b"\n"))
        return self._sections

    def _begin(self, number: int, words: Words) -> None:
        section = Section(words[0], words, number, words[1] if len(words) > 1 else "")
        self._is_certain = not self._depth
        section.is_conditional = bool(self._depth)
        self._sections.append(section)
        if section.kind not in PROXIES:
            return
        named = words[3] if len(words) > 3 and words[2] == "from" else ""
        if section.kind == "defaults" and "from" in words[1:3]:
            named = words[words.index("from", 1) + 1] if words[-1] != "from" else ""
            section.name = words[1] if words[1] != "from" else ""
        source = self._defaults.get(named) if named else self._last
        if section.kind == "defaults" and not named:
            source = None
        if source is not None:
            section.shared = source.shared
            section.settings, section.places = dict(source.settings), dict(source.places)
            section.is_conditional |= source.is_conditional
        elif section.kind != "defaults" or named:
            section.inherits = False
        if section.kind == "defaults":
            self._last = section
            if section.name:
                self._defaults[section.name] = section

    def _add(self, number: int, words: Words) -> None:
        section, first = self._sections[-1], words[0]
        section.lines.append(words)
        section.numbers.append(number)
        section.is_uncertain |= not self._is_certain
        if first in CONDITIONS:
            self._depth += (first == ".if") - (first == ".endif")
            if self._depth < 0:
                raise Unreadable("an .endif has no .if", number)
            return
        if section.kind not in PROXIES or first.startswith("."):
            return
        if first not in KEYWORDS:
            section.unknown = section.unknown or number
        elif first == "default-server":
            section.shared += words[1:]
            section.is_conditional |= bool(self._depth)
        elif first in {"server", "server-template"}:
            if self._depth:
                section.conditional.add(words[1] if len(words) > 1 else "")
            elif first == "server-template":
                section.lines.pop()
                section.numbers.pop()
                self._add_template(number, words)
        else:
            key = " ".join(words[:2]) if first == "option" else first
            if first == "no":
                key = " ".join(words[1:3])
            if key in SETTINGS:
                section.settings[key], section.places[key] = words, number
                section.is_conditional |= bool(self._depth)

    def _add_server(self, number: int, words: Words) -> None:
        section = self._sections[-1]
        section.is_uncertain |= not self._is_certain
        if len(words) < 3:
            raise Unreadable("a server has no address", number)
        if words[1] in section.servers:
            raise Unreadable("two servers of one name", number)
        section.servers[words[1]] = ServerLine(words, section.shared, number)

    def _add_template(self, number: int, words: Words) -> None:
        """Add the servers that ``server-template PREFIX COUNT|LOW-HIGH ADDRESS…`` stands for."""
        if len(words) < 4:
            raise Unreadable("a server-template has no address", number)
        low, _, high = words[2].rpartition("-")
        try:
            first, last = int(low or "1"), int(high)
        except ValueError:
            raise Unreadable("a server-template has no number of servers", number) from None
        if VARIABLE in words[1] or words[1] == EMPTY or not 0 <= first <= last or last - first >= 100_000:
            raise Unreadable("a server-template without a plain prefix and range", number)
        for slot in range(first, last + 1):
            self._add_server(number, ("server", f"{words[1]}{slot}", *words[3:]))
