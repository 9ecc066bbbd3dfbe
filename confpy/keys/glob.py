r"""Go's ``path.Match``: the globs of confd's ``gets`` and ``getvs``.

``*`` and ``?`` stop at a slash; ``[a-z]`` and ``[^a-z]`` are classes of characters, which may match a slash; ``\x`` is
x itself. There is no ``**`` and no ``{a,b}``, and a pattern matches the whole text or not at all. The text between two
stars is looked for once, from the left: Go never comes back to a star, which shows only beside a class that matches a
slash. https://pkg.go.dev/path#Match
"""

from __future__ import annotations

import re
from functools import lru_cache

from confpy.frozen import frozen

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
_RANGE = re.compile(r"\\?(?P<low>.)(?:-\\?(?P<high>.))?", re.DOTALL)


@frozen
class Glob:
    """A pattern, ready to match."""

    whole: re.Pattern[str]
    """Use ``fullmatch``."""
    head: str
    """What every text that it matches begins with."""
    segments: tuple[str | re.Pattern[str], ...] | None
    """One for each segment of the text; None where a class can match a slash, so that there is no telling."""


@lru_cache(maxsize=1024)
def compile_glob(pattern: str) -> Glob:
    """Take a pattern apart; raises ``ValueError`` where it is malformed."""
    segments: list[list[re.Match[str]]] = [[]]
    tokens: list[re.Match[str]] = []
    position = 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None:
            raise ValueError(f"syntax error in pattern {pattern!r}")
        position = token.end()
        tokens.append(token)
        if _literal(token) == "/":
            segments.append([])
        else:
            segments[-1].append(token)
    spans = any(token["ranges"] and re.fullmatch(_class(token), "/") for token in tokens)
    return Glob(
        whole=re.compile(_regex(tokens), re.DOTALL),
        head=_head(tokens),
        segments=None if spans else tuple(_segment(tokens) for tokens in segments),
    )


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
