"""The reloads that commits owe."""

from __future__ import annotations

from random import Random

from confpy.debts import Commit, Debts
from confpy.errors import ReloadError
from confpy.model import Reload, Reloaded, Resource


def owing(*names: str) -> Debts:
    debts = Debts(Random(1), longest_wait=2.0)
    for name in names:
        resource = Resource(name, "", "t.j2", f"/out/{name}", reload_cmd="reload")
        debts.owe(Commit(resource, "change", 1, 5, 0.1), now=0.0)
    return debts


def test_a_reload_that_is_cut_off_by_the_end_is_told_of_as_owed():
    debts = owing("web", "app")
    assert [type(action) for action in debts.pay(0.0, ())] == [Reload]
    assert debts.owed() == {"reload": "web, app"}


def test_nothing_is_owed_after_a_reload_that_succeeded():
    debts = owing("web")
    (run,) = debts.pay(0.0, ())
    assert [say.event for say in debts.take(Reloaded(run.key, None, 0.1), 1.0, once=False)] == ["resource.changed"]
    assert debts.owed() == {}
    assert not debts


def test_a_commit_during_a_reload_is_paid_by_the_next_one():
    debts = owing("web")
    (run,) = debts.pay(0.0, ())
    debts.owe(Commit(Resource("web", "", "t.j2", "/out/web", reload_cmd="reload"), "change", 1, 6, 0.1), now=0.5)
    assert list(debts.pay(0.5, ())) == [], "one command is not run twice at once"
    list(debts.take(Reloaded(run.key, None, 1.0), 1.0, once=False))
    assert [type(action) for action in debts.pay(1.0, ())] == [Reload]


def test_a_reload_that_failed_stays_owed():
    debts = owing("web")
    (run,) = debts.pay(0.0, ())
    list(debts.take(Reloaded(run.key, ReloadError("the reload exited with 1"), 0.1), 1.0, once=False))
    assert debts.owed() == {"reload": "web"}
    assert 1.0 < debts.wake_at() <= 2.0
