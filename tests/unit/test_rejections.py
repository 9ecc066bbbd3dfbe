"""Contents that a reload rejected: when each is tried again."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest

from confpy.agent.rejections import LONGEST, SOON, Rejections
from confpy.candidates import Candidate
from confpy.config.resource import Resource
from confpy.frozen import replace
from confpy.reload.actions import CommandReload
from confpy.reload.spec import Rejection

WEB = Resource("web", "", "t", "/out/web", reload_cmd=CommandReload("reload"), on_reload_failure="rollback")
DAY = 86400.0


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def candidate(content: bytes = b"bad", resource: Resource = WEB) -> Candidate:
    return Candidate(resource, content)


def rejected(content: bytes = b"bad", *, now: float = 0.0, times: int = 1, resource: Resource = WEB) -> Rejections:
    """Return what holds once a content was rejected so many times."""
    rejections = Rejections(Random(1))
    for _ in range(times):
        rejections.add("web", resource, (digest(content), "/out/web", digest(b"good")), now, 1000.0 + now)
    return rejections


def wait(rejections: Rejections, *candidates: Candidate, now: float = 0.0, **others: str) -> float | None:
    until = rejections.until(candidates or (candidate(),), others, now)
    return None if until is None else until - now


@pytest.mark.parametrize(
    ("times", "setting", "expected"),
    [
        (1, 600.0, 600.0),
        (2, 600.0, 1200.0),
        (8, 600.0, 76800.0),
        (9, 600.0, DAY),
        (5000, 600.0, DAY),
        (3, 5 * DAY, 5 * DAY),
    ],
)
def test_the_wait_doubles_to_a_day_with_each_time_that_the_same_content_is_rejected(times, setting, expected):
    resource = replace(WEB, retry_refused=setting)
    found = wait(rejected(times=times, resource=resource), candidate(resource=resource))
    assert found == pytest.approx(expected, rel=0.1)
    assert LONGEST == DAY


def test_another_content_is_tried_at_once_and_begins_with_the_first_wait_if_it_is_rejected():
    rejections = rejected(times=5)
    assert wait(rejections, candidate(b"other")) is None
    assert rejections.add("web", WEB, (digest(b"other"), "/out/web", None), 0.0, 1000.0).times == 1
    assert wait(rejections) is None, "the keys have changed since: it is another try"


@pytest.mark.parametrize("change", [{"reload_cmd": "other"}, {"verify_cmd": "verify"}, {"check_cmd": ("check",)}])
def test_another_command_is_another_try(change):
    assert wait(rejected(), candidate(resource=replace(WEB, **change))) is None


def test_what_only_the_rollback_itself_noted_is_held_whatever_the_commands_are():
    rejections = Rejections(Random(1))
    rejections.take_over({"web": replace(rejected()["web"], by="")}, (), 0.0, 1000.0)
    assert wait(rejections) == pytest.approx(600.0, rel=0.1)


def test_no_wait_is_no_wait():
    resource = replace(WEB, retry_refused=0.0)
    assert wait(rejected(resource=resource), candidate(resource=resource)) is None


def test_a_person_who_asks_need_not_wait():
    rejections = rejected(times=9)
    assert list(rejections.lift(50.0)) == [("web", 50.0 + SOON)]
    assert wait(rejections, now=50.0) == SOON
    assert wait(rejections, now=51.0) is None


def test_what_is_swapped_in_again_does_not_wait_and_is_forgotten_when_its_reload_succeeds():
    rejections = rejected()
    assert not rejections.commit("web", digest(b"bad"), owes=True)
    assert wait(rejections) is None
    rejections.accept(["web", "other"])
    assert "web" not in rejections


def test_a_reload_of_what_is_not_in_its_place_accepts_nothing():
    rejections = rejected()
    rejections.accept(["web"])
    assert "web" in rejections


def test_what_is_rejected_again_counts_on():
    rejections = rejected()
    rejections.commit("web", digest(b"bad"), owes=True)
    assert rejections.add("web", WEB, (digest(b"bad"), "/out/web", None), 5.0, 1005.0).times == 2
    assert wait(rejections, now=5.0) == pytest.approx(1200.0, rel=0.1)


def test_another_content_in_its_place_ends_it():
    rejections = rejected()
    assert rejections.commit("web", digest(b"good"), owes=False)
    assert not rejections


def test_a_group_waits_as_a_whole_until_one_of_its_members_is_another():
    app = Resource("app", "", "t", "/out/app", reload_cmd=CommandReload("reload"))
    both = (candidate(), candidate(b"app", app))
    assert wait(rejected(), *both) == pytest.approx(600.0, rel=0.1), "nothing is known of the other"
    assert wait(rejected(), *both, app=digest(b"app")) == pytest.approx(600.0, rel=0.1)
    assert wait(rejected(), *both, app=digest(b"before")) is None


@pytest.mark.parametrize(
    ("wall", "expected"), [(1000.0, 600.0), (1300.0, 300.0), (-1e8, 600.0), (2000.0, None), (1e12, None)]
)
def test_what_an_earlier_confpy_noted_waits_on_whatever_became_of_the_clock(wall, expected):
    rejections = Rejections(Random(1))
    noted = rejected()["web"]
    rejections.take_over({"web": replace(noted, at=1000.0)}, (), 7.0, wall)
    found = wait(rejections, now=7.0)
    assert found == (None if expected is None else pytest.approx(expected, abs=60.0))


def test_what_an_earlier_run_left_swapped_in_is_not_held():
    rejections = Rejections(Random(1))
    rejections.take_over({"web": Rejection(digest(b"bad"), "/out/web", None, "", 1000.0)}, ["web"], 0.0, 1000.0)
    assert wait(rejections) is None


def test_contents_that_were_rejected_together_are_tried_apart():
    rejections = rejected()
    other = replace(WEB, name="other")
    rejections.add("other", other, (digest(b"bad"), "/out/other", None), 0.0, 1000.0)
    assert wait(rejections) != wait(rejections, candidate(resource=other))
