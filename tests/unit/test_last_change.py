"""The diff of a target's last change, and whom it is shown to."""

from __future__ import annotations

import os

import pytest

from confpy.daemon.additions import HistoryOnPage
from confpy.ledger.last_change import last_change
from confpy.status.model import ResourceStatus, Status
from confpy.system.disk import Disk
from tests.unit.test_history import Deliverer, resource


@pytest.fixture
def deliverer(tmp_path):
    state = tmp_path / "state"
    state.mkdir(0o700)
    return Deliverer(state, Disk())


def change(deliverer, one, sensitive=False):
    return last_change(deliverer.history, one.dest, Disk(), sensitive=sensitive)


def test_it_is_a_unified_diff_without_control_characters(deliverer, tmp_path):
    one = resource(tmp_path / "f", mode=0o644)
    deliverer.deliver((one, b"a\nb\n"))
    assert change(deliverer, one).lines[:2] == ("--- /dev/null", f"+++ {one.dest}")
    deliverer.deliver((one, b"a\n\x1b[31mc\n"))
    found = change(deliverer, one)
    assert found.lines == (f"--- {one.dest}", f"+++ {one.dest}", "@@ -1,2 +1,2 @@", " a", "-b", "+\\x1b[31mc")
    assert found.why_not == ""


@pytest.mark.parametrize("modes", [(0o640, 0o640), (0o640, 0o644), (0o644, 0o640)])
def test_what_not_everybody_may_or_might_read_is_not_shown(deliverer, tmp_path, modes):
    for mode, content in zip(modes, (b"hunter1", b"hunter2"), strict=True):
        deliverer.deliver((resource(tmp_path / "f", mode=mode), content))
    found = change(deliverer, resource(tmp_path / "f"))
    assert (found.lines, found.why_not) == ((), "not everybody may read the target")


def test_nor_is_a_sensitive_one_also_if_it_has_become_so_since(deliverer, tmp_path):
    for one in (resource(tmp_path / "f", mode=0o644), resource(tmp_path / "g", mode=0o644, sensitive=True, undo=True)):
        deliverer.deliver((one, b"hunter1"))
        deliverer.deliver((one, b"hunter2"))
        assert change(deliverer, one, sensitive=True).lines == ()
    assert change(deliverer, resource(tmp_path / "g")).lines == (), "the history knows it, too"


def test_what_cannot_be_compared_says_why(deliverer, tmp_path):
    one = resource(tmp_path / "f", mode=0o644)
    assert "no delivery" in change(deliverer, one).why_not
    deliverer.deliver((one, b"1"))
    deliverer.deliver((one, b"x" * (2 << 20)))
    assert "too large" in change(deliverer, one).why_not
    os.unlink(one.dest)
    assert change(deliverer, one).why_not == "the target is missing"


def test_the_page_has_the_last_deliveries_and_the_diffs_that_may_be_shown(deliverer, tmp_path):
    one, secret = resource(tmp_path / "f", mode=0o644), resource(tmp_path / "g", mode=0o644, sensitive=True)
    for content in (b"1", b"2"):
        deliverer.deliver((one, content))
        deliverer.deliver((secret, content))
    resources = (ResourceStatus("f", one.dest), ResourceStatus("g", secret.dest, sensitive=True))
    status = Status("1", 1, "/c", "file", "watch", 0.0, 0.0, True, resources)
    shown = HistoryOnPage(deliverer.history, Disk())
    assert list(shown(status).diffs) == [one.dest]
    assert [it.at for it in shown(status).history] == [4.0, 3.0, 2.0, 1.0]
    deliverer.deliver((one, b"3"))
    assert shown(status).diffs[one.dest][-1] == "+3"
