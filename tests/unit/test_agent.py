"""The agent, one message at a time: settling, rates, suspect keys and edits on a clock that tests turn."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from hashlib import sha256
from random import Random

import pytest

from confpy.agent.agent import Agent
from confpy.agent.batches import Batch
from confpy.agent.config import AgentConfig
from confpy.agent.first_tries import LONGEST as FIRST_TRIES
from confpy.agent.rendering import MOST_SUSPICIONS
from confpy.candidates import Candidate, DeliveredState, Group, Report
from confpy.config.resource import Loaded, Resource
from confpy.daemon.jobs import Job, Jobs, Ports
from confpy.delivery.context import Rules
from confpy.errors import CheckError, ReloadError, UsageError
from confpy.events import LogEvent
from confpy.frozen import NOTHING, replace
from confpy.keys.prefixes import covers
from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.ledger.ledger import Ledger
from confpy.messages import (
    Changed,
    ClearPending,
    Counted,
    Deliver,
    Delivered,
    Edited,
    FindTargets,
    FoundTargets,
    Hold,
    Inspect,
    Inspected,
    Kill,
    Load,
    Message,
    Opened,
    Read,
    Recalled,
    Recover,
    Recovered,
    Release,
    Reload,
    Reloaded,
    Restore,
    Restored,
    Save,
    Signalled,
    Stop,
    Sweep,
    Terminate,
    Watch,
    Woken,
)
from confpy.mirror.mirror import Mirror
from confpy.reload.actions import CommandReload
from confpy.reload.spec import LastRun, PendingReload, ReloadSpec
from confpy.templates.lookup import Lookup
from confpy.templates.results import Needs, Rendered, Suspicion
from tests.sim.wakeups import forgotten


class Answers(Jobs):
    """The daemon's jobs, with work that a test decides; a job that returns None comes to no end."""

    def __init__(self, harness: Harness, ports: Ports) -> None:
        super().__init__(ports, Rules())
        self._harness = harness

    def deliver(self, action: Deliver) -> Delivered:
        return Delivered(action.batch, tuple(self._harness.deliver(action)))

    def reload(self, action: Reload) -> Reloaded | None:
        harness = self._harness
        harness.runs.append((round(harness.now, 3), action.key))
        if action.key in harness.hangs:
            return None
        return Reloaded(action.key, ReloadError("it failed") if action.key in harness.fails else None, 0.0)

    def recover(self) -> Recovered:
        return self._harness.recovered

    def restore(self, _: Restore) -> Restored:
        return self._harness.restored

    def inspect(self, action: Inspect) -> Inspected | None:
        return self._harness.inspect(action)

    def find_targets(self, action: FindTargets) -> FoundTargets:
        there = self._harness.there | {f"/out/{name}" for name in self._harness.targets}
        return FoundTargets(tuple(path for path in action.targets if path not in there))

    def sweep(self, _: Sweep) -> None:
        return None


class NoRecords:
    """A state folder with nothing in it."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def hold(self, _resource: str, _reason: str) -> bool:
        return self._harness.accepts

    def recall(self) -> Recalled:
        return Recalled({})

    def release(self, _resource: str) -> None:
        """Actions are looked at instead."""

    save = save_files = lambda *_: None


class Harness:
    """An agent over a store that answers at once; ``targets`` are what it delivered, ``runs`` when it reloaded what.

    It is all ports of the daemon's jobs itself.
    """

    def __init__(self, *resources: Resource, keys: dict[str, str] | None = None, seed: int = 1, **config) -> None:
        self.now = 0.0
        self.keys = {"/app/a": "1"} if keys is None else keys
        self.revision, self.identity = 1, "s"
        self.resources, self.errors = resources, {}
        self.notes: tuple[LogEvent, ...] = ()
        self.lines: dict[str, dict[str, int]] = {}
        self.recovered = Recovered()
        self.targets: dict[str, bytes] = {}
        self.there: set[str] = set()
        """Targets that are there from before."""
        self.commits: list[tuple[float, str]] = []
        self.runs: list[tuple[float, str]] = []
        self.fails: set[str] = set()
        """Reloads that fail."""
        self.hangs: set[str] = set()
        """Reloads that come to no end."""
        self.ends: list[tuple[float, str]] = []
        """When commands were to be ended, and how."""
        self.loads = True
        """Whether a reading of conf.d comes to its end."""
        self.restored = Restored("", ())
        self.checks = True
        """Whether checks succeed."""
        self.accepts_only = 0
        """How many groups a delivery must have for its check to pass."""
        self.deliveries: list[tuple[float, list[str]]] = []
        self.waiting: list[Job] = []
        """Jobs that are done when the test says so."""
        self.waits = ("resolve",)
        """Jobs that wait, by the beginnings of their names."""
        self.logged: list[LogEvent] = []
        self.done: list[object] = []
        """All actions."""
        self.steps = 0
        self.accepts = False
        self.ended: int | None = None
        self.suspicions: tuple[Suspicion, ...] = ()
        self.outside: tuple[str, ...] = ()
        random = Random(seed)
        names = config.pop("names_deletions", True)
        mirror = Mirror(random, follows=not config.get("onetime"), period=600.0, names_deletions=names)
        self.agent = Agent(AgentConfig(**config), mirror, self, random, {})
        self._inbox: deque[Message] = deque()
        self._stream = 0
        self._wake_at = float("inf")
        ports = Ports(
            disk=None,
            shell=self,
            clock=self,
            store=self,
            streams=self,
            ledger=Ledger(),
            cached_keys=NoRecords(self),
            holds=NoRecords(self),
            resolver=self,
            load=self._load,
            follow=lambda _: None,
            post=self._inbox.append,
            start=self._start,
            log=self.logged.append,
            guard=nullcontext(),
        )
        self._jobs = Answers(self, ports)

    # --- what tests do -----------------------------------------------------------------------------------------------

    def until(self, moment: float) -> None:
        """Let time pass up to this moment."""
        if not self.done:
            self.take(self.agent.start())
        while self.ended is None:
            if self._inbox:
                self.step(self._inbox.popleft())
            elif self._wake_at <= moment:
                self.now = max(self.now, self._wake_at)
                self.step(Woken())
            else:
                break
        self.now = moment

    def post(self, *messages: Message) -> None:
        self._inbox.extend(messages)

    def put(self, **values: str | None) -> None:
        """Change keys below /app, as a stream reports it."""
        self.revision += 1
        changed = {f"/app/{name}": (self.revision, value) for name, value in values.items()}
        for key, (_, value) in changed.items():
            self.keys.pop(key, None)
            if value is not None:
                self.keys[key] = value
        self.post(Changed(self._stream, Changes("/app", self.revision, changed)))
        self.until(self.now)

    def edit(self, *resources: Resource, errors: Mapping[str, UsageError] = NOTHING) -> None:
        self.resources, self.errors = resources, errors
        self.post(Edited())
        self.until(self.now + 1)

    def signal(self, *numbers: int) -> None:
        self.post(*map(Signalled, numbers))
        self.until(self.now)

    def finish_jobs(self) -> None:
        """Do the jobs that wait."""
        jobs, self.waiting = self.waiting, []
        for job in jobs:
            self._run(job)
        self.until(self.now)

    def events(self, name: str) -> list[LogEvent]:
        return [one for one in self.logged if one.event == name]

    def times(self, name: str) -> list[float]:
        return [round(moment, 3) for moment, one in self.commits if one == name]

    def step(self, *messages: Message) -> None:
        self.steps += 1
        assert self.steps < 5000, "it spins"
        actions = self.agent.step(messages, self.now, self.time())
        assert forgotten(self.agent) == []
        self.take(actions)

    def take(self, actions) -> None:
        self.done += actions
        self._wake_at = self._jobs.carry_out(actions)
        self.ended = next((action.code for action in actions if isinstance(action, Stop)), None)

    # --- ports -------------------------------------------------------------------------------------------------------

    def _start(self, name: str, job: Job, _failed: object) -> None:
        if name.startswith(self.waits):
            self.waiting.append(job)
        elif name != "poll":  # no test asks for its answer
            self._run(job)

    def _run(self, job: Job) -> None:
        if (message := job()) is not None:
            self.post(message)

    def render(self, resource, view, world):
        asked = frozenset((Lookup("ip", resource.name),) if resource.src == ASKS else ())
        if not asked <= world.facts.keys():
            raise Needs(asked)
        return Rendered(str(sorted(view.gets("/*/*"))).encode(), asked, False, (), self.suspicions, self.outside)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now

    def read(self, prefixes, _counted):
        return Snapshot({prefix: self.listing(prefix) for prefix in prefixes}, self.identity)

    def listing(self, _prefix: str) -> Listing:
        return Listing(self.revision, dict(self.keys))

    def open(self, watch: Watch) -> None:
        self._stream = watch.stream
        self.post(Opened(watch.stream))

    def close(self, _stream: int) -> None:
        """Nothing comes from it in any case."""

    def resolve_all(self, lookups: Sequence[Lookup]) -> Iterable[Mapping[Lookup, object]]:
        yield dict.fromkeys(lookups, "10.0.0.1")

    def terminate_all(self) -> None:
        self.ends.append((round(self.now, 3), Terminate))

    def kill_all(self) -> None:
        self.ends.append((round(self.now, 3), Kill))

    def _load(self) -> Loaded | None:
        return Loaded(self.resources, self.errors, notes=self.notes, lines=self.lines) if self.loads else None

    def inspect(self, _action: Inspect) -> Inspected | None:
        return None

    def deliver(self, action: Deliver):
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


def storm(harness: Harness, seconds: float, every: float = 0.05) -> None:
    end = harness.now + seconds
    number = 0
    while harness.now < end:
        number += 1
        harness.put(a=str(number) + "x")
        harness.until(harness.now + every)


# --- what a line says of a change ------------------------------------------------------------------------------------


class Slow(Harness):
    """Its deliveries wait for ``finish_jobs``."""

    def __init__(self, *resources: Resource, **more) -> None:
        super().__init__(*resources, **more)
        self.waits = ("deliver",)

    def finish_jobs(self) -> None:
        super().finish_jobs()
        self.until(self.now + 1)

    def changed_lines(self) -> list[tuple[object, ...]]:
        event = self.events("resource.changed")
        return [tuple(one.fields[name] for name in ("trigger", "revision", "keys")) for one in event]


@pytest.mark.parametrize("more", [{}, {"reload_cmd": CommandReload("lb")}])
def test_a_line_names_the_revision_and_the_keys_of_its_content_not_of_what_came_meanwhile(more):
    harness = Slow(resource("a", **more))
    harness.until(1)
    harness.put(a="2")
    harness.finish_jobs()
    assert harness.changed_lines() == [("start", 1, 1)]
    harness.put(b="1", c="1")
    harness.finish_jobs()
    harness.finish_jobs()
    assert harness.changed_lines() == [("start", 1, 1), ("start", 2, 1), ("change", 3, 2)]


def test_keys_whose_delivery_failed_are_counted_by_the_one_that_succeeds():
    harness = Slow(resource("a"))
    harness.until(1)
    harness.finish_jobs()
    harness.put(a="2")
    harness.until(2)
    harness.put(b="1")
    harness.checks = False
    harness.finish_jobs()
    harness.checks = True
    harness.until(60)
    harness.finish_jobs()
    assert harness.changed_lines() == [("start", 1, 1), ("change", 3, 2)]


def test_a_line_of_a_resource_that_is_gone_meanwhile_names_the_revision_of_its_content():
    harness = Slow(resource("a", reload_cmd=CommandReload("lb")), resource("b"))
    harness.until(1)
    harness.finish_jobs()
    harness.put(a="2")
    harness.until(2)
    harness.put(a="3")
    harness.edit(resource("b"))
    harness.finish_jobs()
    (line,) = [one for one in harness.events("resource.changed") if one.fields["trigger"] == "removed"]
    assert line.fields["revision"] == 2


# --- noop ------------------------------------------------------------------------------------------------------------


def test_checks_that_noop_cannot_run_are_one_line():
    harness = Harness(*(resource(name, check_cmd="nginx -t", check_mode="swap") for name in "abcdef"), noop=True)
    harness.deliver = lambda action: [
        Report(one.resource.name, "would change", unchecked="nginx -t")
        for group in action.groups
        for one in group.candidates
    ]
    harness.until(1)
    (event,) = harness.events("check.skipped")
    assert event.fields["command"] == "nginx -t"
    assert event.fields["reason"] == "not checked: it needs the file in its place"
    assert "a, b, c" in event.fields["resource"]


# --- the end ---------------------------------------------------------------------------------------------------------


def hanging(**config) -> Harness:
    """Return a daemon whose reload hangs, at the tenth second."""
    harness = Harness(resource("a", reload_cmd=CommandReload("lb")), **config)
    harness.hangs = {"lb"}
    harness.until(10)
    assert harness.runs
    return harness


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT, signal.SIGWINCH])
def test_a_daemon_that_has_nothing_in_hand_stops_with_0_also_with_reloads_owed(number):
    harness = Harness(resource("a", reload_cmd=CommandReload("lb")))
    harness.fails = {"lb"}
    harness.until(1)
    harness.signal(number)
    assert (harness.ended, harness.ends) == (0, [])
    assert harness.events("reload.owed")


@pytest.mark.parametrize(
    ("number", "codes"), [(signal.SIGTERM, (143, 143)), (signal.SIGINT, (130, 130)), (signal.SIGUSR1, (143, 138))]
)
@pytest.mark.parametrize(("timeout", "asked"), [(8.0, 6.0), (2.0, 1.0), (0.0, 0.0)])
def test_commands_are_asked_to_end_before_the_stop_timeout_is_over_and_killed_then(number, codes, timeout, asked):
    for onetime, code in zip((False, True), codes, strict=True):
        harness = hanging(onetime=onetime, stop_timeout=timeout)
        harness.signal(number)
        harness.until(20)
        terminated = [(10 + asked, Terminate)] if timeout else []
        assert harness.ends == [*terminated, (10 + timeout, Kill)]
        assert len(harness.events("stop.late")) == len(terminated)
        assert harness.ended == code


def test_a_stop_at_the_very_start_waits_for_recovery_and_begins_nothing():
    harness = Harness(resource("a", reload_cmd=CommandReload("lb")))
    harness.recovered = Recovered(
        (PendingReload(ReloadSpec("lb", CommandReload("lb"), 1.0), ("a",), ("/out/a",), (1,)),)
    )
    harness.take(harness.agent.start())
    harness._inbox.appendleft(Signalled(signal.SIGTERM))
    harness.until(1)
    assert (harness.ended, harness.runs, harness.commits) == (0, [], [])
    assert [action for action in harness.done if isinstance(action, Load | Reload | Stop)] == [Stop(0)]
    assert harness.steps == 2


def test_each_further_signal_ends_a_wait():
    harness = hanging(stop_timeout=60.0)
    harness.signal(signal.SIGTERM)
    harness.until(11)
    harness.signal(signal.SIGHUP)
    assert harness.ends == []
    harness.signal(signal.SIGTERM)
    assert harness.ends == [(11.0, Terminate)]
    harness.until(12)
    harness.signal(signal.SIGTERM)
    assert harness.ends == [(11.0, Terminate), (12.0, Kill)]
    harness.signal(signal.SIGTERM)
    harness.until(20)
    assert (harness.ends, harness.ended) == ([(11.0, Terminate), (12.0, Kill)], 143)


def test_a_second_signal_kills_after_two_seconds_and_makes_a_failure_of_the_end():
    harness = hanging(stop_timeout=60.0)
    harness.signal(signal.SIGINT, signal.SIGTERM)
    harness.until(20)
    assert harness.events("stop.late") == []
    assert (harness.ends, harness.ended) == ([(10.0, Terminate), (12.0, Kill)], 130)


def test_a_reload_that_ends_in_time_after_a_signal_makes_the_end_a_good_one():
    harness = hanging()
    harness.signal(signal.SIGTERM)
    harness.until(12)
    harness.post(Reloaded("lb", None, 2.0))
    harness.until(13)
    assert (harness.ended, harness.ends, harness.events("reload.owed")) == (0, [], [])


def test_a_reload_that_serves_a_sensitive_resource_shows_no_output():
    harness = Harness(
        resource("a", reload_cmd=CommandReload("lb"), sensitive=True), resource("b", reload_cmd=CommandReload("lb"))
    )
    harness.hangs = {"lb"}
    harness.until(10)
    harness.post(Reloaded("lb", ReloadError("it failed", output="password hunter2"), 1.0))
    harness.until(11)
    (failed,) = harness.events("reload.failed")
    assert failed.fields["output"] == "not shown: the resource is sensitive"


def test_an_owed_reload_that_ends_before_the_resources_are_read_shows_no_output():
    harness = Harness(resource("a", sensitive=True))
    harness.recovered = Recovered((PendingReload(ReloadSpec("r", CommandReload("r"), 1.0), ("a",), ("/out/a",), (1,)),))
    harness.hangs, harness.waits = {"r"}, ("load",)
    harness.until(1)
    harness.post(Reloaded("r", ReloadError("it failed", output="password hunter2"), 1.0))
    harness.until(2)
    (failed,) = harness.events("reload.failed")
    assert failed.fields["output"] == "not shown: whether the resource is sensitive is not known"


@pytest.mark.parametrize("policy", ["retry", "rollback", "keep"])
def test_a_reload_that_was_cut_short_is_owed_and_nothing_is_put_back(policy):
    harness = Harness(resource("a", reload_cmd=CommandReload("lb"), on_reload_failure=policy))
    harness.hangs = {"lb"}
    harness.until(10)
    harness.signal(signal.SIGTERM, signal.SIGTERM)
    harness.post(Reloaded("lb", ReloadError("cut short"), 1.0))
    harness.until(11)
    assert harness.ended == 143
    assert [one.fields["resource"] for one in harness.events("reload.owed")] == ["a"]
    assert not [action for action in harness.done if isinstance(action, Restore | ClearPending)]


def test_a_one_shot_that_had_nothing_to_do_logs_that_in_its_one_line():
    resources = tuple(resource(name) for name in "abc")
    first = Harness(*resources, onetime=True)
    first.until(10)
    assert (first.ended, first.events("onetime.done")) == (0, [])
    again = Harness(*resources, onetime=True)
    again.targets = first.targets
    again.until(10)
    (event,) = [one for one in again.logged if one.level != "debug"]
    assert (again.ended, event.event) == (0, "onetime.done")
    assert list(event.fields.items())[:3] == [("resources", 3), ("changed", 0), ("unchanged", 3)]
    assert event.fields["took"] >= 0


@pytest.mark.parametrize("wrong", ["checks", "keys", "errors"])
def test_a_one_shot_in_which_something_failed_does_not_say_that_all_is_done(wrong):
    harness = Harness(resource("a"), onetime=True)
    harness.checks = wrong != "checks"
    harness.errors = {"b": UsageError("bad")} if wrong == "errors" else {}
    if wrong == "keys":
        harness.resources = (resource("a", on_missing="error"),)
        harness.keys = {}
    harness.until(100)
    assert harness.ended
    assert harness.events("onetime.done") == []


def test_a_daemon_without_resources_logs_each_minute_what_it_waits_for():
    harness = Harness(confdir="/confdir")
    harness.until(310)
    assert [one.fields["did"] for one in harness.events("resources.missing")] == [
        "waits for /confdir/conf.d/*.toml"
    ] * 6
    harness.edit(resource("a"))
    harness.until(400)
    assert len(harness.events("resources.missing")) == 6
    harness.edit()
    harness.until(640)
    assert 4 <= len(harness.events("resources.missing")) - 6 <= 5


def test_the_first_render_waits_for_nothing():
    harness = Harness(resource("a", settle=5.0, splay=60.0, min_reload_interval=60.0, reload_cmd=CommandReload("r")))
    harness.until(0.0)
    assert harness.times("a") == [0.0]


def test_a_change_after_quiet_is_delivered_at_once_and_its_followers_when_it_is_quiet_again():
    harness = Harness(resource("a", settle=0.5, max_wait=60.0))
    harness.until(10.0)
    storm(harness, 1.0)
    harness.until(20.0)
    assert harness.times("a") == [0.0, 10.0, pytest.approx(11.45, abs=0.06)]


def test_no_settling_delivers_each_change_and_long_settling_waits_for_quiet():
    harness = Harness(resource("each", settle=0.0), resource("calm", settle=5.0, max_wait=2.0))
    harness.until(10.0)
    storm(harness, 1.0)
    harness.until(30.0)
    assert len(harness.times("each")) == 1 + 20
    assert harness.times("calm") == [0.0, 10.0, pytest.approx(15.05, abs=0.06)]
    assert harness.targets["each"] == harness.targets["calm"]


def test_a_burst_without_end_is_delivered_every_max_wait():
    harness = Harness(resource("a", settle=0.5, max_wait=2.0))
    harness.until(10.0)
    storm(harness, 9.0)
    harness.until(30.0)
    gaps = [later - earlier for earlier, later in zip(harness.times("a")[1:], harness.times("a")[2:], strict=False)]
    assert all(1.9 <= gap <= 2.2 for gap in gaps[1:-1])
    assert harness.targets["a"] == str(sorted(harness.agent.resources.states["a"].view.gets("/*/*"))).encode()


def test_reloads_keep_their_interval_are_deferred_and_never_dropped_and_share_it_by_command():
    both = {"reload_cmd": CommandReload("r"), "settle": 0.0}
    harness = Harness(
        resource("a", min_reload_interval=10.0, **both),
        resource("b", **both),
        resource("c", reload_cmd=CommandReload("s")),
    )
    harness.until(1.0)
    storm(harness, 24.0, every=0.5)
    harness.until(60.0)
    runs = [moment for moment, key in harness.runs if key == "r"]
    assert runs == [0.0, 10.0, 20.0, 30.0]
    assert len([key for _, key in harness.runs if key == "s"]) > 4, "another command has its own"
    harness.put(a="last")
    harness.until(100.0)
    assert [moment for moment, key in harness.runs if key == "r"][4:] == [60.0], "after a pause at once"
    assert len(harness.events("resource.changed")) >= 6


def test_an_interval_holds_for_a_command_that_fails_too():
    harness = Harness(resource("a", reload_cmd=CommandReload("r"), min_reload_interval=10.0))
    harness.fails.add("r")
    harness.until(35.0)
    gaps = [later - earlier for (earlier, _), (later, _) in zip(harness.runs, harness.runs[1:], strict=False)]
    assert gaps
    assert min(gaps) >= 10.0


def test_a_splay_delays_the_reload_not_the_file_and_differs_from_host_to_host():
    moments = set()
    for seed in range(20):
        harness = Harness(resource("a", reload_cmd=CommandReload("r"), splay=30.0), seed=seed)
        harness.until(31.0)
        assert harness.times("a") == [0.0]
        ((moment, _),) = harness.runs
        assert 0.0 <= moment <= 30.0
        moments.add(moment)
    assert len(moments) == 20
    assert max(moments) - min(moments) > 15


def test_a_reload_that_fails_twice_is_run_three_times_and_then_no_more():
    harness = Harness(resource("a", reload_cmd=CommandReload("r")))
    harness.fails.add("r")
    while len(harness.runs) < 2:
        harness.until(harness.now + 0.1)
    harness.fails.clear()
    harness.until(1000.0)
    assert len(harness.runs) == 3


def test_sighup_runs_a_failed_reload_at_once():
    harness = Harness(resource("a", reload_cmd=CommandReload("r")))
    harness.fails = {"r"}
    harness.until(3000.0)
    harness.fails.clear()
    runs = len(harness.runs)
    harness.signal(signal.SIGHUP)
    assert len(harness.runs) == runs + 1


def test_an_earlier_confpy_s_failures_put_off_the_reload_of_the_next():
    harness = Harness(resource("b"))
    harness.recovered = Recovered(
        (PendingReload(ReloadSpec("r", CommandReload("r"), 60.0), ("a",), ("/out/a",)),),
        runs={"r": LastRun(1e9 - 1.0, failures=10)},
    )
    harness.until(25.0)
    assert harness.runs == []
    assert harness.events("reload.waiting")[0].fields["attempt"] == 10
    harness.until(301.0)
    assert len(harness.runs) == 1


def test_what_a_reload_rejects_before_the_resources_are_loaded_is_not_delivered_again():
    harness = Harness(resource("a", reload_cmd=CommandReload("r"), on_reload_failure="rollback"))
    harness.recovered = Recovered(
        (PendingReload(ReloadSpec("r", CommandReload("r"), 60.0, on_failure="rollback"), ("a",), ("/out/a",), (1,)),)
    )
    harness.fails = {"r"}
    before = Harness(resource("a"))
    before.until(1.0)
    refused = (sha256(before.targets["a"]).hexdigest(), "/out/a", None)
    harness.restored = Restored("r", (Report("a", "changed", record=2),), (), {"a": refused})
    harness.loads = False
    harness.until(1.0)
    assert Restore("r") in harness.done
    harness.post(Loaded(harness.resources))
    harness.until(100.0)
    assert harness.targets == {}
    assert "rejected this content" in str(harness.events("resource.failed")[0].fields["error"])


def test_a_file_that_is_in_place_is_logged_though_its_reload_fails():
    harness = Harness(resource("a", reload_cmd=CommandReload("r")), resource("b"))
    harness.fails = {"r"}
    harness.until(1.0)
    (committed,) = harness.events("target.committed")
    assert committed.level == "info"
    assert dict(committed.fields) == {
        "resource": "a", "target": "/out/a", "trigger": "start", "revision": 1, "keys": 1, "changed": "/app/a",
        "new": harness.targets["a"].hex()[:16],
    }  # fmt: skip
    assert [one.fields["resource"] for one in harness.events("resource.changed")] == ["b"], "nothing to wait for"
    harness.fails = set()
    harness.until(10.0)
    assert [one.fields["resource"] for one in harness.events("resource.changed")] == ["b", "a"]
    assert len(harness.events("target.committed")) == 1


def test_another_content_that_a_check_rejects_for_the_same_reason_is_logged():
    harness = Harness(resource("a"))
    harness.checks = False
    harness.until(1.0)
    before = len(harness.events("resource.failed"))
    assert harness.events("resource.failed")[0].fields["attempt"] == 1
    harness.put(a="2")
    harness.until(1.2)
    assert len(harness.events("resource.failed")) == before + 1


def test_a_resource_that_fails_for_hours_is_logged_once_an_hour():
    harness = Harness(resource("a"))
    harness.checks = False
    harness.until(4 * 3600.0)
    logged = [(one.fields["attempt"], one.fields["error"]) for one in harness.events("resource.failed")]
    assert 4 + 3 <= len(logged) <= 4 + 4, logged


def test_a_reload_owed_by_an_earlier_process_runs_once_before_anything_is_delivered():
    harness = Harness(resource("a"))
    harness.recovered = Recovered((PendingReload(ReloadSpec("r", CommandReload("r"), 1.0), ("a",), ("/out/a",), (1,)),))
    harness.until(1000.0)
    assert [key for _, key in harness.runs] == ["r"]
    assert harness.events("reload.recovered")
    kinds = [type(action) for action in harness.done]
    assert kinds.index(Recover) < kinds.index(Load) < kinds.index(Deliver)


# --- suspect keys ----------------------------------------------------------------------------------------------------

THREE = {"/app/a": "1", "/app/b": "2", "/app/c": "3"}


def gone(harness: Harness) -> None:
    harness.put(**dict.fromkeys(("a", "b", "c")))


def test_a_group_with_suspect_keys_looks_for_acceptance_at_intervals_and_does_not_spin():
    harness = Harness(
        resource("a", group="g", on_shrink="keep"), resource("b", group="g", on_shrink="render"), keys=dict(THREE)
    )
    harness.until(1.0)
    before, steps = dict(harness.targets), harness.steps
    gone(harness)
    harness.until(61.0)
    assert harness.targets == before
    assert harness.steps - steps < 200
    harness.accepts = True
    harness.until(64.0)
    assert set(harness.targets.values()) == {b"[]"}
    assert [action.resource for action in harness.done if isinstance(action, Release)] == ["a"]


def test_keys_deleted_one_after_another_are_not_suspect():
    harness = Harness(resource("a", settle=0.0), keys=dict(THREE))
    for moment, name in enumerate("abc", 1):
        harness.until(moment)
        harness.put(**{name: None})
    assert harness.targets["a"] == b"[]"
    assert not harness.events("keys.suspect")


def test_suspect_keys_are_read_again_after_the_grace_and_then_confirmed():
    harness = Harness(resource("a", shrink_grace=30.0), keys=dict(THREE))
    harness.until(1.0)
    gone(harness)
    harness.until(30.9)
    assert harness.targets["a"] != b"[]"
    harness.until(35.0)
    assert harness.targets["a"] == b"[]"
    reads = [action for action in harness.done if isinstance(action, Read)]
    assert len(reads) == 2


def test_keys_that_come_back_in_the_second_read_change_nothing():
    harness = Harness(resource("a", shrink_grace=5.0), keys=dict(THREE))
    harness.until(1.0)
    gone(harness)
    harness.until(2.0)
    harness.keys = dict(THREE)
    harness.until(10.0)
    assert harness.times("a") == [0.0]
    assert harness.events("keys.returned")


def test_saved_keys_are_not_overwritten_by_suspect_ones():
    harness = Harness(resource("a", on_shrink="keep"), keys=dict(THREE), saves_keys=True)
    harness.until(20.0)
    gone(harness)
    harness.until(60.0)
    saved = [action for action in harness.done if isinstance(action, Save)]
    assert saved
    assert all(action.keys == THREE for action in saved)


def test_a_start_compares_with_the_count_in_the_ledger():
    harness = Harness(resource("a", shrink_grace=5.0), keys={})
    harness.recovered = Recovered(counts={"a": (Counted(1),)}, identity="s", revision=1)
    harness.until(1.0)
    assert harness.events("keys.suspect")[0].fields["reason"] == "its only key is gone"
    harness.until(10.0)
    assert harness.events("keys.confirmed")


def test_another_store_than_that_of_the_ledger_waits_for_acceptance():
    harness = Harness(resource("a", shrink_grace=5.0), keys={})
    harness.recovered = Recovered(counts={"a": (Counted(3),)}, identity="another", revision=1)
    harness.until(100.0)
    (suspect,) = harness.events("keys.suspect")
    assert suspect.fields["did"] == "keeps the target"
    assert "another one" in str(suspect.fields["reason"])
    harness.accepts = True
    harness.until(110.0)
    assert harness.targets["a"] == b"[]"


# --- edits -----------------------------------------------------------------------------------------------------------


def test_an_edit_touches_only_what_it_changes():
    harness = Harness(resource("a"), resource("b"))
    harness.until(1.0)
    harness.edit(resource("a"), resource("b", mode=0o600), resource("c"))
    delivered = [
        one.resource.name
        for action in harness.done
        if isinstance(action, Deliver)
        for group in action.groups
        for one in group.candidates
    ]
    assert delivered == ["a", "b", "b", "c"]
    assert [(one.event, one.fields["resource"]) for one in harness.logged if one.event.startswith("resource.")][2:] == [
        ("resource.edited", "b"),
        ("resource.added", "c"),
        ("resource.unchanged", "b"),
        ("resource.changed", "c"),
    ]


def test_a_resource_whose_edit_is_broken_goes_on_as_it_was_and_that_is_logged():
    harness = Harness(resource("a"))
    harness.until(1.0)
    harness.edit(errors={"a": UsageError("it is broken")})
    assert harness.events("resource.invalid")
    assert not harness.events("resource.removed")
    harness.put(a="2")
    assert b"2" in harness.targets["a"]


def test_a_removed_resource_is_not_delivered_any_more():
    harness = Harness(resource("a"), resource("b"))
    harness.until(1.0)
    harness.edit(resource("a"))
    before = harness.targets["b"]
    harness.put(a="2")
    assert harness.targets["b"] == before
    assert harness.events("resource.removed")[0].fields["resource"] == "b"


def test_a_resource_that_is_held_back_and_removed_is_released():
    harness = Harness(resource("a", on_shrink="keep"), resource("b", on_shrink="render"), keys=dict(THREE))
    harness.until(1.0)
    gone(harness)
    harness.edit(resource("b", on_shrink="render"))
    assert Release("a") in harness.done


def test_a_hold_is_recorded_once_and_then_only_checked_for_acceptance():
    harness = Harness(resource("a", on_shrink="keep"), keys=dict(THREE))
    harness.until(1.0)
    gone(harness)
    harness.until(21.0)
    reasons = [action.reason for action in harness.done if isinstance(action, Hold)]
    assert reasons[0] == "all of its 3 keys are gone"
    assert len(reasons) > 5
    assert set(reasons[1:]) == {""}


def test_a_note_about_conf_d_is_logged_when_it_is_new_and_not_at_each_reading():
    harness = Harness(Resource("r", "", "", "/srv/r", "/", ("/app",)))
    harness.notes = (LogEvent("debug", "file.skipped", {"file": "/a"}),)
    harness.until(5.0)
    harness.notes += (LogEvent("debug", "file.skipped", {"file": "/b"}),)
    harness.edit(*harness.resources)
    harness.edit(*harness.resources)
    assert [one.fields["file"] for one in harness.logged if one.event == "file.skipped"] == ["/a", "/b"]


# --- looks at the targets --------------------------------------------------------------------------------------------


class Inspecting(Harness):
    """Its inspections find what ``drifts`` says."""

    def __init__(self, *resources: Resource, **more) -> None:
        super().__init__(*resources, **more)
        self.drifts: dict[str, str] = {}
        self.inspections = 0

    def inspect(self, action: Inspect) -> Inspected:
        self.inspections += 1
        seen = {resource.name for resource, _ in action.targets}
        return Inspected({name: what for name, what in self.drifts.items() if name in seen}, {})

    def hang_up(self) -> None:
        self.post(Signalled(signal.SIGHUP))
        self.until(self.now + 1)


def test_a_hangup_reads_the_configuration_before_it_inspects_targets():
    harness = Inspecting(resource("a"), resource("b"))
    harness.until(1.0)
    before = harness.inspections
    harness.resources = (resource("a"),)
    harness.drifts = {"b": "missing"}
    harness.hang_up()
    assert harness.inspections == before + 1
    assert harness.events("resource.removed")
    assert not harness.events("target.drifted")
    assert harness.times("b") == [0.0]


@pytest.mark.parametrize("edit", [Edited(), Signalled(signal.SIGHUP)], ids=["edit", "hangup"])
def test_an_inspection_that_was_under_way_when_the_configuration_was_edited_is_repeated(edit):
    harness = Harness(resource("a"), resource("b"))
    harness.until(1.0)
    harness.step(Signalled(signal.SIGHUP))
    harness.until(1.0)
    assert [action for action in harness.done if isinstance(action, Inspect)]
    harness.resources = (resource("a"),)
    harness.post(edit, Inspected({"b": "missing"}, {}))
    harness.until(3.0)
    assert not harness.events("target.drifted")
    assert len([action for action in harness.done if isinstance(action, Inspect)]) == 2
    harness.step(Inspected({"a": "content"}, {}))
    assert harness.events("target.drifted")[0].fields["resource"] == "a"


def test_a_target_that_some_program_rewrites_each_time_is_restored_at_growing_intervals_and_logged_once():
    harness = Inspecting(resource("a"), keys={"/app/a": "1"}, period=60.0)
    harness.until(1.0)
    harness.drifts = {"a": "content"}
    harness.until(6 * 3600.0)
    restored = harness.events("target.drifted")
    assert 10 <= len(restored) <= 16, "360 looks found it so"
    (contested,) = harness.events("target.contested")
    assert contested.fields["restored"] == 3
    assert 'on_drift = "warn"' in contested.fields["hint"]
    assert "write_once = true" in contested.fields["hint"]
    harness.put(a="2")
    assert b"2" in harness.targets["a"], "new keys wait for nothing"
    harness.hang_up()
    assert len(harness.events("target.drifted")) == len(restored) + 1, "nor does a person"
    harness.drifts = {}
    harness.until(harness.now + 200.0)
    harness.drifts = {"a": "content"}
    harness.until(harness.now + 300.0)
    assert len(harness.events("target.contested")) == 2, "it was right in between"


# --- checks over files in their places -------------------------------------------------------------------------------

TRIAL = {"check_cmd": "check all", "check_mode": "swap"}


@pytest.mark.parametrize("onetime", [True, False])
def test_those_that_share_a_check_in_place_wait_for_the_first_try_of_another_and_go_together(onetime):
    harness = Harness(resource("a", **TRIAL), resource("b", ASKS, **TRIAL), resource("c"), onetime=onetime)
    harness.until(1.0)
    assert harness.deliveries == [(0.0, ["/out/c"])], "it shares none: it waits for nobody"
    harness.finish_jobs()
    assert harness.deliveries[1:] == [(1.0, ["/out/a", "/out/b"])]
    harness.put(a="2")
    assert harness.ended == 0 if onetime else len(harness.deliveries[2:]) == 2


def test_those_that_share_a_check_in_place_do_not_wait_for_ever():
    harness = Harness(resource("a", **TRIAL), resource("b", ASKS, **TRIAL))
    harness.until(60.0)
    assert harness.deliveries == [(FIRST_TRIES, ["/out/a"])]
    harness.finish_jobs()
    assert harness.deliveries[1:] == [(60.0, ["/out/b"])]


def test_a_check_of_a_candidate_or_of_another_file_is_not_waited_for():
    other = {"check_cmd": "check other", "check_mode": "swap"}
    harness = Harness(resource("a", **TRIAL), resource("b", ASKS, check_cmd="check all"), resource("c", ASKS, **other))
    harness.until(1.0)
    assert harness.deliveries == [(0.0, ["/out/a"])]


def test_a_resource_that_cannot_be_rendered_is_not_waited_for():
    harness = Harness(resource("a", **TRIAL), resource("b", ASKS, on_missing="error", **TRIAL))
    harness.resources = (harness.resources[0], replace(harness.resources[1], prefixes=("/none",)))
    harness.until(1.0)
    assert harness.deliveries == [(0.0, ["/out/a"])]


def test_those_that_a_shared_check_rejected_apart_are_tried_again_together():
    harness = Harness(resource("a", settle=0.0, **TRIAL), resource("b", settle=2.0, **TRIAL))
    harness.until(10.0)
    del harness.deliveries[:]
    harness.accepts_only = 2
    harness.put(a="2")
    harness.put(a="3")
    harness.until(100.0)
    apart = [found for found in harness.deliveries if len(found[1]) == 1]
    assert {name for _, names in apart for name in names} == {"/out/a", "/out/b"}
    assert harness.deliveries[-1] == (pytest.approx(14, abs=3), ["/out/a", "/out/b"])
    assert harness.targets["a"] == harness.targets["b"]
    assert b"value='3'" in harness.targets["a"]


# --- edits that find fewer keys, and what one-shot logs about suspect keys -------------------------------------------


def other(name: str, *prefixes: str, **more) -> Resource:
    return Resource(name, f"/etc/confd/conf.d/{name}.toml", "t", f"/out/{name}", prefixes=prefixes, **more)


class Covering(Harness):
    """Its store answers by prefix."""

    def listing(self, prefix: str) -> Listing:
        return Listing(self.revision, {key: value for key, value in self.keys.items() if covers(prefix, key)})


def test_an_edit_that_finds_fewer_keys_is_delivered_at_once():
    harness = Covering(other("a", "/app"), keys={**THREE, "/less/a": "1"})
    harness.until(1.0)
    harness.edit(other("a", "/less", max_shrink=0.0))
    assert not harness.events("keys.suspect")
    assert b"/less/a" in harness.targets["a"]


def test_an_edit_that_finds_no_key_at_all_names_its_line_and_waits_for_acceptance_or_the_next_edit():
    harness = Covering(other("a", "/app"), keys=dict(THREE))
    harness.until(1.0)
    before = harness.targets["a"]
    harness.lines = {"a": {"keys": 4}}
    harness.edit(other("a", "/apq"))
    (suspect,) = harness.events("keys.suspect")
    assert suspect.fields["reason"] == (
        "there is no key at or below /apq, and the target was made from 3 keys at or below /app"
    )
    assert (suspect.fields["file"], suspect.fields["line"]) == ("/etc/confd/conf.d/a.toml", 4)
    assert suspect.fields["did"] == "keeps the target"
    harness.until(3600.0)
    assert harness.targets["a"] == before, "no read confirms a mistake"
    harness.edit(other("a", "/app/a"))
    assert b"/app/a" in harness.targets["a"]
    harness.edit(other("a", "/apr"))
    harness.accepts = True
    harness.until(harness.now + 3.0)
    assert harness.targets["a"] == b"[]"


def test_an_edit_during_the_delivery_of_the_keys_before_it_is_compared_with_these():
    harness = Covering(other("a", "/app"), keys=dict(THREE))
    harness.waits = ("deliver",)
    harness.until(1.0)
    harness.edit(other("a", "/apq"))
    harness.finish_jobs()
    harness.until(3600.0)
    (suspect,) = harness.events("keys.suspect")
    assert suspect.fields["reason"] == (
        "there is no key at or below /apq, and the target was made from 3 keys at or below /app"
    )
    assert b"/app/a" in harness.targets["a"]


def test_an_edit_to_on_shrink_render_confirms_the_keys_and_the_line_says_why():
    harness = Covering(other("a", "/app"), keys=dict(THREE))
    harness.until(1.0)
    harness.edit(other("a", "/apq"))
    harness.edit(other("a", "/apq", on_shrink="render"))
    assert harness.targets["a"] == b"[]"
    assert harness.events("keys.confirmed")[0].fields["reason"] == 'on_shrink = "render"'
    assert not harness.events("keys.returned")


def test_an_edit_made_while_confpy_was_down_is_recognised():
    harness = Covering(other("a", "/apq"), keys=dict(THREE), backend="etcdv3")
    harness.recovered = Recovered(counts={"a": (Counted(3, "etcdv3", ("/app",), "/"),)}, identity="s", revision=1)
    harness.until(100.0)
    assert harness.events("keys.suspect")[0].fields["key"] == "keys"
    assert "a" not in harness.targets


def test_the_setting_that_replaces_a_prefix_is_named_and_no_line():
    harness = Covering(other("a", "/apq/a", strip="/apq"), keys=dict(THREE), backend="etcdv3", prefix="/apq")
    harness.recovered = Recovered(counts={"a": (Counted(1, "etcdv3", ("/app/a",), "/app"),)}, identity="s", revision=1)
    harness.until(1.0)
    (suspect,) = harness.events("keys.suspect")
    assert "is -prefix right (/apq)?" in str(suspect.fields["hint"])
    assert "line" not in suspect.fields


@pytest.mark.parametrize("keys", [{"/b": "1"}, {}], ids=["a key of another resource", "no key"])
def test_another_kind_of_store_is_trusted_where_it_has_a_key_for_some_resource(keys):
    harness = Covering(other("a", "/a"), other("b", "/b"), keys=keys, backend="etcdv3", onetime=True, timeout=60.0)
    counted = Counted(2, "etcd", ("/a",), "/")
    harness.recovered = Recovered(counts={"a": (counted,), "b": (counted,)}, identity="", revision=0)
    harness.until(1.0)
    assert (harness.ended, bool(harness.events("keys.suspect"))) == ((0, False) if keys else (3, True))
    if not keys:
        failed = harness.events("resource.failed")[0]
        assert "2 keys of etcd" in str(failed.fields["error"])
        assert "-backend" in str(failed.fields["hint"])


@pytest.mark.parametrize(
    ("timeout", "did"),
    [
        (10.0, "keeps the target, and fails: shrink_grace is 30 s, -timeout 10 s"),
        (60.0, "keeps the target; reads again in 30 s"),
    ],
)
def test_one_shot_logs_what_it_will_do_about_suspect_keys(timeout, did):
    harness = Harness(resource("a", shrink_grace=30.0), keys={}, onetime=True, timeout=timeout)
    harness.recovered = Recovered(counts={"a": (Counted(3),)}, identity="s", revision=1)
    harness.until(1.0)
    assert harness.events("keys.suspect")[0].fields["did"] == did
    assert harness.ended == (3 if timeout < 30.0 else None)


def test_less_than_min_keys_at_the_first_delivery_delivers_nothing():
    harness = Harness(resource("a", min_keys=5))
    harness.until(1.0)
    assert harness.events("keys.suspect")[0].fields["did"] == "delivers nothing; reads again in 30 s"


# --- saved keys ------------------------------------------------------------------------------------------------------


def saves(harness: Harness) -> list[Save]:
    return [action for action in harness.done if isinstance(action, Save)]


def test_keys_that_vanish_right_after_their_delivery_do_not_replace_the_saved_ones():
    harness = Harness(resource("a", on_shrink="keep"), keys=dict(THREE), saves_keys=True)
    harness.until(0.0)
    harness.put(a="2")
    gone(harness)  # the next keeping is ten seconds after the first
    harness.put(a="3")
    gone(harness)
    harness.until(60.0)
    assert saves(harness)
    assert all(len(save.keys) == 3 for save in saves(harness) if not save.carried)
    assert not any(save.keys for save in saves(harness) if save.carried)


def test_a_delivery_and_a_change_that_arrive_together_save_what_was_delivered():
    harness = Harness(resource("a", on_shrink="keep"), keys=dict(THREE), saves_keys=True)

    harness.until(0.0)
    (save,) = saves(harness)
    assert save.keys == THREE
    harness.until(20.0)
    deletions = Changes("/app", 9, dict.fromkeys(THREE, (9, None)))
    harness.agent.resources.states["a"].in_flight = True
    candidate = Candidate(resource("a", on_shrink="keep"), b"", 3)
    harness.agent._batches.add(Batch((Group("/out/a", (candidate,)),), frozenset(), swaps=False))
    (sent,) = harness.agent._batches.send()
    messages = (
        Delivered(sent.batch, (Report("a", "changed", known=DeliveredState(b"", None)),)),
        Changed(harness._stream, deletions),
    )
    harness.take(harness.agent.step(messages, harness.now, 1e9))
    assert [one.keys for one in saves(harness)] == [THREE, THREE]


def test_what_is_saved_of_a_resource_that_fails_stays():
    harness = Harness(
        resource("a"), Resource("b", "", "t", "/out/b", prefixes=("/app/b",)), keys=dict(THREE), saves_keys=True
    )
    harness.until(20.0)
    harness.agent.resources.states["b"].error = UsageError("it fails")
    harness.put(a="2")
    harness.until(40.0)
    assert saves(harness)[-1].carried == ("/app/b",)


# --- questions that bring nothing ------------------------------------------------------------------------------------


def test_a_template_warning_is_logged_once_and_again_after_an_edit_of_the_resource():
    harness = Harness(resource("a"))
    harness.suspicions = (Suspicion('gets "h/*"', "write /h/*"),)
    harness.until(1.0)
    for number in range(5):
        harness.put(a=str(number))
        harness.until(harness.now + 5)
    (event,) = harness.events("template.suspicious")
    assert event.level == "warning"
    assert event.fields == {"resource": "a", "template": "t", "asked": 'gets "h/*"', "hint": "write /h/*"}
    harness.edit(resource("a", settle=0.2))
    harness.until(harness.now + 5)
    assert len(harness.events("template.suspicious")) == 2


def test_template_warnings_without_end_are_logged_a_bounded_number_of_times():
    harness = Harness(resource("a"))
    harness.until(1.0)
    for number in range(MOST_SUSPICIONS + 5):
        harness.suspicions = (Suspicion(f'gets "{number}/*"', "write"),)
        harness.put(a=str(number))
        harness.until(harness.now + 5)
    assert len(harness.events("template.suspicious")) == MOST_SUSPICIONS


def test_lists_that_lie_all_outside_of_the_keys_fail_a_resource_that_has_keys():
    harness = Harness(resource("a"), onetime=True)
    harness.suspicions, harness.outside = (Suspicion('gets "/x/*"', "outside"),), ('gets "/x/*"',)
    harness.until(1.0)
    assert (harness.ended, harness.targets) == (4, {})
    (failed,) = harness.events("resource.failed")
    assert 'gets "/x/*"' in str(failed.fields["error"])


def test_lists_that_lie_all_outside_of_the_keys_are_a_warning_where_there_are_no_keys():
    harness = Harness(Resource("a", "", "t", "/out/a"), onetime=True)
    harness.suspicions, harness.outside = (Suspicion('gets "/x/*"', "outside"),), ('gets "/x/*"',)
    harness.until(1.0)
    assert (harness.ended, len(harness.events("template.suspicious"))) == (0, 1)


def test_a_lone_key_whose_deletion_is_named_during_its_delivery_is_not_suspect():
    harness = Slow(resource("a", settle=0.0))
    harness.until(0.0)
    harness.put(a=None)
    assert harness.waiting
    harness.waits = ()
    harness.finish_jobs()
    harness.until(2.0)
    assert not harness.events("keys.suspect")
    assert harness.targets["a"] == b"[]"
