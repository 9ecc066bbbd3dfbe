"""Resources that are held back, and operators who accept that."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from confpy.errors import UsageError
from confpy.ledger.folder import StateFolder
from confpy.ledger.holds import Holds, accept


@pytest.fixture
def folder(tmp_path):
    return StateFolder(str(tmp_path / "state"), log=lambda say: pytest.fail(str(say)))


@pytest.fixture
def holds(folder):
    return Holds(folder, nullcontext())


def test_what_is_held_back_can_be_accepted_once_it_is_noted(holds, folder):
    with pytest.raises(UsageError, match="not held back"):
        accept(folder, "sites/web")
    assert not holds.hold("sites/web", "gone")
    assert not holds.hold("sites/web", "")
    assert accept(folder, "sites/web") == "gone"
    assert holds.hold("sites/web", "")
    assert holds.hold("sites/web", "gone"), "also by the next start"


def test_another_reason_wants_another_word(holds, folder):
    holds.hold("web", "gone")
    accept(folder, "web")
    assert not holds.hold("web", "gone, and the store is another one")


def test_keys_that_were_found_suspect_just_before_do_not_end_what_a_person_has_undone(holds, folder):
    assert holds.hold_undone(["web"], "undone")
    assert not holds.hold("web", "gone")
    assert holds.undone() == {"web": "undone"}, "also for the next start"
    assert accept(folder, "web") == "undone"
    assert holds.hold("web", "")


def test_a_late_look_brings_back_nothing_that_was_released(holds, folder):
    holds.hold("web", "gone")
    holds.release("web")
    assert not holds.hold("web", "")
    with pytest.raises(UsageError, match="not held back"):
        accept(folder, "web")


def test_a_wrong_name_is_told_the_right_ones(holds, folder):
    holds.hold("web", "gone")
    holds.hold("app", "gone")
    with pytest.raises(UsageError) as error:
        accept(folder, "wep")
    assert error.value.hint == "held back are: app, web"


def test_who_may_not_read_the_state_is_told_so_and_not_that_nothing_is_held_back(holds, tmp_path):
    holds.hold("web", "gone")
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(UsageError, match="cannot be read"):
        accept(StateFolder(str(tmp_path / "state"), log=[].append), "web")
