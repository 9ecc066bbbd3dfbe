"""The real mind where a store refuses some prefixes: who reads them waits, and nobody else."""

from __future__ import annotations

import pytest

from confpy.config.resource import Resource
from confpy.errors import StoreError
from confpy.events import LogEvent
from confpy.keys.snapshot import Snapshot
from tests.sim.house import House
from tests.sim.test_agent import RESOURCES, expected, targets
from tests.sim.test_mirror import KEYS, disturb, refuse, show_dead_streams

MANY = tuple(Resource(f"r{number}", "", "t.j2", f"/out/{number}", prefixes=("/app",)) for number in range(50))
OTHER = Resource("other", "", "t.j2", "/out/other", prefixes=("/certs/a",))


def events(house: House, *names: str) -> list[LogEvent]:
    return [line for line in house.lines if line.event in names]


def refused_at_start(*resources: Resource, **config: object) -> House:
    house = House(3, resources, **config)
    house.random.calm = True
    for key in KEYS:
        house.server.put(key)
    house.server.denied = {"/app"}
    return house


@pytest.mark.parametrize("part", range(5))
def test_targets_end_right_though_rights_come_and_go(part):
    for seed in range(part, 50, 5):
        house = House(seed, RESOURCES)
        for _ in range(60):
            disturb(house, restores=False)
            refuse(house)
            house.run(house.random.choice((0.0, 0.05, 0.5, 5.0)))
        house.random.calm = True
        house.server.denied.clear()
        show_dead_streams(house)
        house.run(600)
        assert targets(house) == expected(house), f"seed {seed}"


def test_fifty_resources_with_one_refused_prefix_are_one_line_and_the_others_go_on():
    house = refused_at_start(*MANY, OTHER)
    house.run(2)
    assert list(house.targets) == ["/out/other"]
    (line,) = events(house, "prefix.denied", "resource.failed")
    assert (line.level, line.fields["prefix"], line.fields["error"]) == ("error", "/app", "permission denied")
    assert str(line.fields["resource"]).startswith("r0, r1, ")
    assert str(line.fields["resource"]).endswith(" and 40 more")
    house.run(600)
    assert len(events(house, "prefix.denied")) <= 4, "ever more rarely"
    house.server.denied.clear()
    house.run(62)
    assert house.targets == expected(house)
    assert len(events(house, "prefix.recovered")) == 1
    assert not events(house, "resource.recovered", "resource.failed", "store.lost", "watch.lost")


def test_a_target_whose_prefix_is_refused_after_it_was_delivered_stays_and_follows_again_later():
    house = refused_at_start(*MANY[:2], OTHER)
    house.server.denied.clear()
    house.run(20)
    delivered = dict(house.targets)
    assert len(delivered) == 3
    house.server.denied = {"/app"}
    house.run(20)
    house.server.put("/app/x")
    house.server.put("/certs/a/1")
    house.run(20)
    assert house.targets["/out/0"] == delivered["/out/0"]
    assert house.targets["/out/other"] != delivered["/out/other"], "the others go on"
    assert all(isinstance(house.agent.resources.states[name].error, StoreError) for name in ("r0", "r1"))
    assert house.agent.resources.states["other"].error is None
    assert len(events(house, "prefix.denied")) in (1, 2)
    house.server.denied.clear()
    house.run(62)
    assert house.targets == expected(house)
    assert all(state.error is None for state in house.agent.resources)


def test_one_shot_delivers_what_is_not_refused_and_exits_with_the_code_of_the_store():
    house = refused_at_start(*MANY, OTHER, onetime=True)
    house.run(20)
    assert house.ended == 3
    assert list(house.targets) == ["/out/other"]
    assert len(events(house, "prefix.denied")) == 1
    assert not events(house, "resource.failed")


def test_what_a_missing_tree_means_is_what_the_read_said_it_means():
    house = House(3, (OTHER,), on_missing="error")
    house.random.calm = True
    answer = house.server.snapshot

    def snapshot(action):
        found = answer(action)
        note = LogEvent("info", "store.chosen", {"store": "v3"})
        return Snapshot(found.listings, found.identity, found.counts, on_missing="empty", notes=(note,))

    house.server.snapshot = snapshot
    house.run(10)
    assert list(house.targets) == ["/out/other"]
    assert [line.fields for line in events(house, "store.chosen")] == [{"store": "v3"}] * house.network.reads
