"""What a step of the agent costs: what its messages concern, however many resources there are.

Counted is how often the agent looks at a resource, its state or its file's options: it says the same on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from confpy.agent.resources import ResourceState
from confpy.config.resource import Resource
from confpy.errors import CheckError
from confpy.keys.snapshot import Changes, Listing
from confpy.messages import Changed, Resolve, Resolved, Touched, Woken
from confpy.reload.actions import CommandReload
from confpy.templates.lookup import Lookup
from tests.unit.test_agent import ASKS, Harness, Report

FEW, MANY = 100, 10_000
AT_MOST = 50
"""States and resources that a step may look at for a message that concerns one of them."""
GROWTH = 1.05
"""What one of many may cost at a start, compared with one of few."""


class Looks:
    """What was looked at: which states and resources, and how often."""

    def __init__(self) -> None:
        self.objects: set[int] = set()
        self.times = 0


@contextmanager
def counted() -> Iterator[Looks]:
    """Count each read of a field of a resource or of its state."""
    looks = Looks()
    read = object.__getattribute__

    def count(self, name):
        looks.objects.add(id(self))
        looks.times += 1
        return read(self, name)

    with pytest.MonkeyPatch.context() as patch:
        for cls in (ResourceState, Resource):
            patch.setattr(cls, "__getattribute__", count, raising=False)
        yield looks


class Many(Harness):
    """Many resources, each with a key of its own."""

    def __init__(self, *resources: Resource, **config: object) -> None:
        config.setdefault("history", True)
        super().__init__(*resources, keys={f"{one.prefixes[0]}/k": "1" for one in resources}, **config)
        self.waits = ()
        self.delivered = 0
        self.failing: set[str] = set()
        """Resources whose check fails."""

    def listing(self, prefix):
        return Listing(1, {f"{prefix}/k": "1"})

    def step(self, *messages):
        # Without the look at everything of the other tests.
        self.take(self.agent.step(messages, self.now, self.time()))

    def deliver(self, action):
        for group in action.groups:
            for one in group.candidates:
                name = one.resource.name
                self.delivered += 1
                error = CheckError("no") if name in self.failing else None
                changed = self.targets.get(name) != one.content
                self.targets[name] = one.content
                yield Report(name, "failed" if error else "changed" if changed else "unchanged", error)

    def change(self, name):
        """Change the key of one."""
        self.revision += 1
        prefix = self.agent.resources.states[name].resource.prefixes[0]
        self.post(
            Changed(self._stream, Changes(prefix, self.revision, {f"{prefix}/k": (self.revision, str(self.revision))}))
        )


def plain(number: int) -> Resource:
    return Resource(f"r{number}", "", "t", f"/out/{number}", prefixes=(f"/k{number}",))


def asking(number: int) -> Resource:
    return Resource(f"r{number}", "", ASKS, f"/out/{number}", prefixes=(f"/k{number}",))


def with_commands(number: int) -> Resource:
    """Return one with a check and a reload of its own."""
    commands = {"check_cmd": f"check {number}", "reload_cmd": CommandReload(f"reload {number}")}
    return Resource(f"r{number}", "", "t", f"/out/{number}", prefixes=(f"/k{number}",), **commands)


def with_one_command(number: int) -> Resource:
    reload = CommandReload("reload")
    return Resource(f"r{number}", "", ASKS, f"/out/{number}", prefixes=(f"/k{number}",), reload_cmd=reload)


def sharing_a_check(number: int) -> Resource:
    checked = {"check_cmd": "check", "check_mode": "swap"}
    return Resource(f"r{number}", "", ASKS, f"/out/{number}", prefixes=(f"/k{number}",), **checked)


def in_a_group(number: int) -> Resource:
    """Return one that is delivered together with all others."""
    return Resource(f"r{number}", "", ASKS, f"/out/{number}", prefixes=(f"/k{number}",), group="g")


KINDS = (plain, asking, with_commands, with_one_command, sharing_a_check)


def mixed(number: int) -> Resource:
    return KINDS[number % len(KINDS)](number)


def many(kind: Callable[[int], Resource], size: int, **config: object) -> Many:
    return Many(*map(kind, range(size)), **config)


# --- starts ----------------------------------------------------------------------------------------------------------


def cost_of_start(
    kind: Callable[[int], Resource], size: int, *, onetime: bool = False, one_by_one: bool = False
) -> float:
    """Return how often one resource is looked at until all are delivered. ``one_by_one``: as look-ups are answered."""
    harness = many(kind, size, onetime=onetime)
    harness.waits = ("resolve",) if one_by_one else ()
    with counted() as looks:
        harness.until(1.0)
        asked = [one for action in harness.done if one_by_one and isinstance(action, Resolve) for one in action.lookups]
        harness.post(*(Resolved(1, {lookup: "10.0.0.1"}) for lookup in asked))
        harness.until(30.0)
    assert len(harness.targets) == size
    assert harness.ended == (0 if onetime else None)
    return looks.times / size


@pytest.mark.parametrize("onetime", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, in_a_group])
def test_a_start_looks_at_each_of_many_resources_no_oftener_than_at_each_of_few(kind, onetime):
    few = cost_of_start(kind, 50, onetime=onetime)
    assert cost_of_start(kind, 500, onetime=onetime) <= few * GROWTH


@pytest.mark.parametrize("kind", [asking, with_one_command, sharing_a_check, in_a_group])
def test_so_it_does_where_each_look_up_is_answered_by_a_message_of_its_own(kind):
    few = cost_of_start(kind, 50, one_by_one=True)
    assert cost_of_start(kind, 500, one_by_one=True) <= few * GROWTH


def test_a_start_looks_at_each_of_ten_thousand_resources_no_oftener_than_at_each_of_a_hundred():
    assert cost_of_start(mixed, MANY) <= cost_of_start(mixed, FEW) * GROWTH


# --- messages that concern one ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harnesses():
    """Return a daemon of few and one of many resources, in which all is delivered."""
    both = many(mixed, FEW), many(mixed, MANY)
    for harness in both:
        harness.until(30.0)
        assert len(harness.targets) == len(harness.resources)
    return both


def concerning_one(
    harnesses: tuple[Many, Many], act: Callable[[Many], object], *, seconds: float = 5.0, delivered: int = 1
) -> list[int]:
    """Hold it that a thing, and what follows from it, concerns few of many; returns what it costs in each daemon."""
    costs = []
    for harness in harnesses:
        before = harness.delivered
        with counted() as looks:
            act(harness)
            harness.until(harness.now + seconds)
        assert harness.delivered >= before + delivered
        assert len(looks.objects) <= AT_MOST
        costs.append(looks.times)
    return costs


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_a_change_of_one_key_looks_at_its_resource_alone_until_it_is_delivered(harnesses, number):
    runs = [len(harness.runs) for harness in harnesses]
    few, more = concerning_one(harnesses, lambda harness: harness.change(f"r{number}"))
    assert few == more
    reloads = KINDS[number] in {with_commands, with_one_command}
    assert [len(harness.runs) - before for harness, before in zip(harnesses, runs, strict=True)] == [reloads, reloads]


def test_an_answer_that_differs_looks_at_the_resource_that_asked(harnesses):
    answer = Resolved(0, {Lookup("ip", "r6"): "10.0.0.9"})
    few, more = concerning_one(harnesses, lambda harness: harness.post(answer))
    assert few == more


def test_a_failure_that_is_tried_again_looks_at_its_resource_alone(harnesses):
    def fail(harness: Many) -> None:
        harness.failing = {"r17"}
        harness.change("r17")
        harness.until(harness.now + 30.0)
        harness.failing = set()

    concerning_one(harnesses, fail, seconds=60.0, delivered=2)
    assert all(harness.agent.resources.states["r17"].error is None for harness in harnesses)


def test_what_has_nothing_to_do_looks_at_no_resource(harnesses):
    for message in (Woken(), Touched()):
        with counted() as looks:
            harnesses[1].step(message)
        assert not looks.objects


@contextmanager
def one_in_flight(harness: Many, name: str) -> Iterator[None]:
    """Have a delivery of one under way; it ends afterwards."""
    harness.waits = ("deliver",)
    harness.change(name)
    harness.until(harness.now + 1.0)
    assert harness.waiting
    yield
    harness.waits = ()
    harness.finish_jobs()
    harness.until(harness.now + 5.0)


def test_thousands_that_wait_for_a_command_are_not_looked_at_for_another_resource(harnesses):
    _, harness = harnesses
    with one_in_flight(harness, "r0"):
        waiting = [state for state in harness.agent.resources if state.resource.check_cmd is None]
        for state in waiting[1:]:
            if state.resource.reload_cmd is None:
                harness.change(state.name)
        harness.until(harness.now + 1.0)
        harness.waits = ()
        with counted() as looks:
            harness.change("r7")
            harness.until(harness.now + 1.0)
        assert len(looks.objects) <= AT_MOST
        dirty = sum(state.dirty for state in harness.agent.resources)
        assert dirty == 2 * MANY / len(KINDS) - 1
    assert not any(state.dirty for state in harness.agent.resources)


def test_a_resource_that_is_rendered_while_thousands_wait_for_their_look_ups_costs_itself_alone():
    harness = many(mixed, 1000)
    harness.waits = ("resolve",)
    harness.until(1.0)
    assert sum(state.dirty for state in harness.agent.resources) == 600
    with counted() as looks:
        harness.change("r7")
        harness.until(10.0)
        harness.post(Resolved(1, {Lookup("ip", "r6"): "10.0.0.1"}))
        harness.until(11.0)
    assert "r6" in harness.targets
    assert len(looks.objects) <= AT_MOST
