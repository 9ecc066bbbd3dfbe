"""HAProxy's lexical rules, each as its manual has it."""

from __future__ import annotations

import pytest

from confpy.haproxy.lexer import EMPTY, VARIABLE, Unreadable, read_words, split_words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (rb"", ()),
        (rb"   ", ()),
        (rb"# a comment", ()),
        (rb"global#this is the section", ("global",)),
        (rb"  mode   http   # or tcp", ("mode", "http")),
        (b"\tmode\thttp\r", ("mode", "http")),
        (b"mode\x0bhttp\x0c", ("mode", "http")),
        (b"mode\xa0http", ("mode\xa0http",)),
        (rb"log-format %{+Q}o\ %t\ %s", ("log-format", "%{+Q}o %t %s")),
        (rb'log-format "%{+Q}o %t"' + rb"' %s'\ x", ("log-format", "%{+Q}o %t %s x")),
        (rb'a "b#c" \#d e#f', ("a", "b#c", "#d", "e")),
        (rb"a 'b\n\"$x' c", ("a", r"b\n\"$x", "c")),
        (rb"a \n\r\t\x41\\\'\" b", ("a", "\n\r\tA\\'\"", "b")),
        (rb"a my/\1 \.b", ("a", r"my/\1", r"\.b")),
        (rb'a "\$x" \$y $z', ("a", "$x", r"\$y", "$z")),
        (rb'a "x\"y" "x\ny"', ("a", 'x"y', "x\ny")),
        (rb"""a "it's" '"'""", ("a", "it's", '"')),
        (rb'a "" b', ("a", EMPTY, "b")),
        (rb'a ""b', ("a", "b")),
        (rb"server a\ ", ("server", "a ")),
        (b"server a \\", ("server", "a", "\\")),
        (rb'a "${A}" "$B:80" "${C-x y}"', ("a", f"{VARIABLE}{{A}}", f"{VARIABLE}B:80", f"{VARIABLE}{{C-x y}}")),
    ],
)  # fmt: skip
def test_a_line_is_split_into_words_as_the_manual_says(line, words):
    assert split_words(line) == words


@pytest.mark.parametrize("line", [b'a "b', b"a 'b", rb"a \x4", rb"a \xzz", rb"a \x00", b"a\rb", b"a\0b", b'a "$1"'])
def test_what_haproxy_refuses_or_cuts_is_not_read(line):
    with pytest.raises(Unreadable):
        split_words(line)


@pytest.mark.parametrize("line", [b"a b\x1cc\td", b"a b # c", b"\xc3\xa9 \x85 b"])
def test_a_whole_file_is_split_as_its_lines_are(line):
    assert [words for _, words in read_words(b"plain text\n" + line + b"\n", {})] == [
        ("plain", "text"),
        split_words(line),
        (),
    ]


def test_a_line_with_too_many_words_is_not_read():
    assert len(next(read_words(b"x " * 64 + b"\n", {}))[1]) == 64
    with pytest.raises(Unreadable):
        list(read_words(b"x " * 65 + b"\n", {}))


def test_a_file_whose_last_line_does_not_end_is_not_read():
    with pytest.raises(Unreadable) as caught:
        list(read_words(b"global\n daemon", {}))
    assert caught.value.args[1] == 2


def test_a_line_that_holds_its_own_number_is_another_one_elsewhere():
    (_, first), (_, second), _ = read_words(b'a "${.LINE}"\na "${.LINE}"\n', {})
    assert first != second
