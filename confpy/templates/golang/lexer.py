"""Go's template text as tokens (https://pkg.go.dev/text/template, its lexer's rules to the letter). Pure.

Columns count characters from 1. An error is a token: an earlier mistake, which only the parser sees, is reported first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from confpy.templates.golang.nodes import Tag


class Kind(Enum):
    """What a token is."""

    TEXT = "text"
    COMMENT = "comment"
    LEFT = "left delimiter"
    RIGHT = "right delimiter"
    SPACE = "space"
    WORD = "word"
    KEYWORD = "keyword"
    FIELD = "field"
    VARIABLE = "variable"
    DOT = "dot"
    NIL = "nil"
    BOOL = "bool"
    CHARACTER = "character constant"
    NUMBER = "number"
    COMPLEX = "complex number"
    STRING = "string"
    RAW = "raw string"
    PIPE = "|"
    ASSIGN = "="
    DECLARE = ":="
    OPEN = "("
    CLOSE = ")"
    OTHER = "character"
    ERROR = "error"
    EOF = "EOF"


class Token(NamedTuple):
    """A piece of the source."""

    kind: Kind
    text: str
    """As it stands in the source, but for text: what its neighbours' trim markers leave of it."""
    pos: int
    line: int
    trims: bool = False
    """A delimiter with a trim marker."""

    def __str__(self) -> str:
        if self.kind in {Kind.EOF, Kind.ERROR}:
            return self.text
        return f"<{self.text}>" if self.kind is Kind.KEYWORD else f'"{self.text}"'


class GoSyntaxError(Exception):
    """The text is no Go template. It is said where, and what was expected."""

    def __init__(self, message: str, line: int, column: int, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.hint = hint


KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"})

_SPACES = " \t\r\n"
_TRIMMING = re.compile(r"-(?=[ \t\r\n])")
_ANY_SPACES = re.compile(r"[ \t\r\n]*")
_QUOTED = re.compile(r'"(?:\\[^\n]|[^"\\\n])*"')
_RAW = re.compile(r"`[^`]*`")
_CHARACTER = re.compile(r"'(?:\\[^\n]|[^'\\\n])*'")
_WORD = re.compile(r"\w*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_SIMPLE = {"=": Kind.ASSIGN, "|": Kind.PIPE}
_LITERALS = {
    '"': (_QUOTED, Kind.STRING, "unterminated quoted string"),
    "`": (_RAW, Kind.RAW, "unterminated raw quoted string"),
    "'": (_CHARACTER, Kind.CHARACTER, "unterminated character constant"),
}


def _word_end(source: str, start: int) -> int:
    """Return where a word of Go's letters and digits ends; Python's also have numbers such as ½."""
    found = _WORD.match(source, start)
    assert found is not None
    if found[0].isascii():
        return found.end()
    for position in range(start, found.end()):
        character = source[position]
        if not (character == "_" or character.isalpha() or character.isdecimal()):
            return position
    return found.end()


@lru_cache(maxsize=16)
def _patterns(right: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what finds a right delimiter, and spaces: the last of a run may belong to the trim marker behind it."""
    end = re.escape(right)
    return re.compile(rf"([ \t\r\n]-)?{end}"), re.compile(rf"[ \t\r\n]+(?=[ \t\r\n]-{end})|[ \t\r\n]+")


class Lexer:
    """The tokens of one source."""

    def __init__(self, source: str, delimiters: tuple[str, ...] = ()) -> None:
        """``delimiters``: left and right, in place of ``{{`` and ``}}``."""
        self._source = source
        self._left, self._right = delimiters or ("{{", "}}")
        self._end, self._space = _patterns(self._right)
        self._line = 1
        self._counted = 0

    def _token(self, kind: Kind, start: int, end: int, *, trims: bool = False) -> Token:
        return Token(kind, self._source[start:end], start, self._line_of(start), trims)

    def _error(self, message: str, start: int) -> Token:
        return Token(Kind.ERROR, message, start, self._line_of(start))

    def _line_of(self, position: int) -> int:
        # Tokens come in order, so every line end is counted once.
        self._line += self._source.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def __iter__(self) -> Iterator[Token]:
        source, position = self._source, 0
        while True:
            left = source.find(self._left, position)
            if left < 0:
                break
            inside = left + len(self._left)
            trims = _TRIMMING.match(source, inside) is not None
            text = source[position:left]
            end = len(text.rstrip(_SPACES)) if trims else len(text)
            if end:
                yield self._token(Kind.TEXT, position, position + end)
            if source.startswith("/*", inside + 2 * trims):
                token, right = self._comment(inside + 2 * trims, trims)
                yield token
                if right is None:
                    return
            else:
                yield (token := self._token(Kind.LEFT, left, inside, trims=trims))
                for token in self._action(inside + 2 * trims):
                    yield token
                if token.kind is not Kind.RIGHT:
                    return
                right = self._end.match(source, token.pos)
            assert right is not None
            position = right.end()
            if right[1]:
                spaces = _ANY_SPACES.match(source, position)
                assert spaces is not None
                position = spaces.end()
        if position < len(source):
            yield self._token(Kind.TEXT, position, len(source))
        yield Token(Kind.EOF, "EOF", len(source), self._line_of(len(source)))

    def comment_tag(self, comment: Token) -> Tag:
        """Return the place of a comment with its delimiters."""
        right = self._end.match(self._source, comment.pos + len(comment.text))
        assert right is not None
        start = comment.pos - len(self._left) - 2 * comment.trims
        return Tag(start, right.end(), comment.line, comment.trims, bool(right[1]))

    def _comment(self, start: int, trims: bool) -> tuple[Token, re.Match[str] | None]:
        end = self._source.find("*/", start + 2)
        if end < 0:
            return self._error("unclosed comment", start), None
        right = self._end.match(self._source, end + 2)
        if right is None:
            return self._error("comment ends before closing delimiter", start), None
        return self._token(Kind.COMMENT, start, end + 2, trims=trims), right

    def _action(self, position: int) -> Iterator[Token]:
        """Yield the tokens between two delimiters; the last is the right one, or an error."""
        source, depth = self._source, 0
        while True:
            right = self._end.match(source, position)
            if right:
                if depth:
                    yield self._error("unclosed left paren", position)
                else:
                    yield self._token(Kind.RIGHT, position, right.end(), trims=bool(right[1]))
                return
            token = self._next(position)
            depth += (token.kind is Kind.OPEN) - (token.kind is Kind.CLOSE)
            if depth < 0:
                token = self._error("unexpected right paren", position)
            yield token
            if token.kind is Kind.ERROR:
                return
            position += len(token.text)

    def _next(self, start: int) -> Token:
        source = self._source
        if start == len(source):
            return self._error("unclosed action", start)
        first = source[start]
        if first in _SPACES:
            space = self._space.match(source, start)
            assert space is not None
            return self._token(Kind.SPACE, start, space.end())
        if first in _SIMPLE:
            return self._token(_SIMPLE[first], start, start + 1)
        if first == ":":
            declares = source.startswith(":=", start)
            return self._token(Kind.DECLARE, start, start + 2) if declares else self._error("expected :=", start)
        if first in _LITERALS:
            pattern, kind, problem = _LITERALS[first]
            literal = pattern.match(source, start)
            return self._token(kind, start, literal.end()) if literal else self._error(problem, start)
        if first == "$":
            return self._name(Kind.VARIABLE, start)
        following = source[start + 1 : start + 2]
        if first == "." and following and not "0" <= following <= "9":
            return self._name(Kind.FIELD, start)
        if first in "+-." or "0" <= first <= "9":
            return self._number(start)
        if first == "_" or first.isalpha() or first.isdecimal():
            return self._name(Kind.WORD, start)
        if first in "()":
            return self._token(Kind.OPEN if first == "(" else Kind.CLOSE, start, start + 1)
        if " " < first <= "~":
            return self._token(Kind.OTHER, start, start + 1)
        return self._error(f"unrecognized character in action: {_character(first)}", start)

    def _name(self, kind: Kind, start: int) -> Token:
        """Read a word, ``$word`` or ``.word``; what follows must not look like more of it."""
        source = self._source
        sign = kind is not Kind.WORD
        end = _word_end(source, start + sign)
        following = source[end : end + 1]
        if following and following not in " \t\r\n.,|:)(" and not source.startswith(self._right, end):
            return self._error(f"bad character {_character(following)}", start)
        word = source[start:end]
        if kind is Kind.FIELD and word == ".":
            kind = Kind.DOT
        elif kind is Kind.WORD:
            if word in KEYWORDS:
                kind = Kind.KEYWORD
            elif word == "nil":
                kind = Kind.NIL
            elif word in {"true", "false"}:
                kind = Kind.BOOL
        return self._token(kind, start, end)

    def _number(self, start: int) -> Token:
        end, whole = self._digits(start)
        if whole and self._source[end : end + 1] in {"+", "-"}:
            end, whole = self._digits(end)
            if whole and self._source[end - 1] == "i":
                return self._token(Kind.COMPLEX, start, end)
            whole = False
        if not whole:
            return self._error(f'bad number syntax: "{self._source[start:end]}"', start)
        return self._token(Kind.NUMBER, start, end)

    def _digits(self, start: int) -> tuple[int, bool]:
        found = _NUMBER.match(self._source, start)
        assert found is not None
        end = found.end()
        return (end + 1, False) if _word_end(self._source, end) > end else (end, True)


def _character(character: str) -> str:
    """Name a character as Go does: ``U+002D '-'``."""
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{ord(character):04X}{shown}"


def tag(left: Token, right: Token) -> Tag:
    """Return the place of the action between two delimiters."""
    return Tag(left.pos, right.pos + len(right.text), left.line, left.trims, right.trims)
