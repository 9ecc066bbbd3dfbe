"""Whether a candidate is what its resource says: good, bad, and made to hurt."""

from __future__ import annotations

import pytest

from confpy.delivery.check import FORMATS, parse
from confpy.errors import CheckError


def refusal(content: bytes, kind: str) -> CheckError:
    with pytest.raises(CheckError) as caught:
        parse(content, kind)
    assert caught.value.message.startswith(f"the rendered file is not {kind}: ")
    assert "hunter2" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("json", '{"a": [1, 2.5, null, true, "é"]}'),
        ("json", " [] \n"),
        ("json", '"text"'),
        ("json", "1" * 10_000),
        ("yaml", "a: 1\nb: [x, y]\n"),
        ("yaml", ""),
        ("yaml", "--- 1\n--- 2\n"),
        ("yaml", "a: &x {b: 1}\nc: *x\n"),
        ("yaml", "a: !Custom {b: 1}\n"),
        ("toml", ""),
        ("toml", 'a = 1\n[b]\nc = "é"\n'),
        ("xml", "<a><b c='1'>é</b></a>"),
        ("xml", '<?xml version="1.0" encoding="UTF-8"?>\n<a/>\n'),
        ("xml", '<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'),
    ],
)
def test_what_is_well_formed_passes(kind, content):
    parse(content.encode(), kind)


@pytest.mark.parametrize(
    ("kind", "content", "line"),
    [
        ("json", '{"a": 1,\n "password": hunter2}', 2),
        ("json", '{\n\n"password": "hunter2"', 3),
        ("json", "", 1),
        ("json", "[1]\n[2]", 2),
        ("json", "\ufeff{}", 1),
        ("yaml", "a: 1\nb: {password: hunter2\n", 3),
        ("yaml", "a: 1\n\tb: hunter2\n", 2),
        ("yaml", "a: b: hunter2", 1),
        ("yaml", "a: 1\nb: *hunter2\n", 2),
        ("yaml", "--- &x 1\n--- *x\n", 2),
        ("yaml", "a: 1\nb: hunter2\x01\n", 2),
        ("toml", "a = 1\nb = hunter2\n", 2),
        ("toml", "a = 1\na = 2\n", 2),
        ("xml", "<a>\n<b>hunter2</a>", 2),
        ("xml", "", 1),
        ("xml", "<a/>\n<b/>", 2),
        ("xml", "<a>\n&hunter2;</a>", 2),
        ("xml", '<?xml version="1.0" encoding="hunter2"?><a/>', 1),
        ("xml", '<?xml version="1.0" encoding="big5"?><a/>', 1),
    ],
)
def test_what_does_not_parse_is_rejected_with_its_line_and_without_its_values(kind, content, line):
    assert refusal(content.encode(), kind).where == {"line": line}


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_only_python_knows_are_no_json(name):
    assert refusal(f'{{"a": {name}}}'.encode(), "json").message.endswith(f"{name} is no JSON")


def test_a_number_of_thousands_of_digits_is_no_crash():
    refusal(b"a = " + b"9" * 10_000, "toml")


@pytest.mark.parametrize("kind", FORMATS)
def test_bytes_that_are_not_utf_8_are_rejected_with_their_line(kind):
    error = refusal(b"a\nb\xff\nhunter2", kind)
    assert error.message.endswith("a byte that is not UTF-8")
    assert error.where == {"line": 2}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("json", b"[" * 200_000),
        ("json", b'{"a":' * 200_000),
        ("yaml", b"[" * 200_000),
        ("yaml", b"- " * 20_000),
        ("toml", b"a = " + b"[" * 200_000),
        ("xml", b"<a>" * 200_000),
    ],
)
def test_endless_nesting_is_rejected_without_a_crash(kind, content):
    refusal(content, kind)


def test_entities_that_multiply_are_rejected_before_they_fill_the_memory():
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "hunter2">{entities}]><a>&e11;</a>'
    refusal(bomb.encode(), "xml")


def test_entities_of_other_files_are_not_read(tmp_path):
    (tmp_path / "secret").write_text("<<< hunter2")
    outside = f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]><a>&e;</a>'
    # Read, it would not be well-formed.
    parse(outside.encode(), "xml")


def test_aliases_that_multiply_cost_nothing():
    bomb = "a: &e0 [x, x]\n" + "".join(f"b{n}: &e{n} [{', '.join([f'*e{n - 1}'] * 20)}]\n" for n in range(1, 20))
    parse(bomb.encode(), "yaml")
