"""Which changes of a template's output a running HAProxy can follow, and which of its lines stand in the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from confpy.frozen import define, field, frozen
from confpy.haproxy.compare import BACKENDS, COUNTS, HASHES
from confpy.haproxy.sections import KINDS, PROXIES, SETTINGS
from confpy.haproxy.servers import read_address
from confpy.haproxy.words import NEVER, OF_NAMES, SINCE, options

VARIES = "\x02"
"""Stands in a word for what a template prints."""


@frozen
class TemplateLine:
    """A line of a template that is text, with ``VARIES`` for each expression in it."""

    number: int
    words: tuple[str, ...]
    is_conditional: bool = False
    """It stands in a loop, or depends on a condition."""


@frozen
class Advice:
    """A line of a template, and what it does to the changes that can be followed."""

    line: int
    why: str
    hint: str
    blocks: Literal["all", "adds", "itself"] = "adds"
    """No change of servers is followed because of it; or none that come and go; or only its own need a reload."""


@frozen
class Followed:
    """A section whose servers come from keys."""

    title: str
    line: int
    """Its first ``server`` line."""
    adds: bool
    """Servers that come and go are followed too, from HAProxy 3.0 on; else only address, weight and state."""


@define
class _Section:
    kind: str = ""
    name: str = ""
    line: int = 0
    settings: dict[str, TemplateLine] = field(default_factory=dict)
    shared: list[TemplateLine] = field(default_factory=list)
    servers: list[TemplateLine] = field(default_factory=list)
    others: list[TemplateLine] = field(default_factory=list)


def advise(lines: Sequence[TemplateLine]) -> tuple[list[Followed], list[Advice]]:
    """Return the backends whose servers can be followed, and the lines that stand in the way of that, or of more."""
    followed: list[Followed] = []
    found: list[Advice] = []
    for section in _sections(lines):
        servers = [one for one in section.servers if _varies(one)]
        if section.kind in BACKENDS and servers:
            obstacles = [*_of_section(section), *(advice for one in servers for advice in _of_server(one))]
            found += {(one.line, one.why): one for one in obstacles}.values()
            if all(one.blocks != "all" for one in obstacles):
                title = f"{section.kind} {section.name}".replace(VARIES, "…")
                followed.append(Followed(title, servers[0].number, not obstacles))
        if _varies_header(section, lines):
            hint = "each new one is a reload: HAProxy adds backends while it runs from 3.4 on at the earliest"
            found.append(Advice(section.line, f"a {section.kind} whose name comes from keys", hint, blocks="itself"))
        for one in section.others:
            if _varies(one):
                first = one.words[0].replace(VARIES, "…")
                hint = "keep what changes often out of it, or in a map file: HAProxy follows those"
                found.append(Advice(one.number, f"a change of this line ({first}) is a reload", hint, blocks="itself"))
    return followed, sorted(found, key=lambda one: one.line)


def _varies(line: TemplateLine) -> bool:
    return line.is_conditional or any(VARIES in word for word in line.words)


def _varies_header(section: _Section, lines: Sequence[TemplateLine]) -> bool:
    header = next((one for one in lines if one.number == section.line), None)
    return header is not None and VARIES in section.name and section.kind in BACKENDS


def _sections(lines: Sequence[TemplateLine]) -> list[_Section]:
    sections = [_Section()]
    defaults = _Section()
    for line in lines:
        section, first = sections[-1], line.words[0]
        if first in KINDS:
            section = _Section(first, line.words[1] if len(line.words) > 1 else "", line.number)
            if first in PROXIES and first != "defaults":
                section.settings, section.shared = dict(defaults.settings), list(defaults.shared)
            if first == "defaults":
                defaults = section
            sections.append(section)
        elif section.kind in PROXIES and first in {"server", "server-template"}:
            section.servers.append(line)
        else:
            section.others.append(line)
            if section.kind not in PROXIES:
                continue
            if first == "default-server":
                section.shared.append(line)
            key = " ".join(line.words[:2]) if first == "option" else first
            if key in SETTINGS:
                section.settings[key] = line
    return sections


def _of_section(section: _Section) -> list[Advice]:
    """Return what of a section stands in the way of its servers."""
    found = []
    balance = section.settings.get("balance")
    algorithm = balance.words[1].partition("(")[0] if balance is not None and len(balance.words) > 1 else ""
    if balance is not None and algorithm in COUNTS | {"static-rr"}:
        kind = section.settings.get("hash-type")
        consistent = kind is not None and kind.words[1:2] == ("consistent",)
        keyed = all("id" in one.words or "hash-key" in one.words for one in section.servers)
        if algorithm in HASHES and not consistent:
            hint = "write balance roundrobin, leastconn or random, or a fixed number of servers with slots()"
            why = f"with balance {algorithm}, servers come and go by a reload"
            found.append(Advice(balance.number, why, hint))
        elif not keyed or algorithm == "static-rr":
            hint = "give each server hash-key addr (from 3.0), or an id" if algorithm in HASHES else "write leastconn"
            why = f"with balance {algorithm}, the place of a server in the file counts: servers come and go by a reload"
            found.append(Advice(balance.number, why, hint))
    mode = section.settings.get("mode")
    if mode is not None and mode.words[1:2] not in {("tcp",), ("http",)} and not _varies(mode):
        found.append(Advice(mode.number, "servers of this mode are not followed", "", "all"))
    for line in section.shared:
        found += _of_options(line, line.words[1:], at_names=True)
    return found


def _of_server(line: TemplateLine) -> list[Advice]:
    """Return what of a server's line stands in the way."""
    words = line.words[1:] if line.words[0] == "server" else line.words[2:]
    if len(words) < 2:
        return []
    address = words[1]
    found = []
    if VARIES not in address and read_address(address) is None:
        hint = 'write an IP address: lookup_ip("NAME") asks for it at each render'
        found.append(
            Advice(line.number, "a server with another address than an IP address is not followed", hint, "all")
        )
    return [*found, *_of_options(line, words[2:], at_names=VARIES not in address and not found)]


def _of_options(line: TemplateLine, words: tuple[str, ...], *, at_names: bool) -> list[Advice]:
    plain = tuple([word for word in words if VARIES not in word or word.replace(VARIES, "")])
    given = options(plain if len(plain) == len(words) else _whole(words))
    if isinstance(given, str):
        return [] if VARIES in given else [Advice(line.number, f"the option {given} is not known", "", "all")]
    found = []
    for option in given:
        is_of_names = option in OF_NAMES
        if is_of_names and at_names:
            continue
        if option != "disabled" and SINCE.get(option, NEVER) == NEVER:
            why = f"a server with {option} is not added while HAProxy runs"
            hint = "leave it out" if is_of_names else "leave it out, or render a fixed number of servers with slots()"
            found.append(Advice(line.number, why, hint))
    return found


def _whole(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options without what a template prints among them: that may be any of them, or nothing."""
    kept: list[str] = []
    for at, word in enumerate(words):
        if word != VARIES or (at and words[at - 1] in SINCE and words[at - 1] not in {"check", "backup", "ssl"}):
            kept.append(word)
    return tuple(kept)
