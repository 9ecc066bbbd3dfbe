r"""Go's ``path.Match``: the globs of confd's ``gets`` and ``getvs``.

``*`` and ``?`` stop at a slash; ``[a-z]`` and ``[^a-z]`` are classes of characters, which may match a slash; ``\x`` is
x itself. There is no ``**`` and no ``{a,b}``, and a pattern matches the whole text or not at all. The text between two
stars is looked for once, from the left: Go never comes back to a star, which shows only beside a class that matches a
slash. https://pkg.go.dev/path#Match
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

_TOKEN = re.compile(
    r"""
      (?P<star> \*+ )
    | (?P<one> \? )
    | \[ (?P<negated> \^?+ ) (?P<ranges> (?: (?: \\. | [^]\\-] ) (?: - (?: \\. | [^]\\-] ) )?+ )+ ) \]
    | \\ (?P<escaped> . )
    | (?P<plain> [^*?[\\] )
    """,
    re.VERBOSE | re.DOTALL,
)
_WILD = re.compile(r"[*?]")
_RANGE = re.compile(r"\\?(?P<low>.)(?:-\\?(?P<high>.))?", re.DOTALL)


class Glob:
    """A pattern, ready to match."""

    __slots__ = ("_regex", "_whole", "head", "segments")

    def __init__(self, head: str, segments: tuple[str | re.Pattern[str], ...] | None, regex: Callable[[], str]) -> None:
        """``regex`` returns the regular expression of the whole."""
        self.head = head
        """What every text that it matches begins with."""
        self.segments = segments
        """One for each segment of the text; None where a class can match a slash, so that there is no telling."""
        self._regex = regex
        self._whole: re.Pattern[str] | None = None

    @property
    def whole(self) -> re.Pattern[str]:
        """Use ``fullmatch``. It is compiled when it is first asked for: keys are found by segments."""
        if self._whole is None:
            self._whole = re.compile(self._regex(), re.DOTALL)
        return self._whole

    def matches_root(self) -> bool:
        """Say whether it matches ``/`` alone."""
        if self.segments is None:
            return self.whole.fullmatch("/") is not None
        return len(self.segments) == 2 and all(
            not segment if isinstance(segment, str) else segment.fullmatch("") for segment in self.segments
        )


@lru_cache(maxsize=1024)
def compile_glob(pattern: str) -> Glob:
    """Take a pattern apart; raises ``ValueError`` where it is malformed."""
    if "[" not in pattern and "\\" not in pattern:
        # A resource has patterns of its own, but few that differ in more than their literal segments.
        return Glob(
            head=_WILD.split(pattern, 1)[0],
            segments=tuple(map(_plain_segment, pattern.split("/"))),
            regex=lambda: _regex(_tokens(pattern)),
        )
    tokens = _tokens(pattern)
    segments: list[list[re.Match[str]]] = [[]]
    for token in tokens:
        if _literal(token) == "/":
            segments.append([])
        else:
            segments[-1].append(token)
    spans = any(token["ranges"] and re.fullmatch(_class(token), "/") for token in tokens)
    return Glob(
        head=_head(tokens),
        segments=None if spans else tuple(_segment(tokens) for tokens in segments),
        regex=lambda: _regex(tokens),
    )


@lru_cache(maxsize=256)
def _segment_of(pattern: str) -> str | re.Pattern[str]:
    return _segment(_tokens(pattern))


def _plain_segment(pattern: str) -> str | re.Pattern[str]:
    """Return the segment of a pattern in which nothing but stars and question marks has a meaning."""
    return _segment_of(pattern) if "*" in pattern or "?" in pattern else pattern


def _tokens(pattern: str) -> list[re.Match[str]]:
    """Return the tokens of a pattern; raises ``ValueError`` where it is malformed."""
    tokens: list[re.Match[str]] = []
    position = 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None:
            raise ValueError(f"syntax error in pattern {pattern!r}")
        position = token.end()
        tokens.append(token)
    return tokens


def _literal(token: re.Match[str]) -> str | None:
    return token["plain"] or token["escaped"]


def _head(tokens: list[re.Match[str]]) -> str:
    head = ""
    for token in tokens:
        literal = _literal(token)
        if literal is None:
            break
        head += literal
    return head


def _segment(tokens: list[re.Match[str]]) -> str | re.Pattern[str]:
    head = _head(tokens)
    return head if len(head) == len(tokens) else re.compile(_regex(tokens), re.DOTALL)


def _regex(tokens: list[re.Match[str]]) -> str:
    chunks = [""]
    for token in tokens:
        if token["star"]:
            chunks.append("")
        elif token["one"]:
            chunks[-1] += "[^/]"
        elif token["ranges"]:
            chunks[-1] += _class(token)
        else:
            chunks[-1] += re.escape(_literal(token) or "")
    if len(chunks) == 1:
        return chunks[0]
    first, *middle, last = chunks
    # The atomic groups are Go's "never comes back", and keep a pattern of many stars from taking exponential time.
    return first + "".join(f"(?>[^/]*?{chunk})" for chunk in middle) + f"[^/]*?{last}"


def _class(token: re.Match[str]) -> str:
    ranges = ""
    for match in _RANGE.finditer(token["ranges"]):
        low, high = match["low"], match["high"] or match["low"]
        if low <= high:
            ranges += f"{re.escape(low)}-{re.escape(high)}"
    if ranges:
        return f"[{token['negated']}{ranges}]"
    return "." if token["negated"] else "(?!)"
