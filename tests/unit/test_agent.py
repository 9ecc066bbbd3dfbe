"""The owner's mind, one message at a time: settling, rates, doubts and edits on a clock that tests turn."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Mapping
from hashlib import sha256
from random import Random

import pytest

from confpy.agent.agent import Agent
from confpy.agent.batches import Batch
from confpy.agent.config import AgentConfig
from confpy.agent.passes import FIRST_TRIES
from confpy.agent.rendering import MOST_SUSPICIONS
from confpy.config.resource import Loaded, Resource
from confpy.errors import CheckError, ReloadError, UsageError
from confpy.events import LogEvent
from confpy.frozen import NOTHING, replace
from confpy.keys.prefixes import covers
from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.messages import (
    Accepted,
    Candidate,
    Changed,
    ClearPending,
    Counted,
    Deliver,
    Delivered,
    DeliveredState,
    Edited,
    Group,
    Hold,
    Inspect,
    Inspected,
    Kill,
    LastRun,
    Listed,
    Load,
    Message,
    Opened,
    Owed,
    Read,
    Recall,
    Recalled,
    Recover,
    Recovered,
    Release,
    Reload,
    Reloaded,
    Report,
    Resolve,
    Resolved,
    Restore,
    Restored,
    Save,
    Signalled,
    Stop,
    Terminate,
    WakeAt,
    Watch,
    Woken,
)
from confpy.mirror.mirror import Mirror
from confpy.reload.actions import CommandReload
from confpy.templates.lookup import Lookup
from confpy.templates.results import Needs, Rendered, Suspicion


class Room:
    """A mind over a store that answers at once; ``targets`` are what it delivered, ``runs`` when it reloaded what."""

    def __init__(self, *resources: Resource, keys: dict[str, str] | None = None, seed: int = 1, **config) -> None:
        self.now = 0.0
        self.keys = {"/app/a": "1"} if keys is None else keys
        self.revision, self.identity = 1, "s"
        self.resources, self.errors = resources, {}
        self.notes: tuple[LogEvent, ...] = ()
        self.lines: dict[str, dict[str, int]] = {}
        self.recovered = Recovered()
        self.targets: dict[str, bytes] = {}
        self.commits: list[tuple[float, str]] = []
        self.runs: list[tuple[float, str]] = []
        self.refuses: set[str] = set()
        """Reloads that fail."""
        self.hangs: set[str] = set()
        """Reloads that come to no end."""
        self.ends: list[tuple[float, type]] = []
        """When commands were to be ended, and how."""
        self.loads = True
        """Whether a look at conf.d comes to its end."""
        self.restored = Restored("", ())
        self.checks = True
        """Whether checks succeed."""
        self.accepts_only = 0
        """How many groups a delivery must have for its check to pass."""
        self.deliveries: list[tuple[float, list[str]]] = []
        self.resolves: list[Resolve] = []
        """Questions that tests answer."""
        self.said: list[LogEvent] = []
        self.done: list[object] = []
        self.steps = 0
        self.accepts = False
        self.ended: int | None = None
        random = Random(seed)
        mirror = Mirror(random, follows=not config.get("onetime"), period=600.0)
        self.agent = Agent(AgentConfig(**config), mirror, self, random, {})
        self.suspicions: tuple[Suspicion, ...] = ()
        self.outside: tuple[str, ...] = ()
        self._inbox: deque[Message] = deque()
        self._stream = 0
        self._wake_at = float("inf")

    def render(self, resource, view, world):
        asked = frozenset((Lookup("ip", resource.name),) if resource.src == ASKS else ())
        if not asked <= world.facts.keys():
            raise Needs(asked)
        return Rendered(str(sorted(view.gets("/*/*"))).encode(), asked, False, (), self.suspicions, self.outside)

    def until(self, moment: float) -> None:
        """Let time pass up to this moment."""
        if not self.done:
            self._take(self.agent.start())
        while self.ended is None:
            if self._inbox:
                self._step(self._inbox.popleft())
            elif self._wake_at <= moment:
                self.now = max(self.now, self._wake_at)
                self._step(Woken())
            else:
                break
        self.now = moment

    def put(self, **values: str | None) -> None:
        """Change keys below /app, as a stream tells of it."""
        self.revision += 1
        changed = {f"/app/{name}": (self.revision, value) for name, value in values.items()}
        for key, (_, value) in changed.items():
            self.keys.pop(key, None)
            if value is not None:
                self.keys[key] = value
        self._inbox.append(Changed(self._stream, Changes("/app", self.revision, changed)))
        self.until(self.now)

    def edit(self, *resources: Resource, errors: Mapping[str, UsageError] = NOTHING) -> None:
        self.resources, self.errors = resources, errors
        self._inbox.append(Edited())
        self.until(self.now + 1)

    def signal(self, *numbers: int) -> None:
        self._inbox.extend(Signalled(number) for number in numbers)
        self.until(self.now)

    def told(self, event: str) -> list[LogEvent]:
        return [say for say in self.said if say.event == event]

    def times(self, name: str) -> list[float]:
        return [round(moment, 3) for moment, one in self.commits if one == name]

    def _step(self, message: Message) -> None:
        self.steps += 1
        assert self.steps < 5000, "it spins"
        self._take(self.agent.step((message,), self.now, 1e9 + self.now))

    def _take(self, actions) -> None:
        for action in actions:
            self.done.append(action)
            match action:
                case WakeAt():
                    self._wake_at = action.moment
                case LogEvent():
                    self.said.append(action)
                case Recover():
                    self._inbox.append(self.recovered)
                case Restore():
                    self._inbox.append(self.restored)
                case Load() if self.loads:
                    self._inbox.append(Loaded(self.resources, self.errors, notes=self.notes, lines=self.lines))
                case Read():
                    listings = {prefix: Listing(self.revision, dict(self.keys)) for prefix in action.prefixes}
                    self._inbox.append(Listed(action.read, Snapshot(listings, self.identity)))
                case Watch():
                    self._stream = action.stream
                    self._inbox.append(Opened(action.stream))
                case Deliver():
                    self._inbox.append(Delivered(action.batch, tuple(self._deliver(action))))
                case Reload():
                    self.runs.append((round(self.now, 3), action.key))
                    if action.key in self.hangs:
                        continue
                    error = ReloadError("it failed") if action.key in self.refuses else None
                    self._inbox.append(Reloaded(action.key, error, 0.0))
                case Hold():
                    self._inbox.append(Accepted(action.resource, accepted=self.accepts))
                case Recall():
                    self._inbox.append(Recalled({}))
                case Resolve():
                    self.resolves.append(action)
                case Terminate() | Kill():
                    self.ends.append((round(self.now, 3), type(action)))
                case Stop():
                    self.ended = action.code
                case _:
                    pass

    def answer(self) -> None:
        """Answer what was asked."""
        for asked in self.resolves:
            self._inbox.append(Resolved(asked.resolve, dict.fromkeys(asked.lookups, "10.0.0.1")))
        self.resolves.clear()
        self.until(self.now)

    def _deliver(self, action: Deliver):
        self.deliveries.append((round(self.now, 3), [group.name for group in action.groups]))
        if len(action.groups) < self.accepts_only:
            yield from (
                Report(one.resource.name, "failed", CheckError("no")) for it in action.groups for one in it.candidates
            )
            return
        for group in action.groups:
            for one in group.candidates:
                name = one.resource.name
                if not self.checks:
                    yield Report(name, "failed", CheckError("the check exited with 1"))
                    continue
                changed = self.targets.get(name) != one.content
                self.targets[name] = one.content
                if changed:
                    self.commits.append((self.now, name))
                yield Report(name, "changed" if changed else "unchanged", known=DeliveredState(one.content, None))


ASKS = "asks"
"""A template that asks for an address."""


def resource(name: str, src: str = "t", **more) -> Resource:
    return Resource(name, "", src, f"/out/{name}", prefixes=("/app",), **more)


# --- settling and rates ----------------------------------------------------------------------------------------------


def storm(room: Room, seconds: float, every: float = 0.05) -> None:
    end = room.now + seconds
    number = 0
    while room.now < end:
        number += 1
        room.put(a=str(number) + "x")
        room.until(room.now + every)


# --- what a line says of a change ------------------------------------------------------------------------------------


class Slow(Room):
    """Its deliveries take until ``deliver``."""

    def _take(self, actions) -> None:
        self.held = [*getattr(self, "held", ()), *(one for one in actions if isinstance(one, Deliver))]
        super()._take(one for one in actions if not isinstance(one, Deliver))

    def deliver(self) -> None:
        held, self.held = self.held, []
        self._inbox.extend(Delivered(one.batch, tuple(self._deliver(one))) for one in held)
        self.until(self.now + 1)

    def changed_lines(self) -> list[tuple[object, ...]]:
        said = self.told("resource.changed")
        return [tuple(one.fields[name] for name in ("trigger", "revision", "keys")) for one in said]


@pytest.mark.parametrize("more", [{}, {"reload_cmd": CommandReload("lb")}])
def test_a_line_names_the_revision_and_the_keys_of_its_content_not_of_what_came_meanwhile(more):
    room = Slow(resource("a", **more))
    room.until(1)
    room.put(a="2")
    room.deliver()
    assert room.changed_lines() == [("start", 1, 1)]
    room.put(b="1", c="1")
    room.deliver()
    room.deliver()
    assert room.changed_lines() == [("start", 1, 1), ("start", 2, 1), ("change", 3, 2)]


def test_keys_whose_delivery_failed_are_counted_by_the_one_that_succeeds():
    room = Slow(resource("a"))
    room.until(1)
    room.deliver()
    room.put(a="2")
    room.until(2)
    room.put(b="1")
    room.checks = False
    room.deliver()
    room.checks = True
    room.until(60)
    room.deliver()
    assert room.changed_lines() == [("start", 1, 1), ("change", 3, 2)]


def test_a_line_of_a_resource_that_is_gone_meanwhile_names_the_revision_of_its_content():
    room = Slow(resource("a", reload_cmd=CommandReload("lb")), resource("b"))
    room.until(1)
    room.deliver()
    room.put(a="2")
    room.until(2)
    room.put(a="3")
    room.edit(resource("b"))
    room.deliver()
    (line,) = [one for one in room.told("resource.changed") if one.fields["trigger"] == "removed"]
    assert line.fields["revision"] == 2


# --- noop ------------------------------------------------------------------------------------------------------------


def test_checks_that_noop_cannot_run_are_one_line():
    room = Room(*(resource(name, check_cmd="nginx -t", check_mode="swap") for name in "abcdef"), noop=True)
    room._deliver = lambda action: [
        Report(one.resource.name, "would change", unchecked="nginx -t")
        for group in action.groups
        for one in group.candidates
    ]
    room.until(1)
    (said,) = room.told("check.skipped")
    assert said.fields["command"] == "nginx -t"
    assert said.fields["reason"] == "not checked: it needs the file in its place"
    assert "a, b, c" in said.fields["resource"]


# --- the end ---------------------------------------------------------------------------------------------------------


def hanging(**config) -> Room:
    """Return a daemon whose reload hangs, at the tenth second."""
    room = Room(resource("a", reload_cmd=CommandReload("lb")), **config)
    room.hangs = {"lb"}
    room.until(10)
    assert room.runs
    return room


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT, signal.SIGWINCH])
def test_a_daemon_that_has_nothing_in_hand_stops_with_0_also_with_reloads_owed(number):
    room = Room(resource("a", reload_cmd=CommandReload("lb")))
    room.refuses = {"lb"}
    room.until(1)
    room.signal(number)
    assert (room.ended, room.ends) == (0, [])
    assert room.told("reload.owed")


@pytest.mark.parametrize(
    ("number", "codes"), [(signal.SIGTERM, (143, 143)), (signal.SIGINT, (130, 130)), (signal.SIGUSR1, (143, 138))]
)
@pytest.mark.parametrize(("timeout", "asked"), [(8.0, 6.0), (2.0, 1.0), (0.0, 0.0)])
def test_commands_are_asked_to_end_before_the_stop_timeout_is_over_and_killed_then(number, codes, timeout, asked):
    for onetime, code in zip((False, True), codes, strict=True):
        room = hanging(onetime=onetime, stop_timeout=timeout)
        room.signal(number)
        room.until(20)
        terminated = [(10 + asked, Terminate)] if timeout else []
        assert room.ends == [*terminated, (10 + timeout, Kill)]
        assert len(room.told("stop.late")) == len(terminated)
        assert room.ended == code


def test_a_stop_at_the_very_start_waits_for_the_repairs_and_begins_nothing():
    room = Room(resource("a", reload_cmd=CommandReload("lb")))
    room.recovered = Recovered((Owed("lb", "lb", 1.0, None, ("a",), ("/out/a",), (1,)),))
    room._take(room.agent.start())
    room._inbox.appendleft(Signalled(signal.SIGTERM))
    room.until(1)
    assert (room.ended, room.runs, room.commits) == (0, [], [])
    assert [action for action in room.done if isinstance(action, Load | Reload | Stop)] == [Stop(0)]
    assert room.steps == 2


def test_each_further_signal_ends_a_wait():
    room = hanging(stop_timeout=60.0)
    room.signal(signal.SIGTERM)
    room.until(11)
    room.signal(signal.SIGHUP)
    assert room.ends == []
    room.signal(signal.SIGTERM)
    assert room.ends == [(11.0, Terminate)]
    room.until(12)
    room.signal(signal.SIGTERM)
    assert room.ends == [(11.0, Terminate), (12.0, Kill)]
    room.signal(signal.SIGTERM)
    room.until(20)
    assert (room.ends, room.ended) == ([(11.0, Terminate), (12.0, Kill)], 143)


def test_a_second_signal_kills_after_two_seconds_and_makes_a_failure_of_the_end():
    room = hanging(stop_timeout=60.0)
    room.signal(signal.SIGINT, signal.SIGTERM)
    room.until(20)
    assert room.told("stop.late") == []
    assert (room.ends, room.ended) == ([(10.0, Terminate), (12.0, Kill)], 130)


def test_a_reload_that_ends_in_time_after_a_signal_makes_the_end_a_good_one():
    room = hanging()
    room.signal(signal.SIGTERM)
    room.until(12)
    room._inbox.append(Reloaded("lb", None, 2.0))
    room.until(13)
    assert (room.ended, room.ends, room.told("reload.owed")) == (0, [], [])


@pytest.mark.parametrize("policy", ["retry", "rollback", "keep"])
def test_a_reload_that_was_cut_short_is_owed_and_nothing_is_put_back(policy):
    room = Room(resource("a", reload_cmd=CommandReload("lb"), on_reload_failure=policy))
    room.hangs = {"lb"}
    room.until(10)
    room.signal(signal.SIGTERM, signal.SIGTERM)
    room._inbox.append(Reloaded("lb", ReloadError("cut short"), 1.0))
    room.until(11)
    assert room.ended == 143
    assert [say.fields["resource"] for say in room.told("reload.owed")] == ["a"]
    assert not [action for action in room.done if isinstance(action, Restore | ClearPending)]


def test_a_one_shot_that_had_nothing_to_do_says_so_in_its_one_line():
    resources = tuple(resource(name) for name in "abc")
    first = Room(*resources, onetime=True)
    first.until(10)
    assert (first.ended, first.told("onetime.done")) == (0, [])
    again = Room(*resources, onetime=True)
    again.targets = first.targets
    again.until(10)
    (said,) = [say for say in again.said if say.level != "debug"]
    assert (again.ended, said.event, said.last) == (0, "onetime.done", True)
    assert list(said.fields.items())[:3] == [("resources", 3), ("changed", 0), ("unchanged", 3)]
    assert said.fields["took"] >= 0


@pytest.mark.parametrize("wrong", ["checks", "keys", "errors"])
def test_a_one_shot_in_which_something_failed_does_not_say_that_all_is_done(wrong):
    room = Room(resource("a"), onetime=True)
    room.checks = wrong != "checks"
    room.errors = {"b": UsageError("bad")} if wrong == "errors" else {}
    if wrong == "keys":
        room.resources = (resource("a", on_missing="error"),)
        room.keys = {}
    room.until(100)
    assert room.ended
    assert room.told("onetime.done") == []


def test_a_daemon_without_resources_says_each_minute_what_it_waits_for():
    room = Room(confdir="/confdir")
    room.until(310)
    assert [say.fields["did"] for say in room.told("resources.missing")] == ["waits for /confdir/conf.d/*.toml"] * 6
    room.edit(resource("a"))
    room.until(400)
    assert len(room.told("resources.missing")) == 6
    room.edit()
    room.until(640)
    assert 4 <= len(room.told("resources.missing")) - 6 <= 5


def test_the_first_render_waits_for_nothing():
    room = Room(resource("a", settle=5.0, splay=60.0, min_reload_interval=60.0, reload_cmd=CommandReload("r")))
    room.until(0.0)
    assert room.times("a") == [0.0]


def test_a_change_after_quiet_is_delivered_at_once_and_its_followers_when_it_is_quiet_again():
    room = Room(resource("a", settle=0.5, max_wait=60.0))
    room.until(10.0)
    storm(room, 1.0)
    room.until(20.0)
    assert room.times("a") == [0.0, 10.0, pytest.approx(11.45, abs=0.06)]


def test_no_settling_delivers_each_change_and_long_settling_waits_for_quiet():
    room = Room(resource("each", settle=0.0), resource("calm", settle=5.0, max_wait=2.0))
    room.until(10.0)
    storm(room, 1.0)
    room.until(30.0)
    assert len(room.times("each")) == 1 + 20
    assert room.times("calm") == [0.0, 10.0, pytest.approx(15.05, abs=0.06)]
    assert room.targets["each"] == room.targets["calm"]


def test_a_burst_without_end_is_delivered_every_max_wait():
    room = Room(resource("a", settle=0.5, max_wait=2.0))
    room.until(10.0)
    storm(room, 9.0)
    room.until(30.0)
    gaps = [later - earlier for earlier, later in zip(room.times("a")[1:], room.times("a")[2:], strict=False)]
    assert all(1.9 <= gap <= 2.2 for gap in gaps[1:-1])
    assert room.targets["a"] == str(sorted(room.agent.resources.states["a"].view.gets("/*/*"))).encode()


def test_reloads_keep_their_interval_are_deferred_and_never_dropped_and_share_it_by_command():
    both = {"reload_cmd": CommandReload("r"), "settle": 0.0}
    room = Room(
        resource("a", min_reload_interval=10.0, **both),
        resource("b", **both),
        resource("c", reload_cmd=CommandReload("s")),
    )
    room.until(1.0)
    storm(room, 24.0, every=0.5)
    room.until(60.0)
    runs = [moment for moment, key in room.runs if key == "r"]
    assert runs == [0.0, 10.0, 20.0, 30.0]
    assert len([key for _, key in room.runs if key == "s"]) > 4, "another command has its own"
    room.put(a="last")
    room.until(100.0)
    assert [moment for moment, key in room.runs if key == "r"][4:] == [60.0], "after a pause at once"
    assert len(room.told("resource.changed")) >= 6


def test_an_interval_holds_for_a_command_that_fails_too():
    room = Room(resource("a", reload_cmd=CommandReload("r"), min_reload_interval=10.0))
    room.refuses.add("r")
    room.until(35.0)
    gaps = [later - earlier for (earlier, _), (later, _) in zip(room.runs, room.runs[1:], strict=False)]
    assert gaps
    assert min(gaps) >= 10.0


def test_a_splay_delays_the_reload_not_the_file_and_differs_from_host_to_host():
    moments = set()
    for seed in range(20):
        room = Room(resource("a", reload_cmd=CommandReload("r"), splay=30.0), seed=seed)
        room.until(31.0)
        assert room.times("a") == [0.0]
        ((moment, _),) = room.runs
        assert 0.0 <= moment <= 30.0
        moments.add(moment)
    assert len(moments) == 20
    assert max(moments) - min(moments) > 15


def test_a_reload_that_fails_twice_is_run_three_times_and_then_no_more():
    room = Room(resource("a", reload_cmd=CommandReload("r")))
    room.refuses.add("r")
    while len(room.runs) < 2:
        room.until(room.now + 0.1)
    room.refuses.clear()
    room.until(1000.0)
    assert len(room.runs) == 3


def test_sighup_runs_a_failed_reload_at_once():
    room = Room(resource("a", reload_cmd=CommandReload("r")))
    room.refuses = {"r"}
    room.until(3000.0)
    room.refuses.clear()
    runs = len(room.runs)
    room.signal(signal.SIGHUP)
    assert len(room.runs) == runs + 1


def test_an_earlier_confpy_s_failures_put_off_the_reload_of_the_next():
    room = Room(resource("b"))
    room.recovered = Recovered(
        (Owed("r", "r", 60.0, None, ("a",), ("/out/a",)),), runs={"r": LastRun(1e9 - 1.0, failures=10)}
    )
    room.until(25.0)
    assert room.runs == []
    assert room.told("reload.waiting")[0].fields["attempt"] == 10
    room.until(301.0)
    assert len(room.runs) == 1


def test_what_a_reload_refuses_before_the_resources_are_loaded_is_not_delivered_again():
    room = Room(resource("a", reload_cmd=CommandReload("r"), on_reload_failure="rollback"))
    room.recovered = Recovered((Owed("r", "r", 60.0, None, ("a",), ("/out/a",), (1,), "rollback"),))
    room.refuses = {"r"}
    before = Room(resource("a"))
    before.until(1.0)
    refused = (sha256(before.targets["a"]).hexdigest(), "/out/a", None)
    room.restored = Restored("r", (Report("a", "changed", record=2),), (), {"a": refused})
    room.loads = False
    room.until(1.0)
    assert Restore("r") in room.done
    room._inbox.append(Loaded(room.resources))
    room.until(100.0)
    assert room.targets == {}
    assert "rejected this content" in str(room.told("resource.failed")[0].fields["error"])


def test_a_file_that_is_in_place_is_logged_though_its_reload_fails():
    room = Room(resource("a", reload_cmd=CommandReload("r")), resource("b"))
    room.refuses = {"r"}
    room.until(1.0)
    (committed,) = room.told("target.committed")
    assert committed.level == "info"
    assert committed.fields == {"resource": "a", "target": "/out/a", "trigger": "start", "revision": 1, "keys": 1}
    assert [say.fields["resource"] for say in room.told("resource.changed")] == ["b"], "nothing to wait for"
    room.refuses = set()
    room.until(10.0)
    assert [say.fields["resource"] for say in room.told("resource.changed")] == ["b", "a"]
    assert len(room.told("target.committed")) == 1


def test_another_content_that_a_check_refuses_for_the_same_reason_is_logged():
    room = Room(resource("a"))
    room.checks = False
    room.until(1.0)
    before = len(room.told("resource.failed"))
    assert room.told("resource.failed")[0].fields["attempt"] == 1
    room.put(a="2")
    room.until(1.2)
    assert len(room.told("resource.failed")) == before + 1


def test_a_resource_that_fails_for_hours_is_logged_once_an_hour():
    room = Room(resource("a"))
    room.checks = False
    room.until(4 * 3600.0)
    told = [(say.fields["attempt"], say.fields["error"]) for say in room.told("resource.failed")]
    assert 4 + 3 <= len(told) <= 4 + 4, told


def test_a_debt_from_before_is_paid_once_before_anything_is_delivered():
    room = Room(resource("a"))
    room.recovered = Recovered((Owed("r", "r", 1.0, None, ("a",), ("/out/a",), (1,)),))
    room.until(1000.0)
    assert [key for _, key in room.runs] == ["r"]
    assert room.told("reload.recovered")
    kinds = [type(action) for action in room.done]
    assert kinds.index(Recover) < kinds.index(Load) < kinds.index(Deliver)


# --- doubts ----------------------------------------------------------------------------------------------------------

THREE = {"/app/a": "1", "/app/b": "2", "/app/c": "3"}


def gone(room: Room) -> None:
    room.put(**dict.fromkeys(("a", "b", "c")))


def test_a_group_in_doubt_looks_for_acceptance_now_and_then_and_does_not_spin():
    room = Room(
        resource("a", group="g", on_shrink="keep"), resource("b", group="g", on_shrink="render"), keys=dict(THREE)
    )
    room.until(1.0)
    before, steps = dict(room.targets), room.steps
    gone(room)
    room.until(61.0)
    assert room.targets == before
    assert room.steps - steps < 200
    room.accepts = True
    room.until(64.0)
    assert set(room.targets.values()) == {b"[]"}
    assert [action.resource for action in room.done if isinstance(action, Release)] == ["a"]


def test_one_key_after_another_may_go_and_be_believed():
    room = Room(resource("a", settle=0.0), keys=dict(THREE))
    for moment, name in enumerate("abc", 1):
        room.until(moment)
        room.put(**{name: None})
    assert room.targets["a"] == b"[]"
    assert not room.told("keys.suspect")


def test_keys_in_doubt_are_read_again_after_the_grace_and_then_believed():
    room = Room(resource("a", shrink_grace=30.0), keys=dict(THREE))
    room.until(1.0)
    gone(room)
    room.until(30.9)
    assert room.targets["a"] != b"[]"
    room.until(35.0)
    assert room.targets["a"] == b"[]"
    reads = [action for action in room.done if isinstance(action, Read)]
    assert len(reads) == 2


def test_keys_that_come_back_in_the_second_read_change_nothing():
    room = Room(resource("a", shrink_grace=5.0), keys=dict(THREE))
    room.until(1.0)
    gone(room)
    room.until(2.0)
    room.keys = dict(THREE)
    room.until(10.0)
    assert room.times("a") == [0.0]
    assert room.told("keys.returned")


def test_kept_keys_are_not_overwritten_by_doubted_ones():
    room = Room(resource("a", on_shrink="keep"), keys=dict(THREE), saves_keys=True)
    room.until(20.0)
    gone(room)
    room.until(60.0)
    saved = [action for action in room.done if isinstance(action, Save)]
    assert saved
    assert all(action.keys == THREE for action in saved)


def test_what_the_ledger_counted_is_what_a_start_is_measured_by():
    room = Room(resource("a", shrink_grace=5.0), keys={})
    room.recovered = Recovered(counts={"a": (Counted(1),)}, identity="s", revision=1)
    room.until(1.0)
    assert room.told("keys.suspect")[0].fields["reason"] == "its only key is gone"
    room.until(10.0)
    assert room.told("keys.confirmed")


def test_another_store_than_that_of_the_ledger_waits_for_a_person():
    room = Room(resource("a", shrink_grace=5.0), keys={})
    room.recovered = Recovered(counts={"a": (Counted(3),)}, identity="another", revision=1)
    room.until(100.0)
    (doubted,) = room.told("keys.suspect")
    assert doubted.fields["did"] == "keeps the target"
    assert "another one" in str(doubted.fields["reason"])
    room.accepts = True
    room.until(110.0)
    assert room.targets["a"] == b"[]"


# --- edits -----------------------------------------------------------------------------------------------------------


def test_an_edit_touches_only_what_it_changes():
    room = Room(resource("a"), resource("b"))
    room.until(1.0)
    room.edit(resource("a"), resource("b", mode=0o600), resource("c"))
    delivered = [
        one.resource.name
        for action in room.done
        if isinstance(action, Deliver)
        for group in action.groups
        for one in group.candidates
    ]
    assert delivered == ["a", "b", "b", "c"]
    assert [(say.event, say.fields["resource"]) for say in room.said if say.event.startswith("resource.")][2:] == [
        ("resource.edited", "b"),
        ("resource.added", "c"),
        ("resource.unchanged", "b"),
        ("resource.changed", "c"),
    ]


def test_a_broken_edit_runs_on_as_it_was_and_is_told():
    room = Room(resource("a"))
    room.until(1.0)
    room.edit(errors={"a": UsageError("it is broken")})
    assert room.told("resource.invalid")
    assert not room.told("resource.removed")
    room.put(a="2")
    assert b"2" in room.targets["a"]


def test_a_removed_resource_is_not_delivered_any_more():
    room = Room(resource("a"), resource("b"))
    room.until(1.0)
    room.edit(resource("a"))
    before = room.targets["b"]
    room.put(a="2")
    assert room.targets["b"] == before
    assert room.told("resource.removed")[0].fields["resource"] == "b"


def test_one_that_is_held_back_and_removed_is_let_go():
    room = Room(resource("a", on_shrink="keep"), resource("b", on_shrink="render"), keys=dict(THREE))
    room.until(1.0)
    gone(room)
    room.edit(resource("b", on_shrink="render"))
    assert Release("a") in room.done


def test_a_doubt_is_noted_once_and_then_only_looked_after():
    room = Room(resource("a", on_shrink="keep"), keys=dict(THREE))
    room.until(1.0)
    gone(room)
    room.until(21.0)
    reasons = [action.reason for action in room.done if isinstance(action, Hold)]
    assert reasons[0] == "all of its 3 keys are gone"
    assert len(reasons) > 5
    assert set(reasons[1:]) == {""}


def test_a_note_about_conf_d_is_said_when_it_is_new_and_not_at_each_reading():
    room = Room(Resource("r", "", "", "/srv/r", "/", ("/app",)))
    room.notes = (LogEvent("debug", "file.skipped", {"file": "/a"}),)
    room.until(5.0)
    room.notes += (LogEvent("debug", "file.skipped", {"file": "/b"}),)
    room.edit(*room.resources)
    room.edit(*room.resources)
    assert [one.fields["file"] for one in room.said if one.event == "file.skipped"] == ["/a", "/b"]


# --- looks at the targets --------------------------------------------------------------------------------------------


class Looking(Room):
    """A room in which a look finds what ``drifts`` says, once it is let through."""

    def __init__(self, *resources: Resource, **more) -> None:
        super().__init__(*resources, **more)
        self.drifts: dict[str, str] = {}
        self.looks = 0

    def _take(self, actions) -> None:
        super()._take(actions)
        for action in actions:
            if isinstance(action, Inspect):
                self.looks += 1
                seen = {resource.name for resource, _ in action.targets}
                found = {name: what for name, what in self.drifts.items() if name in seen}
                self._inbox.append(Inspected(found, {}))

    def hang_up(self) -> None:
        self._inbox.append(Signalled(signal.SIGHUP))
        self.until(self.now + 1)


def test_a_hangup_reads_the_configuration_before_it_looks_at_targets():
    room = Looking(resource("a"), resource("b"))
    room.until(1.0)
    before = room.looks
    room.resources = (resource("a"),)
    room.drifts = {"b": "missing"}
    room.hang_up()
    assert room.looks == before + 1
    assert room.told("resource.removed")
    assert not room.told("target.drifted")
    assert room.times("b") == [0.0]


@pytest.mark.parametrize("edit", [Edited(), Signalled(signal.SIGHUP)], ids=["edit", "hangup"])
def test_a_look_that_was_under_way_when_the_configuration_was_edited_is_made_again(edit):
    room = Room(resource("a"), resource("b"))
    room.until(1.0)
    room._step(Signalled(signal.SIGHUP))
    room.until(1.0)
    assert [action for action in room.done if isinstance(action, Inspect)]
    room.resources = (resource("a"),)
    room._inbox.extend((edit, Inspected({"b": "missing"}, {})))
    room.until(3.0)
    assert not room.told("target.drifted")
    assert len([action for action in room.done if isinstance(action, Inspect)]) == 2
    room._step(Inspected({"a": "content"}, {}))
    assert room.told("target.drifted")[0].fields["resource"] == "a"


def test_a_target_that_some_program_rewrites_each_time_is_restored_less_and_less_often_and_told_of_once():
    room = Looking(resource("a"), keys={"/app/a": "1"}, period=60.0)
    room.until(1.0)
    room.drifts = {"a": "content"}
    room.until(6 * 3600.0)
    restored = room.told("target.drifted")
    assert 10 <= len(restored) <= 16, "360 looks found it so"
    (told,) = room.told("target.contested")
    assert told.fields["restored"] == 3
    assert 'on_drift = "warn"' in told.fields["hint"]
    assert "write_once = true" in told.fields["hint"]
    room.put(a="2")
    assert b"2" in room.targets["a"], "new keys wait for nothing"
    room.hang_up()
    assert len(room.told("target.drifted")) == len(restored) + 1, "nor does a person"
    room.drifts = {}
    room.until(room.now + 200.0)
    room.drifts = {"a": "content"}
    room.until(room.now + 300.0)
    assert len(room.told("target.contested")) == 2, "it was right in between"


# --- checks over files in their places -------------------------------------------------------------------------------

TRIAL = {"check_cmd": "check all", "check_mode": "swap"}


@pytest.mark.parametrize("onetime", [True, False])
def test_those_that_share_a_check_in_place_wait_for_the_first_try_of_another_and_go_together(onetime):
    room = Room(resource("a", **TRIAL), resource("b", ASKS, **TRIAL), resource("c"), onetime=onetime)
    room.until(1.0)
    assert room.deliveries == [(0.0, ["/out/c"])], "it shares none: it waits for nobody"
    room.answer()
    assert room.deliveries[1:] == [(1.0, ["/out/a", "/out/b"])]
    room.put(a="2")
    assert room.ended == 0 if onetime else len(room.deliveries[2:]) == 2


def test_they_do_not_wait_for_ever():
    room = Room(resource("a", **TRIAL), resource("b", ASKS, **TRIAL))
    room.until(60.0)
    assert room.deliveries == [(FIRST_TRIES, ["/out/a"])]
    room.answer()
    assert room.deliveries[1:] == [(60.0, ["/out/b"])]


def test_they_do_not_wait_for_one_that_looks_at_its_candidate_or_at_another_file():
    other = {"check_cmd": "check other", "check_mode": "swap"}
    room = Room(resource("a", **TRIAL), resource("b", ASKS, check_cmd="check all"), resource("c", ASKS, **other))
    room.until(1.0)
    assert room.deliveries == [(0.0, ["/out/a"])]


def test_one_that_cannot_be_made_is_not_waited_for():
    room = Room(resource("a", **TRIAL), resource("b", ASKS, on_missing="error", **TRIAL))
    room.resources = (room.resources[0], replace(room.resources[1], prefixes=("/none",)))
    room.until(1.0)
    assert room.deliveries == [(0.0, ["/out/a"])]


def test_those_that_were_refused_one_after_the_other_are_tried_again_together():
    room = Room(resource("a", settle=0.0, **TRIAL), resource("b", settle=2.0, **TRIAL))
    room.until(10.0)
    del room.deliveries[:]
    room.accepts_only = 2
    room.put(a="2")
    room.put(a="3")
    room.until(100.0)
    apart = [found for found in room.deliveries if len(found[1]) == 1]
    assert {name for _, names in apart for name in names} == {"/out/a", "/out/b"}
    assert room.deliveries[-1] == (pytest.approx(14, abs=3), ["/out/a", "/out/b"])
    assert room.targets["a"] == room.targets["b"]
    assert b"value='3'" in room.targets["a"]


# --- what a person edited, and what one-shot says of a doubt --------------------------------------------------------


def other(name: str, *prefixes: str, **more) -> Resource:
    return Resource(name, f"/etc/confd/conf.d/{name}.toml", "t", f"/out/{name}", prefixes=prefixes, **more)


class Covering(Room):
    """A room whose store answers by prefix."""

    def _take(self, actions) -> None:
        super()._take(actions)
        for at, message in enumerate(self._inbox):
            if isinstance(message, Listed) and message.snapshot is not None:
                listings = {
                    prefix: Listing(self.revision, {key: it for key, it in self.keys.items() if covers(prefix, key)})
                    for prefix in message.snapshot.listings
                }
                self._inbox[at] = Listed(message.read, Snapshot(listings, self.identity))


def test_an_edit_that_finds_fewer_keys_is_delivered_at_once():
    room = Covering(other("a", "/app"), keys={**THREE, "/less/a": "1"})
    room.until(1.0)
    room.edit(other("a", "/less", max_shrink=0.0))
    assert not room.told("keys.suspect")
    assert b"/less/a" in room.targets["a"]


def test_an_edit_that_finds_no_key_at_all_names_its_line_and_waits_for_a_person_or_the_next_edit():
    room = Covering(other("a", "/app"), keys=dict(THREE))
    room.until(1.0)
    before = room.targets["a"]
    room.lines = {"a": {"keys": 4}}
    room.edit(other("a", "/apq"))
    (doubted,) = room.told("keys.suspect")
    assert doubted.fields["reason"] == (
        "there is no key at or below /apq, and the target was made from 3 keys at or below /app"
    )
    assert (doubted.fields["file"], doubted.fields["line"]) == ("/etc/confd/conf.d/a.toml", 4)
    assert doubted.fields["did"] == "keeps the target"
    room.until(3600.0)
    assert room.targets["a"] == before, "no read confirms a mistake"
    room.edit(other("a", "/app/a"))
    assert b"/app/a" in room.targets["a"]
    room.edit(other("a", "/apr"))
    room.accepts = True
    room.until(room.now + 3.0)
    assert room.targets["a"] == b"[]"


def test_an_edit_that_says_render_is_believed_and_the_line_says_why():
    room = Covering(other("a", "/app"), keys=dict(THREE))
    room.until(1.0)
    room.edit(other("a", "/apq"))
    room.edit(other("a", "/apq", on_shrink="render"))
    assert room.targets["a"] == b"[]"
    assert room.told("keys.confirmed")[0].fields["reason"] == 'on_shrink = "render"'
    assert not room.told("keys.returned")


def test_an_edit_made_while_confpy_was_down_is_one_too():
    room = Covering(other("a", "/apq"), keys=dict(THREE), backend="etcdv3")
    room.recovered = Recovered(counts={"a": (Counted(3, "etcdv3", ("/app",), "/"),)}, identity="s", revision=1)
    room.until(100.0)
    assert room.told("keys.suspect")[0].fields["key"] == "keys"
    assert "a" not in room.targets


def test_the_setting_that_takes_the_place_of_a_prefix_is_named_instead_of_a_line():
    room = Covering(other("a", "/apq/a", strip="/apq"), keys=dict(THREE), backend="etcdv3", prefix="/apq")
    room.recovered = Recovered(counts={"a": (Counted(1, "etcdv3", ("/app/a",), "/app"),)}, identity="s", revision=1)
    room.until(1.0)
    (doubted,) = room.told("keys.suspect")
    assert "is -prefix right (/apq)?" in str(doubted.fields["hint"])
    assert "line" not in doubted.fields


@pytest.mark.parametrize("keys", [{"/b": "1"}, {}], ids=["a key of another resource", "no key"])
def test_another_kind_of_store_is_believed_where_it_has_a_key_for_some_resource(keys):
    room = Covering(other("a", "/a"), other("b", "/b"), keys=keys, backend="etcdv3", onetime=True, timeout=60.0)
    counted = Counted(2, "etcd", ("/a",), "/")
    room.recovered = Recovered(counts={"a": (counted,), "b": (counted,)}, identity="", revision=0)
    room.until(1.0)
    assert (room.ended, bool(room.told("keys.suspect"))) == ((0, False) if keys else (3, True))
    if not keys:
        failed = room.told("resource.failed")[0]
        assert "2 keys of etcd" in str(failed.fields["error"])
        assert "-backend" in str(failed.fields["hint"])


@pytest.mark.parametrize(
    ("timeout", "did"),
    [
        (10.0, "keeps the target, and fails: shrink_grace is 30 s, -timeout 10 s"),
        (60.0, "keeps the target; reads again in 30 s"),
    ],
)
def test_one_shot_says_what_it_will_really_do_about_a_doubt(timeout, did):
    room = Room(resource("a", shrink_grace=30.0), keys={}, onetime=True, timeout=timeout)
    room.recovered = Recovered(counts={"a": (Counted(3),)}, identity="s", revision=1)
    room.until(1.0)
    assert room.told("keys.suspect")[0].fields["did"] == did
    assert room.ended == (3 if timeout < 30.0 else None)


def test_too_few_keys_at_the_first_delivery_keep_no_target_that_was_never_made():
    room = Room(resource("a", min_keys=5))
    room.until(1.0)
    assert room.told("keys.suspect")[0].fields["did"] == "delivers nothing; reads again in 30 s"


# --- keys that are kept ---------------------------------------------------------------------------------------------


def saves(room: Room) -> list[Save]:
    return [action for action in room.done if isinstance(action, Save)]


def test_keys_that_vanish_right_after_their_delivery_do_not_take_its_place_in_what_is_kept():
    room = Room(resource("a", on_shrink="keep"), keys=dict(THREE), saves_keys=True)
    room.until(0.0)
    room.put(a="2")
    gone(room)  # the next keeping is ten seconds after the first
    room.put(a="3")
    gone(room)
    room.until(60.0)
    assert saves(room)
    assert all(len(save.keys) == 3 for save in saves(room) if not save.carried)
    assert not any(save.keys for save in saves(room) if save.carried)


def test_a_delivery_and_a_change_that_arrive_together_keep_what_was_delivered():
    room = Room(resource("a", on_shrink="keep"), keys=dict(THREE), saves_keys=True)

    room.until(0.0)
    (save,) = saves(room)
    assert save.keys == THREE
    room.until(20.0)
    deletions = Changes("/app", 9, dict.fromkeys(THREE, (9, None)))
    room.agent.resources.states["a"].in_flight = True
    candidate = Candidate(resource("a", on_shrink="keep"), b"", 3)
    room.agent._batches.add(Batch((Group("/out/a", (candidate,)),), frozenset(), swaps=False))
    (sent,) = room.agent._batches.send()
    messages = (
        Delivered(sent.batch, (Report("a", "changed", known=DeliveredState(b"", None)),)),
        Changed(room._stream, deletions),
    )
    room._take(room.agent.step(messages, room.now, 1e9))
    assert [one.keys for one in saves(room)] == [THREE, THREE]


def test_what_is_kept_of_a_resource_that_fails_stays():
    room = Room(
        resource("a"), Resource("b", "", "t", "/out/b", prefixes=("/app/b",)), keys=dict(THREE), saves_keys=True
    )
    room.until(20.0)
    room.agent.resources.states["b"].error = UsageError("it fails")
    room.put(a="2")
    room.until(40.0)
    assert saves(room)[-1].carried == ("/app/b",)


# --- questions that bring nothing ------------------------------------------------------------------------------------


def test_a_suspicion_is_said_once_and_again_after_an_edit_of_the_resource():
    room = Room(resource("a"))
    room.suspicions = (Suspicion('gets "h/*"', "write /h/*"),)
    room.until(1.0)
    for number in range(5):
        room.put(a=str(number))
        room.until(room.now + 5)
    (said,) = room.told("template.suspicious")
    assert said.level == "warning"
    assert said.fields == {"resource": "a", "template": "t", "asked": 'gets "h/*"', "hint": "write /h/*"}
    room.edit(resource("a", settle=0.2))
    room.until(room.now + 5)
    assert len(room.told("template.suspicious")) == 2


def test_suspicions_without_end_are_said_a_bounded_number_of_times():
    room = Room(resource("a"))
    room.until(1.0)
    for number in range(MOST_SUSPICIONS + 5):
        room.suspicions = (Suspicion(f'gets "{number}/*"', "write"),)
        room.put(a=str(number))
        room.until(room.now + 5)
    assert len(room.told("template.suspicious")) == MOST_SUSPICIONS


def test_lists_that_lie_all_outside_of_the_keys_fail_a_resource_that_has_keys():
    room = Room(resource("a"), onetime=True)
    room.suspicions, room.outside = (Suspicion('gets "/x/*"', "outside"),), ('gets "/x/*"',)
    room.until(1.0)
    assert (room.ended, room.targets) == (4, {})
    (failed,) = room.told("resource.failed")
    assert 'gets "/x/*"' in str(failed.fields["error"])


def test_without_keys_it_is_a_warning():
    room = Room(Resource("a", "", "t", "/out/a"), onetime=True)
    room.suspicions, room.outside = (Suspicion('gets "/x/*"', "outside"),), ('gets "/x/*"',)
    room.until(1.0)
    assert (room.ended, len(room.told("template.suspicious"))) == (0, 1)


def test_a_lone_key_whose_deletion_is_named_while_its_delivery_is_under_way_is_believed_gone():
    room = Room(resource("a", settle=0.0))
    held: list[Message] = []
    deliver = room._take

    def late(actions) -> None:
        deliver(actions)
        held.extend(one for one in room._inbox if isinstance(one, Delivered))
        room._inbox = deque(one for one in room._inbox if not isinstance(one, Delivered))

    room._take = late  # type: ignore[method-assign]
    room.until(0.0)
    room.put(a=None)
    assert held
    room._take = deliver  # type: ignore[method-assign]
    room._inbox.extend(held)
    room.until(2.0)
    assert not room.told("keys.suspect")
    assert room.targets["a"] == b"[]"
