"""What errors say, and how the program ends for them."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import confpy
from confpy import errors
from confpy.commands.asking import NoDaemon
from confpy.daemon.questions import NoAnswer
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
from confpy.templates.results import TemplateMissing

OUTCOMES = {
    ConfpyError: (1, "internal"),
    UsageError: (2, "resource"),
    StoreError: (3, "store"),
    AccessDenied: (3, "store"),
    errors.WatchLost: (3, "store"),
    errors.NoApi: (3, "store"),
    TemplateError: (4, "template"),
    KeyMissing: (4, "template"),
    CheckError: (5, "check"),
    TargetError: (6, "target"),
    errors.TargetTorn: (6, "target"),
    ReloadError: (7, "reload"),
}
ABOUT_A_DAEMON = {NoAnswer, NoDaemon}
"""What a command that asks a running confpy may end with, beside what that one answers."""
CODES = {one: code for one, (code, _) in OUTCOMES.items()}


def test_every_class_has_its_code_and_its_stage_and_the_tree_in_the_docstring_is_the_tree():
    classes = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ConfpyError)}
    assert {one: (one.exit_code, one.stage) for one in classes} == OUTCOMES
    lines = errors.__doc__.partition("stage\n")[2].splitlines()
    drawn = [line.strip(" │├└─").split()[:3] for line in lines if "  " in line.strip()]
    assert [(one.__name__, str(code), stage) for one, (code, stage) in OUTCOMES.items()] == [*map(tuple, drawn)]


def subclasses(one):
    return {one}.union(*map(subclasses, one.__subclasses__()))


def test_an_error_that_a_module_adds_fails_at_the_stage_of_its_base():
    for found in pkgutil.walk_packages(confpy.__path__, "confpy."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    more = subclasses(ConfpyError) - OUTCOMES.keys()
    assert TemplateMissing in more
    assert {(one.exit_code, one.stage) for one in ABOUT_A_DAEMON} == {(11, "internal"), (12, "internal")}
    for one in more - ABOUT_A_DAEMON:
        base = next(base for base in one.__mro__ if base in OUTCOMES)
        assert OUTCOMES[base] == (one.exit_code, one.stage)


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


def test_a_copy_has_another_class_and_places_of_its_own():
    error = UsageError("no", hint="try", file="/f", key="a")
    copy = error.copy(StoreError, key="b")
    copy.at(resource="web")
    assert (type(copy), str(copy)) == (StoreError, "no (resource=web file=/f key=b); try")
    assert error.where == {"file": "/f", "key": "a"}


def test_failures_that_differ_in_numbers_and_ids_only_are_of_one_kind():
    said = "etcd says: member 8e9e05c52164694d is {} entries behind"
    one, other = StoreError(said.format(17), node="a:2379"), StoreError(said.format(9034), node="b:2379")
    assert one.kind == other.kind
    assert one.identity != other.identity, "another node is another place"
    assert StoreError(said.format(18), node="a:2379").identity == one.identity
    assert StoreError("etcd says: no leader").kind != one.kind


def test_a_number_that_makes_another_failure_is_named_as_the_kind_and_copied():
    one, two = (ReloadError(f"the reload exited with {code}", kind=("reload", code)) for code in (1, 2))
    assert one.kind != two.kind
    assert one.copy(StoreError).kind == one.kind
