"""When a key is put, renewed and removed, and what the command gets: scripted, and in random orders beside a model."""

from __future__ import annotations

import errno
import signal
from random import Random

import pytest

from confpy.clock import NEVER
from confpy.errors import CheckError, StoreError
from confpy.events import LogEvent
from confpy.registration.machine import PATIENCE, Plan, Registration
from confpy.registration.values import Answered, Ask, Check, Checked, Entry, Notify, Signalled, Stop
from confpy.reload.supervised import ChildEnded, SignalChild, StartChild

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
STOPS = frozenset({TERM, INT})
FAILS = Checked(CheckError("the check exited with 1"))
AWAY = StoreError("no answer within 1 s")


class Kept:
    """A registration, and what it asked for."""

    def __init__(self, **plan):
        plan = {"ttl": 15.0, "stops": STOPS, **plan}
        self.machine = Registration(Plan("/services/web/a", **plan), Random(1))
        self.now = 100.0
        self.logged = []
        self.started = self._split(self.machine.start(self.now))

    def _split(self, actions):
        self.logged += [action for action in actions if isinstance(action, LogEvent)]
        return [action for action in actions if not isinstance(action, LogEvent)]

    def take(self, *messages, after=0.0):
        self.now += after
        return self._split(self.machine.step(messages, self.now))

    def answers(self, operation, standing="held", after=0.0):
        return self.take(Answered(operation, standing), after=after)

    def due(self):
        """Let time pass until something is to be done, and return that."""
        self.now = max(self.now, self.machine.next_at())
        return self.take()

    @property
    def events(self):
        return [one.event.removeprefix("registration.") for one in self.logged]


def held(**plan):
    kept = Kept(**plan)
    kept.answers("claim")
    return kept


# --- the store -------------------------------------------------------------------------------------------------------


def test_the_first_claim_takes_the_key_over_and_says_that_confpy_is_ready():
    kept = Kept()
    assert kept.started == [Ask("claim", takes_over=True)]
    assert kept.answers("claim") == [Notify("READY=1")]
    assert kept.events == ["put"]


def test_a_key_is_renewed_three_times_before_its_ttl_ends():
    kept = held()
    began = kept.now
    for _ in range(3):
        assert kept.due() == [Ask("refresh")]
        assert kept.answers("refresh") == []
    assert 13.0 < kept.now - began < 17.0


def test_a_lease_that_the_server_lost_is_replaced_at_once_and_takes_nothing_over():
    kept = held()
    kept.due()
    assert kept.answers("refresh", "free") == [Ask("claim")]
    kept.answers("claim")
    assert kept.events == ["put", "lost", "put"]


def test_a_key_that_another_has_taken_over_is_said_once_and_claimed_when_it_is_free():
    kept = held()
    kept.due()
    assert kept.answers("refresh", "taken") == []
    for _ in range(3):
        assert kept.due() == [Ask("claim")]
        kept.answers("claim", "taken")
    kept.due()
    kept.answers("claim")
    assert kept.events == ["put", "taken", "put"]


def test_a_key_that_another_has_taken_over_is_not_removed_at_the_end():
    kept = held()
    kept.due()
    kept.answers("refresh", "taken")
    assert kept.take(Signalled(TERM)) == [Notify("STOPPING=1"), Stop(0)]


def test_a_store_that_is_away_is_asked_again_within_the_ttl_and_said_once():
    kept = Kept()
    began = kept.now
    for _ in range(6):
        assert kept.take(Answered("claim", error=AWAY)) == []
        before = kept.now
        assert kept.due() == [Ask("claim", takes_over=True)]
        assert kept.now - before <= 5.0
    assert kept.now > began
    assert kept.events == ["failed", "failed"]  # the first, and the fourth


def test_a_renewal_that_fails_is_tried_again_and_its_success_is_said():
    kept = held()
    kept.due()
    kept.take(Answered("refresh", error=AWAY))
    assert kept.due() == [Ask("refresh")]
    kept.answers("refresh")
    assert kept.events == ["put", "failed", "kept"]


def test_no_line_has_the_value():
    entry = Entry("/services/web/a", b"s3cret", 15.0)
    assert "s3cret" not in repr(entry)


# --- the check -------------------------------------------------------------------------------------------------------


def test_the_key_is_put_when_the_check_passes_which_is_tried_every_second_until_then():
    kept = Kept(checks=True, check_interval=30.0)
    assert kept.started == [Check()]
    began = kept.now
    for _ in range(3):
        assert kept.take(FAILS) == []
        assert kept.due() == [Check()]
    assert kept.now - began < 4.0
    assert kept.take(Checked()) == [Ask("claim", takes_over=True)]
    assert kept.events == ["waits", "check_passed"]


def test_the_key_is_removed_after_checks_that_fail_in_a_row_and_put_again_after_one_that_passes():
    kept = Kept(checks=True, check_failures=2)
    kept.take(Checked())
    kept.answers("claim")
    assert kept.due() == [Check()]
    assert kept.take(FAILS) == []
    while Check() not in (done := kept.due()):
        assert done == [Ask("refresh")]
        kept.answers("refresh")
    assert kept.take(FAILS) == [Ask("release")]
    kept.answers("release", "free")
    assert kept.due() == [Check()]
    assert kept.take(Checked()) == [Ask("claim")]
    assert kept.events == ["check_passed", "put", "check_failed", "removed", "check_passed"]


def test_one_check_that_fails_between_two_that_pass_removes_nothing():
    kept = Kept(checks=True, check_failures=2, check_interval=1.0)
    kept.take(Checked())
    kept.answers("claim")
    for result in (FAILS, Checked(), FAILS, Checked()):
        assert kept.due() == [Check()]
        assert kept.take(result) == []


# --- the command -----------------------------------------------------------------------------------------------------


def test_at_a_signal_the_key_is_removed_first_and_the_command_gets_it_after_the_drain():
    kept = held(supervises=True, drain=5.0)
    assert kept.started[0] == StartChild()
    assert kept.take(Signalled(TERM)) == [Notify("STOPPING=1"), Ask("release")]
    assert kept.answers("release", "free", after=0.5) == []
    began = kept.now
    assert kept.due() == [SignalChild(TERM)]
    assert kept.now - began == pytest.approx(5.0)
    assert kept.take(ChildEnded(7)) == [Stop(7)]


def test_a_second_signal_ends_the_drain_and_later_ones_are_passed_on():
    kept = held(supervises=True, drain=60.0)
    kept.take(Signalled(TERM))
    kept.answers("release", "free")
    assert kept.take(Signalled(TERM)) == [SignalChild(TERM)]
    assert kept.take(Signalled(INT)) == [SignalChild(INT)]
    assert kept.take(ChildEnded(-15)) == [Stop(143)]


def test_a_signal_that_asks_for_nothing_is_passed_on_at_once():
    kept = held(supervises=True)
    assert kept.take(Signalled(HUP)) == [SignalChild(HUP)]
    assert held().take(Signalled(HUP)) == []


def test_nobody_waits_for_a_key_that_is_not_there():
    kept = Kept(supervises=True, checks=True, drain=60.0)
    assert kept.take(Signalled(TERM)) == [Notify("STOPPING=1"), SignalChild(TERM)]


def test_a_store_that_is_away_holds_up_the_end_for_a_while_and_the_key_is_left_to_its_ttl():
    kept = held(supervises=True, drain=5.0)
    kept.take(Signalled(TERM))
    began = kept.now
    assert kept.take(Answered("release", error=AWAY)) == []
    while (done := kept.due()) == [Ask("release")]:
        assert kept.take(Answered("release", error=AWAY)) == []
    assert done == [SignalChild(TERM)]
    assert kept.now - began == pytest.approx(PATIENCE + 5.0)
    kept.take(ChildEnded(0))
    began = kept.now
    while not (done := kept.due()) or done == [Ask("release")]:
        kept.take(Answered("release", error=AWAY))
    assert done == [Stop(0)]
    assert kept.now - began <= PATIENCE
    assert kept.events[-1] == "left"


def test_without_a_ttl_a_key_that_is_left_behind_is_a_failure_of_the_store():
    kept = held(ttl=None)
    kept.take(Signalled(TERM))
    kept.now += PATIENCE
    assert kept.take() == [Stop(3)]


def test_the_key_is_removed_at_once_when_the_command_ends():
    kept = held(supervises=True, drain=5.0)
    assert kept.take(ChildEnded(3)) == [Ask("release")]
    assert kept.answers("release", "free") == [Stop(3)]
    assert kept.events == ["put", "command_ended", "removed"]


def test_a_command_that_cannot_be_started_is_said_and_leaves_no_key():
    kept = held(supervises=True)
    assert kept.take(ChildEnded(127, errno.ENOENT)) == [Ask("release")]
    assert kept.answers("release", "free") == [Stop(127)]
    assert kept.events == ["put", "command_failed", "removed"]


def test_without_a_command_the_end_comes_when_the_key_is_gone():
    kept = held()
    assert kept.take(Signalled(TERM)) == [Notify("STOPPING=1"), Ask("release")]
    assert kept.answers("release", "free") == [Stop(0)]


def test_without_a_command_a_drain_is_waited_for_if_it_is_asked_for():
    kept = held(drain=5.0)
    kept.take(Signalled(TERM))
    assert kept.answers("release", "free") == []
    began = kept.now
    assert kept.due() == [Stop(0)]
    assert kept.now - began == pytest.approx(5.0)


def test_a_claim_under_way_at_the_signal_is_removed_when_it_is_answered():
    kept = Kept()
    assert kept.take(Signalled(TERM)) == [Notify("STOPPING=1")]
    assert kept.answers("claim")[-1] == Ask("release")
    assert kept.answers("release", "free") == [Stop(0)]


def test_a_claim_that_failed_may_have_been_carried_out_and_is_removed():
    kept = Kept()
    kept.take(Answered("claim", error=AWAY))
    assert kept.take(Signalled(TERM)) == [Notify("STOPPING=1"), Ask("release")]


# --- in random orders ------------------------------------------------------------------------------------------------


class Model:
    """A store with one key, somebody else who uses it, and a network that loses requests and answers."""

    def __init__(self, random):
        self.random = random
        self.owner = random.choice([None, "other"])
        self.expires = NEVER
        self.was_held = False
        self.stolen_back = 0

    def pass_time(self, now):
        if self.owner == "us" and now >= self.expires:
            self.owner = None

    def carry_out(self, ask, now):
        if ask.operation == "claim":
            if ask.takes_over or self.owner is None:
                self.stolen_back += self.owner == "other" and self.was_held
                self.owner = "us"
            self.expires = now + 15.0
        elif ask.operation == "release" and self.owner == "us":
            self.owner = None
        elif self.owner == "us":
            self.expires = now + 15.0
        return {"us": "held", "other": "taken", None: "free"}[self.owner]

    def told(self, answer):
        """confpy knows of the key: from now on it may not take it over."""
        self.was_held = self.was_held or (answer.error is None and answer.standing == "held")
        return answer

    def answer(self, ask, now):
        luck = self.random.random()
        if luck < 0.1:
            return Answered(ask.operation, error=AWAY)
        standing = self.carry_out(ask, now)
        return Answered(ask.operation, error=AWAY) if luck < 0.2 else Answered(ask.operation, standing)

    def meddle(self):
        self.owner = self.random.choice([None, "other", self.owner])


@pytest.mark.parametrize("seed", range(200))
def test_in_any_order_the_key_is_ours_while_it_is_wanted_and_never_anothers(seed):
    random = Random(seed)
    supervises, checks = random.random() < 0.5, random.random() < 0.5
    kept, model = Kept(supervises=supervises, checks=checks, drain=5.0), Model(random)
    asked, checking, signals, code = None, False, [], None
    passes = not checks

    def note(actions):
        nonlocal asked, checking, code
        for action in actions:
            if isinstance(action, Ask):
                assert asked is None, "one at a time"
                asked = action
            elif isinstance(action, Check):
                assert not checking
                checking = True
            elif isinstance(action, SignalChild):
                signals.append(kept.now)
            elif isinstance(action, Stop):
                assert code is None, "it ends once"
                code = action.code

    def turn(*, calm):
        nonlocal asked, checking, passes
        messages = []
        if asked is not None and (calm or random.random() < 0.7):
            ask, asked = asked, None
            answer = Answered(ask.operation, model.carry_out(ask, kept.now)) if calm else model.answer(ask, kept.now)
            messages.append(model.told(answer))
        if checking and (calm or random.random() < 0.7):
            checking, passes = False, calm or random.random() < 0.6
            messages.append(Checked() if passes else FAILS)
        kept.now += random.random() * 3
        if not messages:
            kept.now = min(max(kept.now, kept.machine.next_at()), kept.now + 10)
        model.pass_time(kept.now)
        note(kept.take(*messages))

    note(kept.started)
    for _ in range(random.randrange(40)):
        turn(calm=False)
        if random.random() < 0.1:
            model.meddle()
    model.owner = None if model.owner == "other" else model.owner
    for _ in range(30):  # the store answers, and nobody else wants the key
        turn(calm=True)
    assert model.owner == "us"
    assert kept.machine.standing == "held"
    assert not model.stolen_back
    assert code is None

    stopped = kept.now
    note(kept.take(Signalled(TERM)))
    for _ in range(40):
        turn(calm=random.random() < 0.5)
        if signals and supervises and random.random() < 0.3:
            note(kept.take(ChildEnded(0)))
            supervises = False
    if supervises:
        assert signals, "it is passed on"
        note(kept.take(ChildEnded(0)))
    for _ in range(10):
        turn(calm=True)
    assert code == 0
    assert model.owner is None or kept.events[-1] == "left"
    if signals:
        assert signals[0] - stopped >= 5.0 - 1e-6, "not before the key is gone and the drain is over"
