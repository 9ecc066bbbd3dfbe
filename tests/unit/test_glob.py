"""Globs are Go's path.Match, to the letter."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confpy.keys.glob import compile_glob

MATCHES = [
    ("/*", "/a"), ("/*", "/.hidden"), ("/*", "/"), ("/a*", "/a"), ("/?", "/ć"), ("/[a-c]*", "/b"), ("/[Ą-ż]", "/ć"),
    ("/[!a]", "/!"), ("/a[^x]b", "/a/b"), ("/[/]b", "//b"), ("/\\*", "/*"), ("/*.conf", "/x.conf"), ("", ""),
    ("/*/*", "/a/b"), ("*/a", "/a"), ("/[\\]x]", "/]"), ("/a\\/b", "/a/b"), ("/[*]", "/*"),
    ("/[[]", "/["), ("/a**b", "/axxb"), ("/*a*b*c", "/xaybzc"), ("/[^a]", "/\n"), ("/?", "/\n"), ("/*", "/\udcff"),
    ("/[z-a^]", "/^"), ("/[^z-a]", "/x"),
]  # fmt: skip
DIFFERS = [
    ("/*", "/a/b"), ("*", "a/b"), ("/**", "/a/b"), ("/a", "/a/"), ("/a?b", "/a/b"), ("/[!a]", "/b"), ("/{a,b}", "/a"),
    ("/A", "/a"), ("/*a", "/ab"), ("/[^x]*", "/x"), ("a", "/a"), ("/[z-a]", "/b"), ("/.*", "/x"), ("/a+", "/aa"),
    ("*[^x]*b", "a/b"),
]  # fmt: skip
MALFORMED = [
    "/a[",
    "/a[]",
    "/[]a]",
    "/[^]]",
    "/[^]",
    "/x[a-]",
    "/x[-a]",
    "/x[a-b-c]",
    "/a\\",
    "[",
    "*[",
    "/[a",
    "/[\\",
    "x[",
]


@pytest.mark.parametrize(("pattern", "text"), MATCHES)
def test_a_pattern_matches_where_gos_does(pattern, text):
    assert compile_glob(pattern).whole.fullmatch(text)


@pytest.mark.parametrize(("pattern", "text"), DIFFERS)
def test_a_pattern_does_not_match_where_gos_does_not(pattern, text):
    assert not compile_glob(pattern).whole.fullmatch(text)


@pytest.mark.parametrize("pattern", MALFORMED)
def test_a_malformed_pattern_is_an_error_whatever_it_is_matched_with(pattern):
    with pytest.raises(ValueError, match="syntax error in pattern"):
        compile_glob(pattern)


def test_many_stars_take_no_exponential_time():
    began = time.monotonic()
    assert not compile_glob("/" + "a*" * 40 + "b").whole.fullmatch("/" + "a" * 2_000)
    assert time.monotonic() - began < 1


class Malformed(Exception):
    pass


def naive(pattern: str, text: str) -> bool:
    """path.Match written down from Go's documentation, one character after another."""
    chunks = [[]]
    position = 0
    while position < len(pattern):
        letter = pattern[position]
        position += 1
        if letter == "*":
            chunks.append([])
        elif letter == "?":
            chunks[-1].append(lambda c: c != "/")
        elif letter == "[":
            negated = pattern[position : position + 1] == "^"
            position += negated
            ranges = []
            while not ranges or pattern[position : position + 1] != "]":
                low, position = one(pattern, position)
                high = low
                if pattern[position : position + 1] == "-":
                    high, position = one(pattern, position + 1)
                ranges.append((low, high))
            position += 1
            chunks[-1].append(lambda c, r=tuple(ranges), n=negated: any(a <= c <= b for a, b in r) != n)
        else:
            if letter == "\\":
                if position == len(pattern):
                    raise Malformed
                letter = pattern[position]
                position += 1
            chunks[-1].append(lambda c, x=letter: c == x)
    first, *rest = chunks
    if not fits(first, text, 0):
        return False
    position = len(first)
    for index, chunk in enumerate(rest):
        last = index == len(rest) - 1
        while not (fits(chunk, text, position) and (not last or position + len(chunk) == len(text))):
            if position >= len(text) or text[position] == "/":
                return False
            position += 1
        position += len(chunk)
    return position == len(text)


def one(pattern, position):
    letter = pattern[position : position + 1]
    if letter in ("", "-", "]"):
        raise Malformed
    if letter == "\\":
        position += 1
        letter = pattern[position : position + 1]
        if not letter:
            raise Malformed
    if position + 1 >= len(pattern):
        raise Malformed
    return letter, position + 1


def fits(chunk, text, position):
    return position + len(chunk) <= len(text) and all(
        matches(c) for matches, c in zip(chunk, text[position:], strict=False)
    )


@given(st.text("ab/*?[]^-\\", max_size=8), st.text("ab/]^-", max_size=7))
def test_every_pattern_matches_as_written_down_in_gos_documentation(pattern, text):
    try:
        expected = naive(pattern, text)
    except Malformed:
        with pytest.raises(ValueError, match="syntax error"):
            compile_glob(pattern)
    else:
        assert bool(compile_glob(pattern).whole.fullmatch(text)) == expected


@given(st.text("ab/*?\\", max_size=8), st.text("ab/", max_size=7))
def test_a_glob_matches_segment_by_segment_what_it_matches_as_a_whole(pattern, text):
    try:
        glob = compile_glob(pattern)
    except ValueError:
        return
    parts = text.split("/")
    by_segments = len(parts) == len(glob.segments) and all(
        part == segment if isinstance(segment, str) else segment.fullmatch(part) is not None
        for segment, part in zip(glob.segments, parts, strict=True)
    )
    assert by_segments == (glob.whole.fullmatch(text) is not None)
    if by_segments:
        assert text.startswith(glob.head)
