"""The agent with real deliveries: whatever fails on the way, targets and programs end right."""

from __future__ import annotations

import signal

import pytest

from confpy.config.resource import Resource
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.messages import Signalled
from confpy.reload.actions import CommandReload
from tests.sim.agent_simulation import ADDRESS, AgentSimulation
from tests.sim.test_mirror import KEYS, disturb, show_dead_streams

RESOURCES = (
    Resource(
        "web", "", "web.j2", "/out/web", prefixes=("/services/web", "/services/maxconn"), reload_cmd=CommandReload("lb")
    ),
    Resource(
        "app", "", "app.j2", "/out/app", prefixes=("/app",), check_cmd="check app", reload_cmd=CommandReload("lb")
    ),
    Resource(
        "certs", "", "certs.j2", "/out/certs", prefixes=("/certs/a", "/certs/b"), reload_cmd=CommandReload("certs")
    ),
    Resource("plain", "", "plain.j2", "/out/plain", prefixes=("/app/x",)),
    Resource("keyless", "", "keyless.j2", "/out/keyless", reload_cmd=CommandReload("other")),
    Resource(
        "named",
        "",
        ADDRESS,
        "/out/named",
        prefixes=("/app/y",),
        check_cmd="check app",
        reload_cmd=CommandReload("named"),
    ),
    Resource(
        "warned", "", "warned.j2", "/out/warned", prefixes=("/app/z",), on_drift="warn", reload_cmd=CommandReload("lb")
    ),
)
SEEDS = 150


def expected(simulation: AgentSimulation) -> dict[str, bytes]:
    tree = KeyTree()
    for key, (_, value) in simulation.server.keys.items():
        tree.set(key, value)
    return {
        one.dest: simulation.printer.text(
            View(tree, one.prefixes), str(simulation.address) if one.src == ADDRESS else ""
        )
        for one in simulation.resources
        if one.dest not in simulation.by_hand or one.on_drift != "warn"
    }


def targets(simulation: AgentSimulation) -> dict[str, bytes]:
    """Return the targets, but for those that somebody else may have changed."""
    left = {one.dest for one in simulation.resources if one.on_drift == "warn"} & simulation.by_hand
    return {dest: content for dest, content in simulation.targets.items() if dest not in left}


def live(seed: int, **config: bool) -> AgentSimulation:
    simulation = AgentSimulation(seed, RESOURCES, **config)
    for _ in range(60):
        disturb(simulation, restores=False)
        if simulation.random.random() < 0.1:
            simulation.address += 1
        if simulation.random.random() < 0.02:
            simulation.tell(Signalled(signal.SIGHUP))
        if simulation.random.random() < 0.05:
            simulation.touch(simulation.random.choice(RESOURCES).dest, simulation.random.choice((None, b"by hand")))
        simulation.run(simulation.random.choice((0.0, 0.05, 0.5, 5.0)))
    simulation.random.calm = True
    show_dead_streams(simulation)
    # One backoff of a store, one of a resource, one of a reload (up to 300 s), and the resyncs between them.
    simulation.run(600)
    return simulation


@pytest.mark.parametrize("part", range(10))
def test_targets_end_as_their_templates_over_the_stores_keys_and_programs_have_read_them(part):
    for seed in range(part, SEEDS, 10):
        simulation = live(seed)
        assert targets(simulation) == expected(simulation), f"seed {seed}"
        programs = {one.dest for one in RESOURCES if one.reload_cmd} & targets(simulation).keys()
        assert {dest: simulation.loaded.get(dest) for dest in programs} == {
            dest: simulation.targets[dest] for dest in programs
        }, f"seed {seed}"
        for _ in range(5):  # by the stream, and not only by the next resync
            simulation.server.put(simulation.random.choice(KEYS))
            simulation.run(3.0)
            assert targets(simulation) == expected(simulation), f"seed {seed}: late"


@pytest.mark.parametrize("setting", ["noop", "sync_only"])
def test_noop_writes_nothing_and_sync_only_reloads_nothing(setting):
    for seed in range(10):
        simulation = live(seed, **{setting: True})
        assert simulation.reloads == 0
        assert simulation.commits == 0 if setting == "noop" else targets(simulation) == expected(simulation)


def test_nothing_is_delivered_or_reloaded_when_nothing_changes():
    simulation = AgentSimulation(7, RESOURCES)
    simulation.random.calm = True
    simulation.run(60)
    commits, reloads = simulation.commits, simulation.reloads
    assert (commits, reloads) == (7, 4), "one commit per resource, one reload per command"
    simulation.run(600)
    assert (simulation.commits, simulation.reloads) == (commits, reloads)


def test_fifty_resources_with_one_reload_command_cause_one_reload():
    resources = tuple(
        Resource(
            f"r{number}", "", "t.j2", f"/out/{number}", prefixes=(f"/app/{number}",), reload_cmd=CommandReload("lb")
        )
        for number in range(50)
    )
    simulation = AgentSimulation(3, resources)
    simulation.random.calm = True
    simulation.run(20)
    assert (simulation.commits, simulation.reloads) == (50, 1)


def test_a_burst_is_delivered_every_max_wait_and_ends_in_the_final_state():
    simulation = AgentSimulation(5, RESOURCES)
    simulation.random.calm = True
    simulation.run(20)
    simulation.network.slowest = 0.02
    before = simulation.commits
    for _ in range(500):
        simulation.server.put("/app/x")
        simulation.run(0.01)
    simulation.run(20)
    assert simulation.targets == expected(simulation)
    # "app" and "plain" read the key: at once, then every max_wait (2 s) of the 5 s, then the last.
    assert simulation.commits - before <= 2 * 5


@pytest.mark.parametrize("part", range(4))
def test_a_signal_at_any_time_ends_it_within_the_stop_timeout_with_0_unless_something_had_to_be_killed(part):
    for seed in range(part, 200, 4):
        simulation = AgentSimulation(seed, RESOURCES)
        simulation.hangs = seed % 2 == 0
        for _ in range(simulation.random.randint(0, 20)):
            disturb(simulation, restores=False)
            simulation.run(simulation.random.choice((0.0, 0.05, 0.5)))
        simulation.tell(Signalled(signal.SIGTERM))
        simulation.run(8.6)
        assert simulation.ended == (128 + signal.SIGTERM if simulation.terminated else 0), f"seed {seed}"


def test_many_commands_are_run_a_bounded_number_at_a_time():
    resources = tuple(
        Resource(
            f"r{number}", "", "t.j2", f"/out/{number}", prefixes=("/app",), reload_cmd=CommandReload(f"reload {number}")
        )
        for number in range(100)
    )
    simulation = AgentSimulation(3, resources)
    simulation.random.calm = True
    simulation.run(20)
    assert (simulation.commits, simulation.reloads) == (100, 100)


@pytest.mark.parametrize("seed", range(100))
def test_one_shot_ends_after_one_try_of_everything_with_the_code_of_what_failed(seed):
    simulation = AgentSimulation(seed, RESOURCES, onetime=True)
    simulation.random.calm = seed % 2 == 0
    simulation.run(120)
    assert simulation.ended is not None
    failed = [line for line in simulation.lines if line.event.endswith("failed")]
    assert (simulation.ended == 0) == (not failed)
    if simulation.ended == 0:
        assert simulation.targets == expected(simulation)
    assert simulation.reloads <= 4


def test_a_resource_whose_key_is_missing_keeps_its_target_until_the_key_is_there_again():
    keeps = Resource("keeps", "", "t.j2", "/out/keeps", prefixes=("/app",), on_missing="error")
    empties = Resource("empties", "", "t.j2", "/out/empties", prefixes=("/app",), on_missing="empty")
    follows_store = Resource("store", "", "t.j2", "/out/store", prefixes=("/app",))
    simulation = AgentSimulation(3, (keeps, empties, follows_store), on_missing="error")
    simulation.random.calm = True
    simulation.server.put("/app/x")
    simulation.run(10)
    full = dict(simulation.targets)
    simulation.server.drop("/app")
    simulation.run(30)
    assert simulation.targets["/out/keeps"] == full["/out/keeps"]
    assert simulation.targets["/out/store"] == full["/out/store"]
    assert simulation.targets["/out/empties"] != full["/out/empties"]
    said = [line.fields for line in simulation.lines if line.event == "resource.failed"]
    assert {line["resource"] for line in said} == {"keeps", "store"}
    assert {line["key"] for line in said} == {"/app"}
    simulation.server.put("/app/x")
    simulation.run(2)
    assert simulation.targets["/out/keeps"] == simulation.targets["/out/empties"] == simulation.targets["/out/store"]


def test_one_shot_fails_for_a_missing_key_and_delivers_the_rest():
    lost = Resource("lost", "", "t.j2", "/out/lost", prefixes=("/none",), on_missing="error")
    once = AgentSimulation(3, (lost, RESOURCES[1]), onetime=True)
    once.random.calm = True
    once.server.put("/app/x")
    once.run(20)
    assert once.ended == 3
    assert list(once.targets) == ["/out/app"]
