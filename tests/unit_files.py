"""Unit files of systemd and fleet, read as systemd.syntax(7) and systemd.service(5) say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

SECTION = re.compile(r"\[([\w-]+)\]")
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
ESCAPE = re.compile(r"\\(?:([abfnrtvs])|([\\\"'])|x([0-9a-f]{2})|([0-7]{3})|u([0-9a-f]{4})|(.?))", re.DOTALL)
SPECIFIER = re.compile(r"%(.)")
BRACED = re.compile(r"\$(?:\{(\w+)\}|(\$))")

Settings = list[tuple[str, str]]


def read(text: str) -> dict[str, Settings]:
    """Return the settings of a unit by section, in their order; an empty value clears what was set before."""
    found: dict[str, Settings] = {}
    lines: Settings = []
    for line in _lines(text):
        if match := SECTION.fullmatch(line):
            lines = found.setdefault(match[1], [])
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        assert equals, f"neither a section nor a setting: {line}"
        if not value:
            lines[:] = [one for one in lines if one[0] != name]
        else:
            lines.append((name, value))
    return found


def _lines(text: str) -> Iterator[str]:
    """Return the lines that say something; comments between the parts of a long one are left out of it."""
    begun = ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")) or (not begun and not line.strip()):
            continue
        if line.endswith("\\"):
            begun += line[:-1] + " "
            continue
        yield (begun + line).strip()
        begun = ""
    assert not begun, "the file ends within a line"


def values(settings: Settings, name: str) -> list[str]:
    return [value for one, value in settings if one == name]


def value(settings: Settings, name: str, default: str) -> str:
    """Return what a setting is set to last."""
    return [default, *values(settings, name)][-1]


class Command(NamedTuple):
    """One command line of a unit."""

    words: tuple[str, ...]
    may_fail: bool


def command(line: str, specifiers: Mapping[str, str], environment: Mapping[str, str]) -> Command:
    """Return the command of an ``Exec…=`` line, with its specifiers and variables replaced."""
    program = line.lstrip("-:")
    prefixes = line[: len(line) - len(program)]
    assert program[0] not in "@+!|", f"the prefix is not known here: {line}"
    words = [specify(word, specifiers) for word in split(program)]
    if ":" not in prefixes:
        words = [word for one in words for word in _expand(one, environment)]
    return Command(tuple(words), "-" in prefixes)


def specify(text: str, specifiers: Mapping[str, str]) -> str:
    """Replace specifiers such as ``%i``; an unknown one is a mistake."""
    return SPECIFIER.sub(lambda match: "%" if match[1] == "%" else specifiers[match[1]], text)


def specifiers(name: str) -> dict[str, str]:
    """Return the specifiers of the unit that is called so: ``web@8080.service``."""
    prefix, _, instance = name.removesuffix(".service").partition("@")
    return {"n": name, "N": name.removesuffix(".service"), "p": prefix, "i": instance}


def split(text: str) -> list[str]:
    """Split at spaces. Quotes enclose whole words; escapes are those of C."""
    words: list[str] = []
    rest = text.lstrip()
    while rest:
        quote = rest[0] if rest[0] in "'\"" else ""
        pattern = rf"{quote}((?:\\.|[^\\{quote}])*){quote}(?:\s+|$)" if quote else r"((?:\\.|[^\\\s])+)(?:\s+|$)"
        match = re.match(pattern, rest, re.DOTALL)
        assert match is not None, f"a quote that does not end a word: {rest}"
        words.append(ESCAPE.sub(_unescape, match[1]) if match[1] != r"\;" else ";")
        rest = rest[match.end() :]
    return words


def _unescape(match: re.Match[str]) -> str:
    letter, itself, hexadecimal, octal, code, unknown = match.groups()
    assert unknown is None, f"an unknown escape: {match[0]}"
    if hexadecimal or octal or code:
        return chr(int(octal, 8) if octal else int(hexadecimal or code, 16))
    return ESCAPES[letter] if letter else itself


def _expand(word: str, environment: Mapping[str, str]) -> list[str]:
    if match := re.fullmatch(r"\$(\w+)", word):
        return split(environment.get(match[1], ""))
    return [BRACED.sub(lambda match: match[2] or environment.get(match[1], ""), word)]


def environment(settings: Settings, specifiers: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of ``Environment=``."""
    lines = values(settings, "Environment")
    return _assignments(specify(word, specifiers) for line in lines for word in split(line))


def environment_file(text: str) -> dict[str, str]:
    """Return the variables of a file of ``EnvironmentFile=``."""
    lines = [line.strip() for line in text.splitlines()]
    return _assignments("".join(shlex.split(line)) for line in lines if line and not line.startswith(("#", ";")))


def _assignments(words: Iterable[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    return {name: value for name, _, value in pairs}
