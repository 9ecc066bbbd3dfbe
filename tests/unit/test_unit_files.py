"""The reader of unit files, held to the examples of systemd.service(5) and systemd.syntax(7)."""

from __future__ import annotations

import pytest

from tests.unit_files import Command, command, environment, environment_file, read, specifiers, split

ONE = [("Environment", """"ONE=one" 'TWO=two two'""")]
TWO = [("Environment", """ONE='one' "TWO='two two' too" THREE=""")]


@pytest.mark.parametrize(
    ("settings", "line", "words"),
    [
        (ONE, "echo $ONE $TWO ${TWO}", ("echo", "one", "two", "two", "two two")),
        (TWO, "/bin/echo ${ONE} ${TWO} ${THREE}", ("/bin/echo", "'one'", "'two two' too", "")),
        (TWO, "/bin/echo $ONE $TWO $THREE", ("/bin/echo", "one", "two two", "too")),
        ([], r"echo / >/dev/null & \; ls", ("echo", "/", ">/dev/null", "&", ";", "ls")),
        ([], "sh -c 'dmesg | tac'", ("sh", "-c", "dmesg | tac")),
        ([], r"echo 'it\'s' \x41\sB $$HOME", ("echo", "it's", "A B", "$HOME")),
        (ONE, "sh -c 'echo $ONE ${ONE} $(id)'", ("sh", "-c", "echo $ONE one $(id)")),
        ([], "echo %i %n %p 100%%", ("echo", "8080", "web@8080.service", "web", "100%")),
        ([], "echo $NONE ${NONE}", ("echo", "")),
    ],
)
def test_command_lines_are_split_and_filled_in_as_systemd_says(settings, line, words):
    known = specifiers("web@8080.service")
    assert command(line, known, environment(settings, known)) == Command(words, may_fail=False)


def test_prefixes_say_that_a_command_may_fail_and_that_variables_stay():
    assert command("-/bin/false", {}, {}) == Command(("/bin/false",), may_fail=True)
    assert command(":echo $ONE", {}, {"ONE": "1"}) == Command(("echo", "$ONE"), may_fail=False)
    with pytest.raises(AssertionError, match="prefix"):
        command("+/bin/true", {}, {})


@pytest.mark.parametrize("text", ["'open", "'one'two", r"a\q"])
def test_mistakes_in_quotes_and_escapes_are_told(text):
    with pytest.raises(AssertionError):
        split(text)


def test_long_lines_are_joined_and_an_empty_value_clears_a_setting():
    lines = [
        "[Service]",
        "ExecStart=a \\",
        "  # a comment",
        "  ; another",
        "  b",
        "",
        "Environment=A=1",
        "Environment=",
        "# end",
    ]
    text = "\n".join([*lines, "[X-Fleet]", ""])
    assert read(text) == {"Service": [("ExecStart", "a    b")], "X-Fleet": []}


def test_files_of_variables_are_read():
    text = "# a comment\nADDRESS=10.0.0.7\n\nNAME='a b'\nEMPTY=\n"
    assert environment_file(text) == {"ADDRESS": "10.0.0.7", "NAME": "a b", "EMPTY": ""}
