"""The diffs and deliveries on the page: worked out beside the server, and only when something has changed."""

from __future__ import annotations

import threading

from confpy.status import additions as module
from confpy.status.additions import Additions
from confpy.status.page import Shown
from tests.unit.status_examples import resource, status
from tests.waiting import wait_until


def test_it_is_worked_out_again_when_something_has_changed_and_not_before():
    looks, version = [], [1]

    def look(_):
        looks.append(1)
        return Shown(str(len(looks)))

    added = Additions(look, lambda: version[0])
    assert [added(status()).host for _ in range(3)] == ["1", "1", "1"]
    version[0] = 2
    assert added(status()).host == "2"
    assert added(status(resource(sensitive=True))).host == "3"


def test_what_takes_long_holds_nobody_up_and_is_begun_once(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    ends, began, version = threading.Event(), [], iter(range(99))

    def look(_):
        began.append(1)
        ends.wait(30)
        return Shown("at last")

    added = Additions(look, lambda: next(version))
    assert [added(status()).host for _ in range(3)] == ["", "", ""]
    assert len(began) == 1
    ends.set()
    wait_until(lambda: added(status()).host == "at last")


def test_a_history_that_cannot_be_read_leaves_what_was_known():
    def fail(_=None):
        raise PermissionError

    assert Additions(fail, lambda: 1)(status()) == Shown()
    assert Additions(fail, fail)(status()) == Shown()
