"""Which keys are believed, and when."""

from __future__ import annotations

import pytest

from confpy.clock import NEVER
from confpy.guard import Guard
from confpy.model import Resource


def rules(**more) -> Resource:
    return Resource("web", "", "t", "/out/web", shrink_grace=30.0, **more)


@pytest.mark.parametrize(
    ("known", "now", "more", "verdict"),
    [
        (None, 0, {}, "yes"),
        (0, 0, {}, "yes"),
        (3, 0, {}, "hold"),
        (3, 1, {}, "yes"),
        (1, 0, {}, "yes"),
        (3, 0, {"on_shrink": "render"}, "yes"),
        (None, 1, {"min_keys": 2}, "hold"),
        (5, 2, {"min_keys": 2}, "yes"),
        (10, 5, {"max_shrink": 0.5}, "yes"),
        (10, 4, {"max_shrink": 0.5}, "hold"),
        (None, 1, {"max_shrink": 0.5}, "yes"),
        (10, 9, {"max_shrink": 0.0}, "hold"),
    ],
)
def test_few_keys_are_doubted_as_the_resource_says(known, now, more, verdict):
    assert Guard(known).judge(rules(**more), now, 0, 100.0, 50.0) == verdict


def test_a_lone_key_is_believed_gone_where_a_stream_named_it_alone():
    assert Guard(1, named=True).judge(rules(), 0, 0, 0.0, 0.0) == "yes"
    assert Guard(1, named=False).judge(rules(), 0, 0, 0.0, 0.0) == "hold"


def test_only_a_read_begun_after_the_grace_is_believed():
    guard = Guard(3)
    assert guard.judge(rules(), 0, 0, 100.0, 100.0) == "hold"
    assert guard.judge(rules(), 0, 0, 200.0, 129.9) == "hold", "however late it is"
    assert guard.judge(rules(), 0, 0, 200.0, 130.0) == "yes"


def test_another_reason_does_not_put_the_grace_off():
    guard = Guard(10)
    guard.judge(rules(max_shrink=0.1), 5, 0, 100.0, 100.0)
    guard.judge(rules(max_shrink=0.1), 4, 0, 120.0, 120.0)
    assert guard.doubt is not None
    assert guard.doubt.confirm_at == 130.0


def test_a_tree_that_is_empty_by_now_has_a_grace_of_its_own():
    guard = Guard(10)
    guard.judge(rules(max_shrink=0.1), 5, 0, 100.0, 100.0)
    assert guard.judge(rules(max_shrink=0.1), 0, 0, 130.0, 130.0) == "hold"
    assert guard.judge(rules(max_shrink=0.1), 0, 0, 160.0, 159.9) == "hold"
    assert guard.judge(rules(max_shrink=0.1), 0, 0, 160.0, 160.0) == "yes"


def test_a_store_that_is_replaced_while_in_doubt_is_not_believed_by_time():
    guard = Guard(3, store=0)
    guard.judge(rules(), 0, 0, 100.0, 100.0)
    assert guard.judge(rules(), 0, 1, 101.0, 101.0) == "hold"
    assert guard.doubt is not None
    assert guard.doubt.confirm_at == NEVER
    assert guard.judge(rules(), 0, 1, 9999.0, 9999.0) == "hold"


def test_keys_of_another_store_are_believed_where_there_are_some():
    assert Guard(3, store=0).judge(rules(), 2, 1, 0.0, 0.0) == "yes"


def test_keep_waits_for_ever_and_what_is_back_ends_the_doubt():
    guard = Guard(3)
    assert guard.judge(rules(on_shrink="keep"), 0, 0, 0.0, 9999.0) == "hold"
    assert guard.judge(rules(on_shrink="keep"), 1, 0, 0.0, 9999.0) == "yes"
    assert guard.doubt is None
