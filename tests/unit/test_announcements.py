"""What a service manager is told, and in which order: ``confpy.status.announcements``."""

from __future__ import annotations

from confpy.clock import NEVER
from confpy.frozen import replace
from confpy.status.announcements import EXTEND_EVERY, Announcements, Facts

AWAY = Facts("waits", waits_for_store=True)
STARTED = Facts("runs", is_started=True)


def said(announcements, facts, now):
    return ["\n".join(datagram) for datagram in announcements.step(facts, now)]


def test_a_start_is_announced_once_and_said_in_words():
    announcements = Announcements(0.0, 0.0)
    assert said(announcements, Facts("loads"), 0.0) == ["STATUS=loads"]
    assert said(announcements, Facts("loads"), 1.0) == []
    assert said(announcements, STARTED, 2.0) == ["READY=1\nSTATUS=runs"]
    assert said(announcements, STARTED, 3.0) == []
    assert announcements.next_at() == NEVER


def test_a_start_may_take_longer_while_the_store_is_away_and_only_then():
    announcements = Announcements(0.0, 0.0)
    assert said(announcements, AWAY, 0.0) == ["STATUS=waits", "EXTEND_TIMEOUT_USEC=30000000"]
    assert announcements.next_at() == EXTEND_EVERY
    assert said(announcements, AWAY, EXTEND_EVERY - 0.1) == []
    assert said(announcements, AWAY, EXTEND_EVERY) == ["EXTEND_TIMEOUT_USEC=30000000"]
    assert said(announcements, Facts("waits"), 2 * EXTEND_EVERY) == []
    assert announcements.next_at() == NEVER


def test_a_reload_is_announced_with_its_time_in_the_same_datagram_and_its_end_with_its_outcome():
    announcements = Announcements(0.0, 0.0)
    said(announcements, STARTED, 1.0)
    reloading = replace(STARTED, words="reloads", reloads=1, is_reloading=True)
    assert said(announcements, reloading, 2.5) == ["RELOADING=1\nMONOTONIC_USEC=2500000\nSTATUS=reloads"]
    assert said(announcements, reloading, 3.0) == []
    assert said(announcements, replace(STARTED, reloads=1), 4.0) == ["READY=1\nERRNO=0\nSTATUS=runs"]
    failed = replace(STARTED, reloads=2, reload_failed=True)
    assert said(announcements, failed, 5.0) == ["RELOADING=1\nMONOTONIC_USEC=5000000", "READY=1\nERRNO=5"]


def test_a_reload_during_the_start_is_part_of_it():
    announcements = Announcements(0.0, 0.0)
    assert said(announcements, replace(AWAY, words="", reloads=1, is_reloading=True), 0.0) == [
        "EXTEND_TIMEOUT_USEC=30000000"
    ]
    assert said(announcements, replace(STARTED, reloads=1), 1.0) == ["READY=1\nSTATUS=runs"]
    assert said(announcements, replace(STARTED, reloads=1), 2.0) == []


def test_a_stop_is_announced_once_and_nothing_but_signs_of_life_after_it():
    announcements = Announcements(3.0, 0.0)
    said(announcements, STARTED, 0.0)
    stopping = replace(STARTED, words="stops", is_stopping=True)
    assert said(announcements, stopping, 0.5) == ["STOPPING=1\nSTATUS=stops"]
    assert said(announcements, replace(stopping, reloads=1), 0.6) == []
    assert said(announcements, stopping, 1.0) == ["WATCHDOG=1"]


def test_a_stop_during_the_start_is_no_start():
    announcements = Announcements(0.0, 0.0)
    assert said(announcements, replace(AWAY, words="", is_stopping=True), 0.0) == ["STOPPING=1"]
    assert said(announcements, replace(STARTED, is_stopping=True, words=""), 1.0) == []


def test_a_sign_of_life_comes_three_times_in_each_period_of_the_watchdog_from_the_first_step_on():
    announcements = Announcements(9.0, 10.0)
    assert said(announcements, Facts(""), 10.0) == ["WATCHDOG=1"]
    assert announcements.next_at() == 13.0
    assert said(announcements, Facts(""), 12.9) == []
    assert said(announcements, Facts(""), 13.0) == ["WATCHDOG=1"]
