"""The paths in a command: through a real shell, whatever they are made of."""

from __future__ import annotations

import os
import shlex

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from confpy.reload.actions import HttpReload
from confpy.system.placeholders import command_line, fill_command
from confpy.system.subprocesses import Shell

# Any path that Linux knows: all bytes but NUL, also those that are not UTF-8.
PATHS = st.binary(min_size=1, max_size=40).map(lambda raw: "/" + os.fsdecode(raw.replace(b"\0", b"0")))


@pytest.mark.parametrize(
    "written", ["{{.src}}", "{{ .src }}", "{{src}}", "{{ src }}", "{{src }}", "{{   .src}}", "{{\t.src\n}}"]
)
def test_every_spelling_of_a_placeholder_is_filled_in(written):
    assert fill_command(f"check {written}", "/s", "/d") == "check /s"
    assert fill_command(f"check {written.replace('src', 'dest')}", "/s", "/d") == "check /d"
    assert fill_command(("check", f"--file={written}"), "/s", "/d") == ("check", "--file=/s")


@pytest.mark.parametrize(
    "written",
    [
        "{{.ID}}",
        "{{.Src}}",
        "{{.srcs}}",
        "{{. src}}",
        "{{..src}}",
        "{{src.name}}",
        "{{.src | base}}",
        "{{source}}",
        "{ {src}}",
        "{src}",
        "{{}}",
        "{{-src-}}",
        "$src",
    ],
)
def test_what_is_no_placeholder_stays(written):
    command = f'docker ps --format "{written}"'
    assert fill_command(command, "/s", "/d") == command
    assert fill_command((command, written), "/s", "/d") == (command, written)


def test_all_placeholders_of_a_command_are_filled_in():
    assert fill_command("diff {{.src}} {{dest}} || cp {{src}} {{.dest}}", "/s", "/d") == "diff /s /d || cp /s /d"


def test_what_a_path_contains_is_not_filled_in_again():
    assert fill_command(("{{src}}{{dest}}",), "/{{dest}}", "/{{src}}") == ("/{{dest}}/{{src}}",)


@given(PATHS, PATHS)
@example("/a b", "/it's")
@example("/$(touch /tmp/x); rm -rf *", '/"`\\\n\t')
@example("/\\1\\g<0>", "/-n %s é \udcff")
def test_paths_are_whole_words_to_a_posix_shell(src, dest):
    assert shlex.split(fill_command("printf {{.src}} {{ dest }}", src, dest)) == ["printf", src, dest]
    assert fill_command(("printf", "{{.src}}", "={{dest}}"), src, dest) == ("printf", src, f"={dest}")


@settings(max_examples=15, deadline=None)
@given(PATHS, PATHS)
@example("/a b\nc", '/it\'s "so" $HOME `id` \\ * ; & | <')
def test_paths_arrive_whole_through_a_real_shell(src, dest):
    # od shows every byte, also those that Ran.tail takes out.
    ran = Shell().run(fill_command("printf '%s\\0' {{.src}} {{dest}} | od -An -v -tx1", src, dest), {}, 30)
    assert bytes.fromhex("".join(ran.tail.split())) == os.fsencode(f"{src}\0{dest}\0")


def test_a_command_is_shown_as_one_would_type_it():
    assert command_line("check {{.src}} | tail") == "check {{.src}} | tail"
    assert command_line(("check", "a b", "{{.src}}", "it's")) == "check 'a b' '{{.src}}' 'it'\"'\"'s'"


def test_a_request_is_shown_without_its_query_and_told_from_another():
    shown = [HttpReload("POST", f"http://lb/reload{query}").describe() for query in ("", "?token=a", "?token=b")]
    assert len(set(shown)) == 3
    assert all(one.startswith("POST http://lb/reload") and "token" not in one for one in shown)
