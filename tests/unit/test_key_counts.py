"""How many keys resources had, and what the ledger saves of it."""

from __future__ import annotations

import pytest

from confpy.agent.shrink import KeyCounts
from confpy.config.resource import Resource
from confpy.messages import Counted, Recovered


def resource(*prefixes: str, strip: str = "/") -> Resource:
    return Resource("web", "", "t", "/out/web", strip, prefixes or ("/app",))


def counts(*known: Counted, backend: str = "etcdv3", may_lose_keys: bool = True) -> KeyCounts:
    found = KeyCounts(backend, may_lose_keys=may_lose_keys)
    found.take_over(Recovered(counts={"web": known} if known else {}, identity="c", revision=7))
    return found


def unsaved(one: KeyCounts) -> list[dict[str, Counted]]:
    return [dict(count.counts) for count in one.unsaved("c", lambda: 7)]


ETCD = Counted(3, "etcd", ("/app",), "/")
ETCDV3 = Counted(5, "etcdv3", ("/app",), "/")


def test_the_same_prefixes_in_the_same_kind_of_store_are_compared():
    guard = counts(ETCDV3).guard(resource(), 0)
    assert (guard.keys, guard.made_from, guard.named) == (5, None, False)


def test_what_an_earlier_version_noted_is_compared_whatever_is_read():
    guard = counts(Counted(5)).guard(resource("/other"), 0)
    assert (guard.keys, guard.made_from) == (5, None)


def test_other_prefixes_in_the_same_kind_of_store_are_an_edit():
    guard = counts(ETCDV3).guard(resource("/other"), 0)
    assert (guard.keys, guard.made_from) == (None, Counted(5, "", ("/app",), "/"))


def test_another_kind_of_store_is_not_compared_and_remembered_as_what_the_target_was_made_from():
    guard = counts(ETCD).guard(resource(), 0)
    assert (guard.keys, guard.made_from) == (None, ETCD)


def test_each_kind_of_store_has_its_own_count():
    guard = counts(ETCDV3, ETCD).guard(resource(), 0)
    assert (guard.keys, guard.made_from) == (5, ETCD)
    guard = counts(ETCD, ETCDV3).guard(resource(), 0)
    assert (guard.keys, guard.made_from) == (5, None)


def test_another_count_other_prefixes_and_another_last_store_are_saved():
    one = counts(ETCDV3)
    one.note(resource(), 5, recorded=False)
    assert unsaved(one) == []
    one.note(resource(), 6, recorded=False)
    assert unsaved(one) == [{"web": Counted(6, "etcdv3", ("/app",), "/")}]
    one.note(resource("/other"), 6, recorded=False)
    assert unsaved(one) == [{"web": Counted(6, "etcdv3", ("/other",), "/")}]
    one.note(resource("/other"), 7, recorded=True)
    assert unsaved(one) == []
    last = counts(ETCDV3, ETCD)
    last.note(resource(), 5, recorded=False)
    assert unsaved(last) == [{"web": ETCDV3}]


@pytest.mark.parametrize(("known", "expected"), [((), []), ((ETCD,), [{"web": Counted(1, "env", ("/app",), "/")}])])
def test_a_store_that_is_never_compared_is_noted_only_to_outdate_another(known, expected):
    one = counts(*known, backend="env", may_lose_keys=False)
    one.note(resource(), 1, recorded=False)
    assert unsaved(one) == expected
    guard = counts(Counted(5, "env", ("/app",), "/"), backend="env", may_lose_keys=False).guard(resource(), 0)
    assert guard.keys is None, "the environment is never suspect"
