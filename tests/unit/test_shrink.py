"""Which keys are suspect, and until when."""

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
    ("known", "now", "more", "admitted"),
    [
        (None, 0, {}, True),
        (0, 0, {}, True),
        (3, 0, {}, False),
        (3, 1, {}, True),
        (1, 0, {}, True),
        (3, 0, {"on_shrink": "render"}, True),
        (None, 1, {"min_keys": 2}, False),
        (5, 2, {"min_keys": 2}, True),
        (10, 5, {"max_shrink": 0.5}, True),
        (10, 4, {"max_shrink": 0.5}, False),
        (None, 1, {"max_shrink": 0.5}, True),
        (10, 9, {"max_shrink": 0.0}, False),
    ],
)
def test_keys_are_suspect_as_the_resource_says(known, now, more, admitted):
    assert Guard(known).admits(rules(**more), now, 0, 100.0, 50.0) is admitted


def test_a_lone_key_may_go_where_a_stream_named_it():
    assert Guard(1, named=True).admits(rules(), 0, 0, 0.0, 0.0)
    assert not Guard(1, named=False).admits(rules(), 0, 0, 0.0, 0.0)


def test_only_a_read_begun_after_the_grace_confirms_keys():
    guard = Guard(3)
    assert not guard.admits(rules(), 0, 0, 100.0, 100.0)
    assert not guard.admits(rules(), 0, 0, 200.0, 129.9), "however late it is"
    assert guard.admits(rules(), 0, 0, 200.0, 130.0)


def test_another_reason_does_not_put_the_grace_off():
    guard = Guard(10)
    guard.admits(rules(max_shrink=0.1), 5, 0, 100.0, 100.0)
    guard.admits(rules(max_shrink=0.1), 4, 0, 120.0, 120.0)
    assert guard.suspicion is not None
    assert guard.suspicion.confirm_at == 130.0


def test_a_tree_that_is_empty_by_now_has_a_grace_of_its_own():
    guard = Guard(10)
    guard.admits(rules(max_shrink=0.1), 5, 0, 100.0, 100.0)
    assert not guard.admits(rules(max_shrink=0.1), 0, 0, 130.0, 130.0)
    assert not guard.admits(rules(max_shrink=0.1), 0, 0, 160.0, 159.9)
    assert guard.admits(rules(max_shrink=0.1), 0, 0, 160.0, 160.0)


def test_keys_of_a_store_that_is_replaced_while_they_are_suspect_are_not_confirmed_by_time():
    guard = Guard(3, store=0)
    guard.admits(rules(), 0, 0, 100.0, 100.0)
    assert not guard.admits(rules(), 0, 1, 101.0, 101.0)
    assert guard.suspicion is not None
    assert guard.suspicion.confirm_at == NEVER
    assert not guard.admits(rules(), 0, 1, 9999.0, 9999.0)


def test_keys_of_another_store_are_not_suspect_where_there_are_some():
    assert Guard(3, store=0).admits(rules(), 2, 1, 0.0, 0.0)


def test_keep_waits_for_ever_and_keys_that_are_back_end_the_suspicion():
    guard = Guard(3)
    assert not guard.admits(rules(on_shrink="keep"), 0, 0, 0.0, 9999.0)
    assert guard.admits(rules(on_shrink="keep"), 1, 0, 0.0, 9999.0)
    assert guard.suspicion is None


# --- what a person edited --------------------------------------------------------------------------------------------


def reading(*prefixes: str, strip: str = "/", **more) -> Resource:
    return replace(rules(**more), prefixes=prefixes, strip=strip)


def edited(keys: int | None = 5, old: Resource | None = None, new: Resource | None = None) -> Guard:
    return Guard(keys).after_edit(old or reading("/app/web"), new or reading("/app/other"))


@pytest.mark.parametrize(("keys", "more", "admitted"), [(1, {}, True), (4, {"max_shrink": 0.0}, True), (0, {}, False)])
def test_after_an_edit_fewer_keys_are_not_suspect_but_none_at_all_is(keys, more, admitted):
    assert edited().admits(reading("/app/other", **more), keys, 0, 100.0, 0.0) is admitted


def test_no_key_at_all_after_an_edit_waits_for_a_person_and_not_for_another_read():
    guard = edited()
    assert not guard.admits(reading("/app/other"), 0, 0, 100.0, 9999.0)
    assert guard.suspicion is not None
    assert (guard.suspicion.confirm_at, guard.suspicion.edited) == (NEVER, "keys")
    assert guard.suspicion.reason == (
        "there is no key at or below /app/other, and the target was made from 5 keys at or below /app/web"
    )
    assert guard.admits(reading("/app/other", on_shrink="render"), 0, 0, 100.0, 0.0)
    assert edited().admits(reading("/app/other"), 2, 0, 101.0, 0.0)


def test_an_edit_of_the_prefix_is_distinguished_from_one_of_the_keys():
    guard = edited(old=reading("/app/web", strip="/app"), new=reading("/apq/web", strip="/apq"))
    guard.admits(reading("/apq/web", strip="/apq"), 0, 0, 100.0, 0.0)
    assert guard.suspicion is not None
    assert guard.suspicion.edited == "prefix"


def test_keys_that_are_removed_from_the_resource_are_an_edit_too():
    guard = edited(keys=1, new=reading())
    assert not guard.admits(reading(), 0, 0, 100.0, 0.0)
    assert guard.suspicion is not None
    assert guard.suspicion.reason.startswith("keys names nothing to read, and the target was made from 1 key at")


def test_nothing_is_lost_where_the_target_was_made_from_no_key():
    assert edited(keys=0).admits(reading("/app/other"), 0, 0, 100.0, 0.0)
    assert edited(keys=None).admits(reading("/app/other"), 0, 0, 100.0, 0.0)


def test_a_second_edit_is_measured_by_what_the_target_was_made_from_and_the_way_back_by_its_count():
    guard = edited().after_edit(reading("/app/other"), reading("/app/third"))
    assert not guard.admits(reading("/app/third"), 0, 0, 100.0, 0.0)
    back = edited().after_edit(reading("/app/other"), reading("/app/web"))
    assert (back.keys, back.made_from) == (5, None)
    assert not back.admits(reading("/app/web"), 0, 0, 100.0, 0.0)
    assert back.suspicion is not None
    assert back.suspicion.confirm_at == 130.0


def test_another_kind_of_store_is_not_suspect_unless_it_has_no_key_at_all():
    def guard() -> Guard:
        return Guard(None, made_from=Counted(3, "etcd", ("/app/web",)))

    assert guard().admits(rules(), 0, 0, 100.0, 0.0, others=True)
    assert guard().admits(rules(), 1, 0, 100.0, 0.0, others=True)
    held = guard()
    assert not held.admits(rules(), 0, 0, 100.0, 0.0, others=False)
    assert held.suspicion is not None
    assert (held.suspicion.confirm_at, held.suspicion.edited) == (NEVER, "backend")
    assert "3 keys of etcd" in held.suspicion.reason
    held.trust(0, 0, named=True)
    assert held.admits(rules(), 0, 0, 100.0, 0.0, others=False)
