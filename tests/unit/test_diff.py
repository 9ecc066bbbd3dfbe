"""The difference between two contents of a target, as ``diff -u`` writes it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings, strategies

from confpy.target.diff import LARGEST, unified

LINES = strategies.lists(strategies.sampled_from([b"a", b"b", b"", b"\xff", b"c\r", "ü".encode()]), max_size=8)
CONTENTS = strategies.builds(lambda lines, end: b"\n".join(lines) + end, LINES, strategies.sampled_from([b"", b"\n"]))


def test_equal_contents_have_no_difference():
    assert unified(b"x\n", b"x\n", "a", "b") == ""
    assert unified(None, None, "a", "b") == ""


def test_a_line_without_an_end_is_told_from_one_with_it():
    assert unified(b"x", b"x\n", "a", "b") == ("--- a\n+++ b\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n")


def test_a_file_that_is_missing_is_the_null_device():
    assert unified(None, b"x\n", "a", "b") == "--- /dev/null\n+++ b\n@@ -0,0 +1 @@\n+x\n"
    assert unified(None, b"", "a", "b") == "--- /dev/null\n+++ b\n"
    assert unified(b"x\n", None, "a", "b").startswith("--- a\n+++ /dev/null\n")


@pytest.mark.parametrize("content", [b"a\0b", b"x" * (LARGEST + 1)])
def test_what_is_no_text_or_too_large_is_said_to_differ(content):
    text = unified(b"x\n", content, "a", "b")
    assert text.count("\n") == 3
    assert "differ" in text


@given(CONTENTS, CONTENTS)
@settings(max_examples=40, deadline=None)
def test_patch_makes_the_new_content_of_the_old(tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("patch")
    (folder / "a").write_bytes(old)
    text = unified(old, new, "a", "a")
    done = subprocess.run(
        ["git", "apply", "--unsafe-paths", "-p0", "--whitespace=nowarn", "-"],
        input=text.encode("utf-8", "surrogateescape"), cwd=folder, check=False, capture_output=True,
    )  # fmt: skip
    assert not text or done.returncode == 0, done.stderr
    assert (folder / "a").read_bytes() == new
