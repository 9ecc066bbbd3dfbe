"""How often a target is restored that some other program rewrites each time."""

from __future__ import annotations

from itertools import pairwise

from confpy.agent.drift import Restores


def restored(restores: Restores, until: float, every: float = 60.0, drift: str = "content", since: float = 0.0):
    """Return when a drift that every look finds is restored."""
    moments = [since + every * look for look in range(int((until - since) / every))]
    return [now for now in moments if restores.may_restore("web", drift, now)]


def test_three_restores_in_a_row_are_at_once_and_then_they_wait_up_to_an_hour():
    moments = restored(Restores(60.0), 10 * 3600.0)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert gaps[:8] == [60.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0]
    assert set(gaps[7:]) == {3600.0}


def test_looks_that_are_seldom_wait_longer_from_the_start():
    moments = restored(Restores(600.0), 3 * 3600.0, every=600.0)
    assert moments[:4] == [0.0, 600.0, 1200.0, 2400.0]


def test_another_drift_or_a_look_that_finds_it_right_begins_anew():
    restores = Restores(60.0)
    restored(restores, 300.0)
    assert not restores.may_restore("web", "content", 301.0)
    assert restores.may_restore("web", "mode", 301.0)
    assert not Restores(60.0)
    restored(restores, 300.0)
    restores.end(frozenset({"web"}))
    assert restored(restores, 480.0, since=300.0) == [300.0, 360.0, 420.0]


def test_a_person_may_have_it_restored_at_once():
    restores = Restores(60.0)
    restored(restores, 300.0)
    restores.allow_all()
    assert restores.may_restore("web", "content", 301.0)
    assert not restores.may_restore("web", "content", 302.0)


def test_a_fight_is_new_once():
    restores = Restores(60.0)
    logged = [
        restores.is_new_fight("web") for look in range(100) if restores.may_restore("web", "content", look * 60.0)
    ]
    assert logged.count(True) == 1
    assert logged.index(True) == 2
