"""Plain TOML files are read without a parser, and mean exactly what they mean to one."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from confpy.config.toml import LARGEST_FILE, parse_plain, parse_toml, read_text
from confpy.errors import UsageError
from confpy.system.reading import read_up_to

ROOT = Path(__file__).parents[2]

SPACE = st.sampled_from(["", " ", "  ", "\t"])
NAME = st.sampled_from(["src", "dest", "keys", "a-b", "A_1", "7", "template", "true"])
STRING = st.text("ab/.{}$%#'[]=, \t~", max_size=8).map('"{}"'.format)
ARRAY = st.tuples(st.lists(STRING, max_size=3), SPACE, SPACE, st.sampled_from(["", ","])).map(
    lambda parts: f"[{parts[1]}{f'{parts[2]},{parts[1]}'.join(parts[0])}{parts[3]}{parts[2]}]"
)
NUMBER = st.integers(-10, 10**19).map(str) | st.sampled_from(
    ["00", "01", "+1", "1_0", "1.5", "1e3", "inf", "2020-01-01"]
)
VALUE = (
    STRING
    | ARRAY
    | NUMBER
    | st.sampled_from(["true", "false", '""', '"""x"""', "'x'", '"\\n"', '"é"', "{ a = 1 }", ""])
)
COMMENT = st.sampled_from(["", "# why", "#", '#"', "# é", "#\t[x]", "#\x07"])
PAIR = st.tuples(SPACE, NAME, SPACE, SPACE, VALUE, SPACE, COMMENT).map(
    lambda parts: f"{parts[0]}{parts[1]}{parts[2]}={parts[3]}{''.join(parts[4:])}"
)
TABLE = st.tuples(SPACE, st.sampled_from(["[template]", "[backend]", "[ a ]", "[a.b]", "[[a]]"]), SPACE, COMMENT).map(
    "".join
)
FILE = st.lists(st.one_of(PAIR, PAIR, TABLE, st.tuples(SPACE, COMMENT).map("".join)), max_size=6).flatmap(
    lambda lines: st.sampled_from(["\n", "\n", "\r\n"]).map(lambda end: end.join(lines))
)
CHARACTERS = st.sampled_from(
    [*"\"'\\#=[],.\n\r\t -_aZ09+", "\x00", "\x7f", "\ufeff", "é", "\u2028", "\x85", "\x0c", "\x1c"]
)


def agrees(content: str) -> None:
    plain = parse_plain(content)
    if plain is None:
        return
    parsed = tomllib.loads(content)
    assert plain == parsed
    assert repr(plain) == repr(parsed)


@given(FILE)
@settings(max_examples=400)
@example('[template]\nsrc = "a"\nkeys = ["/a", "/b",] # all\nuid = 0\nmkdir = true\n')
@example('a = """\n"""')
@example('a = [\n"b"]')
@example("[template]\n[template]")
@example("template = 1\n[template]")
@example("a = 1\na = 2")
def test_a_plain_file_means_what_it_means_to_a_parser(content):
    agrees(content)


@given(FILE, st.data())
@settings(max_examples=400)
def test_so_does_one_with_a_character_too_many_too_few_or_wrong(content, data):
    at = data.draw(st.integers(0, len(content)))
    agrees(content[:at] + data.draw(CHARACTERS | st.just("")) + content[at + data.draw(st.integers(0, 1)) :])


@given(st.text())
def test_so_does_any_text(content):
    agrees(content)


def test_most_resources_are_plain_files():
    content = (
        '[template]\nsrc   = "haproxy.cfg.j2"\ndest\t= "/etc/haproxy.cfg" # here\nkeys = [ "/a", "/b" ]\nuid = 0\n'
    )
    assert parse_plain(content) == tomllib.loads(content)
    found = [parse_plain(path.read_text()) is not None for path in ROOT.glob("examples/**/conf.d/*.toml")]
    assert sum(found) > len(found) / 2


def test_what_is_not_plain_is_left_to_the_parser():
    for line in (
        "a = '''x'''",
        'a = "\\t"',
        "a = 1.5",
        "a.b = 1",
        '"a" = 1',
        "a = {}",
        "a = [1]",
        "[a.b]",
        "a = 1 # é",
    ):
        assert parse_plain(line) is None
        assert parse_toml(line, "file") == tomllib.loads(line)
    with pytest.raises(UsageError, match="not valid TOML"):
        parse_toml("a = ", "file")


@pytest.mark.parametrize("size", [0, 1, 5, 100_000])
def test_a_file_is_read_whole_whatever_size_it_is_said_to_have(tmp_path, size):
    (tmp_path / "file").write_bytes(b"x" * 5000)
    for most in (4999, 5000, 5001, 10_000):
        descriptor = os.open(tmp_path / "file", os.O_RDONLY)
        try:
            assert len(read_up_to(descriptor, size, most)) == min(5000, most + 1)
        finally:
            os.close(descriptor)


def test_a_settings_file_that_is_none_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (LARGEST_FILE + 1))
    for name, message in (
        (".", "Is a directory"),
        ("fifo", "not a regular file"),
        ("large", "larger"),
        ("no", "No such"),
    ):
        with pytest.raises(UsageError, match=message):
            read_text(str(tmp_path / name))
