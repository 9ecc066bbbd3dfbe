"""What commands print for people: safe on a terminal, coloured there and plain elsewhere."""

from __future__ import annotations

import pytest

from confpy.commands import stdout
from confpy.commands.stdout import colour_diff, is_coloured, printable


def test_control_characters_are_written_as_escapes_and_all_else_stays():
    assert printable("a\x1b[31mb\rc\x9b\u202ed\x00") == "a\\x1b[31mb\\rc\\x9b\\u202ed\\x00"
    assert printable("grün\t→ 日本\n") == "grün\t→ 日本\n"


@pytest.mark.parametrize(
    ("terminal", "variables", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_and_no_color_turns_them_off(monkeypatch, terminal, variables, coloured):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stdout.sys.stdout, "isatty", lambda: terminal)
    assert is_coloured() is coloured


def test_a_diff_is_coloured_by_line():
    made = colour_diff("--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n z\n")
    assert [line.partition("m")[0] for line in made.split("\n")] == [
        "\x1b[1",
        "\x1b[1",
        "\x1b[36",
        "\x1b[31",
        "\x1b[32",
        " z",
        "",
    ]
    assert all(line.endswith("\x1b[0m") for line in made.split("\n")[:5])
