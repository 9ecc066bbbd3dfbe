r"""The lines and words of HAProxy's configuration language, as its manual defines them.

https://docs.haproxy.org/3.0/configuration.html#2.2, and #2.3 for environment variables. A ``\`` at the end of a line
joins nothing: it is the last character of its word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

MAX_WORDS = 64
"""HAProxy refuses lines with more."""

VARIABLE = "\0"
"""Stands in a word before an environment variable, whose value confpy does not know."""
EMPTY = "\0''"
"""A word of quotes with nothing between them: whether it counts depends on the version."""

_PLAIN = re.compile(rb"[^\\\"'#\r\0]*")
_ODD = re.compile(rb"[\\\"'#\r\0\x1c-\x1f]")
_ESCAPES: Mapping[str, str] = {"t": "\t", "n": "\n", "r": "\r", " ": " ", "\\": "\\", "#": "#", "'": "'", '"': '"'}
_SPACE = " \t\v\f"
LINE_NUMBER = re.compile(VARIABLE + r"\{?\.LINE\b")
"""A word with the number of its own line: the same text in another place is another line."""
_NAME = re.compile(r"\{?(?:\.?[A-Za-z_]\w*)(?:\[\*\])?(?:-[^}]*)?\}?", re.ASCII)


class Unreadable(ValueError):
    """A line that HAProxy refuses, or that is not read here as HAProxy reads it; says why."""


def read_words(content: bytes, known: dict[bytes, tuple[str, ...]]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number, from 1, and the words of each line; none for a comment. Each byte is one character.

    ``known`` keeps the words of a line for another content with the same line. Raises ``Unreadable``, whose second
    argument is the number of the line.
    """
    if content and not content.endswith(b"\n"):
        raise Unreadable("the last line does not end: HAProxy refuses such a file", content.count(b"\n") + 1)
    has_numbers = b".LINE" in content
    # Words of plain text are what Python splits, and most files are plain.
    is_plain = content.isascii() and _ODD.search(content) is None
    for number, text in enumerate(content.split(b"\n"), 1):
        words = known.get(text)
        if words is None:
            try:
                words = tuple(text.decode().split()) if is_plain else split_words(text)
            except Unreadable as error:
                raise Unreadable(error.args[0], number) from None
            if len(words) > MAX_WORDS:
                raise Unreadable(f"it has more than {MAX_WORDS} words", number)
            known[text] = words
        if has_numbers and any(LINE_NUMBER.search(word) for word in words):
            words = (*words, f"{VARIABLE}{number}")
        yield number, words


def split_words(line: bytes) -> tuple[str, ...]:
    """Return the words of a line without its end; raises ``Unreadable``."""
    line = line.removesuffix(b"\r")
    plain = _PLAIN.match(line)
    if plain is not None and (plain.end() == len(line) or line[plain.end()] == 35):  # "#": a comment
        return tuple([word.decode("latin-1") for word in plain[0].split()])
    return tuple(_split(line.decode("latin-1")))


def _split(line: str) -> Iterator[str]:
    word: list[str] = []
    is_word = False
    quote = ""
    at, end = 0, len(line)
    while at < end:
        character = line[at]
        if character in "\r\0":
            raise Unreadable("it holds a control character that ends a line")
        if character == quote:
            quote = ""
        elif quote == "'":
            word.append(character)
        elif character in "\"'" and not quote:
            quote = character
            is_word = True
        elif character == "\\":
            taken, length = _unescape(line, at, quote)
            word.append(taken)
            is_word = True
            at += length
            continue
        elif character == "$" and quote:
            name = _NAME.match(line, at + 1)
            if name is None:
                raise Unreadable("the name of an environment variable is not valid")
            word.append(VARIABLE + name[0])
            at = name.end()
            continue
        elif quote:
            word.append(character)
        elif character == "#":
            break
        elif character in _SPACE:
            if is_word:
                yield "".join(word) or EMPTY
                word, is_word = [], False
        else:
            word.append(character)
            is_word = True
        at += 1
    if quote:
        raise Unreadable("a quote is not closed")
    if is_word:
        yield "".join(word) or EMPTY


def _unescape(line: str, at: int, quote: str) -> tuple[str, int]:
    """Return what stands for an escape sequence at a place, and the length of the sequence."""
    following = line[at + 1 : at + 2]
    if following == "x":
        digits = line[at + 2 : at + 4]
        if len(digits) != 2 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            raise Unreadable("an escape sequence \\x lacks its two digits")
        if (value := int(digits, 16)) == 0:
            raise Unreadable("an escape sequence \\x00 ends the word")
        return chr(value), 4
    if following == "$" and quote:
        return "$", 2
    if following and following in _ESCAPES:
        return _ESCAPES[following], 2
    return "\\", 1  # no escape sequence: the backslash stays
