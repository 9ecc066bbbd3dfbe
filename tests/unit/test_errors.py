"""What errors say, and how the program ends for them."""

from __future__ import annotations

import pytest

from confpy import errors
from confpy.errors import (
    AccessDenied,
    CheckError,
    ConfpyError,
    KeyMissing,
    ReloadError,
    StoreError,
    TargetError,
    TemplateError,
    UsageError,
    exit_code,
)

CODES = {
    ConfpyError: 1,
    UsageError: 2,
    StoreError: 3,
    AccessDenied: 3,
    errors.WatchLost: 3,
    errors.NoApi: 3,
    TemplateError: 4,
    KeyMissing: 4,
    CheckError: 5,
    TargetError: 6,
    errors.TargetTorn: 6,
    ReloadError: 7,
}


def test_every_class_has_its_code_and_the_tree_in_the_docstring_is_the_tree():
    classes = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ConfpyError)}
    assert {one: one.exit_code for one in classes} == CODES
    drawn = [line.strip(" │├└─").split()[:2] for line in errors.__doc__.splitlines() if "  " in line.strip()]
    assert [(one.__name__, str(code)) for one, code in CODES.items()] == [tuple(words) for words in drawn]


def test_only_a_kind_of_its_own_shares_the_code_of_another():
    roots = [one for one in CODES if one.__base__ in (ConfpyError, Exception)]
    assert len({CODES[one] for one in roots}) == len(roots)
    assert all(CODES[one] == CODES[one.__base__] for one in CODES if one not in roots)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        ((), 0),
        ((ReloadError,), 7),
        ((ReloadError, TargetError, CheckError), 5),
        ((CheckError, AccessDenied, ReloadError), 3),
        ((TargetError, KeyMissing), 4),
        ((ConfpyError, UsageError), 1),
        ((TargetError, TargetError), 6),
    ],
)
def test_the_smallest_code_wins(raised, code):
    assert exit_code(one("failed") for one in raised) == code


def test_a_log_line_has_the_message_the_places_and_the_hint():
    error = TargetError("it cannot be read", hint="look there", target="/f", line=3)
    assert error.fields() == {"error": "it cannot be read", "target": "/f", "line": 3, "hint": "look there"}
    assert TargetError("it cannot be read").fields() == {"error": "it cannot be read"}


def test_a_person_reads_message_places_and_hint_in_one_line():
    assert str(TargetError("no", hint="try", target="/f", line=3)) == "no (target=/f line=3); try"
    assert str(TargetError("no")) == "no"


def test_places_are_added_and_those_that_are_known_stay():
    error = CheckError("no", target="/f")
    assert error.at(resource="web", target="/g") is error
    assert error.fields() == {"error": "no", "resource": "web", "target": "/f"}
    assert error.at(resource="other").fields()["resource"] == "web"
