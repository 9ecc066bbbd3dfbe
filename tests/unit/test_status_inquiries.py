"""What the server asks the owner thread: how often, and what it says of one that does not answer."""

from __future__ import annotations

import pytest

from confpy.status import inquiries as module
from confpy.status.inquiries import ALIVE, FRESH, MOST, PATIENCE, Inquiries, Wanted
from confpy.status.model import Status


class Owner:
    """An owner that answers when it is told to, and a clock that stands still."""

    def __init__(self):
        self.now = 100.0
        self.asked = []
        self.stores_asked = 0
        self.inquiries = Inquiries(self.ask, clock=lambda: self.now)

    def ask(self, take, *, asks_stores):
        self.asked.append(take)
        self.stores_asked += asks_stores

    def want(self, **wanted):
        seen = []
        self.inquiries.want(Wanted(**wanted), seen.append)
        return seen

    def answer(self, status="a status"):
        self.asked[-1](status)
        self.inquiries.tick(self.now)

    def passes(self, seconds):
        self.now += seconds
        return self.inquiries.tick(self.now)


@pytest.fixture
def owner():
    return Owner()


def test_who_asks_gets_the_owners_answer(owner):
    seen = owner.want()
    assert (seen, len(owner.asked)) == ([], 1)
    owner.answer()
    (found,) = seen
    assert (found.status, found.responds) == ("a status", True)


def test_a_thousand_who_ask_at_once_ask_the_owner_once_and_the_oldest_of_too_many_are_left_out(owner):
    found = [owner.want() for _ in range(1000)]
    assert len(owner.asked) == 1
    owner.answer()
    assert sum(map(len, found)) == MOST
    assert len(owner.asked) == 1


def test_an_answer_is_used_again_while_it_is_fresh(owner):
    owner.want()
    owner.answer()
    owner.now += FRESH
    assert owner.want()[0].status == "a status"
    owner.now += 0.1
    assert owner.want() == []
    assert len(owner.asked) == 2


def test_a_frozen_owner_is_known_in_less_than_ten_seconds_and_from_then_on_at_once(owner):
    owner.want()
    owner.answer()
    assert owner.want(age=ALIVE)[0].responds
    owner.now += ALIVE + 0.01  # it froze right after its answer
    seen = owner.want(age=ALIVE)
    assert seen == []
    owner.passes(PATIENCE)
    assert not seen[0].responds
    assert ALIVE + PATIENCE < 10
    assert seen[0].age == pytest.approx(ALIVE + PATIENCE, abs=0.1)
    assert not owner.want(age=ALIVE)[0].responds
    assert len(owner.asked) == 2


def test_an_owner_that_goes_on_is_alive_again(owner):
    seen = owner.want(age=ALIVE)
    owner.passes(PATIENCE)
    assert not seen[0].responds
    owner.answer()
    assert owner.want(age=ALIVE)[0].responds


def test_what_is_waited_for_is_asked_for_again_until_it_is_so_or_the_patience_is_over(owner):
    seen = owner.want(until=lambda status: status == "started")
    for _ in range(3):
        owner.answer("not yet")
        owner.passes(module.AGAIN)
    assert (seen, len(owner.asked)) == ([], 4)
    owner.answer("started")
    assert seen[0].status == "started"
    late = owner.want(age=0, until=lambda status: status == "never")
    owner.answer("not yet")
    owner.passes(PATIENCE)
    assert (late[0].status, late[0].responds) == ("not yet", True)


def test_the_owner_is_not_asked_for_nobody(owner):
    owner.want()
    owner.answer()
    assert owner.passes(1000) == float("inf")
    assert len(owner.asked) == 1


def test_the_stores_are_asked_for_those_who_want_that_alone(owner):
    owner.want()
    owner.answer()
    assert owner.stores_asked == 0
    owner.now += 1
    owner.want(asks_stores=True)
    assert owner.stores_asked == 1


def test_an_owner_with_a_bug_in_its_status_is_alive(owner):
    seen = owner.want(age=ALIVE)
    owner.answer(None)
    assert (seen[0].status, seen[0].responds) == (None, True)


def test_the_status_of_before_is_shown_while_the_owner_does_not_answer(owner):
    owner.want()
    status = Status("1", 1, "/c", "env", "poll", 0, 1, is_started=True)
    owner.answer(status)
    owner.now += 60
    seen = owner.want()
    owner.passes(PATIENCE)
    assert (seen[0].status, seen[0].responds) == (status, False)
