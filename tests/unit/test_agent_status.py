"""What ``Agent.status`` says: each reason for which a resource or a reload waits, and when confpy has started."""

from __future__ import annotations

import signal
from hashlib import sha256

import pytest

from confpy.agent.reload_queue import RELOADS_AT_ONCE
from confpy.candidates import Report
from confpy.config.resource import Loaded, Resource
from confpy.errors import AccessDenied, StoreError, TemplateError, UsageError
from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.messages import Changed, Counted, Lost, Recalled, Recovered, Restored, Signalled
from confpy.reload.actions import CommandReload
from confpy.reload.spec import PendingReload, ReloadSpec
from confpy.status.model import as_json, is_well, troubles
from tests.unit.test_agent import ASKS, TRIAL, Harness, Inspecting, Slow, resource
from tests.unit.test_undo import Machine
from tests.unit.test_undo import resource as undoable

RELOAD = {"reload_cmd": CommandReload("r")}


class Away(Harness):
    """A store that does not answer, or denies what it is asked for, with ``error``; with no error it does."""

    error: StoreError | None = StoreError("no route", node="http://s")

    def read(self, prefixes, counted):
        if self.error is not None:
            if isinstance(self.error, AccessDenied):
                denied = {prefix: Listing(0, {}, error=self.error.about(prefix)) for prefix in prefixes}
                return Snapshot(denied, self.identity)
            raise self.error
        return super().read(prefixes, counted)

    def _start(self, name, job, failed):
        def attempt():
            try:
                return job()
            except StoreError as error:
                return failed(error)

        super()._start(name, attempt, failed)


class SlowAndAway(Slow, Away):
    """One whose deliveries take their time."""


class Remembering(Away):
    """One whose state folder has cached keys."""

    def take(self, actions):
        super().take(actions)
        if any(type(action).__name__ == "Recall" for action in actions):
            self.post(Recalled({"/app/a": "0"}, ("/app",), 60.0))


def of(harness: Harness, name: str = "a"):
    return next(one for one in harness.agent.status().resources if one.name == name)


def reason(harness: Harness, name: str = "a") -> tuple[str, str]:
    found = of(harness, name)
    assert found.why or found.state == "current"
    return found.state, found.cause


def reloading(harness: Harness):
    (found,) = harness.agent.status().reloads
    return found


# --- what waits ------------------------------------------------------------------------------------------------------


def test_a_resource_that_was_delivered_is_current_with_its_times_revision_and_digest():
    harness = Harness(resource("a"))
    harness.until(5.0)
    found = of(harness)
    assert (found.state, found.why, found.cause, found.error) == ("current", "", "", None)
    assert (found.since, found.changed_at, found.revision) == (1e9, 1e9, 1)
    assert (found.target, found.digest) == ("/out/a", harness.targets["a"].hex())
    assert is_well(harness.agent.status())


def test_settle():
    harness = Harness(resource("a", settle=3.0, max_wait=10.0))
    harness.until(5.0)
    harness.put(a="2")
    harness.put(a="3")
    assert reason(harness) == ("waiting", "settle")
    assert of(harness).next_at == 1e9 + 8.0
    assert is_well(harness.agent.status()), "it passes by itself"


def test_the_first_read():
    harness = Harness(resource("a"))
    harness.waits = ("read",)
    harness.until(1.0)
    assert reason(harness) == ("waiting", "read")
    assert "/app" in of(harness).why
    harness.finish_jobs()
    assert reason(harness) == ("current", "")


def test_a_store_that_is_away():
    harness = Away(resource("a"))
    harness.until(1.0)
    assert reason(harness) == ("failed", "store away")
    (store,) = harness.agent.status().stores
    assert not store.is_up
    assert store.error == {"error": "no route", "node": "http://s"}
    assert store.next_at > harness.time()
    harness.error = None
    harness.until(100.0)
    assert reason(harness) == ("current", "")
    (store,) = harness.agent.status().stores
    assert store.is_up
    assert (store.error, store.stream) == (None, "open")


def test_a_store_that_goes_away_later_shows_in_its_own_line_and_leaves_the_resources_current():
    harness = Away(resource("a"))
    harness.error = None
    harness.until(1.0)
    harness.error = Away.error
    harness.signal(signal.SIGHUP)
    harness.until(5.0)
    harness.agent.mirror.reread(harness.now)
    assert reason(harness) == ("current", "")


def test_a_store_that_is_lost_after_the_start_is_down_with_its_error_and_the_resources_stay_as_they_are():
    harness = Away(resource("a"))
    harness.error = None
    answer_polls(harness)
    harness.until(5.0)
    assert is_well(harness.agent.status())
    harness.error = Away.error
    hang_up(harness)
    harness.until(6.0)
    status = harness.agent.status()
    (store,) = status.stores
    assert (store.is_up, store.error) == (False, {"error": "no route", "node": "http://s"})
    assert store.answered_at < 1e9 + 6.0 < store.next_at
    assert reason(harness) == ("current", ""), "its target is as the store last wanted it"
    assert list(troubles(status)) == ["store : no route"]
    harness.error = None
    harness.until(200.0)
    assert is_well(harness.agent.status())


def test_a_prefix_that_is_denied():
    harness = Away(resource("a"))
    harness.error = AccessDenied("denied")
    harness.until(1.0)
    assert reason(harness) == ("failed", "prefix denied")
    assert harness.agent.status().stores[0].denied == ("/app",)
    harness.error = None
    harness.until(60.0)
    assert reason(harness) == ("current", "")


def test_a_missing_key():
    harness = Harness(resource("a", on_missing="error"), keys={})
    harness.until(1.0)
    assert reason(harness) == ("failed", "missing key")
    assert of(harness).error["key"] == "/app"


def test_a_look_up():
    harness = Harness(resource("a", ASKS))
    harness.until(1.0)
    assert reason(harness) == ("waiting", "lookup")
    assert "the addresses of a name that is not shown" in of(harness).why, "it may be made of a value"
    harness.finish_jobs()
    assert reason(harness) == ("current", "")


def test_one_that_failed_and_waits_for_a_look_up_is_not_said_to_wait_for_its_backoff():
    harness = Harness(resource("a"))
    harness.checks = False
    harness.until(1.0)
    assert reason(harness) == ("failed", "backoff")
    harness.post(Loaded((resource("a", ASKS),)))
    harness.until(1.5)
    assert reason(harness) == ("failed", "lookup")
    assert "the check exited with 1; its template asks for the addresses of a name" in of(harness).why
    assert not is_well(harness.agent.status())


def test_a_delivery_and_a_command_in_use():
    harness = Slow(resource("a", **RELOAD), Resource("b", "", "t", "/out/b", prefixes=("/b",), **RELOAD))
    harness.until(1.0)
    harness.finish_jobs()
    harness.put(a="2")
    harness.post(Changed(harness._stream, Changes("/b", 9, {"/b/k": (9, "1")})))
    harness.until(harness.now)
    assert reason(harness) == ("delivering", "delivery")
    assert reason(harness, "b") == ("waiting", "command")
    assert "in use by another delivery" in of(harness, "b").why


def test_a_command_that_a_reload_uses():
    harness = Harness(resource("a", **TRIAL, **RELOAD))
    harness.hangs = {"r"}
    harness.until(1.0)
    harness.put(a="2")
    assert reason(harness) == ("waiting", "command")
    assert "a command is in use by a reload" in of(harness).why


def rolling_back(*resources):
    """Return a harness whose reload has failed, so that the previous files are being put back."""
    harness = Harness(*resources)
    harness.fails, harness.waits = {"r"}, ("restore",)
    harness.until(1.0)
    return harness


def test_a_rollback():
    harness = rolling_back(resource("a", on_reload_failure="rollback", **RELOAD))
    assert reason(harness) == ("owed", "rollback")
    assert (reloading(harness).is_running, reloading(harness).cause) == (False, "rollback")
    assert "the previous files are being put back" in of(harness).why


def test_a_command_whose_files_are_being_put_back():
    harness = rolling_back(resource("a", on_reload_failure="rollback", **RELOAD))
    harness.put(a="2")
    assert reason(harness) == ("waiting", "command")
    assert "the previous files of a command are being put back" in of(harness).why


def test_a_step_that_does_not_come_since_confpy_stops():
    harness = Slow(resource("a"), Resource("b", "", "t", "/out/b", prefixes=("/b",)))
    harness.until(1.0)
    harness.finish_jobs()
    harness.put(a="2")
    harness.until(2.0)
    harness.signal(signal.SIGTERM)
    harness.post(Changed(harness._stream, Changes("/b", 9, {"/b/k": (9, "1")})))
    harness.until(2.1)
    assert reason(harness) == ("delivering", "delivery")
    assert reason(harness, "b") == ("waiting", "pass")
    assert of(harness, "b").why == "confpy stops: it is left to the next start"
    assert harness.agent.status().is_stopping


def test_what_was_undone(tmp_path):
    machine = Machine(tmp_path / "state", undoable(tmp_path, "a"))
    machine.until(5.0)
    machine.put(a="2")
    machine.until(10.0)
    machine.undo("a")
    assert reason(machine) == ("held", "undo")
    assert "confpy accept a delivers what the store wants" in of(machine).why
    machine.accept("a")
    machine.until(30.0)
    assert reason(machine) == ("current", "")


def test_the_first_try_of_another():
    harness = Harness(resource("a", **TRIAL), resource("b", ASKS, **TRIAL))
    harness.until(1.0)
    assert reason(harness) == ("waiting", "first try")
    assert reason(harness, "b") == ("waiting", "lookup")


def test_a_check_that_fails_and_the_group_that_it_holds_back():
    harness = Harness(resource("a", group="g"), resource("b", group="g"))
    harness.checks = False
    harness.until(1.0)
    assert reason(harness) == ("failed", "backoff")
    assert of(harness).error["error"] == "the check exited with 1"
    assert of(harness).next_at > harness.time()
    assert list(troubles(harness.agent.status()))
    harness.checks = True
    harness.until(100.0)
    assert is_well(harness.agent.status())


def test_a_member_of_a_group_whose_other_one_fails():
    class One(Harness):
        def deliver(self, action):
            assert len(action.groups[0].candidates) == 2
            error = StoreError("bad") if not self.checks else None
            yield Report("a", "failed" if error else "changed", error)
            yield Report("b", "held" if error else "changed", StoreError("held") if error else None)

    harness = One(resource("a", group="g"), resource("b", group="g"))
    harness.checks = False
    harness.until(1.0)
    assert reason(harness, "b") == ("held", "group")
    assert "a, of its group g, failed: bad" in of(harness, "b").why


def test_an_invalid_file():
    harness = Harness(resource("a"))
    harness.until(1.0)
    error = UsageError("src is missing", file="/c/a.toml", line=3)
    harness.edit(errors={"a": error, "new": UsageError("bad", file="/c/new.toml")})
    assert reason(harness) == ("failed", "invalid file")
    assert "it goes on as it was" in of(harness).why
    assert of(harness, "new").error["file"] == "/c/new.toml"
    harness.edit(resource("a"))
    assert [one.name for one in harness.agent.status().resources] == ["a"]
    assert is_well(harness.agent.status())


def test_files_that_are_all_invalid_are_shown_too():
    harness = Harness()
    harness.errors = {"a": UsageError("bad", file="/c/a.toml")}
    harness.until(1.0)
    assert reason(harness) == ("failed", "invalid file")


def test_suspect_keys():
    harness = Harness(resource("a", shrink_grace=30.0), keys={"/app/a": "1", "/app/b": "2"})
    harness.until(1.0)
    harness.put(a=None, b=None)
    harness.until(2.0)
    assert reason(harness) == ("held", "keys suspect")
    assert of(harness).next_at == 1e9 + 31.0
    assert not is_well(harness.agent.status())


def test_cached_keys():
    harness = Remembering(resource("a"), saves_keys=True)
    harness.until(1.0)
    assert harness.targets
    assert reason(harness) == ("stale", "cached keys")


def test_content_that_a_reload_has_rejected():
    harness = Harness(resource("a", reload_cmd=CommandReload("r"), on_reload_failure="rollback"))
    owed = PendingReload(ReloadSpec("r", CommandReload("r"), 60.0, on_failure="rollback"), ("a",), ("/out/a",), (1,))
    harness.recovered = Recovered((owed,))
    harness.fails = {"r"}
    before = Harness(resource("a"))
    before.until(1.0)
    refused = (sha256(before.targets["a"]).hexdigest(), "/out/a", None)
    harness.restored = Restored("r", (Report("a", "changed", record=2),), (), {"a": refused})
    harness.loads = False
    harness.until(1.0)
    harness.post(Loaded(harness.resources))
    harness.until(100.0)
    assert reason(harness) == ("held", "rejected content")


def test_drift_that_comes_back_and_drift_that_is_left():
    harness = Inspecting(resource("a"), resource("b", on_drift="warn"), period=60.0)
    harness.until(1.0)
    harness.drifts = {"a": "content", "b": "mode"}
    harness.until(270.0)
    assert reason(harness) == ("drifted", "drift")
    assert of(harness).next_at > harness.time()
    assert reason(harness, "b") == ("drifted", "on_drift")
    assert not is_well(harness.agent.status())
    harness.drifts = {}
    harness.hang_up()
    assert reason(harness) == ("current", "")


def test_what_would_change():
    class Noop(Harness):
        def deliver(self, action):
            assert len(action.groups) == 1
            yield Report("a", "would change", differs=("content",))

    harness = Noop(resource("a"), noop=True)
    harness.until(1.0)
    assert reason(harness) == ("held", "noop")
    assert harness.agent.status().mode == "poll noop"


# --- reloads ---------------------------------------------------------------------------------------------------------


def test_a_reload_that_runs():
    harness = Harness(resource("a", **RELOAD))
    harness.hangs = {"r"}
    harness.until(1.0)
    assert reason(harness) == ("owed", "reload")
    assert (of(harness).reload, reloading(harness).is_running, reloading(harness).resources) == ("r", True, ("a",))
    assert is_well(harness.agent.status())
    harness.now += 60.0
    harness.step()
    assert list(troubles(harness.agent.status())) == ["resource a: its reload runs: r"]


def test_a_reload_that_fails_is_owed_with_its_error_its_count_and_its_next_try():
    harness = Harness(resource("a", **RELOAD))
    harness.fails = {"r"}
    harness.until(0.0)
    found = reloading(harness)
    assert reason(harness) == ("owed", "reload retry")
    assert (found.attempts, found.is_running, found.since) == (1, False, 1e9)
    assert found.next_at > harness.time()
    assert found.error["error"] == of(harness).error["error"] == "it failed"
    assert not is_well(harness.agent.status())
    harness.fails = set()
    harness.until(10.0)
    assert reason(harness) == ("current", "")
    assert harness.agent.status().reloads == ()


def test_min_reload_interval():
    harness = Harness(resource("a", min_reload_interval=60.0, **RELOAD))
    harness.until(1.0)
    harness.put(a="2")
    assert reason(harness) == ("owed", "min_reload_interval")
    assert of(harness).next_at == 1e9 + 60.0


def test_splay():
    harness = Harness(resource("a", splay=60.0, **RELOAD))
    harness.until(0.1)
    assert reason(harness) == ("owed", "splay")
    assert reloading(harness).waits_for


def test_a_reload_that_waits_for_deliveries_of_its_command():
    harness = Slow(
        resource("a", min_reload_interval=10.0, **RELOAD),
        Resource("b", "", "t", "/out/b", prefixes=("/b",), **RELOAD),
        max_wait=100.0,
    )
    harness.until(1.0)
    harness.finish_jobs()
    harness.put(a="2")
    harness.until(3.0)
    harness.finish_jobs()
    assert reason(harness) == ("owed", "min_reload_interval")
    harness.until(10.5)
    harness.post(Changed(harness._stream, Changes("/b", 9, {"/b/k": (9, "1")})))
    harness.until(14.0)
    assert reason(harness) == ("owed", "reload after deliveries")
    assert reason(harness, "b") == ("delivering", "delivery")
    assert "a delivery of the same command is under way" in of(harness).why
    assert [one.fields["waits_for"] for one in harness.events("reload.waiting")] == [
        "min_reload_interval",
        "deliveries",
    ]
    harness.finish_jobs()
    assert is_well(harness.agent.status())


def test_a_reload_that_waits_for_a_free_place():
    count = RELOADS_AT_ONCE + 1
    harness = Harness(*(resource(f"r{number}", reload_cmd=CommandReload(f"c{number}")) for number in range(count)))
    harness.hangs = {f"c{number}" for number in range(count)}
    harness.until(1.0)
    waiting = [one for one in harness.agent.status().reloads if not one.is_running]
    assert [(one.cause, one.waits_for) for one in waiting] == [
        ("reload", f"{RELOADS_AT_ONCE} others run, and it waits for one of them to end")
    ]
    (line,) = harness.events("reload.waiting")
    assert line.fields["waits_for"] == "other reloads"


def test_a_reload_that_failed_and_is_left_so():
    harness = Harness(resource("a", on_reload_failure="keep", **RELOAD))
    harness.fails = {"r"}
    harness.until(1.0)
    assert reason(harness) == ("failed", "reload retry")
    assert not is_well(harness.agent.status())


def test_the_next_reload_of_the_command_that_succeeds_makes_up_for_one_that_failed_and_was_left_so():
    other = Resource("b", "", "t", "/out/b", prefixes=("/b",), on_reload_failure="keep", **RELOAD)
    harness = Harness(resource("a", on_reload_failure="keep", **RELOAD), other)
    harness.fails = {"r"}
    harness.until(1.0)
    assert reason(harness) == ("failed", "reload retry")
    harness.fails = set()
    harness.post(Changed(harness._stream, Changes("/b", 9, {"/b/k": (9, "1")})))
    harness.until(100.0)
    assert reason(harness) == ("current", "")
    assert of(harness).loaded_at == of(harness, "b").loaded_at


# --- started ---------------------------------------------------------------------------------------------------------


def started(harness: Harness) -> bool:
    assert len(harness.events("confpy.ready")) == harness.agent.is_started, "once"
    assert harness.agent.status().is_started == harness.agent.is_started
    return harness.agent.is_started


def test_it_has_started_once_each_resource_was_delivered():
    harness = Harness(resource("a"), resource("b", ASKS))
    harness.until(1.0)
    assert not started(harness)
    harness.finish_jobs()
    assert started(harness)
    (line,) = harness.events("confpy.ready")
    assert line.fields == {"resources": 2, "took": 1.0}


@pytest.mark.parametrize("is_there", [True, False])
def test_one_that_fails_holds_it_up_only_where_its_target_is_missing(is_there):
    harness = Harness(resource("a", on_missing="error"), resource("b"))
    harness.keys = {}
    harness.there = {"/out/a"} if is_there else set()
    harness.until(100.0)
    assert started(harness) == is_there
    assert harness.agent.status().missing == (() if is_there else ("/out/a",))
    if is_there:
        assert harness.events("confpy.ready")[0].fields["failed"] == "a"
    else:
        harness.put(a="1")
        assert started(harness)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_store_that_does_not_answer_has_its_time_and_then_every_target_must_exist(is_there):
    harness = Away(resource("a"), ready_timeout=30.0)
    harness.there = {"/out/a"} if is_there else set()
    harness.until(29.0)
    assert not started(harness)
    harness.until(31.0)
    assert started(harness) == is_there
    harness.error = None
    harness.until(200.0)
    assert started(harness)


def test_a_read_that_hangs_is_a_store_that_does_not_answer():
    harness = Harness(resource("a"), ready_timeout=30.0)
    harness.waits = ("read",)
    harness.there = {"/out/a"}
    harness.until(29.0)
    assert not started(harness)
    harness.until(31.0)
    assert started(harness)


def test_a_target_from_cached_keys_is_there():
    harness = Remembering(resource("a"), saves_keys=True, ready_timeout=30.0)
    harness.until(29.0)
    assert not started(harness)
    harness.until(31.0)
    assert started(harness)


def test_a_delivery_that_hangs_is_waited_for():
    harness = Slow(resource("a"), ready_timeout=30.0)
    harness.there = {"/out/a"}
    harness.until(100.0)
    assert not started(harness)
    harness.finish_jobs()
    assert started(harness)


def test_a_prefix_that_is_denied_during_the_first_delivery_does_not_hold_it_up_for_ever():
    harness = SlowAndAway(resource("a"))
    harness.error = None
    harness.until(1.0)
    assert reason(harness) == ("delivering", "delivery")
    harness.error = AccessDenied("denied")
    harness.there = {"/out/a"}
    harness.post(Lost(harness._stream, AccessDenied("denied", prefix="/app")))
    harness.until(3.0)
    assert harness.agent.status().stores[0].denied == ("/app",)
    harness.finish_jobs()
    harness.until(100.0)
    assert started(harness)


def test_a_denied_prefix_and_suspect_keys_do_not_hold_it_up():
    harness = Away(resource("a"))
    harness.error = AccessDenied("denied")
    harness.there = {"/out/a"}
    harness.until(1.0)
    assert started(harness)
    harness = Harness(resource("a", shrink_grace=1000.0), keys={})
    harness.recovered = Recovered(counts={"a": (Counted(1),)}, identity="s", revision=1)
    harness.there = {"/out/a"}
    harness.until(1.0)
    assert reason(harness) == ("held", "keys suspect")
    assert started(harness)


def test_it_stays_started_whatever_comes():
    harness = Harness(resource("a"))
    harness.until(1.0)
    harness.checks = False
    harness.put(a="2")
    harness.until(100.0)
    assert started(harness)
    assert not is_well(harness.agent.status())


def test_a_target_that_is_missing_for_hours_is_not_looked_for_all_the_time():
    harness = Harness(resource("a", on_missing="error"), keys={})
    harness.until(3600.0)
    looks = [one for one in harness.done if type(one).__name__ == "FindTargets"]
    assert 30 < len(looks) < 90


# --- reload and wait -------------------------------------------------------------------------------------------------


def hang_up(harness: Harness) -> float:
    harness.post(Signalled(signal.SIGHUP))
    return harness.now


def answer_polls(harness: Harness) -> None:
    """Have polls answered, by reads; look-ups too."""
    harness.waits = ()
    start = harness._start

    def starts(name, job, failed):
        start("read" if name == "poll" else name, job, failed)

    harness._start = starts
    harness._jobs._ports.start = starts
    harness.poll = lambda _prefixes: None


def test_a_hangup_is_over_when_all_was_read_and_tried():
    harness = Inspecting(resource("a"))
    answer_polls(harness)
    harness.until(5.0)
    asked = hang_up(harness)
    harness.keys = {"/app/a": "2"}
    harness.revision = 2
    harness.until(6.0)
    found = harness.agent.review(asked)
    assert (found.is_over, found.errors, found.changed) == (True, (), ("a",))


def test_a_hangup_is_not_over_while_something_of_it_is_under_way():
    harness = Inspecting(resource("a"))
    answer_polls(harness)
    harness.until(5.0)
    asked = hang_up(harness)
    harness.waits = ("inspect",)
    harness.until(6.0)
    assert not harness.agent.review(asked).is_over
    harness.waits = ()
    harness.finish_jobs()
    assert harness.agent.review(asked).is_over


def test_a_hangup_is_not_over_while_templates_are_read_what_failed_may_be_of_older_ones():
    harness = Inspecting(resource("a"))
    answer_polls(harness)
    harness.until(5.0)
    harness.checks = False
    harness.put(a="2")
    harness.until(6.0)
    assert reason(harness) == ("failed", "backoff")
    harness.waits = ("resolve",)
    asked = hang_up(harness)
    harness.until(6.1)
    assert harness.waiting
    assert not harness.agent.review(asked).is_over
    harness.waits = ()
    harness.finish_jobs()
    harness.until(20.0)
    assert harness.agent.review(asked).is_over


def test_what_fails_after_a_hangup_is_told_with_its_code():
    harness = Inspecting(resource("a", **RELOAD), resource("b", on_missing="error"))
    answer_polls(harness)
    harness.until(5.0)
    harness.fails = {"r"}
    harness.keys, harness.revision = {"/app/x": "1"}, 2
    asked = hang_up(harness)
    harness.until(7.0)
    found = harness.agent.review(asked)
    assert found.is_over
    assert sorted(error.exit_code for error in found.errors) == [7]
    harness.errors = {"c": UsageError("bad", file="/c")}
    asked = hang_up(harness)
    harness.until(8.0)
    assert 2 in {error.exit_code for error in harness.agent.review(asked).errors}


# --- as JSON ---------------------------------------------------------------------------------------------------------


def test_as_json_it_says_what_is_wrong_and_holds_no_content():
    harness = Harness(resource("a"), keys={"/app/a": "secret-value"})
    harness.until(1.0)
    document = as_json(harness.agent.status())
    assert document["is_well"]
    assert document["troubles"] == []
    assert b"secret-value" in harness.targets["a"]
    assert "secret-value" not in str({**document, "resources": [{**document["resources"][0], "digest": ""}]})


def test_a_sensitive_resource_has_no_digest():
    harness = Harness(resource("a", sensitive=True))
    harness.until(1.0)
    assert (of(harness).digest, of(harness).sensitive) == ("", True)


# --- what goes on is told again --------------------------------------------------------------------------------------


def told(harness: Harness, event: str) -> list[object]:
    return [one.fields.get("repeated") for one in harness.events(event)]


def test_suspect_keys_are_logged_again_once_an_hour():
    harness = Harness(resource("a", on_shrink="keep"), keys={"/app/a": "1", "/app/b": "2"})
    harness.until(1.0)
    harness.put(a=None, b=None)
    for minutes in range(10, 100, 10):
        harness.steps = 0  # whether a person accepts it is looked at each two seconds
        harness.until(minutes * 60.0)
    assert told(harness, "keys.suspect") == [None, 2]


def test_an_invalid_file_is_logged_again_once_an_hour():
    harness = Harness(resource("a"))
    harness.until(1.0)
    harness.edit(resource("a"), errors={"b": UsageError("bad", file="/c/b.toml")})
    harness.until(2.5 * 3600.0)
    assert told(harness, "resource.invalid") == [None, 2, 3]
    harness.edit(resource("a"))
    harness.until(5 * 3600.0)
    assert len(told(harness, "resource.invalid")) == 3


def test_drift_that_is_left_is_logged_again_once_an_hour():
    harness = Inspecting(resource("a", on_drift="warn"), period=60.0)
    harness.until(1.0)
    harness.drifts = {"a": "content"}
    harness.until(2.5 * 3600.0)
    assert told(harness, "target.drifted") == [None, 2, 3]


def test_a_look_up_that_keeps_failing_is_logged_as_other_failures_are():
    class Failing(Harness):
        def resolve_all(self, lookups):
            yield dict.fromkeys(lookups, TemplateError("no such name"))

    harness = Failing(resource("a", ASKS), period=60.0)
    harness.waits = ()
    harness.until(3 * 3600.0)
    attempts = [one.fields["attempt"] for one in harness.events("lookup.failed")]
    assert attempts[:4] == [1, 4, 16, 64]
    assert len(attempts) <= 7
