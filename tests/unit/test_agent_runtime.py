"""The agent where a running HAProxy may be told of changes: what waits, what is delivered meanwhile, what it says."""

from __future__ import annotations

import pytest

from confpy.haproxy.values import Avoided, ReloadNeeded
from confpy.messages import Reload, Reloaded
from confpy.reload.runtime_target import RuntimeTarget
from tests.unit.test_agent import Answers, CommandReload, Harness
from tests.unit.test_agent import resource as _resource

SOCKET = RuntimeTarget(("unix:/run/h.sock",))
NEEDED = ReloadNeeded("bind changed", "/out/web", 4)


class Told(Answers):
    """Jobs whose running program says what the test wants."""

    def reload(self, action: Reload) -> Reloaded | None:
        harness = self._harness
        harness.asked.append((round(harness.now, 3), action.by))
        if action.by == "reload":
            return super().reload(action)
        if action.by == "runtime" and harness.needed:
            return Reloaded(action.key, None, 0.0, by=action.by, needed=NEEDED)
        return Reloaded(action.key, None, 0.0, by=action.by, avoided=Avoided("~1" if action.by == "runtime" else ""))


class Telling(Harness):
    def __init__(self, *resources, **config) -> None:
        self.asked: list[tuple[float, str]] = []
        self.needed = False
        super().__init__(*resources, **config)
        self._jobs = Told(self, self._jobs._ports)

    def by(self) -> list[str]:
        return [how for _, how in self.asked]


def resource(name: str = "web", **more):
    more = {"reload_cmd": CommandReload("reload"), "reload_haproxy": SOCKET, **more}
    return _resource(name, **more)


def started(*resources, **config) -> Telling:
    harness = Telling(*(resources or [resource()]), **config)
    harness.until(5.0)
    harness.asked.clear()
    harness.commits.clear()
    return harness


def test_changes_that_follow_closely_are_written_and_told_one_by_one():
    harness = started(resource(settle=1.0, max_wait=5.0))
    for number in range(4):
        harness.until(6.0 + number / 10)
        harness.put(a=f"{number}")
    assert harness.times("web") == [6.0, 6.1, 6.2, 6.3]
    assert harness.asked == [(6.0, "runtime"), (6.1, "runtime"), (6.2, "runtime"), (6.3, "runtime")]
    assert harness.runs == []


def test_what_settles_is_the_reload():
    harness = started(resource(settle=1.0, max_wait=5.0))
    harness.until(6.0)
    harness.put(a="1x")
    harness.needed = True
    harness.until(6.2)
    harness.put(a="2")
    harness.until(6.5)
    harness.put(a="3")
    assert harness.times("web") == [6.0, 6.2, 6.5]
    (waiting,) = harness.agent.status().reloads
    assert (waiting.cause, waiting.needed) == ("settle", "/out/web:4: bind changed")
    (web,) = harness.agent.status().resources
    assert web.state == "owed"
    assert web.why.endswith("a reload is needed: /out/web:4: bind changed")
    harness.until(9.0)
    assert harness.asked == [(6.0, "runtime"), (6.2, "runtime"), (7.5, "reload")]
    assert harness.agent.status().reloads == ()


def test_no_file_changes_while_its_program_reads_it():
    harness = started()
    harness.needed = True
    harness.hangs.add("reload")
    harness.until(6.0)
    harness.put(a="1x")
    assert harness.by() == ["runtime", "reload"]
    harness.until(6.5)
    harness.put(a="2")
    assert harness.times("web") == [6.0]
    (web,) = harness.agent.status().resources
    assert (web.state, web.cause) == ("waiting", "command")
    harness.post(Reloaded("reload", None, 0.5))
    harness.until(7.0)
    assert harness.times("web") == [6.0, 6.5]


def test_another_file_is_written_while_a_program_is_told():
    harness = started()
    harness.waits = ("reload",)
    harness.until(6.0)
    harness.put(a="1x")
    harness.put(a="2")
    assert len(harness.times("web")) == 2, "to be told takes a moment, and reads the file as a whole"


def test_avoided_reloads_are_counted_and_none_is_counted_as_a_reload():
    harness = started()
    before = harness.agent.status().totals
    harness.put(a="1x")
    harness.put(a="2")
    totals = harness.agent.status().totals
    assert (totals.avoided - before.avoided, totals.reloads - before.reloads) == (2, 0)
    assert [one.fields["plan"] for one in harness.events("reload.avoided")][-2:] == ["~1", "~1"]


def test_a_one_shot_reports_what_it_avoided():
    harness = Telling(resource(), _resource("plain"), onetime=True)
    harness.until(100.0)
    assert harness.ended == 0
    assert harness.by() == ["runtime"]
    web, plain = harness.agent.outcomes()
    assert (web["outcome"], web["reload_avoided"]) == ("changed", True)
    assert "reload_avoided" not in plain


@pytest.mark.parametrize("config", [{"noop": True}, {"sync_only": True}], ids=str)
def test_nobody_is_looked_at_where_nothing_is_reloaded(config):
    harness = Telling(resource(), period=60.0, **config)
    harness.until(200.0)
    assert "look" not in harness.by()


def test_a_program_is_compared_with_its_files_at_the_start_and_at_each_look():
    harness = Telling(resource(), period=60.0)
    harness.until(200.0)
    assert 3 <= harness.by().count("look") <= 4
    assert harness.events("runtime.repaired") == []


def test_nobody_is_looked_at_who_may_not_be_told():
    harness = Telling(_resource("web", reload_cmd=CommandReload("reload")), period=60.0)
    harness.until(200.0)
    assert harness.by() == ["reload"]
