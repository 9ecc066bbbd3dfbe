"""Which keys are believed, and when."""

from __future__ import annotations

import pytest

from confpy.agent.shrink import Guard
from confpy.clock import NEVER
from confpy.config.resource import Resource
from confpy.frozen import replace
from confpy.messages import Counted


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


# --- what a person edited --------------------------------------------------------------------------------------------


def reading(*prefixes: str, strip: str = "/", **more) -> Resource:
    return replace(rules(**more), prefixes=prefixes, strip=strip)


def edited(keys: int | None = 5, old: Resource | None = None, new: Resource | None = None) -> Guard:
    return Guard(keys).after_edit(old or reading("/app/web"), new or reading("/app/other"))


@pytest.mark.parametrize(
    ("keys", "more", "verdict"), [(1, {}, "yes"), (4, {"max_shrink": 0.0}, "yes"), (0, {}, "hold")]
)
def test_after_an_edit_fewer_keys_are_believed_and_none_at_all_are_not(keys, more, verdict):
    assert edited().judge(reading("/app/other", **more), keys, 0, 100.0, 0.0) == verdict


def test_no_key_at_all_after_an_edit_waits_for_a_person_and_not_for_another_read():
    guard = edited()
    assert guard.judge(reading("/app/other"), 0, 0, 100.0, 9999.0) == "hold"
    assert guard.doubt is not None
    assert (guard.doubt.confirm_at, guard.doubt.edited) == (NEVER, "keys")
    assert guard.doubt.reason == (
        "there is no key at or below /app/other, and the target was made from 5 keys at or below /app/web"
    )
    assert guard.judge(reading("/app/other", on_shrink="render"), 0, 0, 100.0, 0.0) == "yes"
    assert edited().judge(reading("/app/other"), 2, 0, 101.0, 0.0) == "yes"


def test_an_edit_of_the_prefix_is_told_from_one_of_the_keys():
    guard = edited(old=reading("/app/web", strip="/app"), new=reading("/apq/web", strip="/apq"))
    guard.judge(reading("/apq/web", strip="/apq"), 0, 0, 100.0, 0.0)
    assert guard.doubt is not None
    assert guard.doubt.edited == "prefix"


def test_keys_that_are_removed_from_the_resource_are_an_edit_too():
    guard = edited(keys=1, new=reading())
    assert guard.judge(reading(), 0, 0, 100.0, 0.0) == "hold"
    assert guard.doubt is not None
    assert guard.doubt.reason.startswith("keys names nothing to read, and the target was made from 1 key at")


def test_nothing_is_lost_where_the_target_was_made_from_no_key():
    assert edited(keys=0).judge(reading("/app/other"), 0, 0, 100.0, 0.0) == "yes"
    assert edited(keys=None).judge(reading("/app/other"), 0, 0, 100.0, 0.0) == "yes"


def test_a_second_edit_is_judged_by_what_the_target_was_made_from_and_the_way_back_by_its_count():
    guard = edited().after_edit(reading("/app/other"), reading("/app/third"))
    assert guard.judge(reading("/app/third"), 0, 0, 100.0, 0.0) == "hold"
    back = edited().after_edit(reading("/app/other"), reading("/app/web"))
    assert (back.keys, back.made_from) == (5, None)
    assert back.judge(reading("/app/web"), 0, 0, 100.0, 0.0) == "hold"
    assert back.doubt is not None
    assert back.doubt.confirm_at == 130.0


def test_another_kind_of_store_is_believed_but_for_one_without_any_key():
    def guard() -> Guard:
        return Guard(None, made_from=Counted(3, "etcd", ("/app/web",)))

    assert guard().judge(rules(), 0, 0, 100.0, 0.0, others=True) == "yes"
    assert guard().judge(rules(), 1, 0, 100.0, 0.0, others=True) == "yes"
    held = guard()
    assert held.judge(rules(), 0, 0, 100.0, 0.0, others=False) == "hold"
    assert held.doubt is not None
    assert (held.doubt.confirm_at, held.doubt.edited) == (NEVER, "backend")
    assert "3 keys of etcd" in held.doubt.reason
    held.believe(0, 0, named=True)
    assert held.judge(rules(), 0, 0, 100.0, 0.0, others=False) == "yes"
