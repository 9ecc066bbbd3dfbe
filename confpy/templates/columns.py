"""Where on its line a template of Jinja is malformed: Jinja says the line alone. Pure."""

from __future__ import annotations

import re

import jinja2
from jinja2.lexer import ignored_tokens
from jinja2.parser import Parser

_UNSEEN = ignored_tokens | {"raw_begin", "raw_end"}
"""What the parser never sees."""
_OFFSET = re.compile(r" at (\d+)$")
_NAMED = re.compile(r"No (?:filter|test) named '(\w+)'")


def malformed_at(source: str, line: int, message: str, environment: jinja2.Environment) -> int:
    """Return the column, from 1, of what Jinja stopped at; 0 where it is not known."""
    lines = source.split("\n")
    if not 0 < line <= len(lines) or message.startswith("Unexpected end of template"):
        return 0
    if offset := _OFFSET.search(message):
        # A character that no token begins with.
        return int(offset[1]) - sum(len(one) + 1 for one in lines[: line - 1]) + 1
    if named := _NAMED.match(message):
        word = re.search(rf"\b{named[1]}\b", lines[line - 1])
        return word.start() + 1 if word else 0
    try:
        parser = Parser(environment, source)
        taken = sum(1 for _ in parser.stream)
        parser = Parser(environment, source)
        try:
            parser.parse()
        except jinja2.TemplateSyntaxError:
            taken -= sum(1 for _ in parser.stream)
        raw = [*environment.lexer.tokeniter(source, None)]
    except (jinja2.TemplateSyntaxError, RecursionError):
        return 0
    column = begin = 0
    for number, kind, text in raw:
        first = text.partition("\n")[0]
        found = lines[line - 1].find(first, begin) if number == line else -1
        if found >= 0:
            begin = found + len(first)
        if kind in _UNSEEN:
            continue
        column = found + 1 or column
        if taken == 0:
            break
        taken -= 1
    return column
