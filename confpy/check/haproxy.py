"""Resources with ``reload_haproxy``: which changes of their templates' output a running HAProxy can follow."""

from __future__ import annotations

import re
from collections.abc import Iterator

from confpy.haproxy.advice import VARIES, Advice, Followed, TemplateLine, advise
from confpy.haproxy.lexer import Unreadable, split_words

_COMMENT = r"\{\#.*?\#\}"
_STATEMENT = r"\{%[-+]?\s*(?P<statement>\w+)(?P<rest>.*?)[-+]?%\}"
_OPENS = frozenset({"for", "if", "macro", "call", "filter", "with", "raw", "autoescape", "block"})
_CONDITIONAL = frozenset({"for", "if", "range"})
_GO_OPENS = frozenset({"range", "if", "with", "define", "block"})
_GO_SILENT = frozenset({"else", "break", "continue"})
_GO_WORD = re.compile(
    r"(?:(?P<word>range|if|with|define|block|else|end|break|continue)\b|(?P<set>\$\w*\s*(?:,\s*\$\w+\s*)?:?=[^=])|/\*)"
)


def follow(source: str, engine: str, delimiters: tuple[str, ...]) -> tuple[list[Followed], list[Advice]]:
    """Return what ``advise`` says of a template."""
    return advise([*read_lines(source, engine, delimiters or ("{{", "}}"))])


def read_lines(source: str, engine: str, delimiters: tuple[str, ...]) -> Iterator[TemplateLine]:
    """Yield the lines of a template that hold words, with a mark for each expression."""
    texts: list[str] = [""]
    marks: list[bool] = [False]
    depths: list[bool] = []

    def add(text: str) -> None:
        first, *more = text.split("\n")
        for at, part in enumerate((first, *more)):
            if at:
                texts.append("")
                marks.append(False)
            texts[-1] += part
            if part.strip():
                marks[-1] |= any(depths)

    for text, token in _tokens(source, engine, delimiters):
        add(text)
        if token is None:
            continue
        is_go = engine == "go"
        kind, word, lines = token
        if kind == "expression":
            add(VARIES)
        elif word in (_GO_OPENS if is_go else _OPENS):
            depths.append(word in _CONDITIONAL or (is_go and word == "with"))
        elif depths and (word == "end" if is_go else word.startswith("end")):
            depths.pop()
        # A tag may span lines: what follows it keeps its number.
        texts.extend([""] * lines)
        marks.extend([False] * lines)
    for number, (text, is_conditional) in enumerate(zip(texts, marks, strict=True), 1):
        try:
            words = split_words(text.encode("utf-8", "replace"))
        except Unreadable:
            continue
        if words:
            yield TemplateLine(number, words, is_conditional)


def _tokens(source: str, engine: str, delimiters: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, str, int] | None]]:
    """Yield each text with what follows it: its kind, the word that it begins with, and its line ends."""
    begin, end = (re.escape(one) for one in delimiters)
    expression = rf"{begin}(?P<expression>.*?){end}"
    pattern = expression if engine == "go" else f"{_COMMENT}|{_STATEMENT}|{expression}"
    at = 0
    for found in re.finditer(pattern, source, re.DOTALL):
        yield source[at : found.start()], _token(found, engine)
        at = found.end()
    yield source[at:], None


def _token(found: re.Match[str], engine: str) -> tuple[str, str, int]:
    lines = found[0].count("\n")
    groups = found.groupdict()
    if groups.get("statement"):
        return "statement", groups["statement"], lines
    if groups.get("expression") is None:
        return "comment", "", lines
    if engine == "go":
        written = groups["expression"].strip().removeprefix("-").lstrip()
        word = _GO_WORD.match(written)
        if word is not None:
            return "statement", word["word"] or "", lines
    return "expression", "", lines
