"""The agent where the store denies some prefixes: the resources that read them wait, and no others."""

from __future__ import annotations

import pytest

from confpy.config.resource import Resource
from confpy.errors import StoreError
from confpy.events import LogEvent
from confpy.keys.snapshot import Snapshot
from tests.sim.agent_simulation import AgentSimulation
from tests.sim.test_agent import RESOURCES, expected, targets
from tests.sim.test_mirror import KEYS, deny, disturb, show_dead_streams

MANY = tuple(Resource(f"r{number}", "", "t.j2", f"/out/{number}", prefixes=("/app",)) for number in range(50))
OTHER = Resource("other", "", "t.j2", "/out/other", prefixes=("/certs/a",))


def events(simulation: AgentSimulation, *names: str) -> list[LogEvent]:
    return [line for line in simulation.lines if line.event in names]


def denied_at_start(*resources: Resource, **config: object) -> AgentSimulation:
    simulation = AgentSimulation(3, resources, **config)
    simulation.random.calm = True
    for key in KEYS:
        simulation.server.put(key)
    simulation.server.denied = {"/app"}
    return simulation


@pytest.mark.parametrize("part", range(5))
def test_targets_end_right_though_rights_come_and_go(part):
    for seed in range(part, 50, 5):
        simulation = AgentSimulation(seed, RESOURCES)
        for _ in range(60):
            disturb(simulation, restores=False)
            deny(simulation)
            simulation.run(simulation.random.choice((0.0, 0.05, 0.5, 5.0)))
        simulation.random.calm = True
        simulation.server.denied.clear()
        show_dead_streams(simulation)
        simulation.run(600)
        assert targets(simulation) == expected(simulation), f"seed {seed}"


def test_fifty_resources_with_one_denied_prefix_are_one_line_and_the_others_go_on():
    simulation = denied_at_start(*MANY, OTHER)
    simulation.run(2)
    assert list(simulation.targets) == ["/out/other"]
    (line,) = events(simulation, "prefix.denied", "resource.failed")
    assert (line.level, line.fields["prefix"], line.fields["error"]) == ("error", "/app", "permission denied")
    assert str(line.fields["resource"]).startswith("r0, r1, ")
    assert str(line.fields["resource"]).endswith(" and 40 more")
    simulation.run(600)
    assert len(events(simulation, "prefix.denied")) <= 4, "at growing intervals"
    simulation.server.denied.clear()
    simulation.run(62)
    assert simulation.targets == expected(simulation)
    assert len(events(simulation, "prefix.recovered")) == 1
    assert not events(simulation, "resource.recovered", "resource.failed", "store.lost", "watch.lost")


def test_a_target_whose_prefix_is_denied_after_it_was_delivered_stays_and_follows_again_later():
    simulation = denied_at_start(*MANY[:2], OTHER)
    simulation.server.denied.clear()
    simulation.run(20)
    delivered = dict(simulation.targets)
    assert len(delivered) == 3
    simulation.server.denied = {"/app"}
    simulation.run(20)
    simulation.server.put("/app/x")
    simulation.server.put("/certs/a/1")
    simulation.run(20)
    assert simulation.targets["/out/0"] == delivered["/out/0"]
    assert simulation.targets["/out/other"] != delivered["/out/other"], "the others go on"
    assert all(isinstance(simulation.agent.resources.states[name].error, StoreError) for name in ("r0", "r1"))
    assert simulation.agent.resources.states["other"].error is None
    assert len(events(simulation, "prefix.denied")) in (1, 2)
    simulation.server.denied.clear()
    simulation.run(62)
    assert simulation.targets == expected(simulation)
    assert all(track.error is None for track in simulation.agent.resources.states.values())


def test_one_shot_delivers_what_is_not_denied_and_exits_with_the_code_of_the_store():
    simulation = denied_at_start(*MANY, OTHER, onetime=True)
    simulation.run(20)
    assert simulation.ended == 3
    assert list(simulation.targets) == ["/out/other"]
    assert len(events(simulation, "prefix.denied")) == 1
    assert not events(simulation, "resource.failed")


def test_what_a_missing_tree_means_is_what_the_read_said_it_means():
    simulation = AgentSimulation(3, (OTHER,), on_missing="error")
    simulation.random.calm = True
    answer = simulation.server.snapshot

    def snapshot(prefixes, covers=()):
        found = answer(prefixes, covers)
        note = LogEvent("info", "store.chosen", {"store": "v3"})
        return Snapshot(found.listings, found.identity, found.counts, on_missing="empty", notes=(note,))

    simulation.server.snapshot = snapshot
    simulation.run(10)
    assert list(simulation.targets) == ["/out/other"]
    assert [line.fields for line in events(simulation, "store.chosen")] == [{"store": "v3"}] * simulation.network.reads
